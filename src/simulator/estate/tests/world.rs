//! Properties of the engine as a whole.

use proptest::prelude::*;

use super::*;

/// An action on a world.
#[derive(Clone, Copy, Debug)]
enum Action {
    Move(usize),
    Close(usize),
    Suspend,
    Resume,
    Update,
    Request(usize),
    Restore(usize),
    LoseData(usize),
    Outage,
    Clean,
    Enable,
    Failover,
    Certificate,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0..4_usize).prop_map(Action::Move),
        (0..4_usize).prop_map(Action::Close),
        Just(Action::Suspend),
        Just(Action::Resume),
        Just(Action::Update),
        (0..4_usize).prop_map(Action::Request),
        (0..4_usize).prop_map(Action::Restore),
        (0..4_usize).prop_map(Action::LoseData),
        Just(Action::Outage),
        Just(Action::Clean),
        Just(Action::Enable),
        Just(Action::Failover),
        Just(Action::Certificate),
    ]
}

/// A refused action changes nothing.
fn act(world: &mut GatewayState, action: Action, now: DateTime<Utc>) {
    let (estate, ids) = (&mut world.estate, &world.ids);
    let refused = match action {
        Action::Move(index) => {
            estate.move_primary(ids[index], now);
            Ok(())
        }
        Action::Close(index) => {
            estate.close_primary(ids[index], now);
            Ok(())
        }
        Action::Suspend => estate.suspend(&app(), now),
        Action::Resume => estate.resume(&app(), now),
        Action::Update => {
            estate.update_policy("Hourly", now, |_| {});
            Ok(())
        }
        Action::Request(index) => {
            let plan = BackupPlan {
                running_for: 3 * MINUTE,
                timeout: Some(2 * MINUTE),
                ..BackupPlan::default()
            };
            estate.request_backup(ids[index], plan, now)
        }
        Action::Restore(index) => {
            estate.request_restore(ids[index], None, RestorePlan::default(), now)
        }
        Action::LoseData(index) => {
            estate.lose_data(ids[index], now);
            Ok(())
        }
        Action::Outage => {
            estate.fail_storage("Hourly", now..now + HOUR);
            Ok(())
        }
        Action::Clean => estate.disable_and_clean(&app(), now),
        Action::Enable => estate.enable(&app(), "Hourly", now),
        Action::Failover => {
            estate.fail_over_backup_service(now);
            Ok(())
        }
        Action::Certificate => {
            estate.change_certificate(now);
            Ok(())
        }
    };
    refused.unwrap_or_default();
}

/// The observable state of a world, and its log.
fn run(actions: &[(u32, Action)], actors: bool, step: Duration) -> (Vec<String>, Vec<EstateEvent>) {
    let policy = Policy {
        schedule: Schedule::Every(10 * MINUTE),
        retention: Some(Retention {
            duration: 2 * HOUR,
            minimum: 3,
        }),
        ..hourly()
    };
    let mut world = GatewayState::with(4, policy);
    if actors {
        let provider = StateProvider::KeyValueStore;
        world
            .estate
            .set_state_provider("fabric:/App/Orders", provider);
    }
    let mut now = start();
    for (pause, action) in actions {
        let then = now + *pause * SECOND;
        while now < then {
            now = (now + step).min(then);
            world.tick(now);
        }
        act(&mut world, *action, now);
    }
    let end = now + 3 * HOUR;
    while now < end {
        now = (now + step).min(end);
        world.tick(now);
    }
    let seen = world.ids.iter().map(|id| {
        let backups: Vec<_> = world
            .estate
            .backups(*id, now)
            .iter()
            .map(|it| it.id)
            .collect();
        let health = world.estate.last_attempt(*id, now);
        format!(
            "{backups:?} {health:?} {:?} {:?}",
            world.estate.next_backup(*id),
            world.estate.record(*id)
        )
    });
    (seen.collect(), world.log)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn many_small_ticks_and_one_large_tick_give_the_same_world(
        actions in prop::collection::vec((1_u32..5000, action()), 0..14),
        actors: bool,
    ) {
        let jump = run(&actions, actors, 100 * HOUR);
        prop_assert_eq!(&jump, &run(&actions, actors, 100 * HOUR));
        prop_assert_eq!(&jump, &run(&actions, actors, 7 * SECOND));
    }

    #[test]
    fn periodic_backups_of_a_partition_never_overlap_and_the_log_matches_the_storage(
        actions in prop::collection::vec((1_u32..5000, action()), 0..14),
        actors: bool,
    ) {
        let (_, log) = run(&actions, actors, 100 * HOUR);
        prop_assert!(log.windows(2).all(|it| it[0].at <= it[1].at), "in order");
        let mut lying = BTreeSet::new();
        for happened in &log {
            match happened.what {
                EstateEventKind::Stored { backup, taken, .. } => {
                    prop_assert!(taken <= happened.at);
                    prop_assert!(lying.insert(backup));
                }
                EstateEventKind::Deleted { backup, .. } => prop_assert!(lying.remove(&backup)),
                _ => {}
            }
        }
        let ids: BTreeSet<_> = log.iter().map(|it| it.partition).collect();
        for id in ids {
            let of_one = log.iter().filter(|it| it.partition == id);
            let stored = of_one.filter_map(|it| match it.what {
                EstateEventKind::Stored { taken, .. } => Some((taken, it.at)),
                _ => None,
            });
            let stored: Vec<_> = stored.collect();
            prop_assert!(stored.windows(2).all(|it| it[0].1 <= it[1].0), "{stored:?}");
        }
    }
}

#[test]
fn tick_of_twenty_thousand_partitions_visits_only_due_events() {
    let mut world = GatewayState::with(20_000, hourly());
    world.tick(start() + 50 * MINUTE);
    assert_eq!(world.estate.attempts(), 0);
    world.tick(start() + HOUR + 20 * MINUTE);
    assert_eq!(world.estate.attempts(), 20_000);
}
