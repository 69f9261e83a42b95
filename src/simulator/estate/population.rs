//! Creation and deletion of services and partitions.
//!
//! A new partition requests its policy; a deleted one is still named by its mapping, its suspension
//! and its backups.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::replica::StateProvider;
use super::time::filetime;
use super::{Estate, Keys, Partition, Scheme, Service, ServiceKind};
use crate::simulator::record::{Epoch, Record};

impl Estate {
    /// Adds a service, its application too when it is new; returns its partitions.
    pub fn add_service(
        &mut self,
        application: &str,
        service: &str,
        kind: ServiceKind,
        scheme: Scheme,
        now: DateTime<Utc>,
    ) -> Vec<Uuid> {
        let (application, service): (Arc<str>, Arc<str>) = (application.into(), service.into());
        self.services.insert(
            Arc::clone(&service),
            Service {
                application: Arc::clone(&application),
                kind,
                provider: StateProvider::default(),
                partitions: BTreeSet::new(),
            },
        );
        let services = self.applications.entry(application).or_default();
        services.insert(Arc::clone(&service));
        let keys = scheme.into_keys();
        keys.into_iter()
            .filter_map(|keys| self.insert_partition(&service, keys, now))
            .collect()
    }

    /// Sets the state provider of a service; without it, reliable collections.
    pub fn set_state_provider(&mut self, service: &str, provider: StateProvider) {
        if let Some(service) = self.services.get_mut(service) {
            service.provider = provider;
        }
    }

    /// Adds a named partition to a service; `None` when there is no such service.
    pub fn add_partition(&mut self, service: &str, name: &str, now: DateTime<Utc>) -> Option<Uuid> {
        let (service, _) = self.services.get_key_value(service)?;
        self.insert_partition(&Arc::clone(service), Keys::Named(name.into()), now)
    }

    /// Removes a partition, its record and its running backup; its backups, mapping and suspension
    /// stay.
    pub fn remove_partition(&mut self, id: Uuid) {
        self.requests.forget(id);
        self.backup_service.forget_partition(id);
        let Some(partition) = self.partitions.remove(&id) else {
            return;
        };
        if let Some(service) = self.services.get_mut(&partition.service) {
            service.partitions.remove(&id);
        }
        self.vanished.partitions.insert(id, partition.service);
    }

    /// Starts the deletion of an application or service: lists still show it, requests below it are
    /// answered as if it did not exist.
    pub fn begin_deletion(&mut self, name: &str) {
        self.deleting.insert(name.into());
    }

    /// Whether an application or service, or the application of a service, is being deleted.
    pub(in crate::simulator) fn is_being_deleted(&self, name: &str) -> bool {
        let is_deleting = |name: &str| self.deleting.contains(name);
        let service = self.services.get(name);
        is_deleting(name) || service.is_some_and(|it| is_deleting(&it.application))
    }

    /// Removes a service with its partitions.
    pub fn remove_service(&mut self, name: &str) {
        let Some(service) = self.services.remove(name) else {
            return;
        };
        for id in service.partitions {
            self.remove_partition(id);
        }
        self.deleting.remove(name);
        if let Some(services) = self.applications.get_mut(&service.application) {
            services.remove(name);
        }
        let vanished = &mut self.vanished.services;
        vanished.insert(name.into(), service.application);
    }

    /// Removes an application with its services.
    pub fn remove_application(&mut self, name: &str) {
        for service in self.applications.get(name).cloned().unwrap_or_default() {
            self.remove_service(&service);
        }
        self.applications.remove(name);
        self.deleting.remove(name);
    }

    fn insert_partition(
        &mut self,
        service: &Arc<str>,
        keys: Keys,
        now: DateTime<Utc>,
    ) -> Option<Uuid> {
        let id = self.new_id();
        let partition = Partition {
            service: Arc::clone(service),
            keys,
            epoch: self.new_epoch(now),
            created: now,
            lsn: self.rng.u64(1..100_000),
            record: Record::Never,
        };
        self.services.get_mut(service)?.partitions.insert(id);
        self.partitions.insert(id, partition);
        self.inform_newcomer(id, now);
        Some(id)
    }

    /// A random GUID of version 4, as the cluster makes them.
    fn new_id(&mut self) -> Uuid {
        let bytes = self.rng.u128(..).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// The epoch of a new partition contains its creation time and counts changes of primary.
    fn new_epoch(&mut self, now: DateTime<Utc>) -> Epoch {
        let seconds = filetime(now) / 10_000_000;
        Epoch {
            data_loss: seconds * 10_000_000 + self.rng.u64(..10_000_000),
            configuration: self.rng.u64(1..6) << 32,
        }
    }
}
