//! When periodic backups run: `BackupTimer.cs`, `BackupScheduler.cs`, `RescheduleTimer.cs`.

use super::*;

#[test]
fn the_first_backup_is_full_and_runs_one_interval_after_protection() {
    let mut world = GatewayState::hourly();
    world.tick(start() + MINUTE);
    // The queue takes up to two rounds of five seconds.
    let due = world.next().unwrap() - start();
    let earliest = TimeDelta::seconds(3600 - 10);
    assert!(
        due >= earliest && due <= TimeDelta::seconds(3600 + 20),
        "{due}"
    );
    world.until_backup();
    assert!(world.backups()[0].full);
}

#[test]
fn jitter_moves_every_run_by_up_to_ten_seconds_both_ways() {
    let run = start()
        .date_naive()
        .and_hms_opt(17, 0, 0)
        .unwrap()
        .and_utc();
    let mut world = GatewayState::with(400, daily(&[17]));
    world.tick(run - MINUTE);
    let off = world.ids.iter().map(|id| world.armed(*id)[0] - run);
    let off: Vec<_> = off.map(|it| it.num_milliseconds()).collect();
    assert!(
        off.iter().all(|it| (-10_000..10_000).contains(it)),
        "{off:?}"
    );
    let early = off.iter().filter(|it| **it < 0).count();
    assert!(
        (160..240).contains(&early),
        "half of all runs are early: {early}"
    );
}

#[test]
fn an_early_daily_run_counts_and_is_not_taken_twice() {
    let mut world = GatewayState::with(200, daily(&[17]));
    world.tick(start() + 24 * 10 * HOUR);
    let mut early = 0;
    for id in &world.ids {
        let taken = world.stored(*id);
        assert_eq!(taken.len(), 10);
        for taken in taken {
            let run = taken.date_naive().and_hms_opt(17, 0, 0).unwrap().and_utc();
            let off = taken - run - TimeDelta::from_std(SNAPSHOT).unwrap();
            assert!(off.abs() <= TimeDelta::seconds(10), "{off}");
            early += usize::from(taken < run);
        }
    }
    assert!(
        (600..1000).contains(&early),
        "40 % are even dated early: {early} of 2000"
    );
}

#[test]
fn an_interval_counts_from_the_end_of_the_upload_shifted_by_negative_jitter() {
    let mut world = GatewayState::with(100, hourly());
    world.tick(start() + 8 * HOUR);
    let (mut plain, mut shifted) = (0, 0);
    for id in world.ids.clone() {
        let runs = world.armed(id);
        let ends = world.all(id, |it| {
            matches!(it.what, EstateEventKind::BackedUp { .. }).then_some(it.at)
        });
        for (index, end) in ends.iter().enumerate() {
            let from_end = (runs[index + 1] - *end).num_milliseconds() - 3_600_000;
            // Up to 10 s of jitter around the interval, and up to 11 s of shift.
            assert!((-10_000..21_001).contains(&from_end), "{from_end}");
            plain += usize::from(from_end < 1000);
            shifted += usize::from(from_end > 10_000);
        }
    }
    assert!(plain > 200 && shifted > 50, "{plain} {shifted}");
}

#[test]
fn consecutive_backups_are_usually_further_apart_than_the_interval() {
    let mut world = GatewayState::hourly();
    world.tick(start() + 20 * HOUR);
    let taken = world.stored(world.id);
    for pair in taken.windows(2) {
        let gap = (pair[1] - pair[0]).num_seconds() - 3600;
        // 22 s of snapshot and upload, jitter, and the shift of the run before.
        assert!((12..=43).contains(&gap), "{gap}");
    }
}

#[test]
fn five_retries_follow_a_failure_and_then_the_interval_counts_from_there() {
    let mut world = GatewayState::hourly();
    let first = world.until_backup();
    world.estate.fail_storage("Hourly", first..first + 2 * HOUR);
    let mut failures = Vec::new();
    for _ in 0..6 {
        failures.push(world.until_failure());
    }
    let attempt = TimeDelta::from_std(SNAPSHOT + UPLOAD).unwrap();
    for pair in failures.windows(2) {
        let pause = (pair[1] - pair[0] - attempt).num_milliseconds();
        assert!((57_000..=63_000).contains(&pause), "{pause}");
    }
    assert_around(world.next(), failures[5] + HOUR);
    assert_eq!(world.estate.attempts(), 7);
    assert_eq!(world.kind(failures[5]), Some(HealthReportKind::Failed));
}

#[test]
fn an_outage_at_night_skips_the_run_of_that_day() {
    let mut world = GatewayState::with(1, daily(&[17]));
    world
        .estate
        .fail_storage("Hourly", start()..start() + 3 * HOUR);
    let mut failed = start();
    for _ in 0..6 {
        failed = world.until_failure();
    }
    let tomorrow = failed.date_naive().succ_opt().unwrap();
    let run = tomorrow.and_hms_opt(17, 0, 0).unwrap().and_utc();
    assert_around(world.next(), run);
}

#[test]
fn a_successful_retry_resumes_the_schedule() {
    let mut world = GatewayState::hourly();
    world.tick(start() + MINUTE);
    let due = world.next().unwrap();
    world.estate.fail_storage("Hourly", due..due + MINUTE);
    let failed = world.until_failure();
    let ended = world.until_backup();
    assert!(ended - failed < TimeDelta::seconds(63 + 23));
    assert_around(world.next(), ended + HOUR);
    assert_eq!(world.kind(ended), Some(HealthReportKind::BackedUp));
}

/// The number of partitions whose timer has stopped after 30 days.
fn stopped(partitions: usize, policy: Policy, tempo: Tempo, behaviour: Behaviour) -> usize {
    let mut world = GatewayState::with(partitions, policy);
    world.estate.set_tempo(tempo);
    world.estate.set_behaviour(behaviour);
    world.estate.backup_service.log = None;
    world.estate.tick(start() + 24 * 30 * HOUR);
    let replicas = world.estate.backup_service.replicas.values();
    replicas.filter(|it| it.timer.is_none()).count()
}

fn every(interval: Duration) -> Policy {
    Policy {
        schedule: Schedule::Every(interval),
        ..hourly()
    }
}

/// Snapshot and upload within two seconds.
fn short() -> Tempo {
    Tempo {
        snapshot: Duration::ZERO..=SECOND,
        upload: Duration::ZERO..=SECOND,
        ..Tempo::default()
    }
}

/// A replay of the arithmetic alone gives 63, 14 and 400 of 400.
#[test]
fn timers_stop_at_midnight_as_often_as_calculated() {
    let at =
        |partitions, policy| stopped(partitions, policy, Tempo::default(), Behaviour::default());
    let ten_minutes = at(100, every(10 * MINUTE));
    assert!(
        (6..28).contains(&ten_minutes),
        "16 of 100 expected: {ten_minutes}"
    );
    let one_hour = at(400, every(HOUR));
    assert!(
        (4..26).contains(&one_hour),
        "14 of 400 expected: {one_hour}"
    );
    let two_runs = stopped(400, daily(&[0, 12]), short(), Behaviour::default());
    assert!(two_runs > 395, "{two_runs}");
}

#[test]
fn no_timer_stops_without_the_midnight_fault() {
    let fixed = Behaviour {
        midnight_stop: false,
        ..Behaviour::default()
    };
    assert_eq!(stopped(50, every(10 * MINUTE), Tempo::default(), fixed), 0);
    assert_eq!(stopped(100, daily(&[0, 12]), short(), fixed), 0);
}

#[test]
fn midnight_alone_is_taken_twice_and_an_interval_of_a_day_comes_early() {
    let count = |policy: Policy, days: u32| {
        let mut world = GatewayState::with(100, policy);
        world.estate.set_tempo(short());
        world.tick(start() + days * 24 * HOUR);
        let taken: Vec<_> = world.ids.iter().map(|id| world.stored(*id)).collect();
        let gaps = taken.iter().flat_map(|it| it.windows(2));
        let gaps = gaps.map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
        (
            gaps.len(),
            gaps.iter()
                .filter(|it| **it < TimeDelta::minutes(1))
                .count(),
        )
    };
    let (runs, doubles) = count(daily(&[0]), 20);
    assert!(doubles > runs / 5, "{doubles} of {runs}");
    let (_, doubles) = count(daily(&[1]), 20);
    assert_eq!(doubles, 0);
}

#[test]
fn a_stopped_timer_keeps_its_last_event_and_ends_with_a_restart_of_the_schedule() {
    let mut world = GatewayState::hourly();
    let ended = world.until_backup();
    world.estate.stop_silently([world.id], ended + MINUTE);
    let now = ended + 100 * HOUR;
    world.tick(now);
    assert_eq!((world.next(), world.counted(world.id)), (None, 1));
    assert_eq!(world.kind(now), Some(HealthReportKind::BackedUp));
    world.estate.move_primary(world.id, now + HOUR);
    assert_eq!(world.next(), None);
    let updated = now + 2 * HOUR;
    world.estate.update_policy("Hourly", updated, |_| {});
    world.tick(updated + MINUTE);
    assert!(world.next().is_some());
}

#[test]
fn an_interval_of_zero_runs_without_pause() {
    let mut world = GatewayState::with(1, every(Duration::ZERO));
    world.tick(start() + HOUR);
    // 22 s each, and up to 10 s between them.
    let count = world.counted(world.id);
    assert!((110..=170).contains(&count), "{count}");
}

#[test]
fn chains_are_one_longer_than_the_increments_of_the_policy() {
    for most in [0, 1, 3] {
        let policy = Policy {
            max_incremental_backups: most,
            ..hourly()
        };
        let mut world = GatewayState::with(1, policy);
        world.tick(start() + 13 * HOUR);
        let backups = world.backups();
        assert!(backups.len() >= 12);
        let chain = usize::try_from(most).unwrap() + 1;
        for (index, backup) in backups.iter().enumerate() {
            assert_eq!(backup.full, index % chain == 0, "{most}: {index}");
            assert_eq!(backup.chain, backups[index - index % chain].id);
        }
        assert!(backups.windows(2).all(|it| it[0].lsn < it[1].lsn));
    }
}

#[test]
fn a_failed_upload_does_not_break_the_chain() {
    let mut world = GatewayState::hourly();
    let first = world.until_backup();
    world
        .estate
        .fail_storage("Hourly", first..first + HOUR + MINUTE);
    world.until_failure();
    world.until_backup();
    let backups = world.backups();
    assert_eq!(backups[1].chain, backups[0].id);
}
