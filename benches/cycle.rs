//! A cycle over 10,000 partitions, everything read of them that is read each cycle, against the
//! ideal: every request slot of the exporter always occupied, and nothing else to wait for.
//!
//! The gateway waits 5 ms before it answers; what a request really takes, timer and loopback
//! included, is measured one by one in the same run, and the ideal is made from that.

mod cluster;
mod figures;
mod watch;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use servicefabric_backup_exporter::gateway::Gateway;
use servicefabric_backup_exporter::model::PartitionId;
use servicefabric_backup_exporter::settings::Security;
use servicefabric_backup_exporter::snapshot::Snapshot;

use cluster::cpu_seconds;
use figures::Figures;
use watch::{CONCURRENCY, gateway, poller};

const PARTITIONS: u32 = 10_000;
const APPLICATIONS: u32 = 50;
const LATENCY: Duration = Duration::from_millis(5);

/// Requests of which the median is taken for what one takes.
const ONE_BY_ONE: u32 = 400;

/// Cycles of which the best one counts: whatever else the machine does only makes them longer.
const RUNS: usize = 3;

/// What is asked at most once a cycle, and of how many.
const AT_MOST_ONE: [(&str, u32); 4] = [
    ("GetPartitionBackupProgress", PARTITIONS),
    ("GetPartitionRestoreProgress", PARTITIONS),
    ("GetPartitionHealth", PARTITIONS),
    ("GetApplicationBackupConfigurationInfo", APPLICATIONS),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(code) = cluster::served(&arguments) {
        return code;
    }
    if !figures::wanted() {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let figures = runtime.block_on(measure()).expect("the cluster runs");
    figures.verdict()
}

async fn measure() -> io::Result<Figures> {
    let mut figures = Figures::default();
    let mut best = Duration::MAX;
    let mut cpu = f64::INFINITY;
    let mut requests = std::collections::BTreeMap::new();
    let mut latencies = Vec::new();
    for _ in 0..RUNS {
        let simulated = cluster::Cluster::start(PARTITIONS as usize, LATENCY, None)?;
        let snapshot = Arc::new(Snapshot::empty("prod".into()));
        let (published, snapshots) = tokio::sync::watch::channel(snapshot);
        let poller = poller(&simulated.url, Security::default(), published);
        let (started, before) = (Instant::now(), cpu_seconds("self"));
        poller.cycle(Duration::ZERO).await;
        best = best.min(started.elapsed());
        cpu = cpu.min(cpu_seconds("self") - before);
        let ids: Vec<PartitionId> = snapshots.borrow().partitions.keys().copied().collect();
        assert_eq!(ids.len(), PARTITIONS as usize, "every partition is known");
        let read = snapshots
            .borrow()
            .partitions
            .values()
            .all(|known| known.read_at().is_some());
        assert!(read, "every partition was read");
        latencies.extend(one_by_one(&gateway(&simulated.url, Security::default()), &ids).await);
        requests = simulated.stop()?;
    }
    latencies.sort_unstable();
    let latency = latencies
        .get(latencies.len() / 2)
        .copied()
        .unwrap_or_default();
    if let Some(count) = requests.get_mut("GetPartitionBackupProgress") {
        *count -= ONE_BY_ONE;
    }
    let total: u32 = requests.values().sum();
    let ideal = (latency * total / CONCURRENCY).as_secs_f64();

    Figures::title("A cycle over 10,000 partitions, 16 requests in flight");
    Figures::row(
        "one request at a time, median",
        latency.as_secs_f64() * 1e3,
        "ms",
    );
    Figures::row("ideal: requests x latency / concurrency", ideal, "s");
    Figures::row("first cycle, best of 3", best.as_secs_f64(), "s");
    figures.promise("first cycle / ideal", best.as_secs_f64() / ideal, 1.3, "");
    Figures::row("CPU of the exporter for the cycle", cpu, "s");
    Figures::title("Requests of the cycle");
    for (name, count) in &requests {
        Figures::row(name, f64::from(*count), "");
    }
    Figures::row("all of them", f64::from(total), "");
    for (name, subjects) in AT_MOST_ONE {
        let count = requests.get(name).copied().unwrap_or_default();
        let each = f64::from(count) / f64::from(subjects);
        figures.promise(&format!("{name} for each"), each, 1.0, "");
    }
    Ok(figures)
}

/// How long each of so many requests takes when nothing else is in flight.
async fn one_by_one(gateway: &Gateway, ids: &[PartitionId]) -> Vec<Duration> {
    let mut durations = Vec::new();
    for id in ids.iter().take(ONE_BY_ONE as usize) {
        let started = Instant::now();
        gateway
            .backup_progress(*id)
            .await
            .expect("the simulated gateway answers");
        durations.push(started.elapsed());
    }
    durations
}
