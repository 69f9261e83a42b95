//! The schedule of a policy, and when its next backup is due.
//!
//! Pure arithmetic in UTC, in cluster time. A time beyond the calendar is `None`.

use std::time::Duration;

use chrono::{DateTime, Datelike, Days, NaiveTime, TimeDelta, Utc, Weekday};

/// When a policy takes backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// This interval after the end of the last one.
    Frequency(Duration),
    /// At these times of every day, UTC. Sorted, distinct, at least one.
    Daily(Vec<NaiveTime>),
    /// At these times of these days of every week, UTC. Both sorted from Monday, distinct, at
    /// least one.
    Weekly(Vec<Weekday>, Vec<NaiveTime>),
}

/// Upper bound of the jitter of a run: a replica moves the start by up to 10 s in either direction
/// (`BackupTimer.cs`).
pub(crate) const JITTER: TimeDelta = TimeDelta::minutes(1);

const WEEK: u64 = 7;

impl Schedule {
    /// When the first backup after `moment` is due. For a frequency: one interval later, counted from
    /// the end of the last backup, or from the time when protection was enabled, resumed or changed.
    /// Otherwise: the first run after `moment`.
    pub fn next(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Frequency(interval) => {
                moment.checked_add_signed(TimeDelta::from_std(*interval).ok()?)
            }
            Self::Daily(times) => next_run(moment, times, |_| true),
            Self::Weekly(days, times) => next_run(moment, times, |day| days.contains(&day)),
        }
    }

    /// When the next backup is due after `success`. Under a schedule with fixed times, a success up to
    /// `tolerance` before a run belongs to that run: the replica moves each run by up to 10 s in
    /// either direction (`BackupTimer.cs`). The tolerance is limited to half of the shortest interval
    /// between runs, so that it never skips a whole run.
    pub fn next_after_success(
        &self,
        success: DateTime<Utc>,
        tolerance: TimeDelta,
    ) -> Option<DateTime<Utc>> {
        let next = self.next(success)?;
        let early_by = next - success;
        let is_within = |gap: TimeDelta| early_by <= gap / 2;
        if early_by <= tolerance && self.gaps().into_iter().min().is_some_and(is_within) {
            return self.next(next);
        }
        Some(next)
    }

    /// The longest time between two runs.
    pub fn longest_interval(&self) -> Option<Duration> {
        match self {
            Self::Frequency(interval) => Some(*interval),
            Self::Daily(_) | Self::Weekly(..) => self.gaps().into_iter().max()?.to_std().ok(),
        }
    }

    /// The times between consecutive runs of a week; empty for a frequency, which has no fixed runs.
    fn gaps(&self) -> Vec<TimeDelta> {
        match self {
            Self::Frequency(_) => Vec::new(),
            Self::Daily(times) => gaps(times, &ALL_DAYS),
            Self::Weekly(days, times) => gaps(times, days),
        }
    }

    /// The label value.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Frequency(_) => "FrequencyBased",
            Self::Daily(_) => "TimeBasedDaily",
            Self::Weekly(..) => "TimeBasedWeekly",
        }
    }
}

const ALL_DAYS: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

/// The first run after `moment`: later on the same day, or within the next seven days.
fn next_run(
    moment: DateTime<Utc>,
    times: &[NaiveTime],
    runs_on: impl Fn(Weekday) -> bool,
) -> Option<DateTime<Utc>> {
    (0..=WEEK).find_map(|offset| {
        let day = moment.date_naive().checked_add_days(Days::new(offset))?;
        let runs = times.iter().map(|time| day.and_time(*time).and_utc());
        runs.filter(|run| runs_on(day.weekday()) && *run > moment)
            .min()
    })
}

fn gaps(times: &[NaiveTime], days: &[Weekday]) -> Vec<TimeDelta> {
    let mut runs: Vec<TimeDelta> = days
        .iter()
        .flat_map(|day| times.iter().map(|time| since_monday(*day, *time)))
        .collect();
    runs.sort_unstable();
    let again = runs.first().map(|first| *first + TimeDelta::weeks(1));
    let later = runs.iter().copied().skip(1).chain(again);
    later.zip(&runs).map(|(later, run)| later - *run).collect()
}

fn since_monday(day: Weekday, time: NaiveTime) -> TimeDelta {
    TimeDelta::days(day.num_days_from_monday().into()) + (time - NaiveTime::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-23 is a Monday.
    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-{text}Z").parse().unwrap()
    }

    fn time(text: &str) -> NaiveTime {
        text.parse().unwrap()
    }

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3600)
    }

    #[test]
    fn a_frequency_is_due_one_interval_later() {
        let schedule = Schedule::Frequency(Duration::from_secs(600));
        assert_eq!(schedule.next(at("23T10:00:03")), Some(at("23T10:10:03")));
        assert_eq!(schedule.longest_interval(), Some(Duration::from_secs(600)));
    }

    #[test]
    fn a_daily_schedule_is_due_at_its_next_run_time() {
        let schedule = Schedule::Daily(vec![time("09:00:00"), time("17:00:00")]);
        assert_eq!(schedule.next(at("23T08:59:59")), Some(at("23T09:00:00")));
        assert_eq!(schedule.next(at("23T09:00:00")), Some(at("23T17:00:00")));
        assert_eq!(schedule.next(at("23T17:00:01")), Some(at("24T09:00:00")));
        assert_eq!(schedule.longest_interval(), Some(hours(16)));
        let once = Schedule::Daily(vec![time("00:00:00")]);
        assert_eq!(once.next(at("23T00:00:00")), Some(at("24T00:00:00")));
        assert_eq!(once.longest_interval(), Some(hours(24)));
    }

    #[test]
    fn a_weekly_schedule_is_due_on_its_next_day() {
        let workdays = vec![Weekday::Mon, Weekday::Wed, Weekday::Fri];
        let schedule = Schedule::Weekly(workdays, vec![time("09:00:00"), time("18:00:00")]);
        assert_eq!(schedule.next(at("23T10:00:00")), Some(at("23T18:00:00")));
        assert_eq!(schedule.next(at("23T18:00:00")), Some(at("25T09:00:00")));
        assert_eq!(schedule.next(at("27T18:00:00")), Some(at("30T09:00:00")));
        // From Friday evening to Monday morning.
        assert_eq!(schedule.longest_interval(), Some(hours(63)));
    }

    #[test]
    fn a_single_weekly_run_is_due_a_week_later() {
        let schedule = Schedule::Weekly(vec![Weekday::Mon], vec![time("09:00:00")]);
        assert_eq!(schedule.next(at("23T08:00:00")), Some(at("23T09:00:00")));
        assert_eq!(schedule.next(at("23T09:00:00")), Some(at("30T09:00:00")));
        assert_eq!(schedule.longest_interval(), Some(hours(24 * 7)));
    }

    #[test]
    fn a_success_shortly_before_a_run_belongs_to_it() {
        let minute = TimeDelta::minutes(1);
        let nightly = Schedule::Daily(vec![time("02:00:00")]);
        for early in ["23T01:59:00", "23T01:59:50", "23T01:59:59"] {
            let due = nightly.next_after_success(at(early), minute);
            assert_eq!(due, Some(at("24T02:00:00")), "{early}");
        }
        let before = nightly.next_after_success(at("23T01:58:59"), minute);
        assert_eq!(before, Some(at("23T02:00:00")));
        let after = nightly.next_after_success(at("23T02:00:00"), minute);
        assert_eq!(after, Some(at("24T02:00:00")));
        let weekly = Schedule::Weekly(vec![Weekday::Mon, Weekday::Thu], vec![time("00:00:00")]);
        let due = weekly.next_after_success(at("25T23:59:51"), minute);
        assert_eq!(due, Some(at("30T00:00:00")));
        let frequency = Schedule::Frequency(hours(1));
        let due = frequency.next_after_success(at("23T01:59:50"), minute);
        assert_eq!(due, Some(at("23T02:59:50")));
    }

    #[test]
    fn a_tolerance_never_skips_a_whole_run() {
        let runs = ["02:00:00", "02:00:30", "14:00:00"];
        let schedule = Schedule::Daily(runs.map(time).to_vec());
        let due = |success| schedule.next_after_success(at(success), TimeDelta::hours(5));
        assert_eq!(due("23T01:59:45"), Some(at("23T02:00:30")));
        assert_eq!(due("23T01:59:44"), Some(at("23T02:00:00")));
        assert_eq!(due("23T02:00:10"), Some(at("23T02:00:30")));
        assert_eq!(due("23T02:00:15"), Some(at("23T14:00:00")));
        assert_eq!(due("23T13:00:00"), Some(at("23T14:00:00")));
    }

    #[test]
    fn beyond_the_calendar_nothing_is_due() {
        let schedule = Schedule::Frequency(Duration::MAX);
        assert_eq!(schedule.next(at("23T00:00:00")), None);
        let daily = Schedule::Daily(vec![time("00:00:00")]);
        assert_eq!(daily.next(DateTime::<Utc>::MAX_UTC), None);
    }

    proptest! {
        #[test]
        fn what_is_due_is_later_but_never_by_more_than_the_longest_gap(
            seconds in 0_i64..4_000_000_000,
            minutes in prop::collection::btree_set(0_u32..1440, 1..5),
            days in prop::collection::btree_set(0_u8..7, 1..8),
        ) {
            let moment = DateTime::from_timestamp(seconds, 0).unwrap();
            let times: Vec<_> = minutes
                .iter()
                .map(|minute| NaiveTime::from_hms_opt(minute / 60, minute % 60, 0).unwrap())
                .collect();
            let days = days.iter().map(|day| Weekday::try_from(*day).unwrap()).collect();
            for schedule in [Schedule::Daily(times.clone()), Schedule::Weekly(days, times)] {
                let due = schedule.next(moment).unwrap();
                let gap = TimeDelta::from_std(schedule.longest_interval().unwrap()).unwrap();
                prop_assert!(due > moment && due - moment <= gap);
            }
        }
    }
}
