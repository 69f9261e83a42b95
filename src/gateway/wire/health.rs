//! The native route of health: what a partition's replica last said about its periodic backups.
//!
//! State and time of the report decide, never its text, which follows the culture of the node.

use std::time::Duration;

use serde::Deserialize;

use super::SINGLE_LIMIT;
use super::schedule::day_time_duration;
use crate::gateway::decode::{Object, Timestamp};
use crate::gateway::error::{Cause, Misread};
use crate::gateway::query::{Query, Route, RouteKind, Subject};
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
    health_events: Vec<Object<EventReply>>,
}

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
    type Reply = HealthReply;
    type Answer = BackupHealth;

    fn subject(&self) -> Subject<'_> {
        Subject::Partition(self.partition)
    }

    fn answer(reply: Option<HealthReply>) -> Result<BackupHealth, Cause> {
        let mut health = BackupHealth::default();
        for Object(event) in reply.ok_or(Misread::Nothing)?.health_events {
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
