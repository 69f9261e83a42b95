//! Which policy applies to what, and where it is suspended.
//!
//! Responsible for the mappings an operator makes at applications, services and partitions, and
//! for what they come to: the nearest level decides on the policy, any level suspends. It may
//! not back anything up: replicas hear of a change a moment later and act for themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::periodic::{Periodic, Step};
use super::{Estate, InForce, Refusal, ServiceKind, later};

/// Something that can be protected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// All partitions of an application, by its full name.
    Application(Arc<str>),
    /// All partitions of a service, by its full name.
    Service(Arc<str>),
    /// One partition.
    Partition(Uuid),
}

/// What the cluster says about the protection of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulator) struct Protection {
    pub(in crate::simulator) policy: Arc<str>,
    /// The level the policy comes from.
    pub(in crate::simulator) from: &'static str,
    /// The nearest suspended level.
    pub(in crate::simulator) suspended_from: Option<&'static str>,
}

impl Entity {
    /// An application.
    pub fn application(name: &str) -> Self {
        Self::Application(name.into())
    }

    /// A service.
    pub fn service(name: &str) -> Self {
        Self::Service(name.into())
    }

    /// `Kind`, `EntityKind` and the word of inheritance.
    pub(in crate::simulator) fn level(&self) -> &'static str {
        match self {
            Self::Application(_) => "Application",
            Self::Service(_) => "Service",
            Self::Partition(_) => "Partition",
        }
    }
}

impl Estate {
    /// Protects an entity with a policy; a policy it had of its own is replaced.
    pub fn enable(
        &mut self,
        entity: &Entity,
        policy: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        self.tick(now);
        self.check(entity)?;
        let known = self.periodic.policies.by_name.get_key_value(policy);
        let policy = Arc::clone(known.ok_or(Refusal::NoSuchPolicy)?.0);
        self.periodic.mappings.insert(entity.clone(), policy);
        self.inform(entity, now);
        Ok(())
    }

    /// Takes the policy away that an entity has of its own; what it inherits stays.
    pub fn disable(&mut self, entity: &Entity, now: DateTime<Utc>) -> Result<(), Refusal> {
        self.tick(now);
        self.check(entity)?;
        let had = self.periodic.mappings.remove(entity);
        had.ok_or(Refusal::NotEnabled)?;
        self.periodic.suspensions.remove(entity);
        self.inform(entity, now);
        Ok(())
    }

    /// Suspends an entity and everything below it: replicas stop, and their events vanish.
    pub fn suspend(&mut self, entity: &Entity, now: DateTime<Utc>) -> Result<(), Refusal> {
        self.tick(now);
        self.check(entity)?;
        self.periodic.suspensions.insert(entity.clone());
        self.inform(entity, now);
        Ok(())
    }

    /// Ends the suspension of this level; replicas start as if they had just been protected.
    pub fn resume(&mut self, entity: &Entity, now: DateTime<Utc>) -> Result<(), Refusal> {
        self.tick(now);
        self.check(entity)?;
        self.periodic.suspensions.remove(entity);
        self.inform(entity, now);
        Ok(())
    }

    /// What applies to an entity; `None` when nothing does.
    pub(in crate::simulator) fn protection(&self, entity: &Entity) -> Option<Protection> {
        let line = self.line(entity);
        let (from, policy) = line
            .iter()
            .find_map(|it| Some((it.level(), self.periodic.mappings.get(it)?)))?;
        let mut line = line.iter();
        let suspended = line.find(|it| self.periodic.suspensions.contains(*it));
        Some(Protection {
            policy: Arc::clone(policy),
            from,
            suspended_from: suspended.map(Entity::level),
        })
    }

    /// The policy that applies to an entity, suspended or not.
    pub(super) fn policy_of(&self, entity: &Entity) -> Option<&Arc<InForce>> {
        let line = self.line(entity);
        let policy = line.iter().find_map(|it| self.periodic.mappings.get(it))?;
        self.periodic.policies.by_name.get(policy)
    }

    /// An entity and what it is part of, nearest first.
    pub(in crate::simulator) fn line(&self, entity: &Entity) -> Vec<Entity> {
        let mut line = vec![entity.clone()];
        if let Entity::Partition(id) = entity {
            line.extend(self.service_of(*id).map(Entity::Service));
        }
        if let Some(Entity::Service(name)) = line.last() {
            let service = self.services.get(name);
            line.extend(service.map(|it| Entity::Application(Arc::clone(&it.application))));
        }
        line
    }

    /// Whether there is such an entity, and whether it has a state.
    fn check(&self, entity: &Entity) -> Result<(), Refusal> {
        let service = match entity {
            Entity::Application(name) => {
                let known = self.applications.contains_key(name);
                return known.then_some(()).ok_or(Refusal::NoSuchApplication);
            }
            Entity::Service(name) => Some(Arc::clone(name)),
            Entity::Partition(id) => Some(self.service_of(*id).ok_or(Refusal::NotFound)?),
        };
        match service.and_then(|name| self.kind_of(&name)) {
            None => Err(Refusal::NoSuchService),
            Some(ServiceKind::Persisted) => Ok(()),
            Some(_) => Err(Refusal::Stateless),
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

    /// Tells the replicas below an entity that their configuration may have changed.
    pub(super) fn inform(&mut self, entity: &Entity, now: DateTime<Utc>) {
        let at = later(now, self.periodic.tempo.propagation);
        for id in self.partitions_of(entity) {
            self.periodic.agenda.insert((at, id, Step::Configure));
        }
    }

    /// A partition that was just created asks for its policy.
    pub(super) fn inform_newcomer(&mut self, id: Uuid, now: DateTime<Utc>) {
        if !self.periodic.mappings.is_empty() {
            self.inform(&Entity::Partition(id), now);
        }
    }
}

impl Periodic {
    /// What a policy was explicitly enabled for.
    pub(in crate::simulator) fn enabled_with(&self, policy: &str) -> Vec<Entity> {
        let mappings = self.mappings.iter();
        let mapped = mappings.filter(|(_, name)| ***name == *policy);
        mapped.map(|(entity, _)| entity.clone()).collect()
    }

    /// Everything with a policy of its own.
    pub(in crate::simulator) fn mapped(&self) -> impl Iterator<Item = &Entity> {
        self.mappings.keys()
    }

    /// Everything with a suspension of its own.
    pub(in crate::simulator) fn suspended(&self) -> impl Iterator<Item = &Entity> {
        self.suspensions.iter()
    }

    pub(in crate::simulator) fn own_policy(&self, entity: &Entity) -> Option<&str> {
        self.mappings.get(entity).map(|name| &**name)
    }

    pub(in crate::simulator) fn is_suspended(&self, entity: &Entity) -> bool {
        self.suspensions.contains(entity)
    }

    /// Forgets what was configured for something that is gone.
    pub(super) fn forget(&mut self, entity: &Entity) {
        self.mappings.remove(entity);
        self.suspensions.remove(entity);
    }
}

/// Explicit enablements: which policy each entity was given.
pub(super) type Mappings = BTreeMap<Entity, Arc<str>>;
