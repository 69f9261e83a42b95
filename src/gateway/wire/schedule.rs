//! Schedules of policies, and the durations in them.
//!
//! A schedule that is not understood is none: a wrong interval would raise a false alarm, or keep
//! a true one down.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{NaiveTime, Weekday};
use regex::Regex;
use serde::Deserialize;

use crate::gateway::decode::point_in_time;
use crate::model::Schedule;

/// `Schedule` of a policy. Which keys there are depends on the kind.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ScheduleReply {
    schedule_kind: Option<String>,
    interval: Option<String>,
    schedule_frequency_type: Option<String>,
    /// Absent, null or empty for a daily schedule.
    run_days: Option<Vec<String>>,
    /// Times on the first day of year 1, in UTC.
    run_times: Option<Vec<String>>,
}

impl ScheduleReply {
    /// The schedule, if all that matters of it is understood.
    pub(super) fn schedule(self) -> Option<Schedule> {
        match self.schedule_kind?.as_str() {
            "FrequencyBased" => {
                let interval = day_time_duration(&self.interval?)?;
                (!interval.is_zero()).then_some(Schedule::Frequency(interval))
            }
            "TimeBased" => {
                let times = times(&self.run_times?)?;
                match self.schedule_frequency_type?.as_str() {
                    "Daily" => Some(Schedule::Daily(times)),
                    "Weekly" => Some(Schedule::Weekly(weekdays(&self.run_days?)?, times)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Sorted and distinct; `None` when there is none, or one that is not understood.
fn times(texts: &[String]) -> Option<Vec<NaiveTime>> {
    let times = texts
        .iter()
        .map(|text| point_in_time(text).map(|time| time.time()))
        .collect::<Option<BTreeSet<_>>>()?;
    (!times.is_empty()).then(|| times.into_iter().collect())
}

/// As [`times`].
fn weekdays(words: &[String]) -> Option<Vec<Weekday>> {
    let all_known = words
        .iter()
        .all(|word| WEEK.iter().any(|(known, _)| known == word));
    let days: Vec<_> = WEEK
        .into_iter()
        .filter(|(known, _)| words.iter().any(|word| word == known))
        .map(|(_, day)| day)
        .collect();
    (all_known && !days.is_empty()).then_some(days)
}

const WEEK: [(&str, Weekday); 7] = [
    ("Monday", Weekday::Mon),
    ("Tuesday", Weekday::Tue),
    ("Wednesday", Weekday::Wed),
    ("Thursday", Weekday::Thu),
    ("Friday", Weekday::Fri),
    ("Saturday", Weekday::Sat),
    ("Sunday", Weekday::Sun),
];

/// Reads a duration of ISO 8601 in weeks, days and parts of a day, such as `P1DT2H`: all that .NET
/// writes for a time span. `None` for anything else: years and months have no fixed length, and no
/// duration here is negative.
pub(super) fn day_time_duration(text: &str) -> Option<Duration> {
    let parts = DURATION
        .captures(text)
        .filter(|_| !text.ends_with(['P', 'T']))?;
    let part = |name: &str| parts.name(name).map_or("", |part| part.as_str());
    let mut seconds = 0_u64;
    for (name, length) in [
        ("weeks", 7 * 24 * 60 * 60),
        ("days", 24 * 60 * 60),
        ("hours", 60 * 60),
        ("minutes", 60),
        ("seconds", 1),
    ] {
        let count: u64 = match part(name) {
            "" => 0,
            digits => digits.parse().ok()?,
        };
        seconds = seconds.checked_add(count.checked_mul(length)?)?;
    }
    let fraction = format!("{:0<9.9}", part("fraction"));
    Some(Duration::new(seconds, fraction.parse().ok()?))
}

static DURATION: LazyLock<Regex> = LazyLock::new(|| {
    let date = "(?:(?P<weeks>[0-9]+)W)?(?:(?P<days>[0-9]+)D)?";
    let clock = "(?:(?P<hours>[0-9]+)H)?(?:(?P<minutes>[0-9]+)M)?";
    let seconds = "(?:(?P<seconds>[0-9]+)(?:[.,](?P<fraction>[0-9]+))?S)?";
    Regex::new(&format!("^P{date}(?:T{clock}{seconds})?$"))
        .expect("the pattern is fixed, and every test here compiles it")
});
