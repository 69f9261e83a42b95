//! One cluster of the fleet: the settings that its poller was started with, and its snapshots.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::info;

use crate::exposition::ClusterView;
use crate::gateway::Gateway;
use crate::protection::Rules;
use crate::settings::{Cluster, Poll, States};
use crate::snapshot::{PartitionSnapshot, Snapshot};

/// A cluster as the server sees it.
#[derive(Clone, Debug)]
pub struct Watched {
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) rules: Rules,
    pub(super) states: States,
}

impl Watched {
    /// What is known of it now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// The same, and how to show it.
    pub fn view(&self) -> ClusterView {
        ClusterView {
            snapshot: self.snapshot(),
            rules: self.rules,
            states: self.states,
        }
    }
}

/// A cluster with its poller.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) cluster: Arc<Cluster>,
    pub(super) poll: Poll,
    pub(super) gateway: Arc<Gateway>,
    pub(super) poller: AbortHandle,
    pub(super) started: Instant,
    pub(super) watched: Watched,
}

impl Running {
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.cluster.name)
    }

    /// Whether a poller with these settings would send the same requests. The expected interval is
    /// not among them: only verdicts depend on it.
    pub(super) fn polls_like(&self, cluster: &Cluster, poll: Poll) -> bool {
        let cluster = Cluster {
            expected_interval: self.cluster.expected_interval,
            ..cluster.clone()
        };
        self.poll == poll && *self.cluster == cluster
    }

    /// Whether it has read any partition.
    pub(super) fn is_warm(&self) -> bool {
        let snapshot = self.watched.snapshot();
        let mut partitions = snapshot.partitions.values();
        partitions.any(|known| PartitionSnapshot::read_at(known).is_some())
    }

    /// Takes over certificates and keys as `gateway`, a client with the same settings, has just read
    /// them.
    pub(super) async fn adopt(&self, gateway: Gateway) {
        if self.gateway.adopt(gateway).await {
            let cluster = &self.cluster.name;
            info!(%cluster, "Cluster {cluster}: took over new certificates or keys.");
        }
    }

    /// The same cluster with other rules for its verdicts and its page.
    pub(super) fn judged_by(mut self, rules: Rules, states: States) -> Self {
        (self.watched.rules, self.watched.states) = (rules, states);
        self
    }

    /// Stops the poller and returns the last snapshot.
    pub(super) async fn end(mut self) -> Arc<Snapshot> {
        self.poller.abort();
        // The poller has the only sender, which is dropped when it has ended.
        while self.watched.snapshots.changed().await.is_ok() {}
        self.watched.snapshot()
    }
}
