//! TLS: versions, cipher suites, curves and client certificates.

use std::fs;
use std::process::Command;

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::ssl::SslVersion;
use openssl::x509::X509;
use rustls::{HandshakeKind, ProtocolVersion};
use servicefabric_backup_exporter::server::web_config::ReloadableWebConfig;
use tokio::net::TcpStream;

use crate::certificates::{Authority, Identity, client, client_for_servers_only, client_in_years};
use crate::client::{Http1, OpenSslClient, Tls};
use crate::{ENCRYPTED, Folder, SHORT, Server, limits, within_deadline};

/// A server with these settings in `tls_server_config`, after certificate and key.
fn with(settings: &str) -> Server {
    Server::start(&format!(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n{settings}"
    ))
}

#[tokio::test]
async fn plain_request_to_a_tls_listener_fails() {
    let server = Server::start(ENCRYPTED);
    assert_eq!(server.status(None).await, Some(200));
    let mut plain = Http1::plain(server.address).await.unwrap();
    assert!(within_deadline(plain.get("/", None)).await.is_err());
}

#[tokio::test]
async fn certificate_and_key_can_be_inline() {
    let folder = Folder::new("");
    let indented = |name| {
        let pem = fs::read_to_string(folder.path(name)).unwrap();
        format!("    {}\n", pem.trim().replace('\n', "\n    "))
    };
    let (certificate, key) = (indented("server.crt"), indented("server.key"));
    folder.write(
        "web.yml",
        &format!("tls_server_config:\n  cert: |\n{certificate}  key: |\n{key}"),
    );
    let server = Server::of(folder, limits());
    assert_eq!(server.status(None).await, Some(200));
}

#[tokio::test]
async fn negotiated_version_is_in_the_configured_range() {
    let newest = |newest| OpenSslClient {
        newest: Some(newest),
        ..OpenSslClient::default()
    };
    for (settings, supported) in [
        ("", &["TLSv1.2", "TLSv1.3"][..]),
        ("  min_version: TLS13\n", &["TLSv1.3"]),
        ("  max_version: TLS12\n", &["TLSv1.2"]),
    ] {
        let server = with(settings);
        assert!(
            newest(SslVersion::TLS1_1)
                .negotiate(server.address)
                .await
                .is_err()
        );
        for (version, name) in [
            (SslVersion::TLS1_2, "TLSv1.2"),
            (SslVersion::TLS1_3, "TLSv1.3"),
        ] {
            let negotiated = newest(version).negotiate(server.address).await;
            let negotiated = negotiated.ok().map(|(version, _)| version);
            let expected = supported.iter().rfind(|version| **version <= name);
            assert_eq!(negotiated.as_deref(), expected.copied(), "{settings}{name}");
        }
    }
}

const AES_128: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";
const AES_256: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";
const BOTH_256_FIRST: &str = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256";

/// The suite negotiated with a client that offers `suites`.
async fn suite(server: &Server, suites: &'static str) -> Option<String> {
    let client = OpenSslClient {
        newest: Some(SslVersion::TLS1_2),
        suites: Some(suites),
        ..OpenSslClient::default()
    };
    client
        .negotiate(server.address)
        .await
        .ok()
        .map(|(_, suite)| suite)
}

#[tokio::test]
async fn configured_suites_are_negotiated_in_their_order() {
    let server = with(
        "  cipher_suites:\n  - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n  \
         - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\n  - TLS_RSA_WITH_AES_128_CBC_SHA\n",
    );
    assert_eq!(suite(&server, AES_256).await.as_deref(), Some(AES_256));
    let first = suite(&server, BOTH_256_FIRST).await;
    assert_eq!(
        first.as_deref(),
        Some(AES_128),
        "the order of the server counts"
    );
    assert_eq!(suite(&server, "ECDHE-ECDSA-CHACHA20-POLY1305").await, None);
    let newest = OpenSslClient::default()
        .negotiate(server.address)
        .await
        .unwrap();
    assert_eq!(newest.0, "TLSv1.3", "suites of TLS 1.3 are always enabled");
}

#[tokio::test]
async fn order_of_the_client_counts_if_configured() {
    let server = with(
        "  cipher_suites:\n  - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n  \
         - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\n  prefer_server_cipher_suites: false\n",
    );
    let first = suite(&server, BOTH_256_FIRST).await;
    assert_eq!(first.as_deref(), Some(AES_256));
}

#[tokio::test]
async fn only_configured_curves_are_negotiated() {
    let server = with("  curve_preferences: [CurveP384]\n");
    let offering = |curves| OpenSslClient {
        curves: Some(curves),
        ..OpenSslClient::default()
    };
    assert!(offering("P-384").negotiate(server.address).await.is_ok());
    assert!(
        offering("X25519:P-256")
            .negotiate(server.address)
            .await
            .is_err()
    );
    let any = with("");
    for curve in ["X25519", "P-256", "P-384"] {
        assert!(
            offering(curve).negotiate(any.address).await.is_ok(),
            "{curve}"
        );
    }
    assert!(offering("P-521").negotiate(any.address).await.is_err());
}

#[tokio::test]
async fn each_client_auth_type_accepts_the_right_clients() {
    let folder = Folder::new("");
    let unknown = Identity::self_signed("unknown");
    let pinned = Identity::self_signed("pinned");
    let signed = folder.authority.signed(&client("signed"));
    let bundle = folder.authority.pem() + &pinned.certificate;
    let identities = [None, Some(&unknown), Some(&pinned), Some(&signed)];
    for (kind, with_authorities, accepted) in [
        ("NoClientCert", false, [true, true, true, true]),
        ("RequestClientCert", false, [true, true, true, true]),
        ("RequireAnyClientCert", false, [false, true, true, true]),
        ("RequireClientCert", false, [false, true, true, true]),
        ("VerifyClientCertIfGiven", true, [true, false, true, true]),
        (
            "RequireAndVerifyClientCert",
            true,
            [false, false, true, true],
        ),
        (
            "VerifyClientCertIfGiven",
            false,
            [true, false, false, false],
        ),
        ("RequireAndVerifyClientCert", false, [false; 4]),
    ] {
        let authorities = if with_authorities {
            "  client_ca_file: bundle.pem\n"
        } else {
            ""
        };
        let served_folder = Folder::new(&format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  \
             client_auth_type: {kind}\n{authorities}"
        ));
        served_folder.write("bundle.pem", &bundle);
        let server = Server::of(served_folder, limits());
        for (identity, accepted) in identities.iter().zip(accepted) {
            let status = server.status(*identity).await;
            assert_eq!(status, accepted.then_some(200), "{kind} {with_authorities}");
        }
    }
}

/// A server that verifies client certificates of the authority in `ca.pem`.
fn verifying(settings: &str) -> Server {
    with(&format!(
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n{settings}"
    ))
}

#[tokio::test]
async fn allowed_name_can_be_of_any_kind() {
    for name in [
        "scraper.example.org",
        "scraper@example.org",
        "spiffe://example.org/scraper",
        "192.0.2.7",
        "2001:db8::7",
        "198.51.100.7",
    ] {
        let server = verifying(&format!("  client_allowed_sans: [other, \"{name}\"]\n"));
        let identity = server
            .folder
            .authority
            .signed(&client("scraper.example.org"));
        assert_eq!(server.status(Some(&identity)).await, Some(200), "{name}");
        let other = Authority::new().signed(&client("scraper.example.org"));
        assert_eq!(server.status(Some(&other)).await, None, "another authority");
    }
}

#[tokio::test]
async fn allowed_names_match_exactly() {
    let server = verifying("  client_allowed_sans: [scraper, example.org, \"*\", 192.0.2.70]\n");
    let identity = server
        .folder
        .authority
        .signed(&client("scraper.example.org"));
    assert_eq!(server.status(Some(&identity)).await, None);
}

#[tokio::test]
async fn client_certificate_must_be_valid_now_and_for_clients() {
    let server = verifying("");
    let authority = &server.folder.authority;
    for params in [
        client_in_years("old", 1990, 2000),
        client_in_years("new", 4000, 4001),
        client_for_servers_only("server"),
    ] {
        let identity = authority.signed(&params);
        assert_eq!(server.status(Some(&identity)).await, None, "{params:?}");
    }
}

#[tokio::test]
async fn pinned_client_certificate_must_be_valid_now_and_for_clients() {
    let authority = Authority::new();
    for (params, accepted) in [
        (client("good"), true),
        (client_in_years("old", 1990, 2000), false),
        (client_in_years("new", 4000, 4001), false),
        (client_for_servers_only("server"), false),
    ] {
        let identity = authority.signed(&params);
        let folder = Folder::new(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  \
             client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: client.crt\n",
        );
        identity.write(folder.folder.path(), "client");
        let server = Server::of(folder, limits());
        let status = server.status(Some(&identity)).await;
        assert_eq!(status, accepted.then_some(200), "{params:?}");
    }
}

#[tokio::test]
async fn expired_or_future_authority_verifies_no_certificate() {
    for (first, last, accepted) in [(1990, 2000, false), (1990, 4000, true), (3999, 4000, false)] {
        let authority = Authority::in_years(first, last);
        let server = verifying("");
        server.folder.write("ca.pem", &authority.pem());
        let identity = authority.signed(&client("signed"));
        let status = server.status(Some(&identity)).await;
        assert_eq!(status, accepted.then_some(200), "{first} {last}");
        let status = server.status(Some(&authority.identity())).await;
        assert_eq!(status, accepted.then_some(200), "{first} {last}");
    }
}

#[tokio::test]
async fn pinned_certificate_that_is_not_an_authority_verifies_only_itself() {
    let server = verifying("");
    let pinned = Authority::not_marked();
    let bundle = server.folder.authority.pem() + &pinned.pem();
    for bundle in [&bundle, &pinned.pem()] {
        server.folder.write("ca.pem", bundle);
        assert_eq!(server.status(Some(&pinned.identity())).await, Some(200));
        let signed = pinned.signed(&client("signed"));
        assert_eq!(server.status(Some(&signed)).await, None);
    }
}

#[tokio::test]
async fn client_without_the_key_of_its_certificate_is_rejected() {
    let server = with("  client_auth_type: RequireAnyClientCert\n");
    let [victim, thief] = ["victim", "thief"].map(Identity::self_signed);
    let forged = Identity::with_key_of(&victim, &thief);
    assert_eq!(server.status(Some(&victim)).await, Some(200));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = server.client(None).with_forged(&forged, version);
        let answer = within_deadline(client.get(server.address, "/", None)).await;
        assert!(answer.is_err(), "{version:?}");
    }
}

#[tokio::test]
async fn sessions_are_not_resumed_if_client_certificates_are_requested() {
    for version in rustls::ALL_VERSIONS {
        for (server, second) in [
            (verifying(""), HandshakeKind::Full),
            (with(""), HandshakeKind::Resumed),
        ] {
            let authority = &server.folder.authority;
            let identity = authority.signed(&client("signed"));
            let client = Tls::with_versions(&[version], authority.der(), Some(&identity));
            for expected in [HandshakeKind::Full, second] {
                let stream = client.connect(server.address).await.unwrap();
                let kind = stream.get_ref().1.handshake_kind();
                assert_eq!(kind, Some(expected), "{version:?}");
                let mut http = Http1::over(stream).await.unwrap();
                assert_eq!(http.get("/", None).await.unwrap().status, 200);
            }
        }
    }
}

#[tokio::test]
async fn allowed_names_apply_to_every_client_certificate() {
    let [right, wrong] = ["right.example.org", "wrong.example.org"];
    for (kind, unnamed, unverified) in [
        ("RequestClientCert", Some(200), Some(200)),
        ("RequireAnyClientCert", None, Some(200)),
        ("VerifyClientCertIfGiven", Some(200), None),
        ("RequireAndVerifyClientCert", None, None),
    ] {
        let server = with(&format!(
            "  client_auth_type: {kind}\n  client_ca_file: ca.pem\n  \
             client_allowed_sans: [{right}]\n"
        ));
        let authority = &server.folder.authority;
        let signed = |name| authority.signed(&client(name));
        assert_eq!(server.status(None).await, unnamed, "{kind}");
        for (identity, expected) in [
            (signed(right), Some(200)),
            (signed(wrong), None),
            (Identity::self_signed(right), unverified),
            (Identity::self_signed(wrong), None),
        ] {
            assert_eq!(server.status(Some(&identity)).await, expected, "{kind}");
        }
    }
}

#[tokio::test]
async fn named_pipe_is_rejected_without_waiting() {
    let folder = Folder::new(ENCRYPTED);
    fs::remove_file(folder.path("server.crt")).unwrap();
    let made = Command::new("mkfifo")
        .arg(folder.path("server.crt"))
        .status();
    assert!(made.unwrap().success());
    let path = folder.path("web.yml");
    let opened = tokio::task::spawn_blocking(move || ReloadableWebConfig::open(&path));
    let error = within_deadline(opened)
        .await
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[tokio::test]
async fn unreadable_certificate_is_not_reported_as_a_wrong_key() {
    let folder = Folder::new(ENCRYPTED);
    let key = fs::read(folder.path("server.key")).unwrap();
    let key = PKey::private_key_from_pem(&key).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(0).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = builder.build().to_pem().unwrap();
    fs::write(folder.path("server.crt"), certificate).unwrap();
    let error = ReloadableWebConfig::open(&folder.path("web.yml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cert_file: the first certificate is invalid or not of X.509 version 3"),
        "{error}"
    );
    assert!(!error.contains("key_file"), "{error}");
}

#[tokio::test]
async fn silent_clients_are_closed_and_delay_no_other_client() {
    let server = Server::limited(
        ENCRYPTED,
        crate::Limits {
            first_request: SHORT * 15,
            ..limits()
        },
    );
    let mut silent = Vec::new();
    for hello in [&b""[..], b"\x16\x03\x01\x02\x00", b"GET / HT"] {
        let stream = TcpStream::connect(server.address).await.unwrap();
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(hello).unwrap(), hello.len());
        silent.push(stream);
    }
    assert_eq!(server.status(None).await, Some(200));
    for stream in silent {
        let closed = async {
            let mut buffer = [0; 64];
            loop {
                stream.readable().await.unwrap();
                match stream.try_read(&mut buffer) {
                    Ok(0) => break,
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                    _ => {}
                }
            }
        };
        within_deadline(closed).await;
    }
}

#[tokio::test]
async fn http_1_1_is_negotiated_whether_http2_is_set_or_not() {
    for settings in [
        "",
        "http_server_config: {http2: true}\n",
        "http_server_config: {http2: false}\n",
    ] {
        let server = Server::start(&format!("{ENCRYPTED}{settings}"));
        let client = server.client(None).offering(&["h2", "http/1.1"]);
        let stream = client.connect(server.address).await.unwrap();
        let tls = stream.get_ref().1;
        assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    }
}
