//! What lies in the storages of the policies: the only truth about what can be restored.
//!
//! Responsible for the folders of partitions, which outlive their partitions. Must not take or
//! delete backups by itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

use super::place::Place;
use super::replica::Metadata;
use super::{Entity, Estate, Keys};
use crate::simulator::record::Epoch;

/// What a check of the storage has found (`ValidationResult`, clients of 2026).
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
    /// The word of the wire.
    pub(in crate::simulator) fn word(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::ChecksumMismatchFailure => "ChecksumMismatchFailure",
            Self::BackupChainMissingFailure => "BackupChainMissingFailure",
        }
    }
}

/// One backup as its storage describes it.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Its id.
    pub id: Uuid,
    /// Id of the full backup its chain begins with.
    pub chain: Uuid,
    /// Whether it is that full backup.
    pub full: bool,
    /// The moment of its snapshot on the clock of its node, in whole seconds.
    pub taken: DateTime<Utc>,
    /// Last log record in it; `None` of actor services, which print -1 for it and for the epoch.
    pub lsn: Option<u64>,
    /// What a check has found; anything but `None` cannot be restored.
    pub validation: Validation,
    pub(in crate::simulator) epoch: Epoch,
    /// The schedule that lies in it.
    pub(super) metadata: Metadata,
}

impl PartialEq for Backup {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Where the backups of one partition lie.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::simulator) struct Folder {
    pub(in crate::simulator) application: Arc<str>,
    pub(in crate::simulator) service: Arc<str>,
    pub(in crate::simulator) partition: Uuid,
}

/// What lies in a folder, oldest first.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) keys: Keys,
    pub(super) backups: VecDeque<Backup>,
}

/// What a `CleanBackup` will delete.
#[derive(Debug)]
pub(super) struct CleanUp {
    pub(super) place: Place,
    pub(super) scope: Entity,
}

/// All storages.
#[derive(Debug, Default)]
pub(super) struct Stores {
    places: HashMap<String, Place>,
    storages: Vec<Files>,
}

/// Everything in one storage.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Whether the container exists: the first upload creates it.
    pub(super) exists: bool,
    pub(super) folders: BTreeMap<Folder, Shelf>,
}

impl Estate {
    /// Puts a backup into the list of a partition that a check has found damaged. It lies in the
    /// storage of the policy that applies; without one, or while another backup is under way, nothing
    /// happens: backups of a partition never overlap.
    pub fn list_unrestorable(&mut self, id: Uuid, at: DateTime<Utc>) {
        let Some(policy) = self.applied_policy(id) else {
            return;
        };
        let Some(partition) = self.partitions.get(&id) else {
            return;
        };
        let replica = self.periodic.replica_mut(id);
        if replica.running.is_some() {
            return;
        }
        let backup = replica.new_id();
        let damaged = Backup {
            id: backup,
            chain: backup,
            full: true,
            taken: at,
            lsn: Some(partition.lsn),
            validation: Validation::ChecksumMismatchFailure,
            epoch: partition.epoch,
            metadata: Metadata::default(),
        };
        self.store(id, policy.place, damaged, at, at);
    }

    /// Creates the container or share of a policy, as operators do; otherwise the first upload
    /// does, and lists fail until then.
    pub fn create_container(&mut self, policy: &str) {
        if let Some(policy) = self.periodic.policies.by_name.get(policy) {
            self.periodic.stores.files_mut(policy.place).exists = true;
        }
    }

    /// The storage of a policy.
    pub fn place_of(&self, policy: &str) -> Option<Place> {
        Some(self.periodic.policies.by_name.get(policy)?.place)
    }

    /// What lies in a storage for a partition now, oldest first, whether or not a list shows it.
    pub fn stored(&self, id: Uuid, place: Place) -> Vec<Backup> {
        let folder = self.folder_of(id);
        let kept = folder.and_then(|it| self.periodic.stores.files(place)?.folders.get(&it));
        kept.map_or_else(Vec::new, |it| it.backups.iter().cloned().collect())
    }

    /// An upload has finished, snapshot and end on the clock of the cluster.
    pub(super) fn store(
        &mut self,
        id: Uuid,
        place: Place,
        backup: Backup,
        taken: DateTime<Utc>,
        at: DateTime<Utc>,
    ) {
        let (Some(folder), Some(partition)) = (self.folder_of(id), self.partitions.get(&id)) else {
            return;
        };
        self.periodic
            .note_stored(id, Some(place), &backup, taken, at);
        let files = self.periodic.stores.files_mut(place);
        files.exists = true;
        let kept = files.folders.entry(folder);
        let kept = kept.or_insert_with(|| Shelf {
            keys: partition.keys.clone(),
            backups: VecDeque::new(),
        });
        kept.add(backup);
    }

    /// Where the backups of an existing partition lie.
    pub(super) fn folder_of(&self, id: Uuid) -> Option<Folder> {
        Some(Folder {
            application: self.application_of(id)?,
            service: self.service_of(id)?,
            partition: id,
        })
    }

    /// The folders of an entity in a storage, those of vanished partitions too.
    pub(super) fn folders_of<'a>(
        &self,
        scope: &Entity,
        files: &'a Files,
    ) -> Vec<(&'a Folder, &'a Shelf)> {
        let (application, service, partition) = match scope {
            Entity::Application(name) => (Some(Arc::clone(name)), None, None),
            Entity::Service(name) => {
                let found = self.services.get(name);
                let application = found.map(|it| Arc::clone(&it.application));
                (application, Some(Arc::clone(name)), None)
            }
            Entity::Partition(id) => (self.application_of(*id), self.service_of(*id), Some(*id)),
        };
        let Some(application) = application else {
            return Vec::new();
        };
        let first = Folder {
            application: Arc::clone(&application),
            service: service.clone().unwrap_or_default(),
            partition: partition.unwrap_or_default(),
        };
        files
            .folders
            .range(first..)
            .take_while(|(folder, _)| {
                folder.application == application
                    && service.as_ref().is_none_or(|it| folder.service == *it)
                    && partition.is_none_or(|it| folder.partition == it)
            })
            .collect()
    }
}

impl Stores {
    /// The storage of this description.
    pub(super) fn place(&mut self, description: String) -> Place {
        let next = Place(self.storages.len());
        let place = *self.places.entry(description).or_insert(next);
        if place == next {
            self.storages.push(Files::default());
        }
        place
    }

    pub(super) fn files(&self, place: Place) -> Option<&Files> {
        self.storages.get(place.0)
    }

    fn files_mut(&mut self, place: Place) -> &mut Files {
        self.storages
            .get_mut(place.0)
            .expect("a place is made together with its files")
    }

    pub(super) fn shelf_mut(&mut self, place: Place, folder: &Folder) -> Option<&mut Shelf> {
        self.files_mut(place).folders.get_mut(folder)
    }
}

impl Shelf {
    fn add(&mut self, mut backup: Backup) {
        backup.taken = backup.taken.trunc_subsecs(0);
        let later = self.backups.iter().rev();
        let later = later.take_while(|it| it.taken > backup.taken).count();
        self.backups.insert(self.backups.len() - later, backup);
    }

    pub(super) fn take(&mut self, which: Range<usize>) -> Vec<Backup> {
        self.backups.drain(which).collect()
    }
}
