//! Applies backup lists to the partitions of a snapshot.
//!
//! Pure. Listed backups of unknown partitions are ignored: the backups of deleted partitions remain
//! in the store, because retention visits existing partitions only (`RetentionManager.cs`). A list
//! proves that a backup exists; it proves that one does not exist only if the list is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::claim::ClaimPolicy;
use super::listing::{ListMetadata, ListScope, PartitionListing};
use super::{PartitionSnapshot, RecoveryPoint, ServiceKey, ServiceTotals, Snapshot};
use crate::model::{DecodedList, ListedBackup, Name, PartitionId, Read};
use crate::protection::effective::inherits_by_name;
use crate::protection::history::{BackupHistory, StoredBackups};

/// A list with the time of its request.
type List = Read<DecodedList<ListedBackup>>;

impl Snapshot {
    /// Applies the lists of applications.
    pub(super) fn apply_lists(
        &mut self,
        lists: &[(Name, List)],
        extent: ListScope,
        latest: DateTime<Utc>,
    ) {
        if lists.is_empty() {
            return;
        }
        let named = self.policy_names(&lists.iter().map(|(name, _)| name).collect());
        let by_application = lists.iter().map(|(application, list)| {
            let may_lack = self.may_lack_a_storage(named.get(application));
            let read = self.list_metadata(list, may_lack);
            let stored = StoredBackups::by_partition(&list.value.items, extent == ListScope::All);
            (application, (read, stored))
        });
        let by_application: BTreeMap<&Name, _> = by_application.collect();
        for (id, known) in &mut self.partitions {
            let application = known.partition.application.as_ref();
            if let Some((read, stored)) = application.and_then(|name| by_application.get(name)) {
                let policy =
                    ClaimPolicy::of(self.policies.as_ref(), known.configuration.as_deref());
                let refuted = known.apply_list(stored.get(id), extent, *read, &policy, latest);
                count_refuted(&mut self.totals, known, refuted);
            }
        }
    }

    /// Applies lists of the newest backup of single partitions.
    pub(super) fn apply_partition_lists(
        &mut self,
        lists: &[(PartitionId, List)],
        latest: DateTime<Utc>,
    ) {
        for (id, list) in lists {
            let read = self.list_metadata(list, false);
            let Some(known) = self.partitions.get_mut(id) else {
                continue;
            };
            let stored = StoredBackups::by_partition(&list.value.items, false);
            let policy = ClaimPolicy::of(self.policies.as_ref(), known.configuration.as_deref());
            let refuted =
                known.apply_list(stored.get(id), ListScope::Newest, read, &policy, latest);
            count_refuted(&mut self.totals, known, refuted);
        }
    }

    /// Partitions of an application whose claims its list does not settle because items could not be
    /// decoded or a storage may not have been read, with the time of their last list.
    pub fn not_settled_by_list(
        &self,
        application: &Name,
        list: &DecodedList<ListedBackup>,
        now: DateTime<Utc>,
    ) -> Vec<(Option<DateTime<Utc>>, PartitionId)> {
        let named = self.policy_names(&BTreeSet::from([application]));
        if list.skipped == 0 && !self.may_lack_a_storage(named.get(application)) {
            return Vec::new();
        }
        let latest = self.status.clock_skew_or_zero().latest_success(now);
        let stored = StoredBackups::by_partition(&list.items, false);
        self.protected_in(application, |id, known| {
            let policy = ClaimPolicy::of(self.policies.as_ref(), known.configuration.as_deref());
            let newest = stored
                .get(&id)
                .and_then(|it| newest(&it.restorable, latest));
            !newest.is_some_and(|it| known.successes.are_covered_by(&it, &policy))
        })
    }

    /// The partitions of an application that cannot be listed, if listing them one by one may
    /// succeed, with the time of their last list. The list of an application fails if one of its
    /// storages does (`GetRestorePointsOperation.cs`); the others can still be read.
    pub fn listable_one_by_one(
        &self,
        application: &Name,
    ) -> Vec<(Option<DateTime<Utc>>, PartitionId)> {
        let named = self.policy_names(&BTreeSet::from([application]));
        let named = named.into_values().flatten();
        let policies = named.filter_map(|name| self.policies.as_ref()?.value.get(name));
        let places: BTreeSet<u32> = policies.map(|policy| policy.storage_fingerprint).collect();
        if places.len() < 2 {
            return Vec::new();
        }
        self.protected_in(application, |_, _| true)
    }

    /// The partitions of an application that have a policy and pass `is_wanted`, with the time of
    /// their last list.
    fn protected_in(
        &self,
        application: &Name,
        is_wanted: impl Fn(PartitionId, &PartitionSnapshot) -> bool,
    ) -> Vec<(Option<DateTime<Utc>>, PartitionId)> {
        let known = self.partitions.iter();
        let wanted = known.filter(|(id, known)| {
            known.partition.application.as_ref() == Some(application)
                && known.has_policy()
                && is_wanted(**id, known)
        });
        wanted.map(|(id, known)| (known.listed_at, *id)).collect()
    }

    /// The storage fingerprint of the policy that applies to a partition.
    pub fn storage_of(&self, id: PartitionId) -> Option<u32> {
        let known = self.partitions.get(&id)?;
        ClaimPolicy::of(self.policies.as_ref(), known.configuration.as_deref()).storage
    }

    /// Number of partitions whose last success is not confirmed by a list.
    pub fn unconfirmed_successes(&self) -> usize {
        let known = self.partitions.values();
        let unconfirmed = known.filter(|known| {
            let success = known.last_success.as_deref();
            success.is_some_and(|success| !known.successes.is_confirmed(success))
        });
        unconfirmed.count()
    }

    /// Removes refuted claims, for a configuration without lists: they count again when they are
    /// read again.
    pub fn forget_lists(&mut self) {
        for known in self.partitions.values_mut() {
            known.listed_at = None;
            known.successes.remove_rejected();
        }
    }

    /// Removes the backup histories, for a configuration that reads only the newest backups.
    pub fn forget_history(&mut self) {
        for known in self.partitions.values_mut() {
            known.history = None;
        }
    }

    /// Whether the list of an application with these policies may lack a storage: runtime 6.4 takes
    /// storages with the same connection string for one and reads only one of their containers
    /// (`AzureBlobBackupStorageInfo.cs`). Connection strings are not part of the API.
    fn may_lack_a_storage(&self, named: Option<&BTreeSet<&Name>>) -> bool {
        let Some(named) = named.filter(|named| named.len() > 1) else {
            return false;
        };
        let policies = named
            .iter()
            .map(|name| self.policies.as_ref()?.value.get(*name));
        let Some(policies) = policies.collect::<Option<Vec<_>>>() else {
            return true;
        };
        let blobs = policies
            .into_iter()
            .filter(|policy| policy.storage.as_str().ends_with("AzureBlobStore"));
        let places: BTreeSet<u32> = blobs.map(|policy| policy.storage_fingerprint).collect();
        places.len() > 1
    }

    /// The names of the policies that are set in each of these applications, or last applied to one
    /// of its partitions.
    fn policy_names<'a>(
        &'a self,
        applications: &BTreeSet<&'a Name>,
    ) -> BTreeMap<&'a Name, BTreeSet<&'a Name>> {
        let set = applications.iter().filter_map(|application| {
            let names = self.policies_of.get(*application)?;
            Some((*application, names.iter().collect()))
        });
        let mut names: BTreeMap<&Name, BTreeSet<&Name>> = set.collect();
        for known in self.partitions.values() {
            let application = known.partition.application.as_ref();
            let applied = known
                .configuration
                .as_ref()
                .and_then(|it| it.policy.as_ref());
            if let Some((application, (policy, _))) = application.zip(applied)
                && applications.contains(application)
            {
                names.entry(application).or_default().insert(policy);
            }
        }
        names
    }

    fn list_metadata(&self, list: &List, may_lack_a_storage: bool) -> ListMetadata {
        let clock_skew = self.status.clock_skew_or_zero();
        let can_compare = self.status.clock_skew.is_some() && clock_skew.excessive().is_none();
        ListMetadata {
            at: list.at,
            future: clock_skew.future_for_both(list.at),
            cluster_time: can_compare.then(|| clock_skew.to_cluster_time(list.at)),
            is_complete: list.value.skipped == 0 && !may_lack_a_storage,
        }
    }
}

impl PartitionSnapshot {
    /// Applies a list to the partition; `stored` is `None` if the list contains no backup of it. A
    /// list does not read the storage of a partition without a policy. Returns the number of refuted
    /// claims: of health, of progress.
    fn apply_list(
        &mut self,
        stored: Option<&StoredBackups<'_>>,
        extent: ListScope,
        list: ListMetadata,
        policy: &ClaimPolicy<'_>,
        latest: DateTime<Utc>,
    ) -> [u64; 2] {
        if stored.is_none() && !list.is_complete {
            return [0, 0];
        }
        let nothing = StoredBackups::default();
        let stored = stored.unwrap_or(&nothing);
        // A backup without a plausible date may be the claimed or the listed one.
        let is_dated = |backup: &&ListedBackup| backup.created.is_some_and(|at| at <= latest);
        let list = ListMetadata {
            is_complete: list.is_complete && stored.all().all(is_dated),
            ..list
        };
        let listing = PartitionListing {
            newest: newest(&stored.restorable, latest),
            unrestorable: newest(&stored.unrestorable, latest),
            newest_only: extent == ListScope::Newest,
        };
        if extent == ListScope::All {
            let value = BackupHistory::of(&stored.restorable);
            self.history = Some(Arc::new(Read { value, at: list.at }));
        }
        let unrestorable = u32::try_from(stored.unrestorable.len()).unwrap_or(u32::MAX);
        // The newest backup alone does not show which older chains are incomplete.
        self.unrestorable = if extent == ListScope::Newest && self.history.is_some() {
            self.unrestorable.max(unrestorable)
        } else {
            unrestorable
        };
        // A list that contains the newest known backup has read the storage of the partition.
        let newest = listing.newest.as_ref();
        let is_covered = newest.is_some_and(|newest| self.successes.are_covered_by(newest, policy));
        if list.is_complete || is_covered {
            self.listed_at = Some(list.at);
        }
        let list = ListMetadata {
            is_complete: list.is_complete && self.has_policy() && inherits_by_name(&self.partition),
            ..list
        };
        let refuted = self.successes.apply_list(&listing, list, policy);
        if let Some(listed) = self.successes.listed.clone() {
            self.count_advance(&listed, latest);
        }
        self.update_last_success(latest);
        refuted
    }
}

fn count_refuted(
    totals: &mut BTreeMap<ServiceKey, ServiceTotals>,
    known: &PartitionSnapshot,
    [of_health, of_progress]: [u64; 2],
) {
    if of_health == 0 && of_progress == 0 {
        return;
    }
    let totals = totals.entry(ServiceKey::of(&known.partition)).or_default();
    totals.refuted_health = totals.refuted_health.saturating_add(of_health);
    totals.refuted_progress = totals.refuted_progress.saturating_add(of_progress);
}

/// The newest of these backups, without those dated later than `latest`.
fn newest(backups: &[&ListedBackup], latest: DateTime<Utc>) -> Option<RecoveryPoint> {
    let points = backups.iter();
    let points = points.filter_map(|backup| RecoveryPoint::of_listed(backup, latest));
    points.max_by_key(|point| point.at)
}
