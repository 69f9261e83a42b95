//! How lists of backups move a snapshot on: from what one application's store holds to what is
//! known of each of its partitions.
//!
//! Pure. A list joins the partitions that are known; backups of partitions that are gone stay in
//! the store until retention deletes them, and concern nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{PartitionSnapshot, RecoveryPoint, Snapshot};
use crate::model::{ListedBackup, Name, PartitionId};
use crate::protection::Read;
use crate::protection::history::History;

/// Lists as they were read, each with its application.
type Lists = Vec<(Name, Read<Vec<ListedBackup>>)>;

/// What was read of each application.
type ByApplication<T> = BTreeMap<Name, Read<T>>;

/// The newest recovery point of each partition.
type Newest = BTreeMap<PartitionId, RecoveryPoint>;

impl Snapshot {
    /// Takes lists of the newest backups in. A partition that such a list does not name has no
    /// backup in the store; one that the list names and nobody knows is gone.
    pub(super) fn note_newest(&mut self, lists: Lists, latest: DateTime<Utc>) {
        let newest = by_application(lists, |listed| newest_of_each(listed, latest));
        self.each_listed(&newest, |id, known, list| {
            known.read_list(list.value.get(&id), list.at, latest);
        });
    }

    /// Takes lists of all backups in, which tell the newest ones, too.
    pub(super) fn note_histories(&mut self, lists: Lists, latest: DateTime<Utc>) {
        let lists = by_application(lists, |listed| {
            (newest_of_each(listed, latest), History::of_all(listed))
        });
        self.each_listed(&lists, |id, known, list| {
            let (newest, histories) = &list.value;
            known.read_list(newest.get(&id), list.at, latest);
            let value = histories.get(&id).copied().unwrap_or_default();
            known.history = Some(Arc::new(Read { value, at: list.at }));
        });
    }

    /// Calls `take` for each known partition of a listed application.
    fn each_listed<T>(
        &mut self,
        lists: &ByApplication<T>,
        take: impl Fn(PartitionId, &mut PartitionSnapshot, &Read<T>),
    ) {
        if lists.is_empty() {
            return;
        }
        for (id, known) in &mut self.partitions {
            let application = known.partition.application.as_ref();
            if let Some(list) = application.and_then(|name| lists.get(name)) {
                take(*id, known, list);
            }
        }
    }
}

fn by_application<T>(lists: Lists, read_as: impl Fn(&[ListedBackup]) -> T) -> ByApplication<T> {
    let lists = lists.into_iter().map(|(application, list)| {
        let value = read_as(&list.value);
        (application, Read { value, at: list.at })
    });
    lists.collect()
}

/// The newest recovery point of each partition; what proves none does not hide an older one.
fn newest_of_each(listed: &[ListedBackup], latest: DateTime<Utc>) -> Newest {
    let mut newest = Newest::new();
    for backup in listed {
        let Some(point) = RecoveryPoint::of_listed(backup, latest) else {
            continue;
        };
        let known = newest.get(&backup.partition);
        if known.is_none_or(|known| known.at < point.at) {
            newest.insert(backup.partition, point);
        }
    }
    newest
}
