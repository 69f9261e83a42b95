//! Backup routes of the records of a partition: its last requested backup and its last restore.

use serde::Deserialize;

use super::SINGLE_LIMIT;
use crate::gateway::decode::{Code, Guid, Integer, Object, Timestamp};
use crate::gateway::error::Cause;
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct ProgressReply {
    backup_state: String,
    time_stamp_utc: Option<Timestamp>,
    backup_id: Option<Guid>,
    epoch_of_last_backup_record: Option<Object<EpochReply>>,
    lsn_of_last_backup_record: Option<Integer>,
    failure_error: Option<Object<FailureReply>>,
}

#[derive(Deserialize)]
pub(in crate::gateway) struct EpochReply {
    /// The second spelling is that of 6.3 and before, and of today's documentation.
    #[serde(rename = "DataLossVersion", alias = "DataLossNumber")]
    data_loss: Option<Integer>,
    #[serde(rename = "ConfigurationVersion", alias = "ConfigurationNumber")]
    configuration: Option<Integer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FailureReply {
    code: Option<Code>,
    message: Option<String>,
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
        Ok(reply.map(BackupProgress::from))
    }
}

impl From<ProgressReply> for BackupProgress {
    /// In every state but Success the number is the sentinel 0, which says nothing.
    fn from(reply: ProgressReply) -> Self {
        let state = BackupState::from_word(&reply.backup_state);
        let lsn = reply.lsn_of_last_backup_record.and_then(Integer::known);
        Self {
            state,
            timestamp: reply.time_stamp_utc.and_then(|time| time.0),
            backup_id: reply.backup_id.and_then(|id| id.0),
            epoch: reply
                .epoch_of_last_backup_record
                .map(|Object(reply)| Epoch::from(reply)),
            lsn: lsn.filter(|_| state == BackupState::Success),
            failure: reply
                .failure_error
                .map(|Object(reply)| Failure::from(reply)),
        }
    }
}

impl From<EpochReply> for Epoch {
    fn from(reply: EpochReply) -> Self {
        Self {
            data_loss_version: reply.data_loss.and_then(Integer::known),
            configuration_version: reply.configuration.and_then(Integer::known),
        }
    }
}

impl From<FailureReply> for Failure {
    fn from(reply: FailureReply) -> Self {
        Self {
            code: match reply.code {
                Some(code) => code.0,
                None => FailureCode::other(),
            },
            message: reply
                .message
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
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct RestoreReply {
    restore_state: String,
    time_stamp_utc: Option<Timestamp>,
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
        Ok(reply.map(|reply| RestoreProgress {
            state: RestoreState::from_word(&reply.restore_state),
            timestamp: reply.time_stamp_utc.and_then(|time| time.0),
        }))
    }

    fn unprotected() -> Option<Option<RestoreProgress>> {
        Some(None)
    }
}
