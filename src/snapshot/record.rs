//! Recovery points, and the history of the progress records of one partition.
//!
//! Two progress records are the same if state, id, time and failure code are equal. The API has no
//! time of a failure, so two failures with the same code cannot be distinguished.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::totals::BackupOutcome;
use crate::model::{BackupProgress, BackupState, FailureCode, ListedBackup, PeriodicAttempt};

/// Maximum number of distinct failure codes that become label values; further codes become
/// `other`.
const MAX_FAILURE_CODES: usize = 64;

/// The source of a recovery point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuccessSource {
    /// A backup list. A listed backup is complete: its metadata is uploaded last and deleted first
    /// (`BackupCopier.cs`).
    List,
    /// The report of a periodic backup in the health store.
    Periodic,
    /// The progress record of a requested backup.
    Requested,
}

/// A backup from which a partition can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// The source.
    pub source: SuccessSource,
    /// Time of the snapshot in the backup; of the end of its upload if the source is a health report.
    pub at: DateTime<Utc>,
    /// Id of the backup, if the source has it.
    pub backup_id: Option<Uuid>,
    /// Last log sequence number in the backup, if the source has it.
    pub lsn: Option<u64>,
    /// Data loss version of that number, if the source has it.
    pub data_loss_version: Option<u64>,
    /// `storage_fingerprint` of the policy that applied at the first reading; `None` if the policy was
    /// unknown.
    pub storage: Option<u32>,
}

impl RecoveryPoint {
    /// The recovery point that a progress record claims, if it is a success that is not dated after
    /// `latest`.
    pub(super) fn of_record(record: &BackupProgress, latest: DateTime<Utc>) -> Option<Self> {
        let at = record.timestamp.filter(|at| *at <= latest)?;
        (record.state == BackupState::Success).then(|| Self {
            source: SuccessSource::Requested,
            at,
            backup_id: record.backup_id,
            lsn: record.lsn,
            data_loss_version: record.epoch.and_then(|epoch| epoch.data_loss_version),
            storage: None,
        })
    }

    /// The recovery point that a periodic attempt claims.
    pub(super) fn of_attempt(attempt: &PeriodicAttempt, latest: DateTime<Utc>) -> Option<Self> {
        (attempt.succeeded && attempt.ended <= latest).then_some(Self {
            source: SuccessSource::Periodic,
            at: attempt.ended,
            backup_id: None,
            lsn: None,
            data_loss_version: None,
            storage: None,
        })
    }

    /// The recovery point of a restorable listed backup.
    pub(super) fn of_listed(backup: &ListedBackup, latest: DateTime<Utc>) -> Option<Self> {
        let at = backup.created.filter(|at| *at <= latest)?;
        Some(Self {
            source: SuccessSource::List,
            at,
            backup_id: backup.backup_id,
            lsn: backup.lsn,
            data_loss_version: backup.epoch.and_then(|epoch| epoch.data_loss_version),
            storage: None,
        })
    }

    /// Whether both are the same backup: by id if both have one, else by time.
    pub(super) fn is_same_backup(&self, other: &Self) -> bool {
        match (self.backup_id, other.backup_id) {
            (Some(id), Some(other)) => id == other,
            _ => self.at == other.at,
        }
    }

    /// Whether the backup is not in the `current` storage of the policy. An unknown storage counts as
    /// the current one.
    pub(super) fn is_in_other_storage(&self, current: Option<u32>) -> bool {
        self.storage.is_some_and(|storage| Some(storage) != current)
    }

    /// Number of log records that this backup covers in addition to `earlier`: 0 unless both have
    /// the same data loss version and this one is newer.
    pub(crate) fn advance_over(&self, earlier: Option<&Self>) -> u64 {
        let Some(earlier) = earlier else { return 0 };
        let same_epoch =
            self.data_loss_version.is_some() && self.data_loss_version == earlier.data_loss_version;
        match (self.lsn, earlier.lsn) {
            (Some(lsn), Some(before)) if same_epoch && self.at > earlier.at => {
                lsn.saturating_sub(before)
            }
            _ => 0,
        }
    }

    /// Sort key from the oldest to the newest; dates after `latest` come first.
    pub(super) fn rank(&self, latest: DateTime<Utc>) -> (bool, DateTime<Utc>) {
        (self.at <= latest, self.at)
    }

    /// Replaces an older recovery point, or one dated after `latest`, by `point`.
    pub(super) fn keep_newest(
        kept: &mut Option<Arc<Self>>,
        point: &Arc<Self>,
        latest: DateTime<Utc>,
    ) {
        if kept
            .as_deref()
            .is_none_or(|kept| kept.rank(latest) <= point.rank(latest) && kept != &**point)
        {
            *kept = Some(Arc::clone(point));
        }
    }
}

/// The fields that identify a progress record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressKey {
    /// State of the request.
    pub state: BackupState,
    /// Id of the backup.
    pub backup_id: Option<Uuid>,
    /// Time of the backup.
    pub timestamp: Option<DateTime<Utc>>,
    /// Why it failed.
    pub code: Option<FailureCode>,
}

impl ProgressKey {
    fn of(record: &BackupProgress) -> Self {
        Self {
            state: record.state,
            backup_id: record.backup_id,
            timestamp: record.timestamp,
            code: record.failure.as_ref().map(|failure| failure.code.clone()),
        }
    }
}

/// The history of the progress records of a partition. It starts with the first reading, the
/// baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressHistory {
    /// The last record, and when it was first read.
    pub record: Option<(ProgressKey, DateTime<Utc>)>,
    /// Time and id of the newest success that was counted or is part of the baseline. An older record
    /// was read from an outdated replica.
    pub newest_success: Option<(DateTime<Utc>, Option<Uuid>)>,
    /// When the current request was first read as accepted or in progress.
    pub running_since: Option<DateTime<Utc>>,
    /// Whether the last record is the baseline.
    pub is_baseline: bool,
}

impl ProgressHistory {
    /// When the last record was first read.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        self.record.as_ref().map(|(_, since)| *since)
    }

    /// Adds a record. Returns the outcome of the backup if this is not the baseline and the first
    /// record to show it. A date after `latest` is not plausible.
    pub(crate) fn apply(
        seen: &mut Option<Arc<Self>>,
        record: Option<&BackupProgress>,
        read_at: DateTime<Utc>,
        latest: DateTime<Utc>,
    ) -> Option<BackupOutcome> {
        let baseline = seen.is_none();
        let seen = seen.get_or_insert_default();
        let identity = record.map(ProgressKey::of);
        if seen.record.as_ref().map(|(known, _)| known) == identity.as_ref() {
            return None;
        }
        let seen = Arc::make_mut(seen);
        let before = seen.record.as_ref().map(|(known, _)| known.state);
        seen.running_since = match (before, record.map(|record| record.state)) {
            (Some(BackupState::Accepted), Some(BackupState::BackupInProgress)) => {
                seen.running_since.or(Some(read_at))
            }
            (_, Some(BackupState::Accepted | BackupState::BackupInProgress)) => Some(read_at),
            _ => None,
        };
        seen.record = identity.map(|identity| (identity, read_at));
        seen.is_baseline = baseline;
        let record = record?;
        let outcome = BackupOutcome::of(record.state)?;
        let dated = record.timestamp.filter(|at| *at <= latest);
        let is_new = outcome != BackupOutcome::Success || seen.is_newer_success(record, latest);
        if let (BackupOutcome::Success, true, Some(at)) = (outcome, is_new, dated) {
            seen.newest_success = Some((at, record.backup_id));
        }
        (is_new && !baseline).then_some(outcome)
    }

    /// Whether a success is newer than the newest one that was counted. Without a plausible date,
    /// the change of the record decides: a wrong date must not prevent later successes from being
    /// counted.
    fn is_newer_success(&self, record: &BackupProgress, latest: DateTime<Utc>) -> bool {
        let newest = self.newest_success.filter(|(at, _)| *at <= latest);
        match (newest, record.timestamp.filter(|at| *at <= latest)) {
            (Some((newest, id)), Some(at)) => {
                at > newest || (at == newest && id != record.backup_id)
            }
            _ => true,
        }
    }
}

/// Replaces a failure code beyond [`MAX_FAILURE_CODES`] by `other`.
pub(super) fn bound_code(record: &mut Arc<BackupProgress>, codes: &mut BTreeSet<FailureCode>) {
    let Some(failure) = &record.failure else {
        return;
    };
    if codes.contains(&failure.code) || failure.code == FailureCode::other() {
        return;
    }
    if codes.len() < MAX_FAILURE_CODES {
        codes.insert(failure.code.clone());
    } else if let Some(failure) = &mut Arc::make_mut(record).failure {
        failure.code = FailureCode::other();
    }
}
