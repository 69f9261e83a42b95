//! Bearer tokens against scripted token endpoints and a scripted cluster: providers, renewal, error
//! messages, and that no other server receives a secret.
//!
//! The cluster uses http, which the configuration rejects together with a token.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::gateway::{Error, Gateway, Options, Reason};
use servicefabric_backup_exporter::logging::chain;
use servicefabric_backup_exporter::settings::{
    Auth, Entra, EntraProtocol, FabricIdentity, ManagedIdentity, Security, TokenSource, Trust,
};
use servicefabric_backup_exporter::telemetry::Telemetry;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use url::Url;

const VERSION: &str = r#"{"Version":"6.4.514.9494"}"#;
const SECRET: &str = "hunter2-client-secret";
const METADATA: &str = "/$/GetAadMetadata?";

/// A received request.
#[derive(Clone, Debug)]
struct Request {
    /// Request line and headers.
    head: String,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

enum Reaction {
    Answer(u16, String),
    Redirect(Url),
    Hang,
}

fn answer(status: u16, body: impl Into<String>) -> Reaction {
    Reaction::Answer(status, body.into())
}

/// A response with the token `name`, valid for `lifetime` seconds.
fn token(name: &str, lifetime: u32) -> Reaction {
    let body =
        format!(r#"{{"token_type":"Bearer","expires_in":"{lifetime}","access_token":"{name}"}}"#);
    answer(200, body)
}

/// A server that responds to each request as scripted.
struct ScriptedServer {
    url: Url,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl ScriptedServer {
    async fn start(script: impl Fn(usize, &Request) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let double = Self {
            url: format!("http://{}", listener.local_addr().unwrap())
                .parse()
                .unwrap(),
            requests: Arc::default(),
        };
        let (requests, script) = (Arc::clone(&double.requests), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&requests), Arc::clone(&script)));
            }
        });
        double
    }

    /// A cluster that accepts these tokens.
    async fn cluster(accepted: &'static [&'static str]) -> Self {
        Self::start(move |_, request| judged(request, accepted)).await
    }

    /// A token endpoint that issues `t1`, `t2`, …, each valid for an hour.
    async fn issuer() -> Self {
        Self::start(|number, _| token(&format!("t{}", number + 1), 3600)).await
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn request(&self, number: usize) -> Request {
        self.requests.lock().unwrap()[number].clone()
    }
}

fn judged(request: &Request, accepted: &[&str]) -> Reaction {
    match request.bearer() {
        Some(bearer) if accepted.contains(&bearer) => answer(200, VERSION),
        _ => answer(403, ""),
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Arc<impl Fn(usize, &Request) -> Reaction>,
) {
    let Some(request) = read(&mut stream).await else {
        return;
    };
    let number = {
        let mut requests = requests.lock().unwrap();
        requests.push(request.clone());
        requests.len() - 1
    };
    let (status, headers, body) = match script(number, &request) {
        Reaction::Answer(status, body) => (status, String::new(), body),
        Reaction::Redirect(to) => (307, format!("Location: {to}\r\n"), String::new()),
        Reaction::Hang => std::future::pending().await,
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut request = Request {
        head: String::from_utf8(head).unwrap(),
        body: String::new(),
    };
    let length = request.header("content-length").unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}

/// A temporary directory.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, contents: &str) -> PathBuf {
        let path = self.0.path().join("secret");
        fs::write(&path, contents).unwrap();
        path
    }
}

fn entra(folder: &Folder, authority: &Url) -> Entra {
    Entra {
        tenant_id: Some("contoso.com".parse().unwrap()),
        client_id: "exporter-id".parse().unwrap(),
        client_secret_file: folder.write(&format!("{SECRET}\n")),
        cluster_application_id: "api://cluster".parse().unwrap(),
        authority: Some(authority.clone()),
        protocol: EntraProtocol::V1,
    }
}

fn options(cluster: &Url, source: TokenSource) -> Options {
    Options {
        cluster: "test".into(),
        endpoints: vec![cluster.clone()],
        timeout: Duration::from_secs(30),
        concurrency: 32,
        security: Security {
            auth: Auth::Token(source),
            ..Security::default()
        },
        fabric_identity: None,
    }
}

fn open(options: Options) -> Gateway {
    Gateway::new(options, Arc::new(Telemetry::default())).unwrap()
}

fn gateway(cluster: &ScriptedServer, source: TokenSource) -> Gateway {
    open(options(&cluster.url, source))
}

/// A client of `cluster` that requests its tokens from `issuer`.
fn with_entra(folder: &Folder, cluster: &ScriptedServer, issuer: &ScriptedServer) -> Gateway {
    gateway(cluster, TokenSource::Entra(entra(folder, &issuer.url)))
}

async fn failed_call(gateway: &Gateway) -> (Error, String) {
    let error = gateway.cluster_version().await.unwrap_err();
    let message = chain(&error);
    (error, message)
}

fn jwt(end: i64) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = format!(r#"{{"aud":"api://cluster","exp":{end},"roles":["User"]}}"#);
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

#[tokio::test]
async fn application_requests_a_token_for_a_resource_and_sends_it_to_the_cluster() {
    let (folder, issuer) = (Folder::new(), ScriptedServer::issuer().await);
    let cluster = ScriptedServer::cluster(&["t1"]).await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    assert_eq!(gateway.token_expiry(), None);
    for _ in 0..3 {
        gateway.cluster_version().await.unwrap();
    }
    let asked = issuer.request(0);
    assert_eq!(asked.line(), "POST /contoso.com/oauth2/token HTTP/1.1");
    assert_eq!(
        asked.body,
        "grant_type=client_credentials&client_id=exporter-id\
         &client_secret=hunter2-client-secret&resource=api%3A%2F%2Fcluster"
    );
    assert_eq!((issuer.count(), cluster.count()), (1, 3));
    assert!(gateway.native_access());
    let left = gateway.token_expiry().unwrap() - clock::now();
    assert!((3500..=3600).contains(&left.num_seconds()), "{left}");
}

#[tokio::test]
async fn application_requests_a_scope_with_protocol_v2() {
    let (folder, issuer) = (Folder::new(), ScriptedServer::issuer().await);
    let cluster = ScriptedServer::cluster(&["t1"]).await;
    let entra = Entra {
        protocol: EntraProtocol::V2,
        ..entra(&folder, &issuer.url)
    };
    let gateway = gateway(&cluster, TokenSource::Entra(entra));
    gateway.cluster_version().await.unwrap();
    let asked = issuer.request(0);
    assert_eq!(asked.line(), "POST /contoso.com/oauth2/v2.0/token HTTP/1.1");
    assert!(
        asked
            .body
            .ends_with("&scope=api%3A%2F%2Fcluster%2F.default")
    );
    assert!(!asked.body.contains("resource"));
}

#[tokio::test]
async fn virtual_machine_requests_a_token_of_the_configured_identity() {
    let issuer = ScriptedServer::issuer().await;
    let cluster = ScriptedServer::cluster(&["t1"]).await;
    let identity = ManagedIdentity {
        cluster_application_id: "api://cluster".parse().unwrap(),
        client_id: Some("identity".parse().unwrap()),
        endpoint: Some(issuer.url.join("/metadata/identity/oauth2/token").unwrap()),
    };
    let gateway = gateway(&cluster, TokenSource::ManagedIdentity(identity));
    gateway.cluster_version().await.unwrap();
    let asked = issuer.request(0);
    assert_eq!(
        asked.line(),
        "GET /metadata/identity/oauth2/token?api-version=2018-02-01\
         &resource=api%3A%2F%2Fcluster&client_id=identity HTTP/1.1"
    );
    assert_eq!(asked.header("metadata"), Some("true"));
}

/// The same with https, and the thumbprint of its certificate.
async fn secured(
    script: impl Fn(usize, &Request) -> Reaction + Send + Sync + 'static,
) -> (ScriptedServer, String) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, key.cert.der());
    let thumbprint = digest.as_ref().iter().map(|byte| format!("{byte:02X}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            key.signing_key.serialize_der().try_into().unwrap(),
        );
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let double = ScriptedServer {
        url: format!("https://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap(),
        requests: Arc::default(),
    };
    let (requests, script) = (Arc::clone(&double.requests), Arc::new(script));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve(stream, Arc::clone(&requests), Arc::clone(&script)));
            }
        }
    });
    (double, thumbprint.collect())
}

#[tokio::test]
async fn service_fabric_application_trusts_only_the_pinned_token_service() {
    let cluster = ScriptedServer::cluster(&["t1"]).await;
    let (service, thumbprint) = secured(|_, _| {
        let end = clock::now().timestamp() + 3600;
        answer(
            200,
            format!(r#"{{"expires_on":{end},"access_token":"t1"}}"#),
        )
    })
    .await;
    let gateway = |thumbprint: &str| {
        let identity = ManagedIdentity {
            cluster_application_id: "api://cluster".parse().unwrap(),
            client_id: None,
            endpoint: None,
        };
        let fabric = FabricIdentity::new(service.url.as_str(), "hunter2", thumbprint);
        open(Options {
            fabric_identity: Some(fabric),
            ..options(&cluster.url, TokenSource::ManagedIdentity(identity))
        })
    };
    let (error, message) = failed_call(&gateway(&"AB".repeat(32))).await;
    assert_eq!(error.reason(), Reason::Token);
    assert!(message.contains("IDENTITY_SERVER_THUMBPRINT"), "{message}");
    assert!(message.contains(&thumbprint), "{message}");
    assert_eq!(
        service.count(),
        0,
        "nothing was sent to the unpinned server"
    );
    gateway(&thumbprint).cluster_version().await.unwrap();
    let asked = service.request(0);
    assert_eq!(
        asked.line(),
        "GET /?api-version=2019-07-01-preview&resource=api%3A%2F%2Fcluster HTTP/1.1"
    );
    assert_eq!(asked.header("secret"), Some("hunter2"));
}

#[tokio::test]
async fn concurrent_calls_cause_one_token_request() {
    let (folder, issuer) = (Folder::new(), ScriptedServer::issuer().await);
    let cluster = ScriptedServer::cluster(&["t1"]).await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    let calls = join_all((0..20).map(|_| gateway.cluster_version())).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!((issuer.count(), cluster.count()), (1, 20));
}

#[tokio::test]
async fn rejected_token_is_renewed_and_the_call_repeated() {
    let (folder, issuer) = (Folder::new(), ScriptedServer::issuer().await);
    for status in [403, 401] {
        let cluster = ScriptedServer::start(move |_, request| match request.bearer() {
            Some("t2" | "t4") => answer(200, VERSION),
            _ => answer(status, ""),
        })
        .await;
        let gateway = with_entra(&folder, &cluster, &issuer);
        gateway.cluster_version().await.unwrap();
        assert_eq!(cluster.count(), 2);
    }
    assert_eq!(issuer.count(), 4);
}

#[tokio::test]
async fn rejected_role_does_not_renew_the_token() {
    let (folder, issuer) = (Folder::new(), ScriptedServer::issuer().await);
    let denied = r#"{"Error":{"Code":"E_ACCESSDENIED","Message":""}}"#;
    let cluster = ScriptedServer::start(move |_, _| answer(403, denied)).await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    let (error, message) = failed_call(&gateway).await;
    assert_eq!(error.reason(), Reason::Forbidden, "{message}");
    assert_eq!((issuer.count(), cluster.count()), (1, 1));
}

#[tokio::test]
async fn missing_role_renews_the_token_once_and_names_the_solution() {
    let (folder, issuer) = (Folder::new(), ScriptedServer::issuer().await);
    let cluster = ScriptedServer::cluster(&[]).await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    for _ in 0..50 {
        let (error, message) = failed_call(&gateway).await;
        assert_eq!(error.reason(), Reason::Forbidden);
        assert!(message.contains("assign the app role `User`"), "{message}");
    }
    assert_eq!((issuer.count(), cluster.count()), (2, 51));
    assert!(!gateway.native_access());
}

#[tokio::test]
async fn revoked_token_is_renewed_once_for_all_calls() {
    let (folder, issuer) = (Folder::new(), ScriptedServer::issuer().await);
    let revoked = Arc::new(AtomicBool::new(false));
    let is_revoked = Arc::clone(&revoked);
    let cluster = ScriptedServer::start(move |_, request| {
        let accepted = if is_revoked.load(Ordering::SeqCst) {
            "t2"
        } else {
            "t1"
        };
        judged(request, &[accepted])
    })
    .await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    gateway.cluster_version().await.unwrap();
    revoked.store(true, Ordering::SeqCst);
    let calls = join_all((0..20).map(|_| gateway.cluster_version())).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!(issuer.count(), 2);
}

#[tokio::test]
async fn unreachable_token_endpoint_is_not_a_cluster_failure() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let cluster = ScriptedServer::cluster(&["t1"]).await;
    let source = TokenSource::Entra(entra(&folder, &dead.parse().unwrap()));
    let gateway = gateway(&cluster, source);
    let (error, message) = failed_call(&gateway).await;
    assert_eq!((error.reason(), error.was_sent()), (Reason::Token, true));
    assert!(
        message.contains("could not obtain a token: no connection to"),
        "{message}"
    );
    for _ in 0..50 {
        let (error, message) = failed_call(&gateway).await;
        assert_eq!((error.reason(), error.was_sent()), (Reason::Token, false));
        assert!(message.contains("was not sent"), "{message}");
        assert!(message.contains("no connection to"), "{message}");
    }
    assert_eq!(cluster.count(), 0);
    assert_eq!(gateway.backup_service(), None);
    assert!(!gateway.native_access());
}

#[tokio::test]
async fn hanging_token_endpoint_delays_calls_by_one_timeout() {
    let folder = Folder::new();
    let issuer = ScriptedServer::start(|_, _| Reaction::Hang).await;
    let cluster = ScriptedServer::cluster(&["t1"]).await;
    let source = TokenSource::Entra(entra(&folder, &issuer.url));
    let gateway = open(Options {
        timeout: Duration::from_secs(1),
        ..options(&cluster.url, source)
    });
    let calls = join_all((0..20).map(|_| gateway.cluster_version())).await;
    for call in calls {
        let error = call.unwrap_err();
        assert_eq!(error.reason(), Reason::Token);
        assert!(chain(&error).contains("no complete response from"));
    }
    assert_eq!((issuer.count(), cluster.count()), (1, 0));
}

#[tokio::test]
async fn every_invalid_token_response_has_its_own_error() {
    let folder = Folder::new();
    let entra_error = r#"{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys are expired.\r\nTrace ID: 7"}"#;
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(20_000));
    for (status, body, expected) in [
        (
            200,
            "<html>sign in</html>",
            "is not that of a token endpoint",
        ),
        (502, "<html>Bad Gateway</html>", "without a valid error"),
        (
            400,
            entra_error,
            "AADSTS7000222: The provided client secret keys are expired. (the secret has expired",
        ),
        (200, "", "has no access_token"),
        (200, "{}", "has no access_token"),
        (200, r#"{"access_token":""}"#, "has no access_token"),
        (200, r#"{"access_token":null}"#, "has no access_token"),
        (
            200,
            r#"{"access_token":7}"#,
            "is not that of a token endpoint",
        ),
        (200, "[]", "is not that of a token endpoint"),
        (
            200,
            r#"{"access_token":"a b"}"#,
            "not allowed in an HTTP header",
        ),
        (
            200,
            r#"{"access_token":"a\r\nX-Evil: 1"}"#,
            "not allowed in an HTTP header",
        ),
        (200, &long, "is larger than 16384 bytes"),
        (200, &" ".repeat(100_000), "is larger than 65536 bytes"),
        (204, "", "HTTP status 204"),
    ] {
        let owned = body.to_owned();
        let issuer = ScriptedServer::start(move |_, _| answer(status, owned.clone())).await;
        let cluster = ScriptedServer::cluster(&[]).await;
        let gateway = with_entra(&folder, &cluster, &issuer);
        let (error, message) = failed_call(&gateway).await;
        assert_eq!(error.reason(), Reason::Token, "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(
            !message.contains("Trace ID") && message.len() < 600,
            "{message}"
        );
        assert_eq!(cluster.count(), 0);
    }
}

#[tokio::test]
async fn redirect_of_the_token_endpoint_is_not_followed() {
    let folder = Folder::new();
    let attacker = ScriptedServer::issuer().await;
    let to = attacker.url.clone();
    let issuer = ScriptedServer::start(move |_, _| Reaction::Redirect(to.clone())).await;
    let cluster = ScriptedServer::cluster(&["t1"]).await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    let (_, message) = failed_call(&gateway).await;
    assert!(message.contains("HTTP status 307"), "{message}");
    assert_eq!((attacker.count(), cluster.count()), (0, 0));
}

/// A cluster that reports `login` and otherwise accepts `t1`.
fn naming(login: &str) -> impl Fn(usize, &Request) -> Reaction + Send + Sync + use<> {
    let metadata = format!(
        r#"{{"type":"aad","metadata":{{"login":"{login}","tenant":"contoso.com","cluster":"app"}}}}"#
    );
    move |_, request| {
        if request.line().contains(METADATA) {
            answer(200, metadata.clone())
        } else {
            judged(request, &["t1"])
        }
    }
}

#[tokio::test]
async fn discovery_provides_the_directory_and_not_the_audience() {
    let (folder, issuer) = (Folder::new(), ScriptedServer::issuer().await);
    let cluster = ScriptedServer::start(naming("https://login.microsoftonline.com")).await;
    let entra = Entra {
        tenant_id: None,
        ..entra(&folder, &issuer.url)
    };
    let gateway = gateway(&cluster, TokenSource::Entra(entra));
    gateway.cluster_version().await.unwrap();
    let discovery = cluster.request(0);
    assert!(
        discovery
            .line()
            .starts_with("GET /$/GetAadMetadata?api-version=6.0")
    );
    assert_eq!(discovery.bearer(), None);
    let asked = issuer.request(0);
    assert!(asked.line().starts_with("POST /contoso.com/oauth2/token"));
    // The cluster reports the application `app`.
    assert!(asked.body.ends_with("&resource=api%3A%2F%2Fcluster"));
}

#[tokio::test]
async fn unknown_sign_in_service_does_not_receive_the_secret() {
    let folder = Folder::new();
    let attacker = ScriptedServer::issuer().await;
    let cluster = ScriptedServer::start(naming(attacker.url.as_str())).await;
    let entra = Entra {
        authority: None,
        ..entra(&folder, &attacker.url)
    };
    let gateway = gateway(&cluster, TokenSource::Entra(entra));
    let (error, message) = failed_call(&gateway).await;
    assert_eq!(error.reason(), Reason::Token);
    assert!(message.contains("set auth.entra.authority"), "{message}");
    assert_eq!((attacker.count(), cluster.count()), (0, 1));
    // The discovery needs no authorization.
    assert!(!gateway.native_access());
}

#[tokio::test]
async fn unpinned_server_receives_neither_discovery_nor_token() {
    let (folder, issuer) = (Folder::new(), ScriptedServer::issuer().await);
    let (cluster, thumbprint) = secured(naming("https://login.microsoftonline.com")).await;
    let gateway = |thumbprint: &str, tenant_id: Option<&str>| {
        let entra = Entra {
            tenant_id: tenant_id.map(|id| id.parse().unwrap()),
            ..entra(&folder, &issuer.url)
        };
        let mut options = options(&cluster.url, TokenSource::Entra(entra));
        options.security.trust = Trust::Thumbprints {
            thumbprints: vec![thumbprint.parse().unwrap()],
            accept_expired: false,
        };
        open(options)
    };
    let another = "AB".repeat(32);
    let (error, message) = failed_call(&gateway(&another, None)).await;
    assert_eq!(error.reason(), Reason::Tls, "{message}");
    assert!(
        message.contains("did not report which directory"),
        "{message}"
    );
    assert_eq!(issuer.count(), 0);
    let (error, _) = failed_call(&gateway(&another, Some("contoso.com"))).await;
    assert_eq!(error.reason(), Reason::Tls);
    assert_eq!(cluster.count(), 0);
    let known = gateway(&thumbprint, None);
    issuer.requests.lock().unwrap().clear();
    known.cluster_version().await.unwrap();
    assert_eq!((issuer.count(), cluster.count()), (1, 2));
}

#[tokio::test]
async fn failed_discovery_has_the_reason_of_its_cause() {
    let (folder, issuer) = (Folder::new(), ScriptedServer::issuer().await);
    for (status, body, reason, expected) in [
        (
            200,
            r#"{"type":"","metadata":{}}"#,
            Reason::Token,
            "accepts no Entra ID tokens",
        ),
        (
            200,
            r#"{"type":"aad","metadata":{}}"#,
            Reason::Token,
            "reports no valid tenant_id",
        ),
        (
            200,
            "<html>",
            Reason::Decode,
            "did not report which directory",
        ),
        (403, "", Reason::Forbidden, "did not report which directory"),
    ] {
        let cluster = ScriptedServer::start(move |_, _| answer(status, body)).await;
        let entra = Entra {
            tenant_id: None,
            ..entra(&folder, &issuer.url)
        };
        let gateway = gateway(&cluster, TokenSource::Entra(entra));
        let (error, message) = failed_call(&gateway).await;
        assert_eq!(error.reason(), reason, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(issuer.count(), 0);
}

#[tokio::test]
async fn token_file_is_read_once_per_cycle_and_after_a_rejection() {
    let folder = Folder::new();
    let cluster = ScriptedServer::cluster(&["t1", "t2", "t4"]).await;
    let path = folder.write("t1\n");
    let gateway = gateway(&cluster, TokenSource::File(path));
    let shown = async || {
        gateway.cluster_version().await.unwrap();
        let last = cluster.request(cluster.count() - 1);
        last.bearer().unwrap().to_owned()
    };
    assert_eq!(shown().await, "t1");
    folder.write("t2\n");
    assert_eq!(shown().await, "t1", "not on every request");
    gateway.begin_cycle();
    assert_eq!(shown().await, "t2");
    folder.write("t3\n");
    gateway.begin_cycle();
    let before = cluster.count();
    assert_eq!(failed_call(&gateway).await.0.reason(), Reason::Forbidden);
    assert_eq!(cluster.count(), before + 1, "the same token once only");
    folder.write("t4\n");
    gateway.begin_cycle();
    assert_eq!(shown().await, "t4");
    assert_eq!(gateway.token_expiry(), None);
}

#[tokio::test]
async fn rejected_token_is_replaced_by_the_current_one_in_the_file() {
    let folder = Folder::new();
    let cluster = ScriptedServer::cluster(&["t2"]).await;
    let gateway = gateway(&cluster, TokenSource::File(folder.write("t1")));
    assert_eq!(failed_call(&gateway).await.0.reason(), Reason::Forbidden);
    assert_eq!(cluster.count(), 1, "the file still holds what was refused");
    gateway.begin_cycle();
    folder.write("t2");
    gateway.cluster_version().await.unwrap();
}

#[tokio::test]
async fn invalid_token_file_keeps_the_old_token_and_its_expiry() {
    let folder = Folder::new();
    let end = clock::now().timestamp() + 3600;
    let good = jwt(end);
    let cluster = ScriptedServer::start(|_, _| answer(200, VERSION)).await;
    let path = folder.write(&good);
    let gateway = gateway(&cluster, TokenSource::File(path.clone()));
    gateway.cluster_version().await.unwrap();
    assert_eq!(gateway.token_expiry().unwrap().timestamp(), end);
    for bad in ["", "two words\n", &jwt(end - 7200)] {
        folder.write(bad);
        gateway.begin_cycle();
        gateway.cluster_version().await.unwrap();
        let last = cluster.request(cluster.count() - 1);
        assert_eq!(last.bearer(), Some(good.as_str()), "{bad}");
    }
    fs::remove_file(path).unwrap();
    gateway.begin_cycle();
    gateway.cluster_version().await.unwrap();
}

#[tokio::test]
async fn credentials_are_good_after_a_successful_token_request() {
    let folder = Folder::new();
    let cluster = ScriptedServer::cluster(&["t1", "t2"]).await;
    let gateway = gateway(&cluster, TokenSource::File(folder.write("t1")));
    for (text, good) in [
        ("t1", true),
        ("", false),
        ("two words", false),
        ("t2", true),
    ] {
        folder.write(text);
        gateway.begin_cycle();
        gateway.cluster_version().await.unwrap();
        assert_eq!(gateway.has_good_credentials().await, Some(good), "{text}");
    }
}

#[tokio::test]
async fn invalid_token_file_is_reported_with_its_path() {
    let folder = Folder::new();
    let cluster = ScriptedServer::cluster(&[]).await;
    let missing = folder.0.path().join("missing");
    for (path, expected) in [
        (missing, "missing: cannot be read"),
        (folder.0.path().to_owned(), "is not a file"),
    ] {
        let gateway = gateway(&cluster, TokenSource::File(path));
        let (error, message) = failed_call(&gateway).await;
        assert_eq!(error.reason(), Reason::Token);
        assert!(message.contains(expected), "{message}");
        let warnings = gateway.warnings();
        assert!(
            warnings[0].contains("No token is available yet."),
            "{warnings:?}"
        );
    }
    let path = folder.write(&jwt(clock::now().timestamp() - 60));
    let gateway = gateway(&cluster, TokenSource::File(path));
    let (_, message) = failed_call(&gateway).await;
    assert!(message.contains("expired at"), "{message}");
    assert_eq!(cluster.count(), 0);
}

#[tokio::test]
async fn missing_tokens_do_not_open_the_circuit_breaker() {
    let folder = Folder::new();
    let cluster = ScriptedServer::cluster(&["t1"]).await;
    let path = folder.0.path().join("secret");
    let gateway = gateway(&cluster, TokenSource::File(path));
    for _ in 0..50 {
        gateway.begin_cycle();
        let (error, _) = failed_call(&gateway).await;
        assert_eq!((error.reason(), error.was_sent()), (Reason::Token, true));
        let (error, _) = failed_call(&gateway).await;
        assert_eq!((error.reason(), error.was_sent()), (Reason::Token, false));
    }
    folder.write("t1");
    gateway.begin_cycle();
    gateway.cluster_version().await.unwrap();
    assert_eq!(cluster.count(), 1);
}

/// The log of all levels and crates.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

#[tokio::test]
async fn old_token_is_used_while_renewal_fails_and_no_secret_is_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let folder = Folder::new();
    let issuer = ScriptedServer::start(|number, request| match number {
        0 => token("hunter2-token", 3600),
        // Quotes the secret.
        _ => answer(
            400,
            format!(
                r#"{{"error":"{SECRET}","error_description":"You sent {SECRET}, in {}"}}"#,
                request.body
            ),
        ),
    })
    .await;
    let refusals = Arc::new(AtomicUsize::new(0));
    let refused_so_far = Arc::clone(&refusals);
    let cluster = ScriptedServer::start(move |number, _| {
        if number == 1 {
            refused_so_far.fetch_add(1, Ordering::SeqCst);
            return answer(403, "");
        }
        answer(200, VERSION)
    })
    .await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    gateway.cluster_version().await.unwrap();
    let (rejection, message) = failed_call(&gateway).await;
    assert_eq!(refusals.load(Ordering::SeqCst), 1);
    gateway.cluster_version().await.unwrap();
    let last = cluster.request(cluster.count() - 1);
    assert_eq!(last.bearer(), Some("hunter2-token"));
    assert_eq!(issuer.count(), 2);
    let logged = log.text();
    let warnings = logged
        .matches("Cannot renew the token for cluster test")
        .count();
    assert_eq!(warnings, 1, "{logged}");

    let without = with_entra(&folder, &cluster, &issuer);
    let (failure, failed) = failed_call(&without).await;
    assert!(failed.contains("You sent ***"), "{failed}");
    for text in [
        log.text(),
        message,
        failed,
        format!("{rejection:?} {failure:?} {failure:#?} {gateway:?} {without:#?}"),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

/// Exit code and output of `check-config` for one cluster with this `auth`, and an invalid identity in
/// the environment.
fn checked(auth: &str) -> (Option<i32>, String) {
    let folder = Folder::new();
    let config = folder.0.path().join("exporter.yml");
    let cluster = format!("clusters: [{{name: a, endpoints: ['https://a'], auth: {auth}}}]");
    fs::write(&config, cluster).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_servicefabric-backup-exporter"))
        .arg("check-config")
        .arg("--config.file")
        .arg(config)
        .env("IDENTITY_ENDPOINT", "http://localhost:2377/token")
        .env("IDENTITY_HEADER", "hunter2")
        .env("IDENTITY_SERVER_THUMBPRINT", "AB".repeat(20))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!message.contains("hunter2"), "{message}");
    (output.status.code(), message)
}

#[test]
fn invalid_fabric_identity_fails_only_clusters_that_use_it() {
    let (code, message) = checked("{managed_identity: {cluster_application_id: b}}");
    assert_eq!(code, Some(64), "{message}");
    assert!(
        message.contains("cluster a: ")
            && message.contains("IDENTITY_ENDPOINT is not an https URL"),
        "{message}"
    );
    for other in [
        "{}",
        "{managed_identity: {cluster_application_id: b, endpoint: 'http://127.0.0.1:1'}}",
    ] {
        let (code, message) = checked(other);
        assert_eq!(code, Some(0), "{other}: {message}");
    }
}
