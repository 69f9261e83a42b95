//! Storages and their contents: the only truth about restorable backups.
//!
//! Folders outlive their partitions. Must not take or delete backups by itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

use super::entity::Entity;
use super::keys::Keys;
use super::replica::Metadata;
use super::storage_id::StorageId;
use crate::simulator::record::Epoch;

/// Result of a validation (`ValidationResult`, clients of 2026).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// Not checked.
    #[default]
    None,
    /// The archive is damaged.
    ChecksumMismatchFailure,
    /// A backup that it depends on is missing.
    BackupChainMissingFailure,
}

impl Validation {
    /// The value in the REST API.
    pub(in crate::simulator) fn word(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::ChecksumMismatchFailure => "ChecksumMismatchFailure",
            Self::BackupChainMissingFailure => "BackupChainMissingFailure",
        }
    }
}

/// A stored backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Id of the backup.
    pub id: Uuid,
    /// Id of the full backup its chain begins with.
    pub chain: Uuid,
    /// Whether it is that full backup.
    pub full: bool,
    /// Time of the snapshot on the clock of its node, in whole seconds.
    pub taken: DateTime<Utc>,
    /// Last log record in it; `None` of actor services, which print -1 for it and for the epoch.
    pub lsn: Option<u64>,
    /// Validation result; a backup with any other value than `None` cannot be restored.
    pub validation: Validation,
    pub(in crate::simulator) epoch: Epoch,
    /// The schedule stored in the backup.
    pub(super) metadata: Metadata,
}

impl PartialEq for Backup {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Folder of the backups of one partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::simulator) struct FolderPath {
    pub(in crate::simulator) application: Arc<str>,
    pub(in crate::simulator) service: Arc<str>,
    pub(in crate::simulator) partition: Uuid,
}

/// Backups in a folder, oldest first.
#[derive(Debug)]
pub(super) struct FolderContents {
    pub(super) keys: Keys,
    pub(super) backups: VecDeque<Backup>,
}

/// A scheduled `CleanBackup`.
#[derive(Debug)]
pub(super) struct CleanUp {
    pub(super) storage_id: StorageId,
    pub(super) scope: Entity,
}

/// All storages.
#[derive(Debug, Default)]
pub(super) struct Stores {
    storage_ids: HashMap<String, StorageId>,
    storages: Vec<Files>,
}

/// Everything in one storage.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Whether the container exists: the first upload creates it.
    pub(super) exists: bool,
    pub(super) folders: BTreeMap<FolderPath, FolderContents>,
}

impl Stores {
    /// The storage of this description.
    pub(super) fn storage_id(&mut self, description: String) -> StorageId {
        let next = StorageId(self.storages.len());
        let storage_id = *self.storage_ids.entry(description).or_insert(next);
        if storage_id == next {
            self.storages.push(Files::default());
        }
        storage_id
    }

    pub(super) fn files(&self, storage_id: StorageId) -> Option<&Files> {
        self.storages.get(storage_id.0)
    }

    pub(super) fn files_mut(&mut self, storage_id: StorageId) -> &mut Files {
        self.storages
            .get_mut(storage_id.0)
            .expect("a place is made together with its files")
    }

    pub(super) fn folder_contents_mut(
        &mut self,
        storage_id: StorageId,
        folder: &FolderPath,
    ) -> Option<&mut FolderContents> {
        self.files_mut(storage_id).folders.get_mut(folder)
    }
}

impl FolderContents {
    pub(super) fn add(&mut self, mut backup: Backup) {
        backup.taken = backup.taken.trunc_subsecs(0);
        let later = self.backups.iter().rev();
        let later = later.take_while(|it| it.taken > backup.taken).count();
        self.backups.insert(self.backups.len() - later, backup);
    }

    pub(super) fn take(&mut self, which: Range<usize>) -> Vec<Backup> {
        self.backups.drain(which).collect()
    }
}
