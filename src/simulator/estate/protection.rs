//! Policies and suspensions that apply to entities.
//!
//! Keeps the mappings at applications, services and partitions and derives the effective ones: the
//! nearest level determines the policy, any level suspends. Must not take backups: replicas receive
//! changes later. Mappings and suspensions outlive their entity, suspensions also the policy that
//! they suspend (`DeleteBackupPolicyOperation.cs`, `DisableBackupMappingOperation.cs`).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::agenda::WorkItem;
use super::backup_service::BackupService;
use super::policy::PolicyVersion;
use super::{Entity, Estate, Rejection, ServiceKind};

/// Effective protection of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulator) struct Protection {
    pub(in crate::simulator) policy: Arc<str>,
    /// The level the policy comes from.
    pub(in crate::simulator) from: &'static str,
    /// The nearest suspended level.
    pub(in crate::simulator) suspended_from: Option<&'static str>,
}

impl Estate {
    /// Protects an entity with a policy; a policy it had of its own is replaced.
    pub fn enable(
        &mut self,
        entity: &Entity,
        policy: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Rejection> {
        self.tick(now);
        self.check(entity)?;
        let known = self.backup_service.policies.by_name.get_key_value(policy);
        let policy = Arc::clone(known.ok_or(Rejection::NoSuchPolicy)?.0);
        self.backup_service.mappings.insert(entity.clone(), policy);
        self.send(entity, WorkItem::Enable, now);
        Ok(())
    }

    /// Removes the policy that an entity has of its own; inherited policies and its suspension
    /// stay.
    pub fn disable(&mut self, entity: &Entity, now: DateTime<Utc>) -> Result<(), Rejection> {
        self.tick(now);
        self.check(entity)?;
        let had = self.backup_service.mappings.remove(entity);
        had.ok_or(Rejection::NotEnabled)?;
        self.send(entity, WorkItem::Disable, now);
        Ok(())
    }

    /// Suspends an entity and everything below it, protected or not: replicas stop, and their
    /// events are removed (`SuspendBackupOperation.cs`).
    pub fn suspend(&mut self, entity: &Entity, now: DateTime<Utc>) -> Result<(), Rejection> {
        self.tick(now);
        self.check(entity)?;
        self.backup_service.suspensions.insert(entity.clone());
        self.send(entity, WorkItem::Suspend, now);
        Ok(())
    }

    /// Ends the suspension of this level; replicas start as if just protected. Rejected while
    /// nothing in the application is enabled (`ResumeBackupOperation.cs`).
    pub fn resume(&mut self, entity: &Entity, now: DateTime<Utc>) -> Result<(), Rejection> {
        self.tick(now);
        self.check(entity)?;
        let line = self.line(entity);
        let application = line
            .last()
            .filter(|it| matches!(it, Entity::Application(_)));
        let is_enabled = application.is_some_and(|scope| {
            let mut mapped = self.backup_service.mapped();
            mapped.any(|it| self.is_within(it, scope))
        });
        if !is_enabled {
            return Err(Rejection::NotEnabled);
        }
        self.backup_service.suspensions.remove(entity);
        self.send(entity, WorkItem::Enable, now);
        Ok(())
    }

    /// Effective protection of a partition as the cluster reports it; `None` without a policy.
    /// Services and applications are looked up under their parsed names.
    pub(in crate::simulator) fn protection(&self, partition: &Entity) -> Option<Protection> {
        let line = self.line(partition);
        let is_found = |it: &&Entity| *it == partition || !self.is_mangled(it);
        let mut found = line.iter().filter(is_found);
        let suspended = found
            .clone()
            .find(|it| self.backup_service.is_suspended(it));
        let (from, policy) =
            found.find_map(|it| Some((it.level(), self.backup_service.mappings.get(it)?)))?;
        Some(Protection {
            policy: Arc::clone(policy),
            from,
            suspended_from: suspended.map(Entity::level),
        })
    }

    /// The nearest suspended level of an entity and what it is part of.
    pub(super) fn suspension_of(&self, entity: &Entity) -> Option<&'static str> {
        let line = self.line(entity);
        let suspended = line.iter().find(|it| self.backup_service.is_suspended(it));
        suspended.map(Entity::level)
    }

    /// The policy that applies to an entity, suspended or not.
    pub(super) fn policy_of(&self, entity: &Entity) -> Option<&Arc<PolicyVersion>> {
        let line = self.line(entity);
        let policy = line
            .iter()
            .find_map(|it| self.backup_service.mappings.get(it))?;
        self.backup_service.policies.by_name.get(policy)
    }

    /// The policy that the backup service sends to a partition: that of the application does not
    /// get through where a name needs percent-encoding (`SendToServiceNodeWorkItem.cs`).
    pub(super) fn applied_policy(&self, id: Uuid) -> Option<Arc<PolicyVersion>> {
        let entity = Entity::Partition(id);
        let line = self.line(&entity);
        let reach = if self.is_mangled(&entity) { 2 } else { 3 };
        let mut line = line.iter().take(reach);
        let policy = line.find_map(|it| self.backup_service.mappings.get(it))?;
        self.backup_service.policies.by_name.get(policy).cloned()
    }

    /// Whether the name of an entity needs percent-encoding, which 6.4 applies to the keys it asks
    /// for and not to those it stores (`UtilityHelper.cs`).
    pub(in crate::simulator) fn is_mangled(&self, entity: &Entity) -> bool {
        let needs_encoding = |name: &str| name.contains(' ') || !name.is_ascii();
        self.backup_service.behaviour.mangles_encoded_names
            && match entity {
                Entity::Application(name) | Entity::Service(name) => needs_encoding(name),
                Entity::Partition(id) => self.home_of(*id).is_some_and(|it| needs_encoding(&it)),
            }
    }

    /// An entity and its parents, nearest first.
    pub(in crate::simulator) fn line(&self, entity: &Entity) -> Vec<Entity> {
        let mut line = Vec::with_capacity(3);
        line.push(entity.clone());
        if let Entity::Partition(id) = entity {
            line.extend(self.home_of(*id).map(Entity::Service));
        }
        if let Some(Entity::Service(name)) = line.last() {
            line.extend(self.application_of_service(name).map(Entity::Application));
        }
        line
    }

    /// The service of a partition that exists or existed.
    pub(in crate::simulator) fn home_of(&self, id: Uuid) -> Option<Arc<str>> {
        let vanished = || self.vanished.partitions.get(&id).cloned();
        self.service_of(id).or_else(vanished)
    }

    /// The application of a service that exists or existed.
    pub(in crate::simulator) fn application_of_service(&self, name: &str) -> Option<Arc<str>> {
        let existing = self.services.get(name).map(|it| &it.application);
        existing
            .or_else(|| self.vanished.services.get(name))
            .cloned()
    }

    /// Whether an entity is part of another, or is it.
    pub(in crate::simulator) fn is_within(&self, entity: &Entity, scope: &Entity) -> bool {
        entity == scope
            || match (entity, scope) {
                (Entity::Service(service), Entity::Application(application)) => {
                    self.application_of_service(service).as_ref() == Some(application)
                }
                (Entity::Partition(id), Entity::Service(service)) => {
                    self.home_of(*id).as_ref() == Some(service)
                }
                (Entity::Partition(id), Entity::Application(application)) => {
                    let service = self.home_of(*id);
                    let found = service.and_then(|it| self.application_of_service(&it));
                    found.as_ref() == Some(application)
                }
                _ => false,
            }
    }

    /// Whether there is such an entity, and whether it has a state.
    fn check(&self, entity: &Entity) -> Result<(), Rejection> {
        let service = match entity {
            Entity::Application(name) => {
                let known = self.applications.contains_key(name);
                return known.then_some(()).ok_or(Rejection::NoSuchApplication);
            }
            Entity::Service(name) => Some(Arc::clone(name)),
            Entity::Partition(id) => Some(self.service_of(*id).ok_or(Rejection::NotFound)?),
        };
        match service.and_then(|name| self.kind_of(&name)) {
            None => Err(Rejection::NoSuchService),
            Some(ServiceKind::Persisted) => Ok(()),
            Some(_) => Err(Rejection::Stateless),
        }
    }

    /// Every partition of an entity that can be backed up.
    pub fn partitions_of(&self, entity: &Entity) -> Vec<Uuid> {
        let services: Vec<&Arc<str>> = match entity {
            Entity::Application(name) => {
                self.applications.get(name).into_iter().flatten().collect()
            }
            Entity::Service(name) => vec![name],
            Entity::Partition(id) => {
                let service = self.service_of(*id);
                let kind = service.and_then(|it| self.kind_of(&it));
                let persisted = kind == Some(ServiceKind::Persisted);
                return persisted.then_some(*id).into_iter().collect();
            }
        };
        services
            .into_iter()
            .filter_map(|name| self.services.get(name))
            .filter(|service| service.kind == ServiceKind::Persisted)
            .flat_map(|service| service.partitions.iter().copied())
            .collect()
    }
}

impl BackupService {
    /// Entities for which a policy is explicitly enabled, including deleted ones.
    pub(in crate::simulator) fn enabled_with(&self, policy: &str) -> Vec<Entity> {
        let mappings = self.mappings.iter();
        let mapped = mappings.filter(|(_, name)| ***name == *policy);
        mapped.map(|(entity, _)| entity.clone()).collect()
    }

    /// Entities with a policy of their own.
    pub(in crate::simulator) fn mapped(&self) -> impl Iterator<Item = &Entity> {
        self.mappings.keys()
    }

    /// Entities with a suspension of their own.
    pub(in crate::simulator) fn suspended(&self) -> impl Iterator<Item = &Entity> {
        self.suspensions.iter()
    }

    /// The policy that an entity has of its own.
    pub(in crate::simulator) fn own_policy(&self, entity: &Entity) -> Option<&str> {
        self.mappings.get(entity).map(|name| &**name)
    }

    /// Whether an entity has a suspension of its own.
    pub(in crate::simulator) fn is_suspended(&self, entity: &Entity) -> bool {
        self.suspensions.contains(entity)
    }
}
