//! The simulated world: applications, services, partitions, their backup records, and time.
//!
//! Responsible for what exists; `periodic` lets time pass, and its neighbours do what happens in
//! it, after the published source of runtime 6.4. Must not read a clock or do I/O: `now` is an
//! argument, and all chance comes from the seed, so the same calls give the same world. A lookup
//! by partition id costs the same in a world of any size.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::Switches;
use super::record::{Epoch, Progress, Record};
use execution::Requests;
use periodic::Periodic;
use policy::InForce;
use population::Vanished;

mod agenda;
mod appearance;
mod behaviour;
mod damage;
mod execution;
mod health;
mod keys;
mod lists;
mod log;
mod on_demand;
mod periodic;
mod place;
mod policy;
mod population;
mod primary;
mod propagation;
mod protection;
mod replica;
mod restore;
mod retention;
mod store;
mod timer;
mod upload;

pub use appearance::Appearance;
pub use behaviour::Behaviour;
pub use keys::Scheme;
pub use log::{Happened, Happening};
pub use on_demand::Refusal;
pub use place::Place;
pub use policy::{Policy, Retention, Schedule, Storage};
pub use protection::Entity;
pub use replica::{StateProvider, Tempo};
pub use restore::{RestoreOutcome, RestorePlan};
pub use store::{Backup, Validation};

pub(super) use health::{Health, Report, Said};
pub(super) use keys::Keys;
pub(super) use lists::Listed;
pub(super) use restore::Restore;

/// The application of the system services: it exists, but no list of applications shows it.
pub(super) const SYSTEM: &str = "fabric:/System";

/// The service behind the backup routes; without it they answer 404.
pub(super) const BACKUP_RESTORE_SERVICE: &str = "fabric:/System/BackupRestoreService";

/// Seconds between 1601, where FILETIME begins, and 1970.
const FILETIME_TO_UNIX: i64 = 11_644_473_600;

/// A cluster's worth of applications, services, partitions and backup records.
#[derive(Debug)]
pub struct Estate {
    pub(super) rng: fastrand::Rng,
    pub(super) applications: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    pub(super) services: HashMap<Arc<str>, Service>,
    pub(super) partitions: HashMap<Uuid, Partition>,
    /// Requests that have not ended.
    requests: Requests,
    /// What no longer exists and may still be named.
    vanished: Vanished,
    /// Applications and services that are listed while they are being deleted.
    deleting: BTreeSet<Arc<str>>,
    /// What happens without being asked for; nothing until there is a policy.
    pub(super) periodic: Periodic,
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) application: Arc<str>,
    pub(super) kind: ServiceKind,
    provider: StateProvider,
    pub(super) partitions: BTreeSet<Uuid>,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) service: Arc<str>,
    pub(super) keys: Keys,
    pub(super) epoch: Epoch,
    created: DateTime<Utc>,
    lsn: u64,
    record: Record,
}

/// Kind of a service; only [`Self::Persisted`] ones can be backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// Stateful with `HasPersistedState` true.
    Persisted,
    /// Stateful, state in memory only.
    Volatile,
    /// Stateless.
    Stateless,
    /// The third kind, of runtimes from 2025 on.
    SelfReconfiguring,
}

impl Estate {
    /// A world with nothing in it but the system services.
    pub fn empty(seed: u64, created: DateTime<Utc>) -> Self {
        let mut estate = Self {
            rng: fastrand::Rng::with_seed(seed),
            applications: BTreeMap::new(),
            services: HashMap::new(),
            partitions: HashMap::new(),
            requests: Requests::default(),
            vanished: Vanished::default(),
            deleting: BTreeSet::new(),
            periodic: Periodic::default(),
        };
        for service in [
            BACKUP_RESTORE_SERVICE,
            "fabric:/System/FaultAnalysisService",
        ] {
            estate.add_service(
                SYSTEM,
                service,
                ServiceKind::Persisted,
                Scheme::Singleton,
                created,
            );
        }
        estate
    }

    /// Every partition that can be backed up, service by service in the order of their names:
    /// those of persisted services outside `fabric:/System`.
    pub fn partition_ids(&self) -> Vec<Uuid> {
        self.applications
            .iter()
            .filter(|(application, _)| ***application != *SYSTEM)
            .flat_map(|(_, services)| services)
            .filter_map(|name| self.services.get(name))
            .filter(|service| service.kind == ServiceKind::Persisted)
            .flat_map(|service| service.partitions.iter().copied())
            .collect()
    }

    /// Names of all services that can be backed up, in order.
    pub fn service_names(&self) -> Vec<Arc<str>> {
        self.applications
            .iter()
            .filter(|(application, _)| ***application != *SYSTEM)
            .flat_map(|(_, services)| services)
            .filter(|name| self.kind_of(name) == Some(ServiceKind::Persisted))
            .cloned()
            .collect()
    }

    /// Names of all applications but `fabric:/System`, in order.
    pub fn application_names(&self) -> Vec<Arc<str>> {
        let names = self.applications.keys();
        names.filter(|name| ***name != *SYSTEM).cloned().collect()
    }

    /// Name of the service of a partition.
    pub fn service_of(&self, id: Uuid) -> Option<Arc<str>> {
        Some(Arc::clone(&self.partitions.get(&id)?.service))
    }

    /// Name of the application of a partition.
    pub fn application_of(&self, id: Uuid) -> Option<Arc<str>> {
        let service = &self.partitions.get(&id)?.service;
        Some(Arc::clone(&self.services.get(service)?.application))
    }

    /// Kind of a service.
    pub fn kind_of(&self, service: &str) -> Option<ServiceKind> {
        Some(self.services.get(service)?.kind)
    }

    /// What its backup service does.
    pub fn behaviour(&self) -> Behaviour {
        self.periodic.behaviour
    }

    /// The truth about a partition, as the default switches spell it: JSON null when no backup
    /// was ever requested, `None` when there is no such partition.
    pub fn record(&self, id: Uuid) -> Option<Value> {
        let progress = self.progress(id)?;
        Some(progress.to_json(&Switches::default()).unwrap_or_default())
    }

    /// Whether the cluster has the service behind the backup routes.
    pub fn has_backup_service(&self) -> bool {
        self.services.contains_key(BACKUP_RESTORE_SERVICE)
    }

    pub(super) fn progress(&self, id: Uuid) -> Option<Progress> {
        let partition = self.partitions.get(&id)?;
        Some(Progress {
            partition: id,
            application: self.application_of(id)?,
            service: Arc::clone(&partition.service),
            record: partition.record.clone(),
        })
    }
}

/// A moment in units of 100 ns since 1601.
pub(super) fn filetime(at: DateTime<Utc>) -> u64 {
    let seconds = u64::try_from(at.timestamp() + FILETIME_TO_UNIX).unwrap_or_default();
    seconds * 10_000_000 + u64::from(at.timestamp_subsec_nanos()) / 100
}

/// `start` plus `delay`, at the latest the end of time.
fn later(start: DateTime<Utc>, delay: Duration) -> DateTime<Utc> {
    let delay = TimeDelta::from_std(delay).ok();
    delay
        .and_then(|delay| start.checked_add_signed(delay))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests;
