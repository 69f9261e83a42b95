//! When and how much: the only loop over a cluster.
//!
//! Decides when a cycle starts, which requests it makes, and when what they found is published;
//! what it means is decided by the snapshot. Cycles never overlap, and a request that fails costs
//! nothing but its own answer.

mod tally;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tokio::time::{Instant, interval_at, sleep_until};
use tracing::warn;

use self::tally::Tally;
use crate::clock;
use crate::config::{Cluster, Poll};
use crate::gateway::{Error, Gateway, Reason};
use crate::inventory::{MAX_PARTITIONS, Shard};
use crate::model::PartitionId;
use crate::snapshot::{ClusterReading, Collector, Observations, Reading, Snapshot};
use crate::telemetry::Telemetry;

/// Part of the interval over which a cycle spreads its starts; the rest is for what is slow.
const SPREAD: f64 = 0.8;

/// A reading of one partition, with the moment of its answer.
type ProgressReading = (PartitionId, DateTime<Utc>, Reading);

/// Polls one cluster for as long as it runs.
#[derive(Debug)]
pub struct Poller {
    cluster: Arc<Cluster>,
    poll: Poll,
    shard: Shard,
    gateway: Arc<Gateway>,
    telemetry: Arc<Telemetry>,
    published: watch::Sender<Arc<Snapshot>>,
}

impl Poller {
    /// A poller of `cluster`, which moves the snapshot in `published` on.
    pub fn new(
        cluster: Arc<Cluster>,
        poll: Poll,
        shard: Shard,
        gateway: Gateway,
        telemetry: Arc<Telemetry>,
        published: watch::Sender<Arc<Snapshot>>,
    ) -> Self {
        telemetry.watch_cluster(&cluster.name, &Reason::ALL.map(Reason::as_str));
        Self {
            cluster,
            poll,
            shard,
            gateway: Arc::new(gateway),
            telemetry,
            published,
        }
    }

    /// Runs cycles without end. The first starts at once and goes as fast as the concurrency
    /// allows; later ones start an interval after the one before, or at once when that one took
    /// longer, and spread their requests. It stops when the future is dropped.
    pub async fn run(self) {
        let mut start = Instant::now();
        let mut spread = Duration::ZERO;
        loop {
            sleep_until(start).await;
            self.cycle(spread).await;
            start = next_start(start, Instant::now(), self.poll.interval);
            spread = self.poll.interval.mul_f64(SPREAD);
        }
    }

    /// One cycle: the topology, then the progress of every partition, started over `spread`.
    pub async fn cycle(&self, spread: Duration) {
        let started = Instant::now();
        self.gateway.begin_cycle();
        let mut tally = Tally::default();
        let (version, topology) = tokio::join!(
            self.gateway.cluster_version(),
            topology::read(&self.gateway, &self.cluster, self.shard)
        );
        for error in &topology.errors {
            self.record(Collector::Inventory, error, &mut tally);
        }
        if topology.excess > 0 {
            self.refuse(topology.excess);
        }
        let complete = topology.is_complete();
        let inventory_run = (Collector::Inventory, complete, started.elapsed());
        if let Err(error) = &version {
            self.record(Collector::Inventory, error, &mut tally);
        }
        self.publish(Observations {
            inventory: Some(topology.inventory),
            ..Observations::default()
        });
        let progress_started = Instant::now();
        let (progress, success) = self.progress(spread, &mut tally).await;
        let progress_run = (Collector::Progress, success, progress_started.elapsed());
        self.publish(Observations {
            inventory: None,
            progress,
            cluster: Some(ClusterReading {
                up: self.gateway.native_access(),
                service_up: self.gateway.backup_service(),
                version: version.ok(),
                clock_skew: self.gateway.clock_skew(),
                runs: vec![inventory_run, progress_run],
            }),
        });
        tally.log(&self.cluster.name, started.elapsed());
    }

    /// Reads the progress of every known partition. Returns what was not yet published, and
    /// whether every reading succeeded. A cycle that takes long publishes once an interval, so
    /// that a slow gateway does not make fresh readings wait until they are stale.
    async fn progress(&self, spread: Duration, tally: &mut Tally) -> (Vec<ProgressReading>, bool) {
        let ids: Vec<PartitionId> = self.published.borrow().partitions.keys().copied().collect();
        let mut answers = std::pin::pin!(self.answers(ids, spread));
        let mut overdue = interval_at(Instant::now() + self.poll.interval, self.poll.interval);
        let mut progress = Vec::new();
        let mut success = true;
        loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Some((id, Ok(reading))) => {
                        tally.succeed();
                        progress.push((id, clock::now(), reading));
                    }
                    Some((_, Err(error))) => {
                        success = false;
                        self.record(Collector::Progress, &error, tally);
                    }
                    None => return (progress, success),
                },
                _ = overdue.tick() => self.publish(Observations {
                    progress: std::mem::take(&mut progress),
                    ..Observations::default()
                }),
            }
        }
    }

    /// Asks for the progress of `ids`, the starts spread evenly and in order.
    fn answers(
        &self,
        ids: Vec<PartitionId>,
        spread: Duration,
    ) -> impl Stream<Item = (PartitionId, Result<Reading, Error>)> + use<> {
        let started = Instant::now();
        let step = spread.checked_div(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        let step = step.unwrap_or_default();
        let gateway = Arc::clone(&self.gateway);
        stream::iter((0..).zip(ids))
            .map(move |(number, id)| {
                let gateway = Arc::clone(&gateway);
                async move {
                    if !step.is_zero() {
                        sleep_until(started + step * number).await;
                    }
                    (id, read(&gateway, id).await)
                }
            })
            .buffer_unordered(self.poll.concurrency)
    }

    fn publish(&self, observations: Observations) {
        self.published.send_modify(|snapshot| {
            *snapshot = Arc::new(snapshot.advance(observations, clock::now()));
        });
    }

    /// Counts and tells that the cluster has more partitions than one exporter watches.
    fn refuse(&self, excess: usize) {
        let (cluster, reason) = (&self.cluster.name, Reason::TooLarge.as_str());
        self.telemetry
            .record_error(cluster, Collector::Inventory, reason);
        warn!(
            %cluster,
            excess,
            "Cluster {cluster} has {excess} partitions more than the {MAX_PARTITIONS} that one \
             exporter watches: share them between several with --shard and --total-shards, or \
             select fewer applications."
        );
    }

    /// Counts a request that failed for good; one that was not even sent is no request.
    fn record(&self, collector: Collector, error: &Error, tally: &mut Tally) {
        tally.fail(error);
        if error.was_sent() {
            let reason = error.reason().as_str();
            self.telemetry
                .record_error(&self.cluster.name, collector, reason);
        }
    }
}

async fn read(gateway: &Gateway, id: PartitionId) -> Result<Reading, Error> {
    match gateway.backup_progress(id).await {
        Ok(progress) => Ok(Reading::Record(progress)),
        Err(error) if error.is_partition_not_found() => Ok(Reading::NotFound),
        Err(error) => Err(error),
    }
}

/// When the cycle after one that started at `started` and ended at `ended` starts.
fn next_start(started: Instant, ended: Instant, interval: Duration) -> Instant {
    ended.max(started + interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_start_an_interval_apart_and_never_pile_up() {
        let interval = Duration::from_secs(60);
        let started = Instant::now();
        let after = |seconds| started + Duration::from_secs(seconds);
        assert_eq!(next_start(started, after(5), interval), after(60));
        assert_eq!(next_start(started, after(60), interval), after(60));
        assert_eq!(next_start(started, after(200), interval), after(200));
    }
}
