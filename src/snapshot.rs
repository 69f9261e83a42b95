//! The immutable state of one cluster: snapshot + observations + time → next snapshot.
//!
//! Pure: no clock, no I/O, no errors. A failed call does not remove anything from a snapshot: the
//! last success of a partition remains, and only an inventory that was read removes a partition.

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

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
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

/// The state of one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The configured name of the cluster.
    pub cluster: Arc<str>,
    /// The known partitions.
    pub partitions: BTreeMap<PartitionId, PartitionSnapshot>,
    /// Counters of each service with a known partition.
    pub totals: BTreeMap<ServiceKey, ServiceTotals>,
    /// Failure codes that the counters had for the first time a short while ago.
    pub new_codes: NewFailureCodes,
    /// The policies, as last read.
    pub policies: Option<Read<Policies>>,
    /// Fingerprint of each policy once two readings in a row agreed on it. Part of the state file: a
    /// changed policy restarts the schedules of its partitions.
    pub policy_fingerprints: BTreeMap<Name, u32>,
    /// The state of the cluster itself after the last cycle.
    pub status: ClusterStatus,
    /// Names of the policies that are set in each application with more than one.
    policies_of: BTreeMap<Name, Arc<BTreeSet<Name>>>,
    codes: BTreeSet<FailureCode>,
}

impl Snapshot {
    /// A cluster without any observation.
    pub fn empty(cluster: Arc<str>) -> Self {
        Self::restored(cluster, Vec::new(), BTreeMap::new(), BTreeMap::new())
    }

    /// A cluster as restored from the state file.
    pub fn restored(
        cluster: Arc<str>,
        partitions: Vec<PartitionSnapshot>,
        totals: BTreeMap<ServiceKey, ServiceTotals>,
        policy_fingerprints: BTreeMap<Name, u32>,
    ) -> Self {
        let codes = totals
            .values()
            .flat_map(|it| it.failures.keys().cloned())
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
        snapshot.align_totals();
        snapshot
    }

    /// This snapshot with the `remembered` state of an earlier process: its successes, its earlier
    /// start times, and its counts added to those since.
    #[must_use]
    pub fn merged_with(&self, remembered: &Self, now: DateTime<Utc>) -> Self {
        let mut next = self.clone();
        let latest = next.status.clock_skew_or_zero().latest_success(now);
        for (id, known) in &mut next.partitions {
            if let Some(remembered) = remembered.partitions.get(id) {
                known.merge(remembered, latest);
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

    /// Whether a cycle has ended, successful or not.
    pub fn is_ready(&self) -> bool {
        self.status.up.is_some()
    }

    /// The next snapshot, with the `observations` made until `now`.
    #[must_use]
    pub fn advance(&self, observations: Observations, now: DateTime<Utc>) -> Self {
        let mut next = self.clone();
        next.status.since.get_or_insert(now);
        next.status.clock_skew = observations.clock_skew.or(next.status.clock_skew);
        let clock_skew = next.status.clock_skew_or_zero();
        let latest = clock_skew.latest_success(now);
        if let Some(inventory) = observations.inventory {
            next.apply_inventory(inventory, now);
        }
        if observations.selection.is_some() {
            next.status.selection = observations.selection;
        }
        next.apply_configurations(observations.configurations);
        if let Some(policies) = observations.policies {
            next.apply_policies(policies);
        }
        for (id, reading) in observations.partitions {
            next.observe(id, reading, latest);
        }
        next.new_codes.note(&self.totals, &next.totals, now);
        next.apply_lists(&observations.newest, ListScope::Newest, latest);
        next.apply_lists(&observations.histories, ListScope::All, latest);
        next.apply_partition_lists(&observations.partition_lists, latest);
        let answered = observations
            .cluster
            .as_ref()
            .is_some_and(|reading| reading.up);
        next.status
            .note(observations.runs, observations.cluster, now);
        // A date in the future is certainly wrong only if the clocks were just compared and agree.
        if answered && observations.clock_skew.is_some() {
            let future = clock_skew.future_for_both(now);
            for known in next.partitions.values_mut() {
                known.remove_dated_after(future, latest);
            }
        }
        next
    }

    /// Applies an observation of one partition.
    fn observe(
        &mut self,
        id: PartitionId,
        reading: Read<PartitionObservation>,
        latest: DateTime<Utc>,
    ) {
        let Some(known) = self.partitions.get_mut(&id) else {
            return;
        };
        let at = reading.at;
        let policy = ClaimPolicy::of(self.policies.as_ref(), known.configuration.as_deref());
        match reading.value {
            PartitionObservation::Progress(progress) => {
                self.apply_progress(id, progress, at, latest);
            }
            PartitionObservation::Health(health) => known.apply_health(health, at, &policy, latest),
            PartitionObservation::Restore(value) => known.restore = Some(Read { value, at }),
            PartitionObservation::Configuration(configuration) => {
                known.apply_configuration(configuration, at);
            }
            PartitionObservation::NotFound => self.remove_records(id),
        }
    }

    /// Applies a progress record and counts the backup if it has ended.
    fn apply_progress(
        &mut self,
        id: PartitionId,
        progress: Option<Arc<BackupProgress>>,
        at: DateTime<Utc>,
        latest: DateTime<Utc>,
    ) {
        let Some(known) = self.partitions.get_mut(&id) else {
            return;
        };
        let policy = ClaimPolicy::of(self.policies.as_ref(), known.configuration.as_deref());
        let completion = known.apply_progress(progress, at, &policy, latest);
        known.bound_code(&mut self.codes);
        if let Some(outcome) = completion {
            let totals = self.totals.entry(ServiceKey::of(&known.partition));
            totals.or_default().count(outcome, known.record());
        }
    }

    /// Removes the records of a partition that the backup service does not know. The partition itself
    /// is removed only if it was configured by id and never found.
    fn remove_records(&mut self, id: PartitionId) {
        let Some(known) = self.partitions.get_mut(&id) else {
            return;
        };
        (known.progress, known.restore) = (None, None);
        if known.partition.service.is_none() && known.last_success.is_none() {
            self.partitions.remove(&id);
            self.align_totals();
        }
    }

    /// Adds new partitions and removes those not listed, except in scopes that could not be read.
    fn apply_inventory(&mut self, inventory: Read<Inventory>, now: DateTime<Utc>) {
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
                    regrouped |= known.apply_inventory(partition, at);
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
        // `append` fills the nodes of the map; inserting one by one leaves them half full.
        self.partitions.append(&mut appeared.collect());
        if regrouped {
            self.align_totals();
        }
    }

    /// Applies the backup configurations of applications to their partitions.
    fn apply_configurations(&mut self, configurations: Vec<(Name, Read<ConfigurationSet>)>) {
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
        // 100,000 partitions have few different configurations: equal ones share memory.
        let mut shared: BTreeSet<Arc<EffectiveConfiguration>> = BTreeSet::new();
        for known in self.partitions.values_mut() {
            let application = known.partition.application.as_ref();
            if let Some(read) = application.and_then(|name| configurations.get(name))
                && let Some(applied) = read.value.effective_for(&known.partition)
            {
                let applied = shared.get(&applied).cloned().unwrap_or_else(|| {
                    let applied = Arc::new(applied);
                    shared.insert(Arc::clone(&applied));
                    applied
                });
                known.apply_configuration(applied, read.at);
            }
        }
    }

    /// Applies the policies. A changed policy restarts the schedules of its partitions, unless it is
    /// different in every reading: its partitions would never be due.
    fn apply_policies(&mut self, policies: Read<Vec<Policy>>) {
        let Read {
            value: policies,
            at,
        } = policies;
        let before = self.policies.as_ref().map(|read| &read.value);
        let mut changed: BTreeSet<Name> = BTreeSet::new();
        let mut fingerprints = BTreeMap::new();
        for policy in &policies {
            let (name, fingerprint) = (&policy.name, policy.fingerprint());
            let settled = self.policy_fingerprints.get(name);
            let was_read = before.and_then(|before| before.get(name));
            let is_repeated = was_read.is_some_and(|read| read.fingerprint() == fingerprint);
            if is_repeated || settled == Some(&fingerprint) {
                fingerprints.insert(Arc::clone(name), fingerprint);
            }
            if settled.is_some_and(|settled| *settled != fingerprint) {
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
        self.policy_fingerprints = fingerprints;
    }

    /// Keeps the counters of exactly the services that have a known partition.
    fn align_totals(&mut self) {
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
