//! Ground truth: what happened to the partitions of the estate.
//!
//! Recorded only while it is read, and never used for a response. All times are on the clock of the
//! cluster, whatever the clocks of its nodes show.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::storage_id::StorageId;

/// An event of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EstateEvent {
    /// Time of the event.
    pub at: DateTime<Utc>,
    /// Partition of the event.
    pub partition: Uuid,
    /// Kind of the event.
    pub what: EstateEventKind,
}

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EstateEventKind {
    /// The replica received another policy, or another version of it, and restarted its schedule;
    /// or it stopped because protection ended.
    Configured {
        /// Whether it has an active policy now.
        active: bool,
    },
    /// The timer was armed for the next run of the schedule or for a retry.
    Armed {
        /// Start of the run.
        due: DateTime<Utc>,
    },
    /// The timer stopped, or could not be armed. There are no more backups until the schedule
    /// restarts or, after the midnight fault, the primary moves.
    TimerStopped,
    /// An upload finished: the backup is in this storage, whether or not the replica counted it.
    Stored {
        /// The storage; `None` if the request of an unprotected partition named its own.
        storage_id: Option<StorageId>,
        /// Id of the backup.
        backup: Uuid,
        /// Id of the full backup that its chain begins with.
        chain: Uuid,
        /// Time of its snapshot.
        taken: DateTime<Utc>,
        /// Whether it can be restored, as long as the full backup of its chain lies there too.
        restorable: bool,
    },
    /// Retention or `CleanBackup` deleted a backup.
    Deleted {
        /// The storage.
        storage_id: StorageId,
        /// Id of the backup.
        backup: Uuid,
    },
    /// A periodic backup was uploaded and counted.
    BackedUp {
        /// Time of its snapshot.
        taken: DateTime<Utc>,
    },
    /// A periodic attempt failed, was discarded or was cancelled, whatever its health report says.
    Failed,
    /// A backup was requested.
    Requested,
    /// A requested backup was uploaded, and its request had not ended.
    BackedUpOnRequest {
        /// Time of its snapshot.
        taken: DateTime<Utc>,
    },
    /// A request ended without a backup: its record may be a Failure, a Timeout or, of an actor
    /// service, the Success of a former request.
    RequestFailed,
    /// The primary moved.
    PrimaryMoved,
    /// The partition lost its data and has the state of a backup again.
    Restored,
    /// The partition lost its data and waits for a restore without write status.
    AwaitsRestore,
}
