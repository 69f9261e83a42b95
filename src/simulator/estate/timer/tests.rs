//! The timer against the figures of the published source.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn time(hour: u32) -> NaiveTime {
    NaiveTime::from_hms_opt(hour, 0, 0).unwrap()
}

fn timer(schedule: &Schedule, recovery_point: Option<DateTime<Utc>>) -> Timer<'_> {
    Timer {
        schedule,
        recovery_point,
        restarted: DateTime::<Utc>::MIN_UTC,
        jitter: Duration::ZERO,
        midnight_stop: true,
    }
}

/// The next run without jitter.
fn next(schedule: &Schedule, point: Option<&str>, reason: Reason, now: &str) -> DateTime<Utc> {
    let timer = timer(schedule, point.map(at));
    let armed = timer.arm(reason, at(now), &mut fastrand::Rng::with_seed(1));
    at(now) + armed.unwrap().delay
}

#[test]
fn a_run_time_is_due_at_or_after_the_recovery_point_whatever_its_place_in_the_list() {
    let daily = Schedule::Daily(vec![time(17), time(9)]);
    for (point, now, run) in [
        (None, "2025-06-13T08:59:59Z", "2025-06-13T09:00:00Z"),
        (None, "2025-06-13T09:00:00Z", "2025-06-13T09:00:00Z"),
        (None, "2025-06-13T17:00:01Z", "2025-06-14T09:00:00Z"),
        // Ended early, by a run that began early: shifted past its run time.
        (
            Some("2025-06-13T09:00:02Z"),
            "2025-06-13T08:59:57Z",
            "2025-06-13T17:00:00Z",
        ),
    ] {
        let due = next(&daily, point, Reason::Scheduled, now);
        assert_eq!(due, at(run), "{now}");
    }
}

#[test]
fn a_single_weekly_run_comes_back_after_seven_days() {
    let weekly = Schedule::Weekly(vec![Weekday::Fri], vec![time(9)]);
    let due = next(&weekly, None, Reason::Scheduled, "2025-06-13T09:00:01Z");
    assert_eq!(due, at("2025-06-20T09:00:00Z"));
    let days = Schedule::Weekly(vec![Weekday::Fri, Weekday::Mon], vec![time(18), time(9)]);
    let due = next(&days, None, Reason::Scheduled, "2025-06-13T18:00:01Z");
    assert_eq!(due, at("2025-06-16T09:00:00Z"));
}

#[test]
fn an_interval_counts_from_the_recovery_point_and_from_now_after_the_last_retry() {
    let hourly = Schedule::Every(Duration::from_secs(3600));
    let now = "2025-06-13T10:30:00Z";
    for (point, reason, run) in [
        (None, Reason::Scheduled, "2025-06-13T11:30:00Z"),
        (
            Some("2025-06-13T10:00:00Z"),
            Reason::Scheduled,
            "2025-06-13T11:00:00Z",
        ),
        (
            Some("2025-06-13T10:00:00Z"),
            Reason::Exhausted,
            "2025-06-13T11:30:00Z",
        ),
        (
            Some("2025-06-13T10:30:05Z"),
            Reason::Scheduled,
            "2025-06-13T11:30:05Z",
        ),
        // Older than the interval: at once, again and again.
        (
            Some("2025-06-13T09:00:00Z"),
            Reason::Scheduled,
            "2025-06-13T10:30:00Z",
        ),
    ] {
        assert_eq!(next(&hourly, point, reason, now), at(run), "{point:?}");
    }
}

#[test]
fn a_takeover_makes_up_for_a_missed_run_only_after_a_success() {
    let hourly = Schedule::Every(Duration::from_secs(3600));
    let daily = Schedule::Daily(vec![time(9)]);
    let weekly = Schedule::Weekly(vec![Weekday::Fri], vec![time(9)]);
    let now = "2025-06-13T10:30:00Z";
    for (schedule, point, missed) in [
        (&hourly, None, false),
        (&hourly, Some("2025-06-13T09:29:59Z"), true),
        (&hourly, Some("2025-06-13T09:30:01Z"), false),
        (&hourly, Some("2025-06-13T10:30:05Z"), false),
        (&daily, None, false),
        (&daily, Some("2025-06-13T08:59:59Z"), true),
        (&daily, Some("2025-06-13T09:00:02Z"), false),
        (&weekly, Some("2025-06-12T23:00:00Z"), true),
        (&weekly, Some("2025-06-13T09:00:02Z"), false),
    ] {
        let due = next(schedule, point, Reason::Takeover, now);
        assert_eq!(due == at(now), missed, "{schedule:?} {point:?}");
    }
}

#[test]
fn a_recovery_point_on_the_next_day_stops_short_schedules_and_brings_long_ones_forward() {
    let (now, point) = ("2025-06-13T23:59:57Z", "2025-06-14T00:00:05Z");
    let hours = |hours: u64| Schedule::Every(Duration::from_secs(3600 * hours));
    let arm = |schedule: &Schedule, midnight_stop| {
        let timer = Timer {
            midnight_stop,
            jitter: Duration::from_secs(10),
            ..timer(schedule, Some(at(point)))
        };
        timer.arm(Reason::Scheduled, at(now), &mut fastrand::Rng::with_seed(3))
    };
    let two_a_day = Schedule::Daily(vec![time(0), time(12)]);
    for schedule in [hours(1), hours(12), two_a_day] {
        assert_eq!(arm(&schedule, true), None, "{schedule:?}");
        assert!(arm(&schedule, false).is_some(), "{schedule:?}");
    }
    let seconds = |armed: Option<Armed>| armed.unwrap().delay.num_seconds();
    let midnight_only = Schedule::Daily(vec![time(0)]);
    for schedule in [hours(24), midnight_only] {
        assert!(
            (0..=18).contains(&seconds(arm(&schedule, true))),
            "{schedule:?}"
        );
        assert!(seconds(arm(&schedule, false)) > 86_000, "{schedule:?}");
    }
    let weekly = Schedule::Weekly(vec![Weekday::Sat], vec![time(0)]);
    let day = 86_400;
    assert!((seconds(arm(&weekly, true)) - 6 * day).abs() < 20);
    assert!((seconds(arm(&weekly, false)) - 7 * day).abs() < 20);
}

#[test]
fn a_schedule_without_run_times_never_comes() {
    let never = Schedule::Daily(Vec::new());
    let armed = timer(&never, None).arm(
        Reason::Scheduled,
        at("2025-06-13T09:00:00Z"),
        &mut fastrand::Rng::with_seed(1),
    );
    assert!(armed.unwrap().delay > TimeDelta::days(365 * 1000));
}

proptest! {
    #[test]
    fn jitter_stays_within_its_bound_and_no_run_is_armed_before_now(
        seed: u64,
        interval in 0_u64..100_000,
        second in 0_i64..1_000_000,
        age in -11_i64..200_000,
        reason in prop_oneof![
            Just(Reason::Scheduled), Just(Reason::Takeover), Just(Reason::Exhausted)
        ],
        midnight_stop: bool,
    ) {
        let schedule = Schedule::Every(Duration::from_secs(interval));
        let now = at("2025-06-13T00:00:00Z") + TimeDelta::seconds(second);
        let timer = Timer {
            jitter: Duration::from_secs(10),
            midnight_stop,
            ..timer(&schedule, Some(now - TimeDelta::seconds(age)))
        };
        let bound = TimeDelta::seconds(10);
        let armed = timer.arm(reason, now, &mut fastrand::Rng::with_seed(seed));
        if let Some(armed) = armed {
            prop_assert!(armed.delay >= TimeDelta::zero());
            prop_assert!(armed.jitter >= -bound && armed.jitter <= bound);
        } else {
            prop_assert!(midnight_stop && age < 0, "only the midnight fault stops a timer");
        }
    }
}
