//! Contents of backup lists: `GetRestorePointsOperation.cs`, `AzureBlobBackupStorageInfo.cs`.

use super::*;

fn count(world: &GatewayState, scope: &Entity) -> Result<usize, Rejection> {
    let now = world.now();
    world.estate.listed(scope, now).map(|it| it.len())
}

#[test]
fn lists_fail_until_the_first_upload_has_created_the_container() {
    let mut world = GatewayState::hourly();
    world.tick(start() + MINUTE);
    let partition = Entity::Partition(world.id);
    for scope in [&partition, &orders(), &app()] {
        assert_eq!(count(&world, scope), Err(Rejection::NothingToIndex));
    }
    let carts = world.add("fabric:/App/Carts", start() + 59 * MINUTE);
    world.until_backup();
    assert_eq!(count(&world, &app()), Ok(1));
    assert_eq!(
        count(&world, &Entity::Partition(carts)),
        Ok(0),
        "an existing container is empty"
    );

    let mut world = GatewayState::hourly();
    world.estate.create_container("Hourly");
    assert_eq!(count(&world, &app()), Ok(0));
    world.estate.set_behaviour(Behaviour::without_faults());
    assert_eq!(count(&world, &app()), Ok(0));
}

#[test]
fn a_share_has_no_folder_for_a_partition_before_its_first_backup() {
    let share = Storage::FileShare {
        friendly_name: String::new(),
        path: r"\\storage\one".to_owned(),
        user: None,
    };
    let policy = Policy {
        storage: share,
        ..hourly()
    };
    let mut world = GatewayState::with(1, policy);
    let carts = world.add("fabric:/App/Carts", start() + 59 * MINUTE);
    world.until_backup();
    assert_eq!(count(&world, &app()), Ok(1));
    let carts = count(&world, &Entity::Partition(carts));
    assert_eq!(carts, Err(Rejection::NothingToIndex));
}

#[test]
fn a_storage_that_cannot_be_listed_fails_the_whole_answer() {
    let mut world = GatewayState::hourly();
    let carts = world.add_carts_to_container_two();
    let now = start() + 2 * HOUR;
    world.tick(now);
    assert_eq!(count(&world, &app()), Ok(2));
    world.estate.fail_listing("Other", now..now + HOUR);
    assert_eq!(count(&world, &app()), Err(Rejection::StorageFailed));
    assert_eq!(
        count(&world, &carts_service()),
        Err(Rejection::StorageUnreachable)
    );
    assert_eq!(count(&world, &orders()), Ok(1));
    assert!(world.estate.backups(carts, now).is_empty());
    // Uploads still work.
    world.tick(now + 2 * HOUR);
    assert_eq!(world.counted(carts), 3);
    assert_eq!(count(&world, &app()), Ok(6));
}

#[test]
fn policies_of_one_account_count_as_one_storage_and_one_container_is_not_read() {
    let listed = |encrypted, behaviour| {
        let mut world = GatewayState::hourly();
        world.estate.set_behaviour(behaviour);
        for policy in ["Hourly", "Other"] {
            world.estate.set_account(policy, "account", encrypted);
        }
        world.estate.update_policy("Hourly", start(), |_| {});
        let carts = world.add_carts_to_container_two();
        world.tick(start() + 2 * HOUR);
        assert_eq!(
            count(&world, &Entity::Partition(carts)),
            Ok(1),
            "partition scope is right"
        );
        count(&world, &app())
    };
    assert_eq!(listed(false, Behaviour::default()), Ok(1));
    assert_eq!(listed(true, Behaviour::default()), Ok(2));
    assert_eq!(listed(false, Behaviour::without_faults()), Ok(2));
}

#[test]
fn encrypted_secrets_make_one_storage_in_two_policies_come_twice() {
    let listed = |encrypted| {
        let mut world = GatewayState::hourly();
        for policy in ["Hourly", "Other"] {
            world.estate.set_account(policy, "account", encrypted);
        }
        world.estate.update_policy("Hourly", start(), |_| {});
        world.estate.add_policy(named("Other"), start());
        world.add("fabric:/App/Carts", start());
        let service = Entity::service("fabric:/App/Carts");
        world.estate.enable(&service, "Other", start()).unwrap();
        world.tick(start() + 2 * HOUR);
        count(&world, &app())
    };
    assert_eq!(listed(true), Ok(4));
    assert_eq!(listed(false), Ok(2));
}

#[test]
fn backups_outlive_their_partition_and_are_out_of_sight_in_another_storage() {
    let mut world = GatewayState::hourly();
    world.tick(start() + 5 * HOUR);
    world.estate.remove_partition(world.id);
    assert_eq!(count(&world, &app()), Ok(4));
    let now = start() + 5 * HOUR;
    world
        .estate
        .update_policy("Hourly", now, |it| it.storage = blob("two"));
    world.estate.create_container("Hourly");
    assert_eq!(count(&world, &app()), Ok(0));
    world
        .estate
        .update_policy("Hourly", now, |it| it.storage = blob("one"));
    assert_eq!(count(&world, &app()), Ok(4));
}

#[test]
fn a_damaged_backup_is_listed_and_fails_its_restore() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    world.estate.list_unrestorable(world.id, ended + MINUTE);
    world.tick(ended + 2 * MINUTE);
    let newest = world.backups().pop().unwrap();
    assert_eq!(newest.validation.word(), "ChecksumMismatchFailure");
    let restorable = world.all(world.id, |it| match it.what {
        EstateEventKind::Stored { restorable, .. } => Some(restorable),
        _ => None,
    });
    assert_eq!(restorable, [true, false]);
    let now = ended + 2 * MINUTE;
    let plan = RestorePlan::default();
    world
        .estate
        .request_restore(world.id, None, plan, now)
        .unwrap();
    world.tick(now + MINUTE);
    assert_eq!(
        world.estate.restore_of(world.id).unwrap().state.word(),
        "Failure"
    );
}
