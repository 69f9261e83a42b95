//! Actor services: `ReplicatedStore.BackupAsyncOperation.cpp`, `KeyValueStoreReplica.cs`.

use super::*;

#[test]
fn every_backup_of_an_actor_service_is_full_and_has_no_numbers() {
    let mut world = GatewayState::of_actors(hourly());
    world.tick(start() + 6 * HOUR);
    let backups = world.backups();
    assert!(backups.len() >= 5);
    for backup in &backups {
        assert!(backup.full && backup.lsn.is_none() && backup.chain == backup.id);
        assert_eq!(backup.validation, Validation::None);
    }
}

#[test]
fn a_failed_upload_reports_ok_and_waits_an_interval_before_the_first_success() {
    let mut world = GatewayState::of_actors(hourly());
    world
        .estate
        .fail_storage("Hourly", start()..start() + 24 * HOUR);
    for _ in 0..5 {
        let failed = world.until_failure();
        assert_around(world.next(), failed + HOUR);
        assert_eq!(world.kind(failed), Some(HealthReportKind::BackedUp));
    }
    assert!(world.stored(world.id).is_empty());
}

#[test]
fn with_an_old_recovery_point_the_next_attempt_follows_within_seconds_again_and_again() {
    let mut world = GatewayState::of_actors(hourly());
    let ended = world.until_backup();
    world.estate.fail_storage("Hourly", ended..ended + 3 * HOUR);
    let failures: Vec<_> = (0..50).map(|_| world.until_failure()).collect();
    let attempt = TimeDelta::from_std(SNAPSHOT + UPLOAD).unwrap();
    for pair in failures.windows(2) {
        let pause = (pair[1] - pair[0] - attempt).num_milliseconds();
        assert!((0..=10_000).contains(&pause), "{pause}");
    }
    assert_eq!(world.kind(world.now()), Some(HealthReportKind::BackedUp));
    assert_eq!(world.backups().len(), 1);
}

#[test]
fn a_daily_schedule_waits_for_the_next_run_after_a_failed_upload() {
    let mut world = GatewayState::of_actors(daily(&[17]));
    world
        .estate
        .fail_storage("Hourly", start()..start() + 24 * HOUR);
    let failed = world.until_failure();
    let run = failed.date_naive().and_hms_opt(17, 0, 0).unwrap().and_utc();
    assert_around(world.next(), run + 24 * HOUR);
    assert_eq!(world.kind(failed), Some(HealthReportKind::BackedUp));
}

#[test]
fn a_discarded_backup_reports_ok_through_the_suspension() {
    let mut world = GatewayState::of_slow_actors();
    world.until_backup();
    let now = world.in_flight(true);
    world.estate.suspend(&app(), now).unwrap();
    let failed = world.until_failure();
    assert_eq!(world.kind(failed), Some(HealthReportKind::BackedUp));
    assert_eq!(world.backups().len(), 2);
    assert_eq!(world.next(), None);
}

#[test]
fn an_update_discards_the_backup_under_way_and_an_interval_counts_from_its_end() {
    let mut world = GatewayState::of_slow_actors();
    world.until_backup();
    let now = world.in_flight(true);
    world.estate.update_policy("Hourly", now, |_| {});
    let failed = world.until_failure();
    assert_around(world.next(), failed + HOUR);
}

#[test]
fn without_the_fault_a_failed_upload_is_a_warning_and_is_retried() {
    let mut world = GatewayState::of_actors(hourly());
    world.estate.set_behaviour(Behaviour::without_faults());
    world
        .estate
        .fail_storage("Hourly", start()..start() + 24 * HOUR);
    let failed = world.until_failure();
    assert_eq!(world.kind(failed), Some(HealthReportKind::Failed));
    let pause = world.next().map(|it| it - failed);
    assert!(pause.is_some_and(|it| it <= TimeDelta::seconds(63)));
}

#[test]
fn the_record_of_a_failed_upload_shows_the_former_request_of_the_same_primary() {
    let copier = || {
        let code = Code::Name("FABRIC_E_BACKUPCOPIER_ACCESS_DENIED".to_owned());
        BackupPlan {
            outcome: Outcome::Failure(code, "Access denied.".to_owned()),
            ..BackupPlan::default()
        }
    };
    let mut world = GatewayState::of_actors(hourly());
    let request = |world: &mut GatewayState, plan, now: DateTime<Utc>| {
        world.request(plan, now);
        world.tick(now + MINUTE);
        world.estate.record(world.id).unwrap()
    };
    let first = request(&mut world, copier(), start());
    assert_eq!(first["BackupState"], "Failure");
    assert_eq!(first["FailureError"]["Code"], "E_POINTER");
    let good = request(&mut world, BackupPlan::default(), start() + 2 * MINUTE);
    assert_eq!(good["BackupState"], "Success");
    assert_eq!(good["LsnOfLastBackupRecord"], -1);
    assert_eq!(good["EpochOfLastBackupRecord"]["DataLossVersion"], "-1");
    let bad = request(&mut world, copier(), start() + 10 * MINUTE);
    assert_eq!(bad, good, "id, time and location of the former request");
    let moved = start() + 20 * MINUTE;
    world.estate.move_primary(world.id, moved);
    let next = request(&mut world, copier(), moved);
    assert_eq!(next["FailureError"]["Code"], "E_POINTER");
    let snapshot = BackupPlan {
        outcome: Outcome::Failure(Code::Number(0x8013_1500), "no".to_owned()),
        ..BackupPlan::default()
    };
    let failed = request(&mut world, snapshot, moved + 2 * MINUTE);
    assert_eq!(failed["FailureError"]["Code"], 0x8013_1500_u32);
}
