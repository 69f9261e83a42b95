//! The last restore of a partition, as `GetRestoreProgress` reports it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::store::Backup;
use crate::simulator::record::Epoch;

/// Course of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    /// How long the request stays Accepted.
    pub accepted_for: Duration,
    /// How long the primary takes.
    pub running_for: Duration,
    /// How long the secondaries take afterwards, a state of newer runtimes; zero skips it.
    pub secondaries_for: Duration,
    /// Outcome.
    pub outcome: RestoreOutcome,
}

/// Outcome of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// The partition has the state of the backup.
    Success,
    /// It fails, and the partition keeps its state.
    Failure,
    /// It does not end in time, and the partition keeps its state.
    Timeout,
}

impl Default for RestorePlan {
    fn default() -> Self {
        Self {
            accepted_for: Duration::from_secs(5),
            running_for: Duration::from_secs(30),
            secondaries_for: Duration::from_secs(10),
            outcome: RestoreOutcome::Success,
        }
    }
}

/// `RestoreState` of the REST API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum RestoreState {
    Accepted,
    RestoreInProgress,
    SecondariesInProgress,
    Success,
    Failure,
    Timeout,
}

/// State of the last restore of a partition.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Restore {
    pub(in crate::simulator) state: RestoreState,
    /// Time of its success.
    pub(in crate::simulator) ended: Option<DateTime<Utc>>,
    /// Epoch and LSN of the backup, for as long as the restore has not failed; -1 on the wire
    /// where there are none, but only until it has succeeded (`RestoreStatus.cs`).
    pub(in crate::simulator) target: Option<(Epoch, Option<u64>)>,
    pub(super) plan: RestorePlan,
    pub(super) source: RestoreSource,
}

/// The backup that a partition is restored from.
#[derive(Clone, Debug)]
pub(super) struct RestoreSource {
    pub(super) partition: Uuid,
    pub(super) backup: Backup,
}

impl RestoreState {
    pub(in crate::simulator) fn word(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::RestoreInProgress => "RestoreInProgress",
            Self::SecondariesInProgress => "SecondariesInProgress",
            Self::Success => "Success",
            Self::Failure => "Failure",
            Self::Timeout => "Timeout",
        }
    }

    pub(super) fn is_end(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Timeout)
    }
}
