//! What is known of one cluster, and how it moves on: previous + observed + now → next.
//!
//! Pure and total: no clock, no I/O, no error. A snapshot is never changed, only replaced as a
//! whole. It forgets nothing because a reading failed: the last success of a partition is sticky,
//! and only an inventory that was read makes a partition disappear.

mod claim;
mod facts;
mod listing;
mod lists;
mod observations;
mod partition;
mod record;
mod status;
mod successes;
mod totals;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::inventory::{Inventory, UnreadScopes};
use crate::model::{
    BackupProgress, FailureCode, Name, Partition, PartitionId, Policies, Policy, Read,
};
use crate::protection::effective::{ConfigurationSet, EffectiveConfiguration};
use claim::ClaimPolicy;
pub use claim::{Claim, ClaimStatus};
use listing::ListScope;
pub use observations::{
    ClusterObservation, CollectorRun, Observations, PartitionObservation, SecurityStatus,
};
pub use partition::PartitionSnapshot;
pub use record::{ProgressHistory, ProgressKey, RecoveryPoint, SuccessSource};
pub use status::ClusterStatus;
pub use successes::Successes;
pub use totals::{BackupOutcome, NewFailureCodes, ServiceKey, ServiceTotals};

/// What is known of one cluster at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Its configured name.
    pub cluster: Arc<str>,
    /// Every known partition.
    pub partitions: BTreeMap<PartitionId, PartitionSnapshot>,
    /// Counters of the requested backups seen to end, for every service with a known partition.
    pub totals: BTreeMap<ServiceKey, ServiceTotals>,
    /// Failure codes in these counters that are new.
    pub new_codes: NewFailureCodes,
    /// All policies, as they were last read.
    pub policies: Option<Read<Policies>>,
    /// Checksum of each policy as two readings in a row showed it, remembered over restarts: a policy
    /// that was changed starts the timers of its partitions anew.
    pub policy_fingerprints: BTreeMap<Name, u32>,
    /// The cluster itself, as the last cycle left it.
    pub status: ClusterStatus,
    /// The policies that are set somewhere in an application, where they are several.
    policies_of: BTreeMap<Name, Arc<BTreeSet<Name>>>,
    codes: BTreeSet<FailureCode>,
}

impl Snapshot {
    /// A cluster of which nothing is known yet.
    pub fn empty(cluster: Arc<str>) -> Self {
        Self::restored(cluster, Vec::new(), BTreeMap::new(), BTreeMap::new())
    }

    /// A cluster as an earlier process remembered it.
    pub fn restored(
        cluster: Arc<str>,
        partitions: Vec<PartitionSnapshot>,
        totals: BTreeMap<ServiceKey, ServiceTotals>,
        policy_fingerprints: BTreeMap<Name, u32>,
    ) -> Self {
        let codes = totals
            .values()
            .flat_map(|totals| totals.failures.keys().cloned())
            .collect();
        let partitions = partitions
            .into_iter()
            .map(|known| (known.partition.id, known))
            .collect();
        let mut snapshot = Self {
            cluster,
            partitions,
            totals,
            new_codes: NewFailureCodes::default(),
            policies: None,
            policy_fingerprints,
            status: ClusterStatus::default(),
            policies_of: BTreeMap::new(),
            codes,
        };
        snapshot.settle_totals();
        snapshot
    }

    /// What is known here, and what an earlier process `remembered` and this one did not know
    /// of: older proofs, earlier beginnings, and its counts as the base of those since.
    #[must_use]
    pub fn merged_with(&self, remembered: &Self, now: DateTime<Utc>) -> Self {
        let mut next = self.clone();
        let latest = next.status.clock_skew_or_zero().latest_success(now);
        for (id, known) in &mut next.partitions {
            if let Some(remembered) = remembered.partitions.get(id) {
                known.recall(remembered, latest);
            }
        }
        for (key, totals) in &mut next.totals {
            if let Some(remembered) = remembered.totals.get(key) {
                totals.add(remembered);
            }
        }
        next.new_codes.forget_counted(&remembered.totals);
        next
    }

    /// Whether a cycle has ended, well or not.
    pub fn is_ready(&self) -> bool {
        self.status.up.is_some()
    }

    /// The snapshot after `observations`, made at `now`.
    #[must_use]
    pub fn advance(&self, observations: Observations, now: DateTime<Utc>) -> Self {
        let mut next = self.clone();
        next.status.since.get_or_insert(now);
        next.status.clock_skew = observations.clock_skew.or(next.status.clock_skew);
        let clock_skew = next.status.clock_skew_or_zero();
        let latest = clock_skew.latest_success(now);
        if let Some(inventory) = observations.inventory {
            next.list(inventory, now);
        }
        if observations.selection.is_some() {
            next.status.selection = observations.selection;
        }
        next.apply(observations.configurations);
        if let Some(policies) = observations.policies {
            next.renew_policies(policies);
        }
        for (id, reading) in observations.partitions {
            next.read(id, reading, latest);
        }
        next.new_codes.note(&self.totals, &next.totals, now);
        next.note_lists(&observations.newest, ListScope::Newest, latest);
        next.note_lists(&observations.histories, ListScope::All, latest);
        next.note_partition_lists(&observations.partition_lists, latest);
        let answered = observations
            .cluster
            .as_ref()
            .is_some_and(|reading| reading.up);
        next.status
            .note(observations.runs, observations.cluster, now);
        // Only by clocks that were just compared and agree is a date in the future wrong for certain.
        if answered && observations.clock_skew.is_some() {
            let future = clock_skew.future_for_both(now);
            for known in next.partitions.values_mut() {
                known.forget_later(future, latest);
            }
        }
        next
    }

    /// Takes a reading of one partition in.
    fn read(
        &mut self,
        id: PartitionId,
        reading: Read<PartitionObservation>,
        latest: DateTime<Utc>,
    ) {
        let Some(known) = self.partitions.get_mut(&id) else {
            return;
        };
        let at = reading.at;
        let terms = ClaimPolicy::of(self.policies.as_ref(), known.configuration.as_deref());
        match reading.value {
            PartitionObservation::Progress(progress) => {
                self.read_progress(id, progress, at, latest)
            }
            PartitionObservation::Health(health) => known.read_health(health, at, &terms, latest),
            PartitionObservation::Restore(value) => known.restore = Some(Read { value, at }),
            PartitionObservation::Configuration(applied) => known.read_applied(applied, at),
            PartitionObservation::NotFound => self.lose(id),
        }
    }

    /// Takes the record of a request in, and counts how it ended.
    fn read_progress(
        &mut self,
        id: PartitionId,
        progress: Option<Arc<BackupProgress>>,
        at: DateTime<Utc>,
        latest: DateTime<Utc>,
    ) {
        let Some(known) = self.partitions.get_mut(&id) else {
            return;
        };
        let terms = ClaimPolicy::of(self.policies.as_ref(), known.configuration.as_deref());
        let completion = known.read_progress(progress, at, &terms, latest);
        known.bound_code(&mut self.codes);
        if let Some(outcome) = completion {
            let totals = self.totals.entry(ServiceKey::of(&known.partition));
            totals.or_default().count(outcome, known.record());
        }
    }

    /// The backup service does not know the partition. Where the inventory does, it is the
    /// authority on what exists, and only the records are gone; a partition that was configured by
    /// its id and never found is no partition.
    fn lose(&mut self, id: PartitionId) {
        let Some(known) = self.partitions.get_mut(&id) else {
            return;
        };
        (known.progress, known.restore) = (None, None);
        if known.partition.service.is_none() && known.last_success.is_none() {
            self.partitions.remove(&id);
            self.settle_totals();
        }
    }

    /// Takes an inventory in: new partitions appear, those not listed disappear, those that could
    /// not be read stay.
    fn list(&mut self, inventory: Read<Inventory>, now: DateTime<Utc>) {
        let Read {
            value: Inventory { listed, unread },
            at,
        } = inventory;
        let listed = listed
            .into_iter()
            .map(|partition| (partition.id, partition));
        let mut listed: BTreeMap<PartitionId, Partition> = listed.collect();
        let unread = UnreadScopes::of(&unread);
        let mut regrouped = false;
        self.partitions.retain(|id, known| {
            let stays = match listed.remove(id) {
                Some(partition) => {
                    regrouped |= known.list(partition, at);
                    true
                }
                None => unread.contains(&known.partition),
            };
            regrouped |= !stays;
            stays
        });
        regrouped |= !listed.is_empty();
        let appeared = listed.into_iter().map(|(id, partition)| {
            let mut known = PartitionSnapshot::new(partition, now);
            known.inventoried_at = Some(at);
            (id, known)
        });
        // Collected at once, the nodes of the map are full; one by one, they are not.
        self.partitions.append(&mut appeared.collect());
        if regrouped {
            self.settle_totals();
        }
    }

    /// Takes what is set in applications in, for each partition of them.
    fn apply(&mut self, configurations: Vec<(Name, Read<ConfigurationSet>)>) {
        let configurations: BTreeMap<Name, Read<ConfigurationSet>> =
            configurations.into_iter().collect();
        if configurations.is_empty() {
            return;
        }
        for (application, read) in &configurations {
            let policies = read.value.policies();
            self.policies_of.remove(application);
            if policies.len() > 1 {
                let (application, policies) = (Arc::clone(application), Arc::new(policies));
                self.policies_of.insert(application, policies);
            }
        }
        // Few things differ in what applies to 100,000 partitions: each is kept once.
        let mut shared: BTreeSet<Arc<EffectiveConfiguration>> = BTreeSet::new();
        for known in self.partitions.values_mut() {
            let application = known.partition.application.as_ref();
            if let Some(read) = application.and_then(|name| configurations.get(name))
                && let Some(applied) = read.value.applied_to(&known.partition)
            {
                let applied = shared.get(&applied).cloned().unwrap_or_else(|| {
                    let applied = Arc::new(applied);
                    shared.insert(Arc::clone(&applied));
                    applied
                });
                known.read_applied(applied, read.at);
            }
        }
    }

    /// Takes all policies in. One that is not as it was starts the timers of its partitions anew. One
    /// that is different in every reading does not: its partitions would never be due.
    fn renew_policies(&mut self, policies: Read<Vec<Policy>>) {
        let Read {
            value: policies,
            at,
        } = policies;
        let before = self.policies.as_ref().map(|read| &read.value);
        let mut changed: BTreeSet<Name> = BTreeSet::new();
        let mut marks = BTreeMap::new();
        for policy in &policies {
            let (name, mark) = (&policy.name, policy.fingerprint());
            let settled = self.policy_fingerprints.get(name);
            let was_read = before.and_then(|before| before.get(name));
            let is_repeated = was_read.is_some_and(|read| read.fingerprint() == mark);
            if is_repeated || settled == Some(&mark) {
                marks.insert(Arc::clone(name), mark);
            }
            if settled.is_some_and(|settled| *settled != mark) {
                changed.insert(Arc::clone(name));
            }
        }
        if !changed.is_empty() {
            for known in self.partitions.values_mut() {
                let policy = known
                    .configuration
                    .as_ref()
                    .and_then(|applied| applied.policy.as_ref());
                if policy.is_some_and(|(name, _)| changed.contains(name)) {
                    known.changed_at = Some(at);
                }
            }
        }
        let named = policies
            .into_iter()
            .map(|policy| (Arc::clone(&policy.name), policy));
        self.policies = Some(Read {
            value: named.collect(),
            at,
        });
        self.policy_fingerprints = marks;
    }

    /// Counters exist for exactly the services that have a known partition.
    fn settle_totals(&mut self) {
        let mut settled = BTreeMap::new();
        for known in self.partitions.values() {
            let key = ServiceKey::of(&known.partition);
            if let Entry::Vacant(vacant) = settled.entry(key) {
                let totals = self.totals.remove(vacant.key()).unwrap_or_default();
                vacant.insert(totals);
            }
        }
        let applications = settled.keys().filter_map(|key| key.application.as_ref());
        let applications: BTreeSet<&Name> = applications.collect();
        self.policies_of
            .retain(|application, _| applications.contains(application));
        self.totals = settled;
    }
}

#[cfg(test)]
mod tests;
