//! Small quotas against the simulated gateway.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::clock;
use crate::gateway::error::Cause;
use crate::gateway::{Error, Gateway, Options, Reason};
use crate::inventory::Shard;
use crate::poller::Poller;
use crate::settings::Security;
use crate::settings::{Config, Poll};
use crate::simulator::{self, Estate, EstateSize, Operation, Simulator};
use crate::snapshot::{Collector, Snapshot};
use crate::sync::lock;
use crate::telemetry::Telemetry;

fn reason(outcome: Result<(), QuotaError>) -> Option<Reason> {
    outcome.err().map(|error| Cause::from(error).reason())
}

#[test]
fn an_exceeded_quota_stays_exceeded_until_it_is_renewed() {
    let mut quota = Quota::new(3, 1_000);
    let name: Name = "fabric:/A".into();
    let one = [name];
    for _ in 0..3 {
        for _ in 0..3 {
            assert_eq!(reason(quota.charge(&one)), None);
        }
        quota.check().unwrap();
        for _ in 0..2 {
            assert_eq!(reason(quota.charge(&one)), Some(Reason::TooLarge));
            assert_eq!(reason(quota.check()), Some(Reason::TooLarge));
        }
        quota.renew();
    }
}

proptest! {
    #[test]
    fn neither_items_nor_bytes_exceed_the_quota(
        items in 0..100_usize,
        bytes in 0..20_000_usize,
        pages in prop::collection::vec(prop::collection::vec(0..1_000_usize, 0..20), 0..20),
    ) {
        let mut quota = Quota::new(items, bytes);
        let (mut taken, mut length, mut exceeded) = (0, 0, false);
        for page in pages {
            let page: Vec<Name> = page.into_iter().map(|length| "x".repeat(length).into()).collect();
            let count = page.len();
            let text: usize = page.iter().map(|name| name.len()).sum();
            if quota.charge(&page).is_ok() {
                taken += count;
                length += text;
                prop_assert!(!exceeded);
            } else {
                // No overhead is larger than this.
                let least = length + text + 64 * (taken + count);
                prop_assert!(exceeded || taken + count > items || least > bytes);
                exceeded = true;
            }
        }
        prop_assert!(taken <= items && length <= bytes);
    }
}

async fn simulate(applications: usize, services: usize, partitions: usize) -> Simulator {
    let shape = EstateSize {
        seed: 3,
        applications,
        services_per_application: services,
        partitions_per_service: partitions,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let estate = Estate::generate(&shape, clock::now());
    Simulator::start(listener, estate, simulator::Options::default()).unwrap()
}

fn gateway(simulator: &Simulator, telemetry: &Arc<Telemetry>) -> Gateway {
    let options = Options {
        cluster: "test".into(),
        endpoints: vec![simulator.url().parse().unwrap()],
        timeout: Duration::from_secs(60),
        concurrency: 4,
        security: Security::default(),
        fabric_identity: None,
    };
    Gateway::new(options, Arc::clone(telemetry)).unwrap()
}

#[tokio::test]
async fn the_lists_of_a_cycle_share_one_quota_and_nothing_is_requested_beyond_it() {
    let simulator = simulate(6, 3, 1).await;
    let telemetry = Arc::default();
    let whole = gateway(&simulator, &telemetry);
    let applications = whole.applications().await.unwrap().items;
    let mut total = applications.len();
    for application in &applications {
        total += whole
            .persisted_services(application)
            .await
            .unwrap()
            .items
            .len();
    }
    for items in 0..=total {
        let gateway = gateway(&simulator, &telemetry);
        *lock(&gateway.calls.cycle_quota) = Quota::new(items, usize::MAX);
        for _ in 0..2 {
            gateway.begin_cycle();
            let mut read = 0;
            let mut errors: Vec<Error> = Vec::new();
            match gateway.applications().await {
                Ok(names) => read += names.items.len(),
                Err(error) => errors.push(error),
            }
            for application in &applications {
                match gateway.persisted_services(application).await {
                    Ok(names) => read += names.items.len(),
                    Err(error) => errors.push(error),
                }
            }
            assert!(read <= items, "{read} of {items}");
            assert_eq!(errors.is_empty(), items == total, "{items}");
            assert!(
                errors
                    .iter()
                    .all(|error| error.reason() == Reason::TooLarge)
            );
            let sent = errors.iter().filter(|error| error.was_sent()).count();
            assert_eq!(sent, usize::from(items < total), "{items}");
        }
    }
}

#[tokio::test]
async fn backup_lists_have_their_own_quota() {
    let simulator = simulate(4, 1, 1).await;
    let gateway = gateway(&simulator, &Arc::default());
    *lock(&gateway.calls.cycle_quota) = Quota::new(0, 0);
    assert!(gateway.applications().await.is_err());
    gateway.all_backups("fabric:/Unknown").await.unwrap_err();
    lock(&gateway.calls.scan_quota).check().unwrap();
    *lock(&gateway.calls.scan_quota) = Quota::new(0, 0);
    let one = [ListedPartition {
        id: crate::model::PartitionId(uuid::Uuid::from_u128(1)),
        kind: crate::model::PartitionKind::Singleton,
        data_loss_time: None,
    }];
    assert!(lock(&gateway.calls.scan_quota).charge(&one).is_err());
    let error = gateway.all_backups("fabric:/Unknown").await.unwrap_err();
    assert_eq!(
        (error.reason(), error.was_sent()),
        (Reason::TooLarge, false)
    );
    let route = Operation::GetApplicationBackupList.name();
    assert_eq!(simulator.requests()[route], 1);
    gateway.begin_lists();
    lock(&gateway.calls.scan_quota).check().unwrap();
}

/// One cycle with a quota, starting from the snapshot `known`.
async fn cycle(simulator: &Simulator, quota: Quota, known: Snapshot) -> (Arc<Snapshot>, u64) {
    let telemetry = Arc::default();
    let gateway = gateway(simulator, &telemetry);
    *lock(&gateway.calls.cycle_quota) = quota;
    let text = format!(
        "clusters: [{{name: test, endpoints: ['{}']}}]",
        simulator.url()
    );
    let config = Config::parse(&text, Path::new("test.yml")).unwrap();
    let (published, snapshots) = watch::channel(Arc::new(known));
    let poller = Poller::new(
        Arc::new(config.clusters[0].clone()),
        Poll::default(),
        Shard::default(),
        Arc::new(gateway),
        clock::now,
        Arc::clone(&telemetry),
        published,
    );
    poller.cycle(Duration::ZERO).await;
    let snapshot = Arc::clone(&snapshots.borrow());
    (snapshot, too_large(&telemetry))
}

/// The number of failures of the inventory with the reason `too_large`.
fn too_large(telemetry: &Telemetry) -> u64 {
    let mut registry = Registry::default();
    registry.register("errors", "", telemetry.collector_errors.family.clone());
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let mut lines = text.lines();
    let labels = "collector=\"inventory\",reason=\"too_large\"} ";
    let count = lines.find_map(|line| Some(line.split_once(labels)?.1));
    count.unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_inventory_beyond_the_quota_is_too_large_and_the_last_one_stays() {
    for (applications, services, partitions) in [(4, 2, 3), (12, 1, 1), (4, 30, 1)] {
        let simulator = simulate(applications, services, partitions).await;
        let nothing = Snapshot::empty("test".into());
        let (good, errors) = cycle(&simulator, Quota::default(), nothing).await;
        assert_eq!(errors, 0);
        assert!(!good.partitions.is_empty());
        for quota in [
            Quota::new(1, usize::MAX),
            Quota::new(applications + 2, usize::MAX),
            Quota::new(usize::MAX, 100),
            Quota::new(usize::MAX, applications * 100 + 200),
        ] {
            let (next, errors) = cycle(&simulator, quota, Snapshot::clone(&good)).await;
            assert!(errors > 0);
            assert!(next.partitions.keys().eq(good.partitions.keys()));
            let status = &next.status.collectors[&Collector::Inventory];
            assert!(!status.success);
        }
        let (again, errors) = cycle(&simulator, Quota::default(), Snapshot::clone(&good)).await;
        assert_eq!(errors, 0);
        assert!(again.partitions.keys().eq(good.partitions.keys()));
    }
}
