//! What lies in the storage of the policies: the backups a list can show.
//!
//! Responsible for the folders of partitions, which outlive their partitions, and for retention.
//! It may not take backups. A folder is always read through the policy that applies now: when
//! a policy moves to another storage, what was written before is out of sight.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

use super::policy::{Retention, Storage};
use super::{Entity, Estate, Keys, Refusal, later};
use crate::simulator::record::Epoch;

/// One backup as its storage describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its id.
    pub id: Uuid,
    /// Id of the full backup its chain begins with.
    pub chain: Uuid,
    /// Whether it is that full backup.
    pub full: bool,
    /// The moment of its snapshot, in whole seconds.
    pub taken: DateTime<Utc>,
    /// Last log record in it; `None` where the storage has lost count and prints -1.
    pub lsn: Option<u64>,
    pub(in crate::simulator) epoch: Epoch,
}

/// A backup and where it lies.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Listed {
    pub(in crate::simulator) folder: Folder,
    pub(in crate::simulator) keys: Keys,
    pub(in crate::simulator) backup: Backup,
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
    keys: Keys,
    backups: VecDeque<Backup>,
}

/// All storages, by their place.
pub(super) type Stores = BTreeMap<String, BTreeMap<Folder, Shelf>>;

impl Estate {
    /// The backups of a partition that its list shows at `now`, oldest first.
    pub fn backups(&self, id: Uuid, now: DateTime<Utc>) -> Vec<Backup> {
        let listed = self.listed(&Entity::Partition(id), now).unwrap_or_default();
        listed.into_iter().map(|it| it.backup).collect()
    }

    /// Puts a backup into the list of a partition that cannot be restored: epoch and LSN are -1.
    pub fn list_unrestorable(&mut self, id: Uuid, at: DateTime<Utc>) {
        let backup = self.new_id();
        self.keep(
            id,
            Backup {
                id: backup,
                chain: backup,
                full: true,
                taken: at,
                lsn: None,
                epoch: Epoch::default(),
            },
        );
    }

    /// What lies in the storages that apply now, folder by folder, oldest first.
    pub(in crate::simulator) fn listed(
        &self,
        scope: &Entity,
        now: DateTime<Utc>,
    ) -> Result<Vec<Listed>, Refusal> {
        self.listed_from(scope, now, |gone, _| gone)
    }

    /// The newest of what lies there, of each folder.
    pub(in crate::simulator) fn newest_listed(
        &self,
        scope: &Entity,
        now: DateTime<Utc>,
    ) -> Result<Vec<Listed>, Refusal> {
        self.listed_from(scope, now, |gone, count| gone.max(count.saturating_sub(1)))
    }

    /// What lies there, of each folder from the place on that `first` tells by the numbers of
    /// backups that are gone and of all.
    fn listed_from(
        &self,
        scope: &Entity,
        now: DateTime<Utc>,
        first: impl Fn(usize, usize) -> usize,
    ) -> Result<Vec<Listed>, Refusal> {
        self.policies_within(scope)?;
        let mut listed = Vec::new();
        for (place, folders) in &self.periodic.stores {
            for (folder, shelf) in self.folders_of(scope, folders) {
                let Some(policy) = self.policy_of_folder(folder) else {
                    continue;
                };
                if policy.storage.place() != *place {
                    continue;
                }
                let gone = policy.retention.map_or(0, |it| shelf.expired(it, now));
                let first = first(gone, shelf.backups.len());
                listed.extend(shelf.backups.iter().skip(first).map(|backup| Listed {
                    folder: folder.clone(),
                    keys: shelf.keys.clone(),
                    backup: backup.clone(),
                }));
            }
        }
        Ok(listed)
    }

    /// Puts a backup into the storage that applies to a partition, if one does.
    pub(super) fn keep(&mut self, id: Uuid, backup: Backup) {
        let policy = self.policy_of(&Entity::Partition(id)).cloned();
        let (Some(policy), Some(application), Some(partition)) =
            (policy, self.application_of(id), self.partitions.get(&id))
        else {
            return;
        };
        let folder = Folder {
            application,
            service: Arc::clone(&partition.service),
            partition: id,
        };
        let place = policy.policy.storage.place();
        let store = self.periodic.stores.entry(place).or_default();
        let kept = store.entry(folder).or_insert_with(|| Shelf {
            keys: partition.keys.clone(),
            backups: VecDeque::new(),
        });
        let now = backup.taken;
        kept.add(backup);
        if let Some(retention) = policy.policy.retention {
            let gone = kept.expired(retention, now);
            kept.backups.drain(..gone);
        }
    }

    /// Refuses scopes that do not exist or that nothing protects.
    fn policies_within(&self, scope: &Entity) -> Result<(), Refusal> {
        let exists = match scope {
            Entity::Application(name) => self.applications.contains_key(name),
            Entity::Service(name) => self.services.contains_key(name),
            Entity::Partition(id) => self.partitions.contains_key(id),
        };
        if !exists {
            return Err(match scope {
                Entity::Application(_) => Refusal::NoSuchApplication,
                Entity::Service(_) => Refusal::NoSuchService,
                Entity::Partition(_) => Refusal::NotFound,
            });
        }
        let mut mapped = self.periodic.mappings.keys();
        if self.protection(scope).is_some() || mapped.any(|it| self.is_within(it, scope)) {
            Ok(())
        } else {
            Err(Refusal::NotEnabled)
        }
    }

    /// Whether an entity is part of another, or is it.
    pub(in crate::simulator) fn is_within(&self, entity: &Entity, scope: &Entity) -> bool {
        entity == scope
            || match (entity, scope) {
                (Entity::Service(service), Entity::Application(application)) => self
                    .services
                    .get(service)
                    .is_some_and(|it| it.application == *application),
                (Entity::Partition(id), Entity::Service(service)) => {
                    self.service_of(*id).is_some_and(|it| it == *service)
                }
                (Entity::Partition(id), Entity::Application(application)) => self
                    .application_of(*id)
                    .is_some_and(|it| it == *application),
                _ => false,
            }
    }

    fn folders_of<'a>(
        &self,
        scope: &Entity,
        folders: &'a BTreeMap<Folder, Shelf>,
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
        folders
            .range(first..)
            .take_while(|(folder, _)| {
                folder.application == application
                    && service.as_ref().is_none_or(|it| folder.service == *it)
                    && partition.is_none_or(|it| folder.partition == it)
            })
            .collect()
    }

    /// The policy that applies to a folder; that of its service where its partition is gone.
    fn policy_of_folder(&self, folder: &Folder) -> Option<&super::Policy> {
        let entity = if self.partitions.contains_key(&folder.partition) {
            Entity::Partition(folder.partition)
        } else if self.services.contains_key(&folder.service) {
            Entity::Service(Arc::clone(&folder.service))
        } else {
            Entity::Application(Arc::clone(&folder.application))
        };
        Some(&self.policy_of(&entity)?.policy)
    }
}

impl Shelf {
    fn add(&mut self, mut backup: Backup) {
        backup.taken = backup.taken.trunc_subsecs(0);
        let later = self.backups.iter().rev();
        let later = later.take_while(|it| it.taken > backup.taken).count();
        self.backups.insert(self.backups.len() - later, backup);
    }

    /// How many of the oldest backups retention has deleted: whole chains, down to the minimum.
    fn expired(&self, retention: Retention, now: DateTime<Utc>) -> usize {
        let (mut gone, mut seen) = (0, 0);
        let mut backups = self.backups.iter().peekable();
        while let Some(backup) = backups.next() {
            seen += 1;
            let young = later(backup.taken, retention.duration) >= now;
            if young || self.backups.len() - seen < retention.minimum {
                break;
            }
            if backups.peek().is_none_or(|next| next.chain != backup.chain) {
                gone = seen;
            }
        }
        gone
    }
}

impl Storage {
    /// What makes two storages the same one.
    fn place(&self) -> String {
        match self {
            Self::AzureBlob { container, .. } => format!("blob/{container}"),
            Self::FileShare { path, .. } => format!("share/{path}"),
            Self::ManagedIdentity {
                blob_service_uri,
                container,
                ..
            } => format!("{blob_service_uri}/{container}"),
            Self::Dsms {
                credentials_location,
                container,
                ..
            } => format!("dsms/{credentials_location}/{container}"),
        }
    }
}
