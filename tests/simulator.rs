//! Responses of the simulated gateway compared with the published samples.
//!
//! Every test uses a socket and reqwest, not the client of this crate.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use servicefabric_backup_exporter::simulator::{
    BackupPlan, Code, Entity, EpochSpelling, Estate, EstateSize, Fault, Filter, Latency,
    Malformation, Never, Operation, Options, Outcome, PartitionEpoch, Policy, Schedule, Scheme,
    Sentinel, ServiceKind, Simulator, Storage, Switches, TokenEnd,
};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

struct Gateway {
    simulator: Simulator,
    client: Client,
    /// A partition of `fabric:/Shop`.
    id: Uuid,
}

struct Reply {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    body: String,
}

impl Gateway {
    async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let estate = Estate::generate(&shape(), born());
        let id = estate
            .partition_ids()
            .into_iter()
            .find(|id| estate.application_of(*id).as_deref() == Some("fabric:/Shop"))
            .expect("every estate has this application");
        let simulator = Simulator::start(listener, estate, options).expect("a bound listener");
        let client = Client::builder().no_proxy().build().expect("a client");
        Self {
            simulator,
            client,
            id,
        }
    }

    async fn with(switches: Switches) -> Self {
        Self::start(Options {
            switches,
            ..Options::default()
        })
        .await
    }

    async fn send(&self, method: Method, path: &str) -> reqwest::Result<Reply> {
        let url = format!("{}{path}", self.simulator.url());
        let response = self.client.request(method, url).send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.text().await?;
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path).await.expect("an answer")
    }

    async fn progress(&self) -> Reply {
        self.get(&progress_of(self.id)).await
    }

    async fn post_backup(&self) -> Reply {
        let path = format!("/Partitions/{}/$/Backup?api-version=6.4", self.id);
        self.send(Method::POST, &path).await.expect("an answer")
    }

    /// All items of a list, page by page, and how many pages there were.
    async fn walk(&self, path: &str) -> (Vec<Value>, usize) {
        let (mut items, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let query: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
            let page = self.get(&format!("{path}&ContinuationToken={query}")).await;
            let page = page.json();
            items.extend(page["Items"].as_array().expect("items").iter().cloned());
            pages += 1;
            match page["ContinuationToken"].as_str() {
                None | Some("") => return (items, pages),
                Some(next) => next.clone_into(&mut token),
            }
        }
    }
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn content_type(&self) -> Option<&str> {
        self.header("content-type")
    }
}

fn shape() -> EstateSize {
    EstateSize {
        seed: 11,
        applications: 5,
        services_per_application: 3,
        partitions_per_service: 4,
    }
}

fn born() -> DateTime<Utc> {
    DateTime::from_timestamp(1_740_000_000, 0).expect("a time")
}

fn rare() -> Policy {
    Policy {
        name: "Rare".to_owned(),
        auto_restore_on_data_loss: false,
        max_incremental_backups: 4,
        schedule: Schedule::Every(Duration::from_secs(15 * 86_400)),
        storage: Storage::FileShare {
            friendly_name: String::new(),
            path: r"\\storage\backups".to_owned(),
            user: None,
        },
        retention: None,
    }
}

fn progress_of(id: Uuid) -> String {
    format!("/Partitions/{id}/$/GetBackupProgress?api-version=6.4")
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
fn assert_like_sample(body: &Value, name: &str) {
    assert_eq!(shape_of(body), shape_of(&sample(name)), "{name}: {body}");
}

#[track_caller]
fn assert_error(reply: &Reply, status: u16, content_type: &str, name: &str) {
    assert_eq!(reply.status.as_u16(), status, "{name}: {}", reply.body);
    assert_eq!(reply.content_type(), Some(content_type), "{name}");
    assert_eq!(reply.body, sample(name).to_string(), "{name}");
}

/// Sends a request as bytes and reads until the connection ends.
async fn raw(gateway: &Gateway, path: &str) -> (String, io::Result<usize>) {
    let address = gateway.simulator.url().replace("http://", "");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let exchange = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
            .write_all(request.as_bytes())
            .expect("a request sent");
        let mut bytes = Vec::new();
        let ended = stream.read_to_end(&mut bytes);
        (String::from_utf8_lossy(&bytes).into_owned(), ended)
    });
    exchange.await.expect("an exchange")
}

#[tokio::test]
async fn every_state_has_the_keys_and_types_of_its_sample() {
    let gateway = Gateway::start(Options::default()).await;
    let failure = |code| Outcome::Failure(code, "text".to_owned());
    let name = Code::Name("FABRIC_E_NOT_PRIMARY".to_owned());
    let number = Code::Number(2_148_734_208);
    let cases = [
        (Outcome::Never, "accepted"),
        (Outcome::Success, "success.wire"),
        (failure(name), "failure"),
        (failure(number), "failure.numeric-code"),
        (Outcome::Timeout, "timeout"),
    ];
    for (outcome, name) in cases {
        gateway
            .simulator
            .with_estate(|estate| estate.conclude(gateway.id, outcome, born()));
        let reply = gateway.progress().await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.content_type(), Some(JSON));
        let name = format!("GetPartitionBackupProgress.{name}.json");
        assert_like_sample(&reply.json(), &name);
        assert_eq!(reply.json()["BackupState"], sample(&name)["BackupState"]);
        let truth = gateway
            .simulator
            .with_estate(|estate| estate.record(gateway.id));
        assert_eq!(Some(reply.json()), truth);
    }
}

#[tokio::test]
async fn records_without_a_success_equal_their_samples() {
    let gateway = Gateway::start(Options::default()).await;
    assert_eq!(gateway.progress().await.body, "null");
    for (outcome, name) in [(Outcome::Never, "accepted"), (Outcome::Timeout, "timeout")] {
        gateway
            .simulator
            .with_estate(|estate| estate.conclude(gateway.id, outcome, born()));
        let name = format!("GetPartitionBackupProgress.{name}.json");
        assert_eq!(gateway.progress().await.json(), sample(&name));
    }
}

#[tokio::test]
async fn a_backup_requested_over_http_runs_by_itself_and_refuses_a_second_one() {
    let plan = BackupPlan {
        accepted_for: Duration::from_millis(800),
        running_for: Duration::from_millis(800),
        ..BackupPlan::default()
    };
    let gateway = Gateway::start(Options {
        on_demand: plan,
        ..Options::default()
    })
    .await;
    let accepted = gateway.post_backup().await;
    assert_eq!(
        (accepted.status.as_u16(), accepted.body.as_str()),
        (202, "")
    );
    assert_eq!(accepted.header("content-length"), Some("0"));
    let refused = gateway.post_backup().await;
    assert_error(&refused, 409, TEXT, "error.409.backup-in-progress.json");
    let (started, mut seen) = (Instant::now(), Vec::new());
    while seen.last() != Some(&json!("Success")) && started.elapsed() < PATIENCE {
        seen.push(gateway.progress().await.json()["BackupState"].clone());
    }
    seen.dedup();
    assert_eq!(seen, ["Accepted", "BackupInProgress", "Success"]);
}

#[tokio::test]
async fn every_answer_carries_the_headers_of_http_sys() {
    let gateway = Gateway::start(Options::default()).await;
    for path in [
        "/Applications?api-version=6.1",
        "/nowhere",
        &progress_of(gateway.id),
    ] {
        let reply = gateway.get(path).await;
        assert_eq!(reply.header("server"), Some("Microsoft-HTTPAPI/2.0"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(reply.header("date").is_some_and(|it| it.ends_with("GMT")));
    }
}

#[tokio::test]
async fn native_routes_insist_on_an_api_version_the_cluster_knows() {
    let gateway = Gateway::start(Options {
        cluster_version: "9.1.1583.9590".to_owned(),
        ..Options::default()
    })
    .await;
    for version in ["6.1", "6.4", "9.1"] {
        let reply = gateway
            .get(&format!("/Applications?api-version={version}"))
            .await;
        assert_eq!(reply.status, 200, "{version}");
    }
    for path in [
        "/Applications",
        "/Applications?api-version=6.0",
        "/Applications?api-version=9.2",
        "/Applications?api-version=99.0",
        "/Applications?api-version=six",
        "/Applications?api-version=6.1&timeout=0",
        "/Applications?api-version=6.1&MaxResults=many",
        "/Applications?api-version=6.1&ContinuationToken=stolen",
        "/Nowhere?api-version=6.1",
        "/Partitions/not-a-guid?api-version=6.1",
    ] {
        let reply = gateway.get(path).await;
        let name = "error.400.api-version-newer-than-cluster.gateway.json";
        assert_error(&reply, 400, JSON, name);
    }
    let version = gateway.get("/$/GetClusterVersion?api-version=6.4").await;
    assert_eq!(version.json(), json!({"Version": "9.1.1583.9590"}));
}

#[tokio::test]
async fn the_backup_service_has_version_rules_and_errors_of_its_own() {
    let gateway = Gateway::start(Options {
        cluster_version: "6.4.514.9494".to_owned(),
        ..Options::default()
    })
    .await;
    let path = format!("/Partitions/{}/$/GetBackupProgress", gateway.id);
    for query in ["", "?api-version=6.2", "?api-version=six"] {
        let reply = gateway.get(&format!("{path}{query}")).await;
        assert_error(&reply, 400, TEXT, "error.400.invalid-api-version.brs.json");
    }
    let newer = gateway.get(&format!("{path}?api-version=99.0")).await;
    assert_eq!(newer.status, 200);
    let malformed = gateway
        .get("/Partitions/not-a-guid/$/GetBackupProgress?api-version=6.4")
        .await;
    assert_error(&malformed, 400, TEXT, "error.400.masked-timeout.brs.json");
    for action in ["GetBackups", "GetBackupConfigurationInfo"] {
        let malformed = format!("/Partitions/not-a-guid/$/{action}?api-version=6.4");
        let malformed = gateway.get(&malformed).await;
        assert_eq!(malformed.status, 500, "{action}");
        // FormatException, 0x80131537.
        assert_eq!(malformed.json()["Error"]["Code"], 2_148_734_263_u32);
    }
    let late = gateway
        .get(&format!("{path}?api-version=6.4&timeout=0"))
        .await;
    assert_error(&late, 500, JSON, "error.500.web-api-message.brs.json");
    let unknown = gateway.get(&progress_of(Uuid::nil())).await;
    assert_error(&unknown, 404, TEXT, "error.404.partition-not-found.json");
    assert_eq!(unknown.header("x-servicefabric"), Some("ResourceNotFound"));
}

#[tokio::test]
async fn the_backup_service_reads_slashes_and_tildes_only_where_it_is_newer() {
    for (brs_accepts_tilde, read_by_tilde) in [(false, 404), (true, 200)] {
        let gateway = Gateway::with(Switches {
            brs_accepts_tilde,
            ..Switches::default()
        })
        .await;
        gateway.simulator.with_estate(|estate| {
            estate.add_policy(rare(), born());
            let entity = Entity::application("fabric:/Retail/Shop");
            estate.enable(&entity, "Rare", born()).unwrap();
        });
        for (id, expected) in [
            ("Retail%2FShop", 200),
            ("Retail/Shop", 200),
            ("Retail~Shop", read_by_tilde),
        ] {
            let path = format!("/Applications/{id}/$/GetBackupConfigurationInfo?api-version=6.4");
            let reply = gateway.get(&path).await;
            assert_eq!(reply.status.as_u16(), expected, "{id}: {}", reply.body);
            if expected == 404 {
                assert_error(&reply, 404, TEXT, "error.404.backup-not-enabled.json");
            }
        }
    }
}

#[tokio::test]
async fn native_lists_have_the_shapes_of_their_samples() {
    let gateway = Gateway::start(Options::default()).await;
    let applications = gateway.get("/Applications?api-version=6.1").await.json();
    assert_like_sample(&applications, "GetApplicationInfoList.page-1.json");
    assert_eq!(applications["Items"][4]["Id"], "Shop");
    let system = "/Applications/System/$/GetServices?api-version=6.0";
    let system = gateway.get(system).await.json();
    assert_like_sample(&system, "GetServiceInfoList.system.json");
    let names = |list: &Value| {
        let items = list["Items"].as_array().expect("items").iter();
        items.map(|it| it["Name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&system),
        names(&sample("GetServiceInfoList.system.json"))
    );
    let version = gateway.get("/$/GetClusterVersion?api-version=6.4").await;
    assert_like_sample(&version.json(), "GetClusterVersion.json");
}

#[tokio::test]
async fn services_of_every_kind_match_newer_runtimes() {
    let gateway = Gateway::with(Switches {
        newer_fields: true,
        ..Switches::default()
    })
    .await;
    let services = "/Applications/Shop/$/GetServices?api-version=6.0";
    let services = gateway.get(services).await.json();
    let sampled = sample("GetServiceInfoList.mixed.json");
    let mut kinds = BTreeSet::new();
    for item in services["Items"].as_array().unwrap() {
        let kind = item["ServiceKind"].as_str().unwrap();
        kinds.insert(kind.to_owned());
        if let "Stateful" | "Stateless" = kind {
            let like = &sampled["Items"][usize::from(kind == "Stateless")];
            assert_eq!(shape_of(item), shape_of(like));
        }
    }
    let all = ["SelfReconfiguring", "Stateful", "Stateless"];
    assert_eq!(kinds.iter().collect::<Vec<_>>(), all.each_ref());
    gateway
        .simulator
        .with_estate(|estate| estate.conclude(gateway.id, Outcome::Success, born()));
    let progress = gateway.progress().await.json();
    assert_eq!(progress.as_object().unwrap().len(), 8);
}

#[tokio::test]
async fn partitions_of_every_kind_have_the_shape_of_a_sample() {
    let gateway = Gateway::start(Options::default()).await;
    let add = |name: &str, kind, scheme| {
        let service = format!("fabric:/Zoo/{name}");
        gateway.simulator.with_estate(|estate| {
            estate.add_service("fabric:/Zoo", &service, kind, scheme, born())
        });
    };
    let named = Scheme::Named(vec!["eu".to_owned()]);
    add("Range", ServiceKind::Persisted, Scheme::Ranges(5));
    add("Single", ServiceKind::Persisted, Scheme::Singleton);
    add("Named", ServiceKind::Volatile, named);
    add("Web", ServiceKind::Stateless, Scheme::Singleton);
    add("New", ServiceKind::SelfReconfiguring, Scheme::Singleton);
    let list = async |service: &str, version: &str| {
        let path = format!("/Services/Zoo~{service}/$/GetPartitions?api-version={version}");
        gateway.get(&path).await.json()
    };
    assert_like_sample(
        &list("Range", "6.0").await,
        "GetPartitionInfoList.five.json",
    );
    let newer = "GetPartitionInfoList.api-6.4-primary-epoch.json";
    assert_like_sample(&list("Range", "6.4").await, newer);
    let mixed = sample("GetPartitionInfoList.singleton-and-named.json");
    for (index, service) in ["Single", "Named", "Web"].into_iter().enumerate() {
        let found = list(service, "6.0").await;
        assert_eq!(
            shape_of(&found["Items"][0]),
            shape_of(&mixed["Items"][index])
        );
    }
    let known = sample("GetPartitionInfo.self-reconfiguring.sfx.json");
    let new = list("New", "6.0").await["Items"][0].clone();
    for key in new.as_object().unwrap().keys() {
        assert_eq!(shape_of(&new[key]), shape_of(&known[key]), "{key}");
    }
}

#[tokio::test]
async fn ranges_cover_all_keys_without_gap_or_overlap() {
    let gateway = Gateway::start(Options::default()).await;
    gateway.simulator.with_estate(|estate| {
        let (kind, scheme) = (ServiceKind::Persisted, Scheme::Ranges(7));
        estate.add_service("fabric:/Zoo", "fabric:/Zoo/All", kind, scheme, born())
    });
    let path = "/Services/Zoo~All/$/GetPartitions?api-version=6.0";
    let list = gateway.get(path).await.json();
    let key = |item: &Value, key: &str| -> i128 {
        let text = item["PartitionInformation"][key].as_str();
        text.expect("64-bit numbers are strings")
            .parse()
            .expect("a number")
    };
    let items = list["Items"].as_array().unwrap().iter();
    let mut ranges: Vec<_> = items
        .map(|it| (key(it, "LowKey"), key(it, "HighKey")))
        .collect();
    ranges.sort_unstable();
    assert_eq!(ranges[0].0, i128::from(i64::MIN));
    assert_eq!(ranges[6].1, i128::from(i64::MAX));
    assert!(ranges.windows(2).all(|it| it[0].1 + 1 == it[1].0));
}

#[tokio::test]
async fn names_and_single_partitions_are_found_by_id() {
    let gateway = Gateway::start(Options::default()).await;
    let id = gateway.id;
    let partition = gateway
        .get(&format!("/Partitions/{id}?api-version=6.0"))
        .await;
    assert_eq!(
        partition.json()["PartitionInformation"]["Id"],
        id.to_string()
    );
    let missing = gateway
        .get(&format!("/Partitions/{}?api-version=6.0", Uuid::nil()))
        .await;
    assert_eq!((missing.status.as_u16(), missing.body.as_str()), (204, ""));
    let service = gateway
        .get(&format!(
            "/Partitions/{id}/$/GetServiceName?api-version=6.0"
        ))
        .await
        .json();
    assert_like_sample(&service, "GetServiceNameInfo.json");
    let truth = gateway
        .simulator
        .with_estate(|estate| estate.service_of(id));
    assert_eq!(service["Name"].as_str(), truth.as_deref());
    let service = service["Id"].as_str().unwrap();
    for service in [service, &service.replace('~', "%2F")] {
        let path = format!("/Services/{service}/$/GetApplicationName?api-version=6.0");
        let application = gateway.get(&path).await.json();
        assert_eq!(application, json!({"Id": "Shop", "Name": "fabric:/Shop"}));
    }
    let nowhere = "/Services/No~Where/$/GetPartitions?api-version=6.0";
    let nowhere = gateway.get(nowhere).await;
    assert_eq!(
        (nowhere.status.as_u16(), nowhere.content_type()),
        (404, Some(JSON))
    );
}

#[tokio::test]
async fn walking_the_lists_finds_every_partition_at_any_page_size() {
    for page_size in [None, Some(1), Some(2), Some(3)] {
        let gateway = Gateway::with(Switches {
            page_size,
            ..Switches::default()
        })
        .await;
        let (applications, pages) = gateway.walk("/Applications?api-version=6.1").await;
        assert_eq!(pages, page_size.map_or(1, |size| 5_usize.div_ceil(size)));
        let mut found = BTreeSet::new();
        for application in applications {
            let id = application["Id"].as_str().unwrap();
            let path = format!("/Applications/{id}/$/GetServices?api-version=6.0");
            for service in gateway.walk(&path).await.0 {
                if service["HasPersistedState"] == true {
                    let id = service["Id"].as_str().unwrap();
                    let path = format!("/Services/{id}/$/GetPartitions?api-version=6.4");
                    let items = gateway.walk(&path).await.0.into_iter();
                    found.extend(items.map(|it| {
                        let id = it["PartitionInformation"]["Id"].as_str().unwrap();
                        id.parse::<Uuid>().unwrap()
                    }));
                }
            }
        }
        let truth = gateway.simulator.with_estate(|it| it.partition_ids());
        assert_eq!(found, truth.into_iter().collect::<BTreeSet<_>>());
    }
}

#[tokio::test]
async fn max_results_limits_a_page_and_tokens_survive_the_item_they_end_at() {
    let gateway = Gateway::start(Options::default()).await;
    let path = "/Applications?api-version=6.1&MaxResults=2";
    let page = gateway.get(path).await.json();
    assert_eq!(page["Items"].as_array().unwrap().len(), 2);
    let token = page["ContinuationToken"].as_str().unwrap();
    assert!("/:|".chars().all(|it| token.contains(it)), "{token}");
    let last = page["Items"][1]["Name"].as_str().unwrap();
    gateway
        .simulator
        .with_estate(|estate| estate.remove_application(last));
    let token: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let rest = gateway
        .get(&format!(
            "/Applications?api-version=6.1&ContinuationToken={token}"
        ))
        .await
        .json();
    assert_eq!(rest["Items"].as_array().unwrap().len(), 3);
    assert_eq!(rest["ContinuationToken"], "");
}

#[tokio::test]
async fn switches_change_the_spelling_of_records() {
    let gateway = Gateway::with(Switches {
        lsn_as_string: true,
        epoch_spelling: EpochSpelling::Version,
        sentinel: Sentinel::WestOfUtc,
        ..Switches::default()
    })
    .await;
    let set = |gateway: &Gateway, outcome| {
        let id = gateway.id;
        gateway
            .simulator
            .with_estate(|estate| estate.conclude(id, outcome, born()));
    };
    set(&gateway, Outcome::Success);
    let spec = "GetPartitionBackupProgress.success.spec.json";
    assert_like_sample(&gateway.progress().await.json(), spec);
    set(&gateway, Outcome::Never);
    let western = sample("GetPartitionBackupProgress.sentinel-local-tz.json");
    let shown = gateway.progress().await.json();
    assert_eq!(shown["TimeStampUtc"], western["TimeStampUtc"]);

    let gateway = Gateway::with(Switches {
        epoch_spelling: EpochSpelling::Number,
        ..Switches::default()
    })
    .await;
    set(&gateway, Outcome::Success);
    let preview = "GetPartitionBackupProgress.success.preview-epoch-keys.json";
    assert_like_sample(&gateway.progress().await.json(), preview);
}

#[tokio::test]
async fn switches_change_the_response_without_a_request() {
    for (never, status, content_type) in [
        (Never::EmptyBody, 200, Some(JSON)),
        (Never::NoContent, 204, None),
    ] {
        let switches = Switches {
            never,
            ..Switches::default()
        };
        let reply = Gateway::with(switches).await.progress().await;
        assert_eq!(
            (reply.status.as_u16(), reply.content_type()),
            (status, content_type)
        );
        assert_eq!(reply.body, "");
    }
    for (token_end, shown) in [
        (TokenEnd::Null, Some(Value::Null)),
        (TokenEnd::Absent, None),
    ] {
        let switches = Switches {
            token_end,
            ..Switches::default()
        };
        let gateway = Gateway::with(switches).await;
        let list = gateway.get("/Applications?api-version=6.1").await.json();
        assert_eq!(list.get("ContinuationToken"), shown.as_ref());
    }
    for (partition_epoch, key) in [
        (PartitionEpoch::Primary, "PrimaryEpoch"),
        (
            PartitionEpoch::CurrentConfiguration,
            "CurrentConfigurationEpoch",
        ),
    ] {
        let switches = Switches {
            partition_epoch,
            ..Switches::default()
        };
        let gateway = Gateway::with(switches).await;
        let path = format!("/Partitions/{}?api-version=6.4", gateway.id);
        assert!(gateway.get(&path).await.json()[key].is_object());
    }
}

#[tokio::test]
async fn fault_responses_match_their_samples() {
    let gateway = Gateway::start(Options::default()).await;
    let strike = async |fault| {
        gateway.simulator.heal();
        gateway.simulator.inject(fault, Filter::Backup);
        gateway.progress().await
    };
    let empty = |reply: &Reply| (reply.status.as_u16(), reply.body.is_empty());
    let absent = strike(Fault::ServiceAbsent).await;
    assert_eq!(empty(&absent), (404, true));
    assert_eq!(absent.header("x-servicefabric"), None);
    let began = Instant::now();
    let pause = Duration::from_millis(150);
    assert_eq!(empty(&strike(Fault::HangThen504(pause)).await), (504, true));
    assert!(began.elapsed() >= pause);
    let masked = strike(Fault::Masked400).await;
    assert_error(&masked, 400, TEXT, "error.400.masked-timeout.brs.json");
    let failed = strike(Fault::WebApi500).await;
    assert_error(&failed, 500, JSON, "error.500.web-api-message.brs.json");
    gateway.simulator.heal();
    gateway.simulator.inject(Fault::Masked500, Filter::All);
    for action in ["GetBackups", "GetBackupConfigurationInfo"] {
        let path = format!("/Partitions/{}/$/{action}?api-version=6.4", gateway.id);
        let masked = gateway.get(&path).await;
        let name = "error.500.masked-timeout.numeric-code.brs.json";
        assert_error(&masked, 500, TEXT, name);
    }
    assert_eq!(gateway.progress().await.body, "null");
    let policies = "/BackupRestore/BackupPolicies?api-version=6.4";
    assert_eq!(gateway.get(policies).await.status, 200);
    let internal = strike(Fault::InternalError).await;
    assert_error(
        &internal,
        500,
        TEXT,
        "error.500.recovery-point-details.brs.json",
    );
    let html = strike(Fault::Html503).await;
    assert_eq!(html.status, 503);
    assert!(html.body.contains("<HTML>") && html.content_type().unwrap().starts_with("text/html"));
    let odd = strike(Fault::NotJson).await;
    assert_eq!((odd.status.as_u16(), odd.content_type()), (200, Some(JSON)));
    assert!(serde_json::from_str::<Value>(&odd.body).is_err());
    let large = strike(Fault::TooLarge(1_000_000)).await;
    assert!(large.body.len() > 1_000_000 && large.json().is_string());
    assert_eq!(large.header("content-length"), None);
    gateway.simulator.heal();
    assert_eq!(gateway.progress().await.body, "null");
}

#[tokio::test]
async fn absent_backup_service_is_not_listed_and_forbidden_client_gets_a_reason() {
    let gateway = Gateway::start(Options::default()).await;
    let system = "/Applications/System/$/GetServices?api-version=6.0";
    gateway
        .simulator
        .inject(Fault::ServiceAbsent, Filter::Backup);
    let listed = gateway.get(system).await.json();
    assert_eq!(listed["Items"].as_array().unwrap().len(), 1);
    gateway.simulator.heal();
    assert_eq!(
        gateway.get(system).await.json()["Items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let name = "fabric:/System/BackupRestoreService";
    gateway
        .simulator
        .with_estate(|estate| estate.remove_service(name));
    let gone = gateway.progress().await;
    assert_eq!((gone.status.as_u16(), gone.body.as_str()), (404, ""));
    gateway.simulator.inject(Fault::Forbidden, Filter::All);
    let (text, _) = raw(&gateway, "/Applications?api-version=6.1").await;
    assert!(
        text.starts_with("HTTP/1.1 403 Client certificate required\r\n"),
        "{text}"
    );
    assert!(text.ends_with("\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn faults_of_the_wire_are_seen_on_the_wire() {
    let gateway = Gateway::start(Options::default()).await;
    let path = "/Applications?api-version=6.1";
    let whole = gateway.get(path).await.body;
    let only = |fault| {
        gateway.simulator.heal();
        gateway.simulator.inject(fault, Filter::Native);
    };
    only(Fault::Reset);
    let (text, ended) = raw(&gateway, path).await;
    assert_eq!(text, "");
    let error = ended.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    only(Fault::Closed);
    let (text, ended) = raw(&gateway, path).await;
    assert_eq!((text.as_str(), ended.expect("a close")), ("", 0));

    only(Fault::TruncatedBody);
    let (text, ended) = raw(&gateway, path).await;
    ended.expect("a close");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let declared = format!("content-length: {}", whole.len());
    assert!(head.to_lowercase().contains(&declared), "{head}");
    assert_eq!(body.len(), whole.len() / 2);
    assert!(whole.starts_with(body));

    only(Fault::SlowBody(Duration::from_millis(200)));
    let began = Instant::now();
    assert_eq!(gateway.get(path).await.body, whole);
    assert!(began.elapsed() >= Duration::from_millis(200));

    only(Fault::Hang);
    let answer = gateway.get(path);
    let waited = tokio::time::timeout(Duration::from_millis(200), answer).await;
    assert!(waited.is_err());
}

#[tokio::test]
async fn malformed_text_reaches_the_wire_as_bytes_that_no_string_holds() {
    let gateway = Gateway::start(Options::default()).await;
    let outcome = Outcome::Failure(Code::Number(5), "no".to_owned());
    let id = gateway.id;
    gateway
        .simulator
        .with_estate(|estate| estate.conclude(id, outcome, born()));
    let spoilt = async |how| {
        gateway.simulator.heal();
        gateway.simulator.inject(Fault::Malformed(how), Filter::All);
        let url = format!("{}{}", gateway.simulator.url(), progress_of(id));
        let response = gateway.client.get(url).send().await.expect("an answer");
        response.bytes().await.expect("a body").to_vec()
    };
    let contains = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|it| it == part);
    let lone = spoilt(Malformation::LoneSurrogate).await;
    assert!(contains(&lone, br#""Message":"no\ud800""#));
    assert!(serde_json::from_slice::<Value>(&lone).is_err());
    let invalid = spoilt(Malformation::InvalidUtf8).await;
    assert!(contains(&invalid, b"\"Message\":\"no\xff\""));
}

#[tokio::test]
async fn faulty_paging_never_ends() {
    let gateway = Gateway::with(Switches {
        page_size: Some(2),
        ..Switches::default()
    })
    .await;
    for (fault, different) in [(Fault::EndlessPaging, 5), (Fault::RepeatedToken, 1)] {
        gateway.simulator.heal();
        gateway.simulator.inject(fault, Filter::All);
        let (mut tokens, mut token) = (BTreeSet::new(), String::new());
        for _ in 0..5 {
            let query: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
            let path = format!("/Applications?api-version=6.1&ContinuationToken={query}");
            let page = gateway.get(&path).await.json();
            assert_eq!(page["Items"].as_array().unwrap().len(), 2);
            token = page["ContinuationToken"].as_str().unwrap().to_owned();
            tokens.insert(token.clone());
        }
        assert_eq!(tokens.len(), different, "{tokens:?}");
    }
}

#[tokio::test]
async fn a_faulty_request_for_a_backup_starts_none_and_counted_faults_wear_off() {
    let gateway = Gateway::start(Options::default()).await;
    let filter = Filter::Operation(Operation::BackupPartition);
    gateway.simulator.inject_next(2, Fault::Masked400, filter);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        assert_eq!(gateway.progress().await.body, "null");
        statuses.push(gateway.post_backup().await.status.as_u16());
    }
    assert_eq!(statuses, [400, 400, 202]);
    assert_eq!(gateway.progress().await.json()["BackupState"], "Accepted");
}

#[tokio::test]
async fn requests_are_counted_by_operation_and_metered() {
    let gateway = Gateway::start(Options {
        latency: Latency::Fixed(Duration::from_millis(600)),
        ..Options::default()
    })
    .await;
    let path = progress_of(gateway.id);
    let together = futures_util::future::join_all((0..7).map(|_| gateway.get(&path)));
    together.await;
    assert_eq!(gateway.simulator.peak_in_flight(), 7);
    gateway.get("/nowhere").await;
    assert_eq!(gateway.simulator.peak_in_flight(), 7);
    let counted = gateway.simulator.requests();
    assert_eq!(counted["GetPartitionBackupProgress"], 7);
    assert_eq!(counted["Unknown"], 1);
    assert_eq!(counted.len(), 2);
}

#[tokio::test]
async fn a_client_that_gives_up_leaves_no_request_in_flight() {
    let gateway = Gateway::start(Options::default()).await;
    let hanging = Filter::Operation(Operation::GetPartitionBackupProgress);
    gateway.simulator.inject(Fault::Hang, hanging);
    let path = progress_of(gateway.id);
    let gone = tokio::time::timeout(Duration::from_millis(100), gateway.get(&path)).await;
    assert!(gone.is_err());
    let started = Instant::now();
    while gateway.simulator.in_flight() > 0 && started.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(gateway.simulator.in_flight(), 0);
}

#[tokio::test]
async fn a_stopped_gateway_refuses_connections_and_cuts_those_it_has() {
    let gateway = Gateway::start(Options::default()).await;
    gateway.simulator.inject(Fault::Hang, Filter::All);
    let path = progress_of(gateway.id);
    let hanging = gateway.send(Method::GET, &path);
    let stopped = async {
        let started = Instant::now();
        while gateway.simulator.in_flight() == 0 && started.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway.simulator.stop().await;
    };
    let (cut, ()) = futures_util::future::join(hanging, stopped).await;
    assert!(cut.is_err());
    let address = gateway.simulator.url().replace("http://", "");
    let refused = TcpStream::connect(address)
        .await
        .expect_err("a closed port");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}
