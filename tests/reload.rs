//! Reloads of the configuration: which clusters go on, which begin anew, and what that costs.
//!
//! Each cluster has a simulated gateway of its own. One list of applications is one cycle, and the
//! interval is longer than any test, so that a further one is a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::watch::requests;
use crate::support::{estate, eventually, simulate};
use servicefabric_backup_exporter::fleet::Fleet;
use servicefabric_backup_exporter::inventory::Shard;
use servicefabric_backup_exporter::settings::{Config, States};
use servicefabric_backup_exporter::simulator::{Latency, Operation, Options, Simulator};
use servicefabric_backup_exporter::snapshot::Snapshot;
use servicefabric_backup_exporter::telemetry::Telemetry;
use uuid::Uuid;

const NAMES: [&str; 3] = ["one", "two", "three"];

/// Keys of a cluster that make it read different applications.
const VERSIONS: [&str; 2] = ["applications: {include: ['fabric:/App1']}", ""];

/// A cluster for each name with a version, which is its index in [`VERSIONS`].
fn config(simulators: &[Simulator], versions: &[Option<usize>], more: &str) -> Config {
    let clusters = NAMES.iter().zip(simulators).zip(versions);
    let clusters = clusters.filter_map(|((name, simulator), version)| {
        let (url, keys) = (simulator.url(), VERSIONS[(*version)?]);
        Some(format!(
            "- {{name: {name}, endpoints: ['{url}'], collectors: {{backups: false}}, {keys}}}\n"
        ))
    });
    let clusters: String = clusters.collect();
    let text = format!("poll: {{interval: 10m, staleness: 20m}}\n{more}\nclusters:\n{clusters}");
    Config::parse(&text, Path::new("test.yml")).unwrap()
}

fn fleet() -> Fleet {
    Fleet::new(Arc::new(Telemetry::default()), Shard::default(), None)
}

async fn reload(fleet: &mut Fleet, config: &Config) {
    fleet.watch(config, BTreeMap::new()).await.unwrap();
}

fn snapshot(fleet: &Fleet, name: &str) -> Option<Arc<Snapshot>> {
    let snapshots = fleet.snapshots();
    snapshots.into_iter().find(|one| *one.cluster == *name)
}

/// The partitions that a cluster of this version should have.
fn expected(simulator: &Simulator, version: usize) -> BTreeSet<Uuid> {
    simulator.with_estate(|estate| {
        let ids = estate.partition_ids().into_iter();
        let application = |id: &Uuid| estate.application_of(*id).unwrap();
        ids.filter(|id| version == 1 || *application(id) == *"fabric:/App1")
            .collect()
    })
}

fn cycles(simulator: &Simulator) -> u64 {
    requests(simulator, Operation::GetApplicationInfoList)
}

fn progress_requests(simulator: &Simulator) -> u64 {
    requests(simulator, Operation::GetPartitionBackupProgress)
}

#[tokio::test]
async fn reloads_during_a_long_cycle_do_not_disturb_it() {
    for (partitions, reloads) in [(1, 3), (4, 25)] {
        let options = Options {
            latency: Latency::Fixed(Duration::from_millis(100)),
            ..Options::default()
        };
        let simulator = simulate(estate(partitions), options).await;
        let config = config(std::slice::from_ref(&simulator), &[Some(1)], "");
        let mut fleet = fleet();
        reload(&mut fleet, &config).await;
        eventually("the cycle reads partitions", async || {
            (progress_requests(&simulator) > 0).then_some(())
        })
        .await;
        for _ in 0..reloads {
            reload(&mut fleet, &config).await;
        }
        eventually("the cycle has ended", async || {
            snapshot(&fleet, "one")?.is_ready().then_some(())
        })
        .await;
        let known = snapshot(&fleet, "one").unwrap();
        assert!(known.partitions.values().all(|one| one.read_at().is_some()));
        assert_eq!(cycles(&simulator), 1);
        assert_eq!(progress_requests(&simulator), 8 * partitions as u64);
        fleet.stop().await;
    }
}

#[tokio::test]
async fn only_added_changed_and_removed_clusters_start_and_stop() {
    let mut simulators = Vec::new();
    for _ in NAMES {
        simulators.push(simulate(estate(1), Options::default()).await);
    }
    let mut fleet = fleet();
    let mut before = [None; 3];
    let mut random = fastrand::Rng::with_seed(11);
    for step in 0..60 {
        let after = [(); 3].map(|()| [None, Some(0), Some(1)][random.usize(0..3)]);
        if after == [None; 3] {
            continue;
        }
        let cycles_before: Vec<_> = simulators.iter().map(cycles).collect();
        reload(&mut fleet, &config(&simulators, &after, "")).await;
        let watched: Vec<_> = fleet
            .snapshots()
            .iter()
            .map(|s| s.cluster.to_string())
            .collect();
        let present = NAMES
            .iter()
            .zip(after)
            .filter(|(_, version)| version.is_some());
        assert_eq!(watched, present.map(|(name, _)| *name).collect::<Vec<_>>());
        for (index, (name, simulator)) in NAMES.iter().zip(&simulators).enumerate() {
            let changed = after[index].is_some() && after[index] != before[index];
            let what = format!(
                "{name} in step {step}: {:?} -> {:?}",
                before[index], after[index]
            );
            if let Some(version) = after[index] {
                let expected = expected(simulator, version);
                eventually(&what, async || {
                    let known = snapshot(&fleet, name)?;
                    let ids: BTreeSet<_> = known.partitions.keys().map(|id| id.0).collect();
                    (known.is_ready() && ids == expected).then_some(())
                })
                .await;
            }
            assert_eq!(
                cycles(simulator) - cycles_before[index],
                u64::from(changed),
                "{what}"
            );
        }
        before = after;
    }
    fleet.stop().await;
}

#[tokio::test]
async fn a_cluster_that_changes_again_and_again_keeps_its_facts_and_is_not_read_at_full_speed() {
    let simulators = [simulate(estate(5), Options::default()).await];
    let mut fleet = fleet();
    reload(&mut fleet, &config(&simulators, &[Some(1)], "")).await;
    eventually("the first cycle has ended", async || {
        snapshot(&fleet, "one")?.is_ready().then_some(())
    })
    .await;
    assert_eq!(progress_requests(&simulators[0]), 40);
    for concurrency in 1..=8 {
        let mut config = config(&simulators, &[Some(1)], "");
        config.poll.concurrency = concurrency;
        let before = cycles(&simulators[0]);
        reload(&mut fleet, &config).await;
        eventually("it has begun anew", async || {
            (cycles(&simulators[0]) > before).then_some(())
        })
        .await;
        let known = snapshot(&fleet, "one").unwrap();
        assert!(known.partitions.values().all(|one| one.read_at().is_some()));
    }
    let more = progress_requests(&simulators[0]) - 40;
    assert!(more < 40, "{more} requests for less than a cycle");
    fleet.stop().await;
}

#[tokio::test]
async fn settings_of_verdicts_and_pages_change_without_a_restart() {
    let simulators = [simulate(estate(1), Options::default()).await];
    let mut fleet = fleet();
    reload(&mut fleet, &config(&simulators, &[Some(1)], "")).await;
    let mut changed = config(
        &simulators,
        &[Some(1)],
        "protection: {overdue_allowance: 7m, stuck_after: 9m}\nmetrics: {states: current}",
    );
    changed.clusters[0].expected_interval = Some(Duration::from_secs(3600));
    reload(&mut fleet, &changed).await;
    eventually("the cycle has ended", async || {
        snapshot(&fleet, "one")?.is_ready().then_some(())
    })
    .await;
    let view = fleet.subscribe().borrow()[0].view();
    assert_eq!(view.states, States::Current);
    assert_eq!(view.rules.overdue_allowance.num_minutes(), 7);
    assert_eq!(view.rules.stuck_after.num_minutes(), 9);
    assert_eq!(view.rules.expected_interval.unwrap().num_minutes(), 60);
    assert_eq!(cycles(&simulators[0]), 1);
    fleet.stop().await;
}
