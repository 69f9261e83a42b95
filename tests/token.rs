//! Bearer tokens against plain doubles of token endpoints and of a cluster: where they come from,
//! when they are renewed, what is told when there is none, and that nobody else sees a secret.
//!
//! The cluster speaks http here, which the configuration refuses next to a token: what is tested
//! is the way of the token, not that of the bytes.

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

/// A request as it came in.
#[derive(Clone, Debug)]
struct Request {
    /// Request line and headers, in lower case but for values.
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

enum Act {
    Answer(u16, String),
    Redirect(Url),
    Hang,
}

fn answer(status: u16, body: impl Into<String>) -> Act {
    Act::Answer(status, body.into())
}

/// A token with that name that lives so many seconds.
fn token(name: &str, life: u32) -> Act {
    let body =
        format!(r#"{{"token_type":"Bearer","expires_in":"{life}","access_token":"{name}"}}"#);
    answer(200, body)
}

/// A server that answers each request as its script says.
struct Double {
    url: Url,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Double {
    async fn start(script: impl Fn(usize, &Request) -> Act + Send + Sync + 'static) -> Self {
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

    /// A cluster that lets in whoever has one of these tokens.
    async fn cluster(accepted: &'static [&'static str]) -> Self {
        Self::start(move |_, request| judged(request, accepted)).await
    }

    /// A token endpoint that issues `t1`, `t2`, … for an hour each.
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

fn judged(request: &Request, accepted: &[&str]) -> Act {
    match request.bearer() {
        Some(bearer) if accepted.contains(&bearer) => answer(200, VERSION),
        _ => answer(403, ""),
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Arc<impl Fn(usize, &Request) -> Act>,
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
        Act::Answer(status, body) => (status, String::new(), body),
        Act::Redirect(to) => (307, format!("Location: {to}\r\n"), String::new()),
        Act::Hang => std::future::pending().await,
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

/// Files that live as long as the test.
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

fn gateway(cluster: &Double, source: TokenSource) -> Gateway {
    open(options(&cluster.url, source))
}

/// A gateway of `cluster` whose tokens come from `issuer`.
fn with_entra(folder: &Folder, cluster: &Double, issuer: &Double) -> Gateway {
    gateway(cluster, TokenSource::Entra(entra(folder, &issuer.url)))
}

async fn refused(gateway: &Gateway) -> (Error, String) {
    let error = gateway.cluster_version().await.unwrap_err();
    let told = chain(&error);
    (error, told)
}

fn jwt(end: i64) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = format!(r#"{{"aud":"api://cluster","exp":{end},"roles":["User"]}}"#);
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

#[tokio::test]
async fn an_application_asks_for_a_resource_and_shows_its_token_to_the_cluster() {
    let (folder, issuer) = (Folder::new(), Double::issuer().await);
    let cluster = Double::cluster(&["t1"]).await;
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
async fn an_application_asks_for_a_scope_when_told_so() {
    let (folder, issuer) = (Folder::new(), Double::issuer().await);
    let cluster = Double::cluster(&["t1"]).await;
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
async fn a_machine_asks_its_metadata_service_for_one_of_its_identities() {
    let issuer = Double::issuer().await;
    let cluster = Double::cluster(&["t1"]).await;
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

/// The same by https, and the thumbprint of its certificate.
async fn secured(
    script: impl Fn(usize, &Request) -> Act + Send + Sync + 'static,
) -> (Double, String) {
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
    let double = Double {
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
async fn an_application_of_service_fabric_asks_the_service_with_the_pinned_certificate_only() {
    let cluster = Double::cluster(&["t1"]).await;
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
    let (error, told) = refused(&gateway(&"AB".repeat(32))).await;
    assert_eq!(error.reason(), Reason::Token);
    assert!(told.contains("IDENTITY_SERVER_THUMBPRINT"), "{told}");
    assert!(told.contains(&thumbprint), "{told}");
    assert_eq!(service.count(), 0, "nothing was sent to a stranger");
    gateway(&thumbprint).cluster_version().await.unwrap();
    let asked = service.request(0);
    assert_eq!(
        asked.line(),
        "GET /?api-version=2019-07-01-preview&resource=api%3A%2F%2Fcluster HTTP/1.1"
    );
    assert_eq!(asked.header("secret"), Some("hunter2"));
}

#[tokio::test]
async fn many_callers_ask_once() {
    let (folder, issuer) = (Folder::new(), Double::issuer().await);
    let cluster = Double::cluster(&["t1"]).await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    let calls = join_all((0..20).map(|_| gateway.cluster_version())).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!((issuer.count(), cluster.count()), (1, 20));
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_call_made_once_more() {
    let (folder, issuer) = (Folder::new(), Double::issuer().await);
    for status in [403, 401] {
        let cluster = Double::start(move |_, request| match request.bearer() {
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
async fn a_service_that_refuses_the_role_costs_no_token() {
    let (folder, issuer) = (Folder::new(), Double::issuer().await);
    let denied = r#"{"Error":{"Code":"E_ACCESSDENIED","Message":""}}"#;
    let cluster = Double::start(move |_, _| answer(403, denied)).await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    let (error, told) = refused(&gateway).await;
    assert_eq!(error.reason(), Reason::Forbidden, "{told}");
    assert_eq!((issuer.count(), cluster.count()), (1, 1));
}

#[tokio::test]
async fn a_role_that_nobody_assigned_costs_one_renewal_and_says_what_to_do() {
    let (folder, issuer) = (Folder::new(), Double::issuer().await);
    let cluster = Double::cluster(&[]).await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    for _ in 0..50 {
        let (error, told) = refused(&gateway).await;
        assert_eq!(error.reason(), Reason::Forbidden);
        assert!(told.contains("assign the app role `User`"), "{told}");
    }
    assert_eq!((issuer.count(), cluster.count()), (2, 51));
    assert!(!gateway.native_access());
}

#[tokio::test]
async fn a_revoked_token_is_renewed_once_for_all_who_were_refused() {
    let (folder, issuer) = (Folder::new(), Double::issuer().await);
    let revoked = Arc::new(AtomicBool::new(false));
    let is_revoked = Arc::clone(&revoked);
    let cluster = Double::start(move |_, request| {
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
async fn a_token_endpoint_that_is_down_is_no_failure_of_the_cluster() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let cluster = Double::cluster(&["t1"]).await;
    let source = TokenSource::Entra(entra(&folder, &dead.parse().unwrap()));
    let gateway = gateway(&cluster, source);
    let (error, told) = refused(&gateway).await;
    assert_eq!((error.reason(), error.was_sent()), (Reason::Token, true));
    assert!(
        told.contains("could not obtain a token: no connection to"),
        "{told}"
    );
    for _ in 0..50 {
        let (error, told) = refused(&gateway).await;
        assert_eq!((error.reason(), error.was_sent()), (Reason::Token, false));
        assert!(told.contains("was not sent"), "{told}");
        assert!(told.contains("no connection to"), "{told}");
    }
    assert_eq!(cluster.count(), 0);
    assert_eq!(gateway.backup_service(), None);
    assert!(!gateway.native_access());
}

#[tokio::test]
async fn a_token_endpoint_that_hangs_holds_nobody_up_for_longer_than_a_call() {
    let folder = Folder::new();
    let issuer = Double::start(|_, _| Act::Hang).await;
    let cluster = Double::cluster(&["t1"]).await;
    let source = TokenSource::Entra(entra(&folder, &issuer.url));
    let gateway = open(Options {
        timeout: Duration::from_secs(1),
        ..options(&cluster.url, source)
    });
    let calls = join_all((0..20).map(|_| gateway.cluster_version())).await;
    for call in calls {
        let error = call.unwrap_err();
        assert_eq!(error.reason(), Reason::Token);
        assert!(chain(&error).contains("no complete answer from"));
    }
    assert_eq!((issuer.count(), cluster.count()), (1, 0));
}

#[tokio::test]
async fn every_answer_that_is_no_token_is_told_for_what_it_is() {
    let folder = Folder::new();
    let entra_error = r#"{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys are expired.\r\nTrace ID: 7"}"#;
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(20_000));
    for (status, body, expected) in [
        (
            200,
            "<html>sign in</html>",
            "is no answer of a token endpoint",
        ),
        (
            502,
            "<html>Bad Gateway</html>",
            "without an error that is understood",
        ),
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
            "is no answer of a token endpoint",
        ),
        (200, "[]", "is no answer of a token endpoint"),
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
        (200, &" ".repeat(100_000), "has more than 65536 bytes"),
        (204, "", "HTTP status 204"),
    ] {
        let owned = body.to_owned();
        let issuer = Double::start(move |_, _| answer(status, owned.clone())).await;
        let cluster = Double::cluster(&[]).await;
        let gateway = with_entra(&folder, &cluster, &issuer);
        let (error, told) = refused(&gateway).await;
        assert_eq!(error.reason(), Reason::Token, "{told}");
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("Trace ID") && told.len() < 600, "{told}");
        assert_eq!(cluster.count(), 0);
    }
}

#[tokio::test]
async fn a_redirect_does_not_lead_the_secret_elsewhere() {
    let folder = Folder::new();
    let attacker = Double::issuer().await;
    let to = attacker.url.clone();
    let issuer = Double::start(move |_, _| Act::Redirect(to.clone())).await;
    let cluster = Double::cluster(&["t1"]).await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    let (_, told) = refused(&gateway).await;
    assert!(told.contains("HTTP status 307"), "{told}");
    assert_eq!((attacker.count(), cluster.count()), (0, 0));
}

/// A cluster that names `login` and otherwise lets in `t1`.
fn naming(login: &str) -> impl Fn(usize, &Request) -> Act + Send + Sync + use<> {
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
async fn the_cluster_names_its_directory_but_not_for_whom_the_token_is() {
    let (folder, issuer) = (Folder::new(), Double::issuer().await);
    let cluster = Double::start(naming("https://login.microsoftonline.com")).await;
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
    // The cluster says that it is `app`.
    assert!(asked.body.ends_with("&resource=api%3A%2F%2Fcluster"));
}

#[tokio::test]
async fn a_cluster_that_names_a_foreign_sign_in_service_gets_nothing() {
    let folder = Folder::new();
    let attacker = Double::issuer().await;
    let cluster = Double::start(naming(attacker.url.as_str())).await;
    let entra = Entra {
        authority: None,
        ..entra(&folder, &attacker.url)
    };
    let gateway = gateway(&cluster, TokenSource::Entra(entra));
    let (error, told) = refused(&gateway).await;
    assert_eq!(error.reason(), Reason::Token);
    assert!(told.contains("write auth.entra.authority"), "{told}");
    assert_eq!((attacker.count(), cluster.count()), (0, 1));
    // Everybody is told who signs in; it does not show that we are let in.
    assert!(!gateway.native_access());
}

#[tokio::test]
async fn who_is_not_the_pinned_cluster_is_asked_nothing_and_shown_nothing() {
    let (folder, issuer) = (Folder::new(), Double::issuer().await);
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
    let (error, told) = refused(&gateway(&another, None)).await;
    assert_eq!(error.reason(), Reason::Tls, "{told}");
    assert!(told.contains("did not say which directory"), "{told}");
    assert_eq!(issuer.count(), 0);
    let (error, _) = refused(&gateway(&another, Some("contoso.com"))).await;
    assert_eq!(error.reason(), Reason::Tls);
    assert_eq!(cluster.count(), 0);
    let known = gateway(&thumbprint, None);
    issuer.requests.lock().unwrap().clear();
    known.cluster_version().await.unwrap();
    assert_eq!((issuer.count(), cluster.count()), (1, 2));
}

#[tokio::test]
async fn a_cluster_that_cannot_tell_its_directory_is_told_for_what_it_is() {
    let (folder, issuer) = (Folder::new(), Double::issuer().await);
    for (status, body, reason, expected) in [
        (
            200,
            r#"{"type":"","metadata":{}}"#,
            Reason::Token,
            "takes no tokens of Entra ID",
        ),
        (
            200,
            r#"{"type":"aad","metadata":{}}"#,
            Reason::Token,
            "names no tenant_id",
        ),
        (200, "<html>", Reason::Decode, "did not say which directory"),
        (403, "", Reason::Forbidden, "did not say which directory"),
    ] {
        let cluster = Double::start(move |_, _| answer(status, body)).await;
        let entra = Entra {
            tenant_id: None,
            ..entra(&folder, &issuer.url)
        };
        let gateway = gateway(&cluster, TokenSource::Entra(entra));
        let (error, told) = refused(&gateway).await;
        assert_eq!(error.reason(), reason, "{told}");
        assert!(told.contains(expected), "{told}");
    }
    assert_eq!(issuer.count(), 0);
}

#[tokio::test]
async fn a_file_is_read_again_in_each_cycle_and_after_a_refusal() {
    let folder = Folder::new();
    let cluster = Double::cluster(&["t1", "t2", "t4"]).await;
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
    assert_eq!(refused(&gateway).await.0.reason(), Reason::Forbidden);
    assert_eq!(cluster.count(), before + 1, "the same token once only");
    folder.write("t4\n");
    gateway.begin_cycle();
    assert_eq!(shown().await, "t4");
    assert_eq!(gateway.token_expiry(), None);
}

#[tokio::test]
async fn a_refused_token_is_replaced_by_the_one_that_stands_in_the_file_by_then() {
    let folder = Folder::new();
    let cluster = Double::cluster(&["t2"]).await;
    let gateway = gateway(&cluster, TokenSource::File(folder.write("t1")));
    assert_eq!(refused(&gateway).await.0.reason(), Reason::Forbidden);
    assert_eq!(cluster.count(), 1, "the file still holds what was refused");
    gateway.begin_cycle();
    folder.write("t2");
    gateway.cluster_version().await.unwrap();
}

#[tokio::test]
async fn a_bad_new_file_keeps_the_old_token_and_its_end_is_known() {
    let folder = Folder::new();
    let end = clock::now().timestamp() + 3600;
    let good = jwt(end);
    let cluster = Double::start(|_, _| answer(200, VERSION)).await;
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
async fn whether_the_last_attempt_to_get_a_token_succeeded_is_known() {
    let folder = Folder::new();
    let cluster = Double::cluster(&["t1", "t2"]).await;
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
async fn a_file_without_a_good_token_is_told_by_its_path() {
    let folder = Folder::new();
    let cluster = Double::cluster(&[]).await;
    let missing = folder.0.path().join("missing");
    for (path, expected) in [
        (missing, "missing: cannot be read"),
        (folder.0.path().to_owned(), "is not a file"),
    ] {
        let gateway = gateway(&cluster, TokenSource::File(path));
        let (error, told) = refused(&gateway).await;
        assert_eq!(error.reason(), Reason::Token);
        assert!(told.contains(expected), "{told}");
        let warnings = gateway.warnings();
        assert!(
            warnings[0].contains("No token can be had yet."),
            "{warnings:?}"
        );
    }
    let path = folder.write(&jwt(clock::now().timestamp() - 60));
    let gateway = gateway(&cluster, TokenSource::File(path));
    let (_, told) = refused(&gateway).await;
    assert!(told.contains("expired at"), "{told}");
    assert_eq!(cluster.count(), 0);
}

#[tokio::test]
async fn however_many_calls_found_no_token_the_way_to_the_cluster_stays_open() {
    let folder = Folder::new();
    let cluster = Double::cluster(&["t1"]).await;
    let path = folder.0.path().join("secret");
    let gateway = gateway(&cluster, TokenSource::File(path));
    for _ in 0..50 {
        gateway.begin_cycle();
        let (error, _) = refused(&gateway).await;
        assert_eq!((error.reason(), error.was_sent()), (Reason::Token, true));
        let (error, _) = refused(&gateway).await;
        assert_eq!((error.reason(), error.was_sent()), (Reason::Token, false));
    }
    folder.write("t1");
    gateway.begin_cycle();
    gateway.cluster_version().await.unwrap();
    assert_eq!(cluster.count(), 1);
}

/// What is logged, at every level and by everybody.
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
async fn an_old_token_is_used_while_there_is_no_new_one_and_no_secret_is_ever_told() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let folder = Folder::new();
    let issuer = Double::start(|number, request| match number {
        0 => token("hunter2-token", 3600),
        // Says more than it should.
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
    let cluster = Double::start(move |number, _| {
        if number == 1 {
            refused_so_far.fetch_add(1, Ordering::SeqCst);
            return answer(403, "");
        }
        answer(200, VERSION)
    })
    .await;
    let gateway = with_entra(&folder, &cluster, &issuer);
    gateway.cluster_version().await.unwrap();
    let (refusal, told) = refused(&gateway).await;
    assert_eq!(refusals.load(Ordering::SeqCst), 1);
    gateway.cluster_version().await.unwrap();
    let last = cluster.request(cluster.count() - 1);
    assert_eq!(last.bearer(), Some("hunter2-token"));
    assert_eq!(issuer.count(), 2);
    let logged = log.text();
    let warnings = logged
        .matches("There is no new token for cluster test")
        .count();
    assert_eq!(warnings, 1, "{logged}");

    let without = with_entra(&folder, &cluster, &issuer);
    let (failure, failed) = refused(&without).await;
    assert!(failed.contains("You sent ***"), "{failed}");
    for text in [
        log.text(),
        told,
        failed,
        format!("{refusal:?} {failure:?} {failure:#?} {gateway:?} {without:#?}"),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

/// What check-config says of one cluster with this `auth`, where the environment has an identity
/// that cannot be used.
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
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!told.contains("hunter2"), "{told}");
    (output.status.code(), told)
}

#[test]
fn an_identity_that_cannot_be_used_stops_those_who_use_it() {
    let (code, told) = checked("{managed_identity: {cluster_application_id: b}}");
    assert_eq!(code, Some(64), "{told}");
    assert!(
        told.contains("cluster a: ") && told.contains("IDENTITY_ENDPOINT is not an https URL"),
        "{told}"
    );
    for other in [
        "{}",
        "{managed_identity: {cluster_application_id: b, endpoint: 'http://127.0.0.1:1'}}",
    ] {
        let (code, told) = checked(other);
        assert_eq!(code, Some(0), "{other}: {told}");
    }
}
