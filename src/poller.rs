//! When and how much: the only loops over a cluster.
//!
//! Decides when a cycle starts, which requests it makes, and when what they found is published;
//! what it means is decided by the snapshot. Cycles never overlap, and a request that fails costs
//! nothing but its own answer. Every request goes through one gateway, whose limits hold for all.

mod configuration;
mod faults;
mod lists;
mod outcome;
mod readings;
mod selection;
mod source;
mod tally;
mod topology;
mod unusable;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use self::faults::Faults;
pub use self::source::Source;
use self::tally::Tally;
use self::unusable::Unusable;
use crate::clock::Clock;
use crate::gateway::{Error, Reason, Rotation};
use crate::inventory::{MAX_PARTITIONS, Shard};
use crate::logging::chain;
use crate::model::Listed;
use crate::protection::Read;
use crate::settings::{Cluster, Poll};
use crate::snapshot::{ClusterReading, Collector, Observations, Run, Snapshot};
use crate::telemetry::Telemetry;

/// Part of the interval over which a cycle spreads its starts; the rest is for what is slow.
const SPREAD: f64 = 0.8;

/// More policies than this are refused: each has series of its own.
const MAX_POLICIES: usize = 10_000;

/// Polls one cluster for as long as it runs.
#[derive(Debug)]
pub struct Poller<S> {
    cluster: Arc<Cluster>,
    poll: Poll,
    shard: Shard,
    gateway: Arc<S>,
    clock: Clock,
    telemetry: Arc<Telemetry>,
    published: watch::Sender<Arc<Snapshot>>,
    first_spread: Duration,
    faults: Mutex<Faults>,
    /// Applications without a usable answer about their configuration.
    unusable: Mutex<Unusable>,
    /// Cycles in which the configuration was read.
    configuration_turn: AtomicUsize,
    warned_of_reporter: AtomicBool,
    /// How many partitions were known before the reload that made this poller; 0 once the first
    /// complete inventory was compared with it.
    known_before: AtomicUsize,
}

impl<S: Source> Poller<S> {
    /// A poller of `cluster`, which moves the snapshot in `published` on. Readings are dated by
    /// `clock`; cycles are paced by the clock of the runtime.
    pub fn new(
        cluster: Arc<Cluster>,
        poll: Poll,
        shard: Shard,
        gateway: Arc<S>,
        clock: Clock,
        telemetry: Arc<Telemetry>,
        published: watch::Sender<Arc<Snapshot>>,
    ) -> Self {
        telemetry.watch_cluster(&cluster.name, &Reason::ALL.map(Reason::as_str));
        // What an earlier configuration ran and this one does not is no longer to be told.
        let on = cluster.collectors;
        let mut known_before = 0;
        published.send_modify(|snapshot| {
            if snapshot.is_ready() {
                known_before = snapshot.partitions.len();
            }
            let snapshot = Arc::make_mut(snapshot);
            if !(on.backups || on.history) {
                snapshot.forget_lists();
            }
            if !on.history {
                snapshot.forget_history();
            }
            let status = &mut snapshot.status;
            status.collectors.retain(|collector, _| on.runs(*collector));
            status.selection = None;
        });
        Self {
            cluster,
            poll,
            shard,
            gateway,
            clock,
            telemetry,
            published,
            first_spread: Duration::ZERO,
            faults: Mutex::default(),
            unusable: Mutex::default(),
            configuration_turn: AtomicUsize::new(0),
            warned_of_reporter: AtomicBool::new(false),
            known_before: AtomicUsize::new(known_before),
        }
    }

    /// The same poller, with the requests of its first cycle spread like those of later ones: it
    /// replaces another one, and the cluster must not pay for each change of the settings.
    #[must_use]
    pub fn replacing_another(self) -> Self {
        Self {
            first_spread: self.poll.interval.mul_f64(SPREAD),
            ..self
        }
    }

    /// Polls without end. It stops when the future is dropped.
    pub async fn run(self) {
        tokio::join!(self.cycles(), self.lists());
    }

    /// Runs cycles. The first starts at once and goes as fast as the concurrency allows, unless the
    /// poller replaces another one; later ones start an interval after the one before, or at once
    /// when that one took longer, and spread their requests.
    async fn cycles(&self) {
        let mut start = Instant::now();
        let mut spread = self.first_spread;
        loop {
            sleep_until(start).await;
            self.cycle(spread).await;
            start = next_start(start, Instant::now(), self.poll.interval);
            spread = self.poll.interval.mul_f64(SPREAD);
        }
    }

    /// One cycle: what there is and what protects it, then every partition, started over `spread`.
    pub async fn cycle(&self, spread: Duration) {
        let started = Instant::now();
        let is_first = !self.snapshot().is_ready();
        self.refresh().await;
        self.gateway.begin_cycle();
        let tally = Tally::default();
        let (version, mut observations, policies) = tokio::join!(
            self.gateway.cluster_version(),
            self.inventory(&tally),
            self.policies(&tally)
        );
        if let Err(error) = &version {
            self.record(Collector::Inventory, error, &tally);
        }
        observations.policies = policies.policies;
        observations.runs.extend(policies.runs);
        self.publish(observations);
        let requests = self.configuration(&tally).await;
        let mut observations = self.readings(spread, requests, &tally).await;
        observations.cluster = Some(ClusterReading {
            up: self.gateway.native_access(),
            service_up: self.gateway.backup_service(),
            version: version.ok(),
            security: self.gateway.security().await,
        });
        self.publish(observations);
        let partitions = self.snapshot().partitions.len();
        let what = format!("facts of {partitions} partitions");
        tally.log(&self.cluster.name, &what, started.elapsed(), is_first);
        self.report_cycle(&tally);
    }

    /// Reads which partitions there are.
    async fn inventory(&self, tally: &Tally) -> Observations {
        let started = Instant::now();
        let topology = topology::read(&self.gateway, &self.cluster, self.shard).await;
        for error in &topology.errors {
            self.record(Collector::Inventory, error, tally);
        }
        self.note_skipped(Collector::Inventory, topology.skipped, tally);
        if topology.excess > 0 {
            self.refuse(topology.excess, tally);
        }
        let success = topology.is_complete();
        if let Some(selection) = &topology.selection {
            let snapshot = self.snapshot();
            let before = snapshot.status.selection.as_ref();
            let before = before.map(|before| &*before.value);
            selection::report(&self.cluster.name, before, selection);
        }
        if success {
            let before = self.known_before.swap(0, Ordering::Relaxed);
            selection::report_drop(&self.cluster.name, before, topology.inventory.listed.len());
        }
        let selection = topology
            .selection
            .map(|selection| self.now(Arc::new(selection)));
        Observations {
            inventory: Some(self.now(topology.inventory)),
            selection,
            runs: vec![run(Collector::Inventory, success, started)],
            ..Observations::default()
        }
    }

    /// Reads all policies.
    async fn policies(&self, tally: &Tally) -> Observations {
        let mut observations = Observations::default();
        if !self.cluster.collectors.policies {
            return observations;
        }
        let started = Instant::now();
        let listed = self.gateway.policies().await;
        match listed.map(|listed| self.items(Collector::Policies, listed, tally)) {
            Ok(policies) if policies.len() > MAX_POLICIES => {
                let (cluster, reason) = (&self.cluster.name, Reason::TooLarge.as_str());
                self.telemetry
                    .record_error(cluster, Collector::Policies, reason);
                tally.note(Collector::Policies, Reason::TooLarge, || {
                    format!("the cluster has more than {MAX_POLICIES} policies")
                });
            }
            Ok(policies) => observations.policies = Some(self.now(policies)),
            Err(error) => self.record(Collector::Policies, &error, tally),
        }
        let success = observations.policies.is_some();
        observations.runs = vec![run(Collector::Policies, success, started)];
        observations
    }

    /// Takes over certificates and keys that have changed.
    async fn refresh(&self) {
        let cluster = &self.cluster.name;
        match self.gateway.refresh().await {
            None => {}
            Some(Rotation::Reloaded) => {
                info!(%cluster, "Cluster {cluster}: took over new certificates or keys.");
            }
            Some(Rotation::Recovered) => {
                info!(%cluster, "Cluster {cluster}: the files with certificates and keys are good again.");
            }
            Some(Rotation::Failed(fault)) => {
                let fault = chain(&fault);
                error!(
                    %cluster,
                    "Cluster {cluster}: the new certificates or keys cannot be used, the old ones \
                     stay: {fault}."
                );
            }
        }
    }

    /// A value that was read this moment.
    fn now<T>(&self, value: T) -> Read<T> {
        let at = (self.clock)();
        Read { value, at }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.published.borrow())
    }

    fn publish(&self, mut observations: Observations) {
        observations.clock_skew = self.gateway.clock_skew();
        // Both loops run in one task and nothing is awaited between, so nobody else publishes;
        // and nobody who looks has to wait.
        let next = self.snapshot().advance(observations, (self.clock)());
        self.published.send_replace(Arc::new(next));
    }

    /// Counts that the cluster has more partitions than one exporter watches.
    fn refuse(&self, excess: usize, tally: &Tally) {
        let (cluster, reason) = (&self.cluster.name, Reason::TooLarge);
        self.telemetry
            .record_error(cluster, Collector::Inventory, reason.as_str());
        tally.note(Collector::Inventory, reason, || {
            format!(
                "the cluster has {excess} partitions more than the {MAX_PARTITIONS} that one \
                 exporter watches; share them between several with --shard and --total-shards, or \
                 select fewer applications"
            )
        });
    }

    /// The items of a list; those that could not be decoded are counted.
    fn items<T>(&self, collector: Collector, listed: Listed<T>, tally: &Tally) -> Vec<T> {
        self.note_skipped(collector, listed.skipped, tally);
        listed.items
    }

    /// Counts items that could not be decoded.
    fn note_skipped(&self, collector: Collector, skipped: usize, tally: &Tally) {
        if skipped > 0 {
            tally.skip(collector, skipped);
            let cluster = &self.cluster.name;
            self.telemetry
                .record_undecodable(cluster, collector, skipped);
        }
    }

    /// Counts a request that failed for good; one that was not even sent is no request.
    fn record(&self, collector: Collector, error: &Error, tally: &Tally) {
        tally.fail(collector, error);
        if error.was_sent() {
            let reason = error.reason().as_str();
            self.telemetry
                .record_error(&self.cluster.name, collector, reason);
        }
    }
}

/// A run that ends this moment.
fn run(collector: Collector, success: bool, started: Instant) -> Run {
    Run {
        collector,
        success,
        duration: started.elapsed(),
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
