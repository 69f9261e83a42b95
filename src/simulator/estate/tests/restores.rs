//! Restores and losses of data: `BackupRestoreManager.cs`, `InitializeAsync`,
//! `RestorePartitionWorkItem.cs`, `BackupRestoreServiceImpl.cs`, `FailoverUnit.cpp`.

use super::*;

fn restore(world: &mut GatewayState, backup: Option<Uuid>, now: DateTime<Utc>) -> DateTime<Utc> {
    let plan = RestorePlan::default();
    world
        .estate
        .request_restore(world.id, backup, plan, now)
        .unwrap();
    world.until(world.id, |it| it == EstateEventKind::Restored)
}

#[test]
fn a_restore_passes_through_its_states_and_refuses_backups_meanwhile() {
    let mut world = GatewayState::hourly();
    let now = world.until_backup();
    let first = world.backups()[0].clone();
    let plan = RestorePlan::default();
    world
        .estate
        .request_restore(world.id, Some(first.id), plan, now)
        .unwrap();
    let mut seen = Vec::new();
    for second in 0..60 {
        let now = now + second * SECOND;
        world.tick(now);
        let restore = world.estate.restore_of(world.id).unwrap();
        assert_eq!(restore.target, Some((first.epoch, first.lsn)));
        seen.push(restore.state.word());
        if restore.ended.is_none() {
            let refused = world
                .estate
                .request_backup(world.id, BackupPlan::default(), now);
            assert_eq!(refused, Err(Rejection::RestoreInProgress));
        }
    }
    seen.dedup();
    assert_eq!(
        seen,
        [
            "Accepted",
            "RestoreInProgress",
            "SecondariesInProgress",
            "Success"
        ]
    );
    let ended = now + 45 * SECOND;
    let shown =
        |world: &GatewayState, at| world.estate.backup_service.shown_reports(world.id, at)[1];
    assert_eq!(
        shown(&world, ended + MINUTE).map(|it| it.kind),
        Some(HealthReportKind::Restored)
    );
    assert!(shown(&world, ended + 3 * HOUR).is_none(), "for two hours");
}

#[test]
fn a_restore_jumps_the_data_loss_version_and_begins_a_chain_from_an_older_log() {
    let mut world = GatewayState::hourly();
    world.tick(start() + 4 * HOUR);
    let before = world.backups();
    let restored = restore(&mut world, Some(before[0].id), start() + 4 * HOUR);
    world.until_backup();
    let new = world.backups().pop().unwrap();
    assert!(new.full && new.lsn > before[0].lsn);
    assert_eq!(new.epoch.data_loss, filetime(restored));
}

#[test]
fn the_schedule_of_a_restored_partition_is_that_of_its_backup() {
    // Its second backup holds the recovery point of the first: a run was missed since.
    let mut world = GatewayState::hourly();
    world.until_backup();
    let ended = world.until_backup();
    let second = world.backups()[1].id;
    let restored = restore(&mut world, Some(second), ended + 5 * MINUTE);
    assert_at_once(world.next(), restored);
    world.tick(restored + 9 * MINUTE);
    assert_eq!(world.counted(world.id), 3);

    // Its first backup holds none.
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    let first = world.backups()[0].id;
    let restored = restore(&mut world, Some(first), ended + 5 * MINUTE);
    assert_around(world.next(), restored + HOUR);
}

#[test]
fn an_old_policy_in_a_backup_is_armed_until_the_current_one_is_pushed() {
    let mut world = GatewayState::hourly();
    world.until_backup();
    let ended = world.until_backup();
    let second = world.backups()[1].id;
    world.estate.update_policy("Hourly", ended, |_| {});
    let restored = restore(&mut world, Some(second), ended + 5 * MINUTE);
    let pushed = world.until(world.id, |it| {
        it == EstateEventKind::Configured { active: true }
    });
    assert!(pushed - restored <= TimeDelta::seconds(5));
    world.tick(pushed + 2 * MINUTE);
    let due = world.next().unwrap() - pushed;
    // A backup that the old policy had begun is discarded, and retried a minute later.
    assert!(
        due > TimeDelta::minutes(59) || world.counted(world.id) == 3,
        "{due}"
    );
}

#[test]
fn the_backup_of_another_partition_brings_no_schedule() {
    let mut world = GatewayState::with(2, hourly());
    world.tick(start() + 3 * HOUR);
    let other = world.ids[1];
    let foreign = world.estate.backups(other, start() + 3 * HOUR)[1].id;
    let restored = restore(&mut world, Some(foreign), start() + 3 * HOUR);
    assert_around(world.next(), restored + HOUR);
    let unknown = Some(Uuid::nil());
    let plan = RestorePlan::default();
    let later = restored + 10 * MINUTE;
    let refused = world.estate.request_restore(world.id, unknown, plan, later);
    assert_eq!(refused, Err(Rejection::NoSuchBackup));
}

#[test]
fn a_chain_without_its_full_backup_cannot_be_restored() {
    let mut world = GatewayState::hourly();
    world.tick(start() + 3 * HOUR);
    let backups = world.backups();
    let storage_id = world.estate.storage_id_of("Hourly").unwrap();
    let folder = world.estate.folder_of(world.id).unwrap();
    let contents = world
        .estate
        .backup_service
        .stores
        .folder_contents_mut(storage_id, &folder);
    contents.unwrap().take(0..1);
    let increment = Some(backups[1].id);
    let now = start() + 3 * HOUR;
    let plan = RestorePlan::default();
    let refused = world.estate.request_restore(world.id, increment, plan, now);
    assert_eq!(refused, Err(Rejection::NoSuchBackup));
}

#[test]
fn a_protected_partition_without_automatic_restore_waits_for_one() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    let lost = ended + 10 * MINUTE;
    world.estate.lose_data(world.id, lost);
    world.estate.move_primary(world.id, lost + HOUR);
    world.tick(lost + 10 * HOUR);
    assert_eq!((world.next(), world.counted(world.id)), (None, 1));
    assert!(
        world
            .log
            .iter()
            .any(|it| it.what == EstateEventKind::AwaitsRestore)
    );
    let restored = restore(&mut world, None, lost + 10 * HOUR);
    assert_around(world.next(), restored + HOUR);
}

#[test]
fn an_automatic_restore_leaves_no_record_and_an_event_without_end() {
    let policy = Policy {
        auto_restore_on_data_loss: true,
        ..hourly()
    };
    let mut world = GatewayState::with(1, policy);
    world.until_backup();
    let lost = world.until_backup() + 10 * MINUTE;
    world.estate.lose_data(world.id, lost);
    world.tick(lost + MINUTE);
    assert!(world.estate.restore_of(world.id).is_none());
    let [_, shown] = world
        .estate
        .backup_service
        .shown_reports(world.id, lost + 1000 * HOUR);
    let shown = shown.unwrap();
    assert_eq!(
        (shown.kind, shown.time_to_live()),
        (HealthReportKind::RestoredItself, None)
    );
    world.until_backup();
    let epochs: BTreeSet<_> = world
        .backups()
        .iter()
        .map(|it| it.epoch.data_loss)
        .collect();
    assert_eq!(epochs.len(), 2);
}

#[test]
fn an_old_restore_is_repeated_at_every_loss_of_data() {
    let lost = |behaviour| {
        let mut world = GatewayState::hourly();
        world.estate.set_behaviour(behaviour);
        let now = world.until_backup();
        restore(&mut world, None, now + MINUTE);
        world.tick(now + 5 * HOUR);
        let record = world.estate.restore_of(world.id).unwrap().ended;
        world.estate.lose_data(world.id, now + 5 * HOUR);
        world.tick(now + 5 * HOUR + MINUTE);
        let restore = world.estate.restore_of(world.id).unwrap();
        assert_eq!(restore.ended, record, "the record does not change");
        let restores = world.all(world.id, |it| {
            (it.what == EstateEventKind::Restored).then_some(())
        });
        (restores.len(), world.next().is_some())
    };
    assert_eq!(lost(Behaviour::default()), (2, true));
    assert_eq!(lost(Behaviour::without_faults()), (1, false));
}
