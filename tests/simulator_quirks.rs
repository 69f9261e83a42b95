//! Defects of the backup service of 6.4 that responses show, each switched on and off.
//!
//! Every test uses a socket and reqwest. Expected values come from the published source of Service
//! Fabric, from the file that the test names.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::simulator::{
    Behaviour, Entity, Estate, Fault, Filter, Malformation, Options, Outcome, Pages, Policy,
    Prefixes, Schedule, Scheme, ServiceKind, Simulator, StateProvider, Storage, Switches,
    Validation,
};
use tokio::net::TcpListener;
use uuid::Uuid;

struct Gateway {
    simulator: Simulator,
    client: Client,
}

/// Status and JSON of an answer; null where the body is empty.
type Reply = (u16, Value);

impl Gateway {
    /// A cluster with policies `Hourly` and `Other` and this in it.
    async fn with(switches: Switches, build: impl FnOnce(&mut Estate)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut estate = Estate::empty(3, born());
        for name in ["Hourly", "Other"] {
            estate.add_policy(policy(name), born());
        }
        build(&mut estate);
        let options = Options {
            switches,
            ..Options::default()
        };
        Self {
            simulator: Simulator::start(listener, estate, options).expect("a bound listener"),
            client: Client::builder().no_proxy().build().expect("a client"),
        }
    }

    /// The same with this way to page, and else as the default.
    async fn with_pages(pages: Pages, build: impl FnOnce(&mut Estate)) -> Self {
        let switches = Switches {
            pages,
            ..Switches::default()
        };
        Self::with(switches, build).await
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Reply {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{path}{mark}api-version=6.4", self.simulator.url());
        let request = self.client.request(method, url).body(body.to_string());
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.text().await.expect("a body");
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> u16 {
        self.send(Method::POST, path, &body).await.0
    }

    async fn configuration(&self, scope: &str) -> Reply {
        let path = format!("/{scope}/$/GetBackupConfigurationInfo");
        self.get(&path).await
    }

    /// Names, policies, sources and suspensions of a list of configurations.
    async fn lines(&self, scope: &str) -> Vec<[String; 4]> {
        let (status, list) = self.configuration(scope).await;
        assert_eq!(status, 200, "{scope}: {list}");
        items(&list).iter().map(line).collect()
    }
}

fn items(list: &Value) -> &[Value] {
    list["Items"].as_array().expect("items")
}

fn line(item: &Value) -> [String; 4] {
    let text = |value: &Value| value.as_str().unwrap_or("null").to_owned();
    let names = ["PartitionId", "ServiceName", "ApplicationName"];
    let name = names.into_iter().find(|name| item.get(name).is_some());
    [
        text(&item[name.expect("a name")]),
        text(&item["PolicyName"]),
        text(&item["PolicyInheritedFrom"]),
        text(&item["SuspensionInfo"]["SuspensionInheritedFrom"]),
    ]
}

fn expected<const N: usize>(lines: [[&str; 4]; N]) -> Vec<[String; 4]> {
    lines.map(|line| line.map(str::to_owned)).to_vec()
}

/// When the cluster began: some hours ago, because it does all that was due since.
fn born() -> DateTime<Utc> {
    static BORN: LazyLock<DateTime<Utc>> = LazyLock::new(|| clock::now() - TimeDelta::hours(6));
    *BORN
}

fn policy(name: &str) -> Policy {
    Policy {
        name: name.to_owned(),
        auto_restore_on_data_loss: false,
        max_incremental_backups: 4,
        schedule: Schedule::Every(Duration::from_secs(3600)),
        storage: Storage::FileShare {
            friendly_name: String::new(),
            path: format!(r"\\storage\{name}"),
            user: None,
        },
        retention: None,
    }
}

fn add(estate: &mut Estate, application: &str, service: &str) -> Uuid {
    let service = format!("{application}/{service}");
    let kind = ServiceKind::Persisted;
    estate.add_service(application, &service, kind, Scheme::Singleton, born())[0]
}

fn enable(estate: &mut Estate, entity: &Entity, policy: &str) {
    estate.enable(entity, policy, born()).expect("it exists");
}

fn suspend(estate: &mut Estate, entity: &Entity) {
    estate.suspend(entity, born()).expect("it exists");
}

fn application() -> Entity {
    Entity::application("fabric:/Shop")
}

fn service(name: &str) -> Entity {
    Entity::service(&format!("fabric:/Shop/{name}"))
}

fn error(code: &str, message: &str) -> Value {
    json!({"Error": {"Code": code, "Message": message}})
}

fn not_enabled() -> Reply {
    let message = "Backup Mapping is not existing.";
    (404, error("FABRIC_E_BACKUP_NOT_ENABLED", message))
}

/// Message of a .NET `NullReferenceException`.
fn null_reference() -> Reply {
    let message = "Object reference not set to an instance of an object.";
    (500, error("E_UNEXPECTED", message))
}

/// `GetBackupMappingInfoOperation.cs`, `RunAsync`.
#[tokio::test]
async fn nothing_applies_is_null_at_a_partition_and_404_above_it() {
    let mut id = Uuid::nil();
    let gateway = Gateway::with(Switches::default(), |estate| {
        id = add(estate, "fabric:/Shop", "Orders");
    })
    .await;
    let partition = format!("Partitions/{id}");
    assert_eq!(gateway.configuration(&partition).await, (200, Value::Null));
    for scope in [
        "Applications/Shop",
        "Services/Shop/Orders",
        "Applications/Nowhere",
    ] {
        assert_eq!(gateway.configuration(scope).await, not_enabled(), "{scope}");
    }
}

/// `GetBackupMappingInfoOperation.cs`: an application lists itself where it has a policy and what
/// overrides it; a service also lists itself where it inherits.
#[tokio::test]
async fn lists_hold_the_entity_and_the_overrides_below_it() {
    for own in [false, true] {
        let mut id = Uuid::nil();
        let gateway = Gateway::with(Switches::default(), |estate| {
            add(estate, "fabric:/Shop", "Carts");
            id = add(estate, "fabric:/Shop", "Orders");
            if own {
                enable(estate, &application(), "Hourly");
            }
            enable(estate, &service("Orders"), "Other");
            enable(estate, &Entity::Partition(id), "Hourly");
        })
        .await;
        let id = id.to_string();
        let mut lines = expected([
            ["fabric:/Shop/Orders", "Other", "Service", "Invalid"],
            [&id, "Hourly", "Partition", "Invalid"],
        ]);
        assert_eq!(gateway.lines("Services/Shop/Orders").await, lines);
        let carts = gateway.configuration("Services/Shop/Carts").await;
        if own {
            let own = ["fabric:/Shop", "Hourly", "Application", "Invalid"];
            lines.splice(0..0, expected([own]));
            let carts = items(&carts.1).iter().map(line).collect::<Vec<_>>();
            let inherits = ["fabric:/Shop/Carts", "Hourly", "Application", "Invalid"];
            assert_eq!(carts, expected([inherits]));
        } else {
            assert_eq!(carts, not_enabled());
        }
        assert_eq!(gateway.lines("Applications/Shop").await, lines);
    }
}

/// `GetBackupMappingInfoOperation.cs`, `GetOverriddenBackupConfigurationinfo`: the mapping of the
/// service is looked up, then overwritten by that of the application.
#[tokio::test]
async fn a_suspended_partition_comes_back_with_the_policy_of_its_application() {
    for (null_reference, policy) in [
        (true, ["Hourly", "Application"]),
        (false, ["Other", "Service"]),
    ] {
        let mut id = Uuid::nil();
        let gateway = Gateway::with(Switches::default(), |estate| {
            estate.set_behaviour(Behaviour {
                null_reference,
                ..Behaviour::default()
            });
            id = add(estate, "fabric:/Shop", "Orders");
            enable(estate, &application(), "Hourly");
            enable(estate, &service("Orders"), "Other");
            suspend(estate, &Entity::Partition(id));
        })
        .await;
        let name = id.to_string();
        let suspended = [&name, policy[0], policy[1], "Partition"];
        let lines = gateway.lines("Applications/Shop").await;
        assert_eq!(lines.last(), expected([suspended]).first());
        let lines = gateway.lines("Services/Shop/Orders").await;
        assert_eq!(lines.last(), expected([suspended]).first());
        // The partition itself is answered right.
        let (_, item) = gateway.configuration(&format!("Partitions/{id}")).await;
        let right = [&name, "Other", "Service", "Partition"];
        assert_eq!([line(&item)].to_vec(), expected([right]));
    }
}

/// The same file: `backupMapping.BackupPolicyName` of a mapping that is null. Disabling leaves
/// suspensions behind (`DisableBackupMappingOperation.cs`), which cause it later.
#[tokio::test]
async fn something_suspended_without_a_policy_above_it_breaks_the_lists_above_it() {
    type Change = fn(&mut Estate, Uuid);
    let suspended_partition: Change = |estate, id| {
        enable(estate, &service("Orders"), "Other");
        suspend(estate, &Entity::Partition(id));
    };
    let unprotected_service: Change = |estate, _| suspend(estate, &service("Orders"));
    let outlives_a_disable: Change = |estate, _| {
        enable(estate, &service("Orders"), "Other");
        suspend(estate, &service("Orders"));
        estate
            .disable(&service("Orders"), born())
            .expect("a policy");
    };
    for (change, at_the_service) in [
        (suspended_partition, true),
        (unprotected_service, false),
        (outlives_a_disable, false),
    ] {
        for null_reference_fixed in [false, true] {
            let mut id = Uuid::nil();
            let gateway = Gateway::with(Switches::default(), |estate| {
                estate.set_behaviour(Behaviour {
                    null_reference: !null_reference_fixed,
                    ..Behaviour::default()
                });
                add(estate, "fabric:/Shop", "Carts");
                id = add(estate, "fabric:/Shop", "Orders");
                change(estate, id);
            })
            .await;
            let of_application = gateway.configuration("Applications/Shop").await;
            let of_service = gateway.configuration("Services/Shop/Orders").await;
            if null_reference_fixed {
                assert_ne!(of_application.0, 500);
                assert_ne!(of_service.0, 500);
            } else {
                assert_eq!(of_application, null_reference());
                // Its own suspension is not one of those below it.
                let broken = of_service == null_reference();
                assert_eq!(broken, at_the_service, "{of_service:?}");
            }
            let (status, _) = gateway.configuration(&format!("Partitions/{id}")).await;
            assert_eq!(status, 200);
        }
    }
}

/// `BackupMappingStore.cs`, `SuspendStore.cs`: `StartsWith`, the other application's own line and
/// the suspension of the one that is asked for included.
#[tokio::test]
async fn names_that_begin_alike_are_listed_together() {
    for prefixes in [Prefixes::Clash, Prefixes::Apart] {
        let switches = Switches {
            prefixes,
            ..Switches::default()
        };
        let gateway = Gateway::with(switches, |estate| {
            add(estate, "fabric:/App1", "Orders");
            add(estate, "fabric:/App10", "Orders");
            enable(estate, &Entity::application("fabric:/App1"), "Hourly");
            enable(estate, &Entity::application("fabric:/App10"), "Other");
            enable(estate, &Entity::service("fabric:/App10/Orders"), "Other");
            suspend(estate, &Entity::application("fabric:/App1"));
        })
        .await;
        let own = ["fabric:/App1", "Hourly", "Application", "Application"];
        let clash = [
            own,
            ["fabric:/App10", "Other", "Application", "Application"],
            ["fabric:/App10/Orders", "Other", "Service", "Application"],
        ];
        let lines = match prefixes {
            Prefixes::Clash => expected(clash),
            Prefixes::Apart => expected([own]),
        };
        assert_eq!(gateway.lines("Applications/App1").await, lines);
    }
}

/// `GetBackupMappingInfoOperation.cs`, `SuspendStore.cs`: the asked URI is compared with the token.
#[tokio::test]
async fn the_page_after_a_suspended_item_is_404() {
    let names = ["Audit", "Carts", "Inventory", "Orders"];
    for (pages, seen) in [(Pages::AsIn64, 3), (Pages::Complete, 6)] {
        let gateway = Gateway::with_pages(pages, |estate| {
            for name in names {
                add(estate, "fabric:/Shop", name);
            }
            enable(estate, &application(), "Hourly");
            enable(estate, &service("Audit"), "Other");
            for name in &names[1..] {
                suspend(estate, &service(name));
            }
            add(estate, "fabric:/Shop", "Search");
            suspend(estate, &service("Search"));
        })
        .await;
        assert_eq!(gateway.lines("Applications/Shop").await.len(), 6);
        let path = "/Applications/Shop/$/GetBackupConfigurationInfo?MaxResults=3";
        let (mut found, mut token, mut last) = (0, String::new(), 200);
        while last == 200 {
            let query: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
            let (status, page) = gateway
                .get(&format!("{path}&ContinuationToken={query}"))
                .await;
            last = status;
            if status == 200 {
                found += items(&page).len();
                match page["ContinuationToken"].as_str() {
                    Some(next) => next.clone_into(&mut token),
                    None => break,
                }
            }
        }
        let broken = pages == Pages::AsIn64;
        assert_eq!((found, last), (seen, if broken { 404 } else { 200 }));
        assert_eq!(token.ends_with("+S"), broken, "{token}");
    }
}

/// `UtilityHelper.cs`, `GetApplicationAndServicePartitionUri`: `Uri.Segments` escapes, the stored
/// keys are not escaped.
#[tokio::test]
async fn names_that_need_percent_encoding_are_shown_encoded_and_not_found() {
    for mangles in [true, false] {
        let mut ids = [Uuid::nil(); 2];
        let gateway = Gateway::with(Switches::default(), |estate| {
            estate.set_behaviour(Behaviour {
                mangles_encoded_names: mangles,
                ..Behaviour::default()
            });
            ids = [
                add(estate, "fabric:/My Shop", "Bücher"),
                add(estate, "fabric:/Shop", "My Orders"),
            ];
            enable(estate, &Entity::application("fabric:/My Shop"), "Hourly");
            enable(estate, &Entity::service("fabric:/Shop/My Orders"), "Other");
        })
        .await;
        let shown =
            |plain: &'static str, encoded: &'static str| if mangles { encoded } else { plain };
        let own = shown("fabric:/My Shop", "fabric:/My%20Shop");
        let own = [own, "Hourly", "Application", "Invalid"];
        let lines = gateway.lines("Applications/My%20Shop").await;
        assert_eq!(lines, expected([own]));
        let orders = shown("fabric:/Shop/My Orders", "fabric:/Shop/My%20Orders");
        let orders = [orders, "Other", "Service", "Invalid"];
        for scope in ["Applications/Shop", "Services/Shop/My%20Orders"] {
            assert_eq!(gateway.lines(scope).await, expected([orders]), "{scope}");
        }
        let inherits = gateway
            .configuration("Services/My%20Shop/B%C3%BCcher")
            .await;
        assert_eq!(inherits.0, if mangles { 404 } else { 200 });
        for id in ids {
            let (_, item) = gateway.configuration(&format!("Partitions/{id}")).await;
            assert_eq!(item.is_null(), mangles, "{item}");
        }
    }
}

/// A policy as in the body of a request.
fn nightly_policy() -> Value {
    json!({
        "Name": "Nightly",
        "AutoRestoreOnDataLoss": false,
        "MaxIncrementalBackups": 20,
        "Schedule": {
            "ScheduleKind": "TimeBased",
            "ScheduleFrequencyType": "Daily",
            "RunTimes": ["0001-01-01T02:00:00Z"],
        },
        "Storage": {
            "StorageKind": "AzureBlobStore",
            "FriendlyName": "blob",
            "ConnectionString": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=b",
            "ContainerName": "backups",
        },
        "RetentionPolicy": {
            "RetentionPolicyType": "Basic",
            "RetentionDuration": "P10D",
            "MinimumNumberOfBackups": 20,
        },
    })
}

/// Policies are created, changed and deleted over HTTP as Microsoft's client does it.
#[tokio::test]
async fn a_client_drives_policies_and_protection() {
    let gateway = Gateway::with(Switches::default(), |estate| {
        add(estate, "fabric:/Shop", "Orders");
    })
    .await;
    let mut body = nightly_policy();
    let policies = "/BackupRestore/BackupPolicies";
    let create = format!("{policies}/$/Create");
    let nightly = format!("{policies}/Nightly");
    assert_eq!(gateway.post(&create, body.clone()).await, 201);
    assert_eq!(gateway.post(&create, body.clone()).await, 409);
    let (_, read) = gateway.get(&nightly).await;
    let mut shown = body.clone();
    shown["Storage"]["ConnectionString"] = json!("****");
    assert_eq!(read, shown);
    body["MaxIncrementalBackups"] = json!(5);
    assert_eq!(
        gateway
            .post(&format!("{nightly}/$/Update"), body.clone())
            .await,
        200
    );
    assert_eq!(gateway.get(&nightly).await.1["MaxIncrementalBackups"], 5);
    body["MaxIncrementalBackups"] = json!(256);
    assert_eq!(
        gateway.post(&format!("{nightly}/$/Update"), body).await,
        400
    );

    let named = json!({"BackupPolicyName": "Nightly"});
    let shop = |verb: &str| format!("/Applications/Shop/$/{verb}");
    for (verb, body, status) in [
        ("EnableBackup", named, 202),
        ("SuspendBackup", Value::Null, 202),
        ("ResumeBackup", Value::Null, 202),
    ] {
        assert_eq!(gateway.post(&shop(verb), body).await, status, "{verb}");
    }
    let delete = format!("{nightly}/$/Delete");
    assert_eq!(gateway.post(&delete, Value::Null).await, 400, "in use");
    let keep = json!({"CleanBackup": false});
    assert_eq!(gateway.post(&shop("DisableBackup"), keep).await, 202);
    assert_eq!(gateway.post(&delete, Value::Null).await, 200);
    assert_eq!(gateway.post(&delete, Value::Null).await, 404);
    assert_eq!(gateway.get(&nightly).await.0, 404);
}

#[tokio::test]
async fn a_malformed_item_leaves_the_items_beside_it_as_they_are() {
    use Malformation as Bad;

    let mut id = Uuid::nil();
    let gateway = Gateway::with(Switches::default(), |estate| {
        id = add(estate, "fabric:/Shop", "Orders");
        enable(estate, &service("Orders"), "Hourly");
        add(estate, "fabric:/Shop", "Carts");
        enable(estate, &service("Carts"), "Hourly");
    })
    .await;
    let of_shop = |action: &str| format!("/Applications/Shop/$/{action}");
    let policies = "/BackupRestore/BackupPolicies".to_owned();
    let lists = of_shop("GetBackups");
    let configuration = of_shop("GetBackupConfigurationInfo");
    let health = format!("/Partitions/{id}/$/GetHealth");
    let beyond = json!("9223372036854775808");
    for (path, how, pointer, expected) in [
        (
            &policies,
            Bad::NumericInterval,
            "/Schedule/Interval",
            json!(3600),
        ),
        (
            &configuration,
            Bad::EmptySuspensionInfo,
            "/SuspensionInfo",
            json!({}),
        ),
        (&lists, Bad::ZeroGuid, "/BackupId", json!(Uuid::nil())),
        (&lists, Bad::HugeLsn, "/LsnOfLastBackupRecord", beyond),
        (&lists, Bad::EmptyTime, "/CreationTimeUtc", json!("")),
        (
            &lists,
            Bad::FailureError,
            "/FailureError/Code",
            json!("FABRIC_E_BACKUPCOPIER_UNEXPECTED_ERROR"),
        ),
        (&health, Bad::EmptyTime, "/SourceUtcTimestamp", json!("")),
    ] {
        let list = |reply: Reply| {
            let items = reply.1.get("Items").or_else(|| reply.1.get("HealthEvents"));
            items.and_then(Value::as_array).expect("items").clone()
        };
        gateway.simulator.heal();
        let mut right = list(gateway.get(path).await);
        assert!(right.len() > 1, "{path}");
        let fault = Fault::Malformed(how);
        gateway.simulator.inject(fault, Filter::All);
        let mut spoilt = list(gateway.get(path).await);
        let item = spoilt.pop().expect("an item");
        assert_eq!(item.pointer(pointer), Some(&expected), "{how:?}");
        assert!(right.pop() != Some(item), "{how:?}");
        assert!(spoilt == right, "{how:?}");
    }
}

/// `GetRestorePointsOperation.cs`, on a page and elsewhere.
fn index_out_of_range(is_page: bool) -> Reply {
    let message = "Index was out of range. Must be non-negative and less than the size of the \
                   collection.\r\nParameter name: index";
    if is_page {
        (400, error("E_INVALIDARG", message))
    } else {
        (500, error("E_UNEXPECTED", &format!("{message} ,\r\n")))
    }
}

const LIST: &str = "/Applications/Shop/$/GetBackups";
const FULL_PAGE: &str = "/Applications/Shop/$/GetBackups?MaxResults=1000";

/// Backup ids of a list, which must be one.
fn ids(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.0, 200, "{}", reply.1);
    let ids = items(&reply.1).iter().map(|it| it["BackupId"].as_str());
    ids.map(|id| id.expect("an id").to_owned()).collect()
}

/// All time, to break something for.
fn always() -> std::ops::Range<DateTime<Utc>> {
    DateTime::<Utc>::MIN_UTC..DateTime::<Utc>::MAX_UTC
}

fn blob(name: &str, container: &str) -> Policy {
    Policy {
        storage: Storage::AzureBlob {
            friendly_name: String::new(),
            container: container.to_owned(),
        },
        ..policy(name)
    }
}

/// `AzureBlobStoreHelper.cs`, `FileShareRecoveryPointManager.cs`: the first upload creates the
/// container, and a share has no folder before.
#[tokio::test]
async fn a_list_before_the_first_backup_is_an_index_out_of_range() {
    for on_a_share in [true, false] {
        for fails in [true, false] {
            let gateway = Gateway::with(Switches::default(), |estate| {
                estate.set_behaviour(Behaviour {
                    missing_container_fails_lists: fails,
                    ..Behaviour::default()
                });
                add(estate, "fabric:/Shop", "Orders");
                let now = born() + TimeDelta::hours(6);
                let far = Schedule::Every(Duration::from_secs(15 * 86_400));
                let storage = if on_a_share {
                    policy("Far")
                } else {
                    blob("Far", "new")
                };
                let policy = Policy {
                    schedule: far,
                    ..storage
                };
                estate.add_policy(policy, now);
                estate
                    .enable(&application(), "Far", now)
                    .expect("it exists");
            })
            .await;
            let (list, page) = (gateway.get(LIST).await, gateway.get(FULL_PAGE).await);
            // A page of nothing is an error of its own.
            assert_eq!(page, index_out_of_range(true));
            if fails {
                assert_eq!(list, index_out_of_range(false));
                gateway
                    .simulator
                    .with_estate(|it| it.create_container("Far"));
                let list = gateway.get(LIST).await;
                let is_list = list.0 == 200 && items(&list.1).is_empty();
                // A share still lacks the folder of the entity.
                assert_eq!(is_list, !on_a_share, "{list:?}");
            } else {
                assert_eq!(ids(&list), [""; 0]);
            }
        }
    }
}

/// Two services of an application, in storages of their own.
async fn two_storages(switches: Switches) -> Gateway {
    Gateway::with(switches, |estate| {
        add(estate, "fabric:/Shop", "Carts");
        add(estate, "fabric:/Shop", "Orders");
        enable(estate, &service("Carts"), "Hourly");
        enable(estate, &service("Orders"), "Other");
    })
    .await
}

/// `GetRestorePointsOperation.cs`, `DoThisOnTaskFaulted`: the error goes into the first element.
#[tokio::test]
async fn a_storage_that_cannot_be_read_fails_the_list_by_what_was_read_before() {
    let fail =
        |policy: &'static str| move |estate: &mut Estate| estate.fail_listing(policy, always());
    let gateway = two_storages(Switches::default()).await;
    gateway.simulator.with_estate(fail("Other"));
    // Code 0x80131500, of the exception that gathers those of tasks.
    let gathered = json!({"Error": {
        "Code": 2_148_734_208_u32,
        "Message": "One or more errors occurred.",
    }});
    assert_eq!(gateway.get(LIST).await, (500, gathered));
    // The storage of one partition alone is not affected by the other.
    let carts = gateway.get("/Services/Shop/Carts/$/GetBackups").await;
    assert!(ids(&carts).len() > 3);
    gateway.simulator.with_estate(fail("Hourly"));
    assert_eq!(gateway.get(LIST).await, index_out_of_range(false));
    assert_eq!(gateway.get(FULL_PAGE).await, index_out_of_range(true));
    gateway.simulator.with_estate(|estate| {
        estate.set_behaviour(Behaviour {
            missing_container_fails_lists: false,
            ..Behaviour::default()
        });
    });
    let plain = error("E_UNEXPECTED", "Unable to get recovery point details.");
    assert_eq!(gateway.get(LIST).await, (500, plain));
}

/// `GetRestorePointsOperation.cs`: only faulted tasks fail a list.
#[tokio::test]
async fn a_storage_whose_reading_is_cancelled_is_left_out_of_the_list() {
    let gateway = two_storages(Switches::default()).await;
    let both = ids(&gateway.get(LIST).await);
    let orders = ids(&gateway.get("/Services/Shop/Orders/$/GetBackups").await);
    let cancel = |estate: &mut Estate| estate.cancel_listing("Hourly", always());
    gateway.simulator.with_estate(cancel);
    let list = gateway.get(LIST).await;
    assert_eq!(ids(&list), orders);
    assert!(both.len() > orders.len() && !orders.is_empty());
}

/// `AzureBlobBackupStorageInfo.cs`, `Equals`: connection strings are compared, containers are not;
/// two encryptions of one string differ.
#[tokio::test]
async fn one_storage_account_behind_two_policies_is_read_once_or_twice() {
    // Containers of the two policies, whether secrets are encrypted, whether strings are compared.
    for (containers, encrypted, compares, expected) in [
        (["a", "b"], false, true, [true, false]),
        (["a", "b"], false, false, [true, true]),
        (["a", "b"], true, true, [true, true]),
    ] {
        let gateway = Gateway::with(Switches::default(), |estate| {
            estate.set_behaviour(Behaviour {
                compares_storages_by_account: compares,
                ..Behaviour::default()
            });
            for (name, container) in ["First", "Second"].into_iter().zip(containers) {
                estate.set_account(name, "account", encrypted);
                estate.add_policy(blob(name, container), born());
            }
            add(estate, "fabric:/Shop", "Carts");
            add(estate, "fabric:/Shop", "Orders");
            enable(estate, &service("Carts"), "First");
            enable(estate, &service("Orders"), "Second");
        })
        .await;
        let all = ids(&gateway.get(LIST).await);
        for (name, listed) in ["Carts", "Orders"].into_iter().zip(expected) {
            let own = ids(&gateway
                .get(&format!("/Services/Shop/{name}/$/GetBackups"))
                .await);
            assert!(own.len() > 3, "{name}");
            let found = own.iter().all(|id| all.contains(id));
            assert_eq!(
                found, listed,
                "{name} {containers:?} {encrypted} {compares}"
            );
        }
    }
    // The same container in both policies, encrypted: every backup comes twice.
    for (encrypted, times) in [(true, 2), (false, 1)] {
        let gateway = Gateway::with(Switches::default(), |estate| {
            for name in ["First", "Second"] {
                estate.set_account(name, "account", encrypted);
                estate.add_policy(blob(name, "a"), born());
            }
            add(estate, "fabric:/Shop", "Carts");
            add(estate, "fabric:/Shop", "Orders");
            enable(estate, &service("Carts"), "First");
            enable(estate, &service("Orders"), "Second");
        })
        .await;
        let all = ids(&gateway.get(LIST).await);
        let count = |id: &String| all.iter().filter(|it| *it == id).count();
        assert!(!all.is_empty() && all.iter().all(|id| count(id) == times));
    }
}

/// `GetRestorePointsOperation.cs`: a storage without anything to list is a null list, which is
/// added to the others.
#[tokio::test]
async fn pages_fail_on_a_storage_with_nothing_to_list() {
    for (pages, expected) in [(Pages::AsIn64, 500), (Pages::Complete, 200)] {
        let gateway = Gateway::with_pages(pages, |estate| {
            add(estate, "fabric:/Shop", "Carts");
            add(estate, "fabric:/Shop", "Orders");
            let far = Schedule::Every(Duration::from_secs(15 * 86_400));
            let policy = Policy {
                schedule: far,
                ..blob("Far", "empty")
            };
            estate.add_policy(policy, born());
            estate.create_container("Far");
            enable(estate, &service("Carts"), "Hourly");
            enable(estate, &service("Orders"), "Far");
        })
        .await;
        assert!(ids(&gateway.get(LIST).await).len() > 3);
        let page = gateway.get(FULL_PAGE).await;
        assert_eq!(page.0, expected, "{}", page.1);
        if expected == 500 {
            assert_eq!(page.1["Error"]["Code"], "E_POINTER");
        }
    }
}

/// The same file: the newest file is looked for on each page alone.
#[tokio::test]
async fn a_partition_on_two_pages_has_two_latest_backups_older_first() {
    for (pages, expected) in [(Pages::AsIn64, 2), (Pages::Complete, 1)] {
        let gateway = Gateway::with_pages(pages, |estate| {
            add(estate, "fabric:/Shop", "Orders");
            enable(estate, &application(), "Hourly");
        })
        .await;
        let all = ids(&gateway.get(LIST).await);
        assert!((4..=6).contains(&all.len()), "{}", all.len());
        let path = format!("{LIST}?Latest=true&MaxResults=3");
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let query: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
            let page = gateway
                .get(&format!("{path}&ContinuationToken={query}"))
                .await;
            found.extend(ids(&page));
            match page.1["ContinuationToken"].as_str() {
                Some(next) => next.clone_into(&mut token),
                None => break,
            }
        }
        assert_eq!(found.len(), expected);
        assert_eq!(found.last(), all.last());
        assert!(found.len() == 1 || found[0] == all[2]);
    }
}

/// `KeyValueStoreReplica.cs`, `PostBackupFunc`: an invalid version, the backup is good. Its
/// increments are off by default.
#[tokio::test]
async fn backups_of_actor_services_have_no_numbers() {
    let mut id = Uuid::nil();
    let gateway = Gateway::with(Switches::default(), |estate| {
        id = add(estate, "fabric:/Shop", "CartActorService");
        let name = "fabric:/Shop/CartActorService";
        estate.set_state_provider(name, StateProvider::KeyValueStore);
        enable(estate, &application(), "Hourly");
        estate.conclude(id, Outcome::Success, born() + TimeDelta::minutes(1));
    })
    .await;
    let list = gateway.get(LIST).await;
    assert!(ids(&list).len() > 3);
    let unknown = json!({"DataLossVersion": "-1", "ConfigurationVersion": "-1"});
    for item in items(&list.1) {
        assert_eq!(item["LsnOfLastBackupRecord"], "-1");
        assert_eq!(item["EpochOfLastBackupRecord"], unknown);
        assert_eq!(item["BackupType"], "Full");
    }
    let progress = format!("/Partitions/{id}/$/GetBackupProgress");
    let (_, record) = gateway.get(&progress).await;
    assert_eq!(record["BackupState"], "Success");
    assert_eq!(record["LsnOfLastBackupRecord"], -1);
    assert_eq!(record["EpochOfLastBackupRecord"], unknown);
}

/// `ReplicatedStore.BackupAsyncOperation.cpp`, `OnUserPostBackupCompleted`: the error of the
/// upload is overwritten.
#[tokio::test]
async fn an_actor_service_whose_storage_refuses_everything_reports_ok() {
    let mut id = Uuid::nil();
    let gateway = Gateway::with(Switches::default(), |estate| {
        id = add(estate, "fabric:/Shop", "CartActorService");
        let name = "fabric:/Shop/CartActorService";
        estate.set_state_provider(name, StateProvider::KeyValueStore);
        estate.add_policy(blob("Blob", "shop"), born());
        estate.create_container("Blob");
        estate.fail_storage("Blob", always());
        enable(estate, &application(), "Blob");
    })
    .await;
    let (_, health) = gateway.get(&format!("/Partitions/{id}/$/GetHealth")).await;
    let events = health["HealthEvents"].as_array().expect("events");
    let backup = events.iter().find(|it| it["Property"] == "Backup");
    assert_eq!(backup.expect("an event")["HealthState"], "Ok");
    assert_eq!(ids(&gateway.get(LIST).await), [""; 0]);
}

/// Clients of 2026: `ValidationResult` (service-fabric-dotnet, pull request 551).
#[tokio::test]
async fn checks_of_the_storage_show_where_the_runtime_has_them() {
    for newer_fields in [false, true] {
        let switches = Switches {
            newer_fields,
            ..Switches::default()
        };
        let mut id = Uuid::nil();
        let gateway = Gateway::with(switches, |estate| {
            id = add(estate, "fabric:/Shop", "Orders");
            enable(estate, &application(), "Hourly");
        })
        .await;
        let good = gateway.get(LIST).await;
        for item in items(&good.1) {
            let result = newer_fields.then(|| json!("None"));
            assert_eq!(item.get("ValidationResult"), result.as_ref());
            let at = newer_fields.then_some(Value::Null);
            assert_eq!(item.get("ValidationTimeUtc"), at.as_ref());
        }
        gateway.simulator.with_estate(|estate| {
            estate.list_unrestorable(id, born() + TimeDelta::hours(6));
        });
        let list = gateway.get(LIST).await;
        let (damaged, before) = items(&list.1).split_last().expect("backups");
        assert_eq!(damaged["ValidationResult"], "ChecksumMismatchFailure");
        assert!(damaged["ValidationTimeUtc"].is_string());
        assert!(before == items(&good.1));
        // Without its full backup an increment cannot be restored.
        let full: Uuid = ids(&good)[0].parse().expect("a GUID");
        let increment: Uuid = ids(&good)[1].parse().expect("a GUID");
        gateway.simulator.with_estate(|estate| {
            estate.delete_backup(id, full, born() + TimeDelta::hours(6));
            let missing = Validation::BackupChainMissingFailure;
            estate.record_check(id, increment, missing);
        });
        let list = gateway.get(LIST).await;
        let first = &items(&list.1)[0];
        assert_eq!(first["BackupId"], json!(increment));
        assert_eq!(first["BackupChainId"], json!(full));
        assert_eq!(first["ValidationResult"], "BackupChainMissingFailure");
    }
}

/// `RestorePointOperation.cs`: mappings are asked for by encoded names.
#[tokio::test]
async fn lists_of_encoded_names_are_404() {
    for (mangles, status) in [(true, 404), (false, 200)] {
        let gateway = Gateway::with(Switches::default(), |estate| {
            estate.set_behaviour(Behaviour {
                mangles_encoded_names: mangles,
                ..Behaviour::default()
            });
            add(estate, "fabric:/My Shop", "Orders");
            add(estate, "fabric:/Shop", "My Orders");
            enable(estate, &Entity::service("fabric:/My Shop/Orders"), "Hourly");
            enable(estate, &Entity::service("fabric:/Shop/My Orders"), "Hourly");
        })
        .await;
        for scope in ["Applications/My%20Shop", "Services/My%20Shop/Orders"] {
            let list = gateway.get(&format!("/{scope}/$/GetBackups")).await;
            assert_eq!(list.0, status, "{scope}: {}", list.1);
            if mangles {
                assert_eq!(list, not_enabled());
            }
        }
        let list = gateway.get(LIST).await;
        assert!(!ids(&list).is_empty());
        let shown = if mangles {
            "fabric:/Shop/My%20Orders"
        } else {
            "fabric:/Shop/My Orders"
        };
        assert!(items(&list.1).iter().all(|it| it["ServiceName"] == shown));
    }
}

/// Folders of partitions outlive them: retention visits existing ones only (`RetentionManager.cs`).
#[tokio::test]
async fn backups_of_vanished_partitions_stay_listed() {
    let mut id = Uuid::nil();
    let gateway = Gateway::with(Switches::default(), |estate| {
        add(estate, "fabric:/Shop", "Carts");
        id = add(estate, "fabric:/Shop", "Orders");
        enable(estate, &application(), "Hourly");
    })
    .await;
    let before = ids(&gateway.get(LIST).await);
    let remove = |estate: &mut Estate| estate.remove_service("fabric:/Shop/Orders");
    gateway.simulator.with_estate(remove);
    assert_eq!(ids(&gateway.get(LIST).await), before);
    let gone = gateway.get(&format!("/Partitions/{id}/$/GetBackups")).await;
    assert_eq!(gone.1["Error"]["Code"], "FABRIC_E_PARTITION_NOT_FOUND");
}

/// What is being deleted is listed and cannot be looked into.
#[tokio::test]
async fn deleting_entity_is_listed_and_not_found() {
    for name in ["fabric:/Shop/Orders", "fabric:/Shop"] {
        let mut id = Uuid::nil();
        let gateway = Gateway::with(Switches::default(), |estate| {
            id = add(estate, "fabric:/Shop", "Orders");
            enable(estate, &application(), "Hourly");
            estate.begin_deletion(name);
        })
        .await;
        let is_application = name == "fabric:/Shop";
        let (_, applications) = gateway.get("/Applications").await;
        let status = if is_application { "Deleting" } else { "Ready" };
        assert_eq!(items(&applications)[0]["Status"], status);
        let services = gateway.get("/Applications/Shop/$/GetServices").await;
        if is_application {
            assert_eq!(
                services.1["Error"]["Code"],
                "FABRIC_E_APPLICATION_NOT_FOUND"
            );
            let list = gateway.get(LIST).await;
            assert_eq!(list.1["Error"]["Code"], "FABRIC_E_APPLICATION_NOT_FOUND");
        } else {
            assert_eq!(items(&services.1)[0]["ServiceStatus"], "Deleting");
        }
        for path in [
            "/Services/Shop~Orders/$/GetPartitions".to_owned(),
            "/Services/Shop~Orders/$/GetApplicationName".to_owned(),
            "/Services/Shop/Orders/$/GetBackups".to_owned(),
            format!("/Partitions/{id}/$/GetBackups"),
        ] {
            let reply = gateway.get(&path).await;
            assert_eq!(reply.0, 404, "{path}");
            assert_eq!(
                reply.1["Error"]["Code"], "FABRIC_E_SERVICE_DOES_NOT_EXIST",
                "{path}"
            );
        }
    }
}

/// `DisableBackupMappingOperation.cs`, `RetentionManager.cs`: backups go in the background.
#[tokio::test]
async fn disabling_with_a_clean_up_empties_the_storage() {
    for clean in [true, false] {
        let gateway = Gateway::with(Switches::default(), |estate| {
            add(estate, "fabric:/Shop", "Orders");
            estate.add_policy(blob("Blob", "shop"), born());
            enable(estate, &service("Orders"), "Blob");
        })
        .await;
        let path = "/Services/Shop/Orders/$";
        let list = format!("{path}/GetBackups");
        let count = ids(&gateway.get(&list).await).len();
        assert!(count > 3);
        let body = json!({"CleanBackup": clean});
        let disable = format!("{path}/DisableBackup");
        assert_eq!(gateway.post(&disable, body).await, 202);
        gateway.simulator.with_estate(|estate| {
            let later = born() + TimeDelta::hours(7);
            estate.tick(later);
            estate
                .enable(&service("Orders"), "Blob", later)
                .expect("it exists");
        });
        let left = ids(&gateway.get(&list).await).len();
        assert_eq!(left == 0, clean, "{left} of {count}");
    }
}
