//! Backup policies: when, where to, how many increments, how long kept.
//!
//! Responsible for the policies of a cluster and for the arithmetic of their schedules, all in
//! UTC. It may not know which partitions a policy applies to, and it holds no secrets: those are
//! made up where a policy is printed. A changed policy is a new version of it, so a replica can
//! tell that it acts on an old one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike, Days, NaiveTime, TimeDelta, Utc, Weekday};

use super::{Estate, later};

/// A backup policy as an operator creates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, the key of everything that refers to it.
    pub name: String,
    /// Whether a partition restores itself after a loss of data.
    pub auto_restore_on_data_loss: bool,
    /// Most incremental backups that follow a full one.
    pub max_incremental_backups: u32,
    /// When backups are taken.
    pub schedule: Schedule,
    /// Where they go.
    pub storage: Storage,
    /// How long they are kept; `None` keeps them for ever.
    pub retention: Option<Retention>,
}

/// When periodic backups are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// `FrequencyBased`: this long after the end of the backup before. Real clusters allow whole
    /// minutes from 1 on; here seconds are fine.
    Every(Duration),
    /// `TimeBased`, every day at these times.
    Daily(Vec<NaiveTime>),
    /// `TimeBased`, on these days at these times.
    Weekly(Vec<Weekday>, Vec<NaiveTime>),
}

/// Where backups go. Two policies with equal places share one list of backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// `AzureBlobStore`, with a connection string.
    AzureBlob {
        /// Name for people.
        friendly_name: String,
        /// Container in the account.
        container: String,
    },
    /// `FileShare`, with passwords when it has a user.
    FileShare {
        /// Name for people.
        friendly_name: String,
        /// UNC path.
        path: String,
        /// Primary user; `None` uses the identity of the node.
        user: Option<String>,
    },
    /// `ManagedIdentityAzureBlobStore`.
    ManagedIdentity {
        /// Name for people.
        friendly_name: String,
        /// Address of the account.
        blob_service_uri: String,
        /// Container in the account.
        container: String,
    },
    /// `DsmsAzureBlobStore`.
    Dsms {
        /// Name for people.
        friendly_name: String,
        /// Where the credentials are kept.
        credentials_location: String,
        /// Container in the account.
        container: String,
    },
}

/// How long backups are kept (`Basic`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older backups are deleted, whole chains at a time.
    pub duration: Duration,
    /// So many backups are kept however old they are.
    pub minimum: usize,
}

/// One version of a policy.
#[derive(Debug)]
pub(in crate::simulator) struct InForce {
    pub(in crate::simulator) policy: Policy,
    pub(super) version: u64,
}

/// All policies of a cluster.
#[derive(Debug, Default)]
pub(in crate::simulator) struct Policies {
    pub(in crate::simulator) by_name: BTreeMap<Arc<str>, Arc<InForce>>,
    /// When the storage of a policy refuses everything.
    outages: BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    versions: u64,
}

impl Estate {
    /// Adds a policy, or replaces the one of this name: every partition it applies to starts
    /// anew, one whole interval from now, with a full backup.
    pub fn add_policy(&mut self, policy: Policy, now: DateTime<Utc>) {
        self.tick(now);
        let policies = &mut self.periodic.policies;
        policies.versions += 1;
        let name: Arc<str> = policy.name.as_str().into();
        let version = policies.versions;
        let in_force = Arc::new(InForce { policy, version });
        policies.by_name.insert(Arc::clone(&name), in_force);
        for entity in self.periodic.enabled_with(&name) {
            self.inform(&entity, now);
        }
    }

    /// Changes a policy in place; false when there is none of this name.
    pub fn update_policy(
        &mut self,
        name: &str,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut Policy),
    ) -> bool {
        let Some(mut policy) = self.policy(name).cloned() else {
            return false;
        };
        change(&mut policy);
        name.clone_into(&mut policy.name);
        self.add_policy(policy, now);
        true
    }

    /// Removes a policy and protection by it; false when there is none of this name.
    pub fn remove_policy(&mut self, name: &str, now: DateTime<Utc>) -> bool {
        self.tick(now);
        for entity in self.periodic.enabled_with(name) {
            self.periodic.mappings.remove(&entity);
            self.inform(&entity, now);
        }
        self.periodic.policies.by_name.remove(name).is_some()
    }

    /// A policy by its name.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        Some(&self.periodic.policies.by_name.get(name)?.policy)
    }

    /// Makes the storage of a policy refuse every periodic backup that ends in this window.
    /// Requested backups and lists are not touched by it.
    pub fn fail_storage(&mut self, policy: &str, window: Range<DateTime<Utc>>) {
        let outages = &mut self.periodic.policies.outages;
        outages.entry(policy.to_owned()).or_default().push(window);
    }
}

impl Policies {
    pub(super) fn storage_fails(&self, policy: &str, at: DateTime<Utc>) -> bool {
        let mut windows = self.outages.get(policy).into_iter().flatten();
        windows.any(|window| window.contains(&at))
    }
}

impl Schedule {
    /// When the next backup starts, counted from the end of one, or from the moment protection
    /// begins. Only an interval drifts by `jitter`; run times are kept to the second.
    pub(super) fn next(&self, from: DateTime<Utc>, jitter: TimeDelta) -> DateTime<Utc> {
        const WEEK: [Weekday; 7] = [
            Weekday::Mon,
            Weekday::Tue,
            Weekday::Wed,
            Weekday::Thu,
            Weekday::Fri,
            Weekday::Sat,
            Weekday::Sun,
        ];
        match self {
            Self::Every(interval) => {
                let next = later(from, *interval).max(from + jitter.abs());
                next.checked_add_signed(jitter).unwrap_or(next)
            }
            Self::Daily(times) => next_instant(from, &WEEK, times),
            Self::Weekly(days, times) => next_instant(from, days, times),
        }
    }
}

/// The first listed instant after `from`; the end of time when nothing is listed.
fn next_instant(from: DateTime<Utc>, days: &[Weekday], times: &[NaiveTime]) -> DateTime<Utc> {
    let dates = (0..8).filter_map(|ahead| from.date_naive().checked_add_days(Days::new(ahead)));
    let dates = dates.filter(|date| days.contains(&date.weekday()));
    let instants = dates.flat_map(|date| times.iter().map(move |time| date.and_time(*time)));
    let instants = instants.map(|it| it.and_utc()).filter(|it| *it > from);
    instants.min().unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn time(hour: u32) -> NaiveTime {
        NaiveTime::from_hms_opt(hour, 0, 0).unwrap()
    }

    #[test]
    fn run_times_are_found_in_any_order_and_never_twice() {
        let daily = Schedule::Daily(vec![time(17), time(9)]);
        for (from, next) in [
            ("2025-06-13T08:59:59Z", "2025-06-13T09:00:00Z"),
            ("2025-06-13T09:00:00Z", "2025-06-13T17:00:00Z"),
            ("2025-06-13T17:00:01Z", "2025-06-14T09:00:00Z"),
        ] {
            assert_eq!(daily.next(at(from), TimeDelta::seconds(9)), at(next));
        }
    }

    #[test]
    fn a_single_weekly_run_comes_back_after_seven_days() {
        let weekly = Schedule::Weekly(vec![Weekday::Fri], vec![time(9)]);
        let friday = at("2025-06-13T09:00:00Z");
        assert_eq!(
            weekly.next(friday, TimeDelta::zero()),
            friday + TimeDelta::days(7)
        );
        let never = Schedule::Daily(Vec::new());
        assert_eq!(
            never.next(friday, TimeDelta::zero()),
            DateTime::<Utc>::MAX_UTC
        );
    }
}
