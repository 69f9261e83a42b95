//! Changes of primary: `BackupRestoreManager.cs`, `BackupTimer.cs`, `LoggingReplicator.cs`.

use super::*;

#[test]
fn a_new_primary_keeps_the_schedule_and_begins_a_chain() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    let moved = ended + 30 * MINUTE;
    world.estate.move_primary(world.id, moved);
    assert_scheduled(world.next(), ended);
    world.until_backup();
    let backups = world.backups();
    assert!(backups[1].full);
    let primary = |it: &Backup| it.epoch.configuration >> 32;
    assert_eq!(primary(&backups[1]), primary(&backups[0]) + 1);
}

#[test]
fn a_missed_run_is_made_up_at_once_but_only_after_a_success() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    // Five retries fail, so the run is missed.
    world
        .estate
        .fail_storage("Hourly", ended..ended + HOUR + 20 * MINUTE);
    let moved = ended + HOUR + 30 * MINUTE;
    world.estate.move_primary(world.id, moved);
    assert_at_once(world.next(), moved);

    let mut world = GatewayState::hourly();
    world
        .estate
        .fail_storage("Hourly", start()..start() + HOUR + 20 * MINUTE);
    let moved = start() + HOUR + 30 * MINUTE;
    world.estate.move_primary(world.id, moved);
    assert_around(world.next(), moved + HOUR);
}

#[test]
fn a_partition_that_moves_more_often_than_its_interval_never_gets_its_first_backup() {
    let mut world = GatewayState::hourly();
    for move_number in 1..100 {
        let moved = start() + move_number * 50 * MINUTE;
        world.estate.move_primary(world.id, moved);
        world.tick(moved);
        assert_around(world.next(), moved + HOUR);
    }
    assert_eq!(world.estate.attempts(), 0);
}

#[test]
fn the_retries_of_a_run_start_anew_with_the_primary() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    world.estate.fail_storage("Hourly", ended..ended + 3 * HOUR);
    for _ in 0..4 {
        world.until_failure();
    }
    let moved = world.now();
    world.estate.move_primary(world.id, moved);
    for _ in 0..5 {
        world.until_failure();
        let pause = world.next().unwrap() - world.now();
        assert!(pause <= TimeDelta::seconds(63), "{pause}");
    }
}

#[test]
fn a_move_waits_for_the_upload_which_is_listed_and_not_counted() {
    let mut world = GatewayState::hourly();
    world.until_backup();
    let now = world.in_flight(true);
    let before = world.counted(world.id);
    world.estate.move_primary(world.id, now);
    let moved = world.until(world.id, |it| it == EstateEventKind::PrimaryMoved);
    assert!(moved > now, "the change of role waits");
    assert_eq!(world.backups().len(), 2);
    assert_eq!(world.counted(world.id), before);
    assert_at_once(world.next(), moved);
    let again = world.until_backup();
    assert!(again - moved <= TimeDelta::seconds(10 + 22));
    assert!(world.backups()[2].full);
}

#[test]
fn a_first_backup_under_way_at_a_move_is_listed_and_comes_again_one_interval_later() {
    let mut world = GatewayState::hourly();
    world.tick(start() + MINUTE);
    let now = world.in_flight(true);
    world.estate.move_primary(world.id, now);
    let moved = world.until(world.id, |it| it == EstateEventKind::PrimaryMoved);
    assert_eq!(world.backups().len(), 1);
    assert_eq!(world.kind(moved), None, "not primary: no report");
    assert_around(world.next(), moved + HOUR);
}

#[test]
fn a_replica_that_closes_during_the_snapshot_reports_ok_without_a_backup() {
    let closing = |behaviour, uploading| {
        let mut world = GatewayState::hourly();
        world.estate.set_behaviour(behaviour);
        world.tick(start() + MINUTE);
        let now = world.in_flight(uploading);
        world.estate.close_primary(world.id, now);
        assert!(world.backups().is_empty());
        assert_around(world.next(), now + HOUR);
        world.kind(now)
    };
    assert_eq!(
        closing(Behaviour::default(), false),
        Some(HealthReportKind::BackedUp)
    );
    assert_eq!(
        closing(Behaviour::default(), true),
        Some(HealthReportKind::Failed)
    );
    let fixed = Behaviour::without_faults();
    assert_eq!(closing(fixed, false), Some(HealthReportKind::Failed));
}

#[test]
fn the_next_primary_makes_up_for_a_cancelled_backup_after_a_success() {
    let mut world = GatewayState::hourly();
    world.until_backup();
    let now = world.in_flight(true);
    world.estate.close_primary(world.id, now);
    assert_at_once(world.next(), now);
    let overwritten = world.kind(now + MINUTE);
    assert_eq!(overwritten, Some(HealthReportKind::BackedUp));
    assert_eq!(world.counted(world.id), 2);
}

#[test]
fn the_clock_of_the_node_dates_recovery_points_backups_and_reports() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    let behind = TimeDelta::minutes(-90);
    world
        .estate
        .move_primary_to(world.id, behind, ended + MINUTE);
    // By its clock the recovery point lies ahead, and the interval counts from there.
    assert_scheduled(world.next(), ended - behind);
    let second = world.until_backup();
    assert_eq!(world.kind(second), Some(HealthReportKind::BackedUp));
    let shown = world.estate.last_attempt(world.id, second + HOUR / 2);
    let (at, _) = shown.unwrap();
    assert!(
        (second + behind - at).abs() < TimeDelta::seconds(1),
        "the clock of the node"
    );
    let known = world.backups()[1].taken;
    assert!(known < second + behind && known > second + behind - TimeDelta::minutes(1));
}

#[test]
fn a_report_by_a_clock_that_is_behind_the_last_report_is_refused() {
    for (behind, heard) in [(30, Some(HealthReportKind::BackedUp)), (0, None)] {
        let mut world = GatewayState::hourly();
        let ended = world.until_backup();
        let clock = TimeDelta::minutes(-behind);
        world
            .estate
            .move_primary_to(world.id, clock, ended + MINUTE);
        let suspended = ended + 2 * MINUTE;
        world.estate.suspend(&app(), suspended).unwrap();
        assert_eq!(world.kind(suspended + 20 * SECOND), heard, "{behind}");
        assert_eq!(world.next(), None);
    }
}
