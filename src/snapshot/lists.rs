//! How lists of backups move a snapshot on: from what one application's store holds to what is
//! known of each of its partitions.
//!
//! Pure. A list joins the partitions that are known. Backups of partitions that are gone stay in the
//! store: retention visits existing partitions only (`RetentionManager.cs`). A list proves what it
//! shows; that a backup is not there only where the list can be relied on to show it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::claim::{ListRead, Shown, Terms};
use super::{PartitionSnapshot, RecoveryPoint, ServiceKey, Snapshot};
use crate::model::{Listed, ListedBackup, Name, PartitionId, Policy};
use crate::protection::Read;
use crate::protection::applied::inherits_by_name;
use crate::protection::history::{History, Stored};

/// A list with the moment of its request.
type List = Read<Listed<ListedBackup>>;

/// Which backups a list was to show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The newest one of each partition.
    Newest,
    /// All.
    All,
}

impl Snapshot {
    /// Takes lists of applications in.
    pub(super) fn note_lists(
        &mut self,
        lists: &[(Name, List)],
        extent: Extent,
        latest: DateTime<Utc>,
    ) {
        if lists.is_empty() {
            return;
        }
        let by_application = lists.iter().map(|(application, list)| {
            let may_lack = self.may_lack_a_storage(application);
            let read = self.list_read(list, may_lack);
            let stored = Stored::by_partition(&list.value.items, extent == Extent::All);
            (application, (read, stored))
        });
        let by_application: BTreeMap<&Name, _> = by_application.collect();
        let mut refuted = Vec::new();
        for (id, known) in &mut self.partitions {
            let application = known.partition.application.as_ref();
            if let Some((read, stored)) = application.and_then(|name| by_application.get(name)) {
                let terms = Terms::of(self.policies.as_ref(), known.applied.as_deref());
                let counts = known.take_list(stored.get(id), extent, *read, &terms, latest);
                if counts != [0, 0] {
                    refuted.push((ServiceKey::of(&known.partition), counts));
                }
            }
        }
        self.count_refuted(refuted);
    }

    /// Takes lists of the newest backups of single partitions in.
    pub(super) fn note_partition_lists(
        &mut self,
        lists: &[(PartitionId, List)],
        latest: DateTime<Utc>,
    ) {
        for (id, list) in lists {
            let read = self.list_read(list, false);
            let Some(known) = self.partitions.get_mut(id) else {
                continue;
            };
            let stored = Stored::by_partition(&list.value.items, false);
            let terms = Terms::of(self.policies.as_ref(), known.applied.as_deref());
            let counts = known.take_list(stored.get(id), Extent::Newest, read, &terms, latest);
            let key = ServiceKey::of(&known.partition);
            self.count_refuted(vec![(key, counts)]);
        }
    }

    /// Partitions of an application of which its list does not show enough, each with the moment at
    /// which it was last listed: some items could not be decoded, or a storage may not have been read.
    pub fn unsettled_by(
        &self,
        application: &Name,
        list: &Listed<ListedBackup>,
        now: DateTime<Utc>,
    ) -> Vec<(Option<DateTime<Utc>>, PartitionId)> {
        if list.skipped == 0 && !self.may_lack_a_storage(application) {
            return Vec::new();
        }
        let latest = self.status.clocks().latest_success(now);
        let stored = Stored::by_partition(&list.items, false);
        let unsettled = self.partitions.iter().filter(|(id, known)| {
            let is_protected =
                known.partition.application.as_ref() == Some(application) && known.has_policy();
            is_protected && {
                let terms = Terms::of(self.policies.as_ref(), known.applied.as_deref());
                let newest = stored.get(id).and_then(|it| newest(&it.restorable, latest));
                !newest.is_some_and(|it| known.successes.are_held_by(&it, &terms))
            }
        });
        unsettled
            .map(|(id, known)| (known.listed_at, *id))
            .collect()
    }

    /// The same where an application cannot be listed. Its list fails as a whole when one of its
    /// storages does (`GetRestorePointsOperation.cs`), and the others can still be read.
    pub fn unsettled_without(
        &self,
        application: &Name,
    ) -> Vec<(Option<DateTime<Utc>>, PartitionId)> {
        let places: BTreeSet<u32> = self
            .policies_in(application)
            .map(|policy| policy.storage_place)
            .collect();
        let has_several = places.len() > 1;
        let unsettled = self.partitions.iter().filter(|(_, known)| {
            has_several
                && known.partition.application.as_ref() == Some(application)
                && known.has_policy()
        });
        unsettled
            .map(|(id, known)| (known.listed_at, *id))
            .collect()
    }

    /// The storage of the policy that applies to a partition, as [`Policy::storage_place`].
    pub fn storage_of(&self, id: PartitionId) -> Option<u32> {
        let known = self.partitions.get(&id)?;
        Terms::of(self.policies.as_ref(), known.applied.as_deref()).storage
    }

    /// How many partitions have a last success that no list has confirmed.
    pub fn unconfirmed_successes(&self) -> usize {
        let known = self.partitions.values();
        let unconfirmed = known.filter(|known| {
            let success = known.last_success.as_deref();
            success.is_some_and(|success| !known.successes.is_confirmed(success))
        });
        unconfirmed.count()
    }

    /// Forgets what lists have ended: where lists are no longer read, claims are all that there is.
    pub fn forget_lists(&mut self) {
        for known in self.partitions.values_mut() {
            known.listed_at = None;
            known.successes.forget_ended();
        }
    }

    /// Whether a list of the application may lack a storage: runtime 6.4 takes storages of the same
    /// connection string for one and reads one container of them (`AzureBlobBackupStorageInfo.cs`).
    /// The cluster does not show connection strings.
    fn may_lack_a_storage(&self, application: &Name) -> bool {
        let named = self.policy_names(application);
        if named.len() < 2 {
            return false;
        }
        let policies = named
            .iter()
            .map(|name| self.policies.as_ref()?.value.get(*name));
        let Some(policies) = policies.collect::<Option<Vec<_>>>() else {
            return true;
        };
        let blobs = policies
            .into_iter()
            .filter(|policy| policy.storage.as_str().ends_with("AzureBlobStore"));
        let places: BTreeSet<u32> = blobs.map(|policy| policy.storage_place).collect();
        places.len() > 1
    }

    fn policy_names(&self, application: &Name) -> BTreeSet<&Name> {
        let set = self.policies_of.get(application);
        let set = set.into_iter().flat_map(|names| names.iter());
        let partitions = self.partitions.values();
        let of_application =
            partitions.filter(|known| known.partition.application.as_ref() == Some(application));
        let applied = of_application.filter_map(|known| known.applied.as_ref()?.policy.as_ref());
        set.chain(applied.map(|(name, _)| name)).collect()
    }

    /// The policies that are set somewhere in an application.
    fn policies_in(&self, application: &Name) -> impl Iterator<Item = &Policy> {
        let policies = self.policies.as_ref().map(|read| &read.value);
        let named = self.policy_names(application).into_iter();
        named.filter_map(move |name| policies?.get(name))
    }

    fn list_read(&self, list: &List, may_lack_a_storage: bool) -> ListRead {
        let clocks = self.status.clocks();
        let can_compare = self.status.clock_skew.is_some() && clocks.apart_by().is_none();
        ListRead {
            at: list.at,
            future: clocks.future_of_both(list.at),
            by_cluster_clock: can_compare.then(|| clocks.of_cluster(list.at)),
            is_complete: list.value.skipped == 0 && !may_lack_a_storage,
        }
    }

    fn count_refuted(&mut self, refuted: Vec<(ServiceKey, [u64; 2])>) {
        for (key, [of_health, of_progress]) in refuted {
            let totals = self.totals.entry(key).or_default();
            totals.refuted_health = totals.refuted_health.saturating_add(of_health);
            totals.refuted_progress = totals.refuted_progress.saturating_add(of_progress);
        }
    }
}

impl PartitionSnapshot {
    /// Takes in what a list shows of the partition: nothing where that is `None`. Where no policy
    /// applies, the list does not read its storage. Returns how many claims the list refuted: of
    /// health, of progress.
    fn take_list(
        &mut self,
        stored: Option<&Stored<'_>>,
        extent: Extent,
        list: ListRead,
        terms: &Terms<'_>,
        latest: DateTime<Utc>,
    ) -> [u64; 2] {
        if stored.is_none() && !list.is_complete {
            return [0, 0];
        }
        let nothing = Stored::default();
        let stored = stored.unwrap_or(&nothing);
        // A backup without a credible date may be the one of a claim or a proof.
        let is_dated = |backup: &&ListedBackup| backup.created.is_some_and(|at| at <= latest);
        let list = ListRead {
            is_complete: list.is_complete && stored.restorable.iter().all(is_dated),
            ..list
        };
        let shown = Shown {
            newest: newest(&stored.restorable, latest),
            unrestorable: newest(&stored.unrestorable, latest),
            newest_only: extent == Extent::Newest,
        };
        if extent == Extent::All {
            let value = History::of(&stored.restorable);
            self.history = Some(Arc::new(Read { value, at: list.at }));
        }
        self.unrestorable = u32::try_from(stored.unrestorable.len()).unwrap_or(u32::MAX);
        // A list that shows a backup which nothing known is newer than has read its storage.
        let newest = shown.newest.as_ref();
        let is_held = newest.is_some_and(|newest| self.successes.are_held_by(newest, terms));
        if list.is_complete || is_held {
            self.listed_at = Some(list.at);
        }
        let list = ListRead {
            is_complete: list.is_complete && self.has_policy() && inherits_by_name(&self.partition),
            ..list
        };
        let refuted = self.successes.read_list(&shown, list, terms);
        if let Some(listed) = self.successes.listed.clone() {
            self.count_advance(&listed, latest);
        }
        self.update_last_success(latest);
        refuted
    }
}

/// The newest of these backups that is dated no later than `latest`.
fn newest(backups: &[&ListedBackup], latest: DateTime<Utc>) -> Option<RecoveryPoint> {
    let points = backups.iter();
    let points = points.filter_map(|backup| RecoveryPoint::of_listed(backup, latest));
    points.max_by_key(|point| point.at)
}
