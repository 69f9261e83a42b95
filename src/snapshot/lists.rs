//! How lists of backups move a snapshot on: from what one application's store holds to what is
//! known of each of its partitions.
//!
//! Pure. A list joins the partitions that are known; backups of partitions that are gone stay in
//! the store until retention deletes them, and concern nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{RecoveryPoint, Snapshot};
use crate::model::{ListedBackup, Name, PartitionId};
use crate::protection::Read;
use crate::protection::history::History;

impl Snapshot {
    /// Takes lists of the newest backups in. A partition that such a list does not name has no
    /// backup in the store; one that the list names and nobody knows is gone.
    pub(super) fn note_newest(
        &mut self,
        lists: Vec<(Name, Read<Vec<ListedBackup>>)>,
        now: DateTime<Utc>,
    ) {
        let lists: BTreeMap<Name, Read<BTreeMap<PartitionId, RecoveryPoint>>> = lists
            .into_iter()
            .map(|(application, read)| {
                let value = newest_of_each(&read.value, now);
                (application, Read { value, at: read.at })
            })
            .collect();
        if lists.is_empty() {
            return;
        }
        for (id, known) in &mut self.partitions {
            let application = known.partition.application.as_ref();
            if let Some(list) = application.and_then(|name| lists.get(name)) {
                known.read_list(list.value.get(id), list.at);
            }
        }
    }

    /// Takes lists of all backups in.
    pub(super) fn note_histories(&mut self, lists: Vec<(Name, Read<Vec<ListedBackup>>)>) {
        let lists: BTreeMap<Name, Read<BTreeMap<PartitionId, History>>> = lists
            .into_iter()
            .map(|(application, read)| {
                let value = History::of_all(&read.value);
                (application, Read { value, at: read.at })
            })
            .collect();
        if lists.is_empty() {
            return;
        }
        for (id, known) in &mut self.partitions {
            let application = known.partition.application.as_ref();
            if let Some(list) = application.and_then(|name| lists.get(name)) {
                let value = list.value.get(id).copied().unwrap_or_default();
                known.history = Some(Arc::new(Read { value, at: list.at }));
            }
        }
    }
}

/// The newest recovery point of each partition; what proves none does not hide an older one.
fn newest_of_each(
    listed: &[ListedBackup],
    now: DateTime<Utc>,
) -> BTreeMap<PartitionId, RecoveryPoint> {
    let mut newest: BTreeMap<PartitionId, RecoveryPoint> = BTreeMap::new();
    for backup in listed {
        let Some(point) = RecoveryPoint::of_listed(backup, now) else {
            continue;
        };
        let known = newest.get(&backup.partition);
        if known.is_none_or(|known| known.at < point.at) {
            newest.insert(backup.partition, point);
        }
    }
    newest
}
