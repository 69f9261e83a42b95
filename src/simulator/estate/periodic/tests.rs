//! The course of periodic backups, on a world of a few partitions.

use std::time::Duration;

use chrono::TimeDelta;

use super::*;
use crate::simulator::estate::health::Said;
use crate::simulator::estate::{
    Backup, Policy, Refusal, RestorePlan, Retention, Schedule, Storage,
};
use crate::simulator::{Outcome, Plan, Scheme, ServiceKind, Shape};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Most time a backup takes and drifts: 5 s, 60 s, ± 10 s.
const SLACK: TimeDelta = TimeDelta::seconds(75);

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 0).unwrap()
}

fn hourly() -> Policy {
    Policy {
        name: "Hourly".to_owned(),
        auto_restore_on_data_loss: false,
        max_incremental_backups: 3,
        schedule: Schedule::Every(HOUR),
        storage: blob("one"),
        retention: None,
    }
}

fn blob(container: &str) -> Storage {
    Storage::AzureBlob {
        friendly_name: String::new(),
        container: container.to_owned(),
    }
}

fn app() -> Entity {
    Entity::application("fabric:/App")
}

/// One partition, protected by this policy since the start.
fn protected_by(policy: Policy) -> (Estate, Uuid) {
    let mut estate = Estate::empty(7, start());
    let kind = ServiceKind::Persisted;
    let ids = estate.add_service(
        "fabric:/App",
        "fabric:/App/Orders",
        kind,
        Scheme::Singleton,
        start(),
    );
    let name = policy.name.clone();
    estate.add_policy(policy, start());
    estate.enable(&app(), &name, start()).unwrap();
    (estate, ids[0])
}

fn protected() -> (Estate, Uuid) {
    protected_by(hourly())
}

fn backups_after(estate: &mut Estate, id: Uuid, time: Duration) -> Vec<Backup> {
    estate.tick(start() + time);
    estate.backups(id, start() + time)
}

fn assert_about(actual: DateTime<Utc>, expected: DateTime<Utc>) {
    let off = actual - expected;
    let allowed = -TimeDelta::seconds(10)..=SLACK;
    assert!(allowed.contains(&off), "{actual} is {off} off {expected}");
}

#[test]
fn the_first_backup_is_full_and_comes_one_interval_after_protection() {
    let (mut estate, id) = protected();
    let just_before = 59 * MINUTE;
    assert!(backups_after(&mut estate, id, just_before).is_empty());
    let backups = backups_after(&mut estate, id, HOUR + 2 * MINUTE);
    assert_about(backups[0].taken, start() + HOUR);
    assert!(backups[0].full && backups[0].chain == backups[0].id);
    assert_eq!(backups.len(), 1);
}

#[test]
fn backups_are_an_interval_and_their_own_duration_apart() {
    let (mut estate, id) = protected();
    let backups = backups_after(&mut estate, id, 100 * HOUR);
    assert!(backups.len() >= 97, "{}", backups.len());
    let gaps = backups.windows(2).map(|it| it[1].taken - it[0].taken);
    let gaps: Vec<_> = gaps.map(|it| it.num_seconds() - 3600).collect();
    // Upload and snapshot take 6 to 65 s, the jitter is 10 s, and seconds are cut off.
    assert!(gaps.iter().all(|it| (-5..=76).contains(it)), "{gaps:?}");
    let mean = gaps.iter().sum::<i64>() / i64::try_from(gaps.len()).unwrap();
    assert!((25..=47).contains(&mean), "{mean}");
}

#[test]
fn chains_are_as_long_as_the_policy_allows_and_the_lsn_rises() {
    let (mut estate, id) = protected();
    let backups = backups_after(&mut estate, id, 40 * HOUR);
    for (index, backup) in backups.iter().enumerate() {
        assert_eq!(backup.full, index % 4 == 0, "{index}");
        assert_eq!(backup.chain, backups[index - index % 4].id, "{index}");
    }
    assert!(backups.windows(2).all(|it| it[0].lsn < it[1].lsn));
}

#[test]
fn run_times_are_kept_in_utc() {
    let nine = chrono::NaiveTime::from_hms_opt(9, 0, 0).unwrap();
    let (mut estate, id) = protected_by(Policy {
        schedule: Schedule::Daily(vec![nine]),
        ..hourly()
    });
    let backups = backups_after(&mut estate, id, 24 * 10 * HOUR);
    assert_eq!(backups.len(), 10);
    for backup in backups {
        let due = backup.taken.date_naive().and_time(nine).and_utc();
        assert!((0..=5).contains(&(backup.taken - due).num_seconds()));
    }
}

#[test]
fn suspending_removes_the_event_and_resuming_starts_anew() {
    let (mut estate, id) = protected();
    let suspended = start() + 2 * HOUR + 5 * MINUTE;
    estate.suspend(&app(), suspended).unwrap();
    let heard = suspended + Duration::from_millis(2500);
    estate.tick(heard);
    let shown = estate.health_of(id, heard).unwrap().reports;
    assert_eq!(shown[0].said, Said::Disabled);
    let later = suspended + Duration::from_secs(10);
    assert!(estate.health_of(id, later).unwrap().reports.is_empty());
    let before = backups_after(&mut estate, id, 5 * HOUR).len();
    assert_eq!(before, 2);
    let resumed = start() + 6 * HOUR;
    estate.resume(&app(), resumed).unwrap();
    let backups = backups_after(&mut estate, id, 8 * HOUR);
    assert_about(backups[2].taken, resumed + HOUR);
    assert!(backups[2].full);
}

#[test]
fn a_new_version_of_a_policy_costs_one_interval_and_one_full_backup() {
    let (mut estate, id) = protected();
    let updated = start() + HOUR + 30 * MINUTE;
    assert!(estate.update_policy("Hourly", updated, |it| it.max_incremental_backups = 9));
    let backups = backups_after(&mut estate, id, 3 * HOUR);
    assert_about(backups[1].taken, updated + HOUR);
    assert!(backups[1].full);
}

#[test]
fn an_outage_costs_five_retries_and_then_a_whole_interval() {
    let (mut estate, id) = protected();
    let down = start() + 30 * MINUTE;
    estate.fail_storage("Hourly", down..down + HOUR);
    let mut failed = BTreeSet::new();
    let mut states = Vec::new();
    for second in 0..3 * 3600 {
        let now = start() + Duration::from_secs(second);
        estate.tick(now);
        if let Some((at, worked)) = estate.last_attempt(id, now) {
            states.push(worked);
            failed.extend((!worked).then_some(at));
        }
    }
    assert_eq!(failed.len(), 6, "{failed:?}");
    states.dedup();
    assert_eq!(states, [false, true]);
    let failed: Vec<_> = failed.into_iter().collect();
    for pair in failed.windows(2) {
        let apart = (pair[1] - pair[0]).num_seconds();
        assert!((57 + 6..=63 + 65).contains(&apart), "{apart}");
    }
    let backups = estate.backups(id, start() + 3 * HOUR);
    assert_about(backups[0].taken, failed[5] + HOUR);
    assert_eq!(estate.attempts(), 7);
}

#[test]
fn the_record_of_requests_is_never_touched() {
    let (mut estate, id) = protected();
    let before = estate.record(id);
    assert!(backups_after(&mut estate, id, 5 * HOUR).len() > 2);
    assert_eq!(estate.record(id), before);
    estate.conclude(id, Outcome::Timeout, start() + 5 * HOUR);
    let before = estate.record(id);
    estate.tick(start() + 9 * HOUR);
    assert_eq!(estate.record(id), before);
}

#[test]
fn a_requested_backup_is_listed_without_an_event_and_ends_the_chain() {
    let (mut estate, id) = protected();
    let now = start() + HOUR + 30 * MINUTE;
    estate.tick(now);
    let attempt = estate.last_attempt(id, now);
    estate.request_backup(id, Plan::default(), now).unwrap();
    let soon = now + MINUTE;
    estate.tick(soon);
    let backups = estate.backups(id, soon);
    assert_eq!((backups.len(), backups[1].full), (2, true));
    assert_eq!(estate.last_attempt(id, soon), attempt);
    let backups = backups_after(&mut estate, id, 3 * HOUR);
    assert!(backups[2].full && backups[2].chain != backups[1].chain);
}

#[test]
fn requested_and_periodic_backups_take_turns() {
    let (mut estate, id) = protected();
    estate.tick(start() + 30 * MINUTE);
    let due = estate.next_backup(id).unwrap();
    let plan = Plan {
        accepted_for: Duration::from_secs(1),
        running_for: 10 * MINUTE,
        ..Plan::default()
    };
    estate
        .request_backup(id, plan.clone(), due - TimeDelta::minutes(5))
        .unwrap();
    estate.tick(due + TimeDelta::minutes(4));
    assert!(estate.backups(id, due + HOUR).is_empty());
    estate.tick(due + TimeDelta::minutes(8));
    let backups = estate.backups(id, due + HOUR);
    assert!(backups[1].taken >= due + TimeDelta::minutes(5));
    let due = estate.next_backup(id).unwrap();
    estate.request_backup(id, plan, due).unwrap();
    estate.tick(due + TimeDelta::seconds(2));
    assert_eq!(estate.record(id).unwrap()["BackupState"], "Accepted");
    estate.tick(due + HOUR);
    let backups = estate.backups(id, due + HOUR);
    assert!(backups.windows(2).all(|it| it[0].lsn < it[1].lsn));
    assert!(backups.len() >= 4);
}

#[test]
fn retention_deletes_whole_chains_but_not_below_its_minimum() {
    let retention = Retention {
        duration: 10 * HOUR,
        minimum: 2,
    };
    let (mut estate, id) = protected_by(Policy {
        retention: Some(retention),
        ..hourly()
    });
    let now = start() + 60 * HOUR;
    let backups = backups_after(&mut estate, id, 60 * HOUR);
    assert!((9..=14).contains(&backups.len()), "{}", backups.len());
    assert!(backups[0].full);
    let mut newest_first = backups.iter().rev();
    let end = newest_first.find(|it| it.chain == backups[0].chain);
    assert!(end.unwrap().taken >= now - 10 * HOUR);
    estate.stop_silently([id], now);
    let kept = backups_after(&mut estate, id, 500 * HOUR);
    assert!((2..=5).contains(&kept.len()), "{}", kept.len());
}

#[test]
fn a_silent_stop_leaves_the_last_event_ok_and_a_new_policy_ends_it() {
    let (mut estate, id) = protected();
    let stopped = start() + 3 * HOUR + 30 * MINUTE;
    estate.stop_silently([id], stopped);
    let now = start() + 200 * HOUR;
    assert_eq!(backups_after(&mut estate, id, 200 * HOUR).len(), 3);
    let (at, worked) = estate.last_attempt(id, now).unwrap();
    assert!(worked && at < stopped);
    assert_eq!(estate.next_backup(id), None);
    assert!(estate.update_policy("Hourly", now, |_| {}));
    assert_eq!(backups_after(&mut estate, id, 202 * HOUR).len(), 4);
}

#[test]
fn backups_outlive_their_partition_and_are_out_of_sight_in_another_storage() {
    let (mut estate, id) = protected();
    let now = start() + 5 * HOUR;
    assert_eq!(backups_after(&mut estate, id, 5 * HOUR).len(), 4);
    estate.remove_partition(id);
    let listed = |estate: &Estate| estate.listed(&app(), now).unwrap().len();
    assert_eq!(listed(&estate), 4);
    estate.update_policy("Hourly", now, |it| it.storage = blob("two"));
    assert_eq!(listed(&estate), 0);
    estate.update_policy("Hourly", now, |it| it.storage = blob("one"));
    assert_eq!(listed(&estate), 4);
}

#[test]
fn newcomers_are_protected_like_their_application_when_they_have_state() {
    let (mut estate, _) = protected();
    let born = start() + 5 * MINUTE;
    let mut add = |name, kind| {
        let service = format!("fabric:/App/{name}");
        estate.add_service("fabric:/App", &service, kind, Scheme::Singleton, born)[0]
    };
    let persisted = add("Carts", ServiceKind::Persisted);
    let volatile = add("Cache", ServiceKind::Volatile);
    estate.tick(born + MINUTE);
    assert_about(estate.next_backup(persisted).unwrap(), born + HOUR);
    assert_eq!(estate.next_backup(volatile), None);
    let cache = Entity::Partition(volatile);
    let refused = estate.enable(&cache, "Hourly", born);
    assert_eq!(refused, Err(Refusal::Stateless));
}

#[test]
fn the_nearest_level_decides_on_the_policy_and_any_level_suspends() {
    let (mut estate, id) = protected();
    let partition = Entity::Partition(id);
    let service = Entity::service("fabric:/App/Orders");
    let mut other = hourly();
    other.name = "Other".to_owned();
    estate.add_policy(other, start());
    estate.enable(&partition, "Other", start()).unwrap();
    estate.suspend(&service, start()).unwrap();
    let found = estate.protection(&partition).unwrap();
    assert_eq!((&*found.policy, found.from), ("Other", "Partition"));
    assert_eq!(found.suspended_from, Some("Service"));
    estate.disable(&partition, start()).unwrap();
    assert_eq!(estate.protection(&partition).unwrap().from, "Application");
    estate.resume(&service, start()).unwrap();
    assert!(estate.remove_policy("Hourly", start()));
    assert_eq!(estate.protection(&partition), None);
    assert_eq!(
        estate.enable(&partition, "Hourly", start()),
        Err(Refusal::NoSuchPolicy)
    );
}

#[test]
fn a_move_of_the_primary_loses_the_backup_under_way_and_takes_another_at_once() {
    let (mut estate, id) = protected();
    estate.tick(start() + HOUR + 30 * MINUTE);
    let due = estate.next_backup(id).unwrap();
    let moved = due + TimeDelta::seconds(3);
    estate.move_primary(id, moved);
    assert_eq!(estate.next_backup(id), Some(moved));
    estate.tick(due + TimeDelta::minutes(2));
    let backups = estate.backups(id, due + HOUR);
    assert_eq!(backups.len(), 2);
    assert!(backups[1].full && backups[1].taken >= moved);
}

#[test]
fn a_restore_makes_a_new_epoch_and_a_new_chain() {
    let (mut estate, id) = protected();
    let now = start() + 3 * HOUR + 30 * MINUTE;
    estate.tick(now);
    let before = estate.backups(id, now);
    let first = Some(before[0].id);
    let plan = RestorePlan::default();
    estate.request_restore(id, first, plan, now).unwrap();
    let mut seen = Vec::new();
    for second in 0..60 {
        let now = now + Duration::from_secs(second);
        estate.tick(now);
        let restore = estate.restore_of(id).unwrap();
        assert_eq!(restore.target, Some((before[0].epoch, before[0].lsn)));
        seen.push(restore.state.word());
        if restore.ended.is_none() {
            let refused = estate.request_backup(id, Plan::default(), now);
            assert_eq!(refused, Err(Refusal::RestoreInProgress));
        }
    }
    seen.dedup();
    let states = [
        "Accepted",
        "RestoreInProgress",
        "SecondariesInProgress",
        "Success",
    ];
    assert_eq!(seen, states);
    let backups = backups_after(&mut estate, id, 5 * HOUR);
    let (old, new) = (&backups[2], &backups[3]);
    assert!(new.full && new.chain != old.chain);
    let expected = super::super::filetime(now + Duration::from_secs(35));
    assert_eq!(new.epoch.data_loss, expected);
    let reports = estate.health_of(id, now + HOUR).unwrap().reports;
    assert!(reports.iter().any(|it| it.said == Said::Restored));
    let reports = estate.health_of(id, now + 3 * HOUR).unwrap().reports;
    assert!(reports.iter().all(|it| it.said != Said::Restored));
}

#[test]
fn a_jump_of_ten_days_equals_ten_days_in_minutes() {
    let run = |step: Duration| {
        let shape = Shape {
            seed: 3,
            applications: 3,
            services_per_application: 2,
            partitions_per_service: 3,
        };
        let mut estate = Estate::generate(&shape, start());
        estate.add_policy(hourly(), start());
        for name in estate.application_names() {
            let application = Entity::Application(name);
            estate.enable(&application, "Hourly", start()).unwrap();
        }
        let ids = estate.partition_ids();
        estate.fail_storage("Hourly", start() + 20 * HOUR..start() + 23 * HOUR);
        estate.stop_silently([ids[0]], start() + 100 * HOUR);
        let plan = Plan::default();
        estate.request_backup(ids[1], plan, start() + HOUR).unwrap();
        let end = start() + 240 * HOUR;
        let mut now = start();
        while now < end {
            now = (now + step).min(end);
            estate.tick(now);
        }
        let told = ids.iter().map(|id| {
            let backups = estate.backups(*id, end);
            (
                backups,
                estate.last_attempt(*id, end),
                estate.next_backup(*id),
            )
        });
        (told.collect::<Vec<_>>(), estate.attempts())
    };
    let jump = run(240 * HOUR);
    assert_eq!(jump, run(MINUTE));
    assert_eq!(jump, run(7 * HOUR));
}

#[test]
fn a_tick_of_one_hundred_thousand_partitions_looks_at_what_is_due_only() {
    let shape = Shape {
        seed: 1,
        applications: 50,
        services_per_application: 20,
        partitions_per_service: 100,
    };
    let mut estate = Estate::generate(&shape, start());
    estate.add_policy(hourly(), start());
    for name in estate.application_names() {
        let application = Entity::Application(name);
        estate.enable(&application, "Hourly", start()).unwrap();
    }
    estate.tick(start() + 50 * MINUTE);
    assert_eq!(estate.attempts(), 0);
    assert_eq!(estate.periodic.replicas.len(), 100_000);
    estate.tick(start() + HOUR + 2 * MINUTE);
    assert_eq!(estate.attempts(), 100_000);
    assert_eq!(estate.periodic.replicas.len(), 100_000);
}
