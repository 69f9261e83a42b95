//! The native route of health: the last report of a replica on its periodic backups.
//!
//! State and time of the report decide, never its text, which follows the culture of the node.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::error::ReplyError;
use super::query::Query;
use super::route::{Route, Side};
use super::schedule::day_time_duration;
use crate::gateway::decode::{DecodeError, Field, Items, Object, Timestamp};
use crate::model::{BackupHealth, PeriodicAttempt};

/// Who reports on periodic backups. Not the name of the backup service.
const REPORTER: &str = "System.BackupRestoreManager";

/// The property of the reports on backups.
const BACKUP: &str = "Backup";

/// The property of the reports on restores.
const RESTORE: &str = "Restore";

/// Days in the longest time span of .NET, which means for ever.
const DAYS_OF_FOR_EVER: u64 = 10_675_199;

// GET /Partitions/{id}/$/GetHealth, samples GetPartitionHealth.*

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthReply {
    health_events: Events,
}

type Events = Items<Object<EventReply>>;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct EventReply {
    source_id: Field<String>,
    property: Field<String>,
    health_state: Field<String>,
    source_utc_timestamp: Field<Timestamp>,
    /// An ISO 8601 duration, despite the name.
    time_to_live_in_milli_seconds: Field<String>,
    remove_when_expired: Field<bool>,
    is_expired: Field<bool>,
}

/// The health events of a partition about backups and restores.
pub const PARTITION_HEALTH: Query<BackupHealth> = Query {
    route: Route {
        side: Side::HealthStore,
        // No replicas; only the events are of use.
        parameters: &[
            ("ReplicasHealthStateFilter", "1"),
            ("ExcludeHealthStatistics", "true"),
        ],
        ..Route::native("GetPartitionHealth", "6.0", &["$", "GetHealth"])
    },
    answer: |reply| backup_health(reply.required()?),
    not_enabled: None,
};

fn backup_health(reply: HealthReply) -> Result<BackupHealth, ReplyError> {
    let limit = Events::LIMIT;
    let events = reply.health_events.decodable();
    let (events, skipped) = events.ok_or(ReplyError::TooManyItems { limit })?;
    let mut health = BackupHealth {
        skipped,
        ..BackupHealth::default()
    };
    for Object(event) in events {
        match event.reading() {
            Ok(Reading::Attempt(attempt)) => {
                let newest = health.attempt.filter(|other| other.ended > attempt.ended);
                health.attempt = newest.or(Some(attempt));
            }
            Ok(Reading::Restore(at)) => health.restored_at = health.restored_at.max(Some(at)),
            Ok(Reading::Unknown) => health.unknown_reporter = true,
            Ok(Reading::Nothing) => {}
            Err(_) => health.skipped += 1,
        }
    }
    // One of the events that could not be decoded may be the report on backups.
    health.unknown_reporter |= health.skipped > 0 && health.attempt.is_none();
    Ok(health)
}

/// The meaning of an event for backups.
enum Reading {
    Attempt(PeriodicAttempt),
    /// A restore ended at this moment.
    Restore(DateTime<Utc>),
    /// A report that this version does not know.
    Unknown,
    Nothing,
}

impl EventReply {
    fn reading(self) -> Result<Reading, DecodeError> {
        let source = self.source_id.required()?;
        if source != REPORTER {
            let unknown = source.to_ascii_lowercase().contains("backup");
            return Ok(if unknown {
                Reading::Unknown
            } else {
                Reading::Nothing
            });
        }
        let reported = self.source_utc_timestamp.value().and_then(|time| time.0);
        let succeeded = match self.property.required()?.as_str() {
            BACKUP => match self.health_state.value().as_deref() {
                Some("Ok") => true,
                Some("Warning" | "Error") => false,
                _ => return Ok(Reading::Unknown),
            },
            RESTORE => return reported.map(Reading::Restore).ok_or(DecodeError::Member),
            _ => return Ok(Reading::Nothing),
        };
        let Some(lasts) = lasts(self.time_to_live_in_milli_seconds) else {
            return Ok(Reading::Unknown);
        };
        let removed = self.remove_when_expired.value().unwrap_or_default();
        let expired = self.is_expired.value().unwrap_or_default();
        match (lasts && !removed && !expired, succeeded) {
            (true, _) => {
                let ended = reported.ok_or(DecodeError::Member)?;
                Ok(Reading::Attempt(PeriodicAttempt { succeeded, ended }))
            }
            // "Periodic backup successfully disabled": reported as Ok like a success, for a second.
            (false, true) if removed => Ok(Reading::Nothing),
            // The outcome of an attempt stays until the next one.
            (false, _) => Ok(Reading::Unknown),
        }
    }
}

/// Whether a time to live is the longest there is; `None` when it is not understood.
fn lasts(time_to_live: Field<String>) -> Option<bool> {
    let for_ever = Duration::from_secs(DAYS_OF_FOR_EVER * 24 * 60 * 60);
    match time_to_live {
        Field::Absent => Some(true),
        Field::Unreadable => None,
        Field::Value(text) => Some(day_time_duration(&text)? >= for_ever),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::decode::tests::{sample, samples};
    use crate::gateway::reason::Reason;
    use crate::gateway::wire::tests::{answer, is_read_or_not_understood, mutated};

    const FOR_EVER: &str = "P10675199DT2H48M5.4775807S";
    const TIME: &str = "2022-11-11T16:05:12.118Z";

    fn attempt(succeeded: bool, ended: &str) -> PeriodicAttempt {
        let ended = ended.parse().unwrap();
        PeriodicAttempt { succeeded, ended }
    }

    /// The report on a success, with some of its keys replaced.
    fn event(changes: &Value) -> Value {
        let mut event = json!({
            "SourceId": REPORTER, "Property": BACKUP, "HealthState": "Ok",
            "TimeToLiveInMilliSeconds": FOR_EVER, "RemoveWhenExpired": false,
            "SourceUtcTimestamp": TIME, "IsExpired": false,
        });
        for (key, value) in changes.as_object().unwrap() {
            event[key] = value.clone();
        }
        event
    }

    fn health(events: &[Value]) -> Result<BackupHealth, ReplyError> {
        answer(
            &PARTITION_HEALTH,
            json!({"HealthEvents": events}).to_string(),
        )
    }

    fn health_with(changes: &Value) -> BackupHealth {
        health(&[event(changes)]).unwrap()
    }

    #[test]
    fn every_health_sample_is_read() {
        let expected = [
            ("backup-ok", Some(attempt(true, TIME))),
            (
                "backup-warning",
                Some(attempt(false, "2022-11-11T17:05:12.118Z")),
            ),
            ("no-backup-event", None),
        ];
        for (name, attempt) in expected {
            let read = answer(
                &PARTITION_HEALTH,
                sample(&format!("GetPartitionHealth.{name}.json")),
            );
            let expected = BackupHealth {
                attempt,
                ..BackupHealth::default()
            };
            assert_eq!(read.unwrap(), expected, "{name}");
        }
        assert_eq!(samples("GetPartitionHealth.").len(), expected.len());
    }

    #[test]
    fn only_lasting_reports_are_attempts() {
        for (changes, succeeded) in [
            (json!({}), Some(true)),
            (json!({"HealthState": "Error"}), Some(false)),
            (json!({"TimeToLiveInMilliSeconds": null}), Some(true)),
            (
                json!({"Description": "Periodic backup successfully disabled"}),
                Some(true),
            ),
            (
                json!({"TimeToLiveInMilliSeconds": "PT1S", "RemoveWhenExpired": true}),
                None,
            ),
            (json!({"RemoveWhenExpired": true}), None),
            (json!({"Property": "Restore", "HealthState": "Error"}), None),
            (json!({"Property": "backup"}), None),
        ] {
            let read = health_with(&changes);
            assert_eq!(read.attempt.map(|it| it.succeeded), succeeded, "{changes}");
            assert!(!read.unknown_reporter, "{changes}");
        }
    }

    #[test]
    fn of_several_reports_the_newest_counts() {
        let older =
            event(&json!({"HealthState": "Warning", "SourceUtcTimestamp": "2022-11-10T00:00:00"}));
        let newer = event(&json!({}));
        for events in [[older.clone(), newer.clone()], [newer, older]] {
            assert_eq!(health(&events).unwrap().attempt, Some(attempt(true, TIME)));
        }
    }

    #[test]
    fn unknown_reports_of_a_newer_runtime_are_not_attempts() {
        for changes in [
            json!({"SourceId": "FabricBackupRestoreService"}),
            json!({"SourceId": "system.BACKUPrestoremanager", "HealthState": "Error"}),
            json!({"HealthState": "Unknown"}),
            json!({"HealthState": null}),
            json!({"TimeToLiveInMilliSeconds": "86400000"}),
            json!({"TimeToLiveInMilliSeconds": 86_400_000}),
            json!({"TimeToLiveInMilliSeconds": "PT1S"}),
            json!({"TimeToLiveInMilliSeconds": "P10675198D"}),
            json!({"IsExpired": true, "HealthState": "Error"}),
            json!({"HealthState": "Error", "RemoveWhenExpired": true}),
        ] {
            let unknown = BackupHealth {
                unknown_reporter: true,
                ..BackupHealth::default()
            };
            assert_eq!(health_with(&changes), unknown, "{changes}");
        }
        let others = [event(&json!({"SourceId": "MyBackups"})), event(&json!({}))];
        let read = health(&others).unwrap();
        assert_eq!(
            (read.attempt, read.unknown_reporter),
            (Some(attempt(true, TIME)), true)
        );
    }

    #[test]
    fn malformed_health_is_an_error() {
        for body in [
            String::new(),
            "null".to_owned(),
            "{}".to_owned(),
            json!({"HealthEvents": null}).to_string(),
            json!({"HealthEvents": {}}).to_string(),
        ] {
            let error = answer(&PARTITION_HEALTH, &body).unwrap_err();
            assert_eq!(error.reason(), Reason::Decode, "{body}");
        }
    }

    #[test]
    fn a_malformed_event_affects_no_other_and_proves_no_absence() {
        for odd in [
            json!(null),
            json!({}),
            json!([]),
            event(&json!({"SourceUtcTimestamp": null})),
            event(&json!({"SourceUtcTimestamp": "0001-01-01T00:00:00.000Z"})),
            event(&json!({"Property": 1})),
            event(&json!({"Property": "Restore", "SourceUtcTimestamp": ""})),
        ] {
            let alone = BackupHealth {
                unknown_reporter: true,
                skipped: 1,
                ..BackupHealth::default()
            };
            assert_eq!(health(std::slice::from_ref(&odd)).unwrap(), alone, "{odd}");
            let read = health(&[odd.clone(), event(&json!({}))]).unwrap();
            assert_eq!(read.attempt, Some(attempt(true, TIME)), "{odd}");
            assert_eq!((read.unknown_reporter, read.skipped), (false, 1), "{odd}");
        }
    }

    #[test]
    fn the_last_restore_is_dated_regardless_of_its_outcome() {
        let restored = |state: &str, time: &str| {
            event(&json!({
                "Property": "Restore", "HealthState": state, "SourceUtcTimestamp": time,
                "TimeToLiveInMilliSeconds": "PT5M", "RemoveWhenExpired": true,
            }))
        };
        let older = restored("Ok", "2022-11-10T00:00:00.000Z");
        let newer = restored("Error", "2022-11-12T00:00:00.000Z");
        for events in [[older.clone(), newer.clone()], [newer, older]] {
            let read = health(&events).unwrap();
            let expected = BackupHealth {
                restored_at: Some("2022-11-12T00:00:00Z".parse().unwrap()),
                ..BackupHealth::default()
            };
            assert_eq!(read, expected);
        }
    }

    proptest! {
        #[test]
        fn no_attempt_is_made_up(body in mutated()) {
            let read = answer(&PARTITION_HEALTH, &body);
            if let Ok(BackupHealth { attempt: Some(attempt), .. }) = &read {
                let text = String::from_utf8_lossy(&body);
                prop_assert!(text.contains(&attempt.ended.format("%M:%S").to_string()));
                prop_assert!(text.contains(REPORTER));
            }
            prop_assert!(is_read_or_not_understood(read));
        }
    }
}
