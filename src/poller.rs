//! Polls one cluster: cycles over its partitions and rounds over its backup lists.
//!
//! The poller decides when a cycle starts, which calls it makes and when their observations are
//! published; the snapshot interprets them. Cycles never overlap, and a failed call loses only its
//! own answer. Every call goes through one gateway, whose limits apply to all of them.

mod cluster_api;
mod configuration;
mod lists;
mod partitions;
mod report;
mod results;
mod topology;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

pub use self::cluster_api::ClusterApi;
use self::results::{Outages, RoundResults};
use crate::clock::Clock;
use crate::gateway::{Error, Reason, Rotation};
use crate::inventory::{MAX_PARTITIONS, Shard};
use crate::logging::chain;
use crate::model::{Collector, DecodedList, Read};
use crate::settings::{Cluster, Poll};
use crate::snapshot::{ClusterObservation, CollectorRun, Observations, Snapshot};
use crate::telemetry::Telemetry;

/// Part of the interval over which a cycle spreads the starts of its calls; the rest is for slow
/// answers.
const SPREAD: f64 = 0.8;

/// Limit of policies in a cluster: each has its own series.
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
    outages: Mutex<Outages>,
    /// Number of cycles in which the configuration was read.
    configuration_cycles: AtomicUsize,
    warned_of_reporter: AtomicBool,
    /// Number of partitions before the reload that created this poller, until it was compared with
    /// the first complete inventory; then 0.
    known_before: AtomicUsize,
}

impl<S: ClusterApi> Poller<S> {
    /// A poller of `cluster`, which replaces the snapshot in `published`. `clock` dates the
    /// observations; the clock of the async runtime schedules the cycles.
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
        // The state of collectors that this configuration switches off is no longer reported.
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
            outages: Mutex::default(),
            configuration_cycles: AtomicUsize::new(0),
            warned_of_reporter: AtomicBool::new(false),
            known_before: AtomicUsize::new(known_before),
        }
    }

    /// Spreads the calls of the first cycle like those of later ones: this poller replaces another
    /// one after a reload, which must not cause a burst of load on the cluster.
    #[must_use]
    pub fn replacing_another(self) -> Self {
        Self {
            first_spread: self.poll.interval.mul_f64(SPREAD),
            ..self
        }
    }

    /// Polls until the future is dropped.
    pub async fn run(self) {
        tokio::join!(self.cycles(), self.lists());
    }

    /// Runs cycles. The first starts at once and is as fast as the concurrency allows, unless the
    /// poller replaces another one. Each later cycle spreads its calls, and starts an interval after
    /// the one before, or at once if that one took longer.
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

    /// Runs one cycle: reads inventory, policies and configurations, then every partition, with the
    /// calls started over `spread`.
    pub async fn cycle(&self, spread: Duration) {
        let started = Instant::now();
        let is_first = !self.snapshot().is_ready();
        self.refresh().await;
        self.gateway.begin_cycle();
        let results = RoundResults::default();
        let (version, mut observations, policies) = tokio::join!(
            self.gateway.cluster_version(),
            self.inventory(&results),
            self.policies(&results)
        );
        if let Err(error) = &version {
            self.record(Collector::Inventory, error, &results);
        }
        observations.policies = policies.policies;
        observations.runs.extend(policies.runs);
        self.publish(observations);
        let requests = self.configuration(&results).await;
        let mut observations = self.partitions(spread, requests, &results).await;
        observations.cluster = Some(ClusterObservation {
            up: self.gateway.native_access(),
            service_up: self.gateway.backup_service(),
            version: version.ok(),
            security: self.gateway.security().await,
        });
        self.publish(observations);
        let partitions = self.snapshot().partitions.len();
        let what = format!("facts of {partitions} partitions");
        results.log(&self.cluster.name, &what, started.elapsed(), is_first);
        self.report_cycle(&results);
    }

    async fn inventory(&self, results: &RoundResults) -> Observations {
        let started = Instant::now();
        let topology = topology::read(&self.gateway, &self.cluster, self.shard).await;
        for error in &topology.errors {
            self.record(Collector::Inventory, error, results);
        }
        self.record_skipped(Collector::Inventory, topology.skipped, results);
        if topology.excess > 0 {
            self.record_excess(topology.excess, results);
        }
        let success = topology.is_complete();
        if let Some(selection) = &topology.selection {
            let snapshot = self.snapshot();
            let before = snapshot.status.selection.as_ref();
            let before = before.map(|before| &*before.value);
            report::report_selection(&self.cluster.name, before, selection);
        }
        if success {
            let before = self.known_before.swap(0, Ordering::Relaxed);
            report::report_drop(&self.cluster.name, before, topology.inventory.listed.len());
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

    async fn policies(&self, results: &RoundResults) -> Observations {
        let mut observations = Observations::default();
        if !self.cluster.collectors.policies {
            return observations;
        }
        let started = Instant::now();
        let listed = self.gateway.policies().await;
        match listed.map(|listed| self.items(Collector::Policies, listed, results)) {
            Ok(policies) if policies.len() > MAX_POLICIES => {
                let (cluster, reason) = (&self.cluster.name, Reason::TooLarge.as_str());
                self.telemetry
                    .record_error(cluster, Collector::Policies, reason);
                results.add_failure(Collector::Policies, Reason::TooLarge, || {
                    format!("the cluster has more than {MAX_POLICIES} policies")
                });
            }
            Ok(policies) => observations.policies = Some(self.now(policies)),
            Err(error) => self.record(Collector::Policies, &error, results),
        }
        let success = observations.policies.is_some();
        observations.runs = vec![run(Collector::Policies, success, started)];
        observations
    }

    /// Reloads certificates and keys whose files have changed.
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

    /// Dates a value with the current time.
    fn now<T>(&self, value: T) -> Read<T> {
        let at = (self.clock)();
        Read { value, at }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.published.borrow())
    }

    fn publish(&self, mut observations: Observations) {
        observations.clock_skew = self.gateway.clock_skew();
        // Both loops run in one task, and there is no await between reading and replacing the
        // snapshot, so no update is lost. Readers never wait.
        let next = self.snapshot().advance(observations, (self.clock)());
        self.published.send_replace(Arc::new(next));
    }

    /// Counts that the cluster has more partitions than one exporter watches.
    fn record_excess(&self, excess: usize, results: &RoundResults) {
        let (cluster, reason) = (&self.cluster.name, Reason::TooLarge);
        self.telemetry
            .record_error(cluster, Collector::Inventory, reason.as_str());
        results.add_failure(Collector::Inventory, reason, || {
            format!(
                "the cluster has {excess} partitions more than the {MAX_PARTITIONS} that one \
                 exporter watches; share them between several with --shard and --total-shards, or \
                 select fewer applications"
            )
        });
    }

    /// The items of a list. Counts those that could not be decoded.
    fn items<T>(
        &self,
        collector: Collector,
        listed: DecodedList<T>,
        results: &RoundResults,
    ) -> Vec<T> {
        self.record_skipped(collector, listed.skipped, results);
        listed.items
    }

    fn record_skipped(&self, collector: Collector, skipped: usize, results: &RoundResults) {
        if skipped > 0 {
            results.skip(collector, skipped);
            let cluster = &self.cluster.name;
            self.telemetry
                .record_undecodable(cluster, collector, skipped);
        }
    }

    /// Counts a failed call. The error metric leaves out calls that were never sent.
    fn record(&self, collector: Collector, error: &Error, results: &RoundResults) {
        results.fail(collector, error);
        if error.was_sent() {
            let reason = error.reason().as_str();
            self.telemetry
                .record_error(&self.cluster.name, collector, reason);
        }
    }
}

/// A run of a collector that ends now.
fn run(collector: Collector, success: bool, started: Instant) -> CollectorRun {
    CollectorRun {
        collector,
        success,
        duration: started.elapsed(),
    }
}

/// When the next cycle starts after one that ran from `started` to `ended`.
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
