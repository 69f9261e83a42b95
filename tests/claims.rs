//! What the poller makes of reported successes and of what the store holds: canned answers, and a
//! clock that the test sets.
//!
//! The answers are those of Service Fabric 6.4, as its published source builds them.

use std::cell::Cell;
use std::sync::Arc;

use crate::support::canned::{Canned, page};
use crate::support::watch::{RULES, Setup, Watch, partition, succeeded};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::protection::evidence::evidence;
use servicefabric_backup_exporter::protection::{Protection, Rules, judge};
use servicefabric_backup_exporter::snapshot::{Collector, Snapshot};
use servicefabric_backup_exporter::state_file::{self, StateFile};
use uuid::Uuid;

const BACKUP: &str = include_str!("samples/GetPartitionBackupList.item-minus-one.json");
const NUMBERED: &str = include_str!("samples/GetPartitionBackupList.latest.json");
const MISMATCH: &str = include_str!("samples/GetPartitionBackupList.checksum-mismatch.json");
const OUT_OF_RANGE: &str = include_str!("samples/error.400.list-index-out-of-range.brs.json");
const HOUR: i64 = 3_600;

thread_local! {
    /// How far the clock of the poller is ahead of that of the machine. Each test runs on one thread.
    static AHEAD: Cell<i64> = const { Cell::new(0) };
}

fn now() -> DateTime<Utc> {
    clock::now() + TimeDelta::seconds(AHEAD.get())
}

fn wait(seconds: i64) {
    AHEAD.set(AHEAD.get() + seconds);
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// One partition of an actor service, backed up every hour.
struct Case {
    canned: Canned,
    watch: Watch,
    id: Uuid,
}

impl Case {
    async fn start(cluster: &'static str) -> Self {
        AHEAD.set(0);
        let canned = Canned::start().await;
        let id = canned.add("fabric:/A", "ActorService", 1)[0];
        let watch = watch(cluster, &canned, Snapshot::empty("test".into()));
        let case = Self { canned, watch, id };
        case.protect(&[("Application", "fabric:/A", "Hourly")]);
        case.set_health(None);
        case.set_list(200, &page([]));
        case
    }

    /// Two policies of the application whose backups go to two containers.
    fn protect_in_two_containers(&self) {
        let policies = ["Hourly", "Other"].map(|name| {
            json!({
                "Name": name, "AutoRestoreOnDataLoss": false, "MaxIncrementalBackups": 0,
                "Schedule": {"ScheduleKind": "FrequencyBased", "Interval": "PT1H"},
                "Storage": {
                    "StorageKind": "AzureBlobStore", "FriendlyName": "", "ConnectionString": "****",
                    "ContainerName": name.to_lowercase(),
                },
            })
        });
        self.canned
            .set("BackupRestore/BackupPolicies", 200, page(policies));
        self.protect(&[
            ("Application", "fabric:/A", "Hourly"),
            ("Service", "fabric:/A/Other", "Other"),
        ]);
    }

    /// The policies that are set, each with the kind and the name of its entity.
    fn protect(&self, set: &[(&str, &str, &str)]) {
        let items = set.iter().map(|(kind, entity, policy)| {
            let mut item = json!({
                "Kind": kind, "PolicyName": policy, "PolicyInheritedFrom": kind,
                "SuspensionInfo": {"IsSuspended": false, "SuspensionInheritedFrom": "Invalid"},
            });
            item[format!("{kind}Name")] = Value::from(*entity);
            item
        });
        let path = "Applications/A/$/GetBackupConfigurationInfo";
        self.canned.set(path, 200, page(items));
    }

    /// Health reports that a periodic backup ended well at that moment; without one, nothing.
    fn set_health(&self, ended: Option<DateTime<Utc>>) {
        let events = ended.map(|ended| {
            json!({
                "SourceId": "System.BackupRestoreManager", "Property": "Backup",
                "HealthState": "Ok", "TimeToLiveInMilliSeconds": "P10675199DT2H48M5.4775807S",
                "RemoveWhenExpired": false, "IsExpired": false,
                "SourceUtcTimestamp": ended.to_rfc3339_opts(SecondsFormat::Millis, true),
            })
        });
        let events: Vec<Value> = events.into_iter().collect();
        let path = format!("Partitions/{}/$/GetHealth", self.id);
        self.canned.set(path, 200, json!({"HealthEvents": events}));
    }

    fn set_list(&self, status: u16, body: &Value) {
        let path = "Applications/A/$/GetBackups";
        self.canned.set(path, status, body.clone());
    }

    /// The backup of a sample, as one of this partition with that time.
    fn backup(&self, sample: &str, created: DateTime<Utc>) -> Value {
        let list: Value = serde_json::from_str(sample).unwrap();
        let mut item = list["Items"][0].clone();
        item["PartitionInformation"]["Id"] = self.id.to_string().into();
        item["CreationTimeUtc"] = rfc3339(created).into();
        item["BackupId"] = Uuid::from_u128(created.timestamp().unsigned_abs().into())
            .to_string()
            .into();
        item["BackupChainId"] = item["BackupId"].clone();
        item
    }

    fn hold(&self, items: Vec<Value>) {
        self.set_list(200, &page(items));
    }

    fn success(&self) -> Option<DateTime<Utc>> {
        let snapshot = self.watch.snapshot();
        let success = partition(&snapshot, self.id).last_success.as_ref()?;
        Some(success.at)
    }

    fn state(&self, rules: &Rules) -> Protection {
        let snapshot = self.watch.snapshot();
        let facts = partition(&snapshot, self.id).facts(&snapshot);
        judge(&facts, rules, now()).state
    }

    /// What the evidence says of the confirmation.
    fn confirmation(&self, rules: &Rules) -> String {
        let snapshot = self.watch.snapshot();
        let facts = partition(&snapshot, self.id).facts(&snapshot);
        let verdict = judge(&facts, rules, now());
        let rows = evidence(&facts, rules, &verdict, now());
        let row = rows.into_iter().find(|it| it.fact.starts_with("confirmed"));
        row.unwrap().value.unwrap()
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let page = self.watch.page();
        let samples = page.all(name, labels);
        samples.first().map(|sample| sample.value)
    }

    fn refuted(&self, source: &str) -> Option<f64> {
        let name = "servicefabric_backup_claims_refuted_total";
        self.metric(name, &[("source", source)])
    }
}

fn watch(cluster: &'static str, canned: &Canned, before: Snapshot) -> Watch {
    let setup = Setup {
        clock: now,
        ..Setup::cluster(cluster)
    };
    setup.watch_endpoints(std::slice::from_ref(&canned.url), &[], before)
}

fn seconds(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(time.timestamp(), 0).unwrap()
}

#[tokio::test]
async fn a_listed_backup_of_an_actor_service_is_a_success() {
    let case = Case::start("").await;
    let created = seconds(now() - TimeDelta::minutes(10));
    case.hold(vec![case.backup(BACKUP, created)]);
    case.watch.cycle().await;
    case.watch.list().await;
    assert_eq!(case.success(), Some(created));
    assert_eq!(case.state(&RULES), Protection::Protected);
    let listed = case.metric("servicefabric_backup_last_listed_timestamp_seconds", &[]);
    let listed = listed.map(|value| format!("{value}"));
    assert_eq!(listed, Some(created.timestamp().to_string()));
    let unrestorable = case.metric("servicefabric_backup_unrestorable_backups", &[]);
    assert_eq!(unrestorable, Some(0.0));
}

#[tokio::test]
async fn an_actor_service_whose_storage_refuses_everything_is_not_protected() {
    let case = Case::start("").await;
    case.set_health(Some(now() - TimeDelta::seconds(30)));
    case.watch.cycle().await;
    assert_eq!(case.state(&RULES), Protection::Protected, "believed so far");
    let unconfirmed = "servicefabric_backup_unconfirmed_successes";
    assert_eq!(case.metric(unconfirmed, &[]), Some(1.0));
    assert_eq!(case.refuted("health"), Some(0.0));
    wait(120);
    case.watch.cycle().await;
    case.watch.list().await;
    assert_eq!(case.success(), None);
    assert_eq!(case.metric(unconfirmed, &[]), Some(0.0));
    assert_eq!(case.refuted("health"), Some(1.0));
    assert_eq!(case.refuted("progress"), Some(0.0));
    for _ in 0..30 {
        // It tries again and again, and calls each attempt a success.
        wait(300);
        case.set_health(Some(now() - TimeDelta::seconds(5)));
        case.watch.cycle().await;
        assert_ne!(case.state(&RULES), Protection::Protected);
        case.watch.list().await;
        assert_ne!(case.state(&RULES), Protection::Protected);
    }
    assert_eq!(case.state(&RULES), Protection::NeverBackedUp);
    let ended = case.confirmation(&RULES);
    assert!(ended.starts_with("no: "), "{ended}");
    // Its storage takes backups again.
    wait(HOUR);
    case.set_health(Some(now() - TimeDelta::seconds(5)));
    case.hold(vec![
        case.backup(BACKUP, seconds(now() - TimeDelta::seconds(20))),
    ]);
    case.watch.cycle().await;
    case.watch.list().await;
    assert_eq!(case.state(&RULES), Protection::Protected);
}

#[tokio::test]
async fn a_claim_is_unknown_once_lists_are_stale_unless_a_listed_backup_has_a_number() {
    let refused =
        json!({"Error": {"Code": "E_UNEXPECTED", "Message": "Unable to get recovery points."}});
    let cases = [
        (Some(BACKUP), Protection::Unknown),
        (Some(NUMBERED), Protection::Protected),
        (None, Protection::Unknown),
    ];
    for (sample, expected) in cases {
        let case = Case::start("").await;
        if let Some(sample) = sample {
            let created = seconds(now() - TimeDelta::minutes(50));
            case.hold(vec![case.backup(sample, created)]);
            case.watch.cycle().await;
            case.watch.list().await;
            assert_eq!(case.state(&RULES), Protection::Protected);
        }
        // From now on the storage refuses both uploads and lists.
        case.set_list(500, &refused);
        wait(600);
        case.set_health(Some(now() - TimeDelta::seconds(5)));
        let mut states = Vec::new();
        for _ in 0..8 {
            case.watch.cycle().await;
            case.watch.list().await;
            states.push(case.state(&RULES));
            wait(290);
        }
        assert_eq!(states[0], Protection::Protected, "{sample:?}");
        assert_eq!(states[7], expected, "{sample:?}: {states:?}");
        let unconfirmed = case.metric("servicefabric_backup_unconfirmed_successes", &[]);
        assert_eq!(unconfirmed, Some(1.0));
        // It can be listed again, and lacks the backup.
        case.hold(Vec::new());
        case.watch.cycle().await;
        case.watch.list().await;
        assert_ne!(case.state(&RULES), Protection::Protected, "{sample:?}");
    }
}

#[tokio::test]
async fn a_store_that_is_emptied_ends_the_success() {
    for collectors in ["", "collectors: {history: true}"] {
        let case = Case::start(collectors).await;
        let created = seconds(now() - TimeDelta::minutes(10));
        case.set_health(Some(created + TimeDelta::seconds(20)));
        case.hold(vec![case.backup(BACKUP, created)]);
        case.watch.cycle().await;
        case.watch.list().await;
        assert_eq!(case.success(), Some(created + TimeDelta::seconds(20)));
        let confirmed = case.confirmation(&RULES);
        assert!(confirmed.starts_with("yes: "), "{confirmed}");
        wait(600);
        case.hold(Vec::new());
        case.watch.cycle().await;
        case.watch.list().await;
        assert_eq!(case.success(), None);
        assert_ne!(case.state(&RULES), Protection::Protected);
        assert_eq!(case.refuted("health"), Some(0.0), "it had been there");
        let listed = case.metric("servicefabric_backup_last_listed_timestamp_seconds", &[]);
        assert_eq!(listed, None);
    }
}

#[tokio::test]
async fn a_requested_backup_in_another_storage_ends_at_the_list() {
    let case = Case::start("").await;
    let created = seconds(now() - TimeDelta::minutes(30));
    case.hold(vec![case.backup(BACKUP, created)]);
    let taken = seconds(now() - TimeDelta::minutes(1));
    let record = json!({
        "BackupState": "Success", "TimeStampUtc": rfc3339(taken),
        "BackupId": Uuid::from_u128(5).to_string(), "BackupLocation": "elsewhere.zip",
        "EpochOfLastBackupRecord": {"DataLossVersion": "-1", "ConfigurationVersion": "-1"},
        "LsnOfLastBackupRecord": -1, "FailureError": null,
    });
    let path = format!("Partitions/{}/$/GetBackupProgress", case.id);
    case.canned.set(path, 200, record);
    case.watch.cycle().await;
    assert_eq!(case.success(), Some(taken));
    case.watch.list().await;
    assert_eq!(case.success(), Some(taken), "too early to say");
    wait(120);
    case.watch.list().await;
    assert_eq!(case.success(), Some(created));
    assert_eq!(case.refuted("progress"), Some(1.0));
}

#[tokio::test]
async fn a_backup_whose_validation_failed_proves_nothing_and_is_counted() {
    let case = Case::start("").await;
    case.hold(vec![case.backup(MISMATCH, now() - TimeDelta::minutes(10))]);
    case.watch.cycle().await;
    case.watch.list().await;
    assert_eq!(case.success(), None);
    assert_ne!(case.state(&RULES), Protection::Protected);
    let unrestorable = case.metric("servicefabric_backup_unrestorable_backups", &[]);
    assert_eq!(unrestorable, Some(1.0));
}

#[tokio::test]
async fn an_incremental_backup_whose_full_one_is_gone_is_no_recovery_point() {
    let case = Case::start("collectors: {history: true}").await;
    let times = [50, 40, 10].map(|minutes| seconds(now() - TimeDelta::minutes(minutes)));
    let mut items = times.map(|created| case.backup(BACKUP, created));
    for item in &mut items[1..] {
        item["BackupType"] = "Incremental".into();
        item["BackupChainId"] = Uuid::from_u128(99).to_string().into();
    }
    case.hold(items.to_vec());
    case.watch.cycle().await;
    case.watch.list().await;
    assert_eq!(case.success(), Some(times[0]));
    for (family, expected) in [
        ("servicefabric_backup_recovery_points", 1.0),
        ("servicefabric_backup_chain_length", 1.0),
        ("servicefabric_backup_unrestorable_backups", 2.0),
    ] {
        assert_eq!(case.metric(family, &[]), Some(expected), "{family}");
    }
}

#[tokio::test]
async fn an_index_out_of_range_is_a_failure_only_where_a_success_is_known() {
    let case = Case::start("").await;
    case.set_list(400, &serde_json::from_str(OUT_OF_RANGE).unwrap());
    case.watch.cycle().await;
    let snapshot = case.watch.list().await;
    assert!(succeeded(&snapshot, Collector::Backups));
    assert_eq!(partition(&snapshot, case.id).listed_at, None, "no list");
    case.set_health(Some(now() - TimeDelta::minutes(10)));
    wait(300);
    case.watch.cycle().await;
    let snapshot = case.watch.list().await;
    assert!(!succeeded(&snapshot, Collector::Backups));
    assert!(case.success().is_some(), "and it ends nothing");
    assert_eq!(case.state(&RULES), Protection::Protected);
}

#[tokio::test]
async fn an_application_that_is_not_protected_any_more_ends_nothing() {
    let case = Case::start("").await;
    case.set_health(Some(now() - TimeDelta::minutes(10)));
    case.watch.cycle().await;
    wait(300);
    let refusal = crate::support::canned::refusal("FABRIC_E_BACKUP_NOT_ENABLED", "Not existing.");
    case.set_list(404, &refusal);
    let snapshot = case.watch.list().await;
    assert!(succeeded(&snapshot, Collector::Backups));
    assert!(case.success().is_some());
}

#[tokio::test]
async fn partitions_are_asked_one_by_one_where_two_policies_have_blob_storages() {
    let case = Case::start("").await;
    case.protect_in_two_containers();
    let created = seconds(now() - TimeDelta::minutes(10));
    case.set_health(Some(created + TimeDelta::seconds(20)));
    let own = format!("Partitions/{}/$/GetBackups", case.id);
    let held = page([case.backup(BACKUP, created)]);
    case.canned.set(own.clone(), 200, held);
    case.watch.cycle().await;
    wait(300);
    case.watch.list().await;
    assert_eq!(case.canned.take_requests(&own).len(), 1);
    assert_eq!(case.success(), Some(created + TimeDelta::seconds(20)));
    assert!(case.confirmation(&RULES).starts_with("yes: "));
    case.canned.set(own, 200, page([]));
    wait(300);
    case.watch.list().await;
    assert_eq!(case.success(), None);
}

#[tokio::test]
async fn one_storage_that_fails_does_not_hide_the_other_one() {
    let case = Case::start("").await;
    case.protect_in_two_containers();
    case.set_health(Some(now() - TimeDelta::minutes(10)));
    let failure = "Unable to get recovery point details.";
    case.set_list(
        500,
        &crate::support::canned::refusal("E_UNEXPECTED", failure),
    );
    let own = format!("Partitions/{}/$/GetBackups", case.id);
    case.canned.set(own.clone(), 200, page([]));
    case.watch.cycle().await;
    wait(300);
    let snapshot = case.watch.list().await;
    assert!(!succeeded(&snapshot, Collector::Backups));
    assert_eq!(case.canned.take_requests(&own).len(), 1);
    assert_eq!(case.success(), None, "its own storage holds nothing");
}

#[tokio::test]
async fn a_partition_that_a_list_shows_is_listed_though_the_list_may_lack_a_storage() {
    let case = Case::start("").await;
    case.protect_in_two_containers();
    let created = seconds(now() - TimeDelta::minutes(10));
    case.set_health(Some(created + TimeDelta::seconds(20)));
    case.set_list(200, &page([case.backup(BACKUP, created)]));
    case.watch.cycle().await;
    wait(300);
    let snapshot = case.watch.list().await;
    let own = format!("Partitions/{}/$/GetBackups", case.id);
    assert_eq!(case.canned.take_requests(&own).len(), 0);
    assert!(partition(&snapshot, case.id).listed_at.is_some());
    assert!(case.confirmation(&RULES).starts_with("yes: "));
}

#[tokio::test]
async fn without_lists_a_success_is_shown_as_unconfirmed() {
    let case = Case::start("collectors: {backups: false}").await;
    case.set_health(Some(now() - TimeDelta::minutes(10)));
    case.watch.cycle().await;
    let rules = Rules {
        reads_lists: false,
        ..RULES
    };
    assert_eq!(case.state(&rules), Protection::Protected);
    let unconfirmed = case.metric("servicefabric_backup_unconfirmed_successes", &[]);
    assert_eq!(unconfirmed, Some(1.0));
    let why = case.confirmation(&rules);
    assert_eq!(why, "no: lists of backups are switched off");
}

#[tokio::test]
async fn a_restart_between_report_and_list_keeps_the_claim_and_its_age() {
    for with_file in [true, false] {
        let mut case = Case::start("").await;
        case.set_health(Some(now() - TimeDelta::minutes(1)));
        let before = case.watch.cycle().await;
        wait(90);
        let mut remembered = Snapshot::empty("test".into());
        if with_file {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.json");
            StateFile::new(path.clone())
                .save(&[Arc::clone(&before)])
                .unwrap();
            let mut loaded = state_file::load(&path, now()).unwrap();
            remembered = loaded.clusters.remove("test").unwrap();
        }
        case.watch = watch("", &case.canned, remembered);
        case.watch.cycle().await;
        case.watch.list().await;
        assert_eq!(case.success().is_none(), with_file);
        wait(90);
        case.watch.list().await;
        assert_eq!(case.success(), None);
    }
}
