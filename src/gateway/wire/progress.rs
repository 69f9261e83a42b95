//! Backup routes of the records of a partition: its last requested backup and its last restore.

use serde::Deserialize;

use super::SINGLE_LIMIT;
use crate::gateway::decode::{Code, Field, Guid, Integer, Object, Timestamp};
use crate::gateway::error::{Cause, Misread};
use crate::gateway::query::{Query, Route, RouteKind, Subject};
use crate::gateway::redact;
use crate::model::{
    BackupProgress, BackupState, Epoch, Failure, FailureCode, PartitionId, RestoreProgress,
    RestoreState,
};

// GET /Partitions/{id}/$/GetBackupProgress, samples GetPartitionBackupProgress.*

pub(in crate::gateway) struct Progress {
    pub(in crate::gateway) partition: PartitionId,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::gateway) struct ProgressReply {
    backup_state: Field<String>,
    time_stamp_utc: Field<Timestamp>,
    backup_id: Field<Guid>,
    epoch_of_last_backup_record: Field<Object<EpochReply>>,
    lsn_of_last_backup_record: Field<Integer>,
    failure_error: Field<Object<FailureReply>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::gateway) struct EpochReply {
    /// The second spelling is that of 6.3 and before, and of today's documentation.
    #[serde(rename = "DataLossVersion", alias = "DataLossNumber")]
    data_loss: Field<Integer>,
    #[serde(rename = "ConfigurationVersion", alias = "ConfigurationNumber")]
    configuration: Field<Integer>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct FailureReply {
    code: Field<Code>,
    message: Field<String>,
}

impl Query for Progress {
    const ROUTE: Route = Route {
        name: "GetPartitionBackupProgress",
        kind: RouteKind::Backup,
        api_version: "6.4",
        operation: &["$", "GetBackupProgress"],
        parameters: &[],
        body_limit: SINGLE_LIMIT,
    };
    type Reply = ProgressReply;
    type Answer = Option<BackupProgress>;

    fn subject(&self) -> Subject<'_> {
        Subject::Partition(self.partition)
    }

    fn answer(reply: Option<ProgressReply>) -> Result<Option<BackupProgress>, Cause> {
        Ok(reply.map(record).transpose()?)
    }
}

/// In every state but Success the number is the sentinel 0, which says nothing.
fn record(reply: ProgressReply) -> Result<BackupProgress, Misread> {
    let state = BackupState::from_wire(&reply.backup_state.required()?);
    let epoch = reply.epoch_of_last_backup_record.value();
    let lsn = reply.lsn_of_last_backup_record.value();
    let lsn = lsn.and_then(Integer::known);
    let failure = reply.failure_error.value();
    Ok(BackupProgress {
        state,
        timestamp: reply.time_stamp_utc.value().and_then(|time| time.0),
        backup_id: reply.backup_id.value().and_then(|id| id.0),
        epoch: epoch.map(|Object(reply)| Epoch::from(reply)),
        lsn: lsn.filter(|_| state == BackupState::Success),
        failure: failure.map(|Object(reply)| Failure::from(reply)),
    })
}

impl From<EpochReply> for Epoch {
    fn from(reply: EpochReply) -> Self {
        Self {
            data_loss_version: reply.data_loss.value().and_then(Integer::known),
            configuration_version: reply.configuration.value().and_then(Integer::known),
        }
    }
}

impl From<FailureReply> for Failure {
    fn from(reply: FailureReply) -> Self {
        Self {
            code: match reply.code.value() {
                Some(code) => code.0,
                None => FailureCode::other(),
            },
            message: reply
                .message
                .value()
                .filter(|message| !message.is_empty())
                .map(|message| redact::presentable(&message).into()),
        }
    }
}

// GET /Partitions/{id}/$/GetRestoreProgress, samples GetPartitionRestoreProgress.*

pub(in crate::gateway) struct Restore {
    pub(in crate::gateway) partition: PartitionId,
}

/// Epoch and log sequence number are left out: until it succeeds, they are those of the backup
/// that is to be restored.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::gateway) struct RestoreReply {
    restore_state: Field<String>,
    time_stamp_utc: Field<Timestamp>,
}

impl Query for Restore {
    const ROUTE: Route = Route {
        name: "GetPartitionRestoreProgress",
        kind: RouteKind::Backup,
        api_version: "6.4",
        operation: &["$", "GetRestoreProgress"],
        parameters: &[],
        body_limit: SINGLE_LIMIT,
    };
    type Reply = RestoreReply;
    type Answer = Option<RestoreProgress>;

    fn subject(&self) -> Subject<'_> {
        Subject::Partition(self.partition)
    }

    fn answer(reply: Option<RestoreReply>) -> Result<Option<RestoreProgress>, Cause> {
        let Some(reply) = reply else {
            return Ok(None);
        };
        Ok(Some(RestoreProgress {
            state: RestoreState::from_wire(&reply.restore_state.required()?),
            timestamp: reply.time_stamp_utc.value().and_then(|time| time.0),
        }))
    }

    fn unprotected() -> Option<Option<RestoreProgress>> {
        Some(None)
    }
}
