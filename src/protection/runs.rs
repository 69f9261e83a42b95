//! Verdicts on partitions whose replicas run by the clock as Service Fabric documents it: each
//! armed run is moved by up to 10 s in either direction, takes a snapshot, then uploads it; the next
//! run is the first one at or after the end of the last good backup, which counts |jitter| + 1 s
//! later if its jitter was negative (`BackupTimer.cs`, `BackupRestoreManager.cs`). The runs here are
//! written from that description and share nothing with the schedule under test.

use std::collections::BTreeSet;

use chrono::{NaiveTime, Weekday};
use proptest::prelude::*;

use super::effective::EffectiveConfiguration;
use super::*;
use crate::model::{ConfigurationScope, PeriodicAttempt, Read, Schedule};

const WEEK: i64 = 7 * 86_400;

/// 2026-11-30 is a Monday.
fn monday() -> DateTime<Utc> {
    "2026-11-30T00:00:00Z".parse().unwrap()
}

fn at(second: i64) -> DateTime<Utc> {
    monday() + TimeDelta::seconds(second)
}

/// What one armed run does: its jitter, how long the snapshot takes and how long the upload.
#[derive(Clone, Copy, Debug)]
struct Course {
    jitter: i64,
    snapshot: i64,
    upload: i64,
}

/// A backup that ended well.
#[derive(Clone, Copy, Debug)]
struct Backup {
    run: i64,
    created: i64,
    ended: i64,
}

/// The backups of three weeks: `weekly` are the run times in seconds since Monday, `missed` is the
/// number of an armed run that does nothing.
fn backups(
    weekly: &[i64],
    courses: &[Course],
    missed: Option<usize>,
) -> (Vec<Backup>, Option<i64>) {
    let runs: Vec<i64> = (0..5)
        .flat_map(|week| weekly.iter().map(move |second| week * WEEK + second))
        .collect();
    let mut recovery_point = 0;
    let mut backups = Vec::new();
    let mut missed_run = None;
    for number in 0.. {
        let next = runs.iter().find(|run| **run >= recovery_point);
        let Some(run) = next.copied().filter(|run| *run < 3 * WEEK) else {
            break;
        };
        let course = courses[number % courses.len()];
        if missed == Some(number) {
            missed_run = Some(run);
            recovery_point = run + 1;
            continue;
        }
        let created = run + course.jitter + course.snapshot;
        let ended = created + course.upload;
        recovery_point = ended;
        if course.jitter < 0 {
            recovery_point += course.jitter.abs() + 1;
        }
        backups.push(Backup {
            run,
            created,
            ended,
        });
    }
    (backups, missed_run)
}

fn schedule(minutes: &BTreeSet<i64>, days: Option<&BTreeSet<u8>>) -> (Schedule, Vec<i64>) {
    let time = |minute: &i64| NaiveTime::MIN + TimeDelta::minutes(*minute);
    let times = minutes.iter().map(time).collect();
    let all = (0..7).collect();
    let on = days.unwrap_or(&all);
    let runs = on
        .iter()
        .flat_map(|day| minutes.iter().map(|m| i64::from(*day) * 86_400 + m * 60));
    let runs = runs.collect();
    let schedule = match days {
        None => Schedule::Daily(times),
        Some(days) => {
            let days = days.iter().map(|day| Weekday::try_from(*day).unwrap());
            Schedule::Weekly(days.collect(), times)
        }
    };
    (schedule, runs)
}

fn shortest_gap(weekly: &[i64]) -> i64 {
    let again = weekly.first().map(|first| first + WEEK);
    let later = weekly.iter().skip(1).copied().chain(again);
    let gaps = later.zip(weekly).map(|(later, run)| later - run);
    gaps.min().unwrap()
}

/// Which sources show the successes, and so by which of its times one is dated.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Health,
    List,
}

fn state(
    schedule: &Schedule,
    source: Source,
    success: Option<Backup>,
    rules: &Rules,
    now: DateTime<Utc>,
) -> ProtectionState {
    let applied = EffectiveConfiguration {
        policy: Some(("Clock".into(), ConfigurationScope::Application)),
        suspended: None,
    };
    let ended = success.map(|backup| at(backup.ended));
    let attempt = ended.map(|ended| PeriodicAttempt {
        succeeded: true,
        ended,
    });
    let facts = Facts {
        configuration: Some(Read {
            value: &applied,
            at: now,
        }),
        schedule: Some(Read {
            value: Some(schedule),
            at: now,
        }),
        health: (source == Source::Health).then_some(Read {
            value: attempt,
            at: now,
        }),
        listed_at: Some(now),
        last_success: match source {
            Source::Health => ended,
            Source::List => success.map(|backup| at(backup.created)),
        },
        expected_since: Some(at(-WEEK)),
        ..Facts::default()
    };
    evaluate(&facts, rules, now).state
}

fn rules(allowance: i64, tolerance: i64) -> Rules {
    Rules {
        staleness: TimeDelta::minutes(5),
        list_staleness: TimeDelta::minutes(30),
        overdue_allowance: TimeDelta::seconds(allowance),
        run_tolerance: TimeDelta::seconds(tolerance),
        stuck_after: TimeDelta::minutes(15),
        expected_interval: None,
        reads_configuration: true,
        reads_lists: true,
    }
}

fn courses(longest: i64) -> impl Strategy<Value = Vec<Course>> {
    let course = (-10_i64..=10, 1..=longest / 4, 1..=longest * 3 / 4);
    let course = course.prop_map(|(jitter, snapshot, upload)| Course {
        jitter,
        snapshot,
        upload,
    });
    prop::collection::vec(course, 1..12)
}

fn days() -> impl Strategy<Value = Option<BTreeSet<u8>>> {
    prop::option::of(prop::collection::btree_set(0_u8..7, 1..8))
}

#[test]
fn without_a_tolerance_a_healthy_partition_is_late() {
    let (schedule, weekly) = schedule(&[120].into(), None);
    let early = Course {
        jitter: -10,
        snapshot: 2,
        upload: 3,
    };
    let (backups, _) = backups(&weekly, &[early], None);
    let until = at(backups[1].ended) - TimeDelta::nanoseconds(1);
    for (tolerance, expected) in [
        (0, ProtectionState::Overdue),
        (60, ProtectionState::Protected),
    ] {
        let rules = rules(900, tolerance);
        let state = state(&schedule, Source::Health, Some(backups[0]), &rules, until);
        assert_eq!(state, expected);
    }
}

proptest! {
    #[test]
    fn a_healthy_partition_is_never_late(
        minutes in prop::collection::btree_set(0_i64..1440, 1..6),
        days in days(),
        (longest, courses) in (20_i64..1_200).prop_flat_map(|longest| (Just(longest), courses(longest))),
    ) {
        let (schedule, weekly) = schedule(&minutes, days.as_ref());
        let (backups, _) = backups(&weekly, &courses, None);
        let rules = rules(longest + 10, 60);
        for source in [Source::Health, Source::List] {
            // Where uploads outlast the gap between two runs, the second run is left out, and a
            // list, which shows the beginning of the upload, cannot answer.
            if source == Source::List && longest + 20 >= shortest_gap(&weekly) {
                continue;
            }
            for pair in backups.windows(2) {
                let until = at(pair[1].ended) - TimeDelta::nanoseconds(1);
                let state = state(&schedule, source, Some(pair[0]), &rules, until);
                prop_assert_eq!(state, ProtectionState::Protected, "{:?} {:?}", source, pair);
            }
        }
    }

    #[test]
    fn a_missed_run_is_found_at_its_time_and_the_allowance(
        fives in prop::collection::btree_set(0_i64..288, 1..6),
        days in days(),
        courses in courses(120),
        missed in 1_usize..8,
    ) {
        let minutes = fives.iter().map(|five| five * 5).collect();
        let (schedule, weekly) = schedule(&minutes, days.as_ref());
        let (backups, run) = backups(&weekly, &courses, Some(missed));
        let Some(run) = run else { return Ok(()) };
        let rules = rules(130, 60);
        let before = backups.iter().rfind(|backup| backup.run < run).copied();
        let next = backups.iter().find(|backup| backup.run > run);
        for source in [Source::Health, Source::List] {
            let found = |moment| state(&schedule, source, before, &rules, moment);
            let late = at(run + 130);
            prop_assert_eq!(found(late), ProtectionState::Protected);
            prop_assert_eq!(found(late + TimeDelta::nanoseconds(1)), ProtectionState::Overdue);
            if let Some(next) = next {
                prop_assert_eq!(found(at(next.ended)), ProtectionState::Overdue);
            }
        }
    }
}
