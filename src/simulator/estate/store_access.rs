//! Puts backups into storages and finds them there.
//!
//! Must not delete backups.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::replica::Metadata;
use super::storage_id::StorageId;
use super::store::{Backup, Files, FolderContents, FolderPath, Validation};
use super::{Entity, Estate};

impl Estate {
    /// Adds a backup to the list of a partition that validation found damaged, in the storage of
    /// the policy that applies. Has no effect without one or during another backup: backups of a
    /// partition never overlap.
    pub fn list_unrestorable(&mut self, id: Uuid, at: DateTime<Utc>) {
        let Some(policy) = self.applied_policy(id) else {
            return;
        };
        let Some(partition) = self.partitions.get(&id) else {
            return;
        };
        let replica = self.backup_service.replica_mut(id);
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
        self.store(id, policy.storage_id, damaged, at, at);
    }

    /// Creates the container or share of a policy, as an operator would; otherwise the first upload
    /// creates it, and lists fail until then.
    pub fn create_container(&mut self, policy: &str) {
        if let Some(policy) = self.backup_service.policies.by_name.get(policy) {
            self.backup_service
                .stores
                .files_mut(policy.storage_id)
                .exists = true;
        }
    }

    /// The storage of a policy.
    pub fn storage_id_of(&self, policy: &str) -> Option<StorageId> {
        Some(self.backup_service.policies.by_name.get(policy)?.storage_id)
    }

    /// Backups of a partition in a storage, oldest first, listed or not.
    pub fn stored(&self, id: Uuid, storage_id: StorageId) -> Vec<Backup> {
        let folder = self.folder_of(id);
        let kept = folder.and_then(|it| {
            self.backup_service
                .stores
                .files(storage_id)?
                .folders
                .get(&it)
        });
        kept.map_or_else(Vec::new, |it| it.backups.iter().cloned().collect())
    }

    /// Stores an uploaded backup; the times of snapshot and end are on the clock of the cluster.
    pub(super) fn store(
        &mut self,
        id: Uuid,
        storage_id: StorageId,
        backup: Backup,
        taken: DateTime<Utc>,
        at: DateTime<Utc>,
    ) {
        let (Some(folder), Some(partition)) = (self.folder_of(id), self.partitions.get(&id)) else {
            return;
        };
        self.backup_service
            .record_stored(id, Some(storage_id), &backup, taken, at);
        let files = self.backup_service.stores.files_mut(storage_id);
        files.exists = true;
        let kept = files.folders.entry(folder);
        let kept = kept.or_insert_with(|| FolderContents {
            keys: partition.keys.clone(),
            backups: VecDeque::new(),
        });
        kept.add(backup);
    }

    /// Folder of an existing partition.
    pub(super) fn folder_of(&self, id: Uuid) -> Option<FolderPath> {
        Some(FolderPath {
            application: self.application_of(id)?,
            service: self.service_of(id)?,
            partition: id,
        })
    }

    /// Folders of an entity in a storage, including those of removed partitions.
    pub(super) fn folders_of<'a>(
        &self,
        scope: &Entity,
        files: &'a Files,
    ) -> Vec<(&'a FolderPath, &'a FolderContents)> {
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
        let first = FolderPath {
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
