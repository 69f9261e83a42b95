//! A poller of one simulated cluster, cycle by cycle, and what it learns.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use servicefabric_backup_exporter::clock::{self, Clock};
use servicefabric_backup_exporter::exposition::negotiation::Format;
use servicefabric_backup_exporter::exposition::{ClusterView, KeptPieces, Page as Exposed};
use servicefabric_backup_exporter::gateway::{self, Gateway};
use servicefabric_backup_exporter::inventory::Shard;
use servicefabric_backup_exporter::model::PartitionId;
use servicefabric_backup_exporter::poller::Poller;
use servicefabric_backup_exporter::protection::Rules;
use servicefabric_backup_exporter::settings::{Config, Poll, States};
use servicefabric_backup_exporter::simulator::{Operation, Simulator};
use servicefabric_backup_exporter::snapshot::{Collector, PartitionSnapshot, Snapshot};
use servicefabric_backup_exporter::telemetry::{Process, Reload, Telemetry};
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::PATIENCE;
use super::page::Page;

/// A request that takes longer has failed: shorter than a test may take, longer than a busy
/// machine does.
const SHORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Collectors of a watch that is about the progress alone.
const PROGRESS_ONLY: &str = "collectors: {restore: false, health: false, configuration: false, \
                             policies: false, backups: false}";

/// A poller of the cluster `test`, and what it publishes.
pub(crate) struct Watch {
    pub(crate) poller: Poller<Gateway>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) telemetry: Arc<Telemetry>,
}

/// How to watch.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// More keys of the cluster in the configuration, as `key: value, key: value`.
    pub(crate) cluster: &'static str,
    pub(crate) poll: Poll,
    pub(crate) shard: Shard,
    /// The clock of the poller.
    pub(crate) clock: Clock,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            cluster: "",
            poll: Poll {
                timeout: PATIENCE,
                ..Poll::default()
            },
            shard: Shard::default(),
            clock: clock::now,
        }
    }
}

pub(crate) const RULES: Rules = Rules {
    staleness: TimeDelta::minutes(5),
    list_staleness: TimeDelta::minutes(30),
    overdue_allowance: TimeDelta::minutes(15),
    run_tolerance: TimeDelta::minutes(1),
    stuck_after: TimeDelta::minutes(15),
    expected_interval: None,
    reads_configuration: true,
    reads_lists: true,
};

impl Setup {
    pub(crate) fn cluster(cluster: &'static str) -> Self {
        Self {
            cluster,
            ..Self::default()
        }
    }

    /// Reads the progress of every partition and nothing else of it.
    pub(crate) fn progress_only() -> Self {
        Self::cluster(PROGRESS_ONLY)
    }

    pub(crate) fn impatient() -> Self {
        let mut setup = Self::progress_only();
        setup.poll.timeout = SHORT_TIMEOUT;
        setup
    }

    pub(crate) fn watch(self, simulator: &Simulator) -> Watch {
        self.watch_partitions(simulator, &[])
    }

    /// Watches exactly these partitions; without any, what is discovered.
    pub(crate) fn watch_partitions(self, simulator: &Simulator, ids: &[Uuid]) -> Watch {
        self.watch_from(simulator, ids, Snapshot::empty("test".into()))
    }

    /// The same, as a process that remembers `before`.
    pub(crate) fn watch_from(self, simulator: &Simulator, ids: &[Uuid], before: Snapshot) -> Watch {
        self.watch_endpoints(&[simulator.url()], ids, before)
    }

    /// Watches what is discovered at these endpoints.
    pub(crate) fn watch_at(self, endpoints: &[String]) -> Watch {
        self.watch_endpoints(endpoints, &[], Snapshot::empty("test".into()))
    }

    /// Watches these partitions at these endpoints, as a process that remembers `before`.
    pub(crate) fn watch_endpoints(
        self,
        endpoints: &[String],
        ids: &[Uuid],
        before: Snapshot,
    ) -> Watch {
        let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
        let text = format!(
            "clusters: [{{name: test, endpoints: ['{}'], partitions: [{}], {}}}]",
            endpoints.join("', '"),
            ids.join(", "),
            self.cluster
        );
        let config = Config::parse(&text, Path::new("test.yml")).unwrap();
        let cluster = config.clusters.into_iter().next().unwrap();
        let telemetry = Arc::new(Telemetry::default());
        let options = gateway::Options {
            cluster: Arc::clone(&cluster.name),
            endpoints: cluster.endpoints.clone(),
            timeout: self.poll.timeout,
            concurrency: self.poll.concurrency,
            security: cluster.security.clone(),
            fabric_identity: None,
        };
        let gateway = Gateway::new(options, Arc::clone(&telemetry)).unwrap();
        let (published, snapshots) = watch::channel(Arc::new(before));
        let poller = Poller::new(
            Arc::new(cluster),
            self.poll,
            self.shard,
            Arc::new(gateway),
            self.clock,
            Arc::clone(&telemetry),
            published,
        );
        Watch {
            poller,
            snapshots,
            telemetry,
        }
    }
}

impl Watch {
    /// Runs a cycle as fast as it goes; what is known then.
    pub(crate) async fn cycle(&self) -> Arc<Snapshot> {
        let cycle = self.poller.cycle(Duration::ZERO);
        timeout(PATIENCE, cycle).await.expect("a cycle ends");
        self.snapshot()
    }

    /// Lists the backups in the store; what is known then.
    pub(crate) async fn list(&self) -> Arc<Snapshot> {
        let list = self.poller.list();
        timeout(PATIENCE, list).await.expect("a list ends");
        self.snapshot()
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// The page that a scraper would get now.
    pub(crate) fn page(&self) -> Page {
        let now = clock::now();
        let view = ClusterView {
            snapshot: self.snapshot(),
            rules: RULES,
            states: States::All,
        };
        let process = Arc::new(Process {
            telemetry: Arc::clone(&self.telemetry),
            reload: Reload {
                successful: true,
                succeeded_at: now,
            },
            web_certificate_expiry: None,
            shard: Shard::default(),
            resources: metrics_process::collector::collect(),
        });
        let kept = [Arc::new(KeptPieces::encode(view, now, None))];
        let page = Exposed::assemble(&kept, &process, now).in_format(Format::Text);
        let portions: Vec<_> = page.plain().collect();
        Page::parse(std::str::from_utf8(&portions.concat()).unwrap())
    }

    /// How often requests failed, by collector and reason; what never failed is left out.
    pub(crate) fn errors(&self) -> BTreeMap<(String, String), u64> {
        let page = self.page();
        let errors = page.all("servicefabric_backup_collector_errors_total", &[]);
        let counted = errors.into_iter().filter(|sample| sample.value > 0.0);
        counted
            .map(|sample| {
                let label = |key: &str| sample.labels[key].clone();
                let count = format!("{:.0}", sample.value).parse().unwrap();
                ((label("collector"), label("reason")), count)
            })
            .collect()
    }
}

pub(crate) fn error(collector: Collector, reason: &str) -> (String, String) {
    (collector.as_str().to_owned(), reason.to_owned())
}

pub(crate) fn known(snapshot: &Arc<Snapshot>) -> BTreeSet<Uuid> {
    snapshot.partitions.keys().map(|id| id.0).collect()
}

pub(crate) fn existing(simulator: &Simulator) -> BTreeSet<Uuid> {
    simulator.with_estate(|estate| estate.partition_ids().into_iter().collect())
}

pub(crate) fn partition(snapshot: &Snapshot, id: Uuid) -> &PartitionSnapshot {
    &snapshot.partitions[&PartitionId(id)]
}

pub(crate) fn succeeded(snapshot: &Snapshot, collector: Collector) -> bool {
    let status = snapshot.status.collectors.get(&collector);
    status.unwrap().success
}

pub(crate) fn requests(simulator: &Simulator, operation: Operation) -> u64 {
    let requests = simulator.requests();
    requests.get(operation.name()).copied().unwrap_or_default()
}
