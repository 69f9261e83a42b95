//! A cycle, in the order of the poller: what there is, what protects it, each partition, the lists.
//!
//! Responsible for which questions are asked and what is published together. A request that fails
//! is no observation, as in the poller. It may not judge what it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use servicefabric_backup_exporter::inventory::{Inventory, Scope};
use servicefabric_backup_exporter::model::{
    Configuration, Entity, Listed, Name, Partition, PartitionId,
};
use servicefabric_backup_exporter::protection::applied::Settings;
use servicefabric_backup_exporter::snapshot::{
    ClusterReading, Observations, PartitionSnapshot, Reading,
};
use uuid::Uuid;

use super::super::answers::Question;
use super::super::calendar::{MINUTE, SECOND};
use super::{Looked, Observer, own, read};

/// `poll.backups_interval`.
const LISTS_EVERY: i64 = 15 * MINUTE;

impl Observer {
    /// Inventory and policies.
    pub(crate) fn look_around(&mut self, it: &mut Question<'_>) {
        let inventory = self.inventory(it);
        let policies = self.answers.policies(it, &()).ok();
        if policies.is_some() {
            self.policies_read = Some(it.now);
        }
        let observations = Observations {
            inventory: Some(read(inventory, it)),
            policies: policies.map(|policies| read(policies, it)),
            ..Observations::default()
        };
        self.publish(observations, it);
        let ids: Vec<Uuid> = self.snapshot.partitions.keys().map(|id| id.0).collect();
        if ids.len() != self.sights.len() {
            self.sights.retain(|id, _| ids.contains(id));
            self.answers.keep_only(&ids);
        }
        for id in ids {
            self.sights.entry(id).or_default();
        }
    }

    fn inventory(&mut self, it: &mut Question<'_>) -> Inventory {
        let mut inventory = Inventory::default();
        let Ok(applications) = self.answers.applications(it, &()) else {
            inventory.unread.push(Scope::Cluster);
            return inventory;
        };
        for application in applications {
            let Ok(services) = self.answers.services(it, &application) else {
                inventory.unread.push(Scope::Application(application));
                continue;
            };
            for service in services {
                let Ok(partitions) = self.answers.partitions(it, &service) else {
                    inventory.unread.push(Scope::Service(service));
                    continue;
                };
                inventory
                    .listed
                    .extend(partitions.into_iter().map(|listed| Partition {
                        id: listed.id,
                        application: Some(Arc::clone(&application)),
                        service: Some(Arc::clone(&service)),
                        kind: Some(listed.kind),
                        data_loss: listed.data_loss_time,
                    }));
            }
        }
        inventory
    }

    /// What is set in each application, and below those that say they have nothing.
    pub(crate) fn read_configuration(&mut self, it: &mut Question<'_>) {
        let mut lines = BTreeMap::new();
        for application in self.applications(|_| true) {
            if let Ok(read) = self.answers.configuration(it, &application) {
                lines.insert(application, read);
            }
        }
        let bare = lines.iter().filter(|(_, lines)| lines.is_empty());
        let bare: BTreeSet<Name> = bare.map(|(name, _)| Arc::clone(name)).collect();
        match self.look_below(it, &bare) {
            Some(below) => lines.extend(below),
            None => lines.retain(|application, _| !bare.contains(application)),
        }
        for known in self.snapshot.partitions.values() {
            let application = known.partition.application.as_ref();
            if application.is_some_and(|name| lines.contains_key(name))
                && let Some(sight) = self.sights.get_mut(&known.partition.id.0)
            {
                sight.configuration = Some(it.now);
            }
        }
        let settings = lines.into_iter().map(|(application, lines)| {
            let settings: Settings = lines.into_iter().collect();
            (application, read(settings, it))
        });
        let observations = Observations {
            settings: settings.collect(),
            ..Observations::default()
        };
        self.publish(observations, it);
    }

    /// `None` when it cannot be told.
    fn look_below(
        &mut self,
        it: &mut Question<'_>,
        bare: &BTreeSet<Name>,
    ) -> Option<BTreeMap<Name, Vec<Configuration>>> {
        let mut found: BTreeMap<Name, Vec<Configuration>> = BTreeMap::new();
        if bare.is_empty() {
            return Some(found);
        }
        let policies = self.snapshot.policies.as_ref();
        let policies = policies.filter(|policies| own(it) - policies.at < self.rules.staleness)?;
        let names: Vec<Name> = policies.value.keys().cloned().collect();
        let mut places = BTreeMap::new();
        for known in self.snapshot.partitions.values() {
            if let (Some(service), Some(application)) =
                (&known.partition.service, &known.partition.application)
            {
                places.insert(Arc::clone(service), Arc::clone(application));
            }
        }
        let mut services = BTreeSet::new();
        for policy in names {
            for entity in self.answers.entities(it, &policy).ok()? {
                let service = self.service_of(&entity);
                let place = service.and_then(|service| places.get_key_value(&service));
                let Some((service, application)) = place.filter(|place| bare.contains(place.1))
                else {
                    continue;
                };
                services.insert((Arc::clone(service), Arc::clone(application)));
                let line = Configuration {
                    policy: Some(Arc::clone(&policy)),
                    policy_from: None,
                    suspended_at: None,
                    entity,
                };
                found.entry(Arc::clone(application)).or_default().push(line);
            }
        }
        for (service, application) in services {
            let below = self.answers.below(it, &service).ok()?;
            found.entry(application).or_default().extend(below);
        }
        Some(found)
    }

    fn service_of(&self, entity: &Entity) -> Option<Name> {
        match entity {
            Entity::Application(_) => None,
            Entity::Service(name) => Some(Arc::clone(name)),
            Entity::Partition(id) => self.snapshot.partitions.get(id)?.partition.service.clone(),
        }
    }

    /// Applications with a known partition that is as wanted.
    fn applications(&self, wanted: impl Fn(&PartitionSnapshot) -> bool) -> BTreeSet<Name> {
        let known = self.snapshot.partitions.values();
        let known = known.filter(|known| wanted(known));
        known
            .filter_map(|known| known.partition.application.clone())
            .collect()
    }

    /// The partitions that a cycle reads, in its order.
    pub(crate) fn known(&self) -> Vec<PartitionId> {
        self.snapshot.partitions.keys().copied().collect()
    }

    /// A minute in which nothing is read.
    pub(crate) fn look_away(&mut self, it: &mut Question<'_>) {
        let known = self.known();
        self.answers.watch(it, &known);
    }

    /// Record and health of one partition.
    pub(crate) fn look_at(&mut self, it: &mut Question<'_>, id: PartitionId) {
        if let Some(reading) = self.answers.record(it, id) {
            if reading != Reading::NotFound {
                self.looked.push((id.0, Looked::Record, it.now));
            }
            self.read.push((id, read(reading, it)));
        }
        // Periodic backups exist only where a policy applies; where that is not known, it may.
        let known = self.snapshot.partitions.get(&id);
        if known.is_some_and(|known| known.applied_at.is_some() && !known.has_policy()) {
            return;
        }
        if let Some(reading) = self.answers.health(it, id) {
            self.looked.push((id.0, Looked::Health, it.now));
            self.read.push((id, read(reading, it)));
        }
    }

    /// The end of a cycle: all that was read of partitions is known from now on.
    pub(crate) fn end_cycle(&mut self, it: &Question<'_>) {
        // The header has whole seconds, and took its time.
        let header = it.now - it.now.rem_euclid(SECOND);
        let skew = TimeDelta::milliseconds(header - (it.now - it.weather.skew));
        let observations = Observations {
            partitions: std::mem::take(&mut self.read),
            cluster: Some(ClusterReading {
                up: !it.weather.gateway.strikes(it.now),
                service_up: None,
                version: None,
                clock_skew: Some(skew),
                ..ClusterReading::default()
            }),
            ..Observations::default()
        };
        self.publish(observations, it);
        for (id, looked, at) in std::mem::take(&mut self.looked) {
            if let Some(sight) = self.sights.get_mut(&id) {
                match looked {
                    Looked::Record => sight.progress = Some(at),
                    Looked::Health => sight.health = Some(at),
                }
            }
        }
        self.is_new = false;
    }

    /// Lists backups, if it is time.
    pub(crate) fn list(&mut self, it: &mut Question<'_>) {
        let applications = self.applications(PartitionSnapshot::has_policy);
        if it.now < self.next_list || applications.is_empty() {
            return;
        }
        self.next_list = it.now + LISTS_EVERY;
        let mut newest = Vec::new();
        for application in applications {
            let away = self.storage_is_away(&application, it);
            let Ok(listed) = self.answers.newest(it, &application, away) else {
                continue;
            };
            for known in self.snapshot.partitions.values() {
                let id = known.partition.id.0;
                if known.partition.application.as_ref() == Some(&application)
                    && let Some(sight) = self.sights.get_mut(&id)
                {
                    sight.list = Some(it.now);
                    self.listed.remove(&id);
                }
            }
            let times = listed.iter().filter_map(|backup| {
                Some((backup.partition.0, backup.created?.timestamp_millis()))
            });
            self.listed.extend(times);
            let listed = Listed {
                items: listed,
                skipped: 0,
            };
            newest.push((application, read(listed, it)));
        }
        let observations = Observations {
            newest,
            ..Observations::default()
        };
        self.publish(observations, it);
    }

    fn storage_is_away(&self, application: &Name, it: &Question<'_>) -> bool {
        let known = self.snapshot.partitions.values();
        let applied = known
            .filter(|known| known.partition.application.as_ref() == Some(application))
            .filter_map(|known| known.applied.as_deref()?.policy_name());
        applied
            .into_iter()
            .any(|policy| it.weather.storage_is_away(policy, it.now))
    }
}
