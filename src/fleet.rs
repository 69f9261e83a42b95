//! The monitored clusters: a poller and a publisher each.
//!
//! Starts and replaces pollers. A new configuration is applied completely or not at all. A cluster with
//! unchanged settings keeps its poller and the current cycle; a cluster with the same name keeps its
//! snapshot and counters.

mod publisher;
mod running;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::warn;

use self::publisher::{Published, Publisher};
use self::running::Running;
pub use self::running::Watched;
use crate::clock;
use crate::cluster_view::ViewSettings;
use crate::exposition::EncodedCluster;
use crate::gateway::{BuildError, Gateway, Options};
use crate::inventory::Shard;
use crate::logging::chain;
use crate::poller::Poller;
use crate::protection::Rules;
use crate::settings::{Cluster, Config};
use crate::settings::{FabricIdentity, FabricIdentityError};
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// The rules for the protection state of partitions of `cluster`.
pub fn rules(config: &Config, cluster: &Cluster) -> Rules {
    Rules {
        staleness: delta(config.poll.staleness),
        list_staleness: delta(config.poll.backups_interval.saturating_mul(2)),
        overdue_allowance: delta(config.protection.overdue_allowance),
        run_tolerance: delta(config.protection.run_tolerance),
        stuck_after: delta(config.protection.stuck_after),
        expected_interval: cluster.expected_interval.map(delta),
        reads_configuration: cluster.collectors.configuration,
        reads_lists: cluster.collectors.backups || cluster.collectors.history,
    }
}

fn view_settings(config: &Config, cluster: &Cluster) -> ViewSettings {
    ViewSettings {
        rules: rules(config, cluster),
        states: config.metrics.states,
    }
}

/// Configured durations are at most a year, so this does not saturate.
fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// Clusters whose client cannot be created, with the errors.
#[derive(Debug)]
pub struct ClusterErrors(Vec<(Arc<str>, BuildError)>);

impl std::error::Error for ClusterErrors {}

impl fmt::Display for ClusterErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (cluster, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}cluster {cluster}: {}", chain(error))?;
        }
        Ok(())
    }
}

/// The managed identity that Service Fabric provides, or why it is invalid.
pub type Identity = Result<FabricIdentity, FabricIdentityError>;

/// Checks that a client can be created for each cluster of `config`. Reads the configured files, but opens
/// no connection. Returns warnings.
///
/// # Errors
///
/// The errors of all clusters.
pub fn check(config: &Config, identity: Option<&Identity>) -> Result<Vec<String>, ClusterErrors> {
    let telemetry = Arc::default();
    let gateways = config.clusters.iter().map(|cluster| {
        let gateway = Gateway::new(options(config, cluster, identity), Arc::clone(&telemetry));
        gateway.map_err(|error| (Arc::clone(&cluster.name), error))
    });
    let gateways = all(gateways.collect())?;
    Ok(warnings(config, &gateways).collect())
}

/// Creates the clients in the order of the clusters. Stops after a timeout of reading files, because other
/// files may be in the same place and a reload request waits.
async fn open(
    config: &Config,
    telemetry: &Arc<Telemetry>,
    identity: Option<&Identity>,
) -> Result<Vec<Gateway>, ClusterErrors> {
    let mut gateways = Vec::new();
    for cluster in &config.clusters {
        let options = options(config, cluster, identity);
        let gateway = Gateway::open(options, Arc::clone(telemetry)).await;
        let timed_out = matches!(gateway, Err(BuildError::ReadTimeout(_)));
        gateways.push(gateway.map_err(|error| (Arc::clone(&cluster.name), error)));
        if timed_out {
            break;
        }
    }
    all(gateways)
}

fn options(config: &Config, cluster: &Cluster, identity: Option<&Identity>) -> Options {
    Options {
        cluster: Arc::clone(&cluster.name),
        endpoints: cluster.endpoints.clone(),
        timeout: config.poll.timeout,
        concurrency: config.poll.concurrency,
        security: cluster.security.clone(),
        fabric_identity: identity.cloned(),
    }
}

/// All gateways, or all errors.
fn all(
    gateways: Vec<Result<Gateway, (Arc<str>, BuildError)>>,
) -> Result<Vec<Gateway>, ClusterErrors> {
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    for gateway in gateways {
        match gateway {
            Ok(gateway) => good.push(gateway),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(good)
    } else {
        Err(ClusterErrors(errors))
    }
}

fn warnings<'a>(
    config: &'a Config,
    gateways: &'a [Gateway],
) -> impl Iterator<Item = String> + use<'a> {
    let clusters = config.clusters.iter().zip(gateways);
    let gateway_warnings = clusters.flat_map(|(cluster, gateway)| {
        let warnings = gateway.warnings().into_iter();
        warnings.map(|warning| format!("Cluster {}: {warning}", cluster.name))
    });
    config.warnings().into_iter().chain(gateway_warnings)
}

/// The pollers of all configured clusters.
#[derive(Debug)]
pub struct Fleet {
    telemetry: Arc<Telemetry>,
    shard: Shard,
    fabric_identity: Option<Identity>,
    /// A poller and a publisher per cluster.
    tasks: JoinSet<()>,
    encoding_permits: Arc<Semaphore>,
    running: Vec<Running>,
    watched: watch::Sender<Arc<[Watched]>>,
}

impl Fleet {
    /// A fleet without clusters.
    pub fn new(telemetry: Arc<Telemetry>, shard: Shard, fabric_identity: Option<Identity>) -> Self {
        Self {
            telemetry,
            shard,
            fabric_identity,
            tasks: JoinSet::new(),
            encoding_permits: Arc::new(Semaphore::new(1)),
            running: Vec::new(),
            watched: watch::Sender::new(Arc::from([])),
        }
    }

    /// The shard that it monitors.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// The monitored clusters, updated by each reload.
    pub fn subscribe(&self) -> watch::Receiver<Arc<[Watched]>> {
        self.watched.subscribe()
    }

    /// The current snapshots of all clusters.
    pub fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.watched
            .borrow()
            .iter()
            .map(Watched::snapshot)
            .collect()
    }

    /// Replaces the monitored clusters by those of `config`. Clusters with the same name keep their
    /// snapshot, merged with that in `remembered`.
    ///
    /// # Errors
    ///
    /// If a client cannot be created; the fleet is then unchanged.
    pub async fn watch(
        &mut self,
        config: &Config,
        mut remembered: BTreeMap<Arc<str>, Snapshot>,
    ) -> Result<(), ClusterErrors> {
        let gateways = open(config, &self.telemetry, self.fabric_identity.as_ref()).await?;
        for warning in warnings(config, &gateways) {
            warn!("Configuration: {warning}");
        }
        let before = self.running.drain(..);
        let mut before: BTreeMap<_, _> = before.map(|one| (one.name(), one)).collect();
        let mut running = Vec::new();
        for (cluster, gateway) in config.clusters.iter().zip(gateways) {
            let remembered = remembered.remove(&cluster.name);
            let one = match before.remove(&cluster.name) {
                Some(same) if remembered.is_none() && same.polls_like(cluster, config.poll) => {
                    same.adopt(gateway).await;
                    same.settings.send_replace(view_settings(config, cluster));
                    same
                }
                Some(other) => {
                    let fast = other.started.elapsed() > config.poll.interval && !other.is_warm();
                    let (known, encoded) = other.end().await;
                    let snapshot = match remembered {
                        Some(remembered) => Arc::new(known.merged_with(&remembered, clock::now())),
                        None => known,
                    };
                    self.start(config, cluster, gateway, (snapshot, encoded), fast)
                }
                None => {
                    let empty = || Snapshot::empty(Arc::clone(&cluster.name));
                    let snapshot = Arc::new(remembered.unwrap_or_else(empty));
                    self.start(config, cluster, gateway, (snapshot, None), true)
                }
            };
            running.push(one);
        }
        for (name, gone) in before {
            gone.end().await;
            self.telemetry.forget_cluster(&name);
        }
        self.running = running;
        // Every page then shows all clusters, by the new settings.
        for one in &self.running {
            one.published().await;
        }
        let watched = self.running.iter().map(|one| one.watched.clone());
        self.watched.send_replace(watched.collect());
        Ok(())
    }

    /// Starts a poller and a publisher. The first cycle runs as fast as the concurrency allows if
    /// `fast`. An encoding of an earlier poller is served until the first of this one.
    fn start(
        &mut self,
        config: &Config,
        cluster: &Cluster,
        gateway: Gateway,
        (snapshot, encoded): (Arc<Snapshot>, Published),
        fast: bool,
    ) -> Running {
        let (cluster, gateway) = (Arc::new(cluster.clone()), Arc::new(gateway));
        let (snapshot_sender, snapshots) = watch::channel(snapshot);
        let poller = Poller::new(
            Arc::clone(&cluster),
            config.poll,
            self.shard,
            Arc::clone(&gateway),
            clock::now,
            Arc::clone(&self.telemetry),
            snapshot_sender,
        );
        let poller = if fast {
            poller
        } else {
            poller.replacing_another()
        };
        let settings = watch::Sender::new(view_settings(config, &cluster));
        let (encoded_sender, encodings) = watch::channel(encoded);
        let publisher = Publisher {
            snapshots: snapshots.clone(),
            settings: settings.subscribe(),
            published: encoded_sender,
            clock: clock::now,
            permits: Arc::clone(&self.encoding_permits),
            encode: EncodedCluster::encode,
        };
        Running {
            watched: Watched {
                name: Arc::clone(&cluster.name),
                snapshots,
                published: encodings,
            },
            poll: config.poll,
            cluster,
            gateway,
            poller: self.tasks.spawn(poller.run()),
            publisher: self.tasks.spawn(publisher.run()),
            settings,
            started: Instant::now(),
        }
    }

    /// Waits until a poller or a publisher panics.
    pub async fn next_panic(&mut self) -> JoinError {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) if error.is_panic() => return error,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Stops all pollers and publishers; their snapshots and encodings stay available.
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}
