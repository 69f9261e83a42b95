//! Activity of the demo estate, compressed into minutes.
//!
//! Keeps every state of a backup record visible: writes a history, backs up partitions repeatedly,
//! makes some of them fail, time out or stay Accepted, and adds and removes partitions. `gallery`
//! drives periodic backups. Steps are pure, `now` is an argument; only [`run_activity`] reads the
//! clock. The same seed gives the same activity.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::estate::{Estate, Scheme, ServiceKind};
use super::record::{BackupPlan, Code, Outcome};
use super::server::Simulator;
use crate::clock;
use gallery::{Gallery, OPACITY};

mod gallery;

/// Interval between two steps.
const BEAT: Duration = Duration::from_millis(250);

/// The application to which partitions are added and from which they are removed.
const STAGE: &str = "fabric:/Popup";

/// Behaviour of a partition in the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Backed up repeatedly.
    Busy,
    /// Has an old success and is not backed up again.
    Idle,
    /// No backup is ever requested.
    Untouched,
    /// Every backup fails, with varying errors.
    Failing(usize),
    /// Every backup times out.
    Late,
    /// Accepted once and never executed.
    Stuck,
    /// In a state that only a future runtime has.
    Future,
    /// In the zero state of the service, which should never occur.
    Invalid,
}

/// Behaviours of one partition each, most important first; other partitions are Busy, Idle or
/// Untouched.
const CAST: [Role; 11] = [
    Role::Untouched,
    Role::Stuck,
    Role::Failing(0),
    Role::Late,
    Role::Future,
    Role::Failing(1),
    Role::Failing(2),
    Role::Invalid,
    Role::Failing(3),
    Role::Failing(4),
    Role::Failing(5),
];

/// The activity of a demo estate.
#[derive(Debug)]
pub struct Activity {
    rng: fastrand::Rng,
    pace: f64,
    roles: HashMap<Uuid, Role>,
    /// Next backup of each partition.
    agenda: BTreeSet<(DateTime<Utc>, Uuid)>,
    /// Next addition or removal of a partition.
    change: DateTime<Utc>,
    changes: usize,
    guests: VecDeque<Uuid>,
    gallery: Gallery,
}

/// Runs the activity until it is cancelled. Makes the configuration of one application unreadable
/// first.
pub async fn run_activity(
    simulator: Arc<Simulator>,
    mut activity: Activity,
    stop: CancellationToken,
) {
    let (fault, filter) = OPACITY;
    simulator.inject(fault, filter);
    let mut beat = tokio::time::interval(BEAT);
    while stop.run_until_cancelled(beat.tick()).await.is_some() {
        simulator.with_estate(|estate| activity.step(estate, clock::now()));
    }
}

impl Activity {
    /// Assigns behaviours to partitions and writes their history. `pace` scales all later
    /// durations: 1 shows every state within two minutes, 2 within four.
    pub fn begin(seed: u64, pace: f64, estate: &mut Estate, now: DateTime<Utc>) -> Self {
        let pace = pace.max(0.001);
        let mut activity = Self {
            rng: fastrand::Rng::with_seed(seed),
            pace,
            roles: HashMap::new(),
            agenda: BTreeSet::new(),
            change: now,
            changes: 0,
            guests: VecDeque::new(),
            gallery: Gallery::new(pace, now),
        };
        let mut ids = estate.partition_ids();
        activity.rng.shuffle(&mut ids);
        for (index, id) in ids.into_iter().enumerate() {
            let role = activity.cast(index);
            activity.write_history(estate, id, role, now);
            activity.join(id, role, now);
        }
        activity.gallery.open(estate, now);
        let stage = format!("{STAGE}/Stand");
        let unpartitioned = Scheme::Named(Vec::new());
        estate.add_service(STAGE, &stage, ServiceKind::Persisted, unpartitioned, now);
        activity.change = activity.after(now, 10..30);
        activity
    }

    /// Does what is due at `now`.
    pub fn step(&mut self, estate: &mut Estate, now: DateTime<Utc>) {
        self.gallery.step(estate, now);
        estate.tick(now);
        while let Some(&(at, id)) = self.agenda.first().filter(|(at, _)| *at <= now) {
            self.agenda.remove(&(at, id));
            if let Some(role) = self.roles.get(&id).copied() {
                self.request(estate, id, role, now);
            }
        }
        if self.change <= now {
            self.change = self.after(now, 15..45);
            self.change_guests(estate, now);
        }
    }

    fn cast(&mut self, index: usize) -> Role {
        match CAST.get(index) {
            Some(role) => *role,
            None => match self.rng.u8(..100) {
                0..8 => Role::Untouched,
                8..30 => Role::Idle,
                _ => Role::Busy,
            },
        }
    }

    fn write_history(&mut self, estate: &mut Estate, id: Uuid, role: Role, now: DateTime<Utc>) {
        let then = now - self.age();
        match role {
            Role::Untouched => {}
            Role::Busy | Role::Idle => estate.conclude(id, Outcome::Success, then),
            Role::Failing(way) => estate.conclude(id, failure(way), then),
            Role::Late => estate.conclude(id, Outcome::Timeout, then),
            Role::Stuck => estate.conclude(id, Outcome::Never, then),
            Role::Future => estate.set_record(id, odd_record("Paused")),
            Role::Invalid => estate.set_record(id, odd_record("Invalid")),
        }
    }

    /// Two minutes to five days, log-uniform.
    fn age(&mut self) -> TimeDelta {
        let seconds = 120.0 * 3600_f64.powf(self.rng.f64());
        TimeDelta::from_std(Duration::from_secs_f64(seconds)).unwrap_or_default()
    }

    fn join(&mut self, id: Uuid, role: Role, now: DateTime<Utc>) {
        self.roles.insert(id, role);
        if matches!(role, Role::Busy | Role::Failing(_) | Role::Late) {
            let first = self.after(now, 1..90);
            self.agenda.insert((first, id));
        }
    }

    fn request(&mut self, estate: &mut Estate, id: Uuid, role: Role, now: DateTime<Utc>) {
        let outcome = match role {
            Role::Failing(way) => failure(way),
            Role::Late => Outcome::Timeout,
            _ if self.rng.u8(..100) < 3 => failure(self.rng.usize(..)),
            _ => Outcome::Success,
        };
        let plan = BackupPlan {
            accepted_for: self.draw(2..12),
            running_for: self.draw(4..25),
            outcome,
            timeout: None,
        };
        // A rejection means that another client requested a backup first; the next attempt follows.
        if estate.request_backup(id, plan, now).is_err() {
            tracing::debug!(partition = %id, "simulated cluster rejected a backup request of the demo");
        }
        let next = self.after(now, 90..300);
        self.agenda.insert((next, id));
    }

    /// Adds one partition at a time; above three it removes the oldest.
    fn change_guests(&mut self, estate: &mut Estate, now: DateTime<Utc>) {
        self.changes += 1;
        let name = format!("stand-{}", self.changes);
        let guest = estate.add_partition(&format!("{STAGE}/Stand"), &name, now);
        if let Some(id) = guest {
            self.guests.push_back(id);
            self.join(id, Role::Busy, now);
        }
        if self.guests.len() > 2
            && let Some(id) = self.guests.pop_front()
        {
            self.roles.remove(&id);
            estate.remove_partition(id);
        }
    }

    fn draw(&mut self, seconds: std::ops::Range<u64>) -> Duration {
        let millis = self.rng.u64(seconds.start * 1000..seconds.end * 1000);
        Duration::from_millis(millis).mul_f64(self.pace)
    }

    fn after(&mut self, now: DateTime<Utc>, seconds: std::ops::Range<u64>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.draw(seconds)).unwrap_or_default()
    }
}

/// A random failure; the messages cover the free text that a service can return.
fn failure(way: usize) -> Outcome {
    let name = |name: &str| Code::Name(name.to_owned());
    let (code, message) = match way % 6 {
        0 => (
            name("FABRIC_E_BACKUPCOPIER_UNEXPECTED_ERROR"),
            "An error occurred during this operation.  Please check the trace logs for more details.",
        ),
        1 => (
            name("FABRIC_E_BACKUPCOPIER_ACCESS_DENIED"),
            "Access denied: DefaultEndpointsProtocol=https;AccountName=demobackups;\
             AccountKey=bm90LWEtcmVhbC1rZXktanVzdC1hLWRlbW8=;EndpointSuffix=core.windows.net",
        ),
        2 => (
            Code::Number(0x8013_1500),
            "The method \"Backup\" is not supported for this state provider.",
        ),
        3 => (
            name("FABRIC_E_BACKUPCOPIER_TIMEOUT"),
            "Upload of \"D:\\SvcFab\\_App\\work\\backup.zip\" ended.\r\n   at Copier.Upload()\r\n",
        ),
        4 => (
            name("FABRIC_E_BACKUP_DIRECTORY_NOT_EMPTY"),
            "The directory C:\\Backups\\tmp is not empty.",
        ),
        _ => (name("FABRIC_E_NOT_PRIMARY"), "Not primary."),
    };
    Outcome::Failure(code, message.to_owned())
}

/// A record in a state that no request produces.
fn odd_record(state: &str) -> serde_json::Value {
    json!({
        "BackupState": state,
        "TimeStampUtc": "0001-01-01T00:00:00Z",
        "BackupId": Uuid::nil(),
        "BackupLocation": null,
        "EpochOfLastBackupRecord": null,
        "LsnOfLastBackupRecord": 0,
        "FailureError": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::EstateSize;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_750_000_000, 0).unwrap()
    }

    fn estate() -> Estate {
        let size = EstateSize {
            seed: 3,
            applications: 5,
            services_per_application: 8,
            partitions_per_service: 6,
        };
        Estate::generate(&size, start() - TimeDelta::days(30))
    }

    fn states(estate: &Estate) -> BTreeSet<String> {
        let ids = estate.partition_ids().into_iter();
        ids.filter_map(|id| estate.record(id))
            .map(|it| it["BackupState"].as_str().unwrap_or("null").to_owned())
            .collect()
    }

    #[test]
    fn the_first_look_shows_a_history_and_two_minutes_show_every_state() {
        let mut estate = estate();
        let mut activity = Activity::begin(3, 1.0, &mut estate, start());
        let at_once = [
            "Accepted", "Failure", "Invalid", "Paused", "Success", "Timeout", "null",
        ];
        let mut seen = states(&estate);
        assert_eq!(seen.iter().collect::<Vec<_>>(), at_once.each_ref());
        for second in 0..120 {
            activity.step(&mut estate, start() + TimeDelta::seconds(second));
            seen.extend(states(&estate));
        }
        assert!(seen.contains("BackupInProgress"), "{seen:?}");
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn partitions_come_and_go_within_minutes() {
        let mut estate = estate();
        let mut activity = Activity::begin(3, 1.0, &mut estate, start());
        let original: BTreeSet<_> = estate.partition_ids().into_iter().collect();
        let (mut came, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for second in 0..180 {
            activity.step(&mut estate, start() + TimeDelta::seconds(second));
            let now: BTreeSet<_> = estate.partition_ids().into_iter().collect();
            came.extend(now.difference(&original).copied());
            gone.extend(came.difference(&now).copied());
        }
        assert!(came.len() >= 3 && !gone.is_empty(), "{came:?} {gone:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_life() {
        let run = || {
            let mut estate = estate();
            let mut activity = Activity::begin(9, 0.5, &mut estate, start());
            for second in 0..100 {
                activity.step(&mut estate, start() + TimeDelta::seconds(second));
            }
            let ids = estate.partition_ids().into_iter();
            ids.map(|id| (id, estate.record(id))).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}
