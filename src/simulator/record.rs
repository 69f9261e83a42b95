//! The record of the last requested backup of a partition, and its JSON.
//!
//! Implements the values and sentinels of `GetBackupProgress`: a record that is not a Success has
//! year 1, the zero GUID, no location, no epoch and LSN 0. All seven keys are always written, nulls
//! included.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::switches::{EpochSpelling, Sentinel, Switches};

/// Outcome of a requested backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backup is stored.
    Success,
    /// The backup fails with this code and message.
    Failure(Code, String),
    /// The backup does not end in time: `FABRIC_E_TIMEOUT`.
    Timeout,
    /// The request stays Accepted: no primary ever takes it on.
    Never,
}

/// `FailureError.Code`: the service writes the name of a known HRESULT and the unsigned number
/// of any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// A symbolic name such as `FABRIC_E_BACKUPCOPIER_TIMEOUT`.
    Name(String),
    /// A bare HRESULT such as 2148734208.
    Number(u32),
}

/// Course of a requested backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupPlan {
    /// How long the request stays Accepted.
    pub accepted_for: Duration,
    /// How long it is `BackupInProgress` after that.
    pub running_for: Duration,
    /// Outcome.
    pub outcome: Outcome,
    /// `BackupTimeout`: a request that has not ended by then ends as Timeout, even one that
    /// would never have ended. `None` leaves it running.
    pub timeout: Option<Duration>,
}

impl Default for BackupPlan {
    fn default() -> Self {
        Self {
            accepted_for: Duration::from_secs(5),
            running_for: Duration::from_secs(20),
            outcome: Outcome::Success,
            timeout: None,
        }
    }
}

/// State of the last backup request of a partition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    /// No backup was ever requested.
    Never,
    Accepted,
    InProgress,
    Success(Box<RecoveryPoint>),
    Failure(Arc<(Code, String)>),
    Timeout,
    /// An arbitrary body, set by a test.
    Raw(Arc<Value>),
}

impl Record {
    /// `BackupState`; `Invalid` for what has no state of its own.
    fn state(&self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::InProgress => "BackupInProgress",
            Self::Success(_) => "Success",
            Self::Failure(_) => "Failure",
            Self::Timeout => "Timeout",
            Self::Never | Self::Raw(_) => "Invalid",
        }
    }
}

impl Code {
    fn to_json(&self) -> Value {
        match self {
            Self::Name(name) => json!(name),
            Self::Number(number) => json!(number),
        }
    }
}

/// The result of a successful backup.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RecoveryPoint {
    /// Time of the snapshot.
    pub(super) taken: DateTime<Utc>,
    pub(super) backup: Uuid,
    /// As long as there is an LSN; actor services print -1 for both.
    pub(super) epoch: Epoch,
    pub(super) lsn: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Epoch {
    /// A FILETIME: 100 ns since 1601.
    pub(super) data_loss: u64,
    pub(super) configuration: u64,
}

/// The data of a `GetBackupProgress` response, copied from the estate.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    pub(super) partition: Uuid,
    pub(super) application: Arc<str>,
    pub(super) service: Arc<str>,
    pub(super) record: Record,
}

/// `BackupProgressInfo` of `GET /Partitions/{id}/$/GetBackupProgress`, keys in the order of the
/// sample `GetPartitionBackupProgress.success.wire.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    backup_state: &'static str,
    time_stamp_utc: String,
    backup_id: Uuid,
    backup_location: Option<String>,
    epoch_of_last_backup_record: Option<Value>,
    lsn_of_last_backup_record: Value,
    failure_error: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_chain_id: Option<Uuid>,
}

impl Progress {
    /// The response body; `None` if no backup was ever requested.
    pub(super) fn to_json(&self, switches: &Switches) -> Option<Value> {
        match &self.record {
            Record::Never => None,
            Record::Raw(body) => Some(Value::clone(body)),
            Record::Success(point) => Some(self.success(point, switches)),
            other => Some(unsuccessful(other, switches)),
        }
    }

    fn success(&self, point: &RecoveryPoint, switches: &Switches) -> Value {
        let lsn = match point.lsn {
            Some(lsn) if switches.lsn_as_string => json!(lsn.to_string()),
            Some(lsn) => json!(lsn),
            None if switches.lsn_as_string => json!("-1"),
            None => json!(-1),
        };
        let epoch = match point.lsn {
            Some(_) => point.epoch.to_json(switches.epoch_spelling),
            None => Epoch::unknown(switches.epoch_spelling),
        };
        json!(Body {
            backup_state: "Success",
            time_stamp_utc: point.taken.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            backup_id: point.backup,
            backup_location: Some(location(
                (&self.application, &self.service),
                self.partition,
                point.taken,
            )),
            epoch_of_last_backup_record: Some(epoch),
            lsn_of_last_backup_record: lsn,
            failure_error: None,
            backup_chain_id: switches.newer_fields.then_some(point.backup),
        })
    }
}

/// The location of a backup, from the names of application and service: a relative path with
/// backslashes; a `/` inside a name is stored as `$`.
pub(super) fn location(names: (&str, &str), partition: Uuid, taken: DateTime<Utc>) -> String {
    let application = relative(names.0, "fabric:/");
    let service = relative(names.1, names.0);
    format!(
        "{}\\{}\\{partition}\\{}.zip",
        application.replace('/', "$"),
        service.replace('/', "$"),
        taken.format("%Y-%m-%d %H.%M.%S")
    )
}

fn unsuccessful(record: &Record, switches: &Switches) -> Value {
    let error = match record {
        Record::Failure(error) => Some(json!({"Code": error.0.to_json(), "Message": error.1})),
        Record::Timeout => Some(
            json!({"Code": "FABRIC_E_TIMEOUT", "Message": "The request of backup has timed out."}),
        ),
        _ => None,
    };
    let sentinel = match switches.sentinel {
        Sentinel::Utc => "0001-01-01T00:00:00Z",
        Sentinel::WestOfUtc => "0001-01-01T08:00:00Z",
    };
    json!(Body {
        backup_state: record.state(),
        time_stamp_utc: sentinel.to_owned(),
        backup_id: Uuid::nil(),
        backup_location: None,
        epoch_of_last_backup_record: None,
        lsn_of_last_backup_record: if switches.lsn_as_string {
            json!("0")
        } else {
            json!(0)
        },
        failure_error: error,
        backup_chain_id: switches.newer_fields.then(Uuid::nil),
    })
}

impl Epoch {
    pub(super) fn to_json(self, spelling: EpochSpelling) -> Value {
        let data_loss = self.data_loss.to_string();
        epoch(&data_loss, &self.configuration.to_string(), spelling)
    }

    /// The epoch of a backup of an actor service: its store has none (`KeyValueStoreReplica.cs`,
    /// `PostBackupFunc`).
    pub(super) fn unknown(spelling: EpochSpelling) -> Value {
        epoch("-1", "-1", spelling)
    }
}

fn epoch(data_loss: &str, configuration: &str, spelling: EpochSpelling) -> Value {
    match spelling {
        EpochSpelling::Version => {
            json!({"DataLossVersion": data_loss, "ConfigurationVersion": configuration})
        }
        EpochSpelling::Number => {
            json!({"DataLossNumber": data_loss, "ConfigurationNumber": configuration})
        }
    }
}

/// A name below a prefix, without the slash between them.
fn relative<'a>(name: &'a str, prefix: &str) -> &'a str {
    let rest = name.strip_prefix(prefix).unwrap_or(name);
    rest.strip_prefix('/').unwrap_or(rest)
}
