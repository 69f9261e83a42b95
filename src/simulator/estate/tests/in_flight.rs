//! Backups under way while their policy changes: `BackupRestoreManager.cs`, `BackupCallback`.

use super::*;

#[test]
fn a_backup_under_way_at_a_suspension_is_listed_and_reports_a_warning_after_the_clearing() {
    let mut world = GatewayState::hourly();
    world.estate.set_tempo(Tempo {
        snapshot: SNAPSHOT..=SNAPSHOT,
        upload: 2 * MINUTE..=2 * MINUTE,
        ..Tempo::default()
    });
    world.until_backup();
    let now = world.in_flight(true);
    world.estate.suspend(&app(), now).unwrap();
    assert_eq!(world.kind(now + 15 * SECOND), None, "cleared");
    let failed = world.until_failure();
    assert_eq!(world.kind(failed), Some(HealthReportKind::Failed));
    assert_eq!(world.backups().len(), 2, "listed");
    assert_eq!(world.counted(world.id), 1, "not counted");
    let resumed = failed + 10 * HOUR;
    world.estate.resume(&app(), resumed).unwrap();
    world.tick(resumed + MINUTE);
    assert_eq!(
        world.kind(resumed + MINUTE),
        Some(HealthReportKind::Failed),
        "until the next attempt"
    );
    assert_around(world.next(), resumed + HOUR + 5 * SECOND);
}

#[test]
fn nothing_is_uploaded_where_protection_ends_before_the_snapshot_is_complete() {
    let mut world = GatewayState::hourly();
    world.estate.set_tempo(Tempo {
        snapshot: MINUTE..=MINUTE,
        ..Tempo::default()
    });
    world.tick(start() + MINUTE);
    let now = world.in_flight(false);
    world.estate.disable(&app(), now).unwrap();
    let failed = world.until_failure();
    assert_eq!(failed, world.armed(world.id)[0] + MINUTE);
    assert!(world.stored(world.id).is_empty());
    assert_eq!(world.next(), None);
}

#[test]
fn a_discarded_backup_is_retried_under_the_new_policy_a_minute_later() {
    let mut world = GatewayState::hourly();
    world.estate.set_tempo(Tempo {
        snapshot: SNAPSHOT..=SNAPSHOT,
        upload: MINUTE..=MINUTE,
        ..Tempo::default()
    });
    world.until_backup();
    let now = world.in_flight(true);
    world
        .estate
        .update_policy("Hourly", now, |it| it.storage = blob("two"));
    let failed = world.until_failure();
    assert_eq!(world.kind(failed), Some(HealthReportKind::Failed));
    let pause = world.next().unwrap() - failed;
    assert!((57..=63).contains(&pause.num_seconds()), "{pause}");
    let storage_id = world.estate.storage_id_of("Hourly").unwrap();
    assert!(
        world.estate.stored(world.id, storage_id).is_empty(),
        "it went to the old storage"
    );
    assert_eq!(world.stored(world.id).len(), 2);
    let ended = world.until_backup();
    assert_around(world.next(), ended + HOUR);
    assert!(world.estate.stored(world.id, storage_id)[0].full);
}

#[test]
fn a_backup_that_outlasts_suspension_and_resumption_is_discarded_too() {
    let mut world = GatewayState::hourly();
    world.estate.set_tempo(Tempo {
        upload: 5 * MINUTE..=5 * MINUTE,
        ..Tempo::default()
    });
    world.tick(start() + MINUTE);
    let now = world.in_flight(true);
    world.estate.suspend(&app(), now).unwrap();
    world.estate.resume(&app(), now + MINUTE).unwrap();
    let failed = world.until_failure();
    assert_eq!(world.counted(world.id), 0);
    let pause = world.next().unwrap() - failed;
    assert!((57..=63).contains(&pause.num_seconds()), "{pause}");
}
