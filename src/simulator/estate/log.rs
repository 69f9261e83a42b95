//! What really happened in the world: the ground truth for those who judge what others report.
//!
//! Responsible for reporting it in order, once, and only while somebody reads it. Must not change
//! the world, and no answer of the gateway is made from it. All moments are on the clock of the
//! cluster, whatever the clocks of its nodes show.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::storage_id::StorageId;

/// Something that happened to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EstateEvent {
    /// When.
    pub at: DateTime<Utc>,
    /// To which partition.
    pub partition: Uuid,
    /// What.
    pub what: EstateEventKind,
}

/// What can happen to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EstateEventKind {
    /// Its replica received another policy, or another version of it, and restarted its schedule;
    /// or it received that it must not back up any more.
    Configured {
        /// Whether it has a policy to act on now.
        active: bool,
    },
    /// Its timer was armed: for the next run of the schedule, or for a retry.
    Armed {
        /// When the run starts.
        due: DateTime<Utc>,
    },
    /// Its timer stopped, or could not be armed. It takes no more backups until the schedule
    /// restarts or, after the midnight fault, the primary moves.
    TimerStopped,
    /// An upload finished: the backup lies in this storage from now on, whether or not the
    /// replica counted it.
    Stored {
        /// The storage; `None` where the request of an unprotected partition brought its own.
        storage_id: Option<StorageId>,
        /// Id of the backup.
        backup: Uuid,
        /// Id of the full backup that its chain begins with.
        chain: Uuid,
        /// The moment of its snapshot.
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
        /// The moment of its snapshot.
        taken: DateTime<Utc>,
    },
    /// A periodic attempt failed, was discarded or was cancelled, whatever its health report says.
    Failed,
    /// Somebody requested a backup.
    Requested,
    /// A requested backup was uploaded, and its request had not ended.
    BackedUpOnRequest {
        /// The moment of its snapshot.
        taken: DateTime<Utc>,
    },
    /// A request ended without a backup: its record may be a Failure, a Timeout or, of an actor
    /// service, the Success of a former request.
    RequestFailed,
    /// Another replica became primary.
    PrimaryMoved,
    /// The partition lost its data and has the state of a backup again.
    Restored,
    /// The partition lost its data and waits for a restore without write status.
    AwaitsRestore,
}
