//! What shows that the schedule of a partition has restarted, besides its configuration.
//!
//! Pure. Only first reports count: one that comes and goes, or is repeated, must not put the next
//! backup off again and again.

use chrono::{DateTime, Utc};

use crate::model::{PeriodicAttempt, RestoreProgress, RestoreState};

/// What the health reports of a partition have shown of restarts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// When the attempt had ended whose report was last seen to vanish.
    vanished: Option<DateTime<Utc>>,
    /// When the replica first reported on a restore after the last data loss.
    restored: Option<DateTime<Utc>>,
}

impl Restarts {
    /// Takes in that the report of an attempt is gone, and whether the schedule has restarted. A
    /// report stays for ever, unless protection is suspended or disabled
    /// (`BackupRestoreManager.cs`): where that was undone between two polls, the schedule has
    /// restarted. The same report may come back and vanish again.
    pub(super) fn vanish(&mut self, reported: PeriodicAttempt) -> bool {
        let vanished = Some(reported.ended);
        let is_first = vanished > self.vanished;
        self.vanished = self.vanished.max(vanished);
        is_first
    }

    /// Takes a report on a restore in. Every restore begins with a data loss; one that fails is tried
    /// and reported again and again.
    pub(super) fn restore(
        &mut self,
        reported: Option<DateTime<Utc>>,
        data_loss: Option<DateTime<Utc>>,
    ) {
        if self.restored <= data_loss {
            self.restored = reported;
        }
    }

    /// When the partition was created, last lost data or was last restored, as far as its
    /// `DataLossVersion`, its `record` of the last restore and its reports show.
    pub(super) fn reset_at(
        &self,
        data_loss: Option<DateTime<Utc>>,
        record: Option<RestoreProgress>,
    ) -> Option<DateTime<Utc>> {
        let succeeded = record.filter(|record| record.state == RestoreState::Success);
        let recorded = succeeded.and_then(|record| record.timestamp);
        data_loss.max(recorded).max(self.restored)
    }
}
