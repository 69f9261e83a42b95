//! Metrics of the exporter itself: its requests to the gateways and their failures.
//!
//! Holds numbers only; names, types and help of the families are in the catalogue. Label values
//! come from enums of this crate and from the configured cluster names, never from the network.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::inventory::Shard;
use crate::snapshot::Collector;
use crate::sync::lock;

/// Upper bounds of the request duration histogram, in seconds: from a healthy native call (a few
/// milliseconds) to the 120 seconds after which the gateway's own proxy gives up.
const DURATION_BUCKETS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
];

/// The usual statuses of responses of gateways, their proxy and the backup service.
const STATUSES: [&str; 11] = [
    "200", "204", "400", "401", "403", "404", "500", "502", "503", "504", NO_ANSWER,
];

/// The label value of a request without a response.
const NO_ANSWER: &str = "none";

/// The state of this process at the time of a scrape.
#[derive(Debug)]
pub struct Process {
    /// The counters.
    pub telemetry: Arc<Telemetry>,
    /// The last reload of the configuration.
    pub reload: Reload,
    /// When the certificate of the listener expires; `None` without TLS.
    pub web_certificate_expiry: Option<DateTime<Utc>>,
    /// The shard of the partitions that this process watches.
    pub shard: Shard,
    /// Resource usage as reported by the operating system.
    pub resources: metrics_process::collector::Metrics,
}

/// The build of this program.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    /// Version of the package.
    pub version: &'static str,
    /// Revision of the source; `unknown` outside a checkout.
    pub revision: &'static str,
    /// Version of the compiler.
    pub rustc: &'static str,
}

impl BuildInfo {
    /// This program.
    pub const CURRENT: Self = Self {
        version: env!("CARGO_PKG_VERSION"),
        revision: env!("SFBE_REVISION"),
        rustc: env!("SFBE_RUSTC"),
    };
}

/// The last reload of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// Whether it succeeded.
    pub successful: bool,
    /// When it last succeeded.
    pub succeeded_at: DateTime<Utc>,
}

/// The writes of the state file. Both are `None` without a state file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateFileWrites {
    /// Whether the last write succeeded; `None` before the first one.
    pub successful: Option<bool>,
    /// When a write last succeeded.
    pub succeeded_at: Option<DateTime<Utc>>,
}

/// The counters of one process.
#[derive(Debug)]
pub struct Telemetry {
    state_file: Mutex<StateFileWrites>,
    pub(crate) gateway_requests: PerCluster<RequestLabels, Counter>,
    pub(crate) gateway_request_duration: PerCluster<RouteLabels, Histogram>,
    pub(crate) collector_errors: PerCluster<ErrorLabels, Counter>,
    pub(crate) undecodable_items: PerCluster<CollectorLabels, Counter>,
}

/// A family with its label sets, so that those of one cluster can be removed.
#[derive(Debug)]
pub(crate) struct PerCluster<S, M> {
    pub(crate) family: Family<S, M, fn() -> M>,
    known: Mutex<HashSet<S>>,
}

impl<S: Clone + Eq + Hash, M: Clone> PerCluster<S, M> {
    fn new(metric: fn() -> M) -> Self {
        Self {
            family: Family::new_with_constructor(metric),
            known: Mutex::default(),
        }
    }

    fn get(&self, labels: S) -> M {
        if let Some(metric) = self.family.get(&labels) {
            return metric.clone();
        }
        let metric = self.family.get_or_create_owned(&labels);
        self.known().insert(labels);
        metric
    }

    fn contains(&self, labels: &S) -> bool {
        self.family.get(labels).is_some()
    }

    fn remove(&self, is_gone: impl Fn(&S) -> bool) {
        for labels in self.known().extract_if(is_gone) {
            self.family.remove(&labels);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<S>> {
        lock(&self.known)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    cluster_name: Arc<str>,
    route: &'static str,
    status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RouteLabels {
    cluster_name: Arc<str>,
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ErrorLabels {
    cluster_name: Arc<str>,
    collector: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CollectorLabels {
    cluster_name: Arc<str>,
    collector: &'static str,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            state_file: Mutex::default(),
            gateway_requests: PerCluster::new(Counter::default),
            gateway_request_duration: PerCluster::new(|| Histogram::new(DURATION_BUCKETS)),
            collector_errors: PerCluster::new(Counter::default),
            undecodable_items: PerCluster::new(Counter::default),
        }
    }
}

impl Telemetry {
    /// Starts the counters of undecodable items of a cluster at 0, and its error counters for each
    /// of `reasons`, so that the first event is an increase.
    pub fn watch_cluster(&self, cluster_name: &Arc<str>, reasons: &[&'static str]) {
        for collector in Collector::ALL {
            self.undecodable(cluster_name, collector);
            for reason in reasons {
                self.errors(cluster_name, collector, reason);
            }
        }
    }

    /// Removes the counters of a cluster that is no longer watched.
    pub fn forget_cluster(&self, cluster_name: &str) {
        let is_gone = |cluster: &Arc<str>| **cluster == *cluster_name;
        self.gateway_requests.remove(|it| is_gone(&it.cluster_name));
        let durations = &self.gateway_request_duration;
        durations.remove(|it| is_gone(&it.cluster_name));
        self.collector_errors.remove(|it| is_gone(&it.cluster_name));
        let undecodable = &self.undecodable_items;
        undecodable.remove(|it| is_gone(&it.cluster_name));
    }

    /// The writes of the state file.
    pub fn state_file(&self) -> StateFileWrites {
        *lock(&self.state_file)
    }

    /// Records a write of the state file.
    pub fn set_state_file(&self, writes: StateFileWrites) {
        *lock(&self.state_file) = writes;
    }

    /// Counts a failed call.
    pub fn record_error(
        &self,
        cluster_name: &Arc<str>,
        collector: Collector,
        reason: &'static str,
    ) {
        self.errors(cluster_name, collector, reason).inc();
    }

    /// Counts items that could not be decoded.
    pub fn record_undecodable(&self, cluster_name: &Arc<str>, collector: Collector, items: usize) {
        let items = u64::try_from(items).unwrap_or(u64::MAX);
        self.undecodable(cluster_name, collector).inc_by(items);
    }

    /// Counts one attempt of a request: its HTTP status, or `None` without a response. With the first
    /// request of a route, the counters of the usual statuses start at 0, so that the first error is an increase.
    pub fn record_request(
        &self,
        cluster_name: &Arc<str>,
        route: &'static str,
        status: Option<u16>,
        took: Duration,
    ) {
        let of_route = RouteLabels {
            cluster_name: Arc::clone(cluster_name),
            route,
        };
        let requests = |status: String| {
            self.gateway_requests.get(RequestLabels {
                cluster_name: Arc::clone(cluster_name),
                route,
                status,
            })
        };
        if !self.gateway_request_duration.contains(&of_route) {
            for status in STATUSES {
                requests(status.to_owned());
            }
        }
        requests(match status {
            None => NO_ANSWER.to_owned(),
            Some(status @ 100..=599) => status.to_string(),
            Some(_) => "other".to_owned(),
        })
        .inc();
        let durations = self.gateway_request_duration.get(of_route);
        durations.observe(took.as_secs_f64());
    }

    fn undecodable(&self, cluster_name: &Arc<str>, collector: Collector) -> Counter {
        self.undecodable_items.get(CollectorLabels {
            cluster_name: Arc::clone(cluster_name),
            collector: collector.as_str(),
        })
    }

    fn errors(
        &self,
        cluster_name: &Arc<str>,
        collector: Collector,
        reason: &'static str,
    ) -> Counter {
        self.collector_errors.get(ErrorLabels {
            cluster_name: Arc::clone(cluster_name),
            collector: collector.as_str(),
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    /// Every counter of `telemetry` as Prometheus reads it.
    fn text(telemetry: &Telemetry) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("r", "r", telemetry.gateway_requests.family.clone());
        let durations = telemetry.gateway_request_duration.family.clone();
        registry.register("d", "d", durations);
        registry.register("e", "e", telemetry.collector_errors.family.clone());
        registry.register("u", "u", telemetry.undecodable_items.family.clone());
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn with_the_first_request_of_a_route_its_error_counters_start_at_0() {
        let telemetry = Telemetry::default();
        telemetry.record_request(&"prod".into(), "Route", Some(200), Duration::ZERO);
        let before = text(&telemetry);
        for status in ["400", "403", "404", "500", "502", "503", "504", "none"] {
            let series =
                format!("r_total{{cluster_name=\"prod\",route=\"Route\",status=\"{status}\"}}");
            let count = |text: &str, count: u64| text.contains(&format!("{series} {count}\n"));
            assert!(count(&before, 0), "{status}");
            telemetry.record_request(&"prod".into(), "Route", status.parse().ok(), Duration::ZERO);
            assert!(count(&text(&telemetry), 1), "{status}");
        }
    }

    #[test]
    fn counters_of_a_cluster_go_with_it_and_those_of_others_stay() {
        let (kept, gone): (Arc<str>, Arc<str>) = ("kept".into(), "gone".into());
        let telemetry = Telemetry::default();
        for (cluster, requests) in [(&kept, 3), (&gone, 5)] {
            telemetry.watch_cluster(cluster, &["timeout", "api"]);
            for status in [None, Some(200), Some(404), Some(999)] {
                for _ in 0..requests {
                    telemetry.record_request(cluster, "Route", status, Duration::from_secs(1));
                }
            }
            telemetry.record_error(cluster, Collector::Progress, "api");
            telemetry.record_undecodable(cluster, Collector::Policies, requests);
        }
        let lines = |text: &str| -> Vec<String> {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        let mut expected = lines(&text(&telemetry));
        expected.retain(|line| !line.contains("gone"));
        telemetry.forget_cluster("gone");
        assert_eq!(lines(&text(&telemetry)), expected);
        assert!(
            expected
                .iter()
                .any(|line| line.contains("kept") && line.ends_with(" 3"))
        );
        telemetry.record_request(&gone, "Route", Some(200), Duration::from_secs(1));
        let again = text(&telemetry);
        let again: Vec<_> = again.lines().filter(|line| line.contains("gone")).collect();
        assert!(
            again
                .iter()
                .any(|line| line.starts_with("r_total") && line.ends_with(" 1"))
        );
    }
}
