//! The clusters that are watched now: a poller and a publisher each.
//!
//! Starts and replaces both; independent of HTTP. A new configuration is applied as a whole or not
//! at all. A cluster with unchanged settings keeps its poller, with the cycle in progress; a cluster
//! that keeps its name keeps its snapshot and its counters.

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
use crate::settings::{Cluster, Config, FabricIdentity, FabricIdentityError};
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// The rules for the verdicts on the partitions of `cluster`.
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

/// Saturates; the configuration rejects durations that do not fit.
fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// Clusters that cannot be watched as configured, each with the reason.
#[derive(Debug)]
pub struct Unwatchable(Vec<(Arc<str>, BuildError)>);

impl std::error::Error for Unwatchable {}

impl fmt::Display for Unwatchable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (cluster, fault)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}cluster {cluster}: {}", chain(fault))?;
        }
        Ok(())
    }
}

/// The managed identity that Service Fabric assigned to this process, or why it is unusable.
pub type Identity = Result<FabricIdentity, FabricIdentityError>;

/// Checks whether the clusters of `config` can be watched, including all files that they name but
/// without a connection. Returns warnings about a usable configuration.
///
/// # Errors
///
/// If one cannot; lists all errors.
pub fn check(config: &Config, identity: Option<&Identity>) -> Result<Vec<String>, Unwatchable> {
    let telemetry = Arc::default();
    let gateways = config.clusters.iter().map(|cluster| {
        let gateway = Gateway::new(options(config, cluster, identity), Arc::clone(&telemetry));
        gateway.map_err(|fault| (Arc::clone(&cluster.name), fault))
    });
    let gateways = all(gateways.collect())?;
    Ok(warnings(config, &gateways).collect())
}

/// A client for each cluster, in their order. After a timeout of a file read, the other clusters are
/// skipped: their files may be on the same disk, and the caller waits.
async fn open(
    config: &Config,
    telemetry: &Arc<Telemetry>,
    identity: Option<&Identity>,
) -> Result<Vec<Gateway>, Unwatchable> {
    let mut gateways = Vec::new();
    for cluster in &config.clusters {
        let options = options(config, cluster, identity);
        let gateway = Gateway::open(options, Arc::clone(telemetry)).await;
        let late = matches!(gateway, Err(BuildError::ReadTimeout(_)));
        gateways.push(gateway.map_err(|fault| (Arc::clone(&cluster.name), fault)));
        if late {
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
) -> Result<Vec<Gateway>, Unwatchable> {
    let (mut good, mut faults) = (Vec::new(), Vec::new());
    for gateway in gateways {
        match gateway {
            Ok(gateway) => good.push(gateway),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        Ok(good)
    } else {
        Err(Unwatchable(faults))
    }
}

fn warnings<'a>(
    config: &'a Config,
    gateways: &'a [Gateway],
) -> impl Iterator<Item = String> + use<'a> {
    let clusters = config.clusters.iter().zip(gateways);
    let of_gateways = clusters.flat_map(|(cluster, gateway)| {
        let warnings = gateway.warnings().into_iter();
        warnings.map(|warning| format!("Cluster {}: {warning}", cluster.name))
    });
    config.warnings().into_iter().chain(of_gateways)
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
    /// A fleet without clusters. `fabric_identity` is the managed identity of the process, if any.
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

    /// The shard of the partitions that the fleet watches.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// The watched clusters; changes with each reload.
    pub fn subscribe(&self) -> watch::Receiver<Arc<[Watched]>> {
        self.watched.subscribe()
    }

    /// The latest snapshot of every cluster.
    pub fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.watched
            .borrow()
            .iter()
            .map(Watched::snapshot)
            .collect()
    }

    /// Watches the clusters of `config` instead of the current ones. A cluster that keeps its name
    /// keeps its snapshot, merged with a `remembered` one.
    ///
    /// # Errors
    ///
    /// If a client cannot be built; the fleet is then unchanged.
    pub async fn watch(
        &mut self,
        config: &Config,
        mut remembered: BTreeMap<Arc<str>, Snapshot>,
    ) -> Result<(), Unwatchable> {
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
        let (encoded_sender, encoded_receiver) = watch::channel(encoded);
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
                published: encoded_receiver,
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

    /// Resolves when a poller or a publisher panics.
    pub async fn broken(&mut self) -> JoinError {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) if error.is_panic() => return error,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Stops all pollers and publishers; their snapshots and encodings stay.
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}
