//! What reaches the replicas and when: `SendToServiceNodeWorkItem.cs`, `BaseWorkItemQueue.cs`,
//! `SuspendStore.cs`, `UtilityHelper.cs`.

use super::*;

fn is_restart(it: EstateEventKind) -> bool {
    it == EstateEventKind::Configured { active: true }
}

fn restarts(world: &GatewayState) -> usize {
    world.log.iter().filter(|it| is_restart(it.what)).count()
}

#[test]
fn everything_that_changes_the_internal_id_restarts_the_schedule() {
    type Change = fn(&mut Estate, DateTime<Utc>);
    let changes: [(&str, Change); 7] = [
        ("update of the retention alone", |estate, now| {
            let retention = Retention {
                duration: 48 * HOUR,
                minimum: 1,
            };
            estate.update_policy("Hourly", now, |it| it.retention = Some(retention));
        }),
        ("the same policy posted again", |estate, now| {
            estate.update_policy("Hourly", now, |_| {});
        }),
        ("change of the certificate", |estate, now| {
            estate.change_certificate(now);
        }),
        ("override set", |estate, now| {
            estate.add_policy(named("Other"), now);
            estate.enable(&orders(), "Other", now).unwrap();
        }),
        ("suspended and resumed", |estate, now| {
            estate.suspend(&app(), now).unwrap();
            estate.resume(&app(), now + 20 * SECOND).unwrap();
        }),
        ("disabled and enabled", |estate, now| {
            estate.disable(&app(), now).unwrap();
            estate.enable(&app(), "Hourly", now + 20 * SECOND).unwrap();
        }),
        ("another policy", |estate, now| {
            estate.add_policy(named("Other"), now);
            estate.enable(&app(), "Other", now).unwrap();
        }),
    ];
    for (what, change) in changes {
        let mut world = GatewayState::hourly();
        let ended = world.until_backup();
        let now = ended + 30 * MINUTE;
        change(&mut world.estate, now);
        let restarted = world.until(world.id, is_restart);
        assert!(restarted - now <= TimeDelta::seconds(30), "{what}");
        assert_around(world.next(), restarted + HOUR);
        world.until_backup();
        assert!(world.backups().last().unwrap().full, "{what}");
    }
}

#[test]
fn an_override_that_is_removed_restarts_the_schedule() {
    let mut world = GatewayState::hourly();
    world.estate.add_policy(named("Other"), start());
    world.estate.enable(&orders(), "Other", start()).unwrap();
    let ended = world.until_backup();
    world.estate.disable(&orders(), ended + MINUTE).unwrap();
    let restarted = world.until(world.id, is_restart);
    assert_around(world.next(), restarted + HOUR);
    assert_eq!(
        world.estate.protection(&orders()).unwrap().from,
        "Application"
    );
}

#[test]
fn the_same_policy_enabled_again_restarts_nothing() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    let (next, before) = (world.next(), restarts(&world));
    for entity in [app(), orders(), Entity::Partition(world.id)] {
        world
            .estate
            .enable(&entity, "Hourly", ended + MINUTE)
            .unwrap();
        world
            .estate
            .disable(&entity, ended + 2 * MINUTE)
            .unwrap_or_default();
        world
            .estate
            .enable(&app(), "Hourly", ended + 2 * MINUTE)
            .unwrap();
    }
    world.tick(ended + 5 * MINUTE);
    assert_eq!((world.next(), restarts(&world)), (next, before));
}

#[test]
fn a_suspension_that_ends_within_a_round_of_the_queue_has_no_effect() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    let (next, before) = (world.next(), restarts(&world));
    let now = ended + 5 * MINUTE;
    world.estate.suspend(&app(), now).unwrap();
    world.estate.resume(&app(), now + 3 * SECOND).unwrap();
    assert_eq!(world.kind(now), Some(HealthReportKind::BackedUp));
    assert_eq!((world.next(), restarts(&world)), (next, before));
}

#[test]
fn a_clearing_is_seen_up_to_half_a_minute_after_it_reached_the_replica() {
    let mut world = GatewayState::with(60, hourly());
    world.tick(start() + 2 * HOUR);
    let now = start() + 2 * HOUR + 30 * MINUTE;
    world.estate.suspend(&app(), now).unwrap();
    let shown = |world: &mut GatewayState, seconds: u32| {
        let at = now + seconds * SECOND;
        world.tick(at);
        let ids = world.ids.iter();
        let shown = ids.filter(|id| world.estate.last_attempt(**id, at).is_some());
        shown.count()
    };
    assert_eq!(shown(&mut world, 4), 60, "the queue has not been looked at");
    let half = shown(&mut world, 25);
    assert!((10..50).contains(&half), "{half}");
    assert_eq!(shown(&mut world, 42), 0);
}

#[test]
fn an_item_that_cannot_be_delivered_comes_again_after_1_2_4_and_8_minutes() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    for (away, delivered) in [(50, 60), (100, 180), (400, 420), (500, 900), (1000, 1380)] {
        let now = world.now().max(ended) + MINUTE;
        let window = now..now + away * SECOND;
        world.estate.isolate([world.id], &window);
        world.estate.update_policy("Hourly", now, |_| {});
        let restarted = world.until(world.id, is_restart);
        let took = (restarted - now).num_seconds() - delivered;
        assert!((0..=15).contains(&took), "{away}: {took}");
    }
}

#[test]
fn a_new_partition_starts_to_back_up_although_its_application_is_suspended() {
    let born = start() + HOUR;
    for (behaviour, active) in [
        (Behaviour::default(), true),
        (Behaviour::without_faults(), false),
    ] {
        let mut world = GatewayState::hourly();
        world.estate.set_behaviour(behaviour);
        world.estate.suspend(&app(), start() + MINUTE).unwrap();
        let id = world.add("fabric:/App/Carts", born);
        world.tick(born + MINUTE);
        assert_eq!(world.estate.next_backup(id).is_some(), active);
        let suspended = world.estate.protection(&Entity::Partition(id)).unwrap();
        assert_eq!(suspended.suspended_from, Some("Application"));
        // Suspended entities receive no updates.
        world
            .estate
            .update_policy("Hourly", born + 2 * MINUTE, |_| {});
        world.tick(born + 3 * HOUR);
        assert_eq!(world.counted(id) > 0, active);
    }
}

#[test]
fn newcomers_are_protected_like_their_application_when_they_have_state() {
    let mut world = GatewayState::hourly();
    let born = start() + 5 * MINUTE;
    let persisted = world.add("fabric:/App/Carts", born);
    let kind = ServiceKind::Volatile;
    let add = &mut world.estate;
    let volatile = add.add_service(
        "fabric:/App",
        "fabric:/App/Cache",
        kind,
        Scheme::Singleton,
        born,
    )[0];
    world.tick(born + MINUTE);
    assert_around(world.estate.next_backup(persisted), born + HOUR);
    assert_eq!(world.estate.next_backup(volatile), None);
    let cache = Entity::Partition(volatile);
    assert_eq!(
        world.estate.enable(&cache, "Hourly", born),
        Err(Rejection::Stateless)
    );
}

#[test]
fn the_nearest_level_decides_on_the_policy_and_any_level_suspends() {
    let mut world = GatewayState::hourly();
    let partition = Entity::Partition(world.id);
    world.estate.add_policy(named("Other"), start());
    world.estate.enable(&partition, "Other", start()).unwrap();
    world.estate.suspend(&orders(), start()).unwrap();
    let found = world.estate.protection(&partition).unwrap();
    assert_eq!((&*found.policy, found.from), ("Other", "Partition"));
    assert_eq!(found.suspended_from, Some("Service"));
    world.estate.disable(&partition, start()).unwrap();
    assert_eq!(
        world.estate.protection(&partition).unwrap().from,
        "Application"
    );
    assert!(world.estate.remove_policy("Hourly", start()));
    assert_eq!(world.estate.protection(&partition), None);
    assert_eq!(
        world.estate.enable(&partition, "Hourly", start()),
        Err(Rejection::NoSuchPolicy)
    );
}

#[test]
fn a_suspension_survives_a_disable_and_is_not_lifted_while_nothing_is_enabled() {
    let mut world = GatewayState::hourly();
    world.estate.suspend(&orders(), start()).unwrap();
    world.estate.disable(&app(), start() + MINUTE).unwrap();
    let resumed = world.estate.resume(&orders(), start() + 2 * MINUTE);
    assert_eq!(resumed, Err(Rejection::NotEnabled));
    let now = start() + HOUR;
    world.estate.enable(&app(), "Hourly", now).unwrap();
    world.tick(now + MINUTE);
    assert_eq!(world.next(), None, "it revives with the next enablement");
    world.estate.resume(&orders(), now + MINUTE).unwrap();
    world.tick(now + 2 * MINUTE);
    assert!(world.next().is_some());
}

#[test]
fn mappings_and_suspensions_outlive_their_service() {
    let mut world = GatewayState::hourly();
    world.estate.disable(&app(), start()).unwrap();
    world.estate.enable(&orders(), "Hourly", start()).unwrap();
    world.estate.remove_service("fabric:/App/Orders");
    assert_eq!(
        world.estate.backup_service.enabled_with("Hourly"),
        [orders()]
    );
    let born = start() + HOUR;
    let id = world.add("fabric:/App/Orders", born);
    world.tick(born + MINUTE);
    assert_around(world.estate.next_backup(id), born + HOUR);
    world.estate.suspend(&orders(), born + MINUTE).unwrap();
    world.estate.remove_service("fabric:/App/Orders");
    let born = start() + 3 * HOUR;
    let id = world.add("fabric:/App/Orders", born);
    let protection = world.estate.protection(&Entity::Partition(id)).unwrap();
    assert_eq!(protection.suspended_from, Some("Service"));
    assert!(world.estate.remove_policy("Hourly", born));
    assert!(
        world
            .estate
            .backup_service
            .enabled_with("Hourly")
            .is_empty()
    );
}

#[test]
fn a_policy_does_not_reach_below_an_application_whose_name_needs_encoding() {
    let reached = |behaviour, at_service: bool| {
        let mut world = GatewayState::hourly();
        world.estate.set_behaviour(behaviour);
        let id = world.add("fabric:/Große App/Orders", start());
        let entity = if at_service {
            Entity::service("fabric:/Große App/Orders")
        } else {
            Entity::application("fabric:/Große App")
        };
        world.estate.enable(&entity, "Hourly", start()).unwrap();
        world.tick(start() + 2 * HOUR);
        let partition = Entity::Partition(id);
        let listed = world.estate.listed(&entity, start()).map(|it| it.len());
        let shown = world.estate.protection(&partition).is_some();
        (world.counted(id), shown, listed)
    };
    let faulty = Behaviour::default();
    assert_eq!(
        reached(faulty, false),
        (0, false, Err(Rejection::NotEnabled))
    );
    assert_eq!(
        reached(faulty, true),
        (1, false, Err(Rejection::NotEnabled))
    );
    let fixed = Behaviour::without_faults();
    assert_eq!(reached(fixed, false), (1, true, Ok(1)));
}

#[test]
fn a_runtime_that_does_not_wait_backs_up_at_once_after_a_restart() {
    let mut world = GatewayState::hourly();
    world.estate.set_behaviour(Behaviour {
        waits_after_restart: false,
        ..Behaviour::default()
    });
    let restarted = world.until(world.id, is_restart);
    assert_at_once(world.next(), restarted);
}
