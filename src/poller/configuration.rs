//! What is set in each application, once a cycle.
//!
//! One request an application. One that says it is not protected may still have protected
//! services: the policies tell where they were set, and then those services are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::{Poller, now, run};
use crate::gateway::Error;
use crate::model::{Configuration, Entity, Name};
use crate::poller::tally::Tally;
use crate::protection::applied::Settings;
use crate::snapshot::{Collector, Observations};

/// Questions that wait at a time. The gateway bounds how many of them are in flight.
const AT_ONCE: usize = 64;

impl Poller {
    /// Reads what is set in every application with a known partition.
    pub(super) async fn configuration(&self, tally: &Tally) {
        if !self.cluster.collectors.configuration {
            return;
        }
        let started = Instant::now();
        let mut lines = BTreeMap::new();
        let mut success = true;
        let questions = self.applications().into_iter().map(|application| {
            let gateway = Arc::clone(&self.gateway);
            async move {
                let answer = gateway.backup_configuration(&application).await;
                (application, answer)
            }
        });
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        while let Some((application, answer)) = answers.next().await {
            match answer {
                Ok(read) => drop(lines.insert(application, read)),
                Err(error) => {
                    success = false;
                    self.record(Collector::Configuration, &error, tally);
                }
            }
        }
        match self.look_below(&lines).await {
            Ok(Some(below)) => lines.extend(below),
            unread => {
                // Who could not be asked about what is below keeps what is known of it.
                lines.retain(|_, lines| !lines.is_empty());
                success = false;
                if let Err(error) = unread {
                    self.record(Collector::Configuration, &error, tally);
                }
            }
        }
        let settings = lines.into_iter().map(|(application, lines)| {
            let settings: Settings = lines.into_iter().collect();
            (application, now(settings))
        });
        self.publish(Observations {
            settings: settings.collect(),
            runs: vec![run(Collector::Configuration, success, started)],
            ..Observations::default()
        });
    }

    /// Applications with a known partition.
    pub(super) fn applications(&self) -> BTreeSet<Name> {
        let snapshot = self.snapshot();
        let partitions = snapshot.partitions.values();
        let names = partitions.filter_map(|known| known.partition.application.clone());
        names.collect()
    }

    /// The lines of services that are protected in applications that are not. `None` while the
    /// policies, which tell of them, were never read.
    async fn look_below(
        &self,
        lines: &BTreeMap<Name, Vec<Configuration>>,
    ) -> Result<Option<BTreeMap<Name, Vec<Configuration>>>, Error> {
        let bare: BTreeSet<Name> = lines
            .iter()
            .filter(|(_, lines)| lines.is_empty())
            .map(|(application, _)| Arc::clone(application))
            .collect();
        let mut found: BTreeMap<Name, Vec<Configuration>> = BTreeMap::new();
        if bare.is_empty() {
            return Ok(Some(found));
        }
        if self.cluster.collectors.policies && self.snapshot().policies.is_none() {
            return Ok(None);
        }
        for (service, application) in self.protected_services(&bare).await? {
            let below = self.gateway.service_backup_configuration(&service).await?;
            found.entry(application).or_default().extend(below);
        }
        Ok(Some(found))
    }

    /// Services in `applications` that have a policy, or a partition that has one, each with its
    /// application.
    async fn protected_services(
        &self,
        applications: &BTreeSet<Name>,
    ) -> Result<BTreeMap<Name, Name>, Error> {
        let snapshot = self.snapshot();
        let known = snapshot.partitions.values().map(|known| &known.partition);
        let application_of: BTreeMap<&Name, &Name> = known
            .filter_map(|partition| {
                Some((partition.service.as_ref()?, partition.application.as_ref()?))
            })
            .filter(|(_, application)| applications.contains(*application))
            .collect();
        let policies = snapshot.policies.as_ref().map(|policies| &policies.value);
        let mut protected = BTreeMap::new();
        for policy in policies.into_iter().flat_map(BTreeMap::keys) {
            for entity in self.gateway.entities_of_policy(policy).await? {
                let service = match &entity {
                    Entity::Application(_) => None,
                    Entity::Service(name) => Some(name),
                    Entity::Partition(id) => {
                        let known = snapshot.partitions.get(id);
                        known.and_then(|known| known.partition.service.as_ref())
                    }
                };
                let found = service.and_then(|service| application_of.get_key_value(service));
                if let Some((service, application)) = found {
                    protected.insert(Arc::clone(service), Arc::clone(application));
                }
            }
        }
        Ok(protected)
    }
}
