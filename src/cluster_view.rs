//! A cluster as all pages show it: a snapshot, evaluated at one moment.
//!
//! Pure. A view has the verdicts of its moment. It shows a value that a poll reads only while the
//! value is fresh, and a fact of the past always. A later view of the same snapshot is the same
//! until `valid_until`.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::inventory::Selection;
use crate::model::{
    BackupProgress, FailureCode, PartitionId, PeriodicAttempt, Policy, RestoreProgress,
};
use crate::protection::effective::EffectiveConfiguration;
use crate::protection::history::BackupHistory;
use crate::protection::{Rules, Verdict, evaluate};
use crate::settings::States;
use crate::snapshot::{PartitionSnapshot, RecoveryPoint, ServiceKey, Snapshot};

/// The settings on which a view depends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewSettings {
    /// By which verdicts are evaluated.
    pub rules: Rules,
    /// The exposed states of a state set.
    pub states: States,
}

/// A cluster at one moment.
#[derive(Debug)]
pub struct ClusterView {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Settings of the evaluation and of the exposition.
    pub settings: ViewSettings,
    /// When the verdicts were evaluated.
    pub(crate) at: DateTime<Utc>,
    /// In the order of the partitions.
    verdicts: Vec<Verdict>,
    /// When a value other than a verdict may next change without a new snapshot.
    facts_valid_until: Option<DateTime<Utc>>,
    valid_until: Option<DateTime<Utc>>,
}

impl ClusterView {
    /// Evaluates every partition of `snapshot` at `at`.
    pub fn new(snapshot: Arc<Snapshot>, settings: ViewSettings, at: DateTime<Utc>) -> Self {
        let partitions = snapshot.partitions.values();
        let verdicts =
            partitions.map(|known| evaluate(&known.facts(&snapshot), &settings.rules, at));
        let verdicts: Vec<Verdict> = verdicts.collect();
        let facts_valid_until = facts_valid_until(&snapshot, &settings.rules, at);
        let verdicts_valid_until = verdicts.iter().filter_map(|verdict| verdict.valid_until);
        let valid_until = verdicts_valid_until.chain(facts_valid_until).min();
        Self {
            snapshot,
            settings,
            at,
            verdicts,
            facts_valid_until,
            valid_until,
        }
    }

    /// When a verdict or another value of the view may next change without a new snapshot.
    pub fn valid_until(&self) -> Option<DateTime<Utc>> {
        self.valid_until
    }

    /// Whether a view of the same snapshot at `now` is the same.
    pub(crate) fn is_valid_at(&self, now: DateTime<Utc>) -> bool {
        self.at <= now && self.valid_until.is_none_or(|until| now < until)
    }

    /// `now`, or the last moment before it at which the view is valid.
    pub(crate) fn last_valid(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let last = self
            .valid_until
            .map(|until| until - TimeDelta::nanoseconds(1));
        last.map_or(now, |last| now.min(last)).max(self.at)
    }

    /// Whether `other` shows the same facts apart from verdicts: it is a later view of the same
    /// snapshot, and all fresh facts are still fresh.
    pub(crate) fn has_facts_of(&self, other: &Self) -> bool {
        self.has_source_of(other)
            && other.at <= self.at
            && other.facts_valid_until.is_none_or(|until| self.at < until)
    }

    /// Whether `other` has the same partitions and the same verdicts.
    pub(crate) fn has_verdicts_of(&self, other: &Self) -> bool {
        let (verdicts, others) = (self.verdicts.iter(), other.verdicts.iter());
        let shown = |verdict: &Verdict| (verdict.state, verdict.due);
        self.has_source_of(other) && verdicts.map(shown).eq(others.map(shown))
    }

    fn has_source_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.snapshot, &other.snapshot) && self.settings == other.settings
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionView<'_>> {
        let partitions = self.snapshot.partitions.values().zip(&self.verdicts);
        partitions.map(|(known, verdict)| PartitionView {
            cluster: self,
            known,
            verdict: *verdict,
        })
    }

    pub(crate) fn partition(&self, id: PartitionId) -> Option<PartitionView<'_>> {
        let known = self.snapshot.partitions.get(&id)?;
        let facts = known.facts(&self.snapshot);
        Some(PartitionView {
            cluster: self,
            known,
            verdict: evaluate(&facts, &self.settings.rules, self.at),
        })
    }

    /// All policies, while fresh.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Policy> {
        let read = self.snapshot.policies.as_ref();
        let fresh = read.filter(|read| self.is_fresh(read.at));
        fresh.into_iter().flat_map(|read| read.value.values())
    }

    /// How the configured selection matches the cluster, while the inventory is fresh.
    pub(crate) fn selection(&self) -> Option<&Selection> {
        let read = self.snapshot.status.selection.as_ref()?;
        self.is_fresh(read.at).then_some(&*read.value)
    }

    /// A counter of failures as exposed: 0 while the code is new.
    pub(crate) fn failures(&self, service: &ServiceKey, code: &FailureCode, count: u64) -> u64 {
        let new_until = self.snapshot.new_codes.until(service, code);
        if new_until.is_some_and(|until| self.at < until) {
            0
        } else {
            count
        }
    }

    fn is_fresh(&self, read_at: DateTime<Utc>) -> bool {
        self.at < read_at + self.settings.rules.staleness
    }

    fn is_list_fresh(&self, listed_at: DateTime<Utc>) -> bool {
        self.at < listed_at + self.settings.rules.list_staleness
    }
}

/// A partition of a view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionView<'a> {
    pub(crate) cluster: &'a ClusterView,
    pub(crate) known: &'a PartitionSnapshot,
    pub(crate) verdict: Verdict,
}

impl<'a> PartitionView<'a> {
    pub(crate) fn has_fresh_progress(&self) -> bool {
        self.fresh(self.known.read_at()).is_some()
    }

    /// The record of the last requested backup, while fresh.
    pub(crate) fn progress(&self) -> Option<&'a BackupProgress> {
        self.fresh(self.known.read_at())?;
        self.known.record()
    }

    /// The last periodic attempt, while fresh.
    pub(crate) fn attempt(&self) -> Option<PeriodicAttempt> {
        let health = self.known.health?;
        self.fresh(Some(health.at))?;
        health.value
    }

    /// The record of the last restore, while fresh.
    pub(crate) fn restore(&self) -> Option<RestoreProgress> {
        let restore = self.known.restore?;
        self.fresh(Some(restore.at))?;
        restore.value
    }

    /// The effective configuration, while fresh.
    pub(crate) fn configuration(&self) -> Option<&'a EffectiveConfiguration> {
        self.fresh(self.known.configuration_read_at)?;
        self.known.configuration.as_deref()
    }

    /// When the partition last lost data or was created, while the inventory is fresh.
    pub(crate) fn data_loss(&self) -> Option<DateTime<Utc>> {
        self.fresh(self.known.inventoried_at)?;
        self.known.partition.data_loss_time
    }

    /// The history of backups in the store, while the list is fresh.
    pub(crate) fn history(&self) -> Option<&'a BackupHistory> {
        let read = self.known.history.as_ref()?;
        self.cluster.is_list_fresh(read.at).then_some(&read.value)
    }

    /// How many listed backups cannot be restored, while the list is fresh.
    pub(crate) fn unrestorable(&self) -> Option<u32> {
        let listed_at = self.known.listed_at?;
        let is_fresh = self.cluster.is_list_fresh(listed_at);
        is_fresh.then_some(self.known.unrestorable)
    }

    /// The last success, unless it is dated in the future.
    pub(crate) fn last_success(&self) -> Option<&'a RecoveryPoint> {
        self.plausible(self.known.last_success.as_deref())
    }

    /// The newest restorable backup that a list has shown, unless it is dated in the future.
    pub(crate) fn newest_listed(&self) -> Option<&'a RecoveryPoint> {
        self.plausible(self.known.successes.listed.as_deref())
    }

    fn plausible(&self, point: Option<&'a RecoveryPoint>) -> Option<&'a RecoveryPoint> {
        let clock_skew = self.cluster.snapshot.status.clock_skew_or_zero();
        point.filter(|point| clock_skew.plausible_from(point.at) <= self.cluster.at)
    }

    fn fresh(&self, read_at: Option<DateTime<Utc>>) -> Option<()> {
        self.cluster.is_fresh(read_at?).then_some(())
    }
}

/// The first moment after `at` at which a value that [`ClusterView`] or [`PartitionView`] shows
/// becomes stale or plausible, or a failure code is no longer new.
fn facts_valid_until(
    snapshot: &Snapshot,
    rules: &Rules,
    at: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let clock_skew = snapshot.status.clock_skew_or_zero();
    let stale_after = |read_at: Option<DateTime<Utc>>, staleness: TimeDelta| {
        read_at.map(|read_at| read_at + staleness)
    };
    let plausible =
        |point: Option<&Arc<RecoveryPoint>>| point.map(|point| clock_skew.plausible_from(point.at));
    let of_partitions = snapshot.partitions.values().flat_map(|known| {
        let history = known.history.as_ref().map(|read| read.at);
        [
            stale_after(known.read_at(), rules.staleness),
            stale_after(known.health.map(|read| read.at), rules.staleness),
            stale_after(known.restore.map(|read| read.at), rules.staleness),
            stale_after(known.configuration_read_at, rules.staleness),
            stale_after(known.inventoried_at, rules.staleness),
            stale_after(history, rules.list_staleness),
            stale_after(known.listed_at, rules.list_staleness),
            plausible(known.last_success.as_ref()),
            plausible(known.successes.listed.as_ref()),
        ]
    });
    let policies = snapshot.policies.as_ref().map(|read| read.at);
    let selection = snapshot.status.selection.as_ref().map(|read| read.at);
    let of_cluster = [
        stale_after(policies, rules.staleness),
        stale_after(selection, rules.staleness),
    ];
    let moments = of_partitions.chain(of_cluster).flatten();
    let moments = moments.chain(snapshot.new_codes.ends());
    moments.filter(|moment| at < *moment).min()
}
