//! Periodic backups of the demo: policies for all applications, and one service per protection
//! state.
//!
//! Uses compressed time (an hour is about half a minute) and writes a history of periodic backups.
//! Must not request backups. Services are named after their state.

use std::time::Duration;

use chrono::{DateTime, NaiveTime, SubsecRound, TimeDelta, Utc, Weekday};
use uuid::Uuid;

use crate::simulator::estate::{
    Entity, Estate, Policy, Rejection, RestorePlan, Retention, Schedule, Scheme, ServiceKind,
    StateProvider, Storage, Tempo,
};
use crate::simulator::faults::{Fault, Filter};

/// The application whose services show one verdict each. It has no policy of its own.
///
/// | service | verdict | how |
/// |---|---|---|
/// | `BackedUp` | Protected | half a minute between backups, and nothing goes wrong |
/// | `StorageFlaky` | Failing, by turns | its storage refuses for 30 s of every 90 s; a retry saves it |
/// | `StorageLost` | Overdue | its storage has refused everything for an hour |
/// | `StoppedSilently` | Overdue | its timers died an hour ago; its last health event is Ok |
/// | `NeverStarted` | `NeverBackedUp` | protected at the start, its timers died at once |
/// | `JustEnabled` | Pending | protected at the start, its first backup is 15 days away |
/// | `OnHold` | Suspended | suspended at the service |
/// | `Forgotten` | Unprotected | no policy applies |
/// | `ActorsBackedUp` | Protected | an actor service: its backups have -1 for epoch and LSN |
/// | `ActorsStorageLost` | Overdue | an actor service on that storage: health says Ok all the same |
/// | `CleanedUp` | Pending | its backups were deleted a minute ago; health says Ok of the last one |
/// | `RanEarly` | Protected | a daily run ten minutes ago, which jitter let start seconds early |
///
/// One partition of `BackedUp` is being restored when the demo starts, and one of
/// `StoppedSilently` lists a young backup that a check has found damaged, which proves nothing.
const GALLERY: &str = "fabric:/Gallery";

/// The application whose configuration cannot be read: Unknown. It is protected all the same.
const OPAQUE: &str = "fabric:/Opaque";

/// The fault that makes it unreadable.
pub(super) const OPACITY: (Fault, Filter) = (Fault::Masked400, Filter::Application(OPAQUE));

const FLAKY: &str = "EveryHalfMinuteToFlakyStorage";
const LOST: &str = "EveryHalfMinuteToLostStorage";
const BRISK: &str = "EveryHalfMinute";
const STEADY: &str = "EveryTwoMinutes";
const NIGHTLY: &str = "NightlyAtTwo";
const WEEKLY: &str = "WorkdaysTwice";
const FAR: &str = "EveryFifteenDays";
const CLEANED: &str = "EveryHalfMinuteUntilCleanedUp";
const EARLY: &str = "DailyTenMinutesAgo";

/// The container of both policies of `CleanedUp`: without the second one its clean-up deletes
/// nothing (`RetentionManager.cs`).
const RARE: &str = "rare";

/// Partitions of each service in the gallery.
const PARTS: [&str; 3] = ["eu", "us", "apac"];

/// Next outage of the flaky storage, and the pace.
#[derive(Debug)]
pub(super) struct Gallery {
    pace: f64,
    outage: DateTime<Utc>,
}

impl Gallery {
    pub(super) fn new(pace: f64, now: DateTime<Utc>) -> Self {
        Self {
            pace,
            outage: now + stretched(15, pace),
        }
    }

    /// Protects the existing applications and adds the gallery, all with a history.
    pub(super) fn open(&self, estate: &mut Estate, now: DateTime<Utc>) {
        estate.set_tempo(tempo(self.pace));
        self.add_policies(estate, now - TimeDelta::days(8), now);
        protect_the_rest(estate, stretched(600, self.pace), now);
        self.hang(estate, now);
    }

    /// Does what is due at `now`.
    pub(super) fn step(&mut self, estate: &mut Estate, now: DateTime<Utc>) {
        if self.outage <= now {
            estate.fail_storage(FLAKY, now..now + stretched(30, self.pace));
            self.outage = now + stretched(90, self.pace);
        }
    }

    fn add_policies(&self, estate: &mut Estate, at: DateTime<Utc>, now: DateTime<Utc>) {
        let every = |seconds| Schedule::Every(compressed(seconds, self.pace));
        let two = NaiveTime::from_hms_opt(2, 0, 0).unwrap_or_default();
        let noon = NaiveTime::from_hms_opt(12, 0, 0).unwrap_or_default();
        let workdays = vec![
            Weekday::Mon,
            Weekday::Tue,
            Weekday::Wed,
            Weekday::Thu,
            Weekday::Fri,
        ];
        let share = Storage::FileShare {
            friendly_name: "Share of the demo".to_owned(),
            path: r"\\storage\backups".to_owned(),
            user: Some("backupaccount".to_owned()),
        };
        let identity = Storage::ManagedIdentity {
            friendly_name: String::new(),
            blob_service_uri: "https://demobackups.blob.core.windows.net".to_owned(),
            container: "backups".to_owned(),
        };
        let policies = [
            (STEADY, every(120), blob("demo-backups")),
            (BRISK, every(30), share),
            (FLAKY, every(30), blob("flaky")),
            (LOST, every(30), blob("lost")),
            (NIGHTLY, Schedule::Daily(vec![two]), identity),
            (
                WEEKLY,
                Schedule::Weekly(workdays, vec![two, noon]),
                blob("weekly"),
            ),
            (
                FAR,
                Schedule::Every(Duration::from_secs(15 * 86_400)),
                blob(RARE),
            ),
            (CLEANED, every(30), blob(RARE)),
            (
                EARLY,
                Schedule::Daily(vec![self.early_run(now).time()]),
                blob("early"),
            ),
        ];
        for (name, schedule, storage) in policies {
            let retention = matches!(schedule, Schedule::Every(_)).then(|| Retention {
                duration: compressed(600, self.pace),
                minimum: 3,
            });
            let policy = Policy {
                name: name.to_owned(),
                auto_restore_on_data_loss: false,
                max_incremental_backups: 4,
                schedule,
                storage,
                retention,
            };
            estate.add_policy(policy, at);
            estate.create_container(name);
        }
    }

    /// A run time ten minutes ago, in whole seconds.
    fn early_run(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        (now - stretched(600, self.pace)).trunc_subsecs(0)
    }

    /// Actor services, with numbers that are unknown in every backup.
    fn hang_actors(&self, estate: &mut Estate, now: DateTime<Utc>) {
        let hour_ago = now - stretched(3600, self.pace);
        let history = stretched(900, self.pace);
        for (name, policy, since) in [
            ("ActorsBackedUp", BRISK, now - history),
            ("ActorsStorageLost", LOST, hour_ago - history),
        ] {
            show(estate, name, None, since);
            let service = format!("{GALLERY}/{name}");
            estate.set_state_provider(&service, StateProvider::KeyValueStore);
            attempt(estate.enable(&Entity::service(&service), policy, since));
        }
    }

    /// A store emptied while a policy applies: each partition had a policy of its own, which was
    /// disabled with `CleanBackup`, and now inherits one that has nothing to do for days.
    fn hang_cleaned_up(&self, estate: &mut Estate, now: DateTime<Utc>) {
        let history = now - stretched(900, self.pace);
        let partitions = show(estate, "CleanedUp", Some(FAR), history);
        let partitions = partitions.into_iter().map(Entity::Partition);
        let partitions: Vec<_> = partitions.collect();
        for partition in &partitions {
            attempt(estate.enable(partition, CLEANED, history));
        }
        let minute_ago = now - stretched(60, self.pace);
        for partition in &partitions {
            attempt(estate.disable_and_clean(partition, minute_ago));
        }
    }

    /// As many partitions as it takes for some to have run early.
    fn hang_early(&self, estate: &mut Estate, now: DateTime<Utc>) {
        let born = now - TimeDelta::days(3);
        let service = format!("{GALLERY}/RanEarly");
        let kind = ServiceKind::Persisted;
        estate.add_service(GALLERY, &service, kind, Scheme::Ranges(12), born);
        let since = self.early_run(now) - TimeDelta::hours(36);
        attempt(estate.enable(&Entity::service(&service), EARLY, since));
    }

    /// Adds the services of the gallery.
    fn hang(&self, estate: &mut Estate, now: DateTime<Utc>) {
        let born = now - TimeDelta::days(1);
        let hour_ago = now - stretched(3600, self.pace);
        let soon = now + stretched(5, self.pace);
        let history = now - stretched(900, self.pace);
        let backed_up = show(estate, "BackedUp", Some(BRISK), history);
        show(estate, "StorageFlaky", Some(FLAKY), history);
        show(
            estate,
            "StorageLost",
            Some(LOST),
            hour_ago - (now - history),
        );
        estate.fail_storage(LOST, hour_ago..DateTime::<Utc>::MAX_UTC);
        let stopped = show(
            estate,
            "StoppedSilently",
            Some(BRISK),
            hour_ago - (now - history),
        );
        estate.stop_silently(stopped.iter().copied(), hour_ago);
        let never = show(estate, "NeverStarted", Some(BRISK), now);
        estate.stop_silently(never, soon);
        show(estate, "JustEnabled", Some(FAR), now);
        show(estate, "OnHold", Some(BRISK), history);
        let on_hold = Entity::service(&format!("{GALLERY}/OnHold"));
        attempt(estate.suspend(&on_hold, now - stretched(300, self.pace)));
        show(estate, "Forgotten", None, born);
        let ledger = format!("{OPAQUE}/Ledger");
        add(estate, OPAQUE, &ledger, born);
        attempt(estate.enable(&Entity::application(OPAQUE), BRISK, history));
        self.hang_early(estate, now);
        self.hang_actors(estate, now);
        self.hang_cleaned_up(estate, now);
        estate.tick(now);
        for id in stopped.into_iter().take(1) {
            estate.list_unrestorable(id, now - stretched(60, self.pace));
        }
        for id in backed_up.into_iter().take(1) {
            attempt(estate.request_restore(id, None, RestorePlan::default(), now));
        }
    }
}

/// Protects the existing applications: most as a whole, every fourth by its services, which have
/// time-based schedules.
fn protect_the_rest(estate: &mut Estate, history: TimeDelta, now: DateTime<Utc>) {
    for (index, application) in estate.application_names().into_iter().enumerate() {
        if index % 4 != 3 {
            let application = Entity::Application(application);
            attempt(estate.enable(&application, STEADY, now - history));
            continue;
        }
        let services = estate.service_names().into_iter();
        let below = format!("{application}/");
        for (number, service) in services.filter(|it| it.starts_with(&below)).enumerate() {
            let policy = if number % 2 == 0 { NIGHTLY } else { WEEKLY };
            let week_ago = now - TimeDelta::days(7);
            attempt(estate.enable(&Entity::Service(service), policy, week_ago));
        }
    }
}

/// Adds a service to the gallery, protected from `since` on.
fn show(estate: &mut Estate, name: &str, policy: Option<&str>, since: DateTime<Utc>) -> Vec<Uuid> {
    let service = format!("{GALLERY}/{name}");
    let ids = add(estate, GALLERY, &service, since);
    if let Some(policy) = policy {
        attempt(estate.enable(&Entity::service(&service), policy, since));
    }
    ids
}

fn add(estate: &mut Estate, application: &str, service: &str, since: DateTime<Utc>) -> Vec<Uuid> {
    let parts = PARTS.iter().map(|part| (*part).to_owned()).collect();
    let kind = ServiceKind::Persisted;
    estate.add_service(application, service, kind, Scheme::Named(parts), since)
}

/// The demo sends no request that the cluster rejects.
fn attempt(result: Result<(), Rejection>) {
    if let Err(rejection) = result {
        tracing::debug!(?rejection, "the demo could not set the scene");
    }
}

fn blob(container: &str) -> Storage {
    Storage::AzureBlob {
        friendly_name: "Azure_demobackups".to_owned(),
        container: container.to_owned(),
    }
}

fn tempo(pace: f64) -> Tempo {
    let millis = |millis| Duration::from_millis(millis).mul_f64(pace);
    Tempo {
        propagation: millis(500),
        jitter: millis(2000),
        retry: millis(7000),
        snapshot: millis(200)..=millis(1000),
        upload: millis(500)..=millis(3000),
        health_reports: millis(1000),
        hour: millis(30_000),
    }
}

/// An interval in whole seconds, as a policy must have it.
fn compressed(seconds: u64, pace: f64) -> Duration {
    let stretched = Duration::from_secs(seconds).mul_f64(pace);
    Duration::from_secs(stretched.as_secs().max(1))
}

fn stretched(seconds: u64, pace: f64) -> TimeDelta {
    let stretched = Duration::from_secs(seconds).mul_f64(pace);
    TimeDelta::from_std(stretched).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::{EstateSize, Validation};

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_750_000_000, 0).unwrap()
    }

    fn opened() -> (Estate, Gallery) {
        let size = EstateSize {
            seed: 5,
            applications: 5,
            services_per_application: 3,
            partitions_per_service: 4,
        };
        let mut estate = Estate::generate(&size, start() - TimeDelta::days(30));
        let gallery = Gallery::new(1.0, start());
        gallery.open(&mut estate, start());
        (estate, gallery)
    }

    fn on_show(estate: &Estate, name: &str) -> Vec<Uuid> {
        estate.partitions_of(&Entity::service(&format!("{GALLERY}/{name}")))
    }

    /// The newest success there is, by the event or by the list.
    fn age(estate: &Estate, id: Uuid, now: DateTime<Utc>) -> Option<TimeDelta> {
        let backups = estate.backups(id, now);
        let mut newest_first = backups.iter().rev();
        let newest = newest_first.find(|it| it.validation == Validation::None)?;
        Some(now - newest.taken)
    }

    #[test]
    fn the_first_look_shows_what_the_names_promise() {
        let (estate, _) = opened();
        let hour = TimeDelta::seconds(3500);
        let attempt = |id| estate.last_attempt(id, start());
        for (name, young, attempted) in [
            ("BackedUp", Some(true), Some(true)),
            ("StorageFlaky", Some(true), Some(true)),
            ("StorageLost", Some(false), Some(false)),
            ("StoppedSilently", Some(false), Some(true)),
            ("NeverStarted", None, None),
            ("JustEnabled", None, None),
            ("Forgotten", None, None),
            ("ActorsBackedUp", Some(true), Some(true)),
            ("ActorsStorageLost", Some(false), Some(true)),
            ("CleanedUp", None, Some(true)),
            ("RanEarly", Some(true), Some(true)),
        ] {
            assert!(!on_show(&estate, name).is_empty(), "{name}");
            for id in on_show(&estate, name) {
                let age = age(&estate, id, start());
                assert_eq!(age.map(|age| age < hour), young, "{name}: {age:?}");
                assert_eq!(attempt(id).map(|(_, worked)| worked), attempted, "{name}");
            }
        }
        for id in on_show(&estate, "OnHold") {
            let protection = estate.protection(&Entity::Partition(id)).unwrap();
            assert_eq!(protection.suspended_from, Some("Service"));
            assert_eq!(estate.next_backup(id), None);
            // A backup that was under way when its partition was suspended leaves a Warning.
            assert!(attempt(id).is_none_or(|(_, worked)| !worked));
        }
    }

    #[test]
    fn backups_of_actors_have_no_numbers_and_some_daily_runs_are_early() {
        let (estate, gallery) = opened();
        let newest = |name: &str| {
            let ids = on_show(&estate, name).into_iter();
            let newest = ids.filter_map(|id| estate.backups(id, start()).pop());
            newest.collect::<Vec<_>>()
        };
        let actors = newest("ActorsBackedUp");
        assert!(actors.iter().all(|it| it.lsn.is_none() && it.full));
        let run = gallery.early_run(start());
        let early = newest("RanEarly").into_iter().filter(|it| it.taken < run);
        let ahead: Vec<_> = early.map(|it| (run - it.taken).num_seconds()).collect();
        assert!((1..12).contains(&ahead.len()), "{ahead:?}");
        assert!(ahead.iter().all(|it| (1..=2).contains(it)), "{ahead:?}");
    }

    #[test]
    fn within_two_minutes_the_flaky_storage_fails_and_recovers() {
        let (mut estate, mut gallery) = opened();
        let ids = on_show(&estate, "StorageFlaky");
        let (mut failed, mut recovered, mut oldest) = (false, false, TimeDelta::zero());
        for second in 0..120 {
            let now = start() + TimeDelta::seconds(second);
            gallery.step(&mut estate, now);
            estate.tick(now);
            for id in &ids {
                let worked = estate
                    .last_attempt(*id, now)
                    .is_some_and(|(_, worked)| worked);
                recovered |= failed && worked;
                failed |= !worked;
                oldest = oldest.max(age(&estate, *id, now).unwrap());
            }
        }
        assert!(failed && recovered);
        // The demo allows 45 s behind the half minute.
        assert!(oldest < TimeDelta::seconds(75), "{oldest}");
    }

    #[test]
    fn never_started_service_has_no_backup_after_two_minutes() {
        let (mut estate, _) = opened();
        let now = start() + TimeDelta::seconds(120);
        estate.tick(now);
        for name in ["NeverStarted", "JustEnabled", "Forgotten", "CleanedUp"] {
            for id in on_show(&estate, name) {
                assert!(estate.backups(id, now).is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn a_partition_is_restored_and_an_unrestorable_backup_is_listed() {
        let (mut estate, _) = opened();
        let ids = on_show(&estate, "BackedUp");
        let restored = |estate: &Estate| {
            let restores = ids.iter().filter_map(|id| estate.restore_of(*id));
            restores.filter(|it| it.ended.is_some()).count()
        };
        assert_eq!(restored(&estate), 0);
        estate.tick(start() + TimeDelta::seconds(60));
        assert_eq!(restored(&estate), 1);
        let stopped = on_show(&estate, "StoppedSilently").into_iter();
        let newest = stopped.filter_map(|id| estate.backups(id, start()).pop());
        assert_eq!(
            newest
                .filter(|it| it.validation != Validation::None)
                .count(),
            1
        );
    }

    #[test]
    fn everything_that_was_there_before_has_a_periodic_history() {
        let (estate, _) = opened();
        for id in estate.partition_ids() {
            let application = estate.application_of(id).unwrap();
            if &*application != GALLERY {
                assert!(!estate.backups(id, start()).is_empty(), "{application}");
            }
        }
    }
}
