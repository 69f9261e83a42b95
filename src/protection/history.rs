//! What the store holds for a partition: chains, recovery points, the oldest and the last full.
//!
//! Pure: from all listed backups of a partition to the numbers that are exposed. An item without
//! a time is counted, but proves no time.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::model::{BackupKind, ListedBackup, PartitionId};

/// The backups of one partition in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Backups listed.
    pub recovery_points: u64,
    /// Backups in the chain of the newest one, the full one included; `None` when it is not told
    /// to which chain that one belongs.
    pub chain_length: Option<u64>,
    /// The newest full backup.
    pub last_full: Option<DateTime<Utc>>,
    /// The oldest backup.
    pub oldest: Option<DateTime<Utc>>,
}

impl History {
    /// The histories of all partitions in a list.
    pub fn of_all(listed: &[ListedBackup]) -> BTreeMap<PartitionId, Self> {
        let mut by_partition: BTreeMap<PartitionId, Vec<&ListedBackup>> = BTreeMap::new();
        for backup in listed {
            by_partition
                .entry(backup.partition)
                .or_default()
                .push(backup);
        }
        let histories = by_partition
            .into_iter()
            .map(|(id, backups)| (id, Self::of(&backups)));
        histories.collect()
    }

    fn of(backups: &[&ListedBackup]) -> Self {
        let newest = backups.iter().max_by_key(|backup| backup.created);
        let chain = newest.and_then(|newest| newest.chain_id);
        let in_chain = |chain| {
            backups
                .iter()
                .filter(|backup| backup.chain_id == Some(chain))
                .count()
        };
        let full = backups
            .iter()
            .filter(|backup| backup.kind == BackupKind::Full);
        Self {
            recovery_points: backups.len() as u64,
            chain_length: chain.map(|chain| in_chain(chain) as u64),
            last_full: full.filter_map(|backup| backup.created).max(),
            oldest: backups.iter().filter_map(|backup| backup.created).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn backup(partition: u128, chain: u128, kind: BackupKind, second: i64) -> ListedBackup {
        ListedBackup {
            partition: PartitionId(Uuid::from_u128(partition)),
            backup_id: None,
            chain_id: Some(Uuid::from_u128(chain)),
            kind,
            created: DateTime::from_timestamp(second, 0),
            epoch: None,
            lsn: None,
            restorable: true,
        }
    }

    #[test]
    fn the_newest_chain_counts_and_partitions_are_kept_apart() {
        let (full, incremental) = (BackupKind::Full, BackupKind::Incremental);
        let listed = [
            backup(1, 10, full, 100),
            backup(1, 10, incremental, 200),
            backup(1, 20, full, 300),
            backup(1, 20, incremental, 500),
            backup(1, 20, incremental, 400),
            backup(2, 30, full, 50),
        ];
        let histories = History::of_all(&listed);
        let history = histories[&PartitionId(Uuid::from_u128(1))];
        let expected = History {
            recovery_points: 5,
            chain_length: Some(3),
            last_full: DateTime::from_timestamp(300, 0),
            oldest: DateTime::from_timestamp(100, 0),
        };
        assert_eq!(history, expected);
        assert_eq!(
            histories[&PartitionId(Uuid::from_u128(2))].recovery_points,
            1
        );
    }

    #[test]
    fn what_an_item_does_not_tell_is_not_known() {
        let mut item = backup(1, 1, BackupKind::Unknown, 0);
        (item.created, item.chain_id) = (None, None);
        let history = History::of(&[&item]);
        let expected = History {
            recovery_points: 1,
            ..History::default()
        };
        assert_eq!(history, expected);
    }
}
