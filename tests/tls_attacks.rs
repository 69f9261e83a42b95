//! An attacker answers in place of the gateway and must not receive a single byte of a request.
//!
//! Counts application bytes: those sent inside TLS, or in plain text after a failed handshake.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};
use servicefabric_backup_exporter::gateway::{Error, Gateway, Options, Reason};
use servicefabric_backup_exporter::logging::chain;
use servicefabric_backup_exporter::settings::{
    Auth, ClientCertificate, Security, Thumbprint, TlsVersion, TokenSource, Trust,
};
use servicefabric_backup_exporter::telemetry::Telemetry;
use tempfile::TempDir;
use url::Url;

use crate::support::certificates::{Authority, Pair, params, self_signed, written};
use crate::support::eventually;
use crate::support::renegotiation::{Asks, Backend, Behaviour, Front};

const VERSION: Backend = Backend::Body(r#"{"Version":"6.4.514.9494"}"#);

fn client_of(url: Url, trust: Trust, auth: Auth, newest: Option<TlsVersion>) -> Gateway {
    let options = Options {
        cluster: "test".into(),
        endpoints: vec![url],
        timeout: Duration::from_secs(30),
        concurrency: 8,
        security: Security {
            trust,
            auth,
            tls_max_version: newest,
        },
        fabric_identity: None,
    };
    Gateway::new(options, Arc::new(Telemetry::default())).unwrap()
}

fn pins(thumbprints: Vec<Thumbprint>) -> Trust {
    Trust::Thumbprints {
        thumbprints,
        accept_expired: false,
    }
}

/// A client with a certificate.
struct Victim {
    client: Pair,
    folder: TempDir,
    auth: Auth,
}

impl Victim {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = self_signed("exporter");
        let file = written(folder.path(), "client.pem", client.combined());
        Self {
            client,
            auth: Auth::ClientCertificate(ClientCertificate::Pem {
                cert_file: file.clone(),
                key_file: file,
            }),
            folder,
        }
    }

    /// Authentication with a token instead.
    fn token(&self) -> Auth {
        let file = written(self.folder.path(), "token", "hunter2");
        Auth::Token(TokenSource::File(file))
    }

    fn client_of(&self, url: Url, trust: Trust) -> Gateway {
        client_of(url, trust, self.auth.clone(), None)
    }
}

fn is_tls(error: &Error) -> bool {
    error.reason() == Reason::Tls
}

#[tokio::test]
async fn server_with_an_unpinned_certificate_receives_nothing() {
    let (victim, gateway, attacker) = (Victim::new(), self_signed("node"), self_signed("node"));
    for asks in [Asks::Never, Asks::AtFirst, Asks::Later] {
        for pin in [gateway.sha1(), gateway.sha256()] {
            let front = Front::start(Behaviour {
                asks,
                ..Behaviour::of_service_fabric(&attacker, &[&victim.client], VERSION)
            });
            let client = victim.client_of(front.url(), pins(vec![pin]));
            let error = client.cluster_version().await.unwrap_err();
            assert!(is_tls(&error), "{}", chain(&error));
            assert!(chain(&error).contains(&attacker.sha256().to_string()));
            let [seen] = front.seen_of(1).await.try_into().unwrap();
            assert!(seen.handshake, "the pin is checked after the handshake");
            assert_eq!((seen.bytes, seen.client), (0, None), "{asks:?}");
        }
    }
}

#[tokio::test]
async fn pin_is_checked_in_addition_to_authorities() {
    let victim = Victim::new();
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::root("Root");
    let (gateway, attacker) = (
        root.issue(&params("127.0.0.1")),
        root.issue(&params("127.0.0.1")),
    );
    let ca_file = written(folder.path(), "ca.pem", root.certificate());
    for (shown, pin, well) in [(&gateway, &gateway, true), (&attacker, &gateway, false)] {
        let front = Front::start(Behaviour::of_service_fabric(
            shown,
            &[&victim.client],
            VERSION,
        ));
        let trust = Trust::Authorities {
            ca_file: Some(ca_file.clone()),
            server_name: None,
            thumbprints: vec![pin.sha256()],
        };
        let answer = victim.client_of(front.url(), trust).cluster_version().await;
        assert_eq!(answer.is_ok(), well);
        assert_eq!(front.seen_of(1).await[0].bytes > 0, well);
    }
}

#[tokio::test]
async fn attacker_on_a_later_connection_receives_nothing() {
    let (victim, gateway, attacker) = (Victim::new(), self_signed("node"), self_signed("node"));
    for auth in [victim.auth.clone(), victim.token()] {
        let shows = [&gateway, &gateway, &attacker, &gateway];
        let front = Front::start(Behaviour {
            closes: true,
            shows: shows.into_iter().cloned().collect(),
            ..Behaviour::of_service_fabric(&gateway, &[&victim.client], VERSION)
        });
        let client = client_of(front.url(), pins(vec![gateway.sha256()]), auth, None);
        let mut outcomes = Vec::new();
        for _ in shows {
            outcomes.push(client.cluster_version().await.is_ok());
        }
        assert_eq!(outcomes, [true, true, false, true]);
        let bytes: Vec<_> = front
            .seen_of(4)
            .await
            .iter()
            .map(|seen| seen.bytes > 0)
            .collect();
        assert_eq!(bytes, outcomes);
    }
}

#[tokio::test]
async fn server_of_an_unknown_authority_receives_nothing() {
    let victim = Victim::new();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = written(
        folder.path(),
        "ca.pem",
        Authority::root("Root").certificate(),
    );
    let attacker = Authority::root("Root").issue(&params("127.0.0.1"));
    for ca_file in [Some(ca_file), None] {
        let trust = Trust::Authorities {
            ca_file,
            server_name: None,
            thumbprints: vec![attacker.sha256()],
        };
        assert_receives_nothing(&victim, &attacker, &trust).await;
    }
}

#[tokio::test]
async fn server_with_another_name_receives_nothing() {
    let victim = Victim::new();
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::root("Root");
    let trust = Trust::Authorities {
        ca_file: Some(written(folder.path(), "ca.pem", root.certificate())),
        server_name: Some("prod.example.com".parse().unwrap()),
        thumbprints: Vec::new(),
    };
    for attacker in [
        root.issue(&params("127.0.0.1")),
        root.issue(&params("test.example.com")),
        Authority::root("Root").issue(&params("prod.example.com")),
    ] {
        assert_receives_nothing(&victim, &attacker, &trust).await;
    }
}

/// The attacker receives neither a request nor a client certificate, and there is only one
/// connection.
async fn assert_receives_nothing(victim: &Victim, attacker: &Pair, trust: &Trust) {
    for auth in [victim.auth.clone(), victim.token()] {
        for asks in [Asks::AtFirst, Asks::Later] {
            let front = Front::start(Behaviour {
                asks,
                ..Behaviour::of_service_fabric(attacker, &[], VERSION)
            });
            let client = client_of(front.url(), trust.clone(), auth.clone(), None);
            let error = client.cluster_version().await.unwrap_err();
            assert!(is_tls(&error), "{}", chain(&error));
            let [seen] = front.seen_of(1).await.try_into().unwrap();
            assert!(!seen.handshake, "{asks:?}");
            assert_eq!((seen.bytes, seen.client), (0, None), "{asks:?}");
        }
    }
}

/// Presents a certificate and signs with the key of another one.
#[derive(Debug)]
struct Replay(Arc<CertifiedKey>);

impl ResolvesServerCert for Replay {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A server with the certificate of `victim` and another key, and the application bytes that it
/// received.
fn replaying(
    victim: &Pair,
    own: &Pair,
    version: &'static SupportedProtocolVersion,
) -> (SocketAddr, Arc<Mutex<Vec<usize>>>) {
    let certificate = CertificateDer::from_pem_slice(victim.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Replay(Arc::new(CertifiedKey::new(
            vec![certificate],
            key,
        )))));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, counts) = (listener.local_addr().unwrap(), Arc::default());
    let counted: Arc<Mutex<Vec<usize>>> = Arc::clone(&counts);
    thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut received = Vec::new();
            // Ends when the client closes the connection.
            rustls::Stream::new(&mut tls, &mut tcp)
                .read_to_end(&mut received)
                .ok();
            counted.lock().unwrap().push(received.len());
        }
    });
    (address, counts)
}

#[tokio::test]
async fn server_without_the_key_of_the_pinned_certificate_receives_nothing() {
    let (gateway, attacker) = (self_signed("node"), self_signed("node"));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for trust in [pins(vec![gateway.sha256()]), Trust::Insecure] {
            let (address, counts) = replaying(&gateway, &attacker, version);
            let url = format!("https://{address}").parse().unwrap();
            let newest = Some(TlsVersion::V1_3);
            let client = client_of(url, trust, Auth::Anonymous, newest);
            let error = client.cluster_version().await.unwrap_err();
            assert!(is_tls(&error), "{}", chain(&error));
            let counted = eventually("the connection to the attacker is closed", async || {
                counts.lock().unwrap().first().copied()
            });
            assert_eq!(counted.await, 0, "{version:?}");
        }
    }
}

/// A server that counts the bytes of all connections.
fn eavesdropper() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::default());
    let counted: Arc<AtomicUsize> = Arc::clone(&heard);
    thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let mut bytes = [0; 4096];
            let length = tcp.read(&mut bytes).unwrap_or(1).max(1);
            counted.fetch_add(length, Ordering::SeqCst);
        }
    });
    (address, heard)
}

#[tokio::test]
async fn redirect_to_http_is_not_followed() {
    let (victim, gateway) = (Victim::new(), self_signed("node"));
    let (address, heard) = eavesdropper();
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{address}/\r\nContent-Length: 0\r\n\r\n");
    let backend = Backend::Raw(redirect.leak());
    for auth in [victim.auth.clone(), victim.token()] {
        let front = Front::start(Behaviour::of_service_fabric(
            &gateway,
            &[&victim.client],
            backend.clone(),
        ));
        let client = client_of(front.url(), pins(vec![gateway.sha1()]), auth, None);
        let error = client.cluster_version().await.unwrap_err();
        assert_eq!(error.reason(), Reason::Api, "{}", chain(&error));
        assert_eq!(front.seen()[0].requests, 1);
    }
    assert_eq!(heard.load(Ordering::SeqCst), 0);
}

#[test]
fn proxy_in_the_environment_receives_nothing() {
    let (address, heard) = eavesdropper();
    let proxy = format!("http://{address}");
    // In a separate process, because all threads share the environment.
    let test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls_attacks::behind_a_proxy", "--ignored"])
        .envs(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, &proxy)))
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&test.stdout);
    assert!(
        test.status.success() && output.contains("1 passed"),
        "{output}"
    );
    assert_eq!(heard.load(Ordering::SeqCst), 0);
}

#[tokio::test]
#[ignore = "runs behind a proxy, as part of another test"]
async fn behind_a_proxy() {
    let (victim, gateway) = (Victim::new(), self_signed("node"));
    let front = Front::start(Behaviour::of_service_fabric(
        &gateway,
        &[&victim.client],
        VERSION,
    ));
    let client = victim.client_of(front.url(), pins(vec![gateway.sha256()]));
    client.cluster_version().await.unwrap();
}
