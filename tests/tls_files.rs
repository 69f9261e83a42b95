//! Files with certificates and keys: accepted formats, error messages, and rotation at runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::ec::EcKey;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::{X509, X509NameBuilder};
use servicefabric_backup_exporter::gateway::{BuildError, Gateway, Options, Reason, Rotation};
use servicefabric_backup_exporter::logging::chain;
use servicefabric_backup_exporter::settings::{Auth, ClientCertificate, Security, Trust};
use servicefabric_backup_exporter::telemetry::Telemetry;
use tempfile::TempDir;
use url::Url;

use crate::support::certificates::{
    Authority, Pair, between, params, self_signed, self_signed_as, written,
};
use crate::support::encodings::saved_by_windows;
use crate::support::renegotiation::{Asks, Backend, Behaviour, Front};

const VERSION: Backend = Backend::Body(r#"{"Version":"6.4.514.9494"}"#);

/// Part of every password; must not occur in any message.
const CANARY: &str = "hunter2";

fn build(url: Url, trust: Trust, auth: Auth) -> Result<Gateway, BuildError> {
    let options = Options {
        cluster: "test".into(),
        endpoints: vec![url],
        timeout: Duration::from_secs(30),
        concurrency: 8,
        security: Security {
            trust,
            auth,
            tls_max_version: None,
        },
        fabric_identity: None,
    };
    Gateway::new(options, Arc::new(Telemetry::default()))
}

fn pinned(server: &Pair) -> Trust {
    Trust::Thumbprints {
        thumbprints: vec![server.sha256()],
        accept_expired: false,
    }
}

/// The certificate of a gateway, and a directory with the files of a client.
struct Fixture {
    server: Pair,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self {
            server: self_signed("127.0.0.1"),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        written(self.folder.path(), name, contents)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pem(&self) -> Auth {
        Auth::ClientCertificate(ClientCertificate::Pem {
            cert_file: self.file("client.pem"),
            key_file: self.file("client.key"),
        })
    }

    fn pfx(&self, password: bool) -> Auth {
        Auth::ClientCertificate(ClientCertificate::Pfx {
            pfx_file: self.file("client.pfx"),
            password_file: password.then(|| self.file("password")),
        })
    }

    /// A gateway with these registered clients.
    fn front(&self, known: &[&Pair]) -> Front {
        Front::start(Behaviour::of_service_fabric(&self.server, known, VERSION))
    }

    fn client_of(&self, front: &Front, auth: Auth) -> Gateway {
        build(front.url(), pinned(&self.server), auth).unwrap()
    }
}

/// The error for files that cannot be used.
fn error_of(trust: Trust, auth: Auth) -> String {
    let url = "https://127.0.0.1:1".parse().unwrap();
    let error = build(url, trust, auth).unwrap_err();
    assert!(matches!(error, BuildError::Files(_)), "{error:?}");
    format!("{}\n{error:?}", chain(&error))
}

fn pfx(pair: &Pair, password: &str, cipher: Option<Nid>) -> Vec<u8> {
    let certificate = X509::from_pem(pair.certificate.as_bytes()).unwrap();
    let key = PKey::private_key_from_pem(pair.key.as_bytes()).unwrap();
    let mut pfx = Pkcs12::builder();
    pfx.name("exporter").cert(&certificate).pkey(&key);
    if let Some(cipher) = cipher {
        pfx.key_algorithm(cipher).cert_algorithm(cipher);
        pfx.mac_md(MessageDigest::sha1());
    }
    pfx.build2(password).unwrap().to_der().unwrap()
}

/// A certificate for a key type that rcgen does not support.
fn certificate_of(key: &PKey<Private>) -> Pair {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "exporter").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(key).unwrap();
    let (from, until) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(1));
    certificate.set_not_before(&from.unwrap()).unwrap();
    certificate.set_not_after(&until.unwrap()).unwrap();
    certificate.sign(key, MessageDigest::sha256()).unwrap();
    let certificate = certificate.build();
    Pair {
        certificate: String::from_utf8(certificate.to_pem().unwrap()).unwrap(),
        key: String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap(),
        der: certificate.to_der().unwrap(),
    }
}

#[tokio::test]
async fn common_key_types_are_accepted() {
    let p521 = openssl::ec::EcGroup::from_curve_name(Nid::SECP521R1).unwrap();
    let keys = [
        PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
        PKey::from_ec_key(EcKey::generate(&p521).unwrap()).unwrap(),
    ];
    for key in &keys {
        let (fixture, client) = (Fixture::new(), certificate_of(key));
        fixture.write("client.pem", &client.certificate);
        fixture.write("client.key", &client.key);
        let gateway = fixture.client_of(&fixture.front(&[&client]), fixture.pem());
        gateway.cluster_version().await.unwrap();
    }
}

#[tokio::test]
async fn pem_sections_are_found_in_any_order() {
    let (fixture, client) = (Fixture::new(), self_signed("exporter"));
    let root = Authority::root("Root").certificate();
    let attributes = "Bag Attributes\r\n    friendlyName: gr\u{fc}n\r\nsubject=/CN=exporter\r\n";
    let (certificate, key) = (&client.certificate, &client.key);
    for text in [
        format!("{certificate}{key}"),
        format!("{key}{certificate}{root}"),
        format!("{attributes}{certificate}{attributes}{root}{attributes}{key}"),
        format!("{key}{certificate}").replace('\n', "\r\n"),
    ] {
        let file = fixture.write("all.pem", &text);
        let auth = Auth::ClientCertificate(ClientCertificate::Pem {
            cert_file: file.clone(),
            key_file: file,
        });
        let front = fixture.front(&[&client]);
        let gateway = fixture.client_of(&front, auth);
        gateway.cluster_version().await.unwrap();
        assert!(gateway.client_certificate_expiry().is_some());
        assert_eq!(front.seen()[0].client.as_deref(), Some("exporter"));
    }
}

#[tokio::test]
async fn current_and_windows_pfx_files_are_accepted() {
    let (fixture, client) = (
        Fixture::new(),
        self_signed_as(&between(params("exporter"), -1, 9)),
    );
    let of_windows = Some(Nid::PBE_WITHSHA1AND3_KEY_TRIPLEDES_CBC);
    for (password, cipher) in [
        (CANARY, None),
        (CANARY, of_windows),
        ("gr\u{fc}n und blau", None),
        ("", None),
        ("", of_windows),
    ] {
        fixture.write("client.pfx", pfx(&client, password, cipher));
        fixture.write("password", format!("{password}\r\n"));
        let front = fixture.front(&[&client]);
        let gateway = fixture.client_of(&front, fixture.pfx(!password.is_empty()));
        gateway.cluster_version().await.unwrap();
        let expiry = gateway.client_certificate_expiry().unwrap();
        let left = expiry - servicefabric_backup_exporter::clock::now();
        assert_eq!(left.num_days(), 8);
        assert!(!format!("{gateway:?}").contains(CANARY));
    }
}

#[tokio::test]
async fn windows_encodings_and_line_breaks_are_accepted() {
    let (fixture, client) = (Fixture::new(), self_signed("exporter"));
    let authority = Authority::root("Root");
    let server = authority.issue(&params("127.0.0.1"));
    fixture.write("client.pfx", pfx(&client, CANARY, None));
    for encoding in 0..3 {
        let write = |name: &str, text: &str| {
            fixture.write(name, &saved_by_windows(text)[encoding]);
        };
        write("client.pem", &client.certificate);
        write("client.key", &client.key);
        write("ca.pem", &authority.certificate());
        write("password", &format!("{CANARY}\n\n"));
        let trust = Trust::Authorities {
            ca_file: Some(fixture.file("ca.pem")),
            server_name: None,
            thumbprints: Vec::new(),
        };
        let manner = Behaviour::of_service_fabric(&server, &[&client], VERSION);
        let front = Front::start(manner);
        for auth in [fixture.pem(), fixture.pfx(true)] {
            let gateway = build(front.url(), trust.clone(), auth).unwrap();
            gateway.cluster_version().await.unwrap();
        }
    }
}

/// The lines of a key, which must not occur in a message.
fn lines(key: &str) -> impl Iterator<Item = &str> {
    key.lines()
        .filter(|line| line.len() > 20 && !line.starts_with('-'))
}

#[test]
fn invalid_keys_are_reported_with_the_command_that_converts_them() {
    let fixture = Fixture::new();
    let rsa = Rsa::generate(2048).unwrap();
    let ec = EcKey::private_key_from_pem(self_signed("a").key.as_bytes()).unwrap();
    let whole = PKey::from_rsa(rsa.clone()).unwrap();
    let client = certificate_of(&whole);
    let cipher = Cipher::aes_128_cbc();
    let encrypted = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    let secret = CANARY.as_bytes();
    let command = "openssl pkcs8 -topk8 -nodes";
    let cases = [
        (
            encrypted(rsa.private_key_to_pem().unwrap()),
            "PKCS#1",
            command,
        ),
        (encrypted(ec.private_key_to_pem().unwrap()), "SEC1", command),
        (
            encrypted(
                whole
                    .private_key_to_pem_pkcs8_passphrase(cipher, secret)
                    .unwrap(),
            ),
            "an encrypted key",
            command,
        ),
        (
            encrypted(rsa.private_key_to_pem_passphrase(cipher, secret).unwrap()),
            "an encrypted key",
            command,
        ),
        (
            self_signed("b").key,
            "the key of another certificate",
            "cert_file",
        ),
        (client.certificate.clone(), "no private key", "key_file"),
        (CANARY.to_owned(), "no private key", "key_file"),
        (client.key.replace("MII", "MIJ"), "cannot be read", ""),
        (client.key.replacen('\n', "\n?", 2), "cannot be read", ""),
        (String::new(), "is empty", ""),
    ];
    fixture.write("client.pem", &client.certificate);
    for (key, expected, solution) in cases {
        let file = fixture.write("client.key", &key);
        let error = error_of(pinned(&fixture.server), fixture.pem());
        assert!(error.contains(&file.display().to_string()), "{error}");
        assert!(
            error.contains(expected) && error.contains(solution),
            "{expected}: {error}"
        );
        assert!(!error.contains(CANARY), "{error}");
        assert!(!lines(&key).any(|line| error.contains(line)), "{error}");
    }
}

#[test]
fn error_of_the_tls_library_is_reported() {
    let fixture = Fixture::new();
    let weak = certificate_of(&PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap());
    fixture.write("client.pem", &weak.certificate);
    fixture.write("client.key", &weak.key);
    let url = "https://127.0.0.1:1".parse().unwrap();
    let error = build(url, pinned(&fixture.server), fixture.pem()).unwrap_err();
    let BuildError::Identity { source, .. } = &error else {
        panic!("{error:?}");
    };
    let expected = chain(&error);
    assert!(
        expected.contains("client.pem: is not accepted by the TLS library"),
        "{expected}"
    );
    assert!(expected.contains(&chain(source)), "{expected}");
}

#[test]
fn all_errors_are_reported_together() {
    let fixture = Fixture::new();
    fixture.write("client.pem", "no PEM");
    let trust = Trust::Authorities {
        ca_file: Some(fixture.write("ca.pem", [0x30, 0x82, 1])),
        server_name: None,
        thumbprints: Vec::new(),
    };
    let missing = error_of(trust.clone(), fixture.pem());
    assert!(
        missing.contains("client.key: cannot be read: No such file"),
        "{missing}"
    );
    fixture.write("client.key", "no PEM");
    let error = error_of(trust.clone(), fixture.pem());
    for expected in [
        "ca.pem: holds no certificate in PEM",
        "client.pem: holds no certificate in PEM",
        "client.key: holds no private key",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    fs::remove_file(fixture.file("client.key")).unwrap();
    fs::create_dir(fixture.file("client.key")).unwrap();
    fs::remove_file(fixture.file("ca.pem")).unwrap();
    let error = error_of(trust, fixture.pem());
    assert!(error.contains("ca.pem: cannot be read"), "{error}");
    assert!(error.contains("client.key: is not a file"), "{error}");
}

#[test]
fn malformed_certificate_is_reported() {
    let (fixture, client) = (Fixture::new(), self_signed("exporter"));
    fixture.write("client.key", &client.key);
    let hello = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n";
    for text in [hello, broken] {
        fixture.write("client.pem", text);
        let trust = Trust::Authorities {
            ca_file: Some(fixture.write("ca.pem", format!("{}{text}", client.certificate))),
            server_name: None,
            thumbprints: Vec::new(),
        };
        let error = error_of(trust, fixture.pem());
        for file in ["ca.pem", "client.pem"] {
            let expected = format!("{file}: holds a certificate that cannot be read");
            assert!(error.contains(&expected), "{error}");
        }
    }
}

/// A PFX with only the certificate, and one with only the key.
fn halves(pair: &Pair) -> (Vec<u8>, Vec<u8>) {
    let certificate = X509::from_pem(pair.certificate.as_bytes()).unwrap();
    let key = PKey::private_key_from_pem(pair.key.as_bytes()).unwrap();
    let without_key = Pkcs12::builder().cert(&certificate).build2(CANARY);
    let without_certificate = Pkcs12::builder().pkey(&key).build2(CANARY);
    let der = |pfx: Pkcs12| pfx.to_der().unwrap();
    (der(without_key.unwrap()), der(without_certificate.unwrap()))
}

#[test]
fn invalid_pfx_is_reported_with_a_solution() {
    let (fixture, client) = (Fixture::new(), self_signed("exporter"));
    let good = pfx(&client, CANARY, None);
    let old = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/rc2.pfx")).unwrap();
    let (without_key, without_certificate) = halves(&client);
    let cases = [
        (
            good.clone(),
            Some("wrong"),
            "cannot be opened with this password",
        ),
        (
            good.clone(),
            None,
            "cannot be opened with the empty password",
        ),
        (
            good.clone(),
            Some(""),
            "password: has no UTF-8 text on its first line",
        ),
        (
            good[..good.len() - 9].to_vec(),
            Some(CANARY),
            "is not a PFX",
        ),
        (
            client.combined().into_bytes(),
            Some(CANARY),
            "cert_file and key_file",
        ),
        (
            old,
            Some(CANARY),
            "openssl pkcs12 -legacy -in old.pfx -nodes",
        ),
        (
            without_key,
            Some(CANARY),
            "holds no private key together with its certificate",
        ),
        (
            without_certificate,
            Some(CANARY),
            "holds no private key together with its certificate",
        ),
        (Vec::new(), Some(CANARY), "is empty"),
    ];
    for (contents, password, expected) in cases {
        fixture.write("client.pfx", contents);
        fixture.write("password", format!("{}\n", password.unwrap_or_default()));
        let error = error_of(pinned(&fixture.server), fixture.pfx(password.is_some()));
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(
            !error.contains(CANARY) && !error.contains("wrong\n"),
            "{error}"
        );
    }
}

/// The outcome of a refresh as a word.
async fn refresh(gateway: &Gateway) -> &'static str {
    match gateway.refresh().await {
        None => "nothing",
        Some(Rotation::Reloaded) => "renewed",
        Some(Rotation::Recovered) => "mended",
        Some(Rotation::Failed(_)) => "refused",
    }
}

#[tokio::test]
async fn new_client_certificate_is_used_on_new_connections() {
    let (fixture, old, new) = (Fixture::new(), self_signed("old"), self_signed("new"));
    let front = fixture.front(&[&old, &new]);
    fixture.write("client.pem", &old.certificate);
    fixture.write("client.key", &old.key);
    fixture.write("client.pfx", pfx(&old, CANARY, None));
    fixture.write("password", CANARY);
    let by_pem = fixture.client_of(&front, fixture.pem());
    let by_pfx = fixture.client_of(&front, fixture.pfx(true));
    for gateway in [&by_pem, &by_pfx] {
        assert_eq!(refresh(gateway).await, "nothing");
        gateway.cluster_version().await.unwrap();
    }
    fixture.write("client.pem", &new.certificate);
    fixture.write("client.key", &new.key);
    fixture.write("client.pfx", pfx(&new, "another", None));
    fixture.write("password", "another");
    for gateway in [&by_pem, &by_pfx] {
        gateway.cluster_version().await.unwrap();
        assert_eq!(refresh(gateway).await, "renewed");
        assert_eq!(refresh(gateway).await, "nothing");
        gateway.cluster_version().await.unwrap();
    }
    let seen = front.seen();
    let clients: Vec<_> = seen.iter().map(|seen| seen.client.as_deref()).collect();
    let requests: Vec<_> = seen.iter().map(|seen| seen.requests).collect();
    assert_eq!(
        clients,
        [Some("old"), Some("old"), Some("new"), Some("new")]
    );
    assert_eq!(requests, [2, 2, 1, 1]);
}

#[tokio::test]
async fn removed_authorities_close_their_connections() {
    let fixture = Fixture::new();
    let (old, new) = (Authority::root("Old"), Authority::root("New"));
    let server = old.issue(&params("127.0.0.1"));
    let front = Front::start(Behaviour {
        asks: Asks::Never,
        ..Behaviour::of_service_fabric(&server, &[], VERSION)
    });
    let trust = Trust::Authorities {
        ca_file: Some(fixture.write("ca.pem", old.certificate())),
        server_name: None,
        thumbprints: Vec::new(),
    };
    let gateway = build(front.url(), trust, Auth::Anonymous).unwrap();
    gateway.cluster_version().await.unwrap();
    fixture.write("ca.pem", new.certificate());
    assert_eq!(refresh(&gateway).await, "renewed");
    let error = gateway.cluster_version().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Tls, "{}", chain(&error));
    // The old connection was closed, the new one rejected.
    let seen = front.seen_of(2).await;
    let requests: Vec<_> = seen.iter().map(|seen| seen.requests).collect();
    assert_eq!(requests, [1, 0]);
    fixture.write("ca.pem", old.certificate() + &new.certificate());
    assert_eq!(refresh(&gateway).await, "renewed");
    gateway.cluster_version().await.unwrap();
}

#[tokio::test]
async fn new_authorities_reset_the_circuit_breaker() {
    let fixture = Fixture::new();
    let front = Front::start(Behaviour {
        asks: Asks::Never,
        ..Behaviour::of_service_fabric(&fixture.server, &[], VERSION)
    });
    let trust = Trust::Authorities {
        ca_file: Some(fixture.write("ca.pem", Authority::root("Other").certificate())),
        server_name: None,
        thumbprints: Vec::new(),
    };
    let gateway = build(front.url(), trust, Auth::Anonymous).unwrap();
    let mut sent = 0;
    while gateway.cluster_version().await.unwrap_err().was_sent() {
        sent += 1;
    }
    assert!(sent < 20, "{sent} calls were sent");
    fixture.write("ca.pem", &fixture.server.certificate);
    assert_eq!(refresh(&gateway).await, "renewed");
    gateway.cluster_version().await.unwrap();
}

#[tokio::test]
async fn invalid_new_file_keeps_the_old_credentials_and_is_reported_once() {
    let (fixture, client) = (Fixture::new(), self_signed("exporter"));
    let front = fixture.front(&[&client]);
    let certificate = fixture.write("client.pem", &client.certificate);
    fixture.write("client.key", &client.key);
    let gateway = fixture.client_of(&front, fixture.pem());
    assert_eq!(gateway.has_good_credentials().await, Some(true));
    fixture.write("client.key", &self_signed("other").key);
    for expected in ["refused", "nothing"] {
        assert_eq!(refresh(&gateway).await, expected);
        assert_eq!(gateway.has_good_credentials().await, Some(false));
        gateway.cluster_version().await.unwrap();
    }
    fs::remove_file(&certificate).unwrap();
    let Some(Rotation::Failed(error)) = gateway.refresh().await else {
        panic!("another error is news");
    };
    assert!(
        error.to_string().contains("client.pem: cannot be read"),
        "{error}"
    );
    fixture.write("client.pem", &client.certificate);
    fixture.write("client.key", &client.key);
    for expected in ["mended", "nothing"] {
        assert_eq!(refresh(&gateway).await, expected);
        assert_eq!(gateway.has_good_credentials().await, Some(true));
    }
    gateway.cluster_version().await.unwrap();
    assert_eq!(front.seen().len(), 1, "nothing was connected anew");
}

#[tokio::test]
async fn valid_certificate_is_not_replaced_by_an_expired_one() {
    let fixture = Fixture::new();
    let valid = self_signed_as(&between(params("exporter"), -1, 1));
    let expired = self_signed_as(&between(params("exporter"), -9, -1));
    let early = self_signed_as(&between(params("exporter"), 1, 9));
    let write = |client: &Pair| {
        fixture.write("client.pem", &client.certificate);
        fixture.write("client.key", &client.key);
    };
    let front = fixture.front(&[&valid]);
    // The start has no valid alternative.
    write(&expired);
    let gateway = fixture.client_of(&front, fixture.pem());
    assert_eq!(gateway.warnings().len(), 1);
    for (client, expected) in [
        (&early, "renewed"),
        (&valid, "renewed"),
        (&expired, "refused"),
        (&early, "nothing"),
        (&valid, "mended"),
    ] {
        write(client);
        assert_eq!(refresh(&gateway).await, expected);
    }
    assert!(gateway.warnings().is_empty());
    gateway.cluster_version().await.unwrap();
}

#[tokio::test]
async fn refresh_without_files_does_nothing() {
    let fixture = Fixture::new();
    let gateway = fixture.client_of(&fixture.front(&[]), Auth::Anonymous);
    assert_eq!(refresh(&gateway).await, "nothing");
    assert_eq!(gateway.has_good_credentials().await, None);
}
