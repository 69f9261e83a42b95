//! The client of a gateway in TLS: whom it believes, what it shows, and what it says when that
//! does not work.
//!
//! The gateways here are OpenSSL in front of a canned answer, and behave as those of Service
//! Fabric do: they ask for the certificate in the middle of a connection.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use openssl::ssl::SslVersion;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use servicefabric_backup_exporter::gateway::{Gateway, Options, Reason};
use servicefabric_backup_exporter::logging::chain;
use servicefabric_backup_exporter::settings::{
    Auth, ClientCertificate, HostName, Security, TlsVersion, TokenSource, Trust,
};
use servicefabric_backup_exporter::telemetry::Telemetry;
use tempfile::TempDir;
use url::Url;

use crate::support::certificates::{
    Authority, Pair, between, params, params_of_a_common_name, self_signed, self_signed_as, written,
};
use crate::support::renegotiation::{Asks, Backend, Behaviour, Front, Strangers};

const VERSION: Backend = Backend::Body(r#"{"Version":"6.4.514.9494"}"#);

fn gateway(endpoints: Vec<Url>, security: Security) -> Gateway {
    let options = Options {
        cluster: "test".into(),
        endpoints,
        timeout: Duration::from_secs(30),
        concurrency: 64,
        security,
        fabric_identity: None,
    };
    Gateway::new(options, Arc::new(Telemetry::default())).unwrap()
}

fn pinned(server: &Pair) -> Trust {
    Trust::Thumbprints {
        thumbprints: vec![server.sha256()],
        accept_expired: false,
    }
}

fn authorities(ca_file: PathBuf, server_name: Option<&str>) -> Trust {
    Trust::Authorities {
        ca_file: Some(ca_file),
        server_name: server_name.map(|name| name.parse::<HostName>().unwrap()),
        thumbprints: Vec::new(),
    }
}

/// Shows the certificate of `client`, which is written into `folder`.
fn showing(client: &Pair, folder: &Path) -> Auth {
    Auth::ClientCertificate(ClientCertificate::Pem {
        cert_file: written(folder, "client.pem", &client.certificate),
        key_file: written(folder, "client.key", &client.key),
    })
}

fn security(trust: Trust, auth: Auth) -> Security {
    Security {
        trust,
        auth,
        tls_max_version: None,
    }
}

/// The reason and the whole text of the failure of a call.
async fn failure(gateway: &Gateway) -> (Reason, String) {
    let error = gateway.cluster_version().await.unwrap_err();
    (error.reason(), chain(&error))
}

/// Fails with reason `tls` and says `told`.
async fn assert_told(gateway: &Gateway, told: &str) {
    let (reason, text) = failure(gateway).await;
    assert_eq!(reason, Reason::Tls, "{text}");
    assert!(text.contains(told), "{told}: {text}");
    assert!(!gateway.native_access());
    assert_eq!(gateway.backup_service(), None);
}

/// A gateway double, a client that it knows, and a folder for the client's files.
struct Scene {
    server: Pair,
    client: Pair,
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self {
            server: self_signed("127.0.0.1"),
            client: self_signed("exporter"),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn manner(&self) -> Behaviour {
        Behaviour::of_service_fabric(&self.server, &[&self.client], VERSION)
    }

    /// The client that pins the server and shows itself.
    fn gateway(&self, front: &Front) -> Gateway {
        let auth = showing(&self.client, self.folder.path());
        gateway(vec![front.url()], security(pinned(&self.server), auth))
    }

    fn anonymous(&self, front: &Front) -> Gateway {
        let trust = pinned(&self.server);
        gateway(vec![front.url()], security(trust, Auth::Anonymous))
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_whenever_it_is_asked_for_and_once_per_connection() {
    for (asks, renegotiations) in [(Asks::AtFirst, 0), (Asks::Later, 1)] {
        let scene = Scene::new();
        let front = Front::start(Behaviour {
            asks,
            ..scene.manner()
        });
        let gateway = scene.gateway(&front);
        for _ in 0..3 {
            assert_eq!(gateway.cluster_version().await.unwrap(), "6.4.514.9494");
        }
        let [seen] = front.seen().try_into().unwrap();
        assert_eq!(seen.requests, 3, "{asks:?}");
        assert_eq!(seen.renegotiations, renegotiations, "{asks:?}");
        assert_eq!(seen.client.as_deref(), Some("exporter"), "{asks:?}");
    }
}

#[tokio::test]
async fn many_requests_at_once_renegotiate_once_per_connection() {
    let scene = Scene::new();
    let front = Front::start(scene.manner());
    let gateway = scene.gateway(&front);
    for _ in 0..2 {
        for answer in join_all((0..64).map(|_| gateway.cluster_version())).await {
            answer.unwrap();
        }
    }
    let seen = front.seen();
    // A few more than 64, because some are not yet free again when the second round begins.
    assert!(seen.len() < 100, "{} connections", seen.len());
    assert_eq!(seen.iter().map(|seen| seen.requests).sum::<usize>(), 128);
    let used = seen.iter().filter(|seen| seen.requests > 0);
    assert!(
        used.clone().all(|seen| seen.renegotiations == 1),
        "{seen:?}"
    );
}

#[tokio::test]
async fn version_1_3_is_spoken_only_when_it_is_written_down() {
    let scene = Scene::new();
    let both = || Behaviour {
        newest: SslVersion::TLS1_3,
        ..scene.manner()
    };
    // A gateway that speaks 1.3 could not ask any more.
    let front = Front::start(both());
    scene.gateway(&front).cluster_version().await.unwrap();
    assert_eq!(front.seen()[0].renegotiations, 1);
    let exclusive = Front::start(Behaviour {
        asks: Asks::AtFirst,
        oldest: SslVersion::TLS1_3,
        ..both()
    });
    let token = written(scene.folder.path(), "token", "t1");
    for auth in [
        showing(&scene.client, scene.folder.path()),
        Auth::Token(TokenSource::File(token)),
    ] {
        let usual = security(pinned(&scene.server), auth);
        let lifted = Security {
            tls_max_version: Some(TlsVersion::V1_3),
            ..usual.clone()
        };
        let ask = |security| gateway(vec![exclusive.url()], security);
        assert_told(&ask(usual), "no common TLS version").await;
        ask(lifted).cluster_version().await.unwrap();
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_know_the_certificate_is_told_with_its_thumbprint() {
    let scene = Scene::new();
    let front = Front::start(Behaviour {
        known: Vec::new(),
        ..scene.manner()
    });
    let (reason, text) = failure(&scene.gateway(&front)).await;
    assert_eq!(reason, Reason::Forbidden, "{text}");
    let thumbprint = scene.client.sha1().to_string();
    assert!(
        text.contains(&thumbprint) && text.contains("read-only client"),
        "{text}"
    );
    let (reason, text) = failure(&scene.anonymous(&front)).await;
    assert_eq!(reason, Reason::Forbidden, "{text}");
    assert!(text.contains("configure auth.client_certificate"), "{text}");
}

#[tokio::test]
async fn a_gateway_that_wants_windows_authentication_is_told() {
    let scene = Scene::new();
    let answer =
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n";
    let front = Front::start(Behaviour {
        asks: Asks::Never,
        backend: Backend::Raw(answer),
        ..scene.manner()
    });
    let (reason, text) = failure(&scene.anonymous(&front)).await;
    assert_eq!(reason, Reason::Forbidden, "{text}");
    assert!(text.contains("Windows authentication"), "{text}");
}

#[tokio::test]
async fn a_gateway_that_cuts_strangers_off_is_told_apart_from_one_that_is_not_there() {
    let scene = Scene::new();
    for asks in [Asks::AtFirst, Asks::Later] {
        let front = Front::start(Behaviour {
            asks,
            strangers: Strangers::Alerted,
            ..scene.manner()
        });
        assert_told(&scene.anonymous(&front), "none is configured").await;
        assert_told(&scene.gateway(&front), "it rejected the client certificate").await;
    }
    let newer = Front::start(Behaviour {
        asks: Asks::AtFirst,
        strangers: Strangers::Alerted,
        newest: SslVersion::TLS1_3,
        ..scene.manner()
    });
    let lifted = Security {
        tls_max_version: Some(TlsVersion::V1_3),
        ..security(pinned(&scene.server), Auth::Anonymous)
    };
    assert_told(&gateway(vec![newer.url()], lifted), "none is configured").await;
}

#[tokio::test]
async fn authorities_of_a_file_vouch_for_names() {
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::root("Root");
    let ca_file = written(folder.path(), "ca.pem", root.certificate());
    let of = |pair: &Pair| {
        let manner = Behaviour::of_service_fabric(pair, &[], VERSION);
        Front::start(Behaviour {
            asks: Asks::Never,
            ..manner
        })
    };
    let ask = |front: &Front, name| {
        let trust = authorities(ca_file.clone(), name);
        gateway(vec![front.url()], security(trust, Auth::Anonymous))
    };
    let by_address = of(&root.issue(&params("127.0.0.1")));
    ask(&by_address, None).cluster_version().await.unwrap();
    for params in [
        params("prod.example.com"),
        params_of_a_common_name("prod.example.com"),
    ] {
        let by_name = of(&root.issue(&params));
        let named = ask(&by_name, Some("prod.example.com"));
        named.cluster_version().await.unwrap();
        assert_told(&ask(&by_name, None), "for another name").await;
        assert_told(
            &ask(&by_name, Some("test.example.com")),
            "trust.server_name",
        )
        .await;
    }
    let stranger = Authority::root("Root").issue(&params("127.0.0.1"));
    let front = of(&stranger);
    assert_told(&ask(&front, None), "trust.ca_file").await;
    let of_the_system = gateway(vec![by_address.url()], Security::default());
    assert_told(&of_the_system, "an unknown authority").await;
}

#[tokio::test]
async fn the_way_to_the_root_must_be_complete() {
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::root("Root");
    let between = root.intermediate("Between");
    let server = between.issue(&params("127.0.0.1"));
    let manner = |intermediate| Behaviour {
        asks: Asks::Never,
        intermediate,
        ..Behaviour::of_service_fabric(&server, &[], VERSION)
    };
    let bare = Front::start(manner(None));
    let whole = Front::start(manner(Some(between.certificate())));
    let alone = written(folder.path(), "between.pem", between.certificate());
    let top = written(folder.path(), "root.pem", root.certificate());
    let both = between.certificate() + &root.certificate();
    let both = written(
        folder.path(),
        "both.pem",
        format!("# Bag Attributes\n{both}"),
    );
    let ask = |front: &Front, file: &PathBuf| {
        let trust = authorities(file.clone(), None);
        gateway(vec![front.url()], security(trust, Auth::Anonymous))
    };
    for (front, file) in [(&bare, &both), (&whole, &both), (&whole, &top)] {
        ask(front, file).cluster_version().await.unwrap();
    }
    assert_told(&ask(&bare, &alone), "chain is incomplete").await;
    assert_told(&ask(&bare, &top), "an unknown authority").await;
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused_and_told() {
    let folder = tempfile::tempdir().unwrap();
    for (from, until, told) in [(-20, -10, "has expired"), (10, 20, "not valid yet")] {
        let server = self_signed_as(&between(params("127.0.0.1"), from, until));
        let front = Front::start(Behaviour {
            asks: Asks::Never,
            ..Behaviour::of_service_fabric(&server, &[], VERSION)
        });
        let file = written(folder.path(), "ca.pem", &server.certificate);
        let verified = security(authorities(file, None), Auth::Anonymous);
        assert_told(&gateway(vec![front.url()], verified), told).await;
        let pinned = |accept_expired| {
            let trust = Trust::Thumbprints {
                thumbprints: vec![server.sha1()],
                accept_expired,
            };
            gateway(vec![front.url()], security(trust, Auth::Anonymous))
        };
        let told = if until < 0 {
            "trust.accept_expired"
        } else {
            "not valid before"
        };
        assert_told(&pinned(false), told).await;
        if until < 0 {
            pinned(true).cluster_version().await.unwrap();
        } else {
            assert_told(&pinned(true), told).await;
        }
    }
}

#[tokio::test]
async fn two_pins_let_a_gateway_change_its_certificate() {
    let scene = Scene::new();
    let next = self_signed("next");
    let front = Front::start(Behaviour {
        closes: true,
        shows: vec![scene.server.clone(), next.clone()],
        ..scene.manner()
    });
    let trust = Trust::Thumbprints {
        thumbprints: vec![scene.server.sha1(), next.sha256()],
        accept_expired: false,
    };
    let auth = showing(&scene.client, scene.folder.path());
    let gateway = gateway(vec![front.url()], security(trust, auth));
    gateway.cluster_version().await.unwrap();
    gateway.cluster_version().await.unwrap();
    assert_eq!(front.seen().len(), 2);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_trusted_is_left_for_one_that_can() {
    let scene = Scene::new();
    let stale = Front::start(Behaviour {
        shows: vec![self_signed("stale")],
        ..scene.manner()
    });
    let front = Front::start(scene.manner());
    let auth = showing(&scene.client, scene.folder.path());
    let endpoints = vec![stale.url(), front.url()];
    let gateway = gateway(endpoints, security(pinned(&scene.server), auth));
    for _ in 0..3 {
        gateway.cluster_version().await.unwrap();
    }
    assert_eq!(stale.seen().len(), 1);
    assert_eq!(front.seen()[0].requests, 3);
}

#[tokio::test]
async fn the_certificate_of_a_gateway_that_was_left_is_not_told_any_more() {
    let scene = Scene::new();
    let lasting = |days| self_signed_as(&between(params("127.0.0.1"), -1, days));
    let (old, new) = (lasting(10), lasting(30));
    let left = Front::start(Behaviour {
        closes: true,
        shows: vec![old.clone(), self_signed("stranger")],
        ..scene.manner()
    });
    let front = Front::start(Behaviour::of_service_fabric(
        &new,
        &[&scene.client],
        VERSION,
    ));
    let trust = Trust::Thumbprints {
        thumbprints: vec![old.sha256(), new.sha256()],
        accept_expired: false,
    };
    let auth = showing(&scene.client, scene.folder.path());
    let gateway = gateway(vec![left.url(), front.url()], security(trust, auth));
    for days in [9, 29] {
        gateway.cluster_version().await.unwrap();
        let expiry = gateway.gateway_certificate_expiry().unwrap();
        let left = expiry - servicefabric_backup_exporter::clock::now();
        assert_eq!(left.num_days(), days);
    }
}

#[tokio::test]
async fn a_backup_service_behind_a_gateway_that_is_not_believed_any_more_is_not_missing() {
    let scene = Scene::new();
    let front = Front::start(Behaviour {
        closes: true,
        shows: vec![scene.server.clone(), self_signed("stranger")],
        ..scene.manner()
    });
    let gateway = scene.gateway(&front);
    gateway.begin_cycle();
    gateway.cluster_version().await.unwrap();
    let error = gateway.policies().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Tls, "{}", chain(&error));
    assert!(gateway.native_access());
    assert_eq!(gateway.backup_service(), None);
}

/// A server that begins an answer in TLS and ends it in the clear.
fn tearing(server: &Pair) -> Url {
    let certificate = CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
            let mut asked = [0; 4096];
            if stream.read(&mut asked).is_ok() {
                let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
                stream.write_all(begun).unwrap();
                stream.flush().unwrap();
                tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
            }
        }
    });
    url.parse().unwrap()
}

#[tokio::test]
async fn tls_that_fails_in_the_middle_of_an_answer_is_a_connection_that_broke_off() {
    let server = self_signed("127.0.0.1");
    let trust = security(pinned(&server), Auth::Anonymous);
    let (reason, text) = failure(&gateway(vec![tearing(&server)], trust)).await;
    assert_eq!(reason, Reason::Connect, "{text}");
    assert!(text.contains("was closed"), "{text}");
}

#[tokio::test]
async fn a_failure_of_trust_is_not_tried_again_at_the_same_endpoint() {
    let scene = Scene::new();
    let stale = Front::start(Behaviour {
        shows: vec![self_signed("stale")],
        ..scene.manner()
    });
    assert_told(&scene.gateway(&stale), "not in trust.thumbprints").await;
    assert_eq!(stale.seen().len(), 1);
}

/// A server that answers the first bytes of every connection with these, and hangs up.
fn answering(bytes: &'static [u8]) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut asked = [0; 4096];
            if connection.read(&mut asked).is_ok() {
                connection.write_all(bytes).ok();
            }
        }
    });
    url.parse().unwrap()
}

#[tokio::test]
async fn sides_that_do_not_speak_the_same_are_told() {
    let scene = Scene::new();
    let ask = |url| gateway(vec![url], security(pinned(&scene.server), Auth::Anonymous));
    let plain = answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    assert_told(&ask(plain), "does not use TLS").await;
    // A hello of TLS 1.2 without a word on renegotiation.
    let mut old = vec![0x16, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3];
    old.extend([7; 32]);
    old.extend([0, 0xC0, 0x2F, 0]);
    let old = answering(old.leak());
    assert_told(&ask(old), "load balancer").await;
    let silent = answering(b"");
    let (reason, text) = failure(&ask(silent)).await;
    assert_eq!(reason, Reason::Connect, "{text}");
}

#[tokio::test]
async fn http_to_a_secured_port_is_told() {
    let url = answering(&[0x15, 3, 3, 0, 2, 2, 70]);
    let plain = url.as_str().replace("https", "http").parse().unwrap();
    let (reason, text) = failure(&gateway(vec![plain], Security::default())).await;
    assert_eq!(reason, Reason::Connect, "{text}");
    assert!(text.contains("write https"), "{text}");
}

#[tokio::test]
async fn what_is_known_of_certificates_is_told() {
    let scene = Scene::new();
    let server = self_signed_as(&between(params("127.0.0.1"), -1, 30));
    let client = self_signed_as(&between(params("exporter"), -10, -1));
    let front = Front::start(Behaviour::of_service_fabric(&server, &[&client], VERSION));
    let auth = showing(&client, scene.folder.path());
    let gateway_of = |trust| gateway(vec![front.url()], security(trust, auth.clone()));
    let gateway = gateway_of(pinned(&server));
    assert_eq!(gateway.gateway_certificate_expiry(), None);
    gateway.cluster_version().await.unwrap();
    let days = |moment: chrono::DateTime<chrono::Utc>| {
        (moment - servicefabric_backup_exporter::clock::now()).num_hours()
    };
    assert_eq!(days(gateway.gateway_certificate_expiry().unwrap()), 719);
    assert_eq!(days(gateway.client_certificate_expiry().unwrap()), -24);
    assert_eq!(gateway.is_insecure(), Some(false));
    let [warning] = gateway.warnings().try_into().unwrap();
    assert!(warning.contains("has expired"), "{warning}");
    let insecure = gateway_of(Trust::Insecure);
    insecure.cluster_version().await.unwrap();
    assert_eq!(insecure.is_insecure(), Some(true));
    assert!(insecure.warnings()[0].contains("trust.insecure"));
}
