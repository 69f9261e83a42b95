//! Policies, configurations, backup lists and health of the simulated gateway, compared with the
//! published samples.
//!
//! Every test uses a socket and reqwest, not the client of this crate.

use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc, Weekday};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use servicefabric_backup_exporter::simulator::{
    CANARY, Entity, Estate, Fault, Filter, Operation, Options, Policy, Prefixes, RestoreOutcome,
    RestorePlan, Retention, Schedule, Scheme, Secrets, ServiceKind, Simulator, StateProvider,
    Storage, Switches, UnconfiguredApplication,
};
use tokio::net::TcpListener;
use uuid::Uuid;

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const HOUR: Duration = Duration::from_secs(3600);

/// `fabric:/App1` with two services, all of it backed up every hour for a day; `fabric:/App10`,
/// where one service is; `fabric:/Bare`, where nothing is.
struct Gateway {
    simulator: Simulator,
    client: Client,
    /// A partition of `fabric:/App1/Orders`.
    id: Uuid,
    /// The partition of `fabric:/Bare/Notes`.
    bare: Uuid,
    now: DateTime<Utc>,
}

struct Reply {
    status: StatusCode,
    content_type: Option<String>,
    resource_not_found: bool,
    body: String,
}

impl Gateway {
    async fn with(switches: Switches) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = Client::builder().no_proxy().build().expect("a client");
        // Responses follow the clock that the Date header of the gateway shows.
        let now = date_of(&client).await;
        let (mut estate, born) = (Estate::empty(4, now), now - TimeDelta::days(1));
        let mut add = |application: &str, service: &str, scheme| {
            let service = format!("{application}/{service}");
            estate.add_service(application, &service, ServiceKind::Persisted, scheme, born)
        };
        let id = add("fabric:/App1", "Orders", Scheme::Ranges(2))[0];
        add("fabric:/App1", "Carts", Scheme::Singleton);
        add(
            "fabric:/App10",
            "Orders",
            Scheme::Named(vec!["eu".to_owned()]),
        );
        let bare = add("fabric:/Bare", "Notes", Scheme::Singleton)[0];
        for policy in policies() {
            estate.add_policy(policy, born);
        }
        let mut enable = |entity, policy| {
            estate
                .enable(&entity, policy, born)
                .expect("what exists can be protected");
        };
        enable(Entity::application("fabric:/App1"), "Hourly");
        enable(Entity::service("fabric:/App10/Orders"), "Nightly");
        estate.tick(now);
        let options = Options {
            switches,
            ..Options::default()
        };
        Self {
            simulator: Simulator::start(listener, estate, options).expect("a bound listener"),
            client,
            id,
            bare,
            now,
        }
    }

    async fn start() -> Self {
        Self::with(Switches::default()).await
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Reply {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{path}{mark}api-version=6.4", self.simulator.url());
        let request = self.client.request(method, url).body(body);
        let response = request.send().await.expect("an answer");
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        Reply {
            status: response.status(),
            content_type: header("content-type"),
            resource_not_found: header("x-servicefabric").as_deref() == Some("ResourceNotFound"),
            body: response.text().await.expect("a body"),
        }
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, String::new()).await
    }

    async fn json(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        assert_eq!(reply.content_type.as_deref(), Some(JSON), "{path}");
        serde_json::from_str(&reply.body).expect("a JSON body")
    }

    async fn items(&self, path: &str) -> Vec<Value> {
        let list = self.json(path).await;
        list["Items"].as_array().expect("items").clone()
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, body.to_string()).await
    }

    /// A route of the partition.
    fn of(&self, action: &str) -> String {
        format!("/Partitions/{}/$/{action}", self.id)
    }

    fn with_estate<R>(&self, f: impl FnOnce(&mut Estate) -> R) -> R {
        self.simulator.with_estate(f)
    }

    /// Lets time pass without waiting for it.
    fn pass(&self, seconds: i64) {
        self.with_estate(|estate| estate.tick(self.now + TimeDelta::seconds(seconds)));
    }
}

/// Time of the gateway, read from an empty one.
async fn date_of(client: &Client) -> DateTime<Utc> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let epoch = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
    let simulator = Simulator::start(listener, Estate::empty(0, epoch), Options::default());
    let simulator = simulator.expect("a bound listener");
    let reply = client.get(simulator.url()).send().await.expect("an answer");
    let date = reply.headers().get("date").expect("a date");
    let date = date.to_str().expect("text").to_owned();
    DateTime::parse_from_rfc2822(&date)
        .expect("a date")
        .to_utc()
}

fn policies() -> [Policy; 4] {
    let policy = |name: &str, schedule, storage, retention| Policy {
        name: name.to_owned(),
        auto_restore_on_data_loss: false,
        max_incremental_backups: 3,
        schedule,
        storage,
        retention,
    };
    let time = |hour| NaiveTime::from_hms_opt(hour, 0, 0).expect("a time");
    let kept = Some(Retention {
        duration: HOUR * 240,
        minimum: 20,
    });
    let text = str::to_owned;
    let share = |user: Option<&str>| Storage::FileShare {
        friendly_name: text("share"),
        path: text(r"\\storage\backups"),
        user: user.map(text),
    };
    let blob = Storage::AzureBlob {
        friendly_name: text("blob"),
        container: text("backups"),
    };
    let identity = Storage::ManagedIdentity {
        friendly_name: text("identity"),
        blob_service_uri: text("https://example.blob.core.windows.net"),
        container: text("backups"),
    };
    let workdays = vec![Weekday::Mon, Weekday::Fri];
    [
        policy("Hourly", Schedule::Every(HOUR), share(Some("user")), kept),
        policy("Daily", Schedule::Every(HOUR * 24), share(None), None),
        policy(
            "Nightly",
            Schedule::Daily(vec![time(9), time(17)]),
            blob,
            kept,
        ),
        policy(
            "Workdays",
            Schedule::Weekly(workdays, vec![time(9), time(18)]),
            identity,
            kept,
        ),
    ]
}

fn sample(name: &str) -> Value {
    let path = format!("{}/tests/samples/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a sample");
    serde_json::from_str(&text).expect("a JSON sample")
}

/// The same value with every leaf replaced by its JSON type, and of every list the first item.
fn shape_of(value: &Value) -> Value {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| (key.clone(), shape_of(value)))
            .collect(),
        Value::Array(items) => items.iter().take(1).map(shape_of).collect(),
        Value::String(_) => json!("string"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("bool"),
        Value::Null => json!("null"),
    }
}

#[track_caller]
fn assert_like(value: &Value, sample: &Value) {
    assert_eq!(shape_of(value), shape_of(sample), "{value}");
}

#[track_caller]
fn assert_error(reply: &Reply, status: u16, name: &str) {
    assert_eq!(reply.status.as_u16(), status, "{name}: {}", reply.body);
    assert_eq!(reply.content_type.as_deref(), Some(TEXT), "{name}");
    assert_eq!(reply.body, sample(name).to_string(), "{name}");
    assert_eq!(reply.resource_not_found, status == 404, "{name}");
}

#[tokio::test]
async fn health_matches_its_samples_for_every_report() {
    let gateway = Gateway::start().await;
    let path = gateway.of("GetHealth?EventsHealthStateFilter=65535");
    let healthy = gateway.json(&path).await;
    let expected = sample("GetPartitionHealth.backup-ok.json");
    assert_like(&healthy, &expected);
    assert_like(&healthy["HealthEvents"][1], &expected["HealthEvents"][1]);
    assert_eq!(healthy["HealthEvents"][1]["Property"], "Backup");
    let bare = gateway
        .json(&format!("/Partitions/{}/$/GetHealth", gateway.bare))
        .await;
    assert_like(&bare, &sample("GetPartitionHealth.no-backup-event.json"));
    assert_eq!(bare["HealthEvents"].as_array().map(Vec::len), Some(1));

    let outage = gateway.now..gateway.now + TimeDelta::hours(2);
    gateway.with_estate(|estate| estate.fail_storage("Hourly", outage));
    gateway.pass(3700);
    let failed = gateway.json(&path).await;
    let expected = sample("GetPartitionHealth.backup-warning.json");
    assert_like(&failed, &expected);
    assert_like(&failed["HealthEvents"][1], &expected["HealthEvents"][1]);
    let event = &failed["HealthEvents"][1];
    assert_eq!(event["HealthState"], "Warning");
    assert_eq!(
        event["Description"],
        expected["HealthEvents"][1]["Description"]
    );
    let evaluation = &failed["UnhealthyEvaluations"][0]["HealthEvaluation"];
    assert_eq!(&evaluation["UnhealthyEvent"], event);
    let unknown = gateway
        .get(&format!("/Partitions/{}/$/GetHealth", Uuid::nil()))
        .await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.content_type.as_deref(), Some(JSON));
}

#[tokio::test]
async fn the_time_of_a_health_event_is_the_end_of_the_newest_listed_backup() {
    let gateway = Gateway::start().await;
    let health = gateway.json(&gateway.of("GetHealth")).await;
    let listed = gateway.items(&gateway.of("GetBackups?Latest=true")).await;
    let time = |value: &Value| -> DateTime<Utc> {
        let text = value.as_str().expect("a time");
        text.parse().expect("a time")
    };
    let ended = time(&health["HealthEvents"][1]["SourceUtcTimestamp"]);
    let uploaded = ended - time(&listed[0]["CreationTimeUtc"]);
    assert!((5..=61).contains(&uploaded.num_seconds()), "{uploaded}");
    assert_eq!(
        gateway.json(&gateway.of("GetBackupProgress")).await,
        Value::Null
    );
}

#[tokio::test]
async fn configuration_of_a_partition_is_one_item_or_null() {
    let gateway = Gateway::start().await;
    let path = gateway.of("GetBackupConfigurationInfo");
    let active = gateway.json(&path).await;
    let mut expected = sample("GetPartitionBackupConfigurationInfo.active.json");
    expected["PolicyName"] = json!("Hourly");
    expected["ServiceName"] = json!("fabric:/App1/Orders");
    expected["PartitionId"] = json!(gateway.id);
    assert_eq!(active, expected);
    let accepted = gateway.post(&gateway.of("SuspendBackup"), &json!({})).await;
    assert_eq!((accepted.status.as_u16(), &*accepted.body), (202, ""));
    let suspended = gateway.json(&path).await;
    let expected = sample("GetPartitionBackupConfigurationInfo.suspended.json");
    assert_eq!(suspended["SuspensionInfo"], expected["SuspensionInfo"]);
    let bare = format!("/Partitions/{}/$/GetBackupConfigurationInfo", gateway.bare);
    let expected = sample("GetPartitionBackupConfigurationInfo.not-protected.json");
    assert_eq!(gateway.json(&bare).await, expected);
    let unknown = gateway
        .get("/Partitions/00000000-0000-0000-0000-00000000dead/$/GetBackupConfigurationInfo")
        .await;
    assert_error(&unknown, 404, "error.404.partition-not-found.json");
}

#[tokio::test]
async fn configuration_lists_show_the_entity_and_only_what_differs_below_it() {
    let gateway = Gateway::with(Switches {
        prefixes: Prefixes::Apart,
        ..Switches::default()
    })
    .await;
    let application = "/Applications/App1/$/GetBackupConfigurationInfo";
    let alone = gateway.json(application).await;
    assert_eq!(alone["ContinuationToken"], Value::Null);
    assert_eq!(alone["Items"].as_array().map(Vec::len), Some(1));
    gateway
        .with_estate(|estate| {
            let carts = Entity::service("fabric:/App1/Carts");
            estate.enable(&carts, "Nightly", gateway.now)?;
            estate.suspend(&Entity::Partition(gateway.id), gateway.now)
        })
        .expect("what exists can be changed");
    let items = gateway.items(application).await;
    let page_1 = sample("GetApplicationBackupConfigurationInfo.page-1.json");
    let page_2 = sample("GetApplicationBackupConfigurationInfo.page-2.json");
    assert_eq!(items.len(), 3);
    for (item, expected) in items.iter().zip([
        &page_1["Items"][0],
        &page_1["Items"][1],
        &page_2["Items"][0],
    ]) {
        assert_like(item, expected);
        assert_eq!(item["Kind"], expected["Kind"]);
        assert_eq!(item["SuspensionInfo"], expected["SuspensionInfo"]);
    }
    for path in [
        "/Services/App1/Orders/$/GetBackupConfigurationInfo",
        "/Services/App1%2FOrders/$/GetBackupConfigurationInfo",
    ] {
        let items = gateway.items(path).await;
        assert_eq!(items[0]["PolicyInheritedFrom"], "Application");
        assert_eq!(items[1]["PartitionId"], json!(gateway.id));
    }
    let tilde = gateway
        .get("/Services/App1~Orders/$/GetBackupConfigurationInfo")
        .await;
    assert_eq!(tilde.status, 404);
    let bare = gateway
        .get("/Applications/Bare/$/GetBackupConfigurationInfo")
        .await;
    assert_error(&bare, 404, "error.404.backup-not-enabled.json");
}

#[tokio::test]
async fn configuration_lists_come_page_by_page() {
    let gateway = Gateway::start().await;
    let first = gateway
        .json("/BackupRestore/BackupPolicies?MaxResults=3")
        .await;
    assert_eq!(first["Items"].as_array().map(Vec::len), Some(3));
    let token = first["ContinuationToken"].as_str().expect("a token");
    let token: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let second = gateway
        .json(&format!(
            "/BackupRestore/BackupPolicies?ContinuationToken={token}"
        ))
        .await;
    assert_eq!(second["Items"][0]["Name"], "Workdays");
    assert_eq!(second["ContinuationToken"], Value::Null);
}

#[tokio::test]
async fn switches_imitate_the_two_bugs_of_application_lists() {
    let path = |name: &str| format!("/Applications/{name}/$/GetBackupConfigurationInfo");
    let gateway = Gateway::start().await;
    assert_eq!(gateway.items(&path("App10")).await.len(), 1);
    let gateway = Gateway::with(Switches {
        unconfigured_application: UnconfiguredApplication::NotFound,
        prefixes: Prefixes::Clash,
        ..Switches::default()
    })
    .await;
    let hidden = gateway.get(&path("App10")).await;
    assert_error(&hidden, 404, "error.404.backup-not-enabled.json");
    let clash = gateway.items(&path("App1")).await;
    assert_eq!(clash[1]["ServiceName"], "fabric:/App10/Orders");
}

#[tokio::test]
async fn policies_have_the_shapes_of_their_samples_and_keep_their_secrets() {
    let gateway = Gateway::start().await;
    let by_name = |name: &str| format!("/BackupRestore/BackupPolicies/{name}");
    let page_2 = sample("GetBackupPolicyList.page-2.json");
    let mut daily = sample("GetBackupPolicyByName.time-based-daily.json");
    daily["Storage"]["FriendlyName"] = json!("blob");
    for (name, expected) in [
        ("Hourly", page_2["Items"][0].clone()),
        ("Daily", sample("GetBackupPolicyByName.no-retention.json")),
        ("Nightly", daily),
        (
            "Workdays",
            sample("GetBackupPolicyByName.time-based-weekly-managed-identity.json"),
        ),
    ] {
        assert_like(&gateway.json(&by_name(name)).await, &expected);
    }
    let nightly = gateway.json(&by_name("Nightly")).await;
    let expected = sample("GetBackupPolicyByName.time-based-daily.json");
    assert_eq!(nightly["Schedule"], expected["Schedule"]);
    assert_eq!(nightly["Storage"]["ConnectionString"], "****");
    let list = gateway.items("/BackupRestore/BackupPolicies/").await;
    let names: Vec<_> = list.iter().map(|it| it["Name"].clone()).collect();
    assert_eq!(names, ["Daily", "Hourly", "Nightly", "Workdays"]);
    assert_eq!(list[2], nightly);
    let unknown = gateway.get(&by_name("nope")).await;
    assert_error(&unknown, 404, "error.404.policy-does-not-exist.json");

    let loud = Switches {
        secrets: Secrets::Canaries,
        ..Switches::default()
    };
    let loud = Gateway::with(loud).await;
    let body = loud.get("/BackupRestore/BackupPolicies").await.body;
    assert_eq!(body.matches(CANARY).count(), 3, "{body}");
}

#[tokio::test]
async fn enabled_entities_are_explicit_ones_only() {
    let gateway = Gateway::start().await;
    let path =
        |name: &str| format!("/BackupRestore/BackupPolicies/{name}/$/GetBackupEnabledEntities");
    let body = json!({"BackupPolicyName": "Workdays"});
    let enabled = gateway.post(&gateway.of("EnableBackup"), &body).await;
    assert_eq!(enabled.status, 202);
    for (name, expected) in [
        ("Hourly", "GetAllEntitiesBackedUpByPolicy.page-1.json"),
        ("Nightly", "GetAllEntitiesBackedUpByPolicy.page-2.json"),
        ("Workdays", "GetAllEntitiesBackedUpByPolicy.partition.json"),
    ] {
        let items = gateway.items(&path(name)).await;
        assert_eq!(items.len(), 1);
        assert_like(&items[0], &sample(expected)["Items"][0]);
        assert_eq!(
            items[0]["EntityKind"],
            sample(expected)["Items"][0]["EntityKind"]
        );
    }
    assert!(gateway.items(&path("Daily")).await.is_empty());
    let unknown = gateway.get(&path("nope")).await;
    assert_error(&unknown, 404, "error.404.policy-does-not-exist.json");
    let disabled = gateway.post(&gateway.of("DisableBackup"), &json!({})).await;
    assert_eq!(disabled.status, 202);
    assert!(gateway.items(&path("Workdays")).await.is_empty());
    let twice = gateway.post(&gateway.of("DisableBackup"), &json!({})).await;
    assert_error(&twice, 404, "error.404.backup-not-enabled.json");
    let nameless = gateway.post(&gateway.of("EnableBackup"), &json!({})).await;
    assert_error(&nameless, 400, "error.400.validation.brs.json");
}

#[tokio::test]
async fn lists_of_backups_have_the_shape_of_their_samples_and_honour_filters() {
    let gateway = Gateway::start().await;
    let path = gateway.of("GetBackups");
    let list = gateway.json(&path).await;
    assert_eq!(list["ContinuationToken"], Value::Null);
    let all = list["Items"].as_array().expect("items").clone();
    assert!(all.len() > 20, "{}", all.len());
    let expected = sample("GetPartitionBackupList.page-1.json");
    assert_like(&all[0], &expected["Items"][0]);
    assert_like(&all[1], &expected["Items"][1]);
    let types: Vec<_> = all.iter().take(5).map(|it| &it["BackupType"]).collect();
    let (full, incremental) = ("Full", "Incremental");
    assert_eq!(types, [full, incremental, incremental, incremental, full]);
    assert_eq!(all[3]["BackupChainId"], all[0]["BackupId"]);

    let newest = gateway.items(&format!("{path}?Latest=True")).await;
    assert_eq!(newest, all[all.len() - 1..]);
    let time = |index: usize| all[index]["CreationTimeUtc"].as_str().expect("a time");
    let range = format!(
        "{path}?StartDateTimeFilter={}&EndDateTimeFilter={}",
        time(3),
        time(5)
    );
    assert_eq!(gateway.items(&range).await, all[3..=5]);
    let first = gateway.json(&format!("{path}?MaxResults=2")).await;
    assert_eq!(first["Items"], json!(all[..2]));
    let token = first["ContinuationToken"].as_str().expect("a token");
    let token: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let rest = gateway
        .items(&format!("{path}?ContinuationToken={token}"))
        .await;
    assert_eq!(rest, all[2..]);
    let invalid = gateway
        .get(&format!("{path}?StartDateTimeFilter=now"))
        .await;
    assert_error(&invalid, 400, "error.400.masked-timeout.brs.json");
}

#[tokio::test]
async fn lists_of_applications_and_services_show_the_newest_of_each_partition() {
    let gateway = Gateway::start().await;
    let of_application = gateway
        .items("/Applications/App1/$/GetBackups?Latest=true")
        .await;
    assert_eq!(of_application.len(), 3);
    let expected = sample("GetApplicationBackupList.latest.json");
    assert_like(&of_application[1], &expected["Items"][0]);
    let of_service = gateway
        .items("/Services/App1/Orders/$/GetBackups?Latest=true")
        .await;
    assert_eq!(of_service, of_application[1..]);
    gateway.with_estate(|estate| estate.remove_partition(gateway.id));
    let outlived = gateway
        .items("/Applications/App1/$/GetBackups?Latest=true")
        .await;
    assert_eq!(outlived, of_application);
    let gone = gateway.get(&gateway.of("GetBackups")).await;
    assert_error(&gone, 404, "error.404.partition-not-found.json");
    let bare = gateway.get("/Applications/Bare/$/GetBackups").await;
    assert_error(&bare, 404, "error.404.backup-not-enabled.json");
}

#[tokio::test]
async fn unusual_items_and_empty_lists_match_their_samples() {
    let gateway = Gateway::with(Switches {
        newer_fields: true,
        ..Switches::default()
    })
    .await;
    let path = gateway.of("GetBackups?Latest=true");
    let mut with_validation = sample("GetPartitionBackupList.item-with-validation.json");
    with_validation["Items"][0]["ValidationTimeUtc"] = Value::Null;
    assert_like(&gateway.json(&path).await, &with_validation);
    let gateway = Gateway::start().await;
    let path = gateway.of("GetBackups?Latest=true");
    gateway.with_estate(|estate| {
        estate.set_state_provider("fabric:/App1/Orders", StateProvider::KeyValueStore);
    });
    gateway.pass(2 * 3600);
    let odd = gateway.json(&path).await;
    let expected = sample("GetPartitionBackupList.item-minus-one.json");
    assert_like(&odd, &expected);
    for key in ["EpochOfLastBackupRecord", "LsnOfLastBackupRecord"] {
        assert_eq!(odd["Items"][0][key], expected["Items"][0][key]);
    }
    let elsewhere = |policy: &mut Policy| {
        policy.storage = Storage::Dsms {
            friendly_name: String::new(),
            credentials_location: "vault".to_owned(),
            container: "new".to_owned(),
        };
    };
    gateway.with_estate(|estate| estate.update_policy("Hourly", gateway.now, elsewhere));
    let missing = gateway.get(&gateway.of("GetBackups")).await;
    assert_eq!(missing.status, 500, "{}", missing.body);
    assert!(
        missing.body.contains("Index was out of range"),
        "{}",
        missing.body
    );
    gateway.with_estate(|estate| estate.create_container("Hourly"));
    let empty = gateway.json(&gateway.of("GetBackups")).await;
    assert_eq!(empty, sample("GetPartitionBackupList.empty.json"));
}

#[tokio::test]
async fn unreadable_storage_fails_lists_and_nothing_else() {
    let gateway = Gateway::start().await;
    for (fault, status, name) in [
        (
            Fault::StorageError500,
            500,
            "error.500.recovery-point-details.brs.json",
        ),
        (
            Fault::IndexOutOfRange400,
            400,
            "error.400.list-index-out-of-range.brs.json",
        ),
    ] {
        gateway.simulator.inject(fault, Filter::All);
        for path in [&gateway.of("GetBackups"), "/Applications/App1/$/GetBackups"] {
            assert_error(&gateway.get(path).await, status, name);
        }
        gateway.json(&gateway.of("GetBackupProgress")).await;
        gateway.json(&gateway.of("GetHealth")).await;
        gateway.simulator.heal();
    }
    let filter = Filter::Application("fabric:/App1");
    gateway.simulator.inject(Fault::InternalError, filter);
    for (path, status) in [
        ("/Applications/App1/$/GetBackupConfigurationInfo", 500),
        ("/Services/App1/Orders/$/GetBackupConfigurationInfo", 500),
        ("/Applications/App10/$/GetBackupConfigurationInfo", 200),
        ("/Applications/App1/$/GetServices", 200),
    ] {
        assert_eq!(gateway.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_restore_shows_every_state_of_its_samples() {
    let gateway = Gateway::start().await;
    let path = gateway.of("GetRestoreProgress");
    let never = sample("GetPartitionRestoreProgress.never.json");
    assert_eq!(gateway.json(&path).await, never);
    let listed = gateway.items(&gateway.of("GetBackups?MaxResults=1")).await;
    let body = json!({"BackupId": listed[0]["BackupId"], "BackupLocation": "x"});
    let accepted = gateway.post(&gateway.of("Restore"), &body).await;
    assert_eq!(accepted.status, 202);
    let again = gateway.post(&gateway.of("Restore"), &body).await;
    assert_error(&again, 409, "error.409.restore-in-progress.json");
    let backup = gateway.post(&gateway.of("Backup"), &json!({})).await;
    assert_error(&backup, 409, "error.409.restore-in-progress.json");
    for (seconds, name) in [
        (0, "accepted"),
        (20, "in-progress"),
        (45, "secondaries-in-progress"),
        (90, "success.wire"),
    ] {
        gateway.pass(seconds);
        let progress = gateway.json(&path).await;
        let expected = sample(&format!("GetPartitionRestoreProgress.{name}.json"));
        assert_like(&progress, &expected);
        assert_eq!(progress["RestoreState"], expected["RestoreState"]);
        let target = &listed[0]["EpochOfLastBackupRecord"];
        assert_eq!(&progress["RestoredEpoch"], target);
    }
    for (outcome, name) in [
        (RestoreOutcome::Failure, "failure"),
        (RestoreOutcome::Timeout, "timeout"),
    ] {
        let plan = RestorePlan {
            accepted_for: Duration::ZERO,
            running_for: Duration::ZERO,
            outcome,
            ..RestorePlan::default()
        };
        gateway
            .with_estate(|estate| estate.request_restore(gateway.id, None, plan, gateway.now))
            .expect("no other restore runs");
        let expected = sample(&format!("GetPartitionRestoreProgress.{name}.json"));
        assert_eq!(gateway.json(&path).await, expected);
    }
}

#[tokio::test]
async fn every_new_operation_is_counted_by_its_name() {
    let gateway = Gateway::start().await;
    let of_policies = "/BackupRestore/BackupPolicies";
    for path in [
        gateway.of("GetHealth"),
        gateway.of("GetBackupConfigurationInfo"),
        gateway.of("GetBackups"),
        gateway.of("GetRestoreProgress"),
        of_policies.to_owned(),
        format!("{of_policies}/Hourly"),
        format!("{of_policies}/Hourly/$/GetBackupEnabledEntities"),
        "/Applications/App1/$/GetBackups".to_owned(),
        "/Services/App1/Orders/$/GetBackups".to_owned(),
    ] {
        gateway.json(&path).await;
    }
    let body = json!({"BackupPolicyName": "Hourly"});
    for (path, status) in [
        ("/Applications/Bare/$/EnableBackup", 202),
        ("/Services/Bare/Notes/$/SuspendBackup", 202),
        ("/Services/Bare/Notes/$/ResumeBackup", 202),
        ("/Applications/Nowhere/$/EnableBackup", 404),
    ] {
        assert_eq!(gateway.post(path, &body).await.status, status, "{path}");
    }
    let requests = gateway.simulator.requests();
    for operation in [
        Operation::GetPartitionHealth,
        Operation::GetPartitionBackupConfigurationInfo,
        Operation::GetPartitionBackupList,
        Operation::GetPartitionRestoreProgress,
        Operation::GetBackupPolicyList,
        Operation::GetBackupPolicyByName,
        Operation::GetAllEntitiesBackedUpByPolicy,
        Operation::GetApplicationBackupList,
        Operation::GetServiceBackupList,
        Operation::SuspendServiceBackup,
        Operation::ResumeServiceBackup,
    ] {
        assert_eq!(requests.get(operation.name()), Some(&1), "{operation:?}");
    }
    assert_eq!(requests.get("EnableApplicationBackup"), Some(&2));
    assert_eq!(requests.get("Unknown"), None);
}

/// Time of the newest listed backup of the partition.
async fn newest(gateway: &Gateway) -> DateTime<Utc> {
    let listed = gateway.items(&gateway.of("GetBackups?Latest=true")).await;
    let text = listed[0]["CreationTimeUtc"].as_str().expect("a time");
    text.parse().expect("a time")
}

#[tokio::test]
async fn an_actor_service_stays_ok_while_its_storage_refuses_every_upload() {
    let gateway = Gateway::start().await;
    let now = gateway.now;
    gateway.with_estate(|estate| {
        estate.set_state_provider("fabric:/App1/Orders", StateProvider::KeyValueStore);
        estate.fail_storage("Hourly", now..now + TimeDelta::days(1));
    });
    let before = newest(&gateway).await;
    gateway.pass(5 * 3600);
    let health = gateway.json(&gateway.of("GetHealth")).await;
    let event = &health["HealthEvents"][1];
    assert_eq!(event["HealthState"], "Ok");
    let text = event["SourceUtcTimestamp"].as_str().expect("a time");
    let reported: DateTime<Utc> = text.parse().expect("a time");
    assert!(reported > now + TimeDelta::hours(4), "{reported}");
    assert_eq!(newest(&gateway).await, before);
    let of_collections = gateway.with_estate(|estate| {
        let carts = estate.partitions_of(&Entity::service("fabric:/App1/Carts"));
        estate.last_attempt(carts[0], now + TimeDelta::hours(5))
    });
    assert!(of_collections.is_some_and(|(_, worked)| !worked));
}

#[tokio::test]
async fn clean_backup_empties_the_storage_of_partitions_that_are_protected_again() {
    let gateway = Gateway::start().await;
    let path = gateway.of("GetBackups");
    assert!(gateway.items(&path).await.len() > 20);
    let application = "/Applications/App1/$";
    let disable = format!("{application}/DisableBackup");
    let kept = gateway.post(&disable, &json!({"CleanBackup": false})).await;
    assert_eq!(kept.status, 202);
    let enable = format!("{application}/EnableBackup");
    let hourly = json!({"BackupPolicyName": "Hourly"});
    assert_eq!(gateway.post(&enable, &hourly).await.status, 202);
    gateway.pass(60);
    assert!(gateway.items(&path).await.len() > 20);
    let cleaned = gateway.post(&disable, &json!({"CleanBackup": true})).await;
    assert_eq!(cleaned.status, 202);
    assert_eq!(gateway.post(&enable, &hourly).await.status, 202);
    gateway.pass(180);
    assert!(gateway.items(&path).await.is_empty());
    let protection = gateway
        .json(&gateway.of("GetBackupConfigurationInfo"))
        .await;
    assert_eq!(protection["PolicyName"], "Hourly");
}

#[tokio::test]
async fn half_of_all_nightly_backups_begin_before_their_run_time() {
    let gateway = Gateway::start().await;
    let names = (0..100).map(|it| format!("part-{it}")).collect();
    let born = gateway.now - TimeDelta::days(1);
    gateway.with_estate(|estate| {
        let (application, service) = ("fabric:/Night", "fabric:/Night/Ledger");
        let (kind, scheme) = (ServiceKind::Persisted, Scheme::Named(names));
        estate.add_service(application, service, kind, scheme, born);
        let entity = Entity::application(application);
        estate.enable(&entity, "Nightly", born).expect("it exists");
    });
    gateway.pass(86_400);
    let path = "/Applications/Night/$/GetBackups?Latest=true";
    let listed = gateway.items(path).await;
    assert_eq!(listed.len(), 100);
    let mut early = 0;
    for item in listed {
        let text = item["CreationTimeUtc"].as_str().expect("a time");
        let taken: DateTime<Utc> = text.parse().expect("a time");
        let since_hour = taken.timestamp().rem_euclid(3600);
        // Ten seconds of jitter, up to five until the snapshot.
        assert!(since_hour <= 15 || since_hour >= 3590, "{taken}");
        early += usize::from(since_hour >= 3590);
    }
    assert!((15..60).contains(&early), "{early} are dated early");
}
