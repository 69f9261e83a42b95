//! The clusters that are watched now: one poller and one published snapshot each.
//!
//! Starts and replaces pollers; knows nothing of HTTP. A new configuration is taken over as a whole
//! or not at all. A cluster whose settings stay the same keeps its poller, with the cycle in
//! progress; a cluster that keeps its name keeps its snapshot and its counters.

mod running;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::warn;

use self::running::Running;
pub use self::running::Watched;
use crate::clock;
use crate::gateway::{BuildError, Gateway, Options};
use crate::inventory::Shard;
use crate::logging::chain;
use crate::poller::Poller;
use crate::protection::Rules;
use crate::settings::{Cluster, Config};
use crate::settings::{FabricIdentity, FabricIdentityError};
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// The rules by which the partitions of `cluster` are judged.
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

/// The configuration admits no duration that would not fit.
fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// Clusters that cannot be watched as they are configured, each with the reason.
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

/// The identity that Service Fabric gave this process, or why it cannot be used.
pub type Identity = Result<FabricIdentity, FabricIdentityError>;

/// Looks whether the clusters of `config` could be watched, with all files that they name but
/// without a connection. Tells what somebody should know though they can.
///
/// # Errors
///
/// When one cannot; every fault is told.
pub fn check(config: &Config, identity: Option<&Identity>) -> Result<Vec<String>, Unwatchable> {
    let telemetry = Arc::default();
    let gateways = config.clusters.iter().map(|cluster| {
        let gateway = Gateway::new(options(config, cluster, identity), Arc::clone(&telemetry));
        gateway.map_err(|fault| (Arc::clone(&cluster.name), fault))
    });
    let gateways = all(gateways.collect())?;
    Ok(warnings(config, &gateways).collect())
}

/// A client for each cluster, in their order. After one whose files do not come in time the others
/// are not looked at: they may lie in the same place, and somebody waits.
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

/// All gateways, or all faults.
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
    pollers: JoinSet<()>,
    running: Vec<Running>,
    watched: watch::Sender<Arc<[Watched]>>,
}

impl Fleet {
    /// A fleet without clusters, of a process that Service Fabric may have given an identity.
    pub fn new(telemetry: Arc<Telemetry>, shard: Shard, fabric_identity: Option<Identity>) -> Self {
        Self {
            telemetry,
            shard,
            fabric_identity,
            pollers: JoinSet::new(),
            running: Vec::new(),
            watched: watch::Sender::new(Arc::from([])),
        }
    }

    /// The part of the partitions that it watches.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// The clusters, as they are replaced.
    pub fn subscribe(&self) -> watch::Receiver<Arc<[Watched]>> {
        self.watched.subscribe()
    }

    /// What is known of every cluster now.
    pub fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.watched
            .borrow()
            .iter()
            .map(Watched::snapshot)
            .collect()
    }

    /// Watches the clusters of `config` instead of those before. A snapshot stays with the name of
    /// its cluster; what is `remembered` of that is added.
    ///
    /// # Errors
    ///
    /// When a client cannot be built; the fleet is then as it was.
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
                    same.judged_by(rules(config, cluster), config.metrics.states)
                }
                Some(other) => {
                    let fast = other.started.elapsed() > config.poll.interval && !other.is_warm();
                    let known = other.end().await;
                    let snapshot = match remembered {
                        Some(remembered) => Arc::new(known.recalling(&remembered, clock::now())),
                        None => known,
                    };
                    self.start(config, cluster, gateway, snapshot, fast)
                }
                None => {
                    let empty = || Snapshot::empty(Arc::clone(&cluster.name));
                    let snapshot = Arc::new(remembered.unwrap_or_else(empty));
                    self.start(config, cluster, gateway, snapshot, true)
                }
            };
            running.push(one);
        }
        for (name, gone) in before {
            gone.end().await;
            self.telemetry.forget_cluster(&name);
        }
        let watched = running.iter().map(|one| one.watched.clone());
        self.watched.send_replace(watched.collect());
        self.running = running;
        Ok(())
    }

    /// Starts a poller, whose first cycle runs as fast as it can or at the pace of all others.
    fn start(
        &mut self,
        config: &Config,
        cluster: &Cluster,
        gateway: Gateway,
        snapshot: Arc<Snapshot>,
        fast: bool,
    ) -> Running {
        let (cluster, gateway) = (Arc::new(cluster.clone()), Arc::new(gateway));
        let (published, snapshots) = watch::channel(snapshot);
        let poller = Poller::new(
            Arc::clone(&cluster),
            config.poll,
            self.shard,
            Arc::clone(&gateway),
            clock::now,
            Arc::clone(&self.telemetry),
            published,
        );
        let poller = if fast {
            poller
        } else {
            poller.replacing_another()
        };
        Running {
            watched: Watched {
                snapshots,
                rules: rules(config, &cluster),
                states: config.metrics.states,
            },
            poll: config.poll,
            cluster,
            gateway,
            poller: self.pollers.spawn(poller.run()),
            started: Instant::now(),
        }
    }

    /// Resolves when a poller has ended, which none does unasked: it has panicked.
    pub async fn broken(&mut self) -> JoinError {
        loop {
            match self.pollers.join_next().await {
                Some(Err(error)) if error.is_panic() => return error,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Stops all pollers; their snapshots stay.
    pub async fn stop(&mut self) {
        self.pollers.shutdown().await;
    }
}
