//! On-demand backups: `BackupPartitionWorkItem.cs`, `BackupRestoreServiceImpl.cs`,
//! `BackupRestoreManager.cs`, `BackupNowAsync`.

use super::*;

fn plan(running_for: Duration, timeout: Option<Duration>) -> BackupPlan {
    BackupPlan {
        accepted_for: 5 * SECOND,
        running_for,
        outcome: Outcome::Success,
        timeout,
    }
}

#[test]
fn a_requested_backup_moves_neither_timer_nor_recovery_point_and_makes_the_next_one_full() {
    let mut world = GatewayState::hourly();
    world.until_backup();
    let due = world.until_backup();
    let next = world.next();
    let point = world
        .estate
        .backup_service
        .replica_mut(world.id)
        .metadata
        .recovery_point;
    let now = due + 10 * MINUTE;
    world.request(plan(20 * SECOND, None), now);
    world.tick(now + MINUTE);
    assert_eq!(world.state(), "Success");
    assert_eq!(world.next(), next);
    let metadata = &world.estate.backup_service.replica_mut(world.id).metadata;
    assert_eq!(metadata.recovery_point, point);
    assert_eq!(
        world.kind(now + MINUTE),
        Some(HealthReportKind::BackedUp),
        "no event of its own"
    );
    let (reported, _) = world
        .estate
        .last_attempt(world.id, now + 2 * MINUTE)
        .unwrap();
    assert!(reported <= due);
    world.until_backup();
    let full: Vec<_> = world.backups().iter().map(|it| it.full).collect();
    assert_eq!(full, [true, false, true, true]);
}

#[test]
fn a_periodic_backup_waits_for_a_requested_one() {
    let mut world = GatewayState::hourly();
    world.tick(start() + MINUTE);
    let due = world.next().unwrap();
    let now = due - TimeDelta::minutes(5);
    world.request(plan(10 * MINUTE, None), now);
    world.tick(due + TimeDelta::seconds(1));
    let ends = now + 5 * SECOND + 10 * MINUTE;
    assert_eq!(world.next(), Some(ends));
    world.until_backup();
    assert_eq!(world.stored(world.id)[1], ends + SNAPSHOT);
}

#[test]
fn a_requested_backup_waits_for_a_periodic_one_and_is_in_progress_meanwhile() {
    let mut world = GatewayState::hourly();
    world.tick(start() + MINUTE);
    let now = world.in_flight(false);
    world.request(plan(10 * SECOND, None), now);
    world.tick(now + 6 * SECOND);
    assert_eq!(world.state(), "BackupInProgress");
    let ended = world.until_backup();
    let requested = world.until(world.id, |it| {
        matches!(it, EstateEventKind::BackedUpOnRequest { .. })
    });
    assert_eq!(requested, ended + 10 * SECOND);
}

#[test]
fn a_result_after_the_timeout_is_dropped_although_the_backup_is_stored() {
    let mut world = GatewayState::hourly();
    // The primary counts its own timeout from when it was asked, five seconds later.
    let late = plan(62 * SECOND, Some(MINUTE));
    world.request(late, start());
    world.tick(start() + MINUTE);
    assert_eq!(world.state(), "Timeout");
    world.tick(start() + 2 * MINUTE);
    assert_eq!(world.state(), "Timeout");
    assert!(
        world.stored(world.id).is_empty(),
        "the primary cancelled it after 60 s"
    );

    let mut world = GatewayState::hourly();
    let late = plan(58 * SECOND, Some(MINUTE));
    world.request(late, start());
    world.tick(start() + 2 * MINUTE);
    assert_eq!(world.state(), "Timeout");
    assert_eq!(world.stored(world.id).len(), 1);
    assert!(
        world
            .log
            .iter()
            .any(|it| it.what == EstateEventKind::RequestFailed)
    );
}

#[test]
fn a_request_stays_accepted_while_the_primary_is_busy_with_an_older_one() {
    let mut world = GatewayState::hourly();
    let late = plan(58 * SECOND, Some(MINUTE));
    world.request(late, start());
    let again = start() + MINUTE;
    let next = BackupPlan {
        accepted_for: 2 * SECOND,
        ..plan(10 * SECOND, None)
    };
    world.request(next, again);
    world.tick(again + 10 * SECOND);
    assert_eq!(world.state(), "Accepted");
    // Sent again every 30 s.
    world.tick(again + 33 * SECOND);
    assert_eq!(world.state(), "BackupInProgress");
    world.tick(again + 50 * SECOND);
    assert_eq!(world.state(), "Success");
}

#[test]
fn a_request_to_an_unreachable_primary_stays_accepted_until_its_timeout() {
    let mut world = GatewayState::hourly();
    let window = start()..start() + HOUR;
    world.estate.isolate([world.id], &window);
    let request = plan(10 * SECOND, Some(10 * MINUTE));
    world.request(request, start());
    world.tick(start() + 599 * SECOND);
    assert_eq!(world.state(), "Accepted");
    world.tick(start() + 600 * SECOND);
    assert_eq!(world.state(), "Timeout");
}

#[test]
fn a_move_loses_the_work_and_the_next_primary_begins_it_again() {
    let mut world = GatewayState::hourly();
    world.request(plan(2 * MINUTE, None), start());
    let moved = start() + MINUTE;
    world.estate.move_primary(world.id, moved);
    world.tick(moved + MINUTE);
    assert_eq!(world.state(), "BackupInProgress");
    let ended = world.until(world.id, |it| {
        matches!(it, EstateEventKind::BackedUpOnRequest { .. })
    });
    assert_eq!(ended, moved + 30 * SECOND + 2 * MINUTE);
    assert_eq!(world.stored(world.id).len(), 1);
}

#[test]
fn a_storage_that_refuses_fails_requested_backups_too() {
    let mut world = GatewayState::hourly();
    world.estate.fail_storage("Hourly", start()..start() + HOUR);
    world.request(BackupPlan::default(), start());
    world.tick(start() + MINUTE);
    let record = world.estate.record(world.id).unwrap();
    assert_eq!(
        record["FailureError"]["Code"],
        "FABRIC_E_BACKUPCOPIER_UNEXPECTED_ERROR"
    );
    assert!(world.stored(world.id).is_empty());
}
