//! TLS: versions, suites, curves, and the certificates of clients.

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
use crate::client::{Http1, Peculiar, Tls};
use crate::{ENCRYPTED, Folder, SHORT, Served, limits, within_deadline};

/// Settings within `tls_server_config`, after certificate and key.
fn with(settings: &str) -> Served {
    Served::start(&format!(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n{settings}"
    ))
}

#[tokio::test]
async fn an_encrypted_page_is_not_served_plainly() {
    let served = Served::start(ENCRYPTED);
    assert_eq!(served.status(None).await, Some(200));
    let mut plain = Http1::plain(served.address).await.unwrap();
    assert!(within_deadline(plain.get("/", None)).await.is_err());
}

#[tokio::test]
async fn certificate_and_key_may_stand_in_the_configuration() {
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
    let served = Served::of(folder, limits());
    assert_eq!(served.status(None).await, Some(200));
}

#[tokio::test]
async fn versions_are_those_of_the_configuration() {
    let newest = |newest| Peculiar {
        newest: Some(newest),
        ..Peculiar::default()
    };
    for (settings, spoken) in [
        ("", &["TLSv1.2", "TLSv1.3"][..]),
        ("  min_version: TLS13\n", &["TLSv1.3"]),
        ("  max_version: TLS12\n", &["TLSv1.2"]),
    ] {
        let served = with(settings);
        assert!(
            newest(SslVersion::TLS1_1)
                .agree(served.address)
                .await
                .is_err()
        );
        for (version, name) in [
            (SslVersion::TLS1_2, "TLSv1.2"),
            (SslVersion::TLS1_3, "TLSv1.3"),
        ] {
            let agreed = newest(version).agree(served.address).await;
            let agreed = agreed.ok().map(|(version, _)| version);
            let lower = spoken.iter().rfind(|spoken| **spoken <= name);
            assert_eq!(agreed.as_deref(), lower.copied(), "{settings}{name}");
        }
    }
}

const AES_128: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";
const AES_256: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";
const BOTH_256_FIRST: &str = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256";

/// The suite agreed on with a client of these suites.
async fn suite(served: &Served, suites: &'static str) -> Option<String> {
    let client = Peculiar {
        newest: Some(SslVersion::TLS1_2),
        suites: Some(suites),
        ..Peculiar::default()
    };
    client
        .agree(served.address)
        .await
        .ok()
        .map(|(_, suite)| suite)
}

#[tokio::test]
async fn suites_are_those_of_the_configuration_in_its_order() {
    let served = with(
        "  cipher_suites:\n  - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n  \
         - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\n  - TLS_RSA_WITH_AES_128_CBC_SHA\n",
    );
    assert_eq!(suite(&served, AES_256).await.as_deref(), Some(AES_256));
    let first = suite(&served, BOTH_256_FIRST).await;
    assert_eq!(first.as_deref(), Some(AES_128), "the order of the server");
    assert_eq!(suite(&served, "ECDHE-ECDSA-CHACHA20-POLY1305").await, None);
    let newest = Peculiar::default().agree(served.address).await.unwrap();
    assert_eq!(newest.0, "TLSv1.3", "its suites are always there");
}

#[tokio::test]
async fn the_order_of_the_client_counts_where_it_is_to() {
    let served = with(
        "  cipher_suites:\n  - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n  \
         - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\n  prefer_server_cipher_suites: false\n",
    );
    let first = suite(&served, BOTH_256_FIRST).await;
    assert_eq!(first.as_deref(), Some(AES_256));
}

#[tokio::test]
async fn curves_are_those_of_the_configuration() {
    let served = with("  curve_preferences: [CurveP384]\n");
    let offering = |curves| Peculiar {
        curves: Some(curves),
        ..Peculiar::default()
    };
    assert!(offering("P-384").agree(served.address).await.is_ok());
    assert!(
        offering("X25519:P-256")
            .agree(served.address)
            .await
            .is_err()
    );
    let any = with("");
    for curve in ["X25519", "P-256", "P-384"] {
        assert!(offering(curve).agree(any.address).await.is_ok(), "{curve}");
    }
    assert!(offering("P-521").agree(any.address).await.is_err());
}

#[tokio::test]
async fn each_way_of_asking_for_a_certificate_lets_in_whom_it_should() {
    let folder = Folder::new("");
    let unknown = Identity::self_signed("unknown");
    let pinned = Identity::self_signed("pinned");
    let signed = folder.authority.signed(&client("signed"));
    let bundle = folder.authority.pem() + &pinned.certificate;
    let identities = [None, Some(&unknown), Some(&pinned), Some(&signed)];
    for (kind, with_authorities, let_in) in [
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
        let served = Served::of(served_folder, limits());
        for (identity, let_in) in identities.iter().zip(let_in) {
            let status = served.status(*identity).await;
            assert_eq!(status, let_in.then_some(200), "{kind} {with_authorities}");
        }
    }
}

/// One who verifies certificates of the authority in `ca.pem`, with more settings.
fn verifying(settings: &str) -> Served {
    with(&format!(
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n{settings}"
    ))
}

#[tokio::test]
async fn an_allowed_name_may_be_of_any_kind() {
    for name in [
        "scraper.example.org",
        "scraper@example.org",
        "spiffe://example.org/scraper",
        "192.0.2.7",
        "2001:db8::7",
        "198.51.100.7",
    ] {
        let served = verifying(&format!("  client_allowed_sans: [other, \"{name}\"]\n"));
        let identity = served
            .folder
            .authority
            .signed(&client("scraper.example.org"));
        assert_eq!(served.status(Some(&identity)).await, Some(200), "{name}");
        let other = Authority::new().signed(&client("scraper.example.org"));
        assert_eq!(served.status(Some(&other)).await, None, "another authority");
    }
}

#[tokio::test]
async fn a_name_that_is_nearly_allowed_is_not() {
    let served = verifying("  client_allowed_sans: [scraper, example.org, \"*\", 192.0.2.70]\n");
    let identity = served
        .folder
        .authority
        .signed(&client("scraper.example.org"));
    assert_eq!(served.status(Some(&identity)).await, None);
}

#[tokio::test]
async fn a_certificate_must_be_valid_now_and_for_clients() {
    let served = verifying("");
    let authority = &served.folder.authority;
    for params in [
        client_in_years("old", 1990, 2000),
        client_in_years("new", 4000, 4001),
        client_for_servers_only("server"),
    ] {
        let identity = authority.signed(&params);
        assert_eq!(served.status(Some(&identity)).await, None, "{params:?}");
    }
}

#[tokio::test]
async fn a_trusted_certificate_of_a_client_must_be_valid_too() {
    let authority = Authority::new();
    for (params, let_in) in [
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
        let served = Served::of(folder, limits());
        let status = served.status(Some(&identity)).await;
        assert_eq!(status, let_in.then_some(200), "{params:?}");
    }
}

#[tokio::test]
async fn an_authority_that_is_not_valid_verifies_nobody() {
    for (first, last, let_in) in [(1990, 2000, false), (1990, 4000, true), (3999, 4000, false)] {
        let authority = Authority::in_years(first, last);
        let served = verifying("");
        served.folder.write("ca.pem", &authority.pem());
        let identity = authority.signed(&client("signed"));
        let status = served.status(Some(&identity)).await;
        assert_eq!(status, let_in.then_some(200), "{first} {last}");
        let status = served.status(Some(&authority.identity())).await;
        assert_eq!(status, let_in.then_some(200), "{first} {last}");
    }
}

#[tokio::test]
async fn a_trusted_certificate_that_is_no_authority_verifies_itself_alone() {
    let served = verifying("");
    let pinned = Authority::presumptuous();
    let bundle = served.folder.authority.pem() + &pinned.pem();
    for bundle in [&bundle, &pinned.pem()] {
        served.folder.write("ca.pem", bundle);
        assert_eq!(served.status(Some(&pinned.identity())).await, Some(200));
        let signed = pinned.signed(&client("signed"));
        assert_eq!(served.status(Some(&signed)).await, None);
    }
}

#[tokio::test]
async fn a_stolen_certificate_without_its_key_is_of_no_use() {
    let served = with("  client_auth_type: RequireAnyClientCert\n");
    let [victim, thief] = ["victim", "thief"].map(Identity::self_signed);
    let forged = Identity::with_key_of(&victim, &thief);
    assert_eq!(served.status(Some(&victim)).await, Some(200));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = served.client(None).with_forged(&forged, version);
        let answer = within_deadline(client.get(served.address, "/", None)).await;
        assert!(answer.is_err(), "{version:?}");
    }
}

#[tokio::test]
async fn sessions_are_not_resumed_where_certificates_are_judged() {
    for version in rustls::ALL_VERSIONS {
        for (served, second) in [
            (verifying(""), HandshakeKind::Full),
            (with(""), HandshakeKind::Resumed),
        ] {
            let authority = &served.folder.authority;
            let identity = authority.signed(&client("signed"));
            let client = Tls::speaking(&[version], authority.der(), Some(&identity));
            for expected in [HandshakeKind::Full, second] {
                let stream = client.connect(served.address).await.unwrap();
                let kind = stream.get_ref().1.handshake_kind();
                assert_eq!(kind, Some(expected), "{version:?}");
                let mut http = Http1::over(stream).await.unwrap();
                assert_eq!(http.get("/", None).await.unwrap().status, 200);
            }
        }
    }
}

#[tokio::test]
async fn allowed_names_count_for_every_certificate_that_is_shown() {
    let [right, wrong] = ["right.example.org", "wrong.example.org"];
    for (kind, unnamed, unverified) in [
        ("RequestClientCert", Some(200), Some(200)),
        ("RequireAnyClientCert", None, Some(200)),
        ("VerifyClientCertIfGiven", Some(200), None),
        ("RequireAndVerifyClientCert", None, None),
    ] {
        let served = with(&format!(
            "  client_auth_type: {kind}\n  client_ca_file: ca.pem\n  \
             client_allowed_sans: [{right}]\n"
        ));
        let authority = &served.folder.authority;
        let signed = |name| authority.signed(&client(name));
        assert_eq!(served.status(None).await, unnamed, "{kind}");
        for (identity, expected) in [
            (signed(right), Some(200)),
            (signed(wrong), None),
            (Identity::self_signed(right), unverified),
            (Identity::self_signed(wrong), None),
        ] {
            assert_eq!(served.status(Some(&identity)).await, expected, "{kind}");
        }
    }
}

#[tokio::test]
async fn what_is_no_file_is_not_waited_for() {
    let folder = Folder::new(ENCRYPTED);
    fs::remove_file(folder.path("server.crt")).unwrap();
    let made = Command::new("mkfifo")
        .arg(folder.path("server.crt"))
        .status();
    assert!(made.unwrap().success());
    let path = folder.path("web.yml");
    let opened = tokio::task::spawn_blocking(move || ReloadableWebConfig::open(&path));
    let told = within_deadline(opened)
        .await
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(told.contains("this is no regular file"), "{told}");
}

#[tokio::test]
async fn a_certificate_that_rustls_cannot_read_is_not_taken_for_a_strange_key() {
    let folder = Folder::new(ENCRYPTED);
    let key = fs::read(folder.path("server.key")).unwrap();
    let key = PKey::private_key_from_pem(&key).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(0).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = builder.build().to_pem().unwrap();
    fs::write(folder.path("server.crt"), certificate).unwrap();
    let told = ReloadableWebConfig::open(&folder.path("web.yml"))
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("cert_file: the first certificate is damaged, or not of X.509 version 3"),
        "{told}"
    );
    assert!(!told.contains("key_file"), "{told}");
}

#[tokio::test]
async fn silent_clients_hold_nobody_up_and_are_closed() {
    let served = Served::limited(
        ENCRYPTED,
        crate::Limits {
            first_request: SHORT * 15,
            ..limits()
        },
    );
    let mut silent = Vec::new();
    for hello in [&b""[..], b"\x16\x03\x01\x02\x00", b"GET / HT"] {
        let stream = TcpStream::connect(served.address).await.unwrap();
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(hello).unwrap(), hello.len());
        silent.push(stream);
    }
    assert_eq!(served.status(None).await, Some(200));
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
        let served = Served::start(&format!("{ENCRYPTED}{settings}"));
        let client = served.client(None).offering(&["h2", "http/1.1"]);
        let stream = client.connect(served.address).await.unwrap();
        let tls = stream.get_ref().1;
        assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    }
}
