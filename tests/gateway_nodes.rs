//! Clusters with several endpoints, some of which answer for themselves instead of for the cluster,
//! and clusters without a backup service.
//!
//! The endpoints send raw bytes; the behaviour of each can be changed at run time.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use crate::support::watch::{Setup, existing, known, succeeded};
use crate::support::{PATIENCE, estate, simulate, with_history};
use futures_util::future::join_all;
use servicefabric_backup_exporter::gateway::{Error, Gateway, Options, Reason};
use servicefabric_backup_exporter::logging::chain;
use servicefabric_backup_exporter::model::PartitionId;
use servicefabric_backup_exporter::settings::Security;
use servicefabric_backup_exporter::simulator;
use servicefabric_backup_exporter::snapshot::Collector;
use servicefabric_backup_exporter::telemetry::Telemetry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;
use uuid::Uuid;

const PARTITION: PartitionId = PartitionId(Uuid::from_u128(0xAB));
const SUCCESS: &str = include_str!("samples/GetPartitionBackupProgress.success.wire.json");
const NOT_FOUND: &str = include_str!("samples/error.404.partition-not-found.json");

/// The behaviour of an endpoint.
#[derive(Clone, Debug)]
enum Behaviour {
    /// For the cluster.
    Works,
    /// With this status and body, whatever is asked.
    Always(u16, String),
    /// With these bytes.
    Raw(&'static str),
    /// On native routes for the cluster, on backup routes with this status and body.
    Backup(u16, String),
}

fn always(status: u16, body: &str) -> Behaviour {
    Behaviour::Always(status, body.to_owned())
}

/// Answers of a node or of a proxy in front of it, and their reasons.
fn bad() -> Vec<(Behaviour, Reason)> {
    vec![
        (always(401, ""), Reason::Forbidden),
        (always(403, ""), Reason::Forbidden),
        (always(403, "<html>Forbidden</html>"), Reason::Forbidden),
        (always(301, ""), Reason::Api),
        (always(307, "<html>Moved</html>"), Reason::Api),
        (always(404, "<html>Not Found</html>"), Reason::Api),
        (always(400, "<h1>Bad Request</h1>"), Reason::Api),
        (always(500, ""), Reason::Api),
        (
            always(500, "{\"Message\":\"An error has occurred.\"}"),
            Reason::Api,
        ),
        (always(200, "<html>Sign in</html>"), Reason::Decode),
        (always(200, "OK"), Reason::Decode),
        (always(200, "[]"), Reason::Decode),
        (always(200, "{\"BackupState\":"), Reason::Decode),
        (
            Behaviour::Raw("SSH-2.0-OpenSSH_9.6\r\n\r\n"),
            Reason::Connect,
        ),
    ]
}

struct Endpoint {
    url: Url,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Endpoint {
    async fn start(behaviour: Behaviour) -> Self {
        LazyLock::force(&LOG);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let endpoint = Self {
            url: url.parse().unwrap(),
            behaviour: Arc::new(Mutex::new(behaviour)),
            requests: Arc::default(),
        };
        let (behaviour, requests) = (
            Arc::clone(&endpoint.behaviour),
            Arc::clone(&endpoint.requests),
        );
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (behaviour, requests) = (Arc::clone(&behaviour), Arc::clone(&requests));
                tokio::spawn(async move {
                    while let Some(head) = read_head(&mut stream).await {
                        // The root is only asked for to find out what else answers here.
                        if !head.starts_with("GET / ") {
                            requests.lock().unwrap().push(head.clone());
                        }
                        let behaviour = behaviour.lock().unwrap().clone();
                        let answer = answer(&behaviour, &head);
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        endpoint
    }

    /// An address without a listener.
    async fn dead() -> Self {
        let endpoint = Self::start(Behaviour::Works).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self {
            url: url.parse().unwrap(),
            ..endpoint
        }
    }

    fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn host(&self) -> String {
        format!(
            "{}:{}",
            self.url.host_str().unwrap(),
            self.url.port().unwrap()
        )
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn answer(behaviour: &Behaviour, head: &str) -> String {
    let is_backup = !head.contains("GetClusterVersion");
    let works = if is_backup {
        SUCCESS
    } else {
        "{\"Version\":\"10.1\"}"
    };
    let (status, body) = match behaviour {
        Behaviour::Raw(bytes) => return (*bytes).to_owned(),
        Behaviour::Always(status, body) => (*status, body.as_str()),
        Behaviour::Backup(status, body) if is_backup => (*status, body.as_str()),
        Behaviour::Works | Behaviour::Backup(..) => (200, works),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Scripted\r\nLocation: http://192.0.2.1/\r\nContent-Length: {length}\r\n\r\n\
         {body}"
    )
}

fn gateway(endpoints: &[&Endpoint]) -> Gateway {
    named("test", endpoints)
}

fn named(cluster: &str, endpoints: &[&Endpoint]) -> Gateway {
    let options = Options {
        cluster: cluster.into(),
        endpoints: endpoints
            .iter()
            .map(|endpoint| endpoint.url.clone())
            .collect(),
        timeout: PATIENCE,
        concurrency: 16,
        security: Security::default(),
        fabric_identity: None,
    };
    Gateway::new(options, Arc::new(Telemetry::default())).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Route {
    Native,
    Backup,
}

impl Route {
    /// Each in turn.
    fn of(number: usize) -> Self {
        if number.is_multiple_of(2) {
            Self::Native
        } else {
            Self::Backup
        }
    }
}

async fn call(gateway: &Gateway, route: Route) -> Result<(), Error> {
    match route {
        Route::Native => gateway.cluster_version().await.map(drop),
        Route::Backup => gateway.backup_progress(PARTITION).await.map(drop),
    }
}

#[tokio::test]
async fn a_node_that_answers_for_itself_is_replaced_at_any_position() {
    for (number, (behaviour, _)) in bad().into_iter().enumerate() {
        for (endpoints, good) in [(2, 1), (3, 1), (3, 2)] {
            let mut all = Vec::new();
            for position in 0..endpoints {
                let good = position == good;
                let behaviour = if good {
                    Behaviour::Works
                } else {
                    behaviour.clone()
                };
                all.push(Endpoint::start(behaviour).await);
            }
            let gateway = gateway(&all.iter().collect::<Vec<_>>());
            let route = Route::of(number + good);
            let what = format!("{behaviour:?} {endpoints} {good} {route:?}");
            for _ in 0..5 {
                call(&gateway, route).await.expect(&what);
            }
            for (position, endpoint) in all.iter().enumerate() {
                let expected = match position {
                    position if position == good => 5,
                    position if position < good => 1,
                    _ => 0,
                };
                assert_eq!(endpoint.requests(), expected, "{what}: {position}");
            }
            let heard = match route {
                Route::Native => gateway.native_access().then_some(true),
                Route::Backup => gateway.backup_service(),
            };
            assert_eq!(heard, Some(true), "{what}");
        }
    }
}

#[tokio::test]
async fn an_empty_answer_on_a_native_route_comes_from_the_node() {
    let (empty, good) = (always(200, ""), Endpoint::start(Behaviour::Works).await);
    let empty = Endpoint::start(empty).await;
    let gateway = gateway(&[&empty, &good]);
    gateway.cluster_version().await.unwrap();
    assert!(gateway.native_access());
}

#[tokio::test]
async fn the_first_answer_is_the_result_when_all_nodes_answer_for_themselves() {
    let kinds = bad();
    for (number, (behaviour, reason)) in kinds.iter().enumerate() {
        let (other, _) = &kinds[(number + 5) % kinds.len()];
        let all = [
            Endpoint::start(behaviour.clone()).await,
            Endpoint::start(other.clone()).await,
            Endpoint::dead().await,
        ];
        let gateway = gateway(&all.each_ref());
        let route = Route::of(number);
        let error = call(&gateway, route).await.unwrap_err();
        let what = format!("{behaviour:?} {other:?} {route:?}");
        assert_eq!(error.reason(), *reason, "{what}");
        let text = chain(&error);
        assert!(text.contains(&all[0].host()), "{text}");
        assert_eq!((all[0].requests(), all[1].requests()), (1, 1), "{what}");
        assert!(!gateway.native_access());
        assert_ne!(gateway.backup_service(), Some(true));
    }
}

#[tokio::test]
async fn concurrent_calls_all_move_on_from_a_bad_node() {
    for (behaviour, _) in bad() {
        let (one, two) = (
            Endpoint::start(behaviour.clone()).await,
            Endpoint::start(Behaviour::Works).await,
        );
        let gateway = gateway(&[&one, &two]);
        let calls = (0..200).map(|_| call(&gateway, Route::Backup));
        for outcome in join_all(calls).await {
            outcome.expect("one endpoint works");
        }
        assert!(one.requests() <= 16, "{behaviour:?}: {}", one.requests());
        assert_eq!(two.requests(), 200);
    }
}

#[tokio::test]
async fn a_recovered_node_is_used_again_when_the_other_one_fails() {
    for (behaviour, _) in bad() {
        let (one, two) = (
            Endpoint::start(behaviour.clone()).await,
            Endpoint::start(Behaviour::Works).await,
        );
        let gateway = gateway(&[&one, &two]);
        let mut nodes = [&one, &two];
        for turn in 0..4 {
            for _ in 0..3 {
                call(&gateway, Route::Native).await.expect("one works");
            }
            let [bad, good] = nodes;
            good.set(behaviour.clone());
            bad.set(Behaviour::Works);
            nodes = [good, bad];
            // What is no HTTP ends the connection, so it is asked for once more on a new one.
            if !matches!(behaviour, Behaviour::Raw(_)) {
                let requests = one.requests() + two.requests();
                assert_eq!(requests, 4 * (turn + 1), "{behaviour:?}");
            }
        }
    }
}

#[tokio::test]
async fn unreachable_bad_and_working_endpoints_work_in_any_order() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for ((behaviour, _), order) in bad().into_iter().zip(orders.into_iter().cycle()) {
        let all = [
            Endpoint::dead().await,
            Endpoint::start(behaviour.clone()).await,
            Endpoint::start(Behaviour::Works).await,
        ];
        let gateway = gateway(&order.map(|position| &all[position]));
        for route in [Route::Backup, Route::Native] {
            call(&gateway, route).await.expect("one works");
        }
        assert_eq!(all[2].requests(), 2, "{behaviour:?} {order:?}");
    }
}

#[tokio::test]
async fn a_retry_does_not_return_to_a_bad_node() {
    let bad = Endpoint::start(always(403, "")).await;
    let busy = Endpoint::start(always(503, "")).await;
    let gateway = gateway(&[&bad, &busy]);
    let error = call(&gateway, Route::Native).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ServiceUnavailable);
    assert_eq!((bad.requests(), busy.requests()), (1, 3));
}

#[tokio::test]
async fn failover_does_not_use_the_retry_budget() {
    let unavailable = r#"{"Error":{"Code":"FABRIC_E_NOT_PRIMARY"}}"#;
    let one = Endpoint::start(always(503, unavailable)).await;
    let two = Endpoint::start(always(503, unavailable)).await;
    let gateway = gateway(&[&one, &two]);
    for _ in 0..20 {
        call(&gateway, Route::Backup).await.unwrap_err();
    }
    one.set(always(403, ""));
    two.set(Behaviour::Works);
    call(&gateway, Route::Native).await.unwrap();
    one.set(Behaviour::Works);
    two.set(always(403, ""));
    call(&gateway, Route::Native).await.unwrap();
}

#[tokio::test]
async fn an_answer_of_the_cluster_is_the_result_at_once() {
    let denied = r#"{"Error":{"Code":"E_ACCESSDENIED","Message":"Access Denied."}}"#;
    for (behaviour, reason) in [
        (always(404, NOT_FOUND), Reason::Api),
        (always(403, denied), Reason::Forbidden),
        (Behaviour::Backup(404, String::new()), Reason::ServiceAbsent),
    ] {
        let one = Endpoint::start(behaviour.clone()).await;
        let two = Endpoint::start(Behaviour::Works).await;
        let gateway = gateway(&[&one, &two]);
        let error = call(&gateway, Route::Backup).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{behaviour:?}");
        assert_eq!((one.requests(), two.requests()), (1, 0), "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_cluster_with_one_working_endpoint_is_up_and_its_cycle_is_complete() {
    for (behaviour, _) in bad() {
        let simulator = simulate(with_history(estate(2)), simulator::Options::default()).await;
        let bad = Endpoint::start(behaviour.clone()).await;
        let endpoints = [bad.url.to_string(), simulator.url()];
        let watch = Setup::default().watch_at(&endpoints);
        for _ in 0..2 {
            let snapshot = watch.cycle().await;
            assert_eq!(known(&snapshot), existing(&simulator), "{behaviour:?}");
            assert_eq!(snapshot.status.up, Some(true), "{behaviour:?}");
            assert_eq!(snapshot.status.service_up, Some(true), "{behaviour:?}");
            for collector in [
                Collector::Inventory,
                Collector::Policies,
                Collector::Progress,
            ] {
                assert!(
                    succeeded(&snapshot, collector),
                    "{behaviour:?} {collector:?}"
                );
            }
            assert_eq!(watch.errors(), [].into(), "{behaviour:?}");
        }
        let snapshot = watch.list().await;
        assert!(succeeded(&snapshot, Collector::Backups), "{behaviour:?}");
    }
}

/// The log of all tests. Set up before the first test logs.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    log
});

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines about this cluster.
    fn about(&self, cluster: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains(cluster));
        lines.map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_bad_node_is_logged_when_it_fails_and_when_it_recovers() {
    let one = Endpoint::start(always(403, "")).await;
    let two = Endpoint::start(Behaviour::Works).await;
    let gateway = named("logged-cluster", &[&one, &two]);
    for _ in 0..5 {
        call(&gateway, Route::Native).await.unwrap();
    }
    let lines = LOG.about("logged-cluster");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains(&one.host()),
        "{lines:?}"
    );
    assert!(lines[0].contains("HTTP status 403"), "{lines:?}");
    one.set(Behaviour::Works);
    two.set(always(200, "<html>"));
    for _ in 0..5 {
        call(&gateway, Route::Native).await.unwrap();
    }
    let lines = LOG.about("logged-cluster");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[1].contains("WARN") && lines[1].contains(&two.host()),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("INFO") && lines[2].contains(&one.host()),
        "{lines:?}"
    );
    assert!(lines[2].contains("recovered"), "{lines:?}");
}

#[tokio::test]
async fn the_backup_service_is_down_when_every_backup_route_answers_service_not_found() {
    for code in [
        "\"FABRIC_E_SERVICE_DOES_NOT_EXIST\"",
        "2147949517",
        "-2147017779",
    ] {
        let missing = format!("{{\"Error\":{{\"Code\":{code},\"Message\":\"\"}}}}");
        let endpoint = Endpoint::start(Behaviour::Backup(404, missing)).await;
        let gateway = gateway(&[&endpoint]);
        for _ in 0..2 {
            gateway.begin_cycle();
            gateway.cluster_version().await.unwrap();
            gateway.policies().await.unwrap_err();
            gateway.backup_configuration("fabric:/A").await.unwrap_err();
            for _ in 0..20 {
                let error = gateway.backup_progress(PARTITION).await.unwrap_err();
                assert!(error.was_sent());
            }
            gateway.restore_progress(PARTITION).await.unwrap_err();
            assert_eq!(gateway.backup_service(), Some(false), "{code}");
        }
        endpoint.set(Behaviour::Backup(404, NOT_FOUND.to_owned()));
        gateway.backup_progress(PARTITION).await.unwrap_err();
        assert_eq!(gateway.backup_service(), Some(true), "{code}");
    }
}
