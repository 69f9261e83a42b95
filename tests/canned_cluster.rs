//! Whole cycles of the poller against canned answers: configurations that fail or mislead, and
//! entities that are deleted while they are read.
//!
//! The answers are those of Service Fabric 6.4, as its published source builds them.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::canned::{Canned, page, refusal};
use crate::support::watch::{RULES, Setup, Watch, error, known, partition, succeeded};
use serde_json::{Value, json};
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::model::Level;
use servicefabric_backup_exporter::protection::applied::Applied as Known;
use servicefabric_backup_exporter::protection::{Protection, judge};
use servicefabric_backup_exporter::snapshot::{Collector, Snapshot};
use uuid::Uuid;

const CONFIGURATION: &str = "/$/GetBackupConfigurationInfo";

/// A policy with the level where it was set, and the level that is suspended.
type Applied = (Option<(&'static str, &'static str)>, Option<&'static str>);

const NOTHING: Applied = (None, None);

/// What is known to apply to a partition.
fn applied(snapshot: &Snapshot, id: Uuid) -> Known {
    let applied = partition(snapshot, id).applied.as_deref();
    applied.unwrap().clone()
}

fn expected(applied: Applied) -> Known {
    let level = |word| Level::from_word(word).unwrap();
    let policy = applied.0.map(|(name, from)| (name.into(), level(from)));
    let suspended = applied.1.map(level);
    Known { policy, suspended }
}

fn state(snapshot: &Snapshot, id: Uuid) -> Protection {
    let facts = partition(snapshot, id).facts(snapshot);
    judge(&facts, &RULES, clock::now()).state
}

/// One item of a configuration. An application or a service is called by its name.
fn item(kind: &str, entity: &str, applied: Applied) -> Value {
    let (policy, from) = applied.0.unzip();
    let mut item = json!({
        "Kind": kind, "PolicyName": policy, "PolicyInheritedFrom": from,
        "SuspensionInfo": {
            "IsSuspended": applied.1.is_some(),
            "SuspensionInheritedFrom": applied.1.unwrap_or("Invalid"),
        },
    });
    let keys: &[&str] = match kind {
        "Application" => &["ApplicationName"],
        "Service" => &["ServiceName"],
        _ => &["PartitionId"],
    };
    for key in keys {
        item[key] = entity.into();
    }
    item
}

/// What the route of a partition answers.
fn own_answer(id: Uuid, applied: Applied) -> Value {
    match applied {
        NOTHING => Value::Null,
        applied => item("Partition", &id.to_string(), applied),
    }
}

fn null_reference() -> Value {
    let message = "Object reference not set to an instance of an object.";
    refusal("E_UNEXPECTED", message)
}

fn of_application(name: &str) -> String {
    format!("Applications/{name}{CONFIGURATION}")
}

fn of_partition(id: Uuid) -> String {
    format!("Partitions/{id}{CONFIGURATION}")
}

/// Asks every partition in every cycle, where they are asked at all.
fn without_turns() -> Setup {
    let mut setup = Setup::default();
    setup.poll.staleness = setup.poll.interval;
    setup
}

fn watch(setup: Setup, canned: &Canned) -> Watch {
    setup.watch_at(std::slice::from_ref(&canned.url))
}

fn assert_read(watch: &Watch, context: &str) {
    let snapshot = watch.snapshot();
    for collector in [Collector::Inventory, Collector::Configuration] {
        assert!(succeeded(&snapshot, collector), "{collector:?} {context}");
    }
    assert_eq!(watch.errors(), BTreeMap::new(), "{context}");
}

/// All ways in which a partition can be protected or not, and the verdict on a partition whose
/// last backup is years old.
const WAYS: [(Applied, Protection); 6] = [
    (NOTHING, Protection::Unprotected),
    ((Some(("Hourly", "Application")), None), Protection::Overdue),
    (
        (Some(("Daily", "Service")), Some("Partition")),
        Protection::Suspended,
    ),
    (
        (Some(("Daily", "Partition")), Some("Service")),
        Protection::Suspended,
    ),
    (
        (Some(("Hourly", "Service")), Some("Application")),
        Protection::Suspended,
    ),
    ((Some(("Daily", "Service")), None), Protection::Overdue),
];

#[tokio::test]
async fn an_application_that_answers_500_is_read_partition_by_partition() {
    for (count, offset) in [(1, 0), (1, 1), (1, 2), (2, 3), (30, 0)] {
        let context = format!("{count} partitions from {offset}");
        let canned = Canned::start().await;
        let broken = canned.add("fabric:/Broken", "Orders", count);
        let fine = canned.add("fabric:/Fine", "Orders", count);
        canned.set(of_application("Broken"), 500, null_reference());
        let policy = (Some(("Hourly", "Application")), None);
        let line = item("Application", "fabric:/Fine", policy);
        canned.set(of_application("Fine"), 200, page([line]));
        let ways = WAYS.iter().cycle().skip(offset);
        let ways: BTreeMap<Uuid, _> = broken.iter().copied().zip(ways).collect();
        for (id, (applied, _)) in &ways {
            canned.set(of_partition(*id), 200, own_answer(*id, *applied));
        }
        let watch = watch(Setup::default(), &canned);
        let snapshot = watch.cycle().await;
        for (id, (way, verdict)) in &ways {
            assert_eq!(applied(&snapshot, *id), expected(*way), "{context}");
            assert_eq!(state(&snapshot, *id), *verdict, "{context}");
        }
        for id in &fine {
            assert_eq!(applied(&snapshot, *id), expected(policy), "{context}");
        }
        assert_read(&watch, &context);
        let asked = canned.take_requests(CONFIGURATION);
        let once = broken.iter().map(|id| (of_partition(*id), 1));
        let once = once.chain(["Broken", "Fine"].map(|name| (of_application(name), 1)));
        assert_eq!(
            asked,
            once.collect(),
            "each once, and nothing else: {context}"
        );
    }
}

#[tokio::test]
async fn what_applies_is_followed_while_applications_break_and_recover() {
    let canned = Canned::start().await;
    let applications = ["A", "AB", "C"];
    let ids = [1, 3, 8].into_iter().zip(applications);
    let ids = ids.map(|(count, name)| canned.add(&format!("fabric:/{name}"), "Orders", count));
    let ids: Vec<Vec<Uuid>> = ids.collect();
    let watch = watch(without_turns(), &canned);
    for (cycle, broken) in [0b000_u8, 0b010, 0b111, 0b101, 0b000, 0b001, 0b110, 0b000]
        .into_iter()
        .enumerate()
    {
        canned.reset();
        canned.take_requests(CONFIGURATION);
        let policy = ["Hourly", "Daily"][cycle % 2];
        for (number, name) in applications.into_iter().enumerate() {
            let is_broken = broken >> number & 1 == 1;
            let set = (Some((policy, "Application")), None);
            let line = item("Application", &format!("fabric:/{name}"), set);
            let (status, body) = if is_broken {
                (500, null_reference())
            } else {
                (200, page([line]))
            };
            canned.set(of_application(name), status, body);
            for id in &ids[number] {
                // The partitions of an application that answers say something else, unasked.
                let own = if is_broken { set } else { NOTHING };
                canned.set(of_partition(*id), 200, own_answer(*id, own));
            }
        }
        let snapshot = watch.cycle().await;
        let set = expected((Some((policy, "Application")), None));
        for id in ids.iter().flatten() {
            assert_eq!(applied(&snapshot, *id), set, "cycle {cycle}");
        }
        assert_read(&watch, &format!("cycle {cycle}"));
        let asked = canned.take_requests(CONFIGURATION);
        let counts = asked
            .iter()
            .filter(|(path, _)| path.starts_with("Partitions"));
        let of_broken = ids.iter().enumerate();
        let of_broken = of_broken.filter(|(number, _)| broken >> number & 1 == 1);
        let of_broken: usize = of_broken.map(|(_, ids)| ids.len()).sum();
        assert_eq!(counts.count(), of_broken, "cycle {cycle}");
        assert!(asked.values().all(|count| *count == 1), "{asked:?}");
    }
}

#[tokio::test]
async fn partitions_are_asked_in_turns_so_that_each_is_asked_twice_before_it_is_stale() {
    for count in [1, 2, 7, 30] {
        let canned = Canned::start().await;
        let ids = canned.add("fabric:/Broken", "Orders", count);
        canned.set(of_application("Broken"), 500, null_reference());
        // An interval of 60 s and a staleness of 300 s make two turns.
        let watch = watch(Setup::default(), &canned);
        let mut turns: Vec<BTreeSet<String>> = Vec::new();
        for _ in 0..5 {
            watch.cycle().await;
            let asked = canned.take_requests(CONFIGURATION);
            assert!(asked.values().all(|count| *count == 1), "{asked:?}");
            let paths = asked
                .into_keys()
                .filter(|path| path.starts_with("Partitions"));
            turns.push(paths.collect());
        }
        let all: BTreeSet<String> = ids.iter().map(|id| of_partition(*id)).collect();
        assert_eq!(turns[0], all, "nothing is known at first");
        for pair in turns[1..].windows(2) {
            assert!(pair[0].is_disjoint(&pair[1]), "{count}");
            assert_eq!(&pair[0] | &pair[1], all, "{count}");
            assert!(pair[0].len() <= count.div_ceil(2), "{count}");
        }
    }
}

#[tokio::test]
async fn a_partition_that_cannot_be_asked_keeps_what_is_known_of_it() {
    for failing in [1, 4, 9] {
        let canned = Canned::start().await;
        let ids = canned.add("fabric:/Broken", "Orders", 9);
        let watch = watch(without_turns(), &canned);
        let set = |policy: &'static str, failing: &[Uuid]| {
            canned.set(of_application("Broken"), 500, null_reference());
            for id in &ids {
                let answer = own_answer(*id, (Some((policy, "Service")), None));
                canned.set(of_partition(*id), 200, answer);
            }
            for id in failing {
                let answer = refusal("FABRIC_E_KEY_NOT_FOUND", "");
                canned.set(of_partition(*id), 404, answer);
            }
        };
        set("Hourly", &[]);
        let before = watch.cycle().await;
        assert_read(&watch, "before");
        let (failed, read) = ids.split_at(failing);
        set("Daily", failed);
        let after = watch.cycle().await;
        assert!(!succeeded(&after, Collector::Configuration));
        let count = u64::try_from(failing).unwrap();
        let errors = [(error(Collector::Configuration, "api"), count)];
        assert_eq!(watch.errors(), errors.into());
        for id in failed {
            let [then, now] = [&before, &after].map(|it| partition(it, *id));
            assert_eq!(then.applied, now.applied);
            assert_eq!(then.applied_at, now.applied_at, "it goes stale");
        }
        for id in read {
            let daily = expected((Some(("Daily", "Service")), None));
            assert_eq!(applied(&after, *id), daily);
        }
        set("Daily", &[]);
        let healed = watch.cycle().await;
        assert!(succeeded(&healed, Collector::Configuration));
    }
}

#[tokio::test]
async fn the_lines_of_an_application_whose_name_begins_alike_do_not_leak() {
    let canned = Canned::start().await;
    let [app1, app10] = ["fabric:/App1", "fabric:/App10"].map(|application| {
        let ids = canned.add(application, "Orders", 2);
        (application, ids)
    });
    let by_service = (Some(("Daily", "Service")), Some("Application"));
    let own = |suspended| (Some(("Hourly", "Application")), suspended);
    // `fabric:/App1` is suspended, and its answer says so of the other application as well. Its
    // second partition is suspended by itself and named with the policy of the application.
    let id = app1.1[1].to_string();
    let own_suspension = (Some(("Hourly", "Application")), Some("Partition"));
    let of_app1 = [
        item("Application", app1.0, own(Some("Application"))),
        item("Service", "fabric:/App1/Orders", by_service),
        item("Application", app10.0, own(Some("Application"))),
        item("Partition", &id, own_suspension),
    ];
    let of_app10 = [item("Application", app10.0, own(None))];
    for reversed in [false, true] {
        let mut lines = of_app1.to_vec();
        if reversed {
            lines.reverse();
        }
        canned.set(of_application("App1"), 200, page(lines));
        canned.set(of_application("App10"), 200, page(of_app10.clone()));
        let snapshot = watch(Setup::default(), &canned).cycle().await;
        for (id, suspended) in app1.1.iter().zip(["Application", "Partition"]) {
            let daily = (Some(("Daily", "Service")), Some(suspended));
            assert_eq!(applied(&snapshot, *id), expected(daily));
        }
        for id in &app10.1 {
            assert_eq!(applied(&snapshot, *id), expected(own(None)));
        }
    }
}

#[tokio::test]
async fn an_application_that_contradicts_the_policies_is_read_partition_by_partition() {
    let canned = Canned::start().await;
    let denied = canned.add("fabric:/Denied", "Orders", 3);
    let bare = canned.add("fabric:/Bare", "Orders", 3);
    let entity = json!({"EntityKind": "Service", "ServiceName": "fabric:/Denied/Orders"});
    let entities = "BackupRestore/BackupPolicies/Daily/$/GetBackupEnabledEntities";
    canned.set(entities, 200, page([entity]));
    let daily = (Some(("Daily", "Service")), None);
    for id in &denied {
        canned.set(of_partition(*id), 200, own_answer(*id, daily));
    }
    let watch = watch(Setup::default(), &canned);
    let snapshot = watch.cycle().await;
    for (id, bare) in denied.iter().zip(&bare) {
        assert_eq!(applied(&snapshot, *id), expected(daily));
        assert_eq!(applied(&snapshot, *bare), expected(NOTHING));
    }
    assert_read(&watch, "denied");
    let asked = canned.take_requests(CONFIGURATION);
    assert_eq!(asked.len(), 2 + denied.len());

    // Where that cannot be checked, the answer is not believed.
    canned.set(entities, 500, refusal("FABRIC_E_KEY_NOT_FOUND", ""));
    let unchecked = Setup::default().watch_at(std::slice::from_ref(&canned.url));
    let snapshot = unchecked.cycle().await;
    assert_eq!(partition(&snapshot, bare[0]).applied, None);
    assert!(!succeeded(&snapshot, Collector::Configuration));
}

#[tokio::test]
async fn an_answer_with_a_line_that_cannot_be_decoded_is_not_relied_on() {
    for odd in [
        json!({"Kind": "Partition", "PolicyName": "Daily", "PartitionId": "none"}),
        json!({"Kind": "Service", "PolicyName": "Daily", "ServiceName": 7}),
    ] {
        let canned = Canned::start().await;
        let ids = canned.add("fabric:/Odd", "Orders", 3);
        let line = item(
            "Application",
            "fabric:/Odd",
            (Some(("Hourly", "Application")), None),
        );
        canned.set(of_application("Odd"), 200, page([line, odd.clone()]));
        let daily = (Some(("Daily", "Service")), None);
        for id in &ids {
            canned.set(of_partition(*id), 200, own_answer(*id, daily));
        }
        let snapshot = watch(Setup::default(), &canned).cycle().await;
        for id in ids {
            assert_eq!(applied(&snapshot, id), expected(daily), "{odd}");
        }
    }
}

#[tokio::test]
async fn policies_and_suspensions_that_outlive_a_service_apply_once_it_is_created_again() {
    let canned = Canned::start().await;
    let bystander = canned.add("fabric:/A", "Carts", 1)[0];
    let policy = (Some(("Daily", "Service")), Some("Service"));
    let service = item("Service", "fabric:/A/Orders", policy);
    let gone = Uuid::from_u128(0xdead).to_string();
    let partition = item("Partition", &gone, (Some(("Daily", "Partition")), None));
    // The application has no policy of its own.
    canned.set(of_application("A"), 200, page([service, partition]));
    let watch = watch(Setup::default(), &canned);
    let snapshot = watch.cycle().await;
    assert_eq!(known(&snapshot), [bystander].into());
    assert_eq!(applied(&snapshot, bystander), expected(NOTHING));
    for id in canned.add("fabric:/A", "Orders", 2) {
        let snapshot = watch.cycle().await;
        assert_eq!(applied(&snapshot, id), expected(policy));
        assert_eq!(applied(&snapshot, bystander), expected(NOTHING));
    }
    let asked = canned.take_requests(CONFIGURATION);
    assert_eq!(asked.len(), 1, "no partition was asked: {asked:?}");
}

/// A name that the backup service percent-encodes, as it answers with it.
fn encoded(name: &str) -> String {
    name.replace(' ', "%20").replace('ö', "%C3%B6")
}

#[tokio::test]
async fn partitions_below_an_encoded_name_do_not_inherit_the_policy_of_their_application() {
    for (application, service) in [("My App", "Orders"), ("App", "Köln Ost"), ("Köln", "A B")] {
        let canned = Canned::start().await;
        let name = format!("fabric:/{application}");
        let ids = canned.add(&name, service, 3);
        let service = format!("{name}/{service}");
        let inherited = item(
            "Application",
            &encoded(&name),
            (Some(("Hourly", "Application")), None),
        );
        let answer = page([inherited]);
        canned.set(of_application(application), 200, answer);
        let own = (Some(("Daily", "Partition")), Some("Partition"));
        canned.set(of_partition(ids[0]), 200, own_answer(ids[0], own));
        let watch = watch(without_turns(), &canned);
        let snapshot = watch.cycle().await;
        let found: Vec<_> = ids.iter().map(|id| applied(&snapshot, *id)).collect();
        let expectation = [own, NOTHING, NOTHING].map(expected);
        assert_eq!(found, expectation, "{service}");
        assert_eq!(state(&snapshot, ids[1]), Protection::Unprotected);
        assert_read(&watch, &service);

        // A policy at the service reaches them, although their own answer stays the same.
        let entity = json!({"EntityKind": "Service", "ServiceName": encoded(&service)});
        let entities = "BackupRestore/BackupPolicies/Daily/$/GetBackupEnabledEntities";
        canned.set(entities, 200, page([entity]));
        let line = item(
            "Service",
            &encoded(&service),
            (Some(("Daily", "Service")), None),
        );
        canned.set(of_application(application), 200, page([line]));
        let snapshot = watch.cycle().await;
        let found: Vec<_> = ids.iter().map(|id| applied(&snapshot, *id)).collect();
        let daily = (Some(("Daily", "Service")), None);
        assert_eq!(found, [own, daily, daily].map(expected), "{service}");
    }
}

/// Codes of what does not exist, as a name and as a number.
fn gone() -> [Value; 4] {
    let service = refusal(
        "FABRIC_E_SERVICE_DOES_NOT_EXIST",
        "The service does not exist.",
    );
    let application = refusal("FABRIC_E_APPLICATION_NOT_FOUND", "Not found.");
    let partition = refusal("FABRIC_E_PARTITION_NOT_FOUND", "Not found.");
    let number = refusal(0x8007_1BCD_u32, "The service does not exist.");
    [service, application, partition, number]
}

/// The partitions of three applications with two services each.
fn six_services(canned: &Canned) -> BTreeMap<String, Vec<Uuid>> {
    let mut ids = BTreeMap::new();
    for (number, application) in ["A", "B", "C"].into_iter().enumerate() {
        for service in ["X", "Y"] {
            let added = canned.add(&format!("fabric:/{application}"), service, number + 1);
            ids.insert(format!("{application}/{service}"), added);
        }
    }
    ids
}

#[tokio::test]
async fn a_service_that_is_listed_while_it_is_being_deleted_is_gone() {
    for (code, deleted) in gone().iter().zip([
        &["A/X"][..],
        &["A/X", "A/Y"],
        &["A/X", "B/Y", "C/X"],
        &["C/Y"],
    ]) {
        let canned = Canned::start().await;
        let ids = six_services(&canned);
        let watch = watch(Setup::default(), &canned);
        let before = watch.cycle().await;
        assert_eq!(known(&before).len(), 12);
        for service in deleted {
            canned.set(format!("Services/{service}/$/GetPartitions"), 404, code);
        }
        let rest = ids
            .iter()
            .filter(|(name, _)| !deleted.contains(&name.as_str()));
        let rest: BTreeSet<Uuid> = rest.flat_map(|(_, ids)| ids).copied().collect();
        for _ in 0..3 {
            let snapshot = watch.cycle().await;
            assert_eq!(known(&snapshot), rest, "{code}");
            assert_read(&watch, &code.to_string());
        }
        let services: BTreeSet<_> = watch.snapshot().totals.keys().cloned().collect();
        assert_eq!(services.len(), 6 - deleted.len());
        let fresh = Setup::default().watch_at(std::slice::from_ref(&canned.url));
        assert_eq!(known(&fresh.cycle().await), rest, "{code}");
        assert_read(&fresh, &code.to_string());
    }
}

#[tokio::test]
async fn an_application_that_is_listed_while_it_is_being_deleted_is_gone() {
    for code in gone() {
        let canned = Canned::start().await;
        let ids = six_services(&canned);
        let watch = watch(Setup::default(), &canned);
        watch.cycle().await;
        canned.set("Applications/B/$/GetServices", 404, &code);
        let rest = ids.iter().filter(|(name, _)| !name.starts_with('B'));
        let rest: BTreeSet<Uuid> = rest.flat_map(|(_, ids)| ids).copied().collect();
        assert_eq!(known(&watch.cycle().await), rest, "{code}");
        assert_read(&watch, &code.to_string());
    }
}

#[tokio::test]
async fn another_error_about_a_service_keeps_what_is_known_of_it() {
    let canned = Canned::start().await;
    six_services(&canned);
    let watch = watch(Setup::default(), &canned);
    let before = known(&watch.cycle().await);
    let other = refusal("FABRIC_E_KEY_NOT_FOUND", "");
    canned.set("Services/A/X/$/GetPartitions", 404, &other);
    canned.set("Applications/B/$/GetServices", 404, &other);
    let snapshot = watch.cycle().await;
    assert_eq!(known(&snapshot), before);
    assert!(!succeeded(&snapshot, Collector::Inventory));
}

#[tokio::test]
async fn a_configured_partition_whose_service_is_deleted_is_gone() {
    for code in gone() {
        for route in ["GetApplicationName", "GetServiceName"] {
            let canned = Canned::start().await;
            let ids = six_services(&canned);
            let all: Vec<Uuid> = ids.values().flatten().copied().collect();
            let endpoints = std::slice::from_ref(&canned.url);
            let nothing = Snapshot::empty("test".into());
            let watch = Setup::default().watch_endpoints(endpoints, &all, nothing);
            assert_eq!(known(&watch.cycle().await).len(), 12);
            let deleted = &ids["B/X"];
            canned.set("Services/B/X/$/GetApplicationName", 404, &code);
            for id in deleted.iter().filter(|_| route == "GetServiceName") {
                canned.set(format!("Partitions/{id}/$/GetServiceName"), 404, &code);
            }
            let snapshot = watch.cycle().await;
            let rest = all.iter().filter(|id| !deleted.contains(id)).copied();
            assert_eq!(known(&snapshot), rest.collect(), "{code} {route}");
            assert_read(&watch, &format!("{code} {route}"));
            let selection = snapshot.status.selection.as_ref().unwrap();
            assert_eq!(selection.value.unmatched.len(), deleted.len());
        }
    }
}

#[tokio::test]
async fn what_is_deleted_after_it_was_listed_fails_no_collector() {
    for code in gone() {
        let canned = Canned::start().await;
        let ids = six_services(&canned);
        for name in ["A", "B", "C"] {
            let policy = (Some(("Hourly", "Application")), None);
            let line = item("Application", &format!("fabric:/{name}"), policy);
            canned.set(of_application(name), 200, page([line]));
            canned.set(format!("Applications/{name}/$/GetBackups"), 200, page([]));
        }
        let watch = watch(without_turns(), &canned);
        watch.cycle().await;
        let before = watch.list().await;
        canned.set(of_application("A"), 404, &code);
        canned.set("Applications/A/$/GetBackups", 404, &code);
        canned.set(of_application("C"), 500, null_reference());
        let deleted = ids["C/Y"][0];
        for route in [
            "GetBackupProgress",
            "GetRestoreProgress",
            "GetBackupConfigurationInfo",
        ] {
            canned.set(format!("Partitions/{deleted}/$/{route}"), 404, &code);
        }
        watch.cycle().await;
        let after = watch.list().await;
        assert_eq!(watch.errors(), BTreeMap::new(), "{code}");
        for (collector, status) in &after.status.collectors {
            assert!(status.success, "{collector:?} {code}");
        }
        assert_eq!(partition(&after, deleted).progress, None);
        let [then, now] = [&before, &after].map(|it| partition(it, ids["A/X"][0]));
        assert_eq!(then.applied_at, now.applied_at);
        assert_eq!(then.listed_at, now.listed_at);
    }
}
