//! Reads the inventory: discovered from the applications, or looked up by configured ids.
//!
//! It names the scopes that could not be read, in which the snapshot keeps the known partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::ClusterApi;
use super::cluster_api::ask_each;
use crate::gateway::Error;
use crate::inventory::{
    EmptySelection, Inventory, MAX_PARTITIONS, Selection, Shard, TopologyScope, Unmatched,
};
use crate::model::{DecodedList, ListedPartition, Name, Partition, PartitionId};
use crate::settings::{APPLICATIONS, Cluster, SERVICES};

/// Number of calls that wait for the gateway, which limits the number in flight.
const AT_ONCE: usize = 64;

/// The inventory and what is missing from it.
#[derive(Debug, Default)]
pub(super) struct Topology {
    pub(super) inventory: Inventory,
    /// The services that the selectors match; `None` unless every name they apply to was read.
    pub(super) selection: Option<Selection>,
    pub(super) errors: Vec<Error>,
    /// Number of items that could not be decoded.
    pub(super) skipped: usize,
    /// Number of partitions beyond [`MAX_PARTITIONS`], which are ignored.
    pub(super) excess: usize,
}

impl Topology {
    /// Whether everything was read and included.
    pub(super) fn is_complete(&self) -> bool {
        self.errors.is_empty() && self.excess == 0
    }
}

/// The applications of some services.
#[derive(Debug, Default)]
struct Applications {
    /// Application of each service.
    names: BTreeMap<Name, Name>,
    /// Deleted services.
    gone: BTreeSet<Name>,
}

/// Reads the part of `cluster` that belongs to this shard.
pub(super) async fn read(
    gateway: &Arc<impl ClusterApi>,
    cluster: &Cluster,
    shard: Shard,
) -> Topology {
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
    /// Reads applications, their services, and the partitions of those.
    async fn discover(&mut self, gateway: &Arc<impl ClusterApi>, cluster: &Cluster, shard: Shard) {
        let applications = match gateway.applications().await {
            Ok(applications) => self.decoded(TopologyScope::Cluster, applications),
            Err(error) => return self.unread(TopologyScope::Cluster, error),
        };
        let selected = applications.iter();
        let selected = selected.filter(|name| cluster.applications.selects(name));
        let selected = selected.cloned().collect();
        let calls = ask_each(gateway, selected, |gateway, name| async move {
            gateway.persisted_services(&name).await
        });
        let mut answers = stream::iter(calls).buffer_unordered(AT_ONCE);
        let mut names = Vec::new();
        let mut services = Vec::new();
        while let Some((application, answer)) = answers.next().await {
            match answer {
                Ok(listed) => {
                    let listed =
                        self.decoded(TopologyScope::Application(Arc::clone(&application)), listed);
                    names.extend(listed.iter().cloned());
                    let selected = listed.into_iter();
                    let selected = selected.filter(|name| cluster.services.selects(name));
                    services.extend(selected.map(|name| (Arc::clone(&application), name)));
                }
                // The application was deleted after it was listed.
                Err(error) if error.is_gone() => {}
                Err(error) => self.unread(TopologyScope::Application(application), error),
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
        gateway: &Arc<impl ClusterApi>,
        services: Vec<(Name, Name)>,
        shard: Shard,
    ) {
        let calls = ask_each(gateway, services, |gateway, (_, service)| async move {
            gateway.partitions(&service).await
        });
        // In order: the same partitions exceed the limit in every cycle.
        let mut answers = stream::iter(calls).buffered(AT_ONCE);
        while let Some(((application, service), answer)) = answers.next().await {
            match answer {
                Ok(partitions) => {
                    let partitions =
                        self.decoded(TopologyScope::Service(Arc::clone(&service)), partitions);
                    self.list(&application, &service, partitions, shard);
                }
                // A service stays listed while it is being deleted.
                Err(error) if error.is_gone() => {}
                Err(error) => self.unread(TopologyScope::Service(service), error),
            }
        }
    }

    /// Adds the partitions of a service, up to [`MAX_PARTITIONS`].
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
                data_loss_time,
            });
        }
    }

    /// Looks up the names of configured partitions. A partition that does not exist is left out; one
    /// whose name cannot be read is listed without it.
    async fn look_up(&mut self, gateway: &Arc<impl ClusterApi>, ids: Vec<PartitionId>) {
        let calls = ask_each(gateway, ids, |gateway, id| async move {
            gateway.service_name(id).await
        });
        let mut answers = stream::iter(calls).buffer_unordered(AT_ONCE);
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
                data_loss_time: None,
            });
        }
        self.selection = were_all_read.then_some(selection);
    }

    async fn applications_of(
        &mut self,
        gateway: &Arc<impl ClusterApi>,
        services: BTreeSet<Name>,
    ) -> Applications {
        let calls = ask_each(
            gateway,
            services.into_iter().collect(),
            |gateway, service| async move { gateway.application_name(&service).await },
        );
        let mut answers = stream::iter(calls).buffer_unordered(AT_ONCE);
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

    /// The items of a list. If some could not be decoded, `scope` counts as not read.
    fn decoded<T>(&mut self, scope: TopologyScope, listed: DecodedList<T>) -> Vec<T> {
        if listed.skipped > 0 {
            self.skipped += listed.skipped;
            self.inventory.unread.push(scope);
        }
        listed.items
    }

    fn unread(&mut self, scope: TopologyScope, error: Error) {
        self.inventory.unread.push(scope);
        self.errors.push(error);
    }
}

/// Compares the selectors of `cluster` with all of its `applications`, and with all `services` of
/// the selected ones, whether or not this shard owns partitions of them.
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
