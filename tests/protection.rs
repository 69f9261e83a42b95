//! What the poller makes of protection: verdicts, collectors that fail, and what it all costs.
//!
//! Backups are taken by the periodic engine of the simulated gateway, on the clock of this
//! machine; where time must pass, a verdict is asked for at a made-up moment, by rules of the
//! test's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::support::watch::{RULES, Setup, Watch, error, existing, partition, requests, succeeded};
use crate::support::{PATIENCE, eventually, simulate};
use chrono::{DateTime, TimeDelta, Utc};
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::model::{BackupState, Level, RestoreState};
use servicefabric_backup_exporter::protection::{Protection, Rules, Verdict, judge};
use servicefabric_backup_exporter::simulator::{
    Entity, Estate, Fault, Filter, Latency, Operation, Options, Outcome, Policy, Prefixes,
    RestorePlan, Schedule, Scheme, ServiceKind, Simulator, Storage, Switches, Tempo,
    UnconfiguredApplication,
};
use servicefabric_backup_exporter::snapshot::{Collector, Snapshot};
use servicefabric_backup_exporter::state_file::{self, StateFile};
use tokio::time::timeout;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);

/// Nothing is ever late.
const LENIENT: Rules = Rules {
    overdue_allowance: TimeDelta::days(1),
    stuck_after: TimeDelta::days(1),
    ..RULES
};

/// Everything is late as soon as it can be.
const STRICT: Rules = Rules {
    overdue_allowance: TimeDelta::zero(),
    stuck_after: TimeDelta::zero(),
    ..RULES
};

fn policy(name: &str, interval: Duration) -> Policy {
    Policy {
        name: name.to_owned(),
        auto_restore_on_data_loss: false,
        max_incremental_backups: 3,
        schedule: Schedule::Every(interval),
        storage: Storage::FileShare {
            friendly_name: "share".to_owned(),
            path: format!(r"\\storage\{name}"),
            user: None,
        },
        retention: None,
    }
}

/// `fabric:/App1` with three partitions in two services, all of it backed up every hour for a
/// day; `fabric:/App10`, whose only service is; `fabric:/Bare`, where nothing is.
struct World {
    simulator: Simulator,
    /// The partition of `fabric:/App1/Carts`.
    carts: Uuid,
    /// The partition of `fabric:/App10/Orders`, whose application has no policy of its own.
    app10: Uuid,
    /// The partition of `fabric:/Bare/Notes`.
    bare: Uuid,
}

impl World {
    async fn start() -> Self {
        Self::with(Options::default(), |_| {}).await
    }

    async fn switched(switches: Switches) -> Self {
        let options = Options {
            switches,
            ..Options::default()
        };
        Self::with(options, |_| {}).await
    }

    async fn with(options: Options, change: impl FnOnce(&mut Estate)) -> Self {
        let now = clock::now();
        let born = now - TimeDelta::days(1);
        let mut estate = Estate::empty(4, born);
        let mut add = |application: &str, service: &str, scheme| {
            let service = format!("{application}/{service}");
            estate.add_service(application, &service, ServiceKind::Persisted, scheme, born)
        };
        add("fabric:/App1", "Orders", Scheme::Ranges(2));
        let carts = add("fabric:/App1", "Carts", Scheme::Singleton)[0];
        let app10 = add("fabric:/App10", "Orders", Scheme::Singleton)[0];
        let bare = add("fabric:/Bare", "Notes", Scheme::Singleton)[0];
        estate.add_policy(policy("Hourly", HOUR), born);
        estate.add_policy(policy("Daily", HOUR * 24), born);
        for entity in [
            Entity::application("fabric:/App1"),
            Entity::service("fabric:/App10/Orders"),
        ] {
            estate.enable(&entity, "Hourly", born).unwrap();
        }
        change(&mut estate);
        estate.tick(now);
        Self {
            simulator: simulate(estate, options).await,
            carts,
            app10,
            bare,
        }
    }

    /// All that is protected.
    fn protected(&self) -> Vec<Uuid> {
        let ids = existing(&self.simulator).into_iter();
        ids.filter(|id| *id != self.bare).collect()
    }

    fn fail(&self, operation: Operation) {
        let filter = Filter::Operation(operation);
        self.simulator.inject(Fault::InternalError, filter);
    }

    fn with_estate<R>(&self, change: impl FnOnce(&mut Estate, DateTime<Utc>) -> R) -> R {
        self.simulator
            .with_estate(|estate| change(estate, clock::now()))
    }
}

fn verdict(snapshot: &Snapshot, id: Uuid, rules: &Rules, now: DateTime<Utc>) -> Verdict {
    let facts = partition(snapshot, id).facts(snapshot);
    judge(&facts, rules, now)
}

fn state(snapshot: &Snapshot, id: Uuid) -> Protection {
    verdict(snapshot, id, &RULES, clock::now()).state
}

/// The verdicts on several partitions, each once.
fn states(snapshot: &Snapshot, ids: &[Uuid]) -> BTreeSet<Protection> {
    ids.iter().map(|id| state(snapshot, *id)).collect()
}

/// The collectors whose last run failed.
fn failed(snapshot: &Snapshot) -> Vec<Collector> {
    let collectors = snapshot.status.collectors.iter();
    let failed = collectors.filter(|(_, status)| !status.success);
    failed.map(|(collector, _)| *collector).collect()
}

/// Cycles until the verdict on the partition by `rules` is this one.
async fn until(watch: &Watch, id: Uuid, rules: &Rules, expected: Protection) -> Verdict {
    eventually(expected.as_str(), async || {
        let snapshot = watch.cycle().await;
        let verdict = verdict(&snapshot, id, rules, clock::now());
        (verdict.state == expected).then_some(verdict)
    })
    .await
}

/// An estate whose replicas lose no time: two partitions, and policies that back up next month,
/// each second, and each second to a storage that refuses everything.
fn brisk_estate() -> (Estate, [Uuid; 2]) {
    let now = clock::now();
    let mut estate = Estate::empty(1, now);
    let none = Duration::ZERO;
    estate.set_tempo(Tempo {
        propagation: none,
        jitter: none,
        retry: Duration::from_millis(200),
        snapshot: none..=none,
        upload: none..=none,
        health_reports: none,
        ..Tempo::default()
    });
    let ids = ["fabric:/Walk/One", "fabric:/Walk/Never"].map(|service| {
        let kind = ServiceKind::Persisted;
        estate.add_service("fabric:/Walk", service, kind, Scheme::Singleton, now)[0]
    });
    for (name, interval) in [
        ("Far", HOUR * 24 * 30),
        ("Brisk", Duration::from_secs(1)),
        ("Sound", Duration::from_secs(1)),
        ("Lost", Duration::from_secs(1)),
    ] {
        estate.add_policy(policy(name, interval), now);
    }
    estate.fail_storage("Lost", now..now + TimeDelta::days(1));
    (estate, ids)
}

#[tokio::test]
async fn a_partition_can_walk_through_every_row_of_the_verdict_table() {
    let (estate, [id, never]) = brisk_estate();
    let simulator = simulate(estate, Options::default()).await;
    let entity = Entity::Partition(id);
    let watch = Setup::default().watch(&simulator);
    let change = |change: &dyn Fn(&mut Estate, DateTime<Utc>)| {
        simulator.with_estate(|estate| change(estate, clock::now()));
    };
    let enable = |entity: &Entity, policy: &str| {
        change(&|estate, now| estate.enable(entity, policy, now).unwrap());
    };

    enable(&entity, "Far");
    simulator.inject(Fault::Masked400, Filter::Application("fabric:/Walk"));
    until(&watch, id, &STRICT, Protection::Unknown).await;
    simulator.heal();
    let pending = until(&watch, id, &STRICT, Protection::Pending).await;
    let since = partition(&watch.snapshot(), id).protected_since.unwrap();
    assert_eq!(pending.due, Some(since + TimeDelta::days(30)));

    enable(&entity, "Brisk");
    until(&watch, id, &LENIENT, Protection::Protected).await;
    watch.list().await;
    let day = TimeDelta::days(1);
    change(&|estate, now| estate.fail_storage("Brisk", now..now + day));
    until(&watch, id, &LENIENT, Protection::Failing).await;
    let before = partition(&watch.snapshot(), id).last_success.clone();
    let overdue = until(&watch, id, &STRICT, Protection::Overdue).await;
    assert!(overdue.due.unwrap() < clock::now());
    enable(&entity, "Sound");
    // The failed attempts are not those of this policy.
    until(&watch, id, &LENIENT, Protection::Protected).await;
    eventually("a success under the new policy", async || {
        let snapshot = watch.cycle().await;
        let success = partition(&snapshot, id).last_success.clone();
        (success.unwrap().at > before.as_ref().unwrap().at).then_some(())
    })
    .await;

    change(&|estate, now| estate.suspend(&entity, now).unwrap());
    let suspended = until(&watch, id, &STRICT, Protection::Suspended).await;
    assert_eq!(suspended.due, None);
    let changed_at = || partition(&watch.snapshot(), id).changed_at.unwrap();
    let before = changed_at();
    change(&|estate, now| estate.resume(&entity, now).unwrap());
    let resumed = until(&watch, id, &LENIENT, Protection::Protected).await;
    assert!(changed_at() > before);
    assert!(resumed.due.unwrap() >= changed_at() + TimeDelta::seconds(1));

    change(&|estate, now| estate.disable(&entity, now).unwrap());
    until(&watch, id, &STRICT, Protection::Unprotected).await;
    change(&|estate, now| estate.conclude(id, Outcome::Never, now));
    until(&watch, id, &STRICT, Protection::Stuck).await;

    enable(&Entity::Partition(never), "Lost");
    until(&watch, never, &LENIENT, Protection::Failing).await;
    until(&watch, never, &STRICT, Protection::NeverBackedUp).await;
    assert_eq!(partition(&watch.snapshot(), never).last_success, None);
}

#[tokio::test]
async fn a_changed_policy_starts_the_timers_of_its_partitions_anew() {
    let world = World::start().await;
    let watch = Setup::default().watch(&world.simulator);
    // What two readings in a row show is what a change is measured by.
    watch.cycle().await;
    let snapshot = watch.cycle().await;
    let change = |snapshot: &Snapshot, id| partition(snapshot, id).changed_at;
    assert_eq!(change(&snapshot, world.carts), None);
    world.with_estate(|estate, now| {
        estate.update_policy("Hourly", now, |policy| {
            policy.schedule = Schedule::Every(HOUR / 2);
        })
    });
    let snapshot = watch.cycle().await;
    let read_at = snapshot.policies.as_ref().unwrap().at;
    for id in world.protected() {
        assert_eq!(change(&snapshot, id), Some(read_at));
        let due = verdict(&snapshot, id, &STRICT, clock::now()).due;
        assert!(due.unwrap() >= read_at + TimeDelta::minutes(30));
    }
    assert_eq!(change(&snapshot, world.bare), None);
}

#[tokio::test]
async fn a_day_of_backups_is_seen_in_health_and_lists_alike() {
    let world = World::start().await;
    let watch = Setup::default().watch(&world.simulator);
    let snapshot = watch.cycle().await;
    assert_eq!(
        states(&snapshot, &world.protected()),
        [Protection::Protected].into()
    );
    assert_eq!(state(&snapshot, world.bare), Protection::Unprotected);
    let snapshot = watch.list().await;
    assert_eq!(failed(&snapshot), Vec::new());
    assert_eq!(watch.errors(), BTreeMap::new());
    for id in world.protected() {
        let known = partition(&snapshot, id);
        let (ended, newest) = world.with_estate(|estate, now| {
            let (ended, succeeded) = estate.last_attempt(id, now).unwrap();
            assert!(succeeded);
            (ended, estate.backups(id, now).pop().unwrap())
        });
        assert_eq!(known.last_success.as_ref().unwrap().at, ended);
        assert_eq!(known.last_success_lsn(), newest.lsn);
        assert!(known.listed_at.is_some());
        assert_eq!(known.record(), None, "nobody requested any");
    }
    let labels = [("state", "Protected")];
    let page = watch.page();
    let protected = page.all("servicefabric_backup_protection_state", &labels);
    let count = protected.iter().filter(|sample| sample.value > 0.0).count();
    assert_eq!((protected.len(), count), (5, 4));
}

#[tokio::test]
async fn a_configuration_that_fails_is_kept_until_it_is_stale_and_darkens_no_other() {
    let world = World::start().await;
    let watch = Setup::default().watch(&world.simulator);
    watch.cycle().await;
    let filter = Filter::Application("fabric:/App1");
    world.simulator.inject(Fault::Masked400, filter);
    let snapshot = watch.cycle().await;
    assert_eq!(failed(&snapshot), [Collector::Configuration]);
    let expected = [(error(Collector::Configuration, "api"), 1)].into();
    assert_eq!(watch.errors(), expected);
    let read_at = partition(&snapshot, world.carts).applied_at.unwrap();
    let stale = read_at + RULES.staleness;
    let at = |id, now| verdict(&snapshot, id, &LENIENT, now).state;
    let last = stale - TimeDelta::nanoseconds(1);
    assert_eq!(at(world.carts, last), Protection::Protected);
    assert_eq!(at(world.carts, stale), Protection::Unknown);
    assert_eq!(at(world.app10, stale), Protection::Protected);
    assert_eq!(at(world.bare, stale), Protection::Unprotected);
}

#[tokio::test]
async fn policies_that_fail_are_kept_until_they_are_stale() {
    let world = World::start().await;
    let watch = Setup::default().watch(&world.simulator);
    watch.cycle().await;
    world.fail(Operation::GetBackupPolicyList);
    let snapshot = watch.cycle().await;
    assert_eq!(failed(&snapshot), [Collector::Policies]);
    let expected = [(error(Collector::Policies, "api"), 1)].into();
    assert_eq!(watch.errors(), expected);
    let stale = snapshot.policies.as_ref().unwrap().at + RULES.staleness;
    let at = |id, now| verdict(&snapshot, id, &LENIENT, now).state;
    let last = stale - TimeDelta::nanoseconds(1);
    assert_eq!(at(world.carts, last), Protection::Protected);
    assert_eq!(at(world.carts, stale), Protection::Unknown);
    assert_eq!(at(world.bare, stale), Protection::Unprotected);
}

#[tokio::test]
async fn without_health_the_lists_prove_that_backups_are_taken() {
    let world = World::start().await;
    world.fail(Operation::GetPartitionHealth);
    let watch = Setup::default().watch(&world.simulator);
    let snapshot = watch.cycle().await;
    // Progress is read, but no periodic backup ever shows there.
    assert_eq!(
        states(&snapshot, &world.protected()),
        [Protection::Unknown].into()
    );
    let snapshot = watch.list().await;
    assert_eq!(
        states(&snapshot, &world.protected()),
        [Protection::Protected].into()
    );
    assert_eq!(failed(&snapshot), [Collector::Health]);
    let expected = [(error(Collector::Health, "api"), 4)].into();
    assert_eq!(watch.errors(), expected);
    let known = partition(&snapshot, world.carts);
    assert_eq!(known.health, None);
    assert!(known.last_success_lsn().is_some());
}

#[tokio::test]
async fn a_health_store_that_is_down_darkens_neither_the_inventory_nor_the_gateway() {
    let world = World::with(Options::default(), |estate| {
        let born = clock::now() - TimeDelta::days(1);
        let (service, kind) = ("fabric:/App1/Wide", ServiceKind::Persisted);
        estate.add_service("fabric:/App1", service, kind, Scheme::Ranges(60), born);
    })
    .await;
    let down = Fault::HangThen504(Duration::from_millis(1));
    let health = Filter::Operation(Operation::GetPartitionHealth);
    world.simulator.inject(down, health);
    let watch = Setup::default().watch(&world.simulator);
    for _ in 0..3 {
        let snapshot = watch.cycle().await;
        assert_eq!(failed(&snapshot), [Collector::Health]);
        assert_eq!(snapshot.status.up, Some(true));
    }
    let asked = requests(&world.simulator, Operation::GetPartitionHealth);
    assert!(asked < 100, "{asked} requests that could not be answered");
    world.simulator.heal();
    eventually("health is read again", async || {
        let snapshot = watch.cycle().await;
        (failed(&snapshot) == Vec::new()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_lists_health_proves_that_backups_are_taken() {
    for fault in [Fault::StorageError500, Fault::IndexOutOfRange400] {
        let world = World::start().await;
        world.simulator.inject(fault, Filter::All);
        let watch = Setup::default().watch(&world.simulator);
        watch.cycle().await;
        let snapshot = watch.list().await;
        assert_eq!(
            states(&snapshot, &world.protected()),
            [Protection::Protected].into()
        );
        assert_eq!(failed(&snapshot), [Collector::Backups], "{fault:?}");
        let expected = [(error(Collector::Backups, "api"), 2)].into();
        assert_eq!(watch.errors(), expected, "{fault:?}");
        assert_eq!(snapshot.status.service_up, Some(true));
        let known = partition(&snapshot, world.carts);
        assert_eq!((known.listed_at, known.last_success_lsn()), (None, None));
        world.simulator.heal();
        let snapshot = watch.list().await;
        assert!(succeeded(&snapshot, Collector::Backups));
        assert!(
            partition(&snapshot, world.carts)
                .last_success_lsn()
                .is_some()
        );
    }
}

#[tokio::test]
async fn progress_and_restores_that_fail_are_kept_and_change_no_verdict_on_a_policy() {
    for (operation, collector) in [
        (Operation::GetPartitionBackupProgress, Collector::Progress),
        (Operation::GetPartitionRestoreProgress, Collector::Restore),
    ] {
        let world = World::start().await;
        world.with_estate(|estate, now| {
            let plan = RestorePlan::default();
            estate
                .request_restore(world.app10, None, plan, now)
                .unwrap();
            estate.conclude(world.carts, Outcome::Timeout, now);
        });
        let watch = Setup::default().watch(&world.simulator);
        let before = watch.cycle().await;
        world.fail(operation);
        let after = watch.cycle().await;
        assert_eq!(failed(&after), [collector]);
        let expected = [(error(collector, "api"), 5)].into();
        assert_eq!(watch.errors(), expected);
        for id in world.protected() {
            let [then, now] = [&before, &after].map(|snapshot| partition(snapshot, id));
            let is_progress = collector == Collector::Progress;
            assert_eq!(now.read_at() == then.read_at(), is_progress);
            assert_eq!(now.restore == then.restore, !is_progress);
            assert_eq!(now.record(), then.record());
            assert_eq!(state(&after, id), Protection::Protected);
        }
        let timed_out = partition(&after, world.carts).record().unwrap();
        assert_eq!(timed_out.state, BackupState::Timeout);
    }
}

#[tokio::test]
async fn configured_partitions_are_judged_like_discovered_ones() {
    let world = World::start().await;
    let ids = [world.carts, world.bare];
    let watch = Setup::default().watch_partitions(&world.simulator, &ids);
    watch.cycle().await;
    let snapshot = watch.list().await;
    assert_eq!(snapshot.partitions.len(), 2);
    assert_eq!(state(&snapshot, world.carts), Protection::Protected);
    assert_eq!(state(&snapshot, world.bare), Protection::Unprotected);
    let listed = partition(&snapshot, world.carts).last_success_lsn();
    assert!(listed.is_some());
    let asked = |operation| requests(&world.simulator, operation);
    assert_eq!(asked(Operation::GetApplicationBackupConfigurationInfo), 2);
    assert_eq!(asked(Operation::GetApplicationBackupList), 1);
}

#[tokio::test]
async fn a_list_of_one_application_that_fails_leaves_the_others_alone() {
    let world = World::start().await;
    let watch = Setup::default().watch(&world.simulator);
    watch.cycle().await;
    let filter = Filter::Application("fabric:/App1");
    world.simulator.inject(Fault::StorageError500, filter);
    let snapshot = watch.list().await;
    assert_eq!(partition(&snapshot, world.carts).listed_at, None);
    assert!(partition(&snapshot, world.app10).listed_at.is_some());
    assert_eq!(failed(&snapshot), [Collector::Backups]);
}

#[tokio::test]
async fn an_unrestorable_backup_proves_nothing_and_deleted_partitions_concern_nobody() {
    let gone = "fabric:/App1/Gone";
    let world = World::with(Options::default(), |estate| {
        let now = clock::now();
        let born = now - TimeDelta::days(1);
        let kind = ServiceKind::Persisted;
        let id = estate.add_service("fabric:/App1", gone, kind, Scheme::Singleton, born)[0];
        estate.tick(now);
        estate.remove_partition(id);
    })
    .await;
    world.with_estate(|estate, now| estate.list_unrestorable(world.carts, now));
    for collectors in ["", "collectors: {history: true}"] {
        let watch = Setup::cluster(collectors).watch(&world.simulator);
        watch.cycle().await;
        let snapshot = watch.list().await;
        assert_eq!(snapshot.partitions.len(), 5);
        let ended = world.with_estate(|estate, now| estate.last_attempt(world.carts, now));
        let known = partition(&snapshot, world.carts);
        assert_eq!(known.last_success.as_ref().unwrap().at, ended.unwrap().0);
        assert_eq!(known.unrestorable, 1);
        assert_eq!(watch.errors(), BTreeMap::new());
    }
}

#[tokio::test]
async fn the_history_replaces_the_list_of_the_newest() {
    let world = World::start().await;
    let watch = Setup::cluster("collectors: {history: true}").watch(&world.simulator);
    watch.cycle().await;
    let snapshot = watch.list().await;
    assert!(succeeded(&snapshot, Collector::History));
    assert!(!snapshot.status.collectors.contains_key(&Collector::Backups));
    assert_eq!(
        requests(&world.simulator, Operation::GetApplicationBackupList),
        2
    );
    for id in world.protected() {
        let backups = world.with_estate(|estate, now| estate.backups(id, now));
        let known = partition(&snapshot, id);
        let history = known.history.as_ref().unwrap().value;
        assert_eq!(history.recovery_points, backups.len() as u64);
        assert_eq!(history.oldest, backups.first().map(|backup| backup.taken));
        assert_eq!(known.last_success_lsn(), backups.last().unwrap().lsn);
    }
    assert_eq!(partition(&snapshot, world.bare).history, None);
}

/// What switches a collector off, that collector, a route that only it asks, and what becomes of
/// protected partitions and of others without it.
type Off = (&'static str, Collector, Operation, Protection, Protection);

const OFF: [Off; 6] = {
    use Operation as Op;
    use Protection::{Protected, Unknown, Unprotected};
    [
        (
            "collectors: {progress: false}",
            Collector::Progress,
            Op::GetPartitionBackupProgress,
            Protected,
            // Where nothing is protected, progress is all that could tell of a success.
            Unknown,
        ),
        (
            "collectors: {restore: false}",
            Collector::Restore,
            Op::GetPartitionRestoreProgress,
            Protected,
            Unprotected,
        ),
        (
            "collectors: {health: false}",
            Collector::Health,
            Op::GetPartitionHealth,
            Protected,
            Unprotected,
        ),
        (
            "collectors: {configuration: false}",
            Collector::Configuration,
            Op::GetApplicationBackupConfigurationInfo,
            Unknown,
            Unknown,
        ),
        (
            "collectors: {policies: false}",
            Collector::Policies,
            Op::GetBackupPolicyList,
            Unknown,
            // It says that it has no policy, and nobody can tell what is below.
            Unknown,
        ),
        (
            "collectors: {backups: false}",
            Collector::Backups,
            Op::GetApplicationBackupList,
            Protected,
            Unprotected,
        ),
    ]
};

#[tokio::test]
async fn a_collector_that_is_switched_off_asks_nothing_and_takes_nothing_from_the_others() {
    for (collectors, off, operation, protected, bare) in OFF {
        let world = World::start().await;
        let watch = Setup::cluster(collectors).watch(&world.simulator);
        watch.cycle().await;
        if off != Collector::Backups {
            watch.list().await;
        }
        let snapshot = watch.snapshot();
        assert_eq!(requests(&world.simulator, operation), 0, "{collectors}");
        let mut ran: BTreeSet<_> = Collector::ALL[..7].iter().collect();
        ran.remove(&off);
        let collectors_run = snapshot.status.collectors.keys();
        assert_eq!(collectors_run.collect::<BTreeSet<_>>(), ran);
        assert_eq!(failed(&snapshot), Vec::new(), "{collectors}");
        assert_eq!(watch.errors(), BTreeMap::new(), "{collectors}");
        let told = states(&snapshot, &world.protected());
        assert_eq!(told, [protected].into(), "{collectors}");
        assert_eq!(state(&snapshot, world.bare), bare, "{collectors}");
        let known = partition(&snapshot, world.carts);
        assert_eq!(known.read_at().is_some(), off != Collector::Progress);
        assert_eq!(known.restore.is_some(), off != Collector::Restore);
        assert_eq!(known.health.is_some(), off != Collector::Health);
        let page = watch.page();
        let series = page.all(
            "servicefabric_backup_collector_success",
            &[("collector", off.as_str())],
        );
        assert!(series.is_empty(), "{collectors}");
    }
}

#[tokio::test]
async fn an_absent_backup_service_fails_what_it_serves_and_leaves_the_rest() {
    let world = World::start().await;
    let watch = Setup::default().watch(&world.simulator);
    watch.cycle().await;
    watch.list().await;
    world.simulator.inject(Fault::ServiceAbsent, Filter::All);
    let snapshot = watch.cycle().await;
    assert_eq!(snapshot.status.service_up, Some(false));
    assert!(succeeded(&snapshot, Collector::Inventory));
    assert!(succeeded(&snapshot, Collector::Health));
    for served in [
        Collector::Configuration,
        Collector::Policies,
        Collector::Progress,
        Collector::Restore,
    ] {
        assert!(!succeeded(&snapshot, served), "{served:?}");
    }
    let reasons: BTreeSet<String> = watch.errors().into_keys().map(|(_, it)| it).collect();
    assert_eq!(reasons, ["service_absent".to_owned()].into());
    assert_eq!(
        states(&snapshot, &world.protected()),
        [Protection::Protected].into()
    );
    let later = clock::now() + RULES.staleness;
    let dark = verdict(&snapshot, world.carts, &LENIENT, later);
    assert_eq!((dark.state, dark.due), (Protection::Unknown, None));
}

fn not_found() -> Switches {
    Switches {
        unconfigured_application: UnconfiguredApplication::NotFound,
        ..Switches::default()
    }
}

#[tokio::test]
async fn protected_services_are_found_in_an_application_that_denies_its_protection() {
    let world = World::switched(not_found()).await;
    let mut setup = Setup::default();
    // Every partition is asked in every cycle.
    setup.poll.staleness = setup.poll.interval;
    let watch = setup.watch(&world.simulator);
    let snapshot = watch.cycle().await;
    assert_eq!(
        states(&snapshot, &world.protected()),
        [Protection::Protected].into()
    );
    let applied = partition(&snapshot, world.app10)
        .applied
        .as_deref()
        .unwrap();
    assert_eq!(applied.policy, Some(("Hourly".into(), Level::Service)));
    assert_eq!(state(&snapshot, world.bare), Protection::Unprotected);
    assert_eq!(watch.errors(), BTreeMap::new());
    let asked = |operation| requests(&world.simulator, operation);
    assert_eq!(asked(Operation::GetAllEntitiesBackedUpByPolicy), 2);
    assert_eq!(asked(Operation::GetPartitionBackupConfigurationInfo), 1);

    world.with_estate(|estate, now| {
        let service = Entity::service("fabric:/App10/Orders");
        estate.suspend(&service, now).unwrap();
        let own = Entity::Partition(world.bare);
        estate.enable(&own, "Daily", now).unwrap();
    });
    let snapshot = watch.cycle().await;
    assert_eq!(state(&snapshot, world.app10), Protection::Suspended);
    let applied = partition(&snapshot, world.bare).applied.as_deref().unwrap();
    assert_eq!(applied.policy, Some(("Daily".into(), Level::Partition)));
    // Its health is read from the next cycle on.
    let snapshot = watch.cycle().await;
    assert_eq!(state(&snapshot, world.bare), Protection::Pending);
}

#[tokio::test]
async fn without_policies_an_application_that_denies_its_protection_is_not_known() {
    let world = World::switched(not_found()).await;
    world.fail(Operation::GetBackupPolicyList);
    let watch = Setup::default().watch(&world.simulator);
    let snapshot = watch.cycle().await;
    assert_eq!(state(&snapshot, world.app10), Protection::Unknown);
    assert_eq!(partition(&snapshot, world.app10).applied, None);
    let expected = [(error(Collector::Policies, "api"), 1)].into();
    assert_eq!(watch.errors(), expected);
    assert!(!succeeded(&snapshot, Collector::Policies));
    world.simulator.heal();
    let snapshot = watch.cycle().await;
    assert_eq!(
        states(&snapshot, &world.protected()),
        [Protection::Protected].into()
    );
    assert!(succeeded(&snapshot, Collector::Configuration));
}

#[tokio::test]
async fn what_belongs_to_an_application_whose_name_begins_alike_is_not_taken_for_its_own() {
    for unconfigured_application in [
        UnconfiguredApplication::Overrides,
        UnconfiguredApplication::NotFound,
    ] {
        let options = Options {
            switches: Switches {
                prefixes: Prefixes::Clash,
                unconfigured_application,
                ..Switches::default()
            },
            ..Options::default()
        };
        let world = World::with(options, |estate| {
            let now = clock::now();
            let application = Entity::application("fabric:/App1");
            estate.disable(&application, now).unwrap();
        })
        .await;
        let watch = Setup::default().watch(&world.simulator);
        let snapshot = watch.cycle().await;
        assert_eq!(state(&snapshot, world.carts), Protection::Unprotected);
        assert_eq!(state(&snapshot, world.app10), Protection::Protected);
        assert_eq!(failed(&snapshot), Vec::new());
    }
}

#[tokio::test]
async fn an_override_inside_a_suspended_application_is_suspended_too() {
    let world = World::start().await;
    world.with_estate(|estate, now| {
        let service = Entity::service("fabric:/App1/Carts");
        estate.enable(&service, "Daily", now).unwrap();
        let application = Entity::application("fabric:/App1");
        estate.suspend(&application, now).unwrap();
    });
    let watch = Setup::default().watch(&world.simulator);
    let snapshot = watch.cycle().await;
    let applied = partition(&snapshot, world.carts)
        .applied
        .as_deref()
        .unwrap();
    assert_eq!(applied.policy, Some(("Daily".into(), Level::Service)));
    assert_eq!(applied.suspended, Some(Level::Application));
    let app1: Vec<_> = world
        .protected()
        .into_iter()
        .filter(|id| *id != world.app10)
        .collect();
    assert_eq!(states(&snapshot, &app1), [Protection::Suspended].into());
    assert_eq!(state(&snapshot, world.app10), Protection::Protected);
}

#[tokio::test]
async fn nothing_ever_requested_is_an_answer_and_nothing_set_is_one_too() {
    let world = World::start().await;
    let watch = Setup::default().watch(&world.simulator);
    let snapshot = watch.cycle().await;
    // Progress and restore answer 200 and null, the configuration answers 404.
    let known = partition(&snapshot, world.bare);
    assert_eq!(known.progress.as_ref().unwrap().value, None);
    assert_eq!(known.restore.unwrap().value, None);
    assert!(!known.has_policy() && known.applied_at.is_some());
    assert_eq!(failed(&snapshot), Vec::new());
    assert_eq!(watch.errors(), BTreeMap::new());
}

#[tokio::test]
async fn a_restore_shows_its_state() {
    let world = World::start().await;
    let plan = RestorePlan {
        accepted_for: HOUR,
        ..RestorePlan::default()
    };
    world.with_estate(|estate, now| {
        estate
            .request_restore(world.carts, None, plan, now)
            .unwrap();
    });
    let watch = Setup::default().watch(&world.simulator);
    let snapshot = watch.cycle().await;
    let restore = partition(&snapshot, world.carts).restore.unwrap().value;
    assert_eq!(restore.unwrap().state, RestoreState::Accepted);
    assert_eq!(restore.unwrap().timestamp, None);
    let page = watch.page();
    let current = page.value(
        "servicefabric_backup_restore_state",
        &[("state", "Accepted")],
    );
    assert_eq!(current, Some(1.0));
}

const EXPECTS: Rules = Rules {
    expected_interval: Some(TimeDelta::hours(1)),
    ..RULES
};

/// An estate without policies: one partition with a young success, one with an old one, one
/// without any.
async fn requests_only() -> (Simulator, [Uuid; 3]) {
    let now = clock::now();
    let mut estate = Estate::empty(3, now);
    let names = ["young", "old", "none"].map(str::to_owned);
    let (application, service) = ("fabric:/Shop", "fabric:/Shop/Orders");
    let scheme = Scheme::Named(names.to_vec());
    let kind = ServiceKind::Persisted;
    let ids = estate.add_service(application, service, kind, scheme, now);
    estate.conclude(ids[0], Outcome::Success, now - TimeDelta::minutes(5));
    estate.conclude(ids[1], Outcome::Success, now - TimeDelta::hours(5));
    let simulator = simulate(estate, Options::default()).await;
    (simulator, ids.try_into().unwrap())
}

#[tokio::test]
async fn requested_backups_are_judged_by_the_interval_that_is_expected() {
    let (simulator, [young, old, none]) = requests_only().await;
    for configuration in [true, false] {
        let (keys, rules) = if configuration {
            ("expected_interval: 1h", EXPECTS)
        } else {
            let rules = Rules {
                reads_configuration: false,
                ..EXPECTS
            };
            (
                "expected_interval: 1h, collectors: {configuration: false, policies: false}",
                rules,
            )
        };
        let watch = Setup::cluster(keys).watch(&simulator);
        let snapshot = watch.cycle().await;
        let now = clock::now();
        let told = [young, old, none].map(|id| verdict(&snapshot, id, &rules, now).state);
        let expected = [
            Protection::Protected,
            Protection::Overdue,
            Protection::Pending,
        ];
        assert_eq!(told, expected, "{keys}");
        let since = partition(&snapshot, none).known_since;
        let due = since + TimeDelta::hours(1);
        assert_eq!(verdict(&snapshot, none, &rules, now).due, Some(due));
        let patient = Rules {
            staleness: TimeDelta::days(1),
            ..rules
        };
        let late = due + rules.overdue_allowance;
        let at = |now| verdict(&snapshot, none, &patient, now).state;
        assert_eq!(at(late), Protection::Pending);
        assert_eq!(
            at(late + TimeDelta::nanoseconds(1)),
            Protection::NeverBackedUp
        );
        assert_eq!(failed(&snapshot), Vec::new());
    }
    // Without an expectation, nobody says that there should be a backup.
    let snapshot = Setup::default().watch(&simulator).cycle().await;
    assert_eq!(
        states(&snapshot, &[young, old, none]),
        [Protection::Unprotected].into()
    );
}

#[tokio::test]
async fn what_is_expected_cannot_be_judged_without_progress() {
    let (simulator, [young, old, none]) = requests_only().await;
    let progress = Filter::Operation(Operation::GetPartitionBackupProgress);
    simulator.inject(Fault::InternalError, progress);
    let watch = Setup::cluster("expected_interval: 1h").watch(&simulator);
    let snapshot = watch.cycle().await;
    for id in [young, old, none] {
        let told = verdict(&snapshot, id, &EXPECTS, clock::now());
        assert_eq!((told.state, told.due), (Protection::Unknown, None));
    }
    assert_eq!(failed(&snapshot), [Collector::Progress]);
}

#[tokio::test]
async fn a_policy_goes_before_what_is_expected() {
    let world = World::start().await;
    let watch = Setup::cluster("expected_interval: 1m").watch(&world.simulator);
    let snapshot = watch.cycle().await;
    let rules = Rules {
        expected_interval: Some(TimeDelta::minutes(1)),
        ..RULES
    };
    let now = clock::now();
    let told = verdict(&snapshot, world.carts, &rules, now);
    let success = partition(&snapshot, world.carts).last_success.clone();
    assert_eq!(told.due, Some(success.unwrap().at + TimeDelta::hours(1)));
    // It is a day old, and this process does not know whether it was ever backed up in time.
    let bare = verdict(&snapshot, world.bare, &rules, now);
    assert_eq!(bare.state, Protection::Unknown);
}

#[tokio::test]
async fn a_cycle_asks_each_thing_once_and_nothing_of_what_cannot_be() {
    use Operation as Op;
    let world = World::start().await;
    let watch = Setup::default().watch(&world.simulator);
    for cycles in 1..=3 {
        watch.cycle().await;
        for (operation, each) in [
            (Op::GetPartitionBackupProgress, 5),
            (Op::GetPartitionRestoreProgress, 5),
            // The one without protection has nothing periodic.
            (Op::GetPartitionHealth, 4),
            (Op::GetApplicationBackupConfigurationInfo, 3),
            (Op::GetBackupPolicyList, 1),
            (Op::GetApplicationBackupList, 0),
            (Op::GetServiceBackupConfigurationInfo, 0),
            (Op::GetPartitionBackupConfigurationInfo, 0),
        ] {
            let asked = requests(&world.simulator, operation);
            assert_eq!(asked, cycles * each, "{operation:?}");
        }
    }
    watch.list().await;
    let listed = requests(&world.simulator, Op::GetApplicationBackupList);
    assert_eq!(
        listed, 2,
        "one for each application with something protected"
    );
}

#[tokio::test]
async fn lists_are_read_on_an_interval_of_their_own() {
    let world = World::start().await;
    let mut setup = Setup::default();
    setup.poll.interval = Duration::from_millis(20);
    setup.poll.backups_interval = HOUR;
    let Watch {
        poller, snapshots, ..
    } = setup.watch(&world.simulator);
    let asked = |operation| requests(&world.simulator, operation);
    let five_cycles = eventually("five cycles and a list", async || {
        let cycles = asked(Operation::GetBackupPolicyList);
        let snapshot = Arc::clone(&snapshots.borrow());
        let mut known = snapshot.partitions.values();
        let is_listed = known.any(|known| known.listed_at.is_some());
        (cycles >= 5 && is_listed).then_some(())
    });
    tokio::select! {
        () = poller.run() => unreachable!("a poller runs without end"),
        () = five_cycles => {}
    }
    assert_eq!(asked(Operation::GetApplicationBackupList), 2);
}

#[tokio::test]
async fn one_limit_holds_for_all_that_is_asked_at_a_time() {
    let options = Options {
        latency: Latency::Fixed(Duration::from_millis(2)),
        ..Options::default()
    };
    let world = World::with(options, |estate| {
        let born = clock::now() - TimeDelta::days(1);
        let (service, kind) = ("fabric:/App1/Wide", ServiceKind::Persisted);
        estate.add_service("fabric:/App1", service, kind, Scheme::Ranges(60), born);
    })
    .await;
    let mut setup = Setup::default();
    setup.poll.concurrency = 3;
    let watch = setup.watch(&world.simulator);
    watch.cycle().await;
    let both = async { tokio::join!(watch.cycle(), watch.list()) };
    timeout(PATIENCE, both).await.unwrap();
    assert_eq!(failed(&watch.snapshot()), Vec::new());
    assert_eq!(world.simulator.peak_in_flight(), 3);
}

#[tokio::test]
async fn a_protected_partition_that_vanishes_within_a_cycle_is_no_failure() {
    let world = World::start().await;
    let mut watch = Setup::default().watch(&world.simulator);
    watch.cycle().await;
    let victim = world.protected().into_iter().next_back().unwrap();
    watch.snapshots.mark_unchanged();
    {
        // The last one is asked about when most of this time has passed.
        let cycle = watch.poller.cycle(Duration::from_secs(2));
        let listed = async {
            watch.snapshots.changed().await.unwrap();
            world.with_estate(|estate, _| estate.remove_partition(victim));
        };
        timeout(PATIENCE, async { tokio::join!(cycle, listed) })
            .await
            .expect("a cycle ends");
    }
    let snapshot = watch.snapshot();
    assert_eq!(failed(&snapshot), Vec::new());
    assert_eq!(watch.errors(), BTreeMap::new());
    assert!(partition(&snapshot, victim).last_success.is_some());
}

/// What a process that starts now remembers of this snapshot.
fn restarted(snapshot: Arc<Snapshot>) -> Snapshot {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    StateFile::new(path.clone()).save(&[snapshot]).unwrap();
    let mut loaded = state_file::load(&path, clock::now()).unwrap();
    loaded.clusters.remove("test").unwrap()
}

#[tokio::test]
async fn a_resumption_while_the_exporter_was_down_grants_an_interval() {
    let world = World::start().await;
    let application = Entity::application("fabric:/App1");
    world.with_estate(|estate, now| estate.suspend(&application, now).unwrap());
    let watch = Setup::default().watch(&world.simulator);
    let before = watch.cycle().await;
    assert_eq!(state(&before, world.carts), Protection::Suspended);
    let success = partition(&before, world.app10).last_success.clone();
    assert!(success.is_some());
    let memory = restarted(before);
    world.with_estate(|estate, now| estate.resume(&application, now).unwrap());
    let watch = Setup::default().watch_from(&world.simulator, &[], memory);
    let after = watch.cycle().await;
    let resumed = partition(&after, world.carts);
    assert_eq!(resumed.changed_at, resumed.applied_at);
    let due = verdict(&after, world.carts, &RULES, clock::now()).due;
    assert_eq!(due, Some(resumed.changed_at.unwrap() + TimeDelta::hours(1)));
    let untouched = partition(&after, world.app10);
    assert_eq!(untouched.changed_at, None);
    assert_eq!(untouched.last_success, success);
}

#[tokio::test]
async fn a_restart_alone_grants_nothing() {
    let world = World::start().await;
    let watch = Setup::default().watch(&world.simulator);
    let before = watch.cycle().await;
    let memory = restarted(Arc::clone(&before));
    let unread = state(&memory, world.carts);
    assert_eq!(unread, Protection::Unknown, "nothing was read yet");
    let watch = Setup::default().watch_from(&world.simulator, &[], memory);
    let after = watch.cycle().await;
    for id in world.protected() {
        let [then, now] = [&before, &after].map(|snapshot| partition(snapshot, id).clone());
        assert_eq!(now.changed_at, None);
        assert_eq!(now.protected_since, then.protected_since);
        assert_eq!(state(&after, id), Protection::Protected);
    }
}
