//! The results of a round of requests, and the outages over many rounds.
//!
//! Failures of a collector for the same reason are counted, not logged one by one: ten thousand
//! partitions behind one unavailable gateway are one outage. It is reported when it begins, once for
//! each further reason, and when it ends.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info};

use crate::gateway::{Error, Reason};
use crate::logging::chain;
use crate::model::{Collector, Name};
use crate::sync::lock;

/// The results of one round of requests. Shared by the tasks of the round.
#[derive(Debug, Default)]
pub(super) struct RoundResults(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    read: u64,
    failures: BTreeMap<(Collector, Reason), (u64, String)>,
    skipped: BTreeMap<Collector, usize>,
}

impl RoundResults {
    /// Counts a request that succeeded.
    pub(super) fn succeed(&self) {
        self.counts().read += 1;
    }

    /// Counts a request that failed, or was not sent because others had failed.
    pub(super) fn fail(&self, collector: Collector, error: &Error) {
        debug!(error = chain(error), "A request failed.");
        self.add_failure(collector, error.reason(), || chain(error));
    }

    /// Counts a failure of a collector and keeps the first `example` for this reason.
    pub(super) fn add_failure(
        &self,
        collector: Collector,
        reason: Reason,
        example: impl FnOnce() -> String,
    ) {
        let mut counts = self.counts();
        let failure = counts.failures.entry((collector, reason));
        failure.or_insert_with(|| (0, example())).0 += 1;
    }

    /// Counts items that could not be decoded.
    pub(super) fn skip(&self, collector: Collector, items: usize) {
        *self.counts().skipped.entry(collector).or_default() += items;
    }

    /// The number of items of `collector` that could not be decoded.
    pub(super) fn skipped(&self, collector: Collector) -> usize {
        let counts = self.counts();
        counts.skipped.get(&collector).copied().unwrap_or_default()
    }

    /// The reasons for which the selected collectors failed; empty if they succeeded.
    pub(super) fn reasons(&self, of: impl Fn(Collector) -> bool) -> BTreeSet<Reason> {
        let counts = self.counts();
        let failed = counts.failures.keys();
        let failed = failed.filter(|(collector, _)| of(*collector));
        failed.map(|(_, reason)| *reason).collect()
    }

    /// The failures of the selected collectors as text.
    pub(super) fn describe(&self, of: impl Fn(Collector) -> bool) -> String {
        let mut merged: BTreeMap<Reason, (u64, &str)> = BTreeMap::new();
        let counts = self.counts();
        for ((collector, reason), (count, example)) in &counts.failures {
            if of(*collector) {
                merged.entry(*reason).or_insert((0, example)).0 += count;
            }
        }
        let mut text = String::new();
        for (reason, (count, example)) in merged {
            let separator = if text.is_empty() { "" } else { "; " };
            let reason = reason.as_str();
            write!(
                text,
                "{separator}{count} x {reason}, for example: {example}"
            )
            .expect("writing to a String cannot fail");
        }
        text
    }

    /// Logs the number of requests and the duration: at `info` for the first cycle, else at `debug`.
    pub(super) fn log(&self, cluster: &str, what: &str, took: Duration, is_first: bool) {
        let counts = self.counts();
        let (read, seconds) = (counts.read, took.as_secs_f64());
        let failed: u64 = counts.failures.values().map(|(count, _)| count).sum();
        let line = format!(
            "Cluster {cluster}: read {read} {what} in {seconds:.1} s, {failed} requests failed."
        );
        if is_first {
            info!(cluster, read, failed, seconds, "{line}");
        } else {
            debug!(cluster, read, failed, seconds, "{line}");
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.0)
    }
}

/// Something that fails or succeeds in a round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// Every call to the cluster.
    Cluster,
    /// The calls of one collector.
    Collector(Collector),
    /// Decoding the items that one collector reads.
    Items(Collector),
    /// The answers for the backup configuration of one application.
    Configuration(Name),
}

/// A change that is worth a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Rounds have begun to fail, or fail for a new reason.
    Failing,
    /// Two rounds in a row succeeded. One is not enough: if every other round fails, the log would
    /// have two lines a round.
    Recovered {
        /// From the first failed round to the first one without a failure.
        lasted: Duration,
        /// Number of failed rounds.
        rounds: u32,
    },
}

/// The outages of one cluster: subjects that fail and have not recovered.
#[derive(Debug, Default)]
pub(super) struct Outages(BTreeMap<Subject, Outage>);

#[derive(Debug)]
struct Outage {
    since: Instant,
    rounds: u32,
    reasons: BTreeSet<Reason>,
    /// When the last round ended, if it succeeded.
    succeeded_at: Option<Instant>,
}

impl Outages {
    /// Adds a round of `subject` that ended at `now` and failed for these `reasons`, or succeeded
    /// if there are none. Returns a change only when an outage begins, has a new reason, or ends.
    pub(super) fn observe(
        &mut self,
        subject: Subject,
        reasons: BTreeSet<Reason>,
        now: Instant,
    ) -> Option<Change> {
        if reasons.is_empty() {
            return self.recover(&subject, now);
        }
        match self.0.entry(subject) {
            Entry::Vacant(vacant) => {
                vacant.insert(Outage {
                    since: now,
                    rounds: 1,
                    reasons,
                    succeeded_at: None,
                });
                Some(Change::Failing)
            }
            Entry::Occupied(occupied) => {
                let outage = occupied.into_mut();
                let known = outage.reasons.len();
                outage.rounds = outage.rounds.saturating_add(1);
                outage.succeeded_at = None;
                outage.reasons.extend(reasons);
                (outage.reasons.len() > known).then_some(Change::Failing)
            }
        }
    }

    pub(super) fn contains(&self, subject: &Subject) -> bool {
        self.0.contains_key(subject)
    }

    /// Forgets the applications that are not among these, without reporting a change.
    pub(super) fn retain_applications(&mut self, applications: &BTreeSet<Name>) {
        self.0.retain(|subject, _| match subject {
            Subject::Configuration(name) => applications.contains(name),
            _ => true,
        });
    }

    fn recover(&mut self, subject: &Subject, now: Instant) -> Option<Change> {
        let outage = self.0.get_mut(subject)?;
        let Some(succeeded_at) = outage.succeeded_at else {
            outage.succeeded_at = Some(now);
            return None;
        };
        let (lasted, rounds) = (succeeded_at.duration_since(outage.since), outage.rounds);
        self.0.remove(subject);
        Some(Change::Recovered { lasted, rounds })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROGRESS: Subject = Subject::Collector(Collector::Progress);
    const ROUND: Duration = Duration::from_secs(60);

    /// What is reported in each of these rounds, which are a minute apart.
    fn reported(rounds: &[&[Reason]]) -> Vec<Option<Change>> {
        let (mut outages, start) = (Outages::default(), Instant::now());
        let rounds = (0..).zip(rounds).map(|(number, reasons)| {
            let reasons = reasons.iter().copied().collect();
            outages.observe(PROGRESS, reasons, start + ROUND * number)
        });
        rounds.collect()
    }

    const fn ended(minutes: u64, rounds: u32) -> Change {
        let lasted = Duration::from_secs(60 * minutes);
        Change::Recovered { lasted, rounds }
    }

    #[test]
    fn a_lasting_outage_is_reported_when_it_begins_and_when_it_ends() {
        use Reason::{Connect, Timeout};
        const FAILING: Option<Change> = Some(Change::Failing);
        type Case<'a> = (&'a [&'a [Reason]], &'a [Option<Change>]);
        let cases: [Case<'_>; 5] = [
            (&[&[], &[], &[]], &[None, None, None]),
            (
                &[&[Timeout], &[Timeout], &[Timeout], &[], &[], &[]],
                &[FAILING, None, None, None, Some(ended(3, 3)), None],
            ),
            (
                &[&[Timeout], &[Connect, Timeout], &[Timeout], &[Connect]],
                &[FAILING, FAILING, None, None],
            ),
            (
                &[&[Timeout], &[], &[Timeout], &[], &[Timeout], &[], &[]],
                &[FAILING, None, None, None, None, None, Some(ended(5, 3))],
            ),
            (
                &[&[Timeout], &[], &[], &[Timeout]],
                &[FAILING, None, Some(ended(1, 1)), FAILING],
            ),
        ];
        for (rounds, expected) in cases {
            assert_eq!(reported(rounds), expected, "{rounds:?}");
        }
    }

    #[test]
    fn subjects_do_not_affect_each_other() {
        let (mut outages, now) = (Outages::default(), Instant::now());
        let failing = || BTreeSet::from([Reason::Connect]);
        for subject in [
            Subject::Cluster,
            PROGRESS,
            Subject::Collector(Collector::Health),
        ] {
            let change = outages.observe(subject.clone(), failing(), now);
            assert_eq!(change, Some(Change::Failing));
            assert_eq!(outages.observe(subject, failing(), now), None);
        }
    }

    #[test]
    fn a_deleted_application_is_forgotten() {
        let (mut outages, now) = (Outages::default(), Instant::now());
        let mut fails = |name: &str| {
            let subject = Subject::Configuration(name.into());
            outages.observe(subject, BTreeSet::from([Reason::Api]), now)
        };
        assert_eq!(fails("fabric:/A"), Some(Change::Failing));
        assert_eq!(fails("fabric:/B"), Some(Change::Failing));
        outages.retain_applications(&BTreeSet::from(["fabric:/B".into()]));
        let mut fails = |name: &str| {
            let subject = Subject::Configuration(name.into());
            outages.observe(subject, BTreeSet::from([Reason::Api]), now)
        };
        assert_eq!(fails("fabric:/A"), Some(Change::Failing), "created again");
        assert_eq!(fails("fabric:/B"), None);
    }

    proptest! {
        /// The oracle counts over the whole series of rounds and keeps no state.
        #[test]
        fn every_outage_is_reported_once_when_it_begins_and_once_when_it_ends(rounds in prop::collection::vec(any::<bool>(), 0..60)) {
            let series: Vec<&[Reason]> = rounds
                .iter()
                .map(|fails| if *fails { &[Reason::Api][..] } else { &[] })
                .collect();
            let text: String = rounds.iter().map(|fails| if *fails { 'x' } else { '.' }).collect();
            // Two successes in a row separate outages.
            let expected = text.split("..").filter(|part| part.contains('x')).count();
            let changes = reported(&series);
            let began = changes.iter().filter(|change| **change == Some(Change::Failing)).count();
            let ended = changes.iter().filter_map(|change| match change {
                Some(Change::Recovered { rounds, .. }) => Some(*rounds),
                _ => None,
            });
            let ended: Vec<u32> = ended.collect();
            prop_assert_eq!(began, expected);
            let lasts = text.contains('x') && !text.ends_with("..");
            prop_assert_eq!(ended.len(), expected - usize::from(lasts), "{}", text);
        }
    }
}
