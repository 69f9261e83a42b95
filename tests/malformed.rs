//! Malformed answers, from the wire to the metrics: what is beside a malformed value is read, and
//! the malformed one is counted.
//!
//! The gateway answers from a table of bodies, so that no shape of this crate takes part.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::eventually;
use crate::support::process::Setup as Program;
use crate::support::watch::{Setup, Watch, known, partition, succeeded};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Value, json};
use servicefabric_backup_exporter::snapshot::Collector;
use tokio::net::TcpListener;
use uuid::Uuid;

const GOOD: Uuid = Uuid::from_u128(0xA1);
const OTHER: Uuid = Uuid::from_u128(0xB1);
const FOR_EVER: &str = "P10675199DT2H48M5.4775807S";

/// A gateway that answers each path with a body, and all others with 404.
struct Canned {
    url: String,
    bodies: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// How often the applications were listed: once in each cycle.
    lists: Arc<AtomicUsize>,
}

impl Canned {
    async fn start() -> Self {
        let bodies: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
        let lists: Arc<AtomicUsize> = Arc::default();
        let (known, counted) = (Arc::clone(&bodies), Arc::clone(&lists));
        let answer = async move |request: Request| {
            let path = request.uri().path().to_owned();
            counted.fetch_add(usize::from(path == "/Applications"), Ordering::Relaxed);
            let body = known.lock().unwrap().get(&path).cloned();
            body.map_or((StatusCode::NOT_FOUND, Vec::new()), |body| {
                (StatusCode::OK, body)
            })
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let canned = Self { url, bodies, lists };
        canned.set("/$/GetClusterVersion", &json!({"Version": "6.4.514.9494"}));
        canned
    }

    fn set(&self, path: &str, body: &Value) {
        self.set_bytes(path, body.to_string().as_bytes());
    }

    fn set_bytes(&self, path: &str, body: &[u8]) {
        self.bodies
            .lock()
            .unwrap()
            .insert(path.to_owned(), body.to_owned());
    }

    /// Waits until so many more cycles have begun.
    async fn cycles(&self, count: usize) {
        let lists = || self.lists.load(Ordering::Relaxed);
        let before = lists();
        let passed = async || (lists() >= before + count).then_some(());
        eventually("cycles pass", passed).await;
    }

    fn watch(&self) -> Watch {
        Setup::default().watch_at(std::slice::from_ref(&self.url))
    }

    /// Two applications of one service and one partition each, all protected by the policy `Good`
    /// and backed up a moment ago. The second one has a name that is percent-encoded, so its policy is
    /// set at the service: from the application, nothing would be inherited.
    async fn with_two_partitions() -> Self {
        let canned = Self::start().await;
        canned.set(
            "/Applications",
            &list(&[
                json!({"Name": "fabric:/A"}),
                json!({"Name": "fabric:/B \u{fc}"}),
            ]),
        );
        canned.add("A", "fabric:/A", GOOD);
        canned.add("B%20%C3%BC", "fabric:/B \u{fc}", OTHER);
        let entities = [
            json!({"EntityKind": "Application", "ApplicationName": "fabric:/A"}),
            json!({"EntityKind": "Service", "ServiceName": "fabric:/B%20%C3%BC/S"}),
        ];
        canned.set(
            "/BackupRestore/BackupPolicies/Good/$/GetBackupEnabledEntities",
            &list(&entities),
        );
        canned.set("/BackupRestore/BackupPolicies", &list(&[policy("Good")]));
        canned
    }

    fn add(&self, id: &str, application: &str, partition: Uuid) {
        let service = format!("{application}/S");
        let application_path = format!("/Applications/{id}/$");
        self.set(
            &format!("{application_path}/GetServices"),
            &list(&[service_item(&service)]),
        );
        let partitions = list(&[partition_item(partition)]);
        self.set(&format!("/Services/{id}~S/$/GetPartitions"), &partitions);
        let configuration = list(&[configuration(&format!("fabric:/{id}"))]);
        self.set(
            &format!("{application_path}/GetBackupConfigurationInfo"),
            &configuration,
        );
        self.set(
            &format!("{application_path}/GetBackups"),
            &list(&[backup(partition)]),
        );
        let partition_path = format!("/Partitions/{partition}/$");
        self.set(
            &format!("{partition_path}/GetBackupConfigurationInfo"),
            &Value::Null,
        );
        self.set(&format!("{partition_path}/GetBackupProgress"), &Value::Null);
        self.set(
            &format!("{partition_path}/GetRestoreProgress"),
            &Value::Null,
        );
        let health = json!({"HealthEvents": [event()]});
        self.set(&format!("{partition_path}/GetHealth"), &health);
    }
}

fn list(items: &[Value]) -> Value {
    json!({"ContinuationToken": null, "Items": items})
}

fn service_item(name: &str) -> Value {
    json!({"ServiceKind": "Stateful", "Name": name, "HasPersistedState": true})
}

fn partition_item(id: Uuid) -> Value {
    json!({
        "ServiceKind": "Stateful",
        "PartitionInformation": {"ServicePartitionKind": "Singleton", "Id": id.to_string()},
    })
}

fn policy(name: &str) -> Value {
    json!({
        "Name": name, "MaxIncrementalBackups": 3,
        "Schedule": {"ScheduleKind": "FrequencyBased", "Interval": "PT1H"},
        "Storage": {"StorageKind": "FileShare", "Path": r"\\storage\share"},
    })
}

fn configuration(application: &str) -> Value {
    json!({
        "Kind": "Application", "ApplicationName": application, "PolicyName": "Good",
        "PolicyInheritedFrom": "Application",
        "SuspensionInfo": {"IsSuspended": false, "SuspensionInheritedFrom": "Invalid"},
    })
}

fn now() -> String {
    let now = servicefabric_backup_exporter::clock::now();
    now.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn backup(partition: Uuid) -> Value {
    json!({
        "BackupId": Uuid::from_u128(0xC1).to_string(), "BackupType": "Full",
        "BackupChainId": Uuid::from_u128(0xC1).to_string(),
        "PartitionInformation": {"ServicePartitionKind": "Singleton", "Id": partition.to_string()},
        "EpochOfLastBackupRecord": {"DataLossVersion": "-1", "ConfigurationVersion": "-1"},
        "LsnOfLastBackupRecord": "-1", "CreationTimeUtc": now(), "FailureError": null,
    })
}

fn event() -> Value {
    json!({
        "SourceId": "System.BackupRestoreManager", "Property": "Backup", "HealthState": "Ok",
        "TimeToLiveInMilliSeconds": FOR_EVER, "RemoveWhenExpired": false,
        "SourceUtcTimestamp": now(), "IsExpired": false,
    })
}

fn skipped(watch: &Watch, collector: Collector) -> f64 {
    let labels = [("collector", collector.as_str())];
    let page = watch.page();
    page.value("servicefabric_backup_undecodable_items_total", &labels)
        .unwrap()
}

fn is_protected(watch: &Watch, id: Uuid) -> bool {
    let id = id.to_string();
    let labels = [("partition_id", id.as_str()), ("state", "Protected")];
    let page = watch.page();
    page.value("servicefabric_backup_protection_state", &labels) == Some(1.0)
}

#[tokio::test]
async fn names_that_come_encoded_belong_to_what_they_name() {
    let canned = Canned::with_two_partitions().await;
    let watch = canned.watch();
    watch.cycle().await;
    let snapshot = watch.list().await;
    assert_eq!(known(&snapshot), [GOOD, OTHER].into());
    for id in [GOOD, OTHER] {
        assert!(partition(&snapshot, id).has_policy(), "{id}");
        assert!(is_protected(&watch, id), "{id}");
    }
    assert_eq!(watch.errors(), BTreeMap::new());
    for collector in Collector::ALL {
        assert!(skipped(&watch, collector) < 0.5, "{collector:?}");
    }
}

/// One application of a service and a partition, with something malformed beside each of them.
async fn malformed() -> Canned {
    let canned = Canned::with_two_partitions().await;
    let application = json!({"Name": "fabric:/A"});
    canned.set(
        "/Applications",
        &list(&[Value::Null, application, json!({"Name": 7})]),
    );
    let services = [
        json!({"ServiceKind": "Stateful"}),
        service_item("fabric:/A/S"),
    ];
    canned.set("/Applications/A/$/GetServices", &list(&services));
    let partitions = [partition_item(Uuid::nil()), partition_item(GOOD)];
    canned.set("/Services/A~S/$/GetPartitions", &list(&partitions));
    let mut odd = policy("Odd");
    odd["Schedule"]["Interval"] = json!(3600);
    canned.set(
        "/BackupRestore/BackupPolicies",
        &list(&[odd, policy("Good")]),
    );
    let mut bare = configuration("fabric:/A");
    bare["SuspensionInfo"] = json!({});
    let mut nameless = configuration("fabric:/A");
    nameless["PolicyName"] = json!(5);
    let configurations = list(&[nameless, bare]);
    canned.set(
        "/Applications/A/$/GetBackupConfigurationInfo",
        &configurations,
    );
    let mut of_partition = configuration("fabric:/A");
    of_partition["Kind"] = json!("Partition");
    of_partition["ServiceName"] = json!("fabric:/A/S");
    of_partition["PartitionId"] = json!(GOOD.to_string());
    canned.set(
        &format!("/Partitions/{GOOD}/$/GetBackupConfigurationInfo"),
        &of_partition,
    );
    let mut of_nobody = backup(GOOD);
    of_nobody["PartitionInformation"]["Id"] = json!("");
    let mut beyond = backup(GOOD);
    beyond["LsnOfLastBackupRecord"] = json!("18446744073709551616");
    canned.set(
        "/Applications/A/$/GetBackups",
        &list(&[of_nobody, Value::Null, beyond]),
    );
    let health = json!({"HealthEvents": [null, {"SourceId": "System.FM"}, event()]});
    canned.set(&format!("/Partitions/{GOOD}/$/GetHealth"), &health);
    let record = r#"{"BackupState":"Failure","TimeStampUtc":"","LsnOfLastBackupRecord":1e99,
        "FailureError":{"Code":2148734208,"Message":"cut \ud83d and *"}}"#;
    let mut record = record.as_bytes().to_owned();
    let star = record.iter().position(|byte| *byte == b'*').unwrap();
    record[star] = 0xFF;
    canned.set_bytes(&format!("/Partitions/{GOOD}/$/GetBackupProgress"), &record);
    canned
}

#[tokio::test]
async fn a_malformed_item_of_each_list_costs_no_other_and_is_counted() {
    let canned = malformed().await;
    let watch = canned.watch();
    for cycles in [1.0, 2.0] {
        watch.cycle().await;
        let snapshot = watch.list().await;
        assert_eq!(known(&snapshot), [GOOD].into());
        let known = partition(&snapshot, GOOD);
        assert!(known.has_policy() && is_protected(&watch, GOOD));
        let failure = known.record().unwrap().failure.clone().unwrap();
        assert_eq!(failure.code.as_str(), "0x80131500");
        assert_eq!(
            failure.message.as_deref(),
            Some("cut \u{fffd} and \u{fffd}")
        );
        assert_eq!(watch.errors(), BTreeMap::new());
        for (collector, items) in [
            (Collector::Inventory, 4.0),
            (Collector::Policies, 1.0),
            (Collector::Configuration, 1.0),
            (Collector::Health, 1.0),
            (Collector::Backups, 2.0),
            (Collector::Progress, 0.0),
        ] {
            assert!(succeeded(&snapshot, collector), "{collector:?}");
            let counted = skipped(&watch, collector);
            assert!(
                (counted - items * cycles).abs() < 0.5,
                "{collector:?}: {counted}"
            );
        }
    }
}

#[tokio::test]
async fn what_a_malformed_item_may_describe_is_not_forgotten() {
    for (path, item) in [
        ("/Applications", json!({"Name": "B"})),
        ("/Applications/A/$/GetServices", json!({"ServiceKind": 5})),
        ("/Services/A~S/$/GetPartitions", partition_item(Uuid::nil())),
    ] {
        let canned = Canned::with_two_partitions().await;
        let watch = canned.watch();
        assert_eq!(known(&watch.cycle().await), [GOOD, OTHER].into());
        canned.set(path, &list(&[item]));
        assert_eq!(known(&watch.cycle().await), [GOOD, OTHER].into(), "{path}");
        canned.set(path, &list(&[]));
        assert!(!known(&watch.cycle().await).contains(&GOOD), "{path}");
    }
}

#[tokio::test]
async fn malformed_items_are_logged_when_they_begin_and_when_they_end() {
    let canned = Canned::with_two_partitions().await;
    let policies = "/BackupRestore/BackupPolicies";
    canned.set(policies, &list(&[policy("Good"), Value::Null]));
    let config = format!(
        "poll: {{interval: 1s, timeout: 1s, staleness: 1m}}\nclusters: [{{name: test, endpoints: ['{}']}}]",
        canned.url
    );
    let exporter = Program::new(&config).start().await;
    exporter
        .logs("the collector policies skipped 1 items")
        .await;
    canned.cycles(3).await;
    canned.set(policies, &list(&[policy("Good")]));
    exporter
        .logs("the collector policies can decode all items again")
        .await;
    canned.cycles(2).await;
    let log = exporter.log();
    assert_eq!(
        log.matches("the collector policies skipped").count(),
        1,
        "{log}"
    );
    assert_eq!(
        log.matches("can decode all items again").count(),
        1,
        "{log}"
    );
}
