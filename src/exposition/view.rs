//! A cluster and its partitions in the eyes of the catalogue, at one moment.
//!
//! What was true *now* is shown only while its reading is believed; a fact of the past always.
//! Each look that depends on time notes until when it gives the same answer, so that what was
//! encoded is encoded again exactly when it would come out differently.

use std::cell::Cell;

use chrono::{DateTime, Utc};

use super::ClusterView;
use crate::inventory::Selection;
use crate::model::{BackupProgress, FailureCode, PeriodicAttempt, Policy, RestoreProgress};
use crate::protection::effective::EffectiveConfiguration;
use crate::protection::history::BackupHistory;
use crate::protection::{Verdict, evaluate};
use crate::snapshot::{PartitionSnapshot, RecoveryPoint, ServiceKey};

/// A cluster at one moment.
pub(super) struct ClusterAt<'a> {
    pub(super) view: &'a ClusterView,
    pub(super) now: DateTime<Utc>,
    valid_until: Cell<Option<DateTime<Utc>>>,
}

impl<'a> ClusterAt<'a> {
    pub(super) fn new(view: &'a ClusterView, now: DateTime<Utc>) -> Self {
        Self {
            view,
            now,
            valid_until: Cell::new(None),
        }
    }

    /// The first moment at which a look that was taken may give another answer.
    pub(super) fn valid_until(&self) -> Option<DateTime<Utc>> {
        self.valid_until.get()
    }

    /// All policies, while they are believed.
    pub(super) fn policies(&self) -> impl Iterator<Item = &'a Policy> {
        let read = self.view.snapshot.policies.as_ref();
        let believed = read.filter(|read| self.believes(read.at + self.view.rules.staleness));
        believed.into_iter().flat_map(|read| read.value.values())
    }

    /// How the configured selection fits the cluster, while the inventory is believed.
    pub(super) fn selection(&self) -> Option<&'a Selection> {
        let read = self.view.snapshot.status.selection.as_ref()?;
        self.believes(read.at + self.view.rules.staleness)
            .then_some(&*read.value)
    }

    /// A counter of failures as it is shown: 0 while the code is new.
    pub(super) fn failures(&self, service: &ServiceKey, code: &FailureCode, count: u64) -> u64 {
        let new_until = self.view.snapshot.new_codes.until(service, code);
        if new_until.is_some_and(|until| self.believes(until)) {
            0
        } else {
            count
        }
    }

    fn believes(&self, until: DateTime<Utc>) -> bool {
        let believed = self.now < until;
        if believed {
            self.note(Some(until));
        }
        believed
    }

    fn note(&self, turn: Option<DateTime<Utc>>) {
        let first = match (self.valid_until.get(), turn) {
            (Some(known), Some(turn)) => Some(known.min(turn)),
            (known, turn) => known.or(turn),
        };
        self.valid_until.set(first);
    }
}

/// A partition of a cluster at that moment.
pub(super) struct PartitionView<'a> {
    pub(super) cluster: &'a ClusterAt<'a>,
    pub(super) known: &'a PartitionSnapshot,
}

impl<'a> PartitionView<'a> {
    /// The record of the last requested backup, while it is believed.
    pub(super) fn progress(&self) -> Option<&'a BackupProgress> {
        self.believed(self.known.read_at())?;
        self.known.record()
    }

    /// The last periodic attempt, while it is believed.
    pub(super) fn attempt(&self) -> Option<PeriodicAttempt> {
        let health = self.known.health?;
        self.believed(Some(health.at))?;
        health.value
    }

    /// The record of the last restore, while it is believed.
    pub(super) fn restore(&self) -> Option<RestoreProgress> {
        let restore = self.known.restore?;
        self.believed(Some(restore.at))?;
        restore.value
    }

    /// What applies, while it is believed.
    pub(super) fn applied(&self) -> Option<&'a EffectiveConfiguration> {
        self.believed(self.known.configuration_read_at)?;
        self.known.configuration.as_deref()
    }

    /// The last data loss or the creation, while the inventory that told it is believed.
    pub(super) fn data_loss(&self) -> Option<DateTime<Utc>> {
        self.believed(self.known.inventoried_at)?;
        self.known.partition.data_loss_time
    }

    /// What the store holds, while the list is believed.
    pub(super) fn history(&self) -> Option<&'a BackupHistory> {
        let read = self.known.history.as_ref()?;
        let until = read.at + self.cluster.view.rules.list_staleness;
        self.cluster.believes(until).then_some(&read.value)
    }

    /// The last success, unless it is dated in the future.
    pub(super) fn last_success(&self) -> Option<&'a RecoveryPoint> {
        self.plausible(self.known.last_success.as_deref())
    }

    /// The newest restorable backup that a list has shown, unless it is dated in the future.
    pub(super) fn newest_listed(&self) -> Option<&'a RecoveryPoint> {
        self.plausible(self.known.successes.listed.as_deref())
    }

    /// How many listed backups cannot be restored, while the list is believed.
    pub(super) fn unrestorable(&self) -> Option<u32> {
        let until = self.known.listed_at? + self.cluster.view.rules.list_staleness;
        let believed = self.cluster.believes(until);
        believed.then_some(self.known.unrestorable)
    }

    fn plausible(&self, point: Option<&'a RecoveryPoint>) -> Option<&'a RecoveryPoint> {
        let status = &self.cluster.view.snapshot.status;
        let from = status.clock_skew_or_zero().plausible_from(point?.at);
        if from > self.cluster.now {
            self.cluster.note(Some(from));
            return None;
        }
        point
    }

    /// The verdict.
    pub(super) fn verdict(&self) -> Verdict {
        let view = self.cluster.view;
        let facts = self.known.facts(&view.snapshot);
        let verdict = evaluate(&facts, &view.rules, self.cluster.now);
        self.cluster.note(verdict.valid_until);
        verdict
    }

    fn believed(&self, read_at: Option<DateTime<Utc>>) -> Option<()> {
        let until = read_at? + self.cluster.view.rules.staleness;
        self.cluster.believes(until).then_some(())
    }
}
