//! The exporter under test: the poller of the program, in simulated time.
//!
//! Responsible for starting and stopping its process, with or without a state file, and for what a
//! scrape shows. It must not look at the truth.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use servicefabric_backup_exporter::fleet;
use servicefabric_backup_exporter::inventory::Shard;
use servicefabric_backup_exporter::model::BackupState;
use servicefabric_backup_exporter::poller::Poller;
use servicefabric_backup_exporter::protection::evidence::evidence;
use servicefabric_backup_exporter::protection::{Protection, Rules, judge};
use servicefabric_backup_exporter::settings::{self, Config};
use servicefabric_backup_exporter::snapshot::{PartitionSnapshot, Snapshot};
use servicefabric_backup_exporter::state_file::{self, StateFile};
use servicefabric_backup_exporter::telemetry::Telemetry;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::calendar::DAY;
use super::site::Site;
use super::{Setting, time};

const CLUSTER: &str = "simulated";

/// An exporter that watches one cluster, and its settings.
pub(crate) struct Exporter {
    site: Arc<Site>,
    cluster: Arc<settings::Cluster>,
    poll: settings::Poll,
    rules: Rules,
    state_file: Option<TempDir>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    poller: Option<JoinHandle<()>>,
    /// When a process last began without a state file.
    pub(crate) forgot: Option<i64>,
}

impl Exporter {
    /// An exporter with default settings; its process runs.
    pub(crate) fn start(site: Arc<Site>, setting: &Setting) -> Self {
        let expected = if setting.requests_expected {
            ", expected_interval: 24h"
        } else {
            ""
        };
        let text = format!("clusters: [{{name: {CLUSTER}, endpoints: ['http://c:1']{expected}}}]");
        let config = Config::parse(&text, Path::new("simulated.yml")).expect("it is valid");
        let cluster = config.clusters.first().expect("it has a cluster");
        let state_file = setting
            .has_state_file
            .then(|| TempDir::new().expect("there is a folder for temporary files"));
        let (_, snapshots) = watch::channel(Arc::new(Snapshot::empty(CLUSTER.into())));
        let mut exporter = Self {
            site,
            rules: fleet::rules(&config, cluster),
            cluster: Arc::new(cluster.clone()),
            poll: config.poll,
            state_file,
            snapshots,
            poller: None,
            forgot: None,
        };
        exporter.spawn(Snapshot::empty(CLUSTER.into()));
        exporter
    }

    /// Whether its process runs.
    pub(crate) fn runs(&self) -> bool {
        self.poller.is_some()
    }

    /// Ends the process.
    pub(crate) async fn stop(&mut self) {
        if let Some(poller) = self.poller.take() {
            poller.abort();
            poller.await.unwrap_or_default();
        }
    }

    /// Starts another process, with the contents of the state file if there is one.
    pub(crate) fn restart(&mut self) {
        let before = if let Some(folder) = &self.state_file {
            remembered(folder, self.snapshot(), time::exporter())
        } else {
            self.forgot = Some(time::now());
            Snapshot::empty(CLUSTER.into())
        };
        self.spawn(before);
    }

    fn spawn(&mut self, before: Snapshot) {
        self.site.lock().begin_process(self.forgot);
        let (published, snapshots) = watch::channel(Arc::new(before));
        let poller = Poller::new(
            Arc::clone(&self.cluster),
            self.poll,
            Shard::default(),
            Arc::clone(&self.site),
            time::exporter,
            Arc::new(Telemetry::default()),
            published,
        );
        self.snapshots = snapshots;
        self.poller = Some(tokio::spawn(poller.run()));
    }

    /// What a scrape shows.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// The verdict that a scrape shows.
    pub(crate) fn verdict(&self, snapshot: &Snapshot, known: &PartitionSnapshot) -> Protection {
        judge(&known.facts(snapshot), &self.rules, time::exporter()).state
    }

    /// The evidence of a verdict, in one line.
    pub(crate) fn evidence(&self, snapshot: &Snapshot, known: &PartitionSnapshot) -> String {
        let (facts, now) = (known.facts(snapshot), time::exporter());
        let verdict = judge(&facts, &self.rules, now);
        let rows = evidence(&facts, &self.rules, &verdict, now);
        let rows = rows.iter().filter_map(|row| {
            let age = row
                .age_seconds
                .map_or_else(String::new, |age| format!(" ({age} s)"));
            Some(format!("{}: {}{age}", row.fact, row.value.as_ref()?))
        });
        rows.collect::<Vec<_>>().join("; ")
    }
}

/// Whether the two baselines alert: on a record of a request that failed or is older than a day;
/// on a newest listed backup that is older than a day.
pub(crate) fn baselines(known: &PartitionSnapshot, listed: Option<i64>) -> [bool; 2] {
    let is_old = |taken: DateTime<Utc>| time::exporter() - taken > TimeDelta::milliseconds(DAY);
    let record = known.record();
    let by_record = record.is_some_and(|record| match record.state {
        BackupState::Failure | BackupState::Timeout => true,
        _ => record.timestamp.is_some_and(is_old),
    });
    let by_list = listed.is_some_and(|taken| time::now() - taken > DAY);
    [by_record, by_list]
}

fn remembered(folder: &TempDir, stopped: Arc<Snapshot>, now: DateTime<Utc>) -> Snapshot {
    let path = folder.path().join("state.json");
    let saved = StateFile::new(path.clone()).save(&[stopped]);
    saved.expect("the state file can be written");
    let loaded = state_file::load(&path, now).expect("the state file is intact");
    let mut clusters = loaded.clusters;
    clusters.remove(CLUSTER).expect("the cluster is in it")
}
