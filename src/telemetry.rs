//! Counters of the exporter itself: requests to the gateways and their failures.
//!
//! Names, types and help of the families are in [`crate::exposition`]. Label values come from enums and
//! configured cluster names, never from the network.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::inventory::Shard;
use crate::snapshot::Collector;

/// Upper bounds of the request duration histogram, in seconds: from a healthy native call (a few
/// milliseconds) to the 120 seconds after which the gateway's own proxy gives up.
const DURATION_BUCKETS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
];

/// Statuses of the gateway and the backup service for GET requests.
const STATUSES: [&str; 11] = [
    "200",
    "204",
    "400",
    "401",
    "403",
    "404",
    "500",
    "502",
    "503",
    "504",
    NO_RESPONSE,
];

/// Label value of a request without a response.
const NO_RESPONSE: &str = "none";

/// State of this process at the time of a scrape.
#[derive(Debug)]
pub struct Process {
    /// Counters of the exporter.
    pub telemetry: Arc<Telemetry>,
    /// Result of the last reload.
    pub reload: Reload,
    /// Expiry of the listener's certificate; `None` without TLS.
    pub web_certificate_expiry: Option<DateTime<Utc>>,
    /// The shard that it monitors.
    pub shard: Shard,
    /// Resources of the process, from the operating system.
    pub resources: metrics_process::collector::Metrics,
}

/// Versions of the program.
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

/// Result of the last reload of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// Whether it succeeded.
    pub successful: bool,
    /// Time of the last successful one.
    pub succeeded_at: DateTime<Utc>,
}

/// Result of the last write of the state file. Both are `None` without a state file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateFileWrites {
    /// Whether the last write succeeded; `None` before the first one.
    pub successful: Option<bool>,
    /// Time of the last successful write.
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

/// A family with its label sets, so that those of one cluster can be removed: the family cannot list
/// them.
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

    fn remove(&self, matches: impl Fn(&S) -> bool) {
        for labels in self.known().extract_if(matches) {
            self.family.remove(&labels);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<S>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Initializes the counters of undecodable items and errors (for `reasons`) of a cluster with 0, so that
    /// the first error is an increase.
    pub fn watch_cluster(&self, cluster_name: &Arc<str>, reasons: &[&'static str]) {
        for collector in Collector::ALL {
            self.undecodable(cluster_name, collector);
            for reason in reasons {
                self.errors(cluster_name, collector, reason);
            }
        }
    }

    /// Removes the counters of a cluster that is no longer monitored.
    pub fn forget_cluster(&self, cluster_name: &str) {
        let has_cluster = |cluster: &Arc<str>| **cluster == *cluster_name;
        self.gateway_requests
            .remove(|it| has_cluster(&it.cluster_name));
        let durations = &self.gateway_request_duration;
        durations.remove(|it| has_cluster(&it.cluster_name));
        self.collector_errors
            .remove(|it| has_cluster(&it.cluster_name));
        let undecodable = &self.undecodable_items;
        undecodable.remove(|it| has_cluster(&it.cluster_name));
    }

    /// Result of the last write of the state file.
    pub fn state_file(&self) -> StateFileWrites {
        let state_file = self.state_file.lock();
        *state_file.unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the result of the last write of the state file.
    pub fn set_state_file(&self, writes: StateFileWrites) {
        let state_file = self.state_file.lock();
        *state_file.unwrap_or_else(PoisonError::into_inner) = writes;
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

    /// Counts undecodable items.
    pub fn record_undecodable(&self, cluster_name: &Arc<str>, collector: Collector, items: usize) {
        let items = u64::try_from(items).unwrap_or(u64::MAX);
        self.undecodable(cluster_name, collector).inc_by(items);
    }

    /// Counts one attempt with its HTTP status, or `None` without a response. The first request of a route
    /// initializes the counters of [`STATUSES`] with 0, so that the first error is an increase.
    pub fn record_request(
        &self,
        cluster_name: &Arc<str>,
        route: &'static str,
        status: Option<u16>,
        took: Duration,
    ) {
        let route_labels = RouteLabels {
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
        if !self.gateway_request_duration.contains(&route_labels) {
            for status in STATUSES {
                requests(status.to_owned());
            }
        }
        requests(match status {
            None => NO_RESPONSE.to_owned(),
            Some(status @ 100..=599) => status.to_string(),
            Some(_) => "other".to_owned(),
        })
        .inc();
        let durations = self.gateway_request_duration.get(route_labels);
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

    /// All counters of `telemetry` in text format.
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
    fn first_request_of_a_route_initializes_its_error_counters() {
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
    fn forgotten_cluster_loses_its_counters_and_others_keep_theirs() {
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
