//! Contents of backup lists: backups in the storages that currently apply.
//!
//! Determines the storages of a scope and their read errors (`GetRestorePointsOperation.cs`,
//! `RestorePointOperation.cs`). Backups in a storage that a policy used before are not listed.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::policy::{PolicyVersion, Storage};
use super::store::{Backup, FolderPath};
use super::{Entity, Estate, Keys, Rejection};

/// A listed backup and its folder.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct ListedBackup {
    pub(in crate::simulator) folder: FolderPath,
    pub(in crate::simulator) keys: Keys,
    pub(in crate::simulator) backup: Backup,
}

impl Estate {
    /// The backups of a partition in its list at `now`, oldest first; empty if the list fails.
    pub fn backups(&self, id: Uuid, now: DateTime<Utc>) -> Vec<Backup> {
        let listed = self.listed(&Entity::Partition(id), now).unwrap_or_default();
        listed.into_iter().map(|it| it.backup).collect()
    }

    /// The backups in the storages of a scope, by folder, oldest first.
    pub(in crate::simulator) fn listed(
        &self,
        scope: &Entity,
        now: DateTime<Utc>,
    ) -> Result<Vec<ListedBackup>, Rejection> {
        let storages = self.listed_by_storage(scope, now, false)?;
        Ok(storages.into_iter().flatten().collect())
    }

    /// The backups in each storage of a scope, by folder, oldest first, or only the newest of each
    /// folder. A storage that is read twice lists its items twice.
    pub(in crate::simulator) fn listed_by_storage(
        &self,
        scope: &Entity,
        now: DateTime<Utc>,
        newest: bool,
    ) -> Result<Vec<Vec<ListedBackup>>, Rejection> {
        self.check_scope(scope)?;
        let policies = self.policies_within(scope);
        if policies.is_empty() || self.is_mangled(scope) {
            return Err(Rejection::NotEnabled);
        }
        let mut storages = Vec::new();
        for policy in policies {
            let name = &policy.policy.name;
            if self.backup_service.policies.listing_is_cancelled(name, now) {
                continue;
            }
            let is_first = storages.iter().all(Vec::is_empty);
            if self.backup_service.policies.listing_fails(name, now) {
                return Err(if is_first {
                    Rejection::StorageUnreachable
                } else {
                    Rejection::StorageFailed
                });
            }
            let files = self.backup_service.stores.files(policy.storage_id);
            let folders = files.map_or_else(Vec::new, |it| self.folders_of(scope, it));
            let is_missing = match policy.policy.storage {
                Storage::FileShare { .. } => folders.is_empty(),
                _ => files.is_none_or(|it| !it.exists),
            };
            if is_missing && self.backup_service.behaviour.missing_container_fails_lists {
                return Err(if is_first {
                    Rejection::NothingToIndex
                } else {
                    Rejection::StorageFailed
                });
            }
            let listed = folders.into_iter().flat_map(|(folder, contents)| {
                let count = contents.backups.len();
                let first = if newest { count.saturating_sub(1) } else { 0 };
                contents
                    .backups
                    .iter()
                    .skip(first)
                    .map(move |backup| ListedBackup {
                        folder: folder.clone(),
                        keys: contents.keys.clone(),
                        backup: backup.clone(),
                    })
            });
            storages.push(listed.collect());
        }
        Ok(storages)
    }

    /// The policies whose storages are read: for a partition the one that applies, otherwise all
    /// policies at the scope, above and below, each storage once.
    fn policies_within(&self, scope: &Entity) -> Vec<&PolicyVersion> {
        let backup_service = &self.backup_service;
        if let Entity::Partition(_) = scope {
            return self
                .policy_of(scope)
                .map(AsRef::as_ref)
                .into_iter()
                .collect();
        }
        let above = self.line(scope);
        let above = above
            .iter()
            .skip(1)
            .filter_map(|it| backup_service.own_policy(it));
        let own = backup_service.own_policy(scope);
        let below = backup_service
            .mapped()
            .filter(|it| *it != scope && self.is_within(it, scope));
        let below = below.filter_map(|it| backup_service.own_policy(it));
        let mut found: Vec<&PolicyVersion> = Vec::new();
        for name in own.into_iter().chain(above).chain(below) {
            let Some(policy) = backup_service.policies.by_name.get(name) else {
                continue;
            };
            let is_read = found.iter().any(|it| self.counts_as_one(it, policy));
            if !is_read {
                found.push(policy);
            }
        }
        found
    }

    fn counts_as_one(&self, one: &PolicyVersion, other: &PolicyVersion) -> bool {
        if !self.backup_service.behaviour.compares_storages_by_account {
            return one.storage_id == other.storage_id;
        }
        let policies = &self.backup_service.policies;
        policies.counts_as(one) == policies.counts_as(other)
    }

    /// Rejects scopes that do not exist.
    fn check_scope(&self, scope: &Entity) -> Result<(), Rejection> {
        let (exists, rejection) = match scope {
            Entity::Application(name) => (
                self.applications.contains_key(name) && !self.is_being_deleted(name),
                Rejection::NoSuchApplication,
            ),
            Entity::Service(name) => (
                self.services.contains_key(name) && !self.is_being_deleted(name),
                Rejection::NoSuchService,
            ),
            Entity::Partition(id) => match self.service_of(*id) {
                Some(name) => (!self.is_being_deleted(&name), Rejection::NoSuchService),
                None => (false, Rejection::NotFound),
            },
        };
        exists.then_some(()).ok_or(rejection)
    }
}
