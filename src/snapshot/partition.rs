//! What is known of one partition, and how each kind of reading moves it on.
//!
//! Pure. What a reading seldom changes is shared with the snapshots before: several of them are
//! alive at a time, and a cluster may have 100,000 partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::claim::{ClaimPolicy, FREQUENT};
use super::record::{self, ProgressHistory, RecoveryPoint, SuccessSource};
use super::successes::Successes;
use super::totals::BackupOutcome;
use crate::model::{
    BackupHealth, BackupProgress, FailureCode, Partition, PeriodicAttempt, Read, RestoreProgress,
};
use crate::protection::effective::EffectiveConfiguration;
use crate::protection::history::BackupHistory;

/// What is known of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionSnapshot {
    /// What it is called.
    pub partition: Partition,
    /// When it first became known to this exporter.
    pub known_since: DateTime<Utc>,
    /// When the inventory last listed it.
    pub inventoried_at: Option<DateTime<Utc>>,
    /// The record of the last requested backup, as it was last read; `None` inside when no backup
    /// was ever requested.
    pub progress: Option<Read<Option<Arc<BackupProgress>>>>,
    /// What was seen of its records so far; `None` before the first reading.
    pub progress_history: Option<Arc<ProgressHistory>>,
    /// The newest of [`Self::successes`] that counts. Only a list takes it away.
    pub last_success: Option<Arc<RecoveryPoint>>,
    /// What is claimed and what is proved.
    pub successes: Successes,
    /// The newest recovery point of which the log sequence number is known.
    pub newest_with_lsn: Option<Arc<RecoveryPoint>>,
    /// Log records newly covered by successful backups, within one data-loss epoch each.
    pub lsn_advance: u64,
    /// What was last seen to apply to it; `None` before the first reading. Remembered over
    /// restarts, so that a change meanwhile is noticed.
    pub configuration: Option<Arc<EffectiveConfiguration>>,
    /// When that was read.
    pub configuration_read_at: Option<DateTime<Utc>>,
    /// When a policy was first seen to apply, without a gap since.
    pub protected_since: Option<DateTime<Utc>>,
    /// When the schedule was last seen to restart: protection began, was resumed or got another
    /// policy, or the report of the last attempt vanished.
    pub changed_at: Option<DateTime<Utc>>,
    /// The last periodic attempt, as it was last read.
    pub health: Option<Read<Option<PeriodicAttempt>>>,
    /// When the attempt had ended whose report was last seen to vanish.
    pub vanished_attempt: Option<DateTime<Utc>>,
    /// When the list was requested that last showed what the store holds for it.
    pub listed_at: Option<DateTime<Utc>>,
    /// How many backups in that list cannot be restored.
    pub unrestorable: u32,
    /// When the replica first reported on a restore after the last data loss, also on one that left
    /// no record. The report itself expires.
    pub restore_reported: Option<DateTime<Utc>>,
    /// The record of the last restore, as it was last read.
    pub restore: Option<Read<Option<RestoreProgress>>>,
    /// What the store holds for it, as it was last listed.
    pub history: Option<Arc<Read<BackupHistory>>>,
}

impl PartitionSnapshot {
    /// A partition of which nothing but its name is known, since `now`.
    pub fn new(partition: Partition, now: DateTime<Utc>) -> Self {
        Self {
            partition,
            known_since: now,
            inventoried_at: None,
            progress: None,
            progress_history: None,
            last_success: None,
            successes: Successes::default(),
            newest_with_lsn: None,
            lsn_advance: 0,
            configuration: None,
            configuration_read_at: None,
            protected_since: None,
            changed_at: None,
            health: None,
            vanished_attempt: None,
            listed_at: None,
            unrestorable: 0,
            restore_reported: None,
            restore: None,
            history: None,
        }
    }

    /// A partition as an earlier process knew it.
    pub fn restored(
        partition: Partition,
        known_since: DateTime<Utc>,
        successes: Successes,
    ) -> Self {
        Self {
            last_success: successes.last(DateTime::<Utc>::MAX_UTC).cloned(),
            successes,
            ..Self::new(partition, known_since)
        }
    }

    /// The record of the last requested backup, however old its reading.
    pub fn record(&self) -> Option<&BackupProgress> {
        self.progress.as_ref()?.value.as_deref()
    }

    /// When its progress was last read successfully.
    pub fn read_at(&self) -> Option<DateTime<Utc>> {
        self.progress.as_ref().map(|read| read.at)
    }

    /// Whether a policy was last seen to apply to it.
    pub fn has_policy(&self) -> bool {
        let applied = self.configuration.as_deref();
        applied.is_some_and(|applied| applied.policy.is_some())
    }

    /// Log sequence number of the last success. A periodic one has that of its listed backup.
    pub fn last_success_lsn(&self) -> Option<u64> {
        self.successes.lsn_of(self.last_success.as_deref()?)
    }

    /// Takes over what changed about the successes.
    pub(super) fn update_last_success(&mut self, latest: DateTime<Utc>) {
        let last = self.successes.last(latest);
        if last != self.last_success.as_ref() {
            self.last_success = last.cloned();
        }
    }

    /// Forgets successes dated later than `future`; the last one is then dated no later than `latest`.
    pub(super) fn forget_later(&mut self, future: DateTime<Utc>, latest: DateTime<Utc>) {
        self.successes.forget_later(future);
        self.update_last_success(latest);
        self.newest_with_lsn.take_if(|point| point.at > future);
        let counted = self
            .progress_history
            .as_ref()
            .and_then(|seen| seen.newest_success);
        if let (Some((at, _)), Some(seen)) = (counted, &mut self.progress_history)
            && at > future
        {
            Arc::make_mut(seen).newest_success = None;
        }
    }

    /// Takes in what an earlier process remembered of the same partition.
    pub(super) fn recall(&mut self, remembered: &Self, latest: DateTime<Utc>) {
        self.successes.recall(&remembered.successes, latest);
        self.update_last_success(latest);
        if let Some(point) = &remembered.newest_with_lsn {
            RecoveryPoint::keep_newest(&mut self.newest_with_lsn, point, latest);
        }
        self.lsn_advance = self.lsn_advance.saturating_add(remembered.lsn_advance);
        self.known_since = self.known_since.min(remembered.known_since);
        if let (Some(known), Some(remembered)) = (self.protected_since, remembered.protected_since)
        {
            self.protected_since = Some(known.min(remembered));
        }
    }

    /// Takes in how the inventory lists it. Returns whether it is called otherwise than before.
    pub(super) fn list(&mut self, listed: Partition, at: DateTime<Utc>) -> bool {
        let listed = self.partition.updated(listed);
        let renamed = self.partition.application != listed.application
            || self.partition.service != listed.service;
        self.partition = listed;
        self.inventoried_at = Some(at);
        renamed
    }

    /// Takes the record of the last request in. Returns how a backup ended, if this reading is
    /// the first to show it. Successes dated later than `latest` prove nothing.
    pub(super) fn read_progress(
        &mut self,
        progress: Option<Arc<BackupProgress>>,
        at: DateTime<Utc>,
        terms: &ClaimPolicy<'_>,
        latest: DateTime<Utc>,
    ) -> Option<BackupOutcome> {
        let completion =
            ProgressHistory::observe(&mut self.progress_history, progress.as_deref(), at, latest);
        let record = progress.as_deref();
        if let Some(point) = record.and_then(|record| RecoveryPoint::of_record(record, latest)) {
            self.claim(&point, None, at, terms, latest);
        }
        let value = match self.progress.take().map(|read| read.value) {
            Some(known) if known == progress => known,
            _ => progress,
        };
        self.progress = Some(Read { value, at });
        completion
    }

    /// Takes what the health store says in.
    pub(super) fn read_health(
        &mut self,
        health: BackupHealth,
        at: DateTime<Utc>,
        terms: &ClaimPolicy<'_>,
        latest: DateTime<Utc>,
    ) {
        let attempt = health.attempt;
        // Every restore begins with a data loss. One that fails is tried and reported again and
        // again, and each report would put the next backup off.
        if self.restore_reported <= self.partition.data_loss_time {
            self.restore_reported = health.restored_at.filter(|at| *at <= latest);
        }
        if let Some(point) = attempt.and_then(|attempt| RecoveryPoint::of_attempt(&attempt, latest))
        {
            let before = self.health.filter(|read| at - read.at < FREQUENT);
            let before = before.and_then(|read| read.value).map(|it| it.ended);
            let before = before.filter(|ended| *ended < point.at);
            self.claim(&point, before, at, terms, latest);
        }
        // Where somebody unknown reports, the silence of those who are known proves nothing.
        if attempt.is_some() || !health.unknown_reporter {
            // A report stays for ever, unless protection is suspended or disabled
            // (`BackupRestoreManager.cs`): where that was undone between two polls, the schedule has
            // restarted. A report that comes back and vanishes again is no second restart.
            let reported = self.health.and_then(|read| read.value);
            let vanished = reported.map(|reported| reported.ended);
            if attempt.is_none() && vanished > self.vanished_attempt {
                self.vanished_attempt = vanished;
                self.changed_at = Some(at);
            }
            self.health = Some(Read { value: attempt, at });
        }
    }

    /// Takes what applies to it in. The first reading is the baseline; later ones show when
    /// protection begins, ends, is resumed or changes its policy.
    pub(super) fn read_applied(&mut self, applied: Arc<EffectiveConfiguration>, at: DateTime<Utc>) {
        if let Some(before) = self.configuration.as_deref() {
            let resumed = before.suspended.is_some() && applied.suspended.is_none();
            let renamed = before.policy_name() != applied.policy_name();
            if resumed || renamed {
                self.changed_at = Some(at);
            }
        }
        self.protected_since = match applied.policy {
            Some(_) => self.protected_since.or(Some(at)),
            None => None,
        };
        self.configuration = Some(applied);
        self.configuration_read_at = Some(at);
    }

    /// Replaces a failure code that would be one label value too many by `other`. The identity of
    /// the record keeps the real one, so that different failures stay different.
    pub(super) fn bound_code(&mut self, codes: &mut BTreeSet<FailureCode>) {
        let record = self.progress.as_mut().and_then(|read| read.value.as_mut());
        if let Some(record) = record {
            record::bound_code(record, codes);
        }
    }

    /// Takes a claimed success in; of a periodic one, with the end of the attempt before it where
    /// readings were frequent.
    fn claim(
        &mut self,
        point: &RecoveryPoint,
        attempt_before: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
        terms: &ClaimPolicy<'_>,
        latest: DateTime<Utc>,
    ) {
        let is_requested = point.source == SuccessSource::Requested;
        let counts = self
            .successes
            .claim(point, attempt_before, at, terms, latest);
        self.update_last_success(latest);
        let requested = self.successes.requested.as_ref();
        if let Some(claim) = requested.filter(|_| counts && is_requested) {
            let point = Arc::clone(&claim.point);
            self.count_advance(&point, latest);
        }
    }

    /// Counts the log records that a success newly covers.
    pub(super) fn count_advance(&mut self, point: &Arc<RecoveryPoint>, latest: DateTime<Utc>) {
        if point.lsn.is_some() {
            let advance = point.advance_over(self.newest_with_lsn.as_deref());
            self.lsn_advance = self.lsn_advance.saturating_add(advance);
            RecoveryPoint::keep_newest(&mut self.newest_with_lsn, point, latest);
        }
    }
}
