//! What is set in each application, once a cycle.
//!
//! One request an application. One that says it is not protected may still have protected
//! services: the policies tell where they were set, and then those services are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::{Poller, now, run};
use crate::clock;
use crate::gateway::Error;
use crate::model::{Configuration, Entity, Name};
use crate::poller::tally::Tally;
use crate::protection::applied::Settings;
use crate::snapshot::{Collector, Observations, Policies, Snapshot};

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
                Ok(read) => {
                    let read = self.items(Collector::Configuration, read, tally);
                    lines.insert(application, read);
                }
                Err(error) => {
                    success = false;
                    self.record(Collector::Configuration, &error, tally);
                }
            }
        }
        let bare = lines.iter().filter(|(_, lines)| lines.is_empty());
        let bare: BTreeSet<Name> = bare.map(|(name, _)| Arc::clone(name)).collect();
        // Who cannot be asked about what is below keeps what is known of it.
        match self.look_below(&bare, tally).await {
            Ok(Some(below)) => lines.extend(below),
            Ok(None) => lines.retain(|application, _| !bare.contains(application)),
            Err(error) => {
                lines.retain(|application, _| !bare.contains(application));
                success = false;
                self.record(Collector::Configuration, &error, tally);
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

    /// What is set below applications that are not protected themselves. `None` while the policies,
    /// which tell where they were set, are not known.
    async fn look_below(
        &self,
        bare: &BTreeSet<Name>,
        tally: &Tally,
    ) -> Result<Option<BTreeMap<Name, Vec<Configuration>>>, Error> {
        let mut found: BTreeMap<Name, Vec<Configuration>> = BTreeMap::new();
        let mut services = BTreeMap::new();
        if bare.is_empty() {
            return Ok(Some(found));
        }
        let snapshot = self.snapshot();
        let Some(policies) = self.believed_policies(&snapshot) else {
            return Ok(None);
        };
        let application_of = applications_of_services(&snapshot);
        for line in self.explicit_lines(policies, tally).await? {
            let service = match &line.entity {
                Entity::Application(_) => None,
                Entity::Service(name) => Some(name),
                Entity::Partition(id) => {
                    let known = snapshot.partitions.get(id);
                    known.and_then(|known| known.partition.service.as_ref())
                }
            };
            let place = service.and_then(|service| application_of.get_key_value(service));
            if let Some((service, application)) = place
                && bare.contains(*application)
            {
                services.insert(Arc::clone(service), Arc::clone(application));
                found.entry(Arc::clone(application)).or_default().push(line);
            }
        }
        let questions = services.into_iter().map(|(service, application)| {
            let gateway = Arc::clone(&self.gateway);
            async move {
                let answer = gateway.service_backup_configuration(&service).await;
                (application, answer)
            }
        });
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        while let Some((application, answer)) = answers.next().await {
            // What the service says comes later and counts: it knows of suspensions, too.
            let read = self.items(Collector::Configuration, answer?, tally);
            found.entry(application).or_default().extend(read);
        }
        Ok(Some(found))
    }

    /// The policies, if they were read so lately that they are believed.
    fn believed_policies<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Policies> {
        let read = snapshot.policies.as_ref()?;
        let age = (clock::now() - read.at).to_std().unwrap_or_default();
        (age < self.poll.staleness).then_some(&read.value)
    }

    /// What was set explicitly somewhere, as the policies tell it.
    async fn explicit_lines(
        &self,
        policies: &Policies,
        tally: &Tally,
    ) -> Result<Vec<Configuration>, Error> {
        let questions = policies.keys().map(|name| {
            let (gateway, name) = (Arc::clone(&self.gateway), Arc::clone(name));
            async move {
                let answer = gateway.entities_of_policy(&name).await;
                (name, answer)
            }
        });
        let questions: Vec<_> = questions.collect();
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        let mut lines = Vec::new();
        while let Some((policy, answer)) = answers.next().await {
            let entities = self.items(Collector::Configuration, answer?, tally);
            lines.extend(entities.into_iter().map(|entity| Configuration {
                policy: Some(Arc::clone(&policy)),
                policy_from: None,
                suspended_at: None,
                entity,
            }));
        }
        Ok(lines)
    }
}

/// The application of every service with a known partition.
fn applications_of_services(snapshot: &Snapshot) -> BTreeMap<&Name, &Name> {
    let known = snapshot.partitions.values().map(|known| &known.partition);
    known
        .filter_map(|partition| {
            Some((partition.service.as_ref()?, partition.application.as_ref()?))
        })
        .collect()
}
