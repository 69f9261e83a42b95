//! Schedules in arithmetic of their own: whole milliseconds since 1970 and nothing else.
//!
//! Responsible for when the truth expects a backup. It must not use the exporter's schedules, or a
//! mistake in those would be true here as well.

use std::time::Duration;

use chrono::{NaiveTime, Weekday};
use servicefabric_backup_exporter::simulator::Schedule;

pub(crate) const SECOND: i64 = 1_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// The schedule of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calendar {
    /// So many minutes after the end of the backup before.
    Every(i64),
    /// At these minutes of each day.
    Daily(&'static [i64]),
    /// On these days, 0 is Monday, at these minutes.
    Weekly(&'static [i64], &'static [i64]),
}

/// What policies of the simulated clusters say, from minutes to a week.
pub(crate) const CALENDARS: [Calendar; 12] = [
    Calendar::Every(10),
    Calendar::Every(30),
    Calendar::Every(60),
    Calendar::Every(4 * 60),
    Calendar::Every(12 * 60),
    Calendar::Every(24 * 60),
    Calendar::Every(3 * 24 * 60),
    Calendar::Daily(&[9 * 60]),
    Calendar::Daily(&[9 * 60, 17 * 60]),
    Calendar::Daily(&[0, 6 * 60, 12 * 60 + 30, 18 * 60]),
    Calendar::Weekly(&[6], &[3 * 60]),
    Calendar::Weekly(&[0, 1, 2, 3, 4], &[2 * 60, 12 * 60]),
];

impl Calendar {
    /// When the next backup is due after one that was taken and uploaded at these moments. An
    /// interval counts from the end of the upload. A backup taken up to a minute before a run time
    /// is that run: every run is moved by up to 10 seconds.
    pub(crate) fn after(self, taken: i64, ended: i64) -> i64 {
        match self {
            Self::Every(_) => self.first_after(ended),
            Self::Daily(_) | Self::Weekly(..) => self.first_after(taken + MINUTE),
        }
    }

    /// When the first backup is due after a schedule restarted at `moment`.
    pub(crate) fn first_after(self, moment: i64) -> i64 {
        match self {
            Self::Every(minutes) => moment + minutes * MINUTE,
            Self::Daily(minutes) => first_run(moment, minutes, &[0, 1, 2, 3, 4, 5, 6]),
            Self::Weekly(days, minutes) => first_run(moment, minutes, days),
        }
    }

    pub(crate) fn as_schedule(self) -> Schedule {
        let times = |minutes: &[i64]| minutes.iter().map(|minute| time_of_day(*minute)).collect();
        match self {
            Self::Every(minutes) => {
                Schedule::Every(Duration::from_secs(minutes.unsigned_abs() * 60))
            }
            Self::Daily(minutes) => Schedule::Daily(times(minutes)),
            Self::Weekly(days, minutes) => {
                let days = days.iter().map(|day| weekday(*day)).collect();
                Schedule::Weekly(days, times(minutes))
            }
        }
    }
}

/// The first of these minutes, on one of these days, later than `moment`.
fn first_run(moment: i64, minutes: &[i64], days: &[i64]) -> i64 {
    let today = moment.div_euclid(DAY);
    let runs = (today..=today + 7)
        // 1970 began on a Thursday.
        .filter(|day| days.contains(&(day + 3).rem_euclid(7)))
        .flat_map(|day| {
            minutes
                .iter()
                .map(move |minute| day * DAY + minute * MINUTE)
        });
    let later = runs.filter(|run| *run > moment);
    later.min().expect("every calendar has a run each week")
}

fn time_of_day(minute: i64) -> NaiveTime {
    let seconds = u32::try_from(minute * 60).expect("a minute of a day");
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0).expect("a minute of a day")
}

fn weekday(day: i64) -> Weekday {
    let day = u8::try_from(day).expect("a day of a week");
    Weekday::try_from(day).expect("a day of a week")
}
