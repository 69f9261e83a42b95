//! What is remembered of the records of one partition: which one was seen, since when, and the
//! recovery point it claims.
//!
//! Two records are the same when they say the same of themselves: state, id, time and failure
//! code. The wire carries no time of a failure, so nothing else can tell two of them apart.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::totals::BackupOutcome;
use crate::model::{BackupProgress, BackupState, FailureCode, ListedBackup, PeriodicAttempt};

/// Maximum number of distinct failure codes that become label values; further codes become
/// `other`.
const MAX_FAILURE_CODES: usize = 64;

/// Where a recovery point was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuccessSource {
    /// A list of the backups in the store. The upload has ended: metadata is uploaded last and
    /// deleted first (`BackupCopier.cs`).
    List,
    /// A report of a periodic backup in the health store.
    Periodic,
    /// The record of a requested backup.
    Requested,
}

/// A backup from which a partition can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// Where it was read.
    pub source: SuccessSource,
    /// Moment of the snapshot that it holds.
    pub at: DateTime<Utc>,
    /// Its id, when the source tells.
    pub backup_id: Option<Uuid>,
    /// Last log sequence number in it, when the source tells.
    pub lsn: Option<u64>,
    /// Data-loss epoch of that number, when the source tells.
    pub data_loss_version: Option<u64>,
    /// `storage_fingerprint` of the policy that applied when it was first read; `None` when that policy
    /// was not known.
    pub storage: Option<u32>,
}

impl RecoveryPoint {
    /// The recovery point that a record claims: only a Success dated no later than `latest` does.
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

    /// The recovery point that a periodic attempt claims. Its time is the end of the upload.
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

    /// The recovery point that a restorable listed backup proves. The key-value store of actor
    /// services has no log sequence numbers and epochs; its backups are valid without them.
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

    /// Whether it is the same backup as `other`, as far as both sources identify it.
    pub(super) fn is_same_backup(&self, other: &Self) -> bool {
        match (self.backup_id, other.backup_id) {
            (Some(id), Some(other)) => id == other,
            _ => self.at == other.at,
        }
    }

    /// Whether it was first read under another storage than `now`. A point of unknown storage counts
    /// as one of the current storage.
    pub(super) fn is_elsewhere(&self, now: Option<u32>) -> bool {
        self.storage.is_some_and(|storage| Some(storage) != now)
    }

    /// Log records that this point covers and `earlier` did not: 0 unless both belong to the same
    /// data-loss epoch and this one is newer.
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

    /// Orders points from the oldest to the newest, after those dated later than `latest`.
    pub(super) fn rank(&self, latest: DateTime<Utc>) -> (bool, DateTime<Utc>) {
        (self.at <= latest, self.at)
    }

    /// Replaces an older point, or one dated later than `latest`, by `point`.
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

/// What a record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressKey {
    /// Its state.
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

/// What was seen of a partition's records. That it exists means that a baseline exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressHistory {
    /// The record seen last, and since when it is as it is.
    pub record: Option<(ProgressKey, DateTime<Utc>)>,
    /// Time and id of the newest success that was counted or belongs to the baseline. A record
    /// that goes back behind it was read from an outdated replica.
    pub newest_success: Option<(DateTime<Utc>, Option<Uuid>)>,
    /// Since when the request that it belongs to is accepted or in progress.
    pub running_since: Option<DateTime<Utc>>,
    /// Whether that record was as it is already when this exporter first looked.
    pub is_baseline: bool,
}

impl ProgressHistory {
    /// When the record seen last was first seen as it is.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        self.record.as_ref().map(|(_, since)| *since)
    }

    /// Takes a reading in. Returns how a backup ended, if this reading is the first to show it
    /// and a baseline existed before. Successes dated later than `latest` have no credible date.
    pub(crate) fn observe(
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

    /// Whether a success is another one than the newest that was counted, and not older. One
    /// without a time, or dated later than `latest`, is judged by its change alone: its date must
    /// not keep later successes from being counted.
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

/// Replaces a failure code that would be one label value too many by `other`.
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
