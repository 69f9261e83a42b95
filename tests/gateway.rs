//! The gateway client against a scripted server on a faulty or hostile network.
//!
//! The server sends raw bytes, because most faults are below HTTP. Nothing depends on timing except
//! for generous deadlines.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::gateway::{Error, Gateway, Options, Reason};
use servicefabric_backup_exporter::model::{BackupState, Entity, PartitionId, Schedule};
use servicefabric_backup_exporter::settings::Security;
use servicefabric_backup_exporter::simulator::{self, Estate, Simulator, Switches};
use servicefabric_backup_exporter::telemetry::Telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use url::Url;
use uuid::Uuid;

const PARTITION: PartitionId = PartitionId(Uuid::from_u128(0xAB));
const VERSION: &str = r#"{"Version":"6.4.514.9494"}"#;
const MASKED_TIMEOUT: &str = include_str!("samples/error.400.masked-timeout.brs.json");
const NOT_FOUND: &str = include_str!("samples/error.404.partition-not-found.json");
const NOT_ENABLED: &str = include_str!("samples/error.404.backup-not-enabled.json");
const STORAGE_FAILED: &str = include_str!("samples/error.500.recovery-point-details.brs.json");
const NUMERIC_TIMEOUT: &str =
    include_str!("samples/error.500.masked-timeout.numeric-code.brs.json");
const WEB_API: &str = include_str!("samples/error.500.web-api-message.brs.json");
const NULL_REFERENCE: &str = include_str!("samples/error.500.null-reference.brs.json");
const INDEX: &str = include_str!("samples/error.400.list-index-out-of-range.brs.json");
const SUCCESS: &str = include_str!("samples/GetPartitionBackupProgress.success.wire.json");

/// The reaction of the server to one request.
enum Act {
    Answer(Vec<u8>),
    /// Answers once so many requests are in flight.
    AnswerTogether(Arc<Barrier>, Vec<u8>),
    /// Sends chunks for as long as the client takes them.
    AnswerForever,
    Hang,
    /// Begins an answer and never ends it.
    Stall,
    Reset,
}

fn answer(status: u16, body: &str) -> Act {
    let length = body.len();
    Act::Answer(
        format!(
            "HTTP/1.1 {status} Scripted\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .into_bytes(),
    )
}

/// A server that reacts to the n-th request with the n-th act of its script.
struct Server {
    url: Url,
    /// Request heads in the order of their arrival.
    heads: Arc<Mutex<Vec<String>>>,
    most_in_flight: Arc<AtomicUsize>,
}

impl Server {
    async fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self {
            url: url.parse().unwrap(),
            heads: Arc::default(),
            most_in_flight: Arc::default(),
        };
        let (heads, most) = (
            Arc::clone(&server.heads),
            Arc::clone(&server.most_in_flight),
        );
        let (script, in_flight) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (heads, most) = (Arc::clone(&heads), Arc::clone(&most));
                let (script, in_flight) = (Arc::clone(&script), Arc::clone(&in_flight));
                tokio::spawn(async move {
                    let head = read_head(&mut stream).await;
                    let number = {
                        let mut heads = heads.lock().unwrap();
                        heads.push(head);
                        heads.len() - 1
                    };
                    most.fetch_max(
                        in_flight.fetch_add(1, Ordering::SeqCst) + 1,
                        Ordering::SeqCst,
                    );
                    perform(script(number), stream, &in_flight).await;
                });
            }
        });
        server
    }

    /// An address without a listener.
    async fn dead() -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        url.parse().unwrap()
    }

    fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    fn gateway(&self) -> Gateway {
        gateway(vec![self.url.clone()], 8)
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap_or(b'\n'));
    }
    String::from_utf8(head).unwrap()
}

async fn perform(act: Act, mut stream: TcpStream, in_flight: &AtomicUsize) {
    match act {
        Act::Answer(bytes) => {
            in_flight.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(&bytes).await.ok();
        }
        Act::AnswerTogether(barrier, bytes) => {
            barrier.wait().await;
            in_flight.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(&bytes).await.ok();
        }
        Act::AnswerForever => {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let chunk = [b"8000\r\n", vec![b' '; 0x8000].as_slice(), b"\r\n"].concat();
            while stream.write_all(&chunk).await.is_ok() {}
        }
        Act::Hang => std::future::pending().await,
        Act::Stall => {
            let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
            stream.write_all(begun).await.unwrap();
            std::future::pending::<()>().await;
        }
        Act::Reset => stream.set_zero_linger().unwrap(),
    }
}

fn gateway(endpoints: Vec<Url>, concurrency: usize) -> Gateway {
    with_timeout(endpoints, concurrency, Duration::from_secs(30))
}

fn with_timeout(endpoints: Vec<Url>, concurrency: usize, timeout: Duration) -> Gateway {
    let options = Options {
        cluster: "test".into(),
        endpoints,
        timeout,
        concurrency,
        security: Security::default(),
        fabric_identity: None,
    };
    Gateway::new(options, Arc::new(Telemetry::default())).unwrap()
}

async fn reason<T: std::fmt::Debug>(call: impl Future<Output = Result<T, Error>>) -> Reason {
    call.await.unwrap_err().reason()
}

#[tokio::test]
async fn requests_have_an_accept_and_a_user_agent_header() {
    let server = Server::start(|_| answer(200, SUCCESS)).await;
    let record = server
        .gateway()
        .backup_progress(PARTITION)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.state, BackupState::Success);
    let head = server.heads.lock().unwrap()[0].to_lowercase();
    let line = "get /partitions/00000000-0000-0000-0000-0000000000ab/$/getbackupprogress\
                ?api-version=6.4&timeout=29 http/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    assert!(head.contains("\r\naccept: application/json\r\n"), "{head}");
    assert!(
        head.contains("\r\nuser-agent: servicefabric-backup-exporter/"),
        "{head}"
    );
}

#[tokio::test]
async fn an_unreachable_endpoint_is_replaced_by_the_next_one() {
    let server = Server::start(|_| answer(200, VERSION)).await;
    let endpoints = vec![
        Server::dead().await,
        Server::dead().await,
        server.url.clone(),
    ];
    let gateway = gateway(endpoints, 8);
    for _ in 0..20 {
        assert_eq!(gateway.cluster_version().await.unwrap(), "6.4.514.9494");
    }
    assert_eq!(server.requests(), 20);
    assert!(gateway.native_access());
}

#[tokio::test]
async fn a_cluster_without_a_reachable_endpoint_fails_with_connect_and_exposes_no_state() {
    let gateway = gateway(vec![Server::dead().await, Server::dead().await], 8);
    let error = gateway.backup_progress(PARTITION).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Connect);
    assert!(error.was_sent() && !error.is_partition_not_found());
    let text = format!("{:#}", anyhow::Error::new(error));
    assert!(text.contains("GetPartitionBackupProgress"), "{text}");
    assert!(text.contains("127.0.0.1"), "{text}");
    assert_eq!(gateway.backup_service(), None);
    assert!(!gateway.native_access());
    assert_eq!(gateway.clock_skew(), None);
}

#[tokio::test]
async fn a_slow_answer_is_a_timeout_and_not_retried() {
    let server = Server::start(|_| Act::Hang).await;
    let gateway = with_timeout(vec![server.url.clone()], 8, Duration::from_secs(2));
    let started = Instant::now();
    assert_eq!(reason(gateway.cluster_version()).await, Reason::Timeout);
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_body_that_stalls_is_a_timeout() {
    let server = Server::start(|_| Act::Stall).await;
    let gateway = with_timeout(vec![server.url.clone()], 8, Duration::from_secs(2));
    assert_eq!(reason(gateway.cluster_version()).await, Reason::Timeout);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_reset_connection_is_retried() {
    let server = Server::start(|number| match number {
        0 => Act::Reset,
        _ => answer(200, VERSION),
    })
    .await;
    server.gateway().cluster_version().await.unwrap();
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_truncated_body_is_a_closed_connection() {
    let truncated = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Version\":".to_vec();
    let server = Server::start(move |_| Act::Answer(truncated.clone())).await;
    assert_eq!(
        reason(server.gateway().cluster_version()).await,
        Reason::Connect
    );
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn answers_that_cannot_be_decoded_are_not_retried() {
    for body in ["{\"BackupState\":\"Succ", "<html>Sign in</html>", "{}"] {
        let server = Server::start(move |_| answer(200, body)).await;
        let gateway = server.gateway();
        assert_eq!(
            reason(gateway.backup_progress(PARTITION)).await,
            Reason::Decode
        );
        assert_eq!(server.requests(), 1);
        assert_eq!(gateway.backup_service(), None);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read() {
    let claim = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n".to_vec();
    let server = Server::start(move |number| match number {
        0 => Act::Answer(claim.clone()),
        _ => Act::AnswerForever,
    })
    .await;
    let gateway = server.gateway();
    for _ in 0..2 {
        assert_eq!(
            reason(gateway.backup_progress(PARTITION)).await,
            Reason::TooLarge
        );
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn pages_are_followed_to_the_end() {
    let server = Server::start(|number| {
        let token = ["\"fabric:/A b+c\"", "\"\""][number];
        let body = format!(
            "{{\"ContinuationToken\":{token},\"Items\":[{{\"Name\":\"fabric:/{number}\"}}]}}"
        );
        answer(200, &body)
    })
    .await;
    let names = server.gateway().applications().await.unwrap().items;
    assert_eq!(names, ["fabric:/0".into(), "fabric:/1".into()]);
    let second = server.heads.lock().unwrap()[1].clone();
    assert!(
        second.contains("&ContinuationToken=fabric%3A%2FA%20b%2Bc "),
        "{second}"
    );
}

#[tokio::test]
async fn a_list_without_end_fails() {
    let server = Server::start(|number| {
        answer(
            200,
            &format!("{{\"ContinuationToken\":\"{number}\",\"Items\":[]}}"),
        )
    })
    .await;
    assert_eq!(
        reason(server.gateway().applications()).await,
        Reason::TooLarge
    );
    assert_eq!(server.requests(), 1_000);
}

#[tokio::test]
async fn a_repeated_continuation_token_is_an_error() {
    let server = Server::start(|number| {
        let token = ["a", "b", "a"][number];
        answer(
            200,
            &format!("{{\"ContinuationToken\":\"{token}\",\"Items\":[]}}"),
        )
    })
    .await;
    assert_eq!(
        reason(server.gateway().applications()).await,
        Reason::Decode
    );
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_masked_timeout_is_retried() {
    let server = Server::start(|number| match number {
        0 | 1 => answer(400, MASKED_TIMEOUT),
        _ => answer(200, "null"),
    })
    .await;
    assert_eq!(
        server.gateway().backup_progress(PARTITION).await.unwrap(),
        None
    );
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_call_is_retried_at_most_twice() {
    let server = Server::start(|_| answer(503, "")).await;
    let gateway = server.gateway();
    assert_eq!(
        reason(gateway.cluster_version()).await,
        Reason::ServiceUnavailable
    );
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn the_retry_budget_limits_the_retries_of_a_sick_cluster() {
    let server = Server::start(|_| answer(504, NOT_FOUND)).await;
    let gateway = server.gateway();
    for _ in 0..20 {
        assert_eq!(reason(gateway.cluster_version()).await, Reason::Api);
    }
    // Ten from the start, and one that the first calls earn.
    let requests = server.requests();
    assert!((30..=31).contains(&requests), "{requests}");
}

#[tokio::test]
async fn a_retry_goes_to_another_endpoint() {
    let sick = Server::start(|_| answer(502, "")).await;
    let well = Server::start(|_| answer(200, VERSION)).await;
    let gateway = gateway(vec![sick.url.clone(), well.url.clone()], 8);
    gateway.cluster_version().await.unwrap();
    assert_eq!((sick.requests(), well.requests()), (1, 1));
}

#[tokio::test]
async fn an_empty_404_means_that_there_is_no_backup_service() {
    let server = Server::start(|_| answer(404, "")).await;
    let gateway = server.gateway();
    assert_eq!(
        reason(gateway.backup_progress(PARTITION)).await,
        Reason::ServiceAbsent
    );
    assert_eq!(gateway.backup_service(), Some(false));
    assert_eq!(reason(gateway.cluster_version()).await, Reason::Api);
    assert!(!gateway.native_access());
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn an_empty_403_is_forbidden_and_not_retried() {
    let server = Server::start(|_| answer(403, "")).await;
    let gateway = server.gateway();
    assert_eq!(
        reason(gateway.backup_progress(PARTITION)).await,
        Reason::Forbidden
    );
    assert_eq!(server.requests(), 1);
    assert_eq!(gateway.backup_service(), Some(false));
}

#[tokio::test]
async fn a_deleted_partition_is_recognised_on_both_kinds_of_routes() {
    let server = Server::start(|number| match number {
        0 | 1 => answer(404, NOT_FOUND),
        _ => Act::Answer(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec()),
    })
    .await;
    let gateway = server.gateway();
    let error = gateway.backup_progress(PARTITION).await.unwrap_err();
    assert!(error.is_partition_not_found() && error.reason() == Reason::Api);
    for _ in 0..2 {
        let error = gateway.service_name(PARTITION).await.unwrap_err();
        assert!(error.is_partition_not_found() && error.reason() == Reason::Api);
    }
    assert_eq!(gateway.backup_progress(PARTITION).await.unwrap(), None);
    assert_eq!(gateway.backup_service(), Some(true));
    gateway.begin_cycle();
    assert_eq!(gateway.backup_service(), None);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::start(|_| answer(200, VERSION)).await;
    let location = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        target.url
    );
    let server = Server::start(move |_| Act::Answer(location.clone().into_bytes())).await;
    assert_eq!(
        reason(server.gateway().cluster_version()).await,
        Reason::Api
    );
    assert_eq!(target.requests(), 0);
}

#[tokio::test]
async fn clock_skew_comes_from_the_date_header() {
    let dated = format!(
        "HTTP/1.1 200 OK\r\nDate: Fri, 01 Jan 2100 00:00:00 GMT\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{VERSION}",
        VERSION.len()
    );
    let server = Server::start(move |_| Act::Answer(dated.clone().into_bytes())).await;
    let gateway = server.gateway();
    gateway.cluster_version().await.unwrap();
    let seen = clock::now() + gateway.clock_skew().unwrap();
    assert!((seen.timestamp() - 4_102_444_800).abs() < 60, "{seen}");
}

#[tokio::test]
async fn the_circuit_breaker_opens_for_one_side_and_closes_after_a_probe() {
    let server = Server::start(|number| match number {
        0..5 => answer(404, ""),
        5 => answer(200, VERSION),
        _ => answer(200, "null"),
    })
    .await;
    let gateway = gateway(vec![server.url.clone()], 1);
    for _ in 0..5 {
        assert!(
            gateway
                .backup_progress(PARTITION)
                .await
                .unwrap_err()
                .was_sent()
        );
    }
    gateway.begin_cycle();
    let refused = gateway.backup_progress(PARTITION).await.unwrap_err();
    assert!(!refused.was_sent());
    assert_eq!(refused.reason(), Reason::ServiceAbsent);
    assert_eq!(server.requests(), 5);
    assert_eq!(gateway.backup_service(), None, "no gateway was reached");
    gateway.cluster_version().await.unwrap();
    assert_eq!(gateway.backup_service(), Some(false));
    tokio::time::timeout(Duration::from_secs(30), async {
        while gateway.backup_progress(PARTITION).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("a probe is due after a second");
    assert_eq!(server.requests(), 7);
    assert_eq!(gateway.backup_service(), Some(true));
}

#[tokio::test]
async fn concurrency_limits_the_requests_in_flight() {
    let together = Arc::new(Barrier::new(3));
    let Act::Answer(version) = answer(200, VERSION) else {
        unreachable!()
    };
    let server =
        Server::start(move |_| Act::AnswerTogether(Arc::clone(&together), version.clone())).await;
    let gateway = Arc::new(gateway(vec![server.url.clone()], 3));
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { gateway.cluster_version().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(server.requests(), 30);
    assert_eq!(server.most_in_flight.load(Ordering::SeqCst), 3);
}

/// Paths of the requests so far, up to the api-version.
fn paths(server: &Server) -> Vec<String> {
    let heads = server.heads.lock().unwrap();
    let line = |head: &String| head.split_whitespace().nth(1).unwrap().to_owned();
    heads
        .iter()
        .map(|head| line(head).split('?').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn native_and_backup_routes_encode_names_of_several_levels_differently() {
    let empty = r#"{"ContinuationToken":null,"Items":[]}"#;
    let server = Server::start(move |_| answer(200, empty)).await;
    let gateway = server.gateway();
    let application = "fabric:/Retail/Shop 1";
    gateway.persisted_services(application).await.unwrap();
    gateway.backup_configuration(application).await.unwrap();
    gateway.latest_backups(application).await.unwrap();
    gateway.all_backups(application).await.unwrap();
    gateway.entities_of_policy("Daily/2").await.unwrap();
    assert_eq!(
        paths(&server),
        [
            "/Applications/Retail~Shop%201/$/GetServices",
            "/Applications/Retail%2FShop%201/$/GetBackupConfigurationInfo",
            "/Applications/Retail%2FShop%201/$/GetBackups",
            "/Applications/Retail%2FShop%201/$/GetBackups",
            "/BackupRestore/BackupPolicies/Daily%2F2/$/GetBackupEnabledEntities",
        ]
    );
    let heads = server.heads.lock().unwrap();
    assert!(heads[2].contains("&Latest=true "), "{}", heads[2]);
    assert!(!heads[3].contains("Latest"), "{}", heads[3]);
}

#[tokio::test]
async fn backup_not_enabled_is_an_empty_answer_and_shows_that_the_service_is_up() {
    let server = Server::start(|_| answer(404, NOT_ENABLED)).await;
    let gateway = server.gateway();
    for _ in 0..10 {
        let configuration = gateway
            .backup_configuration("fabric:/A")
            .await
            .unwrap()
            .items;
        assert_eq!(configuration, []);
        for error in [
            gateway.latest_backups("fabric:/A").await.unwrap_err(),
            gateway.all_backups("fabric:/A").await.unwrap_err(),
            gateway.latest_backups_of(PARTITION).await.unwrap_err(),
        ] {
            assert!(error.is_backup_not_enabled(), "no list: {error}");
        }
        assert_eq!(gateway.restore_progress(PARTITION).await.unwrap(), None);
    }
    assert_eq!(server.requests(), 50);
    assert_eq!(gateway.backup_service(), Some(true));
    assert!(!gateway.native_access());
}

#[tokio::test]
async fn a_null_answer_is_an_empty_configuration_and_no_restore() {
    let nothing = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec();
    let server = Server::start(move |number| match number % 3 {
        0 => answer(200, "null"),
        1 => answer(200, ""),
        _ => Act::Answer(nothing.clone()),
    })
    .await;
    let gateway = server.gateway();
    for _ in 0..3 {
        let configuration = gateway
            .backup_configuration("fabric:/A")
            .await
            .unwrap()
            .items;
        assert_eq!(configuration, []);
    }
    for _ in 0..3 {
        assert_eq!(gateway.restore_progress(PARTITION).await.unwrap(), None);
    }
    assert_eq!(gateway.backup_service(), Some(true));
}

#[tokio::test]
async fn masked_failures_of_the_backup_service_are_retried() {
    for body in [NUMERIC_TIMEOUT, WEB_API] {
        let server = Server::start(move |number| match number {
            0 => answer(500, body),
            _ => answer(200, "{\"ContinuationToken\":null,\"Items\":[]}"),
        })
        .await;
        let listed = server.gateway().backup_configuration("fabric:/A").await;
        assert_eq!(listed.unwrap().items, [], "{body}");
        assert_eq!(server.requests(), 2, "{body}");
    }
}

#[tokio::test]
async fn error_replies_are_classified_and_keep_their_message() {
    let gone = |code: &str| format!("{{\"Error\":{{\"Code\":{code},\"Message\":\"Not found.\"}}}}");
    for (status, body, meaning, text) in [
        (
            500,
            NULL_REFERENCE.to_owned(),
            "null",
            "E_UNEXPECTED (\"Object reference not set",
        ),
        (
            400,
            INDEX.to_owned(),
            "index",
            "E_INVALIDARG (\"Index was out of range",
        ),
        (
            404,
            gone("\"FABRIC_E_SERVICE_DOES_NOT_EXIST\""),
            "gone",
            "(\"Not found.\")",
        ),
        (
            404,
            gone("\"FABRIC_E_APPLICATION_NOT_FOUND\""),
            "gone",
            "(\"Not found.\")",
        ),
        (
            404,
            gone("2147949533"),
            "gone",
            "0x80071BDD (\"Not found.\")",
        ),
        (
            500,
            STORAGE_FAILED.to_owned(),
            "null",
            "(\"Unable to get recovery point details.\")",
        ),
        (
            409,
            gone("\"FABRIC_E_BACKUP_IN_PROGRESS\""),
            "",
            "FABRIC_E_BACKUP_IN_PROGRESS",
        ),
    ] {
        let server = Server::start(move |_| answer(status, &body)).await;
        let error = server.gateway().persisted_services("fabric:/A").await;
        let error = error.unwrap_err();
        assert_eq!(error.is_null_reference(), meaning == "null", "{text}");
        assert_eq!(error.is_index_out_of_range(), meaning == "index", "{text}");
        assert_eq!(error.is_gone(), meaning == "gone", "{text}");
        let shown = format!("{:#}", anyhow::Error::new(error));
        assert!(shown.contains(text), "{shown}");
    }
}

#[tokio::test]
async fn partition_scope_has_routes_for_configuration_and_newest_backup() {
    let bodies = [
        include_str!("samples/GetPartitionBackupConfigurationInfo.suspended.json"),
        "null",
        include_str!("samples/GetPartitionBackupList.latest.json"),
    ];
    let server = Server::start(move |number| answer(200, bodies[number])).await;
    let gateway = server.gateway();
    let configuration = gateway.partition_backup_configuration(PARTITION).await;
    let policy = configuration.unwrap().unwrap().policy;
    assert_eq!(policy.as_deref(), Some("BackupPolicy2"));
    let nothing = gateway.partition_backup_configuration(PARTITION).await;
    assert_eq!(nothing.unwrap(), None);
    let newest = gateway.latest_backups_of(PARTITION).await.unwrap();
    assert_eq!((newest.items.len(), newest.skipped), (1, 0));
    let heads = server.heads.lock().unwrap();
    let path = "GET /Partitions/00000000-0000-0000-0000-0000000000ab/$/";
    for (head, operation) in heads.iter().zip([
        "GetBackupConfigurationInfo?",
        "GetBackupConfigurationInfo?",
        "GetBackups?",
    ]) {
        assert!(head.starts_with(&format!("{path}{operation}")), "{head}");
    }
    assert!(heads[2].contains("&Latest=true") && !heads[2].contains("MaxResults"));
}

#[tokio::test]
async fn a_null_token_ends_a_list() {
    let server = Server::start(|number| {
        let items = r#"[{"EntityKind":"Application","ApplicationName":"fabric:/A"}]"#;
        let token = ["\"fabric:/A#1\"", "null"][number];
        answer(
            200,
            &format!("{{\"ContinuationToken\":{token},\"Items\":{items}}}"),
        )
    })
    .await;
    let entities = server
        .gateway()
        .entities_of_policy("P")
        .await
        .unwrap()
        .items;
    assert_eq!(entities, vec![Entity::Application("fabric:/A".into()); 2]);
    let second = server.heads.lock().unwrap()[1].clone();
    assert!(
        second.contains("&ContinuationToken=fabric%3A%2FA%231 "),
        "{second}"
    );
}

#[tokio::test]
async fn policies_of_several_pages_are_read() {
    let pages = [
        include_str!("samples/GetBackupPolicyList.page-1.json"),
        include_str!("samples/GetBackupPolicyList.page-2.json"),
    ];
    let server = Server::start(move |number| answer(200, pages[number])).await;
    let policies = server.gateway().policies().await.unwrap().items;
    let names: Vec<_> = policies.iter().map(|policy| &*policy.name).collect();
    let expected = [
        "DailyAzureBackupPolicy",
        "FileShare10MinBackupPolicy",
        "SampleBackupPolicy",
    ];
    assert_eq!(names, expected);
    let ten_minutes = Schedule::Frequency(Duration::from_secs(600));
    assert_eq!(policies[1].schedule, Some(ten_minutes));
}

#[tokio::test]
async fn partition_health_reports_the_last_periodic_backup() {
    let health = include_str!("samples/GetPartitionHealth.backup-warning.json");
    let server = Server::start(move |_| answer(200, health)).await;
    let gateway = server.gateway();
    let attempt = gateway.backup_health(PARTITION).await.unwrap().attempt;
    assert!(!attempt.unwrap().succeeded);
    assert!(gateway.native_access());
    assert_eq!(gateway.backup_service(), None);
}

#[tokio::test]
async fn an_unreadable_storage_is_not_retried() {
    let server = Server::start(|number| match number {
        0 => answer(500, STORAGE_FAILED),
        _ => answer(400, MASKED_TIMEOUT),
    })
    .await;
    let gateway = server.gateway();
    for _ in 0..2 {
        assert_eq!(
            reason(gateway.latest_backups("fabric:/A")).await,
            Reason::Api
        );
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_backup_list_has_six_times_the_timeout_which_is_no_sign_of_an_outage() {
    let server = Server::start(|_| Act::Hang).await;
    let gateway = with_timeout(vec![server.url.clone()], 8, Duration::from_millis(300));
    let started = Instant::now();
    let calls = (0..8).map(|_| reason(gateway.latest_backups("fabric:/A")));
    for reason in futures_util::future::join_all(calls).await {
        assert_eq!(reason, Reason::Timeout);
    }
    assert!(started.elapsed() >= Duration::from_millis(1_800));
    assert_eq!(server.requests(), 8);
    assert_eq!(gateway.backup_service(), None);
    let error = gateway.backup_progress(PARTITION).await.unwrap_err();
    assert!(error.was_sent(), "{error}");
}

#[tokio::test]
async fn slow_backup_lists_leave_half_of_the_permits_to_other_calls() {
    let server = Server::start(|number| match number {
        0..3 => Act::Hang,
        _ => answer(200, "null"),
    })
    .await;
    let gateway = Arc::new(gateway(vec![server.url.clone()], 5));
    let lists: Vec<_> = (0..10)
        .map(|_| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { gateway.all_backups("fabric:/A").await })
        })
        .collect();
    while server.requests() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..10 {
        assert_eq!(gateway.backup_progress(PARTITION).await.unwrap(), None);
    }
    assert_eq!(server.requests(), 13);
    for list in lists {
        list.abort();
    }
}

#[tokio::test]
async fn a_504_for_a_backup_list_is_not_retried_and_opens_no_breaker() {
    let server = Server::start(|_| answer(504, "")).await;
    let gateway = server.gateway();
    for _ in 0..20 {
        let error = gateway.all_backups("fabric:/A").await.unwrap_err();
        assert_eq!(error.reason(), Reason::ServiceUnavailable);
        assert!(error.was_sent());
    }
    assert_eq!(server.requests(), 20);
}

#[tokio::test]
async fn configuration_failures_open_the_breaker_for_backup_lists() {
    let server = Server::start(|_| answer(404, "")).await;
    let gateway = gateway(vec![server.url.clone()], 1);
    for _ in 0..5 {
        let error = gateway.backup_configuration("fabric:/A").await;
        assert!(error.unwrap_err().was_sent());
    }
    let error = gateway.latest_backups("fabric:/A").await.unwrap_err();
    assert!(!error.was_sent());
    assert_eq!(error.reason(), Reason::ServiceAbsent);
    assert_eq!(server.requests(), 5);
}

#[tokio::test]
async fn names_of_several_levels_work_with_old_and_new_backup_services() {
    for brs_accepts_tilde in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shape = simulator::EstateSize {
            seed: 1,
            applications: 4,
            services_per_application: 1,
            partitions_per_service: 1,
        };
        let application = "fabric:/Retail/Shop";
        let mut estate = Estate::generate(&shape, clock::now());
        let hourly = simulator::Policy {
            name: "Hourly".to_owned(),
            auto_restore_on_data_loss: false,
            max_incremental_backups: 3,
            schedule: simulator::Schedule::Every(Duration::from_secs(3600)),
            storage: simulator::Storage::FileShare {
                friendly_name: "share".to_owned(),
                path: r"\\storage\share".to_owned(),
                user: None,
            },
            retention: None,
        };
        estate.add_policy(hourly, clock::now());
        let shop = simulator::Entity::application(application);
        estate.enable(&shop, "Hourly", clock::now()).unwrap();
        let options = simulator::Options {
            switches: Switches {
                brs_accepts_tilde,
                ..Switches::default()
            },
            ..simulator::Options::default()
        };
        let simulator = Simulator::start(listener, estate, options).unwrap();
        let gateway = gateway(vec![simulator.url().parse().unwrap()], 8);
        let services = gateway.persisted_services(application).await.unwrap().items;
        let partitions = gateway.partitions(&services[0]).await.unwrap().items;
        assert!(partitions[0].data_loss_time.is_some());
        let configuration = gateway
            .backup_configuration(application)
            .await
            .unwrap()
            .items;
        let policies: Vec<_> = configuration.iter().map(|line| &line.policy).collect();
        assert_eq!(policies, [&Some("Hourly".into())]);
    }
}
