//! The effect of a web configuration on connections and requests, over real sockets.

#![cfg(unix)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "the functions around the tests are tests, too"
)]

mod certificates;
mod client;
mod encrypted;
mod http;
mod logins;
mod reload;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use servicefabric_backup_exporter::server::guard::guarded;
use servicefabric_backup_exporter::server::listener::{Limits, bind, serve};
use servicefabric_backup_exporter::server::web_config::ReloadableWebConfig;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::certificates::{Authority, Identity};
use self::client::{Http1, Tls};

/// A test that waits longer than this has failed.
const DEADLINE: Duration = Duration::from_secs(60);
/// A limit that a test waits for.
const SHORT: Duration = Duration::from_millis(200);
/// More than the socket buffers of both ends hold.
const BIG: usize = 8 * 1024 * 1024;
/// A configuration with TLS only.
const ENCRYPTED: &str = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";

/// Limits that a test reaches only if it lowers them.
fn limits() -> Limits {
    Limits {
        connections: 512,
        first_request: DEADLINE * 2,
        header_read: DEADLINE * 2,
        response: DEADLINE * 2,
        stall: DEADLINE * 2,
        grace: DEADLINE * 2,
        response_memory: usize::MAX,
        drain: DEADLINE * 2,
    }
}

async fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .expect("within the deadline")
}

/// A folder with certificates and a web configuration.
struct Folder {
    folder: TempDir,
    authority: Authority,
}

impl Folder {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let new = Self { folder, authority };
        new.issue_server();
        new.write("web.yml", config);
        new
    }

    fn issue_server(&self) {
        self.authority.server().write(self.folder.path(), "server");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file atomically.
    fn write(&self, name: &str, text: &str) {
        let (new, path) = (self.path("new"), self.path(name));
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }
}

/// A running server with a web configuration.
struct Server {
    folder: Folder,
    address: SocketAddr,
    slow_entered: Arc<Semaphore>,
    slow_may_end: Arc<Semaphore>,
    shutdown: CancellationToken,
    serving: JoinHandle<bool>,
}

impl Server {
    fn start(config: &str) -> Self {
        Self::limited(config, limits())
    }

    fn limited(config: &str, limits: Limits) -> Self {
        Self::of(Folder::new(config), limits)
    }

    fn of(folder: Folder, limits: Limits) -> Self {
        let web_config = Arc::new(ReloadableWebConfig::open(&folder.path("web.yml")).unwrap());
        let [slow_entered, slow_may_end] = [(); 2].map(|()| Arc::new(Semaphore::new(0)));
        let (entered, may_end) = (Arc::clone(&slow_entered), Arc::clone(&slow_may_end));
        let slow = async move || {
            entered.add_permits(1);
            may_end.acquire().await.unwrap().forget();
            "done"
        };
        let router = Router::new()
            .route("/", get(async || "ok"))
            .route("/slow", get(slow))
            .route("/big", get(async || Bytes::from(vec![b'x'; BIG])))
            .route("/panic", get(panics));
        let router = guarded(router, Some(Arc::clone(&web_config)), limits.connections);
        let listeners = bind("127.0.0.1:0").unwrap();
        let address = listeners[0].local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(
            listeners,
            router,
            Some(web_config),
            limits,
            shutdown.clone(),
        ));
        Self {
            folder,
            address,
            slow_entered,
            slow_may_end,
            shutdown,
            serving,
        }
    }

    fn client(&self, identity: Option<&Identity>) -> Tls {
        Tls::new(self.folder.authority.der(), identity)
    }

    /// The status of a request over TLS; `None` if the connection fails.
    async fn status(&self, identity: Option<&Identity>) -> Option<u16> {
        let client = self.client(identity);
        let answer = within_deadline(client.get(self.address, "/", None)).await;
        answer.ok().map(|answer| answer.status)
    }

    /// The status of a request without TLS.
    async fn plain_status(&self, path: &str, authorization: Option<&str>) -> u16 {
        let mut client = Http1::plain(self.address).await.unwrap();
        let answer = within_deadline(client.get(path, authorization)).await;
        answer.unwrap().status
    }

    async fn slow_is_entered(&self) {
        let entered = within_deadline(self.slow_entered.acquire()).await;
        entered.unwrap().forget();
    }

    async fn ended_gracefully(self) -> bool {
        within_deadline(self.serving).await.unwrap()
    }
}

async fn panics() -> &'static str {
    panic!("injected by the test")
}

#[tokio::test]
async fn empty_configuration_serves_without_tls_and_password() {
    let server = Server::start("");
    assert_eq!(server.plain_status("/", None).await, 200);
    assert_eq!(server.status(None).await, None);
}

#[tokio::test]
async fn configured_headers_are_on_every_response() {
    let hash = bcrypt::hash("right", 4).unwrap();
    let server = Server::start(&format!(
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: 1\n    \
         Content-Security-Policy: \"default-src 'self'\"\nbasic_auth_users: {{alice: {hash}}}\n"
    ));
    let right = client::basic("alice", "right");
    for (path, authorization, status) in [
        ("/", Some(&*right), 200),
        ("/nowhere", Some(&*right), 404),
        ("/", None, 401),
    ] {
        let mut client = Http1::plain(server.address).await.unwrap();
        let answer = client.get(path, authorization).await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-frame-options"), Some("deny"), "{path}");
        assert_eq!(answer.header("x-xss-protection"), Some("1"), "{path}");
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, Some("default-src 'self'"), "{path}");
        let sniffing = answer.header("x-content-type-options");
        assert_eq!(sniffing, Some("nosniff"), "{path}");
    }
}

#[tokio::test]
async fn rate_limit_without_interval_limits_nothing() {
    let server = Server::start("rate_limit: {interval: 0, burst: 0}\n");
    for _ in 0..10 {
        assert_eq!(server.plain_status("/", None).await, 200);
    }
}

#[tokio::test]
async fn rate_limit_applies_to_every_path_and_before_passwords() {
    let hash = bcrypt::hash("right", 4).unwrap();
    let server = Server::start(&format!(
        "rate_limit: {{interval: 1h, burst: 3}}\nbasic_auth_users: {{alice: {hash}}}\n"
    ));
    let right = client::basic("alice", "right");
    assert_eq!(server.plain_status("/nowhere", Some(&right)).await, 404);
    assert_eq!(server.plain_status("/", None).await, 401);
    assert_eq!(server.plain_status("/", Some(&right)).await, 200);
    for path in ["/", "/nowhere"] {
        assert_eq!(server.plain_status(path, Some(&right)).await, 429, "{path}");
    }
}

#[tokio::test]
async fn rate_limit_without_burst_rejects_every_request() {
    let server = Server::start("rate_limit: {interval: \"1s\", burst: 0}\n");
    assert_eq!(server.plain_status("/", None).await, 429);
}
