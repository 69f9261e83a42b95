//! Backup routes of the records of a partition: its last requested backup and its last restore.

use serde::Deserialize;

use super::query::Query;
use super::route::Route;
use crate::gateway::decode::{Code, DecodeError, Field, Guid, Integer, Object, Timestamp};
use crate::gateway::redact;
use crate::model::{
    BackupProgress, BackupState, Epoch, Failure, FailureCode, RestoreProgress, RestoreState,
};

// GET /Partitions/{id}/$/GetBackupProgress, samples GetPartitionBackupProgress.*

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ProgressReply {
    backup_state: Field<String>,
    time_stamp_utc: Field<Timestamp>,
    backup_id: Field<Guid>,
    epoch_of_last_backup_record: Field<Object<EpochReply>>,
    lsn_of_last_backup_record: Field<Integer>,
    failure_error: Field<Object<FailureReply>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct EpochReply {
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

/// The record of the last requested backup of a partition.
pub const BACKUP_PROGRESS: Query<Option<BackupProgress>> = Query {
    route: Route::backup("GetPartitionBackupProgress", &["$", "GetBackupProgress"]),
    answer: |reply| Ok(reply.optional()?.map(record).transpose()?),
    not_enabled: None,
};

/// In every state but Success the number is the sentinel 0: unknown.
fn record(reply: ProgressReply) -> Result<BackupProgress, DecodeError> {
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

/// Epoch and log sequence number are left out: until it succeeds, they are those of the backup
/// that is to be restored.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RestoreReply {
    restore_state: Field<String>,
    time_stamp_utc: Field<Timestamp>,
}

/// The record of the last restore of a partition.
pub const RESTORE_PROGRESS: Query<Option<RestoreProgress>> = Query {
    route: Route::backup("GetPartitionRestoreProgress", &["$", "GetRestoreProgress"]),
    answer: |reply| {
        let Some(reply) = reply.optional::<RestoreReply>()? else {
            return Ok(None);
        };
        Ok(Some(RestoreProgress {
            state: RestoreState::from_wire(&reply.restore_state.required()?),
            timestamp: reply.time_stamp_utc.value().and_then(|time| time.0),
        }))
    },
    not_enabled: Some(|| None),
};
