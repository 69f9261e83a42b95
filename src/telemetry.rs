//! What the exporter counts about itself: its requests to the gateways and their failures.
//!
//! Holds numbers only; names, types and help of the families stand in the catalogue. Label
//! values come from enums of this crate and from the configured cluster names, never from
//! the network.

use std::sync::Arc;
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

/// What the exposition shows of this process, taken at the moment of a scrape.
#[derive(Debug)]
pub struct Process {
    /// Its counters.
    pub telemetry: Arc<Telemetry>,
    /// How the configuration came to be what it is.
    pub reload: Reload,
    /// When the certificate of its listener expires; `None` without TLS.
    pub web_certificate_expiry: Option<DateTime<Utc>>,
    /// Which part of the partitions it watches.
    pub shard: Shard,
    /// What the operating system says of it.
    pub resources: metrics_process::collector::Metrics,
}

/// What this program was built from.
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

/// The last time the configuration was read.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// Whether it could be used.
    pub successful: bool,
    /// When it last could.
    pub succeeded_at: DateTime<Utc>,
}

/// The counters of one process.
#[derive(Debug)]
pub struct Telemetry {
    pub(crate) gateway_requests: Family<RequestLabels, Counter>,
    pub(crate) gateway_request_duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    pub(crate) collector_errors: Family<ErrorLabels, Counter>,
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

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            gateway_requests: Family::default(),
            gateway_request_duration: Family::new_with_constructor(|| {
                Histogram::new(DURATION_BUCKETS)
            }),
            collector_errors: Family::default(),
        }
    }
}

impl Telemetry {
    /// Lets the error counters of a cluster start at 0 for each of `reasons`, so that the first
    /// error is an increase.
    pub fn watch_cluster(&self, cluster_name: &Arc<str>, reasons: &[&'static str]) {
        for collector in Collector::ALL {
            for reason in reasons {
                let labels = ErrorLabels::new(cluster_name, collector, reason);
                self.collector_errors.get_or_create_owned(&labels);
            }
        }
    }

    /// Forgets every count: after a cluster is gone, its counters must not stay behind. To
    /// Prometheus this is a restart.
    pub fn clear(&self) {
        self.gateway_requests.clear();
        self.gateway_request_duration.clear();
        self.collector_errors.clear();
    }

    /// Counts a request that failed for good.
    pub fn record_error(
        &self,
        cluster_name: &Arc<str>,
        collector: Collector,
        reason: &'static str,
    ) {
        let labels = ErrorLabels::new(cluster_name, collector, reason);
        self.collector_errors.get_or_create(&labels).inc();
    }

    /// Counts one attempt of a request: its HTTP status, or `None` when no answer came.
    pub fn record_request(
        &self,
        cluster_name: &Arc<str>,
        route: &'static str,
        status: Option<u16>,
        took: Duration,
    ) {
        self.gateway_requests
            .get_or_create(&RequestLabels {
                cluster_name: Arc::clone(cluster_name),
                route,
                status: match status {
                    None => "none".to_owned(),
                    Some(status @ 100..=599) => status.to_string(),
                    Some(_) => "other".to_owned(),
                },
            })
            .inc();
        self.gateway_request_duration
            .get_or_create(&RouteLabels {
                cluster_name: Arc::clone(cluster_name),
                route,
            })
            .observe(took.as_secs_f64());
    }
}

impl ErrorLabels {
    fn new(cluster_name: &Arc<str>, collector: Collector, reason: &'static str) -> Self {
        Self {
            cluster_name: Arc::clone(cluster_name),
            collector: collector.as_str(),
            reason,
        }
    }
}
