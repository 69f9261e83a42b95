//! Encodes one cluster in the background, whenever its snapshot changes or time changes a verdict.
//!
//! No scrape waits for an encoding: until it is complete, the previous one stays published. After a
//! panic of the encoder nothing is published until an encoding succeeds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::error::RecvError;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info};

use crate::clock::Clock;
use crate::cluster_view::{ClusterView, ViewSettings};
use crate::exposition::EncodedCluster;
use crate::logging::chain;
use crate::snapshot::Snapshot;

/// Time between the starts of two encodings of the same snapshot. In an outage, the data of each
/// partition becomes stale at a moment of its own.
const SAME_SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);

/// After an encoding, the publisher pauses for as long as the encoding took, but at most this long.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// How often the wall clock is read: it may be set, and stands still while the machine sleeps.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Time from a failed encoding to the next one of the same snapshot.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The latest encoding; `None` before the first one and after a failed one.
pub(super) type Published = Option<Arc<EncodedCluster>>;

#[derive(Debug)]
pub(super) struct Publisher<E> {
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) settings: watch::Receiver<ViewSettings>,
    pub(super) published: watch::Sender<Published>,
    pub(super) clock: Clock,
    /// Limits how many clusters are encoded at a time, and with it the memory.
    pub(super) permits: Arc<Semaphore>,
    /// [`EncodedCluster::encode`] outside tests.
    pub(super) encode: E,
}

impl<E> Publisher<E>
where
    E: Fn(ClusterView, Option<&EncodedCluster>) -> EncodedCluster + Clone + Send + 'static,
{
    /// Publishes until the poller or the fleet drops the cluster.
    pub(super) async fn run(mut self) {
        let mut is_failing = false;
        loop {
            let started = Instant::now();
            self.publish(&mut is_failing).await;
            sleep(started.elapsed().min(MAX_PAUSE)).await;
            if self.changed(started).await.is_err() {
                return;
            }
        }
    }

    async fn publish(&mut self, is_failing: &mut bool) {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        let settings = *self.settings.borrow_and_update();
        let previous = self.published.borrow().clone();
        let cluster = Arc::clone(&snapshot.cluster);
        let (encode, clock) = (self.encode.clone(), self.clock);
        let encoding = spawn_blocking(move || {
            let view = ClusterView::new(snapshot, settings, clock());
            let encoded = encode(view, previous.as_deref());
            drop(permit);
            Arc::new(encoded)
        });
        match encoding.await {
            Ok(encoded) => {
                if std::mem::take(is_failing) {
                    info!(%cluster, "Cluster {cluster}: encoding the metrics succeeded again.");
                }
                self.published.send_replace(Some(encoded));
            }
            Err(panic) => {
                if !std::mem::replace(is_failing, true) {
                    let panic = chain(&panic);
                    error!(%cluster, "Cluster {cluster}: encoding the metrics failed: {panic}.");
                }
                self.published.send_replace(None);
            }
        }
    }

    /// Waits until there is a reason for another encoding after the one that began at `started`.
    async fn changed(&mut self, started: Instant) -> Result<(), RecvError> {
        loop {
            let wake = match self.due(started) {
                Some(due) if due <= Instant::now() => return Ok(()),
                Some(due) => due,
                None => Instant::now() + self.until_invalid().min(CLOCK_INTERVAL),
            };
            tokio::select! {
                changed = self.snapshots.changed() => return changed,
                changed = self.settings.changed() => return changed,
                () = sleep_until(wake) => {}
            }
        }
    }

    /// When to encode the same snapshot again; `None` while the published view is valid.
    fn due(&self, started: Instant) -> Option<Instant> {
        match &*self.published.borrow() {
            None => Some(started + RETRY_INTERVAL),
            Some(encoded) if encoded.view.is_valid_at((self.clock)()) => None,
            Some(_) => Some(started + SAME_SNAPSHOT_INTERVAL),
        }
    }

    fn until_invalid(&self) -> Duration {
        let published = self.published.borrow();
        let valid_until = published.as_ref().and_then(|it| it.view.valid_until());
        let remaining = valid_until.map(|until| until - (self.clock)());
        remaining.map_or(Duration::MAX, |it| it.to_std().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
