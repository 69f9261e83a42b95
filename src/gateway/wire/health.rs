//! The native route of health: what a partition's replica last said about its periodic backups.
//!
//! State and time of the report decide, never its text, which follows the culture of the node.

use std::time::Duration;

use serde::Deserialize;

use super::SINGLE_LIMIT;
use super::schedule::day_time_duration;
use crate::gateway::decode::{Items, Object, Timestamp};
use crate::gateway::error::{Cause, Misread};
use crate::gateway::query::{Query, Route, RouteKind, Side, Subject};
use crate::model::{BackupHealth, PartitionId, PeriodicAttempt};

/// Who reports on periodic backups. Not the name of the backup service.
const REPORTER: &str = "System.BackupRestoreManager";

/// The property of the reports on backups; those on restores have another.
const PROPERTY: &str = "Backup";

/// Days in the longest time span of .NET, which means for ever.
const DAYS_OF_FOR_EVER: u64 = 10_675_199;

// GET /Partitions/{id}/$/GetHealth, samples GetPartitionHealth.*

pub(in crate::gateway) struct Health {
    pub(in crate::gateway) partition: PartitionId,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct HealthReply {
    health_events: Events,
}

type Events = Items<Object<EventReply>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EventReply {
    source_id: String,
    property: String,
    health_state: Option<String>,
    source_utc_timestamp: Option<Timestamp>,
    /// A duration in words of ISO 8601, whatever the name says.
    time_to_live_in_milli_seconds: Option<String>,
    #[serde(default)]
    remove_when_expired: bool,
    #[serde(default)]
    is_expired: bool,
}

impl Query for Health {
    const ROUTE: Route = Route {
        name: "GetPartitionHealth",
        kind: RouteKind::Native,
        api_version: "6.0",
        operation: &["$", "GetHealth"],
        // Of the replicas none; only the events are of use.
        parameters: &[
            ("ReplicasHealthStateFilter", "1"),
            ("ExcludeHealthStatistics", "true"),
        ],
        body_limit: SINGLE_LIMIT,
    };
    const SIDE: Side = Side::HealthStore;
    type Reply = HealthReply;
    type Answer = BackupHealth;

    fn subject(&self) -> Subject<'_> {
        Subject::Partition(self.partition)
    }

    fn answer(reply: Option<HealthReply>) -> Result<BackupHealth, Cause> {
        let mut health = BackupHealth::default();
        let events = reply.ok_or(Misread::Nothing)?.health_events.all();
        for Object(event) in events.ok_or(Cause::TooManyItems {
            limit: Events::LIMIT,
        })? {
            match event.reading()? {
                Reading::Attempt(attempt) => {
                    let newest = health.attempt.filter(|other| other.ended > attempt.ended);
                    health.attempt = newest.or(Some(attempt));
                }
                Reading::Unknown => health.unknown_reporter = true,
                Reading::Nothing => {}
            }
        }
        Ok(health)
    }
}

/// What an event says of periodic backups.
enum Reading {
    Attempt(PeriodicAttempt),
    /// Something, in words that this version does not know.
    Unknown,
    Nothing,
}

impl EventReply {
    fn reading(self) -> Result<Reading, Misread> {
        if self.source_id != REPORTER {
            let unknown = self.source_id.to_ascii_lowercase().contains("backup");
            return Ok(if unknown {
                Reading::Unknown
            } else {
                Reading::Nothing
            });
        }
        if self.property != PROPERTY {
            return Ok(Reading::Nothing);
        }
        let lives_for_ever = match self.time_to_live_in_milli_seconds.as_deref() {
            None => true,
            Some(text) => match day_time_duration(text) {
                Some(time) => time >= Duration::from_secs(DAYS_OF_FOR_EVER * 24 * 60 * 60),
                None => return Ok(Reading::Unknown),
            },
        };
        // Outcomes stay until the next one. What is made to expire says good-bye: the replica
        // reports that backups were disabled, as Ok like a success, and lets it vanish.
        if self.is_expired || self.remove_when_expired || !lives_for_ever {
            return Ok(Reading::Nothing);
        }
        let succeeded = match self.health_state.as_deref() {
            Some("Ok") => true,
            Some("Warning" | "Error") => false,
            _ => return Ok(Reading::Unknown),
        };
        let ended = self.source_utc_timestamp.and_then(|time| time.0);
        let ended = ended.ok_or(Misread::Nothing)?;
        Ok(Reading::Attempt(PeriodicAttempt { succeeded, ended }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::decode::tests::{sample, samples};
    use crate::gateway::error::Reason;
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
            "SourceId": REPORTER, "Property": PROPERTY, "HealthState": "Ok",
            "TimeToLiveInMilliSeconds": FOR_EVER, "RemoveWhenExpired": false,
            "SourceUtcTimestamp": TIME, "IsExpired": false,
        });
        for (key, value) in changes.as_object().unwrap() {
            event[key] = value.clone();
        }
        event
    }

    fn health(events: &[Value]) -> Result<BackupHealth, Cause> {
        answer::<Health>(json!({"HealthEvents": events}).to_string())
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
            let read = answer::<Health>(sample(&format!("GetPartitionHealth.{name}.json")));
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
            (json!({"TimeToLiveInMilliSeconds": "PT1S"}), None),
            (json!({"TimeToLiveInMilliSeconds": "P10675198D"}), None),
            (json!({"RemoveWhenExpired": true}), None),
            (json!({"IsExpired": true, "HealthState": "Error"}), None),
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
    fn what_a_newer_runtime_may_say_is_noticed_and_no_attempt() {
        for changes in [
            json!({"SourceId": "FabricBackupRestoreService"}),
            json!({"SourceId": "system.BACKUPrestoremanager", "HealthState": "Error"}),
            json!({"HealthState": "Unknown"}),
            json!({"HealthState": null}),
            json!({"TimeToLiveInMilliSeconds": "86400000"}),
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
    fn health_that_is_not_understood_is_an_error() {
        for body in [
            String::new(),
            "null".to_owned(),
            "{}".to_owned(),
            json!({"HealthEvents": null}).to_string(),
            json!({"HealthEvents": [{}]}).to_string(),
            json!({"HealthEvents": [event(&json!({"SourceUtcTimestamp": null}))]}).to_string(),
            json!({"HealthEvents": [event(&json!({"SourceUtcTimestamp": "0001-01-01T00:00:00.000Z"}))]}).to_string(),
            json!({"HealthEvents": [event(&json!({"HealthState": 1}))]}).to_string(),
            json!({"HealthEvents": [event(&json!({"IsExpired": "no"}))]}).to_string(),
        ] {
            let error = answer::<Health>(&body).unwrap_err();
            assert_eq!(error.reason(), Reason::Decode, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_attempt_is_made_up(body in mutated()) {
            let read = answer::<Health>(&body);
            if let Ok(BackupHealth { attempt: Some(attempt), .. }) = &read {
                let text = String::from_utf8_lossy(&body);
                prop_assert!(text.contains(&attempt.ended.format("%M:%S").to_string()));
                prop_assert!(text.contains(REPORTER));
            }
            prop_assert!(is_read_or_not_understood(read));
        }
    }
}
