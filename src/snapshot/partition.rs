//! The state of one partition, and how each kind of observation changes it.
//!
//! Pure. Values that rarely change are shared with the previous snapshots: several snapshots exist
//! at a time, and a cluster may have 100,000 partitions.

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

/// The state of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionSnapshot {
    /// The partition with its names.
    pub partition: Partition,
    /// When the exporter first saw the partition.
    pub known_since: DateTime<Utc>,
    /// When the inventory last contained the partition.
    pub inventoried_at: Option<DateTime<Utc>>,
    /// The progress record, as last read; `None` inside if no backup was ever requested.
    pub progress: Option<Read<Option<Arc<BackupProgress>>>>,
    /// The history of its progress records; `None` before the first reading.
    pub progress_history: Option<Arc<ProgressHistory>>,
    /// The newest of [`Self::successes`] that counts. Only a list can remove it.
    pub last_success: Option<Arc<RecoveryPoint>>,
    /// Claimed and listed successes.
    pub successes: Successes,
    /// The newest recovery point with a log sequence number.
    pub newest_with_lsn: Option<Arc<RecoveryPoint>>,
    /// Log records newly covered by successful backups, within one data-loss epoch each.
    pub lsn_advance: u64,
    /// The effective configuration, as last read; `None` before the first reading. Part of the state
    /// file, so that a change during a restart is noticed.
    pub configuration: Option<Arc<EffectiveConfiguration>>,
    /// When the configuration was last read by this process.
    pub configuration_read_at: Option<DateTime<Utc>>,
    /// Since when a policy has applied without interruption.
    pub protected_since: Option<DateTime<Utc>>,
    /// When the schedule was last seen to restart: protection was resumed or got another policy, or
    /// the report of the last attempt was deleted.
    pub changed_at: Option<DateTime<Utc>>,
    /// The last periodic attempt, as last read; `None` inside if there is no report.
    pub health: Option<Read<Option<PeriodicAttempt>>>,
    /// End of the first periodic attempt that this process has seen since the schedule restarted.
    pub first_attempt: Option<DateTime<Utc>>,
    /// End of the last attempt whose report was deleted.
    pub vanished_attempt: Option<DateTime<Utc>>,
    /// When the last list was requested that covers the partition.
    pub listed_at: Option<DateTime<Utc>>,
    /// Number of unrestorable backups in that list.
    pub unrestorable: u32,
    /// When the replica first reported a restore after the last data loss, successful or not. The
    /// report itself expires.
    pub restore_reported: Option<DateTime<Utc>>,
    /// The record of the last restore, as last read.
    pub restore: Option<Read<Option<RestoreProgress>>>,
    /// The restorable backups, as last listed.
    pub history: Option<Arc<Read<BackupHistory>>>,
}

impl PartitionSnapshot {
    /// A partition without any observation, first seen at `now`.
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
            first_attempt: None,
            vanished_attempt: None,
            listed_at: None,
            unrestorable: 0,
            restore_reported: None,
            restore: None,
            history: None,
        }
    }

    /// A partition as restored from the state file.
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

    /// The progress record, even if it is stale.
    pub fn record(&self) -> Option<&BackupProgress> {
        self.progress.as_ref()?.value.as_deref()
    }

    /// When the progress record was last read.
    pub fn read_at(&self) -> Option<DateTime<Utc>> {
        self.progress.as_ref().map(|read| read.at)
    }

    /// Whether a policy applied when the configuration was last read.
    pub fn has_policy(&self) -> bool {
        let configuration = self.configuration.as_deref();
        configuration.is_some_and(|configuration| configuration.policy.is_some())
    }

    /// Log sequence number of the last success; of its listed backup if the success is periodic.
    pub fn last_success_lsn(&self) -> Option<u64> {
        self.successes.lsn_of(self.last_success.as_deref()?)
    }

    /// Updates the last success after a change of the successes.
    pub(super) fn update_last_success(&mut self, latest: DateTime<Utc>) {
        let last = self.successes.last(latest);
        if last != self.last_success.as_ref() {
            self.last_success = last.cloned();
        }
    }

    /// Removes successes dated after `future`. One dated after `latest` is the last success only if
    /// there is no other.
    pub(super) fn remove_dated_after(&mut self, future: DateTime<Utc>, latest: DateTime<Utc>) {
        self.successes.remove_dated_after(future);
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

    /// Merges the state that an earlier process remembered.
    pub(super) fn merge(&mut self, remembered: &Self, latest: DateTime<Utc>) {
        self.successes.merge(&remembered.successes, latest);
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

    /// Applies an inventory that lists the partition. Returns whether a name has changed.
    pub(super) fn apply_inventory(&mut self, listed: Partition, at: DateTime<Utc>) -> bool {
        let listed = self.partition.updated(listed);
        let renamed = self.partition.application != listed.application
            || self.partition.service != listed.service;
        self.partition = listed;
        self.inventoried_at = Some(at);
        renamed
    }

    /// Applies a progress record. Returns the outcome of the backup if this reading is the first to
    /// show it. A success dated after `latest` is not a claim.
    pub(super) fn apply_progress(
        &mut self,
        progress: Option<Arc<BackupProgress>>,
        at: DateTime<Utc>,
        policy: &ClaimPolicy<'_>,
        latest: DateTime<Utc>,
    ) -> Option<BackupOutcome> {
        let completion =
            ProgressHistory::apply(&mut self.progress_history, progress.as_deref(), at, latest);
        let record = progress.as_deref();
        if let Some(point) = record.and_then(|record| RecoveryPoint::of_record(record, latest)) {
            self.add_claim(&point, None, at, policy, latest);
        }
        let value = match self.progress.take().map(|read| read.value) {
            Some(known) if known == progress => known,
            _ => progress,
        };
        self.progress = Some(Read { value, at });
        completion
    }

    /// Applies the health events about backups.
    pub(super) fn apply_health(
        &mut self,
        health: BackupHealth,
        at: DateTime<Utc>,
        policy: &ClaimPolicy<'_>,
        latest: DateTime<Utc>,
    ) {
        let attempt = health.attempt;
        // Every restore begins with a data loss. A restore that fails is repeated and reported each
        // time; counting each report would postpone the due time again and again.
        if self.restore_reported <= self.partition.data_loss_time {
            self.restore_reported = health.restored_at.filter(|at| *at <= latest);
        }
        if let Some(point) = attempt.and_then(|attempt| RecoveryPoint::of_attempt(&attempt, latest))
        {
            let before = self.health.filter(|read| at - read.at < FREQUENT);
            let before = before.and_then(|read| read.value).map(|it| it.ended);
            let before = before.filter(|ended| *ended < point.at);
            self.add_claim(&point, before, at, policy, latest);
        }
        let restarted = self.changed_at.max(self.reset_at());
        if self
            .first_attempt
            .is_none_or(|first| Some(first) <= restarted)
        {
            self.first_attempt = attempt.map(|attempt| attempt.ended);
        }
        // If reports come from an unknown source, a missing report proves nothing.
        if attempt.is_some() || !health.unknown_reporter {
            // A report remains until protection is suspended or disabled
            // (`BackupRestoreManager.cs`). If the report of the last attempt is missing, that was
            // done and undone between two cycles, and the schedule has restarted. The same report may
            // reappear and vanish again, which is not another restart.
            let reported = self.health.and_then(|read| read.value);
            let vanished = reported.map(|reported| reported.ended);
            if attempt.is_none() && vanished > self.vanished_attempt {
                self.vanished_attempt = vanished;
                self.changed_at = Some(at);
            }
            self.health = Some(Read { value: attempt, at });
        }
    }

    /// Applies an effective configuration. The first one is the baseline; a later one may show that
    /// protection begins, ends, is resumed or changes its policy.
    pub(super) fn apply_configuration(
        &mut self,
        configuration: Arc<EffectiveConfiguration>,
        at: DateTime<Utc>,
    ) {
        if let Some(before) = self.configuration.as_deref() {
            let resumed = before.suspended.is_some() && configuration.suspended.is_none();
            let renamed = before.policy_name() != configuration.policy_name();
            if resumed || renamed {
                self.changed_at = Some(at);
            }
        }
        self.protected_since = match configuration.policy {
            Some(_) => self.protected_since.or(Some(at)),
            None => None,
        };
        self.configuration = Some(configuration);
        self.configuration_read_at = Some(at);
    }

    /// Replaces a failure code beyond the limit of label values by `other`. The history of the
    /// records keeps the original, so that different failures remain distinct.
    pub(super) fn bound_code(&mut self, codes: &mut BTreeSet<FailureCode>) {
        let record = self.progress.as_mut().and_then(|read| read.value.as_mut());
        if let Some(record) = record {
            record::bound_code(record, codes);
        }
    }

    /// Adds a claim. `attempt_before` is the end of the previous attempt, if readings were so frequent
    /// that none was missed in between.
    fn add_claim(
        &mut self,
        point: &RecoveryPoint,
        attempt_before: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
        policy: &ClaimPolicy<'_>,
        latest: DateTime<Utc>,
    ) {
        let is_requested = point.source == SuccessSource::Requested;
        let counts = self
            .successes
            .add_claim(point, attempt_before, at, policy, latest);
        self.update_last_success(latest);
        let requested = self.successes.requested.as_ref();
        if let Some(claim) = requested.filter(|_| counts && is_requested) {
            let point = Arc::clone(&claim.point);
            self.count_advance(&point, latest);
        }
    }

    /// Counts the log records that a success covers in addition to the previous one.
    pub(super) fn count_advance(&mut self, point: &Arc<RecoveryPoint>, latest: DateTime<Utc>) {
        if point.lsn.is_some() {
            let advance = point.advance_over(self.newest_with_lsn.as_deref());
            self.lsn_advance = self.lsn_advance.saturating_add(advance);
            RecoveryPoint::keep_newest(&mut self.newest_with_lsn, point, latest);
        }
    }
}
