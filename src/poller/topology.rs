//! Which partitions there are: discovered from the top, or configured and looked up by id.
//!
//! Asks and sorts; forgets nothing. What could not be read is named as a scope, so that the
//! snapshot keeps what it knows there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::Source;
use crate::gateway::Error;
use crate::inventory::{
    EmptySelection, Inventory, MAX_PARTITIONS, Scope, Selection, Shard, Unmatched,
};
use crate::model::{Listed, ListedPartition, Name, Partition, PartitionId};
use crate::settings::{APPLICATIONS, Cluster, SERVICES};

/// Questions that wait at a time. The gateway bounds how many of them are in flight.
const AT_ONCE: usize = 64;

/// What was read, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Topology {
    pub(super) inventory: Inventory,
    /// How the configured selection fits; `None` when some of what it applies to was not read.
    pub(super) selection: Option<Selection>,
    pub(super) errors: Vec<Error>,
    /// Items that could not be decoded. What they describe keeps its place in the snapshot.
    pub(super) skipped: usize,
    /// Partitions that were one too many, and are not watched.
    pub(super) excess: usize,
}

impl Topology {
    /// Whether everything was read and taken in.
    pub(super) fn is_complete(&self) -> bool {
        self.errors.is_empty() && self.excess == 0
    }
}

/// The applications of some services.
#[derive(Debug, Default)]
struct Applications {
    /// Application of each service.
    names: BTreeMap<Name, Name>,
    /// Services that do not exist any more.
    gone: BTreeSet<Name>,
}

/// Reads the topology of `cluster`, as far as this shard watches it.
pub(super) async fn read(gateway: &Arc<impl Source>, cluster: &Cluster, shard: Shard) -> Topology {
    let mut topology = Topology::default();
    if cluster.partitions.is_empty() {
        topology.discover(gateway, cluster, shard).await;
    } else {
        let owned = cluster.partitions.iter().copied();
        let owned = owned.filter(|id| shard.owns(*id)).collect();
        topology.look_up(gateway, owned).await;
    }
    topology
}

impl Topology {
    /// Walks from the applications to the partitions.
    async fn discover(&mut self, gateway: &Arc<impl Source>, cluster: &Cluster, shard: Shard) {
        let applications = match gateway.applications().await {
            Ok(applications) => self.decoded(Scope::Cluster, applications),
            Err(error) => return self.unread(Scope::Cluster, error),
        };
        let selected = applications.iter();
        let selected = selected.filter(|name| cluster.applications.selects(name));
        let questions: Vec<_> = selected
            .map(|application| {
                let (gateway, application) = (Arc::clone(gateway), Arc::clone(application));
                async move {
                    let services = gateway.persisted_services(&application).await;
                    (application, services)
                }
            })
            .collect();
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        let mut names = Vec::new();
        let mut services = Vec::new();
        while let Some((application, answer)) = answers.next().await {
            match answer {
                Ok(listed) => {
                    let listed = self.decoded(Scope::Application(Arc::clone(&application)), listed);
                    names.extend(listed.iter().cloned());
                    let selected = listed.into_iter();
                    let selected = selected.filter(|name| cluster.services.selects(name));
                    services.extend(selected.map(|name| (Arc::clone(&application), name)));
                }
                // It was deleted since it was listed, with all its services.
                Err(error) if error.is_gone() => {}
                Err(error) => self.unread(Scope::Application(application), error),
            }
        }
        if self.errors.is_empty() && self.skipped == 0 {
            self.selection = Some(selection(cluster, &applications, &names));
        }
        services.sort_unstable();
        self.excess += services.len().saturating_sub(MAX_PARTITIONS);
        services.truncate(MAX_PARTITIONS);
        self.partitions_of(gateway, services, shard).await;
    }

    async fn partitions_of(
        &mut self,
        gateway: &Arc<impl Source>,
        services: Vec<(Name, Name)>,
        shard: Shard,
    ) {
        let questions = services.into_iter().map(|(application, service)| {
            let gateway = Arc::clone(gateway);
            async move {
                let partitions = gateway.partitions(&service).await;
                (application, service, partitions)
            }
        });
        // In order: when there are too many, the same ones are left out each time.
        let mut answers = stream::iter(questions).buffered(AT_ONCE);
        while let Some((application, service, answer)) = answers.next().await {
            match answer {
                Ok(partitions) => {
                    let partitions = self.decoded(Scope::Service(Arc::clone(&service)), partitions);
                    self.list(&application, &service, partitions, shard);
                }
                // A service stays listed while it is being deleted.
                Err(error) if error.is_gone() => {}
                Err(error) => self.unread(Scope::Service(service), error),
            }
        }
    }

    /// Takes the partitions of a service in, up to the most that one cluster may have.
    fn list(
        &mut self,
        application: &Name,
        service: &Name,
        partitions: Vec<ListedPartition>,
        shard: Shard,
    ) {
        for ListedPartition {
            id,
            kind,
            data_loss_time,
        } in partitions
        {
            if !shard.owns(id) {
                continue;
            }
            if self.inventory.listed.len() >= MAX_PARTITIONS {
                self.excess += 1;
                continue;
            }
            self.inventory.listed.push(Partition {
                id,
                application: Some(Arc::clone(application)),
                service: Some(Arc::clone(service)),
                kind: Some(kind),
                data_loss: data_loss_time,
            });
        }
    }

    /// Looks the names of configured partitions up. One that does not exist is not listed; one
    /// whose name cannot be read is, without it.
    async fn look_up(&mut self, gateway: &Arc<impl Source>, ids: Vec<PartitionId>) {
        let questions = ids.into_iter().map(|id| {
            let gateway = Arc::clone(gateway);
            async move { (id, gateway.service_name(id).await) }
        });
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        let mut found = Vec::new();
        let mut selection = Selection::default();
        while let Some((id, answer)) = answers.next().await {
            match answer {
                Ok(service) => found.push((id, Some(service))),
                Err(error) if error.is_gone() => {
                    selection.unmatched.insert(Unmatched::Partition(id));
                }
                Err(error) => {
                    self.errors.push(error);
                    found.push((id, None));
                }
            }
        }
        let were_all_read = self.errors.is_empty();
        let services = found.iter().filter_map(|(_, service)| service.clone());
        let Applications { names, gone } = self.applications_of(gateway, services.collect()).await;
        for (id, service) in found {
            if service.as_ref().is_some_and(|name| gone.contains(name)) {
                selection.unmatched.insert(Unmatched::Partition(id));
                continue;
            }
            self.inventory.listed.push(Partition {
                id,
                application: service.as_ref().and_then(|name| names.get(name).cloned()),
                service,
                kind: None,
                data_loss: None,
            });
        }
        self.selection = were_all_read.then_some(selection);
    }

    async fn applications_of(
        &mut self,
        gateway: &Arc<impl Source>,
        services: BTreeSet<Name>,
    ) -> Applications {
        let questions = services.into_iter().map(|service| {
            let gateway = Arc::clone(gateway);
            async move {
                let application = gateway.application_name(&service).await;
                (service, application)
            }
        });
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        let mut applications = Applications::default();
        while let Some((service, answer)) = answers.next().await {
            match answer {
                Ok(application) => drop(applications.names.insert(service, application)),
                Err(error) if error.is_gone() => drop(applications.gone.insert(service)),
                Err(error) => self.errors.push(error),
            }
        }
        applications
    }

    /// The items of a list. Where some could not be decoded, `scope` was not read completely.
    fn decoded<T>(&mut self, scope: Scope, listed: Listed<T>) -> Vec<T> {
        if listed.skipped > 0 {
            self.skipped += listed.skipped;
            self.inventory.unread.push(scope);
        }
        listed.items
    }

    fn unread(&mut self, scope: Scope, error: Error) {
        self.inventory.unread.push(scope);
        self.errors.push(error);
    }
}

/// How the selectors of `cluster` fit all of its `applications`, and all `services` of the
/// selected ones. Shards do not matter here: a shard may own no partition of a selected service.
fn selection(cluster: &Cluster, applications: &[Name], services: &[Name]) -> Selection {
    let selects_application = |name: &Name| cluster.applications.selects(name);
    let selects_service = |name: &Name| cluster.services.selects(name);
    let mut unmatched = cluster.applications.unmatched(APPLICATIONS, applications);
    let empty = if applications.is_empty() {
        Some(EmptySelection::NoApplications)
    } else if !applications.iter().any(selects_application) {
        Some(EmptySelection::NoApplicationSelected)
    } else {
        unmatched.extend(cluster.services.unmatched(SERVICES, services));
        match services {
            [] => Some(EmptySelection::NoServices),
            _ if services.iter().any(selects_service) => None,
            _ => Some(EmptySelection::NoServiceSelected),
        }
    };
    Selection { unmatched, empty }
}
