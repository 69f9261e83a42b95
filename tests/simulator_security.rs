//! Authorization and TLS of the simulated gateway of a secured cluster.
//!
//! Every test uses reqwest or rustls, not the client of this crate.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{estate, simulate};
use hyper::ext::ReasonPhrase;
use rcgen::{CertificateParams, KeyPair};
use reqwest::tls::Version;
use reqwest::{Certificate, Client, Identity, Method, Response};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use serde_json::{Value, json};
use servicefabric_backup_exporter::simulator::{
    Access, EntraMetadata, Fault, Filter, Options, Role, ServerIdentity, Simulator,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const LIST: &str = "/Applications?api-version=6.1";
const POLICIES: &str = "/BackupRestore/BackupPolicies?api-version=6.4";
const METADATA: &str = "/$/GetAadMetadata?api-version=6.0";

/// A self-signed certificate and its key.
struct Party {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Party {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, key }
    }

    fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    fn as_server(&self) -> ServerIdentity {
        ServerIdentity::from_pem(&self.certificate.pem(), &self.key.serialize_pem()).unwrap()
    }

    fn as_client(&self) -> Identity {
        let (certificate, key) = (self.certificate.pem(), self.key.serialize_pem());
        Identity::from_pkcs8_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
    }
}

/// A gateway with TLS, and its certificate.
struct Gateway {
    simulator: Simulator,
    server: Party,
}

impl Gateway {
    async fn start(access: Access) -> Self {
        let server = Party::new();
        let options = Options {
            access,
            identity: Some(server.as_server()),
            ..Options::default()
        };
        let simulator = simulate(estate(2), options).await;
        Self { simulator, server }
    }

    /// A client that trusts the certificate of this gateway and presents that of `client`.
    fn client(&self, client: Option<&Party>) -> Client {
        let builder = trusting(&self.server);
        let builder = match client {
            Some(client) => builder.identity(client.as_client()),
            None => builder,
        };
        builder.build().unwrap()
    }

    async fn get(&self, client: &Client, path: &str) -> Response {
        let url = format!("{}{path}", self.simulator.url());
        client.get(url).send().await.unwrap()
    }

    async fn status(&self, client: &Client, path: &str) -> u16 {
        self.get(client, path).await.status().as_u16()
    }

    fn address(&self) -> String {
        self.simulator.url().replace("https://", "")
    }
}

fn trusting(server: &Party) -> reqwest::ClientBuilder {
    let root = Certificate::from_der(server.der()).unwrap();
    Client::builder().no_proxy().tls_certs_only([root])
}

async fn json(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// A gateway without TLS that accepts these tokens, and a client without a token.
async fn with_tokens(tokens: &[(&str, Role)]) -> (Simulator, Client) {
    let mut access = Access::secured();
    for (token, role) in tokens {
        access.admit_token(token, *role);
    }
    let options = Options {
        access,
        ..Options::default()
    };
    let client = Client::builder().no_proxy().build().unwrap();
    (simulate(estate(2), options).await, client)
}

async fn status_with(simulator: &Simulator, client: &Client, token: &str) -> u16 {
    let request = client.get(format!("{}{LIST}", simulator.url()));
    let response = request.bearer_auth(token).send().await.unwrap();
    response.status().as_u16()
}

/// The path on which a backup of some partition is requested.
fn backup_path(simulator: &Simulator) -> String {
    let ids = simulator.with_estate(|estate| estate.partition_ids());
    let id = ids.first().unwrap();
    format!("/Partitions/{id}/$/Backup?api-version=6.4")
}

#[tokio::test]
async fn who_shows_nothing_gets_403_without_a_body_wherever_it_asks() {
    let (simulator, client) = with_tokens(&[("reader", Role::User)]).await;
    let backup = backup_path(&simulator);
    let cases = [
        (Method::GET, LIST),
        (Method::GET, POLICIES),
        (Method::GET, "/nowhere"),
        (Method::POST, &backup),
    ];
    for (method, path) in cases {
        let url = format!("{}{path}", simulator.url());
        let response = client.request(method, url).send().await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
        let reason = response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Client certificate required", "{path}");
        assert_eq!(response.headers().get("www-authenticate"), None, "{path}");
        assert_eq!(response.text().await.unwrap(), "", "{path}");
    }
}

#[tokio::test]
async fn a_user_reads_everything_and_changes_nothing() {
    let (simulator, client) = with_tokens(&[("reader", Role::User), ("boss", Role::Admin)]).await;
    let post = async |path: &str, token| {
        let request = client.post(format!("{}{path}", simulator.url()));
        request.bearer_auth(token).send().await.unwrap()
    };
    let backup = backup_path(&simulator);
    for path in [LIST, POLICIES] {
        let request = client.get(format!("{}{path}", simulator.url()));
        let response = request.bearer_auth("reader").send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    for path in [&backup, &backup.replace("$/Backup", "$/SuspendBackup")] {
        let refused = post(path, "reader").await;
        assert_eq!(refused.status(), 403, "{path}");
        let kind = refused.headers().get("content-type").unwrap().clone();
        assert_eq!(kind, "text/plain; charset=utf-8", "{path}");
        let sample = include_str!("samples/error.403.access-denied.brs.json");
        let sample: Value = serde_json::from_str(sample).unwrap();
        assert_eq!(json(refused).await, sample, "{path}");
    }
    assert_eq!(post(&backup, "boss").await.status(), 202);
}

#[tokio::test]
async fn a_token_is_good_from_its_admission_to_its_revocation() {
    let (simulator, client) = with_tokens(&[("old", Role::User)]).await;
    let status = async |token| status_with(&simulator, &client, token).await;
    assert_eq!((status("old").await, status("new").await), (200, 403));
    simulator.with_access(|access| {
        access.revoke_token("old");
        access.admit_token("new", Role::User);
    });
    assert_eq!((status("old").await, status("new").await), (403, 200));
}

#[tokio::test]
async fn the_sign_in_metadata_is_for_everybody() {
    let (simulator, client) = with_tokens(&[]).await;
    let ask = async || {
        let url = format!("{}{METADATA}", simulator.url());
        json(client.get(url).send().await.unwrap()).await
    };
    let none = json!({"type": "", "metadata": {}});
    assert_eq!(ask().await, none);
    let entra = || EntraMetadata {
        login: "https://login.example.com".to_owned(),
        authority: "https://login.example.com/t".to_owned(),
        tenant: "t".to_owned(),
        cluster: "c".to_owned(),
        client: "n".to_owned(),
        redirect: "urn:ietf:wg:oauth:2.0:oob".to_owned(),
    };
    simulator.with_access(|access| access.announce(entra()));
    let expected = json!({
        "login": "https://login.example.com",
        "authority": "https://login.example.com/t",
        "tenant": "t",
        "cluster": "c",
        "client": "n",
        "redirect": "urn:ietf:wg:oauth:2.0:oob",
    });
    assert_eq!(ask().await, json!({"type": "aad", "metadata": expected}));
    simulator.with_access(|access| {
        *access = Access::default();
        access.announce(entra());
    });
    assert_eq!(ask().await, none);
}

#[tokio::test]
async fn trusted_proxy_sets_the_role_of_its_clients() {
    let (simulator, client) = with_tokens(&[]).await;
    let status = async |method, path: &str, role| {
        let request = client.request(method, format!("{}{path}", simulator.url()));
        let response = request.header("X-Role", role).send().await.unwrap();
        response.status().as_u16()
    };
    assert_eq!(status(Method::GET, LIST, "Admin").await, 403);
    simulator.with_access(Access::trust_front);
    let backup = backup_path(&simulator);
    for (role, expected) in [
        ("None", [403, 403]),
        ("User", [200, 403]),
        ("Admin", [200, 202]),
    ] {
        let read = status(Method::GET, LIST, role).await;
        let change = status(Method::POST, &backup, role).await;
        assert_eq!([read, change], expected, "{role}");
    }
}

#[tokio::test]
async fn certificate_of_the_first_handshake_identifies_the_client() {
    let (known, stranger) = (Party::new(), Party::new());
    let mut access = Access::secured();
    access.admit_certificate(known.der(), Role::User);
    let gateway = Gateway::start(access).await;
    let known_client = gateway.client(Some(&known));
    for (client, expected) in [
        (&known_client, 200),
        (&gateway.client(Some(&stranger)), 403),
        (&gateway.client(None), 403),
    ] {
        assert_eq!(gateway.status(client, LIST).await, expected);
        assert_eq!(gateway.status(client, METADATA).await, 200);
    }
    let connections = gateway.simulator.connections();
    let revoke = |access: &mut Access| access.revoke_certificate(known.der());
    gateway.simulator.with_access(revoke);
    assert_eq!(gateway.status(&known_client, LIST).await, 403);
    assert_eq!(gateway.simulator.connections(), connections);
}

#[tokio::test]
async fn a_wrong_token_leaves_it_to_the_certificate_and_a_good_one_needs_none() {
    let known = Party::new();
    let mut access = Access::secured();
    access.admit_certificate(known.der(), Role::User);
    access.admit_token("good", Role::User);
    let gateway = Gateway::start(access).await;
    let (with, without) = (gateway.client(Some(&known)), gateway.client(None));
    let status = async |client, token| status_with(&gateway.simulator, client, token).await;
    assert_eq!(status(&with, "wrong").await, 200);
    assert_eq!(status(&without, "good").await, 200);
    assert_eq!(status(&without, "wrong").await, 403);
}

#[tokio::test]
async fn another_server_certificate_is_shown_on_new_connections() {
    let mut access = Access::secured();
    access.admit_token("good", Role::User);
    let gateway = Gateway::start(access).await;
    let (old, next) = (&gateway.server, Party::new());
    let connected = gateway.client(None);
    let status = async |client| status_with(&gateway.simulator, client, "good").await;
    assert_eq!(status(&connected).await, 200);
    gateway.simulator.present(next.as_server());
    assert_eq!(status(&connected).await, 200);
    assert_eq!(status(&trusting(&next).build().unwrap()).await, 200);
    let url = format!("{}{LIST}", gateway.simulator.url());
    let newcomer = trusting(old).build().unwrap();
    let refused = newcomer.get(url).send().await.unwrap_err();
    assert!(refused.is_connect(), "{refused:?}");
}

#[test]
fn a_key_of_another_certificate_makes_no_server() {
    let (one, other) = (Party::new(), Party::new());
    let certificate = one.certificate.pem();
    assert!(ServerIdentity::from_pem(&certificate, &other.key.serialize_pem()).is_err());
    assert!(ServerIdentity::from_pem(&certificate, "").is_err());
    assert!(ServerIdentity::from_pem("", &one.key.serialize_pem()).is_err());
}

/// The name of the fault, of the answer or of the break that a client meets.
async fn outcome(gateway: &Gateway, client: &Client) -> String {
    let url = format!("{}{LIST}", gateway.simulator.url());
    let response = match client.get(url).send().await {
        Ok(response) => response,
        Err(error) if is_reset(&error) => return "reset".to_owned(),
        Err(error) => return format!("no answer: {error:?}"),
    };
    let status = response.status().as_u16();
    match response.bytes().await {
        Ok(body) => format!("{status} with {} bytes", body.len()),
        Err(_) => format!("{status} cut off"),
    }
}

fn is_reset(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind == Some(io::ErrorKind::ConnectionReset) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[tokio::test]
async fn faults_strike_in_tls_as_they_do_without() {
    let known = Party::new();
    let mut access = Access::secured();
    access.admit_certificate(known.der(), Role::User);
    let gateway = Gateway::start(access).await;
    let client = gateway.client(Some(&known));
    let whole = outcome(&gateway, &client).await;
    assert!(whole.starts_with("200 with "), "{whole}");
    let large = 300_000_u64.next_multiple_of(64 * 1024) + 2;
    let cases = [
        (Fault::TruncatedBody, "200 cut off".to_owned()),
        (Fault::SlowBody(Duration::from_millis(50)), whole.clone()),
        (Fault::TooLarge(300_000), format!("200 with {large} bytes")),
        (
            Fault::HangThen504(Duration::from_millis(20)),
            "504 with 0 bytes".to_owned(),
        ),
        (Fault::Forbidden, "403 with 0 bytes".to_owned()),
        (Fault::Reset, "reset".to_owned()),
    ];
    for (fault, expected) in cases {
        gateway.simulator.heal();
        gateway.simulator.inject(fault, Filter::Native);
        assert_eq!(outcome(&gateway, &client).await, expected, "{fault:?}");
    }
    gateway.simulator.heal();
    assert_eq!(outcome(&gateway, &client).await, whole);
}

#[tokio::test]
async fn faults_do_not_apply_to_unauthorized_clients() {
    let (simulator, client) = with_tokens(&[("good", Role::User)]).await;
    simulator.inject_next(1, Fault::InternalError, Filter::All);
    assert_eq!(status_with(&simulator, &client, "wrong").await, 403);
    assert_eq!(status_with(&simulator, &client, "good").await, 500);
}

/// Presents a certificate with any key.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A client in one version of TLS that shows `certificate` and signs with the key of `signer`.
fn connector(
    gateway: &Gateway,
    version: &'static SupportedProtocolVersion,
    certificate: &Party,
    signer: &Party,
) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(signer.private_key());
    let shown = CertifiedKey::new(vec![certificate.der().clone()], key.unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(gateway.server.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shows(Arc::new(shown))));
    TlsConnector::from(Arc::new(config))
}

/// The complete response to one request on a separate connection.
async fn exchange(gateway: &Gateway, connector: &TlsConnector) -> io::Result<String> {
    let tcp = TcpStream::connect(gateway.address()).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut tls = connector.connect(name, tcp).await?;
    let request = format!("GET {LIST} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_certificate_without_its_key_gets_no_answer() {
    let (known, thief) = (Party::new(), Party::new());
    let mut access = Access::secured();
    access.admit_certificate(known.der(), Role::Admin);
    let gateway = Gateway::start(access).await;
    for version in [&TLS12, &TLS13] {
        let owner = connector(&gateway, version, &known, &known);
        let answer = exchange(&gateway, &owner).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{version:?}");
        let stolen = connector(&gateway, version, &known, &thief);
        let refused = exchange(&gateway, &stolen).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{refused:?}");
    }
    assert_eq!(gateway.simulator.requests()["GetApplicationInfoList"], 2);
}

#[tokio::test]
async fn connections_and_full_handshakes_are_counted_apart() {
    let known = Party::new();
    let mut access = Access::secured();
    access.admit_certificate(known.der(), Role::User);
    let gateway = Gateway::start(access).await;
    let client = connector(&gateway, &TLS12, &known, &known);
    let counted = || {
        let simulator = &gateway.simulator;
        (simulator.connections(), simulator.full_handshakes())
    };
    for expected in [(1, 1), (2, 1)] {
        let answer = exchange(&gateway, &client).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert_eq!(counted(), expected);
    }
    gateway.simulator.present(gateway.server.as_server());
    exchange(&gateway, &client).await.unwrap();
    assert_eq!(counted(), (3, 2));
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let mut access = Access::secured();
    access.admit_token("good", Role::User);
    let gateway = Gateway::start(access).await;
    for version in [Version::TLS_1_2, Version::TLS_1_3] {
        let client = trusting(&gateway.server)
            .tls_version_min(version)
            .tls_version_max(version);
        let client = client.build().unwrap();
        let status = status_with(&gateway.simulator, &client, "good").await;
        assert_eq!(status, 200, "{version:?}");
    }
}
