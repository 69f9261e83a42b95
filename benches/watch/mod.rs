//! The exporter's side of a bench: the poller of one cluster, and its gateway.

use std::sync::Arc;
use std::time::Duration;

use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::gateway::{Gateway, Options};
use servicefabric_backup_exporter::inventory::Shard;
use servicefabric_backup_exporter::poller::Poller;
use servicefabric_backup_exporter::settings::Security;
use servicefabric_backup_exporter::settings::{Cluster, Collectors, Poll, Selector};
use servicefabric_backup_exporter::snapshot::Snapshot;
use servicefabric_backup_exporter::telemetry::Telemetry;
use tokio::sync::watch;

/// Requests in flight.
pub(crate) const CONCURRENCY: u32 = 16;

pub(crate) fn gateway(url: &str, security: Security) -> Gateway {
    let options = Options {
        cluster: "prod".into(),
        endpoints: vec![url.parse().expect("it is a URL")],
        timeout: Duration::from_secs(10),
        concurrency: CONCURRENCY as usize,
        security,
        fabric_identity: None,
    };
    Gateway::new(options, Arc::new(Telemetry::default())).expect("a client can be built")
}

pub(crate) fn poller(
    url: &str,
    security: Security,
    published: watch::Sender<Arc<Snapshot>>,
) -> Poller<Gateway> {
    let cluster = Cluster {
        name: "prod".into(),
        endpoints: vec![url.parse().expect("it is a URL")],
        partitions: Vec::new(),
        applications: Selector::default(),
        services: Selector::default(),
        expected_interval: None,
        collectors: Collectors::default(),
        security: security.clone(),
    };
    let poll = Poll {
        concurrency: CONCURRENCY as usize,
        ..Poll::default()
    };
    let telemetry = Arc::new(Telemetry::default());
    Poller::new(
        Arc::new(cluster),
        poll,
        Shard::default(),
        Arc::new(gateway(url, security)),
        clock::now,
        telemetry,
        published,
    )
}
