//! Schedules of policies, and the durations in them.
//!
//! A malformed schedule is treated as absent: a wrong interval would cause a false alert or
//! suppress a real one.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{NaiveTime, Weekday};
use regex::Regex;
use serde::Deserialize;

use crate::gateway::decode::{Items, point_in_time};
use crate::model::Schedule;

/// `Schedule` of a policy. Which keys there are depends on the kind.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ScheduleReply {
    schedule_kind: Option<String>,
    interval: Option<String>,
    schedule_frequency_type: Option<String>,
    /// Absent, null or empty for a daily schedule.
    run_days: Option<Items<String>>,
    /// Times on the first day of year 1, in UTC.
    run_times: Option<Items<String>>,
}

impl ScheduleReply {
    /// The schedule, if all relevant members are valid.
    pub(super) fn schedule(self) -> Option<Schedule> {
        match self.schedule_kind?.as_str() {
            "FrequencyBased" => {
                let interval = day_time_duration(&self.interval?)?;
                (!interval.is_zero()).then_some(Schedule::Frequency(interval))
            }
            "TimeBased" => {
                let times = times(&self.run_times?.all()?)?;
                match self.schedule_frequency_type?.as_str() {
                    "Daily" => Some(Schedule::Daily(times)),
                    "Weekly" => Some(Schedule::Weekly(weekdays(&self.run_days?.all()?)?, times)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Most run times of a day that are accepted: one a minute. The verdict iterates over them.
const MAX_RUN_TIMES: usize = 24 * 60;

/// Sorted and distinct; `None` if there are no times, a malformed one, or too many.
fn times(texts: &[String]) -> Option<Vec<NaiveTime>> {
    let times = texts
        .iter()
        .map(|text| point_in_time(text).map(|time| time.time()))
        .collect::<Option<BTreeSet<_>>>()?;
    (1..=MAX_RUN_TIMES)
        .contains(&times.len())
        .then(|| times.into_iter().collect())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn schedule(json: &Value) -> Option<Schedule> {
        let reply: ScheduleReply = serde_json::from_str(&json.to_string()).unwrap();
        reply.schedule()
    }

    fn daily(times: &Value) -> Option<Schedule> {
        schedule(&json!({
            "ScheduleKind": "TimeBased", "ScheduleFrequencyType": "Daily", "RunTimes": times,
        }))
    }

    fn weekly(days: &Value) -> Option<Schedule> {
        schedule(&json!({
            "ScheduleKind": "TimeBased", "ScheduleFrequencyType": "Weekly",
            "RunDays": days, "RunTimes": ["0001-01-01T09:00:00Z"],
        }))
    }

    fn at(hour: u32, minute: u32, second: u32) -> NaiveTime {
        NaiveTime::from_hms_opt(hour, minute, second).unwrap()
    }

    #[test]
    fn durations_of_days_and_times_are_read() {
        for (text, seconds) in [
            ("PT10M", 600.0),
            ("P1D", 86_400.0),
            ("P1DT2H", 93_600.0),
            ("PT4H5M", 14_700.0),
            ("PT1.5S", 1.5),
            ("PT1,5S", 1.5),
            ("P2W", 1_209_600.0),
            ("P1W1DT1H1M1S", 694_861.0),
            ("PT90M", 5_400.0),
            ("PT0S", 0.0),
            ("P000D", 0.0),
            ("P10675199DT2H48M5.5S", 922_337_203_685.5),
            ("PT0.0000000019S", 0.000_000_001),
        ] {
            let expected = Some(Duration::from_secs_f64(seconds));
            assert_eq!(day_time_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_without_fixed_length_are_rejected() {
        for text in [
            "",
            "P",
            "PT",
            "P1DT",
            "T1H",
            "1D",
            "p1d",
            "P1M",
            "P1Y",
            "P1Y2M3D",
            "-PT5M",
            "P-1D",
            "PT5M3H",
            "PT1H1D",
            "P1H",
            "PT1D",
            "PT1.5M",
            "PT.5S",
            "PT5.S",
            "PT5",
            "P 1D",
            "P1D ",
            "P1D\n",
            "00:10:00",
            "600",
            "P٣D",
            "P99999999999999999999D",
            "P9999999999999999999W",
        ] {
            assert_eq!(day_time_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_interval_is_positive_and_of_fixed_length() {
        for (interval, expected) in [
            (
                json!("PT15M"),
                Some(Schedule::Frequency(Duration::from_secs(900))),
            ),
            (json!("PT0S"), None),
            (json!("P0D"), None),
            (json!("-PT15M"), None),
            (json!("P1M"), None),
            (json!("often"), None),
            (json!(null), None),
        ] {
            let json = json!({"ScheduleKind": "FrequencyBased", "Interval": interval});
            assert_eq!(schedule(&json), expected, "{interval}");
        }
    }

    #[test]
    fn run_times_come_in_any_order_date_and_number() {
        let expected = Some(Schedule::Daily(vec![
            at(0, 0, 0),
            at(9, 0, 0),
            at(18, 30, 5),
        ]));
        let times = json!([
            "0001-01-01T18:30:05",
            "0001-01-01T09:00:00Z",
            "2020-02-29T00:00:00.000Z",
            "0001-01-01T09:00:00",
            "0001-01-01T11:00:00+02:00",
        ]);
        assert_eq!(daily(&times), expected);
        for times in [
            json!([]),
            json!(null),
            json!(["09:00"]),
            json!(["0001-01-01T09:00:00Z", "noon"]),
            json!(["0001-01-01T25:00:00Z"]),
        ] {
            assert_eq!(daily(&times), None, "{times}");
        }
    }

    #[test]
    fn a_daily_schedule_needs_no_days() {
        let expected = Some(Schedule::Daily(vec![at(9, 0, 0)]));
        for days in [
            json!(null),
            json!([]),
            json!(["Monday"]),
            json!(["Someday"]),
        ] {
            let json = json!({
                "ScheduleKind": "TimeBased", "ScheduleFrequencyType": "Daily",
                "RunDays": days, "RunTimes": ["0001-01-01T09:00:00Z"],
            });
            assert_eq!(schedule(&json), expected, "{days}");
        }
    }

    #[test]
    fn a_weekly_schedule_needs_days_that_are_all_known() {
        let all = WEEK.map(|(_, day)| day).to_vec();
        let names: Vec<_> = WEEK.iter().rev().map(|(name, _)| name).collect();
        let times = || vec![at(9, 0, 0)];
        for (days, expected) in [
            (json!(names), Some(all)),
            (
                json!(["Sunday", "Monday", "Sunday"]),
                Some(vec![Weekday::Mon, Weekday::Sun]),
            ),
            (json!(["Monday", "Someday"]), None),
            (json!(["monday"]), None),
            (json!([]), None),
            (json!(null), None),
        ] {
            let expected = expected.map(|days| Schedule::Weekly(days, times()));
            assert_eq!(weekly(&days), expected, "{days}");
        }
    }

    #[test]
    fn unknown_schedule_kinds_are_rejected() {
        for json in [
            json!({}),
            json!({"ScheduleKind": null, "Interval": "PT1M"}),
            json!({"ScheduleKind": "Continuous", "Interval": "PT1M"}),
            json!({"ScheduleKind": "TimeBased", "RunTimes": ["0001-01-01T09:00:00Z"]}),
            json!({
                "ScheduleKind": "TimeBased", "ScheduleFrequencyType": "Monthly",
                "RunTimes": ["0001-01-01T09:00:00Z"],
            }),
        ] {
            assert_eq!(schedule(&json), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_duration_or_not(text in "\\PC{0,20}|P?[0-9WDTHMS.]{0,20}") {
            day_time_duration(&text);
        }

        #[test]
        fn spans_are_read_back_as_they_are_written(days: u16, seconds in 0_u64..86_400) {
            let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
            let text = format!("P{days}DT{hours}H{minutes}M{}S", seconds % 60);
            let expected = Duration::from_secs(u64::from(days) * 86_400 + seconds);
            prop_assert_eq!(day_time_duration(&text), Some(expected));
        }
    }
}
