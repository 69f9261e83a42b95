//! Deletion of backups and settings: `RetentionManager.cs`, `DisableBackupMappingOperation.cs`.

use super::*;

fn kept(hours: u32, minimum: usize) -> Policy {
    let retention = Retention {
        duration: hours * HOUR,
        minimum,
    };
    Policy {
        retention: Some(retention),
        ..hourly()
    }
}

fn deleted(world: &GatewayState) -> usize {
    let deleted = |it: &&EstateEvent| matches!(it.what, EstateEventKind::Deleted { .. });
    world.log.iter().filter(deleted).count()
}

#[test]
fn retention_runs_every_hour_and_keeps_whole_chains() {
    let mut world = GatewayState::with(1, kept(10, 0));
    for hour in 0..100 {
        let now = start() + hour * HOUR;
        world.tick(now);
        let backups = world.backups();
        if let Some(first) = backups.first() {
            assert!(first.full, "a chain keeps its beginning");
            let old = backups.iter().filter(|it| it.taken < now - 11 * HOUR);
            // A chain of four, one run late.
            assert!(old.count() <= 4);
        }
    }
    let (stored, deleted) = (world.stored(world.id).len(), deleted(&world));
    assert!(
        deleted > 70 && stored - deleted == world.backups().len(),
        "{deleted}"
    );
}

#[test]
fn retention_of_a_day_or_more_runs_once_a_day() {
    let mut world = GatewayState::with(1, kept(24, 0));
    let mut days = Vec::new();
    for hour in 0..24 * 6 {
        let before = deleted(&world);
        world.tick(start() + hour * HOUR);
        if deleted(&world) > before {
            days.push(hour);
        }
    }
    assert_eq!(days, [48, 72, 96, 120]);
}

#[test]
fn the_minimum_keeps_the_beginning_of_a_chain() {
    let mut world = GatewayState::with(1, kept(4, 10));
    world.tick(start() + 40 * HOUR);
    let backups = world.backups();
    assert!((10..=12).contains(&backups.len()), "{}", backups.len());
    let first = &backups[0];
    assert!(first.full && first.taken < start() + 2 * HOUR);
    let ids: BTreeSet<_> = backups.iter().map(|it| it.id).collect();
    assert!(backups.iter().all(|it| ids.contains(&it.chain)));
}

#[test]
fn a_storage_that_cannot_be_listed_is_tried_again_and_then_an_interval_later() {
    let mut world = GatewayState::with(1, kept(4, 0));
    let run = start() + 13 * HOUR;
    world.estate.fail_listing("Hourly", run..run + 3 * MINUTE);
    world.tick(run - MINUTE);
    let before = deleted(&world);
    world.tick(run + 2 * MINUTE);
    assert_eq!(deleted(&world), before);
    world.tick(run + 4 * MINUTE);
    let after = deleted(&world);
    world.tick(run + 5 * HOUR);
    assert!(deleted(&world) > after);
}

#[test]
fn retention_stops_with_a_failover_of_the_backup_service_until_it_is_set_anew() {
    let failing_over = |behaviour| {
        let mut world = GatewayState::with(1, kept(4, 0));
        world.estate.set_behaviour(behaviour);
        world.tick(start() + 20 * HOUR);
        world.estate.fail_over_backup_service(start() + 20 * HOUR);
        let before = deleted(&world);
        world.tick(start() + 40 * HOUR);
        (world, before)
    };
    let (mut world, before) = failing_over(Behaviour::default());
    assert_eq!(deleted(&world), before);
    // An update that leaves retention as it is does not arm it.
    world
        .estate
        .update_policy("Hourly", start() + 40 * HOUR, |_| {});
    world.tick(start() + 50 * HOUR);
    assert_eq!(deleted(&world), before);
    let other = kept(5, 0).retention;
    world
        .estate
        .update_policy("Hourly", start() + 50 * HOUR, |it| it.retention = other);
    world.tick(start() + 60 * HOUR);
    assert!(deleted(&world) > before);
    let (world, before) = failing_over(Behaviour::without_faults());
    assert!(deleted(&world) > before);
}

#[test]
fn retention_leaves_vanished_partitions_and_storages_that_the_policy_has_left() {
    let mut world = GatewayState::with(2, kept(4, 0));
    let [gone, moved] = [world.ids[0], world.ids[1]];
    world.tick(start() + 8 * HOUR);
    let old = world.estate.storage_id_of("Hourly").unwrap();
    let in_old = world.estate.stored(moved, old).len();
    world.estate.remove_partition(gone);
    let listed = |world: &GatewayState, now| world.estate.listed(&app(), now).unwrap().len();
    world.tick(start() + 100 * HOUR);
    let now = world.now();
    let of_gone = world.estate.listed(&app(), now).unwrap();
    let of_gone = of_gone
        .iter()
        .filter(|it| it.folder.partition == gone)
        .count();
    assert!(of_gone >= 4, "folders of vanished partitions stay for ever");
    world
        .estate
        .update_policy("Hourly", now, |it| it.storage = blob("two"));
    assert_eq!(
        world.estate.listed(&app(), now).map(|it| it.len()),
        Err(Rejection::NothingToIndex)
    );
    let left = world.estate.stored(moved, old).len();
    assert!(left > 0 && in_old > 0);
    world.tick(start() + 200 * HOUR);
    assert_eq!(world.estate.stored(moved, old).len(), left);
    assert!(listed(&world, start() + 200 * HOUR) < 12);
}

#[test]
fn clean_backup_deletes_everything_in_the_storage_of_the_policy_in_the_background() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    world.request(BackupPlan::default(), ended);
    world.tick(ended + MINUTE);
    let storage_id = world.estate.storage_id_of("Hourly").unwrap();
    assert_eq!(world.estate.stored(world.id, storage_id).len(), 2);
    let now = ended + 2 * MINUTE;
    world.estate.disable_and_clean(&app(), now).unwrap();
    world.tick(now + SECOND);
    assert_eq!(
        world.estate.stored(world.id, storage_id).len(),
        2,
        "not yet"
    );
    world.tick(now + MINUTE);
    assert!(world.estate.stored(world.id, storage_id).is_empty());
    assert_eq!(deleted(&world), 2);
    let plain = GatewayState::hourly();
    let mut plain = plain;
    plain.until_backup();
    plain.estate.disable(&app(), now).unwrap();
    plain.tick(now + HOUR);
    assert_eq!(plain.estate.stored(plain.id, storage_id).len(), 1);
}

#[test]
fn clean_backup_of_an_application_strikes_services_with_a_policy_of_their_own_too() {
    let mut world = GatewayState::hourly();
    let carts = world.add("fabric:/App/Carts", start());
    let stocks = world.add("fabric:/App/Stocks", start());
    world.estate.add_policy(named("Other"), start());
    let service = Entity::service("fabric:/App/Carts");
    world.estate.enable(&service, "Other", start()).unwrap();
    let partition = Entity::Partition(stocks);
    world.estate.enable(&partition, "Other", start()).unwrap();
    world.tick(start() + 2 * HOUR);
    let storage_id = world.estate.storage_id_of("Hourly").unwrap();
    assert_eq!(
        world.estate.storage_id_of("Other"),
        Some(storage_id),
        "one container"
    );
    let now = start() + 2 * HOUR;
    world.estate.disable_and_clean(&app(), now).unwrap();
    world.tick(now + MINUTE);
    let left = |id| world.estate.stored(id, storage_id).len();
    assert_eq!(left(world.id), 0);
    assert_eq!(left(carts), 0, "its own policy is not looked at");
    assert!(left(stocks) > 0, "a mapping of the partition is");
    // Protected, freshly Ok, and nothing stored.
    let carts_now = world.estate.last_attempt(carts, now + MINUTE);
    assert!(carts_now.is_some_and(|(_, ok)| ok));
}

#[test]
fn clean_backup_compares_storages_the_wrong_way_round_where_a_policy_is_inherited() {
    let cleaned = |container, behaviour| {
        let mut world = GatewayState::hourly();
        world.estate.set_behaviour(behaviour);
        let other = Policy {
            storage: blob(container),
            ..named("Other")
        };
        world.estate.add_policy(other, start());
        world.estate.enable(&orders(), "Other", start()).unwrap();
        let now = world.until_backup();
        let storage_id = world.estate.storage_id_of("Other").unwrap();
        world.estate.disable_and_clean(&orders(), now).unwrap();
        world.tick(now + MINUTE);
        world.estate.stored(world.id, storage_id).is_empty()
    };
    let faulty = Behaviour::default();
    assert!(
        cleaned("one", faulty),
        "the storage that still applies is emptied"
    );
    assert!(!cleaned("two", faulty));
    let fixed = Behaviour::without_faults();
    assert!(!cleaned("one", fixed));
    assert!(cleaned("two", fixed));
}
