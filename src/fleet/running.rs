//! One cluster of the fleet: its settings, its poller, and its publisher.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::info;

use super::publisher::Published;
use crate::cluster_view::ViewSettings;
use crate::exposition::EncodedCluster;
use crate::gateway::Gateway;
use crate::settings::{Cluster, Poll};
use crate::snapshot::{PartitionSnapshot, Snapshot};

/// How long an encoding is served after its view became invalid. A longer delay means that the
/// encoder hangs.
const MAX_DELAY: TimeDelta = TimeDelta::minutes(1);

/// A cluster as the server sees it.
#[derive(Clone, Debug)]
pub struct Watched {
    pub(super) name: Arc<str>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) published: watch::Receiver<Published>,
}

impl Watched {
    /// The configured name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The latest snapshot. It may not be encoded yet.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// The view and the metrics that all pages show. `None` if encoding failed or has been late for
    /// more than a minute.
    pub fn encoded(&self, now: DateTime<Utc>) -> Option<Arc<EncodedCluster>> {
        let encoded = self.published.borrow().clone()?;
        let valid_until = encoded.view.valid_until();
        let is_late = valid_until.is_some_and(|until| now - until > MAX_DELAY);
        (!is_late).then_some(encoded)
    }
}

/// A cluster with its poller and its publisher.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) cluster: Arc<Cluster>,
    pub(super) poll: Poll,
    pub(super) gateway: Arc<Gateway>,
    pub(super) poller: AbortHandle,
    pub(super) publisher: AbortHandle,
    pub(super) settings: watch::Sender<ViewSettings>,
    pub(super) started: Instant,
    pub(super) watched: Watched,
}

impl Running {
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.cluster.name)
    }

    /// Whether a poller with these settings would send the same requests. The expected interval is
    /// not compared: only verdicts depend on it.
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

    /// Takes over certificates and keys that `gateway`, a client with the same settings, has just
    /// read.
    pub(super) async fn adopt(&self, gateway: Gateway) {
        if self.gateway.adopt(gateway).await {
            let cluster = &self.cluster.name;
            info!(%cluster, "Cluster {cluster}: took over new certificates or keys.");
        }
    }

    /// Waits until an encoding with the current settings is published, or has failed.
    pub(super) async fn published(&self) {
        let settings = *self.settings.borrow();
        let mut published = self.watched.published.clone();
        loop {
            let latest = published.borrow_and_update().clone();
            if latest.is_some_and(|encoded| encoded.view.settings == settings) {
                return;
            }
            let changed = published.changed().await;
            if changed.is_err() || published.borrow().is_none() {
                return;
            }
        }
    }

    /// Stops the poller and the publisher, and returns the last snapshot and encoding.
    pub(super) async fn end(mut self) -> (Arc<Snapshot>, Published) {
        self.poller.abort();
        self.publisher.abort();
        // Each has the only sender, which is dropped when the task has ended.
        while self.watched.snapshots.changed().await.is_ok() {}
        while self.watched.published.changed().await.is_ok() {}
        let encoded = self.watched.published.borrow().clone();
        (self.watched.snapshot(), encoded)
    }
}
