//! Parsing of backup policies in requests.
//!
//! Reads the JSON of `CreateBackupPolicy` and `UpdateBackupPolicy`; an invalid property is rejected
//! by name.

use std::time::Duration;

use chrono::{NaiveTime, Weekday};
use serde_json::Value;

use crate::simulator::estate::{Policy, Retention, Schedule, Storage};

/// The policy, or the property that is missing or invalid.
pub(super) fn read(body: &Value) -> Result<Policy, &'static str> {
    let name = text(body, "Name").ok_or("Name")?;
    let increments = body["MaxIncrementalBackups"].as_u64();
    let increments = increments.filter(|it| *it <= 255).unwrap_or(256);
    let increments = u8::try_from(increments).map_err(|_| "MaxIncrementalBackups")?;
    Ok(Policy {
        name,
        auto_restore_on_data_loss: body["AutoRestoreOnDataLoss"].as_bool().unwrap_or_default(),
        max_incremental_backups: u32::from(increments),
        schedule: schedule(&body["Schedule"]).ok_or("Schedule")?,
        storage: storage(&body["Storage"]).ok_or("Storage")?,
        retention: match &body["RetentionPolicy"] {
            Value::Null => None,
            policy => Some(retention(policy).ok_or("RetentionPolicy")?),
        },
    })
}

fn schedule(body: &Value) -> Option<Schedule> {
    let times = || -> Option<Vec<NaiveTime>> {
        let times = body["RunTimes"].as_array()?.iter();
        times.map(run_time).collect()
    };
    let kind = (
        text(body, "ScheduleKind")?,
        text(body, "ScheduleFrequencyType"),
    );
    match (&*kind.0, kind.1.as_deref()) {
        ("FrequencyBased", _) => {
            // Seconds are truncated, and an interval that is then zero is only rejected if it was
            // zero before (BRS `FrequencyBasedBackupSchedule.cs`).
            let interval = duration(&text(body, "Interval")?)?;
            let minutes = interval.as_secs() / 60;
            (!interval.is_zero()).then(|| Schedule::Every(Duration::from_secs(minutes * 60)))
        }
        ("TimeBased", Some("Daily")) => Some(Schedule::Daily(times()?)),
        ("TimeBased", Some("Weekly")) => {
            let days = body["RunDays"].as_array()?.iter();
            let days: Option<Vec<Weekday>> = days.map(|it| it.as_str()?.parse().ok()).collect();
            Some(Schedule::Weekly(days?, times()?))
        }
        _ => None,
    }
}

/// The time of day in UTC; the date is ignored.
fn run_time(value: &Value) -> Option<NaiveTime> {
    let (_, time) = value.as_str()?.split_once('T')?;
    let time = time.trim_end_matches('Z');
    time.parse().ok()
}

fn storage(body: &Value) -> Option<Storage> {
    let friendly_name = text(body, "FriendlyName").unwrap_or_default();
    Some(match &*text(body, "StorageKind")? {
        "AzureBlobStore" => Storage::AzureBlob {
            friendly_name,
            container: text(body, "ContainerName")?,
        },
        "FileShare" => Storage::FileShare {
            friendly_name,
            path: text(body, "Path")?,
            user: text(body, "PrimaryUserName"),
        },
        "ManagedIdentityAzureBlobStore" => Storage::ManagedIdentity {
            friendly_name,
            blob_service_uri: text(body, "BlobServiceUri")?,
            container: text(body, "ContainerName")?,
        },
        "DsmsAzureBlobStore" => Storage::Dsms {
            friendly_name,
            credentials_location: text(body, "StorageCredentialsSourceLocation")?,
            container: text(body, "ContainerName")?,
        },
        _ => return None,
    })
}

fn retention(body: &Value) -> Option<Retention> {
    let minimum = body["MinimumNumberOfBackups"].as_u64().unwrap_or_default();
    Some(Retention {
        duration: duration(&text(body, "RetentionDuration")?)?,
        minimum: usize::try_from(minimum).ok()?,
    })
}

fn text(body: &Value, key: &str) -> Option<String> {
    Some(body[key].as_str()?.to_owned())
}

/// An ISO 8601 duration of days, hours, minutes and seconds, as `XmlConvert` reads it.
fn duration(text: &str) -> Option<Duration> {
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((days, time)) => (days, time),
        None => (text.strip_prefix('P')?, ""),
    };
    let mut seconds = match days {
        "" => 0,
        days => days.strip_suffix('D')?.parse::<u64>().ok()? * 86_400,
    };
    let mut rest = time;
    for (unit, length) in [('H', 3600), ('M', 60), ('S', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let number = number.split('.').next()?;
            seconds += number.parse::<u64>().ok()? * length;
            rest = after;
        }
    }
    rest.is_empty().then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_read_in_every_spelling_of_the_service() {
        for (text, seconds) in [
            ("PT0S", Some(0)),
            ("PT30S", Some(30)),
            ("PT1M30.5S", Some(90)),
            ("PT4H5M", Some(14_700)),
            ("P1D", Some(86_400)),
            ("P1DT2H", Some(93_600)),
            ("10 minutes", None),
            ("P1W", None),
        ] {
            let read = duration(text).map(|it| it.as_secs());
            assert_eq!(read, seconds, "{text}");
        }
    }

    #[test]
    fn seconds_of_an_interval_are_cut_off_and_zero_is_refused() {
        let every = |interval: &str| {
            schedule(&json!({"ScheduleKind": "FrequencyBased", "Interval": interval}))
        };
        let minutes = |count: u64| Some(Schedule::Every(Duration::from_secs(count * 60)));
        assert_eq!(every("PT1M30S"), minutes(1));
        assert_eq!(every("PT59S"), minutes(0));
        assert_eq!(every("PT0S"), None);
    }
}
