//! Whole cycles of the poller against the simulated gateway: what is known after each of them.
//!
//! Estates have eight services in four applications; what the cluster really holds is read from
//! the estate itself, not over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::support::watch::{Setup, Watch, error, existing, known, partition, requests, succeeded};
use crate::support::{
    PATIENCE, at, born, estate, eventually, simulate, succeed_everywhere, with_history,
};
use servicefabric_backup_exporter::inventory::{EmptySelection, Shard};
use servicefabric_backup_exporter::model::{BackupProgress, BackupState, PartitionId};
use servicefabric_backup_exporter::simulator::{
    EpochSpelling, Estate, Fault, Filter, Latency, Never, Operation, Options, Outcome,
    PartitionEpoch, Scheme, Sentinel, ServiceKind, Simulator, Switches, TokenEnd,
};
use servicefabric_backup_exporter::snapshot::{Collector, PartitionSnapshot, Snapshot};
use tokio::time::timeout;
use uuid::Uuid;

/// Seconds from the birth of the estate to the last success of a partition.
fn last_success(snapshot: &Snapshot, id: Uuid) -> Option<i64> {
    let point = partition(snapshot, id).last_success.as_ref()?;
    Some((point.at - born()).num_seconds())
}

/// Those of every partition, each value once.
fn last_successes(snapshot: &Snapshot) -> BTreeSet<Option<i64>> {
    let ids = snapshot.partitions.keys();
    ids.map(|id| last_success(snapshot, id.0)).collect()
}

/// One partition of each service, or of each application.
fn one_of_each<K: Ord>(simulator: &Simulator, group: impl Fn(&Estate, Uuid) -> K) -> Vec<Uuid> {
    simulator.with_estate(|estate| {
        let ids = estate.partition_ids().into_iter();
        let grouped: BTreeMap<K, Uuid> = ids.map(|id| (group(estate, id), id)).collect();
        grouped.into_values().collect()
    })
}

fn remove(simulator: &Simulator, ids: &[Uuid]) {
    simulator.with_estate(|estate| ids.iter().for_each(|id| estate.remove_partition(*id)));
}

#[tokio::test]
async fn a_cycle_learns_everything_that_the_cluster_holds() {
    let simulator = simulate(with_history(estate(7)), Options::default()).await;
    let watch = Setup::default().watch(&simulator);
    watch.cycle().await;
    let snapshot = watch.list().await;
    assert_eq!(known(&snapshot), existing(&simulator));
    assert_eq!(snapshot.partitions.len(), 56);
    for (id, known) in &snapshot.partitions {
        let (record, service, application) = simulator.with_estate(|estate| {
            let service = estate.service_of(id.0).unwrap();
            let application = estate.application_of(id.0).unwrap();
            (estate.record(id.0).unwrap(), service, application)
        });
        assert_eq!(known.partition.service, Some(service));
        assert_eq!(known.partition.application, Some(application));
        let told = known.record();
        let state = told.map(|progress| progress.state.as_str());
        assert_eq!(state, record["BackupState"].as_str(), "{record}");
        let success = told.filter(|progress| progress.state == BackupState::Success);
        assert_eq!(
            success.and_then(|success| success.lsn),
            record["LsnOfLastBackupRecord"]
                .as_u64()
                .filter(|lsn| *lsn > 0),
            "{record}"
        );
    }
    assert_eq!(snapshot.status.up, Some(true));
    assert_eq!(snapshot.status.service_up, Some(true));
    let ran: Vec<_> = snapshot.status.collectors.keys().copied().collect();
    let all_but_the_history = &Collector::ALL[..7];
    assert_eq!(ran, all_but_the_history);
    assert!(ran.iter().all(|one| succeeded(&snapshot, *one)));
    assert_eq!(watch.errors(), BTreeMap::new());
}

#[tokio::test]
async fn never_more_requests_are_in_flight_than_allowed() {
    let options = Options {
        latency: Latency::Fixed(Duration::from_millis(2)),
        ..Options::default()
    };
    let simulator = simulate(estate(250), options).await;
    let mut setup = Setup::default();
    setup.poll.concurrency = 8;
    let snapshot = setup.watch(&simulator).cycle().await;
    let read = snapshot
        .partitions
        .values()
        .filter(|p| p.read_at().is_some());
    assert_eq!(read.count(), 2_000);
    assert_eq!(simulator.peak_in_flight(), 8);
}

#[tokio::test]
async fn a_partition_that_fails_keeps_what_is_known_of_it_and_stops_no_other() {
    let mut estate = estate(4);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let watch = Setup::default().watch(&simulator);
    let before = watch.cycle().await;
    let failing = existing(&simulator).into_iter().nth(13).unwrap();
    simulator.inject(Fault::InternalError, Filter::Partition(failing));
    simulator.with_estate(|estate| succeed_everywhere(estate, 200));
    let after = watch.cycle().await;
    for id in existing(&simulator) {
        let (then, now) = (partition(&before, id), partition(&after, id));
        if id == failing {
            assert_eq!((&then.progress, &then.seen), (&now.progress, &now.seen));
            assert_eq!(then.restore, now.restore);
            assert_eq!(last_success(&after, id), Some(100));
        } else {
            assert_eq!(last_success(&after, id), Some(200));
            assert!(now.read_at() > then.read_at());
        }
    }
    assert!(!succeeded(&after, Collector::Progress));
    assert!(!succeeded(&after, Collector::Restore));
    assert!(succeeded(&after, Collector::Inventory));
    assert!(succeeded(&after, Collector::Configuration));
    assert_eq!(after.status.service_up, Some(true));
}

#[tokio::test]
async fn what_vanishes_is_gone_and_what_is_new_is_there_after_one_cycle() {
    let simulator = simulate(estate(3), Options::default()).await;
    let watch = Setup::default().watch(&simulator);
    assert_eq!(known(&watch.cycle().await), existing(&simulator));
    let gone = existing(&simulator).into_iter().next().unwrap();
    let (service, added) = simulator.with_estate(|estate| {
        estate.remove_partition(gone);
        let service = Arc::clone(estate.service_names().first().unwrap());
        estate.remove_service(&service);
        estate.remove_application("fabric:/App10");
        let named = Scheme::Named(vec!["eu".to_owned()]);
        let new = ("fabric:/New", "fabric:/New/Service");
        let added = estate.add_service(new.0, new.1, ServiceKind::Persisted, named, born());
        (service, added)
    });
    let snapshot = watch.cycle().await;
    assert_eq!(known(&snapshot), existing(&simulator));
    assert!(!known(&snapshot).contains(&gone));
    let services: BTreeSet<_> = snapshot.totals.keys().map(|key| &key.service).collect();
    assert!(!services.contains(&Some(service)));
    assert!(services.contains(&Some("fabric:/New/Service".into())));
    assert_eq!(services.len(), 6);
    for id in added {
        assert!(partition(&snapshot, id).read_at().is_some());
    }
}

#[tokio::test]
async fn an_inventory_that_fails_as_a_whole_keeps_everything() {
    let mut estate = estate(3);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let watch = Setup::default().watch(&simulator);
    let before = known(&watch.cycle().await);
    let list = Filter::Operation(Operation::GetApplicationInfoList);
    simulator.inject(Fault::InternalError, list);
    simulator.with_estate(|estate| succeed_everywhere(estate, 200));
    let snapshot = watch.cycle().await;
    assert_eq!(known(&snapshot), before);
    assert_eq!(last_successes(&snapshot), [Some(200)].into());
    assert!(!succeeded(&snapshot, Collector::Inventory));
    assert!(succeeded(&snapshot, Collector::Progress));
    assert_eq!(
        snapshot.status.up,
        Some(true),
        "its version was still answered"
    );
    assert_eq!(
        watch.errors(),
        [(error(Collector::Inventory, "api"), 1)].into()
    );
}

/// Lets one list of many fail after one partition of every group was removed: only what belongs
/// to the failed list may stay.
async fn a_failed_list_keeps_its_own(
    operation: Operation,
    removed: &[Uuid],
    watch: &Watch,
    s: &Simulator,
) {
    let before = known(&watch.cycle().await);
    remove(s, removed);
    s.inject_next(1, Fault::InternalError, Filter::Operation(operation));
    let snapshot = watch.cycle().await;
    let stayed: Vec<_> = removed
        .iter()
        .filter(|id| known(&snapshot).contains(id))
        .collect();
    assert_eq!(stayed.len(), 1);
    assert_eq!(known(&snapshot).len(), before.len() - removed.len() + 1);
    assert!(!succeeded(&snapshot, Collector::Inventory));
    let snapshot = watch.cycle().await;
    assert_eq!(
        known(&snapshot),
        existing(s),
        "and only until the next cycle"
    );
    assert!(succeeded(&snapshot, Collector::Inventory));
}

#[tokio::test]
async fn an_application_whose_services_cannot_be_read_keeps_what_is_known_of_it() {
    let simulator = simulate(estate(3), Options::default()).await;
    let watch = Setup::default().watch(&simulator);
    let removed = one_of_each(&simulator, Estate::application_of);
    assert_eq!(removed.len(), 4);
    let services = Operation::GetServiceInfoList;
    a_failed_list_keeps_its_own(services, &removed, &watch, &simulator).await;
}

#[tokio::test]
async fn a_service_whose_partitions_cannot_be_read_keeps_what_is_known_of_it() {
    let simulator = simulate(estate(3), Options::default()).await;
    let watch = Setup::default().watch(&simulator);
    let removed = one_of_each(&simulator, Estate::service_of);
    assert_eq!(removed.len(), 8);
    let partitions = Operation::GetPartitionInfoList;
    a_failed_list_keeps_its_own(partitions, &removed, &watch, &simulator).await;
}

#[tokio::test]
async fn a_partition_that_vanishes_after_it_was_listed_is_no_failure() {
    let mut estate = estate(1);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let mut watch = Setup::default().watch(&simulator);
    watch.cycle().await;
    let victim = existing(&simulator).into_iter().next_back().unwrap();
    watch.snapshots.mark_unchanged();
    {
        // Requests start in the order of the ids: the last one goes when most time has passed.
        let cycle = watch.poller.cycle(Duration::from_secs(4));
        let listed = async {
            watch.snapshots.changed().await.unwrap();
            remove(&simulator, &[victim]);
        };
        timeout(PATIENCE, async { tokio::join!(cycle, listed) })
            .await
            .expect("a cycle ends");
    }
    let snapshot = watch.snapshot();
    let lost = partition(&snapshot, victim);
    assert_eq!((lost.record(), lost.read_at()), (None, None));
    assert_eq!(last_success(&snapshot, victim), Some(100));
    assert!(succeeded(&snapshot, Collector::Progress));
    assert_eq!(watch.errors(), BTreeMap::new());
    assert!(!known(&watch.cycle().await).contains(&victim));
}

/// Whether a service is to be watched.
type Chosen = fn(&str) -> bool;

#[tokio::test]
async fn selectors_choose_applications_and_services_by_their_whole_names() {
    let simulator = simulate(estate(2), Options::default()).await;
    let names = |snapshot: &Snapshot| -> BTreeSet<String> {
        let partitions = snapshot.partitions.values();
        let names = partitions.filter_map(|known| known.partition.service.clone());
        names.map(|name| name.to_string()).collect()
    };
    let all: BTreeSet<String> = simulator.with_estate(|estate| {
        let names = estate.service_names();
        names.iter().map(ToString::to_string).collect()
    });
    assert!(all.iter().any(|name| name.starts_with("fabric:/App10/")));
    assert!(all.iter().any(|name| name.ends_with("/Orders")));
    let cases: [(&'static str, Chosen); 4] = [
        ("applications: {include: ['fabric:/App1']}", |name| {
            name.starts_with("fabric:/App1/")
        }),
        (
            "applications: {include: ['fabric:/App1.*'], exclude: ['fabric:/App1']}",
            |name| name.starts_with("fabric:/App10/"),
        ),
        ("applications: {exclude: ['fabric:/Shop']}", |name| {
            !name.starts_with("fabric:/Shop/")
        }),
        ("services: {exclude: ['.*/Orders']}", |name| {
            !name.ends_with("/Orders")
        }),
    ];
    for (selectors, chosen) in cases {
        let snapshot = Setup::cluster(selectors).watch(&simulator).cycle().await;
        let expected: BTreeSet<String> = all.iter().filter(|n| chosen(n)).cloned().collect();
        assert_eq!(names(&snapshot), expected, "{selectors}");
        assert!(!expected.is_empty() && expected.len() < all.len());
    }
}

#[tokio::test]
async fn nothing_is_asked_of_what_is_not_selected_or_cannot_be_backed_up() {
    let simulator = simulate(estate(2), Options::default()).await;
    let setup = Setup::cluster("applications: {include: ['fabric:/Shop']}");
    setup.watch(&simulator).cycle().await;
    assert_eq!(requests(&simulator, Operation::GetServiceInfoList), 1);
    let persisted = requests(&simulator, Operation::GetPartitionInfoList);
    assert_eq!(persisted, 2, "of the five services of fabric:/Shop");
    for (operation, expected) in [
        (Operation::GetPartitionBackupProgress, 4),
        (Operation::GetPartitionRestoreProgress, 4),
        (Operation::GetApplicationBackupConfigurationInfo, 1),
    ] {
        let asked = requests(&simulator, operation);
        assert_eq!(asked, expected, "{operation:?}");
    }
}

#[tokio::test]
async fn configured_partitions_are_watched_by_their_names_and_no_others() {
    let mut estate = estate(3);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    // Whoever may read nothing else must still be able to use it.
    for operation in [
        Operation::GetClusterVersion,
        Operation::GetApplicationInfoList,
        Operation::GetServiceInfoList,
        Operation::GetPartitionInfoList,
        Operation::GetPartitionInfo,
    ] {
        simulator.inject(Fault::Forbidden, Filter::Operation(operation));
    }
    let ids: Vec<Uuid> = existing(&simulator).into_iter().step_by(5).collect();
    let missing = Uuid::from_u128(0xdead);
    let watched = [ids.as_slice(), &[missing]].concat();
    let watch = Setup::default().watch_partitions(&simulator, &watched);
    let snapshot = watch.cycle().await;
    assert_eq!(known(&snapshot), ids.iter().copied().collect());
    for id in ids {
        let (service, application) =
            simulator.with_estate(|estate| (estate.service_of(id), estate.application_of(id)));
        assert_eq!(partition(&snapshot, id).partition.service, service);
        assert_eq!(partition(&snapshot, id).partition.application, application);
        assert_eq!(last_success(&snapshot, id), Some(100));
    }
    assert_eq!(snapshot.status.up, Some(true));
    assert!(succeeded(&snapshot, Collector::Inventory));
    assert_eq!(requests(&simulator, Operation::GetApplicationInfoList), 0);
}

#[tokio::test]
async fn names_that_are_forbidden_are_left_out_and_the_progress_is_still_read() {
    let mut estate = estate(3);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    simulator.inject(Fault::Forbidden, Filter::Native);
    let id = existing(&simulator).into_iter().next().unwrap();
    let missing = Uuid::from_u128(0xdead);
    let watch = Setup::default().watch_partitions(&simulator, &[id, missing]);
    let snapshot = watch.cycle().await;
    assert_eq!(known(&snapshot), [id].into());
    assert_eq!(last_success(&snapshot, id), Some(100));
    assert_eq!(
        snapshot.status.up,
        Some(false),
        "no native route lets us in"
    );
    assert_eq!(snapshot.status.service_up, Some(true));
    assert!(!succeeded(&snapshot, Collector::Inventory));
    assert!(succeeded(&snapshot, Collector::Progress));
    let page = watch.page();
    let info = page.all("servicefabric_backup_partition_info", &[]);
    let [info] = info.as_slice() else {
        panic!("one partition: {info:?}");
    };
    let labels: Vec<_> = info.labels.keys().map(String::as_str).collect();
    assert_eq!(labels, ["cluster_name", "partition_id"]);

    simulator.heal();
    let snapshot = watch.cycle().await;
    let service = simulator.with_estate(|estate| estate.service_of(id));
    assert_eq!(partition(&snapshot, id).partition.service, service);
    assert_eq!(snapshot.status.up, Some(true));
}

#[tokio::test]
async fn shards_share_the_partitions_out_without_gap_or_overlap() {
    let simulator = simulate(estate(12), Options::default()).await;
    let mut seen = BTreeSet::new();
    for index in 0..3 {
        let setup = Setup {
            shard: Shard::new(index, 3).unwrap(),
            ..Setup::default()
        };
        let part = known(&setup.watch(&simulator).cycle().await);
        assert!(!part.is_empty());
        for id in part {
            assert!(seen.insert(id), "{id} is watched twice");
        }
    }
    assert_eq!(seen, existing(&simulator));
}

#[tokio::test]
async fn an_absent_backup_service_is_asked_rarely_until_it_is_back() {
    let mut estate = estate(125);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let watch = Setup::progress_only().watch(&simulator);
    watch.cycle().await;
    let progress = || requests(&simulator, Operation::GetPartitionBackupProgress);
    assert_eq!(progress(), 1_000);

    simulator.inject(Fault::ServiceAbsent, Filter::All);
    let dark = watch.cycle().await;
    let asked = progress() - 1_000;
    assert!((1..100).contains(&asked), "{asked} of 1000");
    assert_eq!(dark.status.up, Some(true));
    assert_eq!(dark.status.service_up, Some(false));
    assert_eq!(last_successes(&dark), [Some(100)].into());
    assert_eq!(known(&dark), existing(&simulator));
    let errors = watch.errors();
    let absent = error(Collector::Progress, "service_absent");
    assert_eq!(errors.keys().collect::<Vec<_>>(), [&absent]);
    assert_eq!(errors.get(&absent), Some(&asked));

    simulator.heal();
    simulator.with_estate(|estate| succeed_everywhere(estate, 200));
    eventually("everything is read again", async || {
        let snapshot = watch.cycle().await;
        let all = last_successes(&snapshot) == [Some(200)].into();
        (all && snapshot.status.service_up == Some(true)).then_some(())
    })
    .await;
    assert!(succeeded(&watch.snapshot(), Collector::Progress));
}

#[tokio::test]
async fn a_backup_service_that_hangs_does_not_hold_the_cycle_up() {
    let mut estate = estate(125);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let mut setup = Setup::impatient();
    setup.poll.concurrency = 8;
    let watch = setup.watch(&simulator);
    watch.cycle().await;
    simulator.inject(Fault::Hang, Filter::Backup);
    // One after the other, the eight at a time would take four minutes.
    let snapshot = watch.cycle().await;
    assert_eq!(snapshot.status.up, Some(true));
    assert_eq!(snapshot.status.service_up, Some(false));
    assert_eq!(last_successes(&snapshot), [Some(100)].into());
    let errors = watch.errors();
    let (kind, count) = errors.first_key_value().unwrap();
    assert_eq!(
        (kind, errors.len()),
        (&error(Collector::Progress, "timeout"), 1)
    );
    assert!(*count < 100, "{count} of 1000");
}

#[tokio::test]
async fn a_gateway_that_hangs_is_down_and_says_nothing_of_the_service_behind() {
    let mut estate = estate(12);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let mut setup = Setup::impatient();
    setup.poll.concurrency = 4;
    let watch = setup.watch(&simulator);
    watch.cycle().await;
    simulator.inject(Fault::Hang, Filter::All);
    let snapshot = watch.cycle().await;
    assert_eq!(snapshot.status.up, Some(false));
    assert_eq!(snapshot.status.service_up, None);
    assert_eq!(known(&snapshot), existing(&simulator));
    assert_eq!(last_successes(&snapshot), [Some(100)].into());
}

#[tokio::test]
async fn a_gateway_that_is_gone_is_down_and_says_nothing_of_the_service_behind() {
    let mut estate = estate(12);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let watch = Setup::default().watch(&simulator);
    watch.cycle().await;
    // Even a service that was absent before is neither absent nor there now.
    simulator.inject(Fault::ServiceAbsent, Filter::All);
    assert_eq!(watch.cycle().await.status.service_up, Some(false));
    simulator.stop().await;
    let snapshot = watch.cycle().await;
    assert_eq!(snapshot.status.up, Some(false));
    assert_eq!(snapshot.status.service_up, None);
    assert_eq!(known(&snapshot), existing(&simulator));
    assert_eq!(last_successes(&snapshot), [Some(100)].into());
    let errors = watch.errors();
    assert!(errors.contains_key(&error(Collector::Inventory, "connect")));
}

/// The progress of every partition as a gateway with these switches tells it.
async fn told_with(switches: Switches) -> BTreeMap<PartitionId, Option<BackupProgress>> {
    let options = Options {
        switches,
        ..Options::default()
    };
    let simulator = simulate(with_history(estate(7)), options).await;
    let watch = Setup::default().watch(&simulator);
    let snapshot = watch.cycle().await;
    assert_eq!(watch.errors(), BTreeMap::new());
    let partitions = snapshot.partitions.iter();
    partitions
        .map(|(id, known)| (*id, known.record().cloned()))
        .collect()
}

#[tokio::test]
async fn every_spelling_of_the_wire_tells_the_same() {
    let variants: [fn(&mut Switches); 13] = [
        |wire| wire.lsn_as_string = true,
        |wire| wire.epoch_spelling = EpochSpelling::Number,
        |wire| wire.token_end = TokenEnd::Null,
        |wire| wire.token_end = TokenEnd::Absent,
        |wire| wire.never = Never::EmptyBody,
        |wire| wire.never = Never::NoContent,
        |wire| wire.sentinel = Sentinel::WestOfUtc,
        |wire| wire.partition_epoch = PartitionEpoch::Primary,
        |wire| wire.partition_epoch = PartitionEpoch::CurrentConfiguration,
        |wire| wire.newer_fields = true,
        |wire| wire.brs_accepts_tilde = true,
        |wire| wire.page_size = Some(1),
        |wire| (wire.page_size, wire.token_end) = (Some(3), TokenEnd::Null),
    ];
    let expected = told_with(Switches::default()).await;
    assert_eq!(expected.len(), 56);
    for change in variants {
        let mut variant = Switches::default();
        change(&mut variant);
        let told = told_with(variant.clone()).await;
        assert_eq!(told, expected, "{variant:?}");
    }
}

/// What a fault of one partition is counted as.
async fn reason_of(fault: Fault, setup: Setup) -> BTreeMap<(String, String), u64> {
    let mut estate = estate(2);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let watch = setup.watch(&simulator);
    let before = watch.cycle().await;
    let failing = existing(&simulator).into_iter().next().unwrap();
    simulator.inject(fault, Filter::Partition(failing));
    simulator.with_estate(|estate| succeed_everywhere(estate, 200));
    let after = watch.cycle().await;
    let [then, now] = [&before, &after].map(|snapshot| PartitionSnapshot {
        // The inventory was read; that the fault did not strike.
        inventoried_at: None,
        ..partition(snapshot, failing).clone()
    });
    assert_eq!(then, now, "{fault:?}");
    let others = existing(&simulator).into_iter().filter(|id| *id != failing);
    let others: Vec<_> = others.map(|id| last_success(&after, id)).collect();
    assert_eq!(others, [Some(200); 15], "{fault:?}");
    watch.errors()
}

#[tokio::test]
async fn every_fault_has_its_reason_and_takes_no_success_away() {
    let long = Duration::from_secs(3600);
    let faults = [
        (
            Fault::HangThen504(Duration::from_millis(1)),
            "service_unavailable",
        ),
        (Fault::Hang, "timeout"),
        (Fault::Masked400, "timeout"),
        (Fault::Forbidden, "forbidden"),
        (Fault::Html503, "service_unavailable"),
        (Fault::InternalError, "api"),
        (Fault::NotJson, "decode"),
        (Fault::Reset, "connect"),
        (Fault::SlowBody(long), "timeout"),
        (Fault::TruncatedBody, "connect"),
        (Fault::TooLarge(8 * 1024 * 1024), "too_large"),
    ];
    let cycles = faults.map(|(fault, reason)| async move {
        // Where time is not what fails, a busy machine may take as long as it needs.
        let setup = if reason == "timeout" {
            Setup::impatient()
        } else {
            Setup::progress_only()
        };
        let expected = [(error(Collector::Progress, reason), 1)].into();
        assert_eq!(reason_of(fault, setup).await, expected, "{fault:?}");
    });
    futures_util::future::join_all(cycles).await;
}

#[tokio::test]
async fn lists_without_end_are_given_up() {
    let list = Operation::GetApplicationInfoList;
    for (fault, reason, most) in [
        (Fault::EndlessPaging, "too_large", 1_000),
        (Fault::RepeatedToken, "decode", 2),
    ] {
        let mut estate = estate(2);
        succeed_everywhere(&mut estate, 100);
        let simulator = simulate(estate, Options::default()).await;
        let watch = Setup::default().watch(&simulator);
        watch.cycle().await;
        simulator.inject(fault, Filter::Operation(list));
        simulator.with_estate(|estate| succeed_everywhere(estate, 200));
        let snapshot = watch.cycle().await;
        assert_eq!(requests(&simulator, list), 1 + most);
        assert_eq!(known(&snapshot), existing(&simulator));
        assert_eq!(last_successes(&snapshot), [Some(200)].into());
        let expected = [(error(Collector::Inventory, reason), 1)].into();
        assert_eq!(watch.errors(), expected);
    }
}

#[tokio::test]
async fn a_success_stays_when_a_new_request_takes_its_record_away() {
    let mut estate = estate(2);
    succeed_everywhere(&mut estate, 100);
    let simulator = simulate(estate, Options::default()).await;
    let watch = Setup::default().watch(&simulator);
    watch.cycle().await;
    for outcome in [Outcome::Never, Outcome::Timeout] {
        simulator.with_estate(|estate| {
            for id in estate.partition_ids() {
                estate.conclude(id, outcome.clone(), at(300));
            }
        });
        let snapshot = watch.cycle().await;
        assert_eq!(last_successes(&snapshot), [Some(100)].into());
        let states: BTreeSet<_> = snapshot
            .partitions
            .values()
            .filter_map(|known| Some(known.record()?.state.as_str()))
            .collect();
        assert_eq!(states.len(), 1);
        assert!(!states.contains("Success"), "{outcome:?}");
    }
    let totals = watch.snapshot();
    let timed_out: u64 = totals.totals.values().map(|totals| totals.timed_out).sum();
    assert_eq!(timed_out, 16);
}

const UNMATCHED: &str = "servicefabric_backup_selectors_unmatched";

/// What the last inventory said of the selectors: `None` when it could not be determined.
fn unmatched(watch: &Watch) -> Option<Vec<String>> {
    let snapshot = watch.snapshot();
    let selection = snapshot.status.selection.as_ref()?;
    let unmatched = selection.value.unmatched.iter().map(ToString::to_string);
    let unmatched: Vec<_> = unmatched.collect();
    let exposed = watch.page().value(UNMATCHED, &[("cluster_name", "test")]);
    assert_eq!(
        exposed.map(|count| format!("{count:.0}")),
        Some(unmatched.len().to_string())
    );
    Some(unmatched)
}

#[tokio::test]
async fn patterns_that_match_nothing_are_counted_and_named_with_the_fix() {
    let simulator = simulate(estate(2), Options::default()).await;
    for (selectors, expected) in [
        ("", vec![]),
        (
            "applications: {include: ['fabric:/Shop', 'fabric:/App.*']}",
            vec![],
        ),
        (
            "applications: {include: ['Shop', 'fabric:/App1']}",
            vec!["applications.include \"Shop\" matches nothing, did you mean \"fabric:/Shop\"?"],
        ),
        (
            "applications: {include: ['fabric:/shop']}",
            vec![
                "applications.include \"fabric:/shop\" matches nothing, did you mean \
                 \"(?i)fabric:/shop\"?",
            ],
        ),
        (
            "applications: {include: ['fabric:/Shop']}, services: {include: ['fabric:/Shop', '.*']}",
            vec![
                "services.include \"fabric:/Shop\" matches nothing, did you mean \
                 \"fabric:/Shop/.*\"?",
            ],
        ),
        (
            "applications: {include: ['fabric:/None'], exclude: ['fabric:/Test.*', 'shop']}, \
             services: {include: ['fabric:/None/Orders']}",
            vec![
                "applications.exclude \"shop\" matches nothing, did you mean \
                 \"(?i)fabric:/shop\"?",
                "applications.include \"fabric:/None\" matches nothing",
            ],
        ),
        // A stateless service, which has no backups.
        (
            "services: {include: ['.*/Web']}",
            vec!["services.include \".*/Web\" matches nothing"],
        ),
    ] {
        let watch = Setup::cluster(selectors).watch(&simulator);
        assert_eq!(watch.page().value(UNMATCHED, &[]), None, "not read yet");
        watch.cycle().await;
        let expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(unmatched(&watch), Some(expected), "{selectors}");
    }
}

#[tokio::test]
async fn a_selection_that_could_not_be_read_is_unknown_and_a_later_failure_changes_nothing() {
    let lists = [
        Filter::Operation(Operation::GetApplicationInfoList),
        Filter::Operation(Operation::GetServiceInfoList),
    ];
    for list in lists {
        let simulator = simulate(estate(1), Options::default()).await;
        simulator.inject(Fault::InternalError, list);
        let selectors = "services: {include: ['fabric:/shop/.*']}";
        let watch = Setup::cluster(selectors).watch(&simulator);
        watch.cycle().await;
        assert_eq!(watch.snapshot().status.selection, None);
        assert_eq!(watch.page().value(UNMATCHED, &[]), None);
        simulator.heal();
        watch.cycle().await;
        assert_eq!(unmatched(&watch).map(|told| told.len()), Some(1));
        simulator.inject(Fault::InternalError, list);
        watch.cycle().await;
        assert_eq!(unmatched(&watch).map(|told| told.len()), Some(1));
    }
}

#[tokio::test]
async fn a_shard_that_owns_no_partition_of_a_service_reports_no_selector() {
    let simulator = simulate(estate(1), Options::default()).await;
    for total in [1, 3, 64] {
        for index in (0..total).step_by(7) {
            let setup = Setup {
                shard: Shard::new(index, total).unwrap(),
                ..Setup::cluster("applications: {include: ['fabric:/App1', 'fabric:/Shop']}")
            };
            let watch = setup.watch(&simulator);
            watch.cycle().await;
            assert_eq!(unmatched(&watch), Some(vec![]), "{index} of {total}");
            let selection = watch.snapshot().status.selection.clone().unwrap();
            assert_eq!(selection.value.empty, None);
        }
    }
}

#[tokio::test]
async fn each_configured_partition_that_does_not_exist_is_reported_by_the_shard_that_owns_it() {
    let simulator = simulate(estate(2), Options::default()).await;
    let missing: Vec<Uuid> = (1..=5)
        .map(|number| Uuid::from_u128(number << 64))
        .collect();
    let existing: Vec<Uuid> = existing(&simulator).into_iter().take(3).collect();
    let mut reported = Vec::new();
    for index in 0..2 {
        let setup = Setup {
            shard: Shard::new(index, 2).unwrap(),
            ..Setup::default()
        };
        let ids = [existing.as_slice(), &missing].concat();
        let watch = setup.watch_partitions(&simulator, &ids);
        watch.cycle().await;
        reported.extend(unmatched(&watch).unwrap());
    }
    reported.sort_unstable();
    let mut expected: Vec<_> = missing
        .iter()
        .map(|id| format!("the cluster has no partition {id}"))
        .collect();
    expected.sort_unstable();
    assert_eq!(reported, expected);

    simulator.inject(Fault::InternalError, Filter::Native);
    let watch = Setup::default().watch_partitions(&simulator, &missing);
    watch.cycle().await;
    assert_eq!(watch.snapshot().status.selection, None);
}

#[tokio::test]
async fn a_cluster_without_backups_to_watch_is_no_unmatched_selector() {
    let simulator = simulate(estate(1), Options::default()).await;
    let watch = Setup::default().watch(&simulator);
    let empty = |watch: &Watch| {
        let snapshot = watch.snapshot();
        snapshot.status.selection.as_ref().unwrap().value.empty
    };
    watch.cycle().await;
    assert_eq!(empty(&watch), None);
    simulator.with_estate(|estate| {
        for service in estate.service_names() {
            estate.remove_service(&service);
        }
    });
    watch.cycle().await;
    assert_eq!(
        (unmatched(&watch), empty(&watch)),
        (Some(vec![]), Some(EmptySelection::NoServices))
    );
    simulator.with_estate(|estate| {
        for application in ["Shop", "Retail/Shop", "App1", "App10"] {
            estate.remove_application(&format!("fabric:/{application}"));
        }
    });
    watch.cycle().await;
    let none = Some(EmptySelection::NoApplications);
    assert_eq!((unmatched(&watch), empty(&watch)), (Some(vec![]), none));
}
