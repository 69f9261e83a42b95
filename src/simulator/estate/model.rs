//! The simulated cluster: its applications, services, partitions and backup records.
//!
//! Holds the state and looks it up; sibling modules change it. A lookup by partition id takes the
//! same time in a cluster of any size.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::backup_service::BackupService;
use super::behaviour::Behaviour;
use super::keys::{Keys, Scheme};
use super::replica::StateProvider;
use super::requests::Requests;
use crate::simulator::record::{Epoch, Progress, Record};
use crate::simulator::switches::Switches;

/// The application of the system services; application lists omit it.
pub(in crate::simulator) const SYSTEM: &str = "fabric:/System";

/// The service behind the backup routes; without it they return 404.
pub(in crate::simulator) const BACKUP_RESTORE_SERVICE: &str = "fabric:/System/BackupRestoreService";

/// The applications, services, partitions and backup records of a cluster.
#[derive(Debug)]
pub struct Estate {
    pub(in crate::simulator) rng: fastrand::Rng,
    pub(in crate::simulator) applications: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    pub(in crate::simulator) services: HashMap<Arc<str>, Service>,
    pub(in crate::simulator) partitions: HashMap<Uuid, Partition>,
    /// Requests that have not ended.
    pub(super) requests: Requests,
    /// Deleted services and partitions that may still be named.
    pub(super) vanished: Vanished,
    /// Applications and services that are listed while they are being deleted.
    pub(super) deleting: BTreeSet<Arc<str>>,
    /// State of the backup service.
    pub(in crate::simulator) backup_service: BackupService,
}

#[derive(Debug)]
pub(in crate::simulator) struct Service {
    pub(in crate::simulator) application: Arc<str>,
    pub(in crate::simulator) kind: ServiceKind,
    pub(super) provider: StateProvider,
    pub(in crate::simulator) partitions: BTreeSet<Uuid>,
}

#[derive(Debug)]
pub(in crate::simulator) struct Partition {
    pub(in crate::simulator) service: Arc<str>,
    pub(in crate::simulator) keys: Keys,
    pub(in crate::simulator) epoch: Epoch,
    pub(super) created: DateTime<Utc>,
    pub(super) lsn: u64,
    pub(super) record: Record,
}

/// Kind of a service; only [`Self::Persisted`] services can be backed up.
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

/// Parents of deleted partitions and services.
#[derive(Debug, Default)]
pub(super) struct Vanished {
    pub(super) partitions: HashMap<Uuid, Arc<str>>,
    pub(super) services: HashMap<Arc<str>, Arc<str>>,
}

impl Estate {
    /// An estate with only the system services.
    pub fn empty(seed: u64, created: DateTime<Utc>) -> Self {
        let mut estate = Self {
            rng: fastrand::Rng::with_seed(seed),
            applications: BTreeMap::new(),
            services: HashMap::new(),
            partitions: HashMap::new(),
            requests: Requests::default(),
            vanished: Vanished::default(),
            deleting: BTreeSet::new(),
            backup_service: BackupService::default(),
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

    /// Behaviour of the backup service.
    pub fn behaviour(&self) -> Behaviour {
        self.backup_service.behaviour
    }

    /// The record of a partition in the default format: JSON null if no backup was ever requested,
    /// `None` if there is no such partition.
    pub fn record(&self, id: Uuid) -> Option<Value> {
        let progress = self.progress(id)?;
        Some(progress.to_json(&Switches::default()).unwrap_or_default())
    }

    /// Whether the cluster has the service behind the backup routes.
    pub fn has_backup_service(&self) -> bool {
        self.services.contains_key(BACKUP_RESTORE_SERVICE)
    }

    pub(in crate::simulator) fn progress(&self, id: Uuid) -> Option<Progress> {
        let partition = self.partitions.get(&id)?;
        Some(Progress {
            partition: id,
            application: self.application_of(id)?,
            service: Arc::clone(&partition.service),
            record: partition.record.clone(),
        })
    }
}
