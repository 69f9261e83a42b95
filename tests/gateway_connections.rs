//! Connections that die while idle must not fail a call.
//!
//! Every connection goes through a load balancer that drops it, silently or not. The clusters
//! behind it are healthy.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::balancer::{Balancer, Drop};
use crate::support::watch::{Setup, succeeded};
use crate::support::{PATIENCE, estate, eventually, simulate, with_history};
use futures_util::future::join_all;
use servicefabric_backup_exporter::gateway::{Gateway, Options, Reason};
use servicefabric_backup_exporter::model::PartitionId;
use servicefabric_backup_exporter::settings::Security;
use servicefabric_backup_exporter::simulator::{self, Simulator};
use servicefabric_backup_exporter::snapshot::Collector;
use servicefabric_backup_exporter::telemetry::Telemetry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify};
use uuid::Uuid;

const VERSION: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{\"Version\":\"6.4.514.9494\"}";
const PARTITION: PartitionId = PartitionId(Uuid::from_u128(0xAB));

fn gateway(address: std::net::SocketAddr, concurrency: usize, timeout: Duration) -> Gateway {
    let options = Options {
        cluster: "test".into(),
        endpoints: vec![format!("http://{address}").parse().unwrap()],
        timeout,
        concurrency,
        security: Security::default(),
        fabric_identity: None,
    };
    Gateway::new(options, Arc::new(Telemetry::default())).unwrap()
}

/// A gateway that answers every request with the cluster version. The first requests wait until
/// `connections` of them are in flight, so that as many connections are opened.
async fn together(connections: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (barrier, requests) = (
        Arc::new(Barrier::new(connections)),
        Arc::new(AtomicUsize::new(0)),
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (barrier, requests) = (Arc::clone(&barrier), Arc::clone(&requests));
            tokio::spawn(async move {
                while read_head(&mut stream).await.is_some() {
                    if requests.fetch_add(1, Ordering::SeqCst) < connections {
                        barrier.wait().await;
                    }
                    if stream.write_all(VERSION).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Makes concurrent calls, all of which must succeed.
async fn all_succeed(gateway: &Gateway, calls: usize, what: &str) {
    let calls = (0..calls).map(|_| gateway.cluster_version());
    for (call, version) in join_all(calls).await.into_iter().enumerate() {
        let failure = version.err().map(anyhow::Error::new);
        assert!(failure.is_none(), "{what}, call {call}: {failure:#?}");
    }
}

async fn survives(how: Drop, rounds: usize, timeout: Duration) {
    for concurrency in [1, 4, 24] {
        let balancer = Balancer::start(together(concurrency).await).await;
        let gateway = gateway(balancer.address, concurrency, timeout);
        all_succeed(&gateway, concurrency, "the first calls").await;
        assert!(balancer.connections() >= concurrency);
        for round in 0..rounds {
            balancer.drop_all(how);
            let what = format!("{how:?}, {concurrency} connections, round {round}");
            all_succeed(&gateway, 3 * concurrency, &what).await;
        }
    }
}

#[tokio::test]
async fn connections_closed_while_idle_fail_no_call() {
    survives(Drop::Close, 5, PATIENCE).await;
}

#[tokio::test]
async fn connections_reset_while_idle_fail_no_call() {
    survives(Drop::Reset, 5, PATIENCE).await;
}

#[tokio::test]
async fn connections_closed_by_the_next_request_fail_no_call() {
    survives(Drop::CloseOnUse, 5, PATIENCE).await;
}

#[tokio::test]
async fn connections_reset_by_the_next_request_fail_no_call() {
    survives(Drop::ResetOnUse, 5, PATIENCE).await;
}

#[tokio::test]
async fn silently_dropped_connections_fail_no_call() {
    survives(Drop::Ignore, 1, Duration::from_secs(8)).await;
}

#[tokio::test]
async fn one_silent_connection_replaces_the_whole_pool() {
    let balancer = Balancer::start(together(12).await).await;
    let gateway = gateway(balancer.address, 12, Duration::from_secs(8));
    all_succeed(&gateway, 12, "the first calls").await;
    balancer.drop_all(Drop::Ignore);
    all_succeed(&gateway, 1, "the call that finds the first one dead").await;
    let before = balancer.connections();
    for _ in 0..12 {
        all_succeed(&gateway, 1, "calls in a row").await;
    }
    // All of them share one connection of the new pool.
    assert_eq!(balancer.connections(), before + 1);
}

#[tokio::test]
async fn cycles_are_complete_with_any_idle_timeout_of_a_load_balancer() {
    let limits = [0, 5, 50].map(Duration::from_millis);
    for (limit, how) in limits
        .into_iter()
        .flat_map(|limit| [(limit, Drop::CloseOnUse), (limit, Drop::ResetOnUse)])
    {
        let simulator = simulate(with_history(estate(5)), simulator::Options::default()).await;
        let balancer = Balancer::with_limit(address(&simulator), Some((limit, how))).await;
        let watch = Setup::default().watch_at(&[format!("http://{}", balancer.address)]);
        for cycle in 0..3 {
            balancer.drop_all(how);
            let snapshot = watch.cycle().await;
            assert_eq!(snapshot.partitions.len(), 40);
            for collector in [Collector::Inventory, Collector::Progress, Collector::Health] {
                let complete = succeeded(&snapshot, collector);
                assert!(complete, "{limit:?} {how:?} {cycle} {collector:?}");
            }
            assert_eq!(watch.errors(), [].into(), "{limit:?} {how:?} {cycle}");
        }
        let snapshot = watch.list().await;
        assert!(
            succeeded(&snapshot, Collector::Backups),
            "{limit:?} {how:?}"
        );
    }
}

fn address(simulator: &Simulator) -> std::net::SocketAddr {
    simulator.url().replace("http://", "").parse().unwrap()
}

#[tokio::test]
async fn a_new_connection_that_dies_is_retried_like_any_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await.unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
            stream.set_zero_linger().unwrap();
        }
    });
    let gateway = gateway(address, 1, PATIENCE);
    let error = gateway.cluster_version().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Connect);
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

/// The first connection answers once, and again only after the use of a second connection, which
/// is never answered.
#[tokio::test]
async fn a_slow_answer_on_a_reused_connection_is_accepted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let asked_again = Arc::new(Notify::new());
        let (mut first, _) = listener.accept().await.unwrap();
        let again = Arc::clone(&asked_again);
        tokio::spawn(async move {
            read_head(&mut first).await.unwrap();
            first.write_all(VERSION).await.unwrap();
            read_head(&mut first).await.unwrap();
            again.notified().await;
            first.write_all(VERSION).await.unwrap();
            std::future::pending::<()>().await;
        });
        let (mut second, _) = listener.accept().await.unwrap();
        read_head(&mut second).await.unwrap();
        asked_again.notify_one();
        std::future::pending::<()>().await;
    });
    let gateway = gateway(address, 1, Duration::from_secs(8));
    for _ in 0..2 {
        assert_eq!(gateway.cluster_version().await.unwrap(), "6.4.514.9494");
    }
}

#[tokio::test]
async fn a_backup_list_is_never_requested_on_a_reused_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lists: Arc<Mutex<Vec<bool>>> = Arc::default();
    let seen = Arc::clone(&lists);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut used = false;
                while let Some(head) = read_head(&mut stream).await {
                    let mut body = "null";
                    if head.contains("GetBackups?") {
                        seen.lock().unwrap().push(used);
                        body = r#"{"ContinuationToken":null,"Items":[]}"#;
                    }
                    used = true;
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let gateway = gateway(address, 2, PATIENCE);
    for _ in 0..5 {
        assert_eq!(gateway.backup_progress(PARTITION).await.unwrap(), None);
        assert_eq!(gateway.latest_backups("fabric:/A").await.unwrap().items, []);
    }
    assert_eq!(*lists.lock().unwrap(), [false; 5], "whether it was used");
}

#[cfg(unix)]
#[tokio::test]
async fn tls_connections_closed_while_idle_fail_no_call() {
    use crate::support::certificates::{self_signed, written};
    use crate::support::renegotiation::{Backend, Behaviour, Front};
    use servicefabric_backup_exporter::settings::{Auth, ClientCertificate, Trust};

    let (server, client) = (self_signed("127.0.0.1"), self_signed("exporter"));
    let folder = tempfile::tempdir().unwrap();
    for how in [Drop::Close, Drop::CloseOnUse, Drop::ResetOnUse] {
        let version = Backend::Body(r#"{"Version":"6.4.514.9494"}"#);
        let front = Front::start(Behaviour::of_service_fabric(&server, &[&client], version));
        let balancer = Balancer::start(front.address).await;
        let options = Options {
            cluster: "test".into(),
            endpoints: vec![format!("https://{}", balancer.address).parse().unwrap()],
            timeout: PATIENCE,
            concurrency: 16,
            security: Security {
                trust: Trust::Thumbprints {
                    thumbprints: vec![server.sha256()],
                    accept_expired: false,
                },
                auth: Auth::ClientCertificate(ClientCertificate::Pem {
                    cert_file: written(folder.path(), "client.pem", &client.certificate),
                    key_file: written(folder.path(), "client.key", &client.key),
                }),
                tls_max_version: None,
            },
            fabric_identity: None,
        };
        let gateway = Gateway::new(options, Arc::new(Telemetry::default())).unwrap();
        all_succeed(&gateway, 16, "the first calls").await;
        for round in 0..2 {
            balancer.drop_all(how);
            all_succeed(&gateway, 16, &format!("{how:?}, round {round}")).await;
        }
        assert!(gateway.gateway_certificate_expiry().is_some());
        let identified = eventually("every request came with the certificate", async || {
            let seen = front.seen();
            let all = seen.iter().filter(|seen| seen.requests > 0);
            all.clone()
                .all(|seen| seen.client.as_deref() == Some("exporter"))
                .then_some(())
        });
        identified.await;
    }
}
