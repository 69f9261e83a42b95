//! The listed backups of a partition: which can be restored, their number, and their chains.
//!
//! Pure. A backup without a time is counted, but is neither the oldest nor the newest.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::{BackupKind, ListedBackup, PartitionId};

/// The listed backups of one partition, without duplicates: runtime 6.4 reads a storage twice if two
/// policies share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredBackups<'a> {
    /// Restorable backups.
    pub restorable: Vec<&'a ListedBackup>,
    /// Unrestorable backups.
    pub unrestorable: Vec<&'a ListedBackup>,
}

impl<'a> StoredBackups<'a> {
    /// All backups.
    pub(crate) fn all(&self) -> impl Iterator<Item = &&'a ListedBackup> {
        self.restorable.iter().chain(&self.unrestorable)
    }

    /// The backups in a list, by partition. In a list of all backups, those with an incomplete chain
    /// are unrestorable.
    pub(crate) fn by_partition(
        listed: &'a [ListedBackup],
        all_are_listed: bool,
    ) -> BTreeMap<PartitionId, Self> {
        let mut backups: BTreeMap<PartitionId, Vec<&ListedBackup>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for backup in listed {
            if backup.backup_id.is_none_or(|id| seen.insert(id)) {
                backups.entry(backup.partition).or_default().push(backup);
            }
        }
        let stored = backups.into_iter().map(|(id, backups)| {
            let chains = Chains::of(&backups);
            let (restorable, unrestorable) = backups
                .into_iter()
                .partition(|backup| backup.restorable && !(all_are_listed && chains.lack(backup)));
            let stored = Self {
                restorable,
                unrestorable,
            };
            (id, stored)
        });
        stored.collect()
    }
}

/// The backup chains of one partition: which have a full backup, and from when on they are broken.
#[derive(Default)]
struct Chains {
    full: BTreeSet<Uuid>,
    broken_from: BTreeMap<Uuid, DateTime<Utc>>,
}

impl Chains {
    fn of(backups: &[&ListedBackup]) -> Self {
        let mut chains = Self::default();
        for backup in backups {
            let Some(chain) = backup.chain_id else {
                continue;
            };
            if !backup.restorable {
                let created = backup.created.unwrap_or(DateTime::<Utc>::MIN_UTC);
                let from = chains.broken_from.entry(chain).or_insert(created);
                *from = created.min(*from);
            } else if backup.kind == BackupKind::Full || backup.backup_id == Some(chain) {
                chains.full.insert(chain);
            }
        }
        chains
    }

    /// Whether the chain of `backup` is incomplete: the service follows the chain back to its full
    /// backup and rejects a restore if a member is missing.
    fn lack(&self, backup: &ListedBackup) -> bool {
        let Some(chain) = backup.chain_id else {
            return false;
        };
        let is_behind_a_break = self
            .broken_from
            .get(&chain)
            .is_some_and(|from| backup.created.is_some_and(|created| created > *from));
        backup.kind == BackupKind::Incremental && (is_behind_a_break || !self.full.contains(&chain))
    }
}

/// The restorable backups of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupHistory {
    /// Number of backups.
    pub recovery_points: u64,
    /// Number of backups in the chain of the newest one, including the full backup; `None` if the
    /// chain is unknown.
    pub chain_length: Option<u64>,
    /// Time of the newest full backup.
    pub last_full: Option<DateTime<Utc>>,
    /// Time of the oldest backup.
    pub oldest: Option<DateTime<Utc>>,
}

impl BackupHistory {
    pub(crate) fn of(backups: &[&ListedBackup]) -> Self {
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
        let stored = StoredBackups::by_partition(&listed, true);
        let history = |id| BackupHistory::of(&stored[&PartitionId(Uuid::from_u128(id))].restorable);
        let expected = BackupHistory {
            recovery_points: 5,
            chain_length: Some(3),
            last_full: DateTime::from_timestamp(300, 0),
            oldest: DateTime::from_timestamp(100, 0),
        };
        assert_eq!(history(1), expected);
        assert_eq!(history(2).recovery_points, 1);
    }

    #[test]
    fn a_backup_listed_twice_counts_once() {
        let mut item = backup(1, 1, BackupKind::Full, 100);
        item.backup_id = Some(Uuid::from_u128(1));
        let listed = [item.clone(), item];
        let stored = StoredBackups::by_partition(&listed, false);
        assert_eq!(stored.values().next().unwrap().restorable.len(), 1);
    }

    #[test]
    fn an_incremental_without_its_chain_cannot_be_restored() {
        let (full, incremental) = (BackupKind::Full, BackupKind::Incremental);
        let broken = |item: ListedBackup| ListedBackup {
            restorable: false,
            ..item
        };
        let without_chain = ListedBackup {
            chain_id: None,
            ..backup(1, 9, incremental, 950)
        };
        let listed = [
            backup(1, 10, full, 100),
            backup(1, 10, incremental, 150),
            // Its full backup was deleted.
            backup(1, 20, incremental, 200),
            // The full backup is there, and cannot be restored.
            broken(backup(1, 30, full, 300)),
            backup(1, 30, incremental, 350),
            // A member in between cannot.
            backup(1, 40, full, 400),
            broken(backup(1, 40, incremental, 450)),
            backup(1, 40, incremental, 460),
            without_chain,
        ];
        let times = |backups: &[&ListedBackup]| -> Vec<i64> {
            let times = backups.iter().map(|it| it.created.unwrap().timestamp());
            times.collect()
        };
        let stored = &StoredBackups::by_partition(&listed, true)[&PartitionId(Uuid::from_u128(1))];
        assert_eq!(times(&stored.restorable), [100, 150, 400, 950]);
        assert_eq!(times(&stored.unrestorable), [200, 300, 350, 450, 460]);
        let newest_only =
            &StoredBackups::by_partition(&listed, false)[&PartitionId(Uuid::from_u128(1))];
        assert_eq!(times(&newest_only.unrestorable), [300, 450]);
    }

    #[test]
    fn what_an_item_does_not_tell_is_not_known() {
        let mut item = backup(1, 1, BackupKind::Unknown, 0);
        (item.created, item.chain_id) = (None, None);
        let history = BackupHistory::of(&[&item]);
        let expected = BackupHistory {
            recovery_points: 1,
            ..BackupHistory::default()
        };
        assert_eq!(history, expected);
    }
}
