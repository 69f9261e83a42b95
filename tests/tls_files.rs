//! The files that certificates and keys live in: what is taken, what is refused and how that is
//! told, and what happens when they change while the exporter runs.

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

/// Stands in every password here, and must never be repeated.
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

/// A folder with the files of a client, and the gateway that is to know it.
struct Scene {
    server: Pair,
    folder: TempDir,
}

impl Scene {
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

    /// A gateway that knows these clients.
    fn front(&self, known: &[&Pair]) -> Front {
        Front::start(Behaviour::of_service_fabric(&self.server, known, VERSION))
    }

    fn client_of(&self, front: &Front, auth: Auth) -> Gateway {
        build(front.url(), pinned(&self.server), auth).unwrap()
    }
}

/// What is told of files that cannot be used.
fn fault_of(trust: Trust, auth: Auth) -> String {
    let url = "https://127.0.0.1:1".parse().unwrap();
    let fault = build(url, trust, auth).unwrap_err();
    assert!(matches!(fault, BuildError::Files(_)), "{fault:?}");
    format!("{}\n{fault:?}", chain(&fault))
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

/// A certificate with a key that the quick tool does not make.
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
async fn keys_of_every_usual_kind_are_taken() {
    let p521 = openssl::ec::EcGroup::from_curve_name(Nid::SECP521R1).unwrap();
    let keys = [
        PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
        PKey::from_ec_key(EcKey::generate(&p521).unwrap()).unwrap(),
    ];
    for key in &keys {
        let (scene, client) = (Scene::new(), certificate_of(key));
        scene.write("client.pem", &client.certificate);
        scene.write("client.key", &client.key);
        let gateway = scene.client_of(&scene.front(&[&client]), scene.pem());
        gateway.cluster_version().await.unwrap();
    }
}

#[tokio::test]
async fn pem_is_found_wherever_it_stands() {
    let (scene, client) = (Scene::new(), self_signed("exporter"));
    let root = Authority::root("Root").certificate();
    let attributes = "Bag Attributes\r\n    friendlyName: gr\u{fc}n\r\nsubject=/CN=exporter\r\n";
    let (certificate, key) = (&client.certificate, &client.key);
    for text in [
        format!("{certificate}{key}"),
        format!("{key}{certificate}{root}"),
        format!("{attributes}{certificate}{attributes}{root}{attributes}{key}"),
        format!("{key}{certificate}").replace('\n', "\r\n"),
    ] {
        let file = scene.write("all.pem", &text);
        let auth = Auth::ClientCertificate(ClientCertificate::Pem {
            cert_file: file.clone(),
            key_file: file,
        });
        let front = scene.front(&[&client]);
        let gateway = scene.client_of(&front, auth);
        gateway.cluster_version().await.unwrap();
        assert!(gateway.client_certificate_expiry().is_some());
        assert_eq!(front.seen()[0].client.as_deref(), Some("exporter"));
    }
}

#[tokio::test]
async fn pfx_of_today_and_of_windows_is_taken() {
    let (scene, client) = (
        Scene::new(),
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
        scene.write("client.pfx", pfx(&client, password, cipher));
        scene.write("password", format!("{password}\r\n"));
        let front = scene.front(&[&client]);
        let gateway = scene.client_of(&front, scene.pfx(!password.is_empty()));
        gateway.cluster_version().await.unwrap();
        let expiry = gateway.client_certificate_expiry().unwrap();
        let left = expiry - servicefabric_backup_exporter::clock::now();
        assert_eq!(left.num_days(), 8);
        assert!(!format!("{gateway:?}").contains(CANARY));
    }
}

#[tokio::test]
async fn files_that_windows_tools_save_are_taken() {
    let (scene, client) = (Scene::new(), self_signed("exporter"));
    let authority = Authority::root("Root");
    let server = authority.issue(&params("127.0.0.1"));
    scene.write("client.pfx", pfx(&client, CANARY, None));
    for encoding in 0..3 {
        let write = |name: &str, text: &str| {
            scene.write(name, &saved_by_windows(text)[encoding]);
        };
        write("client.pem", &client.certificate);
        write("client.key", &client.key);
        write("ca.pem", &authority.certificate());
        write("password", &format!("{CANARY}\n\n"));
        let trust = Trust::Authorities {
            ca_file: Some(scene.file("ca.pem")),
            server_name: None,
            thumbprints: Vec::new(),
        };
        let manner = Behaviour::of_service_fabric(&server, &[&client], VERSION);
        let front = Front::start(manner);
        for auth in [scene.pem(), scene.pfx(true)] {
            let gateway = build(front.url(), trust.clone(), auth).unwrap();
            gateway.cluster_version().await.unwrap();
        }
    }
}

/// The lines of a key, none of which may be repeated.
fn lines(key: &str) -> impl Iterator<Item = &str> {
    key.lines()
        .filter(|line| line.len() > 20 && !line.starts_with('-'))
}

#[test]
fn keys_that_cannot_be_used_are_told_with_the_command_that_mends_them() {
    let scene = Scene::new();
    let rsa = Rsa::generate(2048).unwrap();
    let ec = EcKey::private_key_from_pem(self_signed("a").key.as_bytes()).unwrap();
    let whole = PKey::from_rsa(rsa.clone()).unwrap();
    let client = certificate_of(&whole);
    let cipher = Cipher::aes_128_cbc();
    let encrypted = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    let secret = CANARY.as_bytes();
    let mend = "openssl pkcs8 -topk8 -nodes";
    let cases = [
        (encrypted(rsa.private_key_to_pem().unwrap()), "PKCS#1", mend),
        (encrypted(ec.private_key_to_pem().unwrap()), "SEC1", mend),
        (
            encrypted(
                whole
                    .private_key_to_pem_pkcs8_passphrase(cipher, secret)
                    .unwrap(),
            ),
            "an encrypted key",
            mend,
        ),
        (
            encrypted(rsa.private_key_to_pem_passphrase(cipher, secret).unwrap()),
            "an encrypted key",
            mend,
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
    scene.write("client.pem", &client.certificate);
    for (key, told, mended) in cases {
        let file = scene.write("client.key", &key);
        let fault = fault_of(pinned(&scene.server), scene.pem());
        assert!(fault.contains(&file.display().to_string()), "{fault}");
        assert!(
            fault.contains(told) && fault.contains(mended),
            "{told}: {fault}"
        );
        assert!(!fault.contains(CANARY), "{fault}");
        assert!(!lines(&key).any(|line| fault.contains(line)), "{fault}");
    }
}

#[test]
fn what_the_tls_library_says_of_a_key_is_told() {
    let scene = Scene::new();
    let weak = certificate_of(&PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap());
    scene.write("client.pem", &weak.certificate);
    scene.write("client.key", &weak.key);
    let url = "https://127.0.0.1:1".parse().unwrap();
    let fault = build(url, pinned(&scene.server), scene.pem()).unwrap_err();
    let BuildError::Identity { source, .. } = &fault else {
        panic!("{fault:?}");
    };
    let told = chain(&fault);
    assert!(
        told.contains("client.pem: is not accepted by the TLS library"),
        "{told}"
    );
    assert!(told.contains(&chain(source)), "{told}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let scene = Scene::new();
    scene.write("client.pem", "no PEM");
    let trust = Trust::Authorities {
        ca_file: Some(scene.write("ca.pem", [0x30, 0x82, 1])),
        server_name: None,
        thumbprints: Vec::new(),
    };
    let missing = fault_of(trust.clone(), scene.pem());
    assert!(
        missing.contains("client.key: cannot be read: No such file"),
        "{missing}"
    );
    scene.write("client.key", "no PEM");
    let fault = fault_of(trust.clone(), scene.pem());
    for told in [
        "ca.pem: holds no certificate in PEM",
        "client.pem: holds no certificate in PEM",
        "client.key: holds no private key",
    ] {
        assert!(fault.contains(told), "{told}: {fault}");
    }
    fs::remove_file(scene.file("client.key")).unwrap();
    fs::create_dir(scene.file("client.key")).unwrap();
    fs::remove_file(scene.file("ca.pem")).unwrap();
    let fault = fault_of(trust, scene.pem());
    assert!(fault.contains("ca.pem: cannot be read"), "{fault}");
    assert!(fault.contains("client.key: is not a file"), "{fault}");
}

#[test]
fn a_broken_certificate_is_told() {
    let (scene, client) = (Scene::new(), self_signed("exporter"));
    scene.write("client.key", &client.key);
    let hello = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n";
    for text in [hello, broken] {
        scene.write("client.pem", text);
        let trust = Trust::Authorities {
            ca_file: Some(scene.write("ca.pem", format!("{}{text}", client.certificate))),
            server_name: None,
            thumbprints: Vec::new(),
        };
        let fault = fault_of(trust, scene.pem());
        for file in ["ca.pem", "client.pem"] {
            let told = format!("{file}: holds a certificate that cannot be read");
            assert!(fault.contains(&told), "{fault}");
        }
    }
}

/// The certificate alone and the key alone, each in a PFX.
fn halves(pair: &Pair) -> (Vec<u8>, Vec<u8>) {
    let certificate = X509::from_pem(pair.certificate.as_bytes()).unwrap();
    let key = PKey::private_key_from_pem(pair.key.as_bytes()).unwrap();
    let without_key = Pkcs12::builder().cert(&certificate).build2(CANARY);
    let without_certificate = Pkcs12::builder().pkey(&key).build2(CANARY);
    let der = |pfx: Pkcs12| pfx.to_der().unwrap();
    (der(without_key.unwrap()), der(without_certificate.unwrap()))
}

#[test]
fn a_pfx_that_cannot_be_used_is_told_with_the_command_that_mends_it() {
    let (scene, client) = (Scene::new(), self_signed("exporter"));
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
    for (contents, password, told) in cases {
        scene.write("client.pfx", contents);
        scene.write("password", format!("{}\n", password.unwrap_or_default()));
        let fault = fault_of(pinned(&scene.server), scene.pfx(password.is_some()));
        assert!(fault.contains(told), "{told}: {fault}");
        assert!(
            !fault.contains(CANARY) && !fault.contains("wrong\n"),
            "{fault}"
        );
    }
}

/// What refreshing tells, as a word.
async fn refresh(gateway: &Gateway) -> &'static str {
    match gateway.refresh().await {
        None => "nothing",
        Some(Rotation::Reloaded) => "renewed",
        Some(Rotation::Recovered) => "mended",
        Some(Rotation::Failed(_)) => "refused",
    }
}

#[tokio::test]
async fn a_new_client_certificate_is_shown_on_new_connections() {
    let (scene, old, new) = (Scene::new(), self_signed("old"), self_signed("new"));
    let front = scene.front(&[&old, &new]);
    scene.write("client.pem", &old.certificate);
    scene.write("client.key", &old.key);
    scene.write("client.pfx", pfx(&old, CANARY, None));
    scene.write("password", CANARY);
    let by_pem = scene.client_of(&front, scene.pem());
    let by_pfx = scene.client_of(&front, scene.pfx(true));
    for gateway in [&by_pem, &by_pfx] {
        assert_eq!(refresh(gateway).await, "nothing");
        gateway.cluster_version().await.unwrap();
    }
    scene.write("client.pem", &new.certificate);
    scene.write("client.key", &new.key);
    scene.write("client.pfx", pfx(&new, "another", None));
    scene.write("password", "another");
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
async fn with_old_authorities_go_the_connections_they_let_in() {
    let scene = Scene::new();
    let (old, new) = (Authority::root("Old"), Authority::root("New"));
    let server = old.issue(&params("127.0.0.1"));
    let front = Front::start(Behaviour {
        asks: Asks::Never,
        ..Behaviour::of_service_fabric(&server, &[], VERSION)
    });
    let trust = Trust::Authorities {
        ca_file: Some(scene.write("ca.pem", old.certificate())),
        server_name: None,
        thumbprints: Vec::new(),
    };
    let gateway = build(front.url(), trust, Auth::Anonymous).unwrap();
    gateway.cluster_version().await.unwrap();
    scene.write("ca.pem", new.certificate());
    assert_eq!(refresh(&gateway).await, "renewed");
    let error = gateway.cluster_version().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Tls, "{}", chain(&error));
    // The old connection was closed, the new one rejected.
    let seen = front.seen_of(2).await;
    let requests: Vec<_> = seen.iter().map(|seen| seen.requests).collect();
    assert_eq!(requests, [1, 0]);
    scene.write("ca.pem", old.certificate() + &new.certificate());
    assert_eq!(refresh(&gateway).await, "renewed");
    gateway.cluster_version().await.unwrap();
}

#[tokio::test]
async fn new_authorities_count_at_once_after_many_failures() {
    let scene = Scene::new();
    let front = Front::start(Behaviour {
        asks: Asks::Never,
        ..Behaviour::of_service_fabric(&scene.server, &[], VERSION)
    });
    let trust = Trust::Authorities {
        ca_file: Some(scene.write("ca.pem", Authority::root("Other").certificate())),
        server_name: None,
        thumbprints: Vec::new(),
    };
    let gateway = build(front.url(), trust, Auth::Anonymous).unwrap();
    let mut sent = 0;
    while gateway.cluster_version().await.unwrap_err().was_sent() {
        sent += 1;
    }
    assert!(sent < 20, "{sent} calls were sent");
    scene.write("ca.pem", &scene.server.certificate);
    assert_eq!(refresh(&gateway).await, "renewed");
    gateway.cluster_version().await.unwrap();
}

#[tokio::test]
async fn a_bad_new_file_keeps_what_is_in_use_and_is_told_once() {
    let (scene, client) = (Scene::new(), self_signed("exporter"));
    let front = scene.front(&[&client]);
    let certificate = scene.write("client.pem", &client.certificate);
    scene.write("client.key", &client.key);
    let gateway = scene.client_of(&front, scene.pem());
    assert_eq!(gateway.has_good_credentials().await, Some(true));
    scene.write("client.key", &self_signed("other").key);
    for told in ["refused", "nothing"] {
        assert_eq!(refresh(&gateway).await, told);
        assert_eq!(gateway.has_good_credentials().await, Some(false));
        gateway.cluster_version().await.unwrap();
    }
    fs::remove_file(&certificate).unwrap();
    let Some(Rotation::Failed(fault)) = gateway.refresh().await else {
        panic!("another fault is news");
    };
    assert!(
        fault.to_string().contains("client.pem: cannot be read"),
        "{fault}"
    );
    scene.write("client.pem", &client.certificate);
    scene.write("client.key", &client.key);
    for told in ["mended", "nothing"] {
        assert_eq!(refresh(&gateway).await, told);
        assert_eq!(gateway.has_good_credentials().await, Some(true));
    }
    gateway.cluster_version().await.unwrap();
    assert_eq!(front.seen().len(), 1, "nothing was connected anew");
}

#[tokio::test]
async fn a_valid_certificate_is_not_given_up_for_one_out_of_its_time() {
    let scene = Scene::new();
    let valid = self_signed_as(&between(params("exporter"), -1, 1));
    let expired = self_signed_as(&between(params("exporter"), -9, -1));
    let early = self_signed_as(&between(params("exporter"), 1, 9));
    let write = |client: &Pair| {
        scene.write("client.pem", &client.certificate);
        scene.write("client.key", &client.key);
    };
    let front = scene.front(&[&valid]);
    // At the start there is nothing better.
    write(&expired);
    let gateway = scene.client_of(&front, scene.pem());
    assert_eq!(gateway.warnings().len(), 1);
    for (client, told) in [
        (&early, "renewed"),
        (&valid, "renewed"),
        (&expired, "refused"),
        (&early, "nothing"),
        (&valid, "mended"),
    ] {
        write(client);
        assert_eq!(refresh(&gateway).await, told);
    }
    assert!(gateway.warnings().is_empty());
    gateway.cluster_version().await.unwrap();
}

#[tokio::test]
async fn without_files_there_is_nothing_to_refresh() {
    let scene = Scene::new();
    let gateway = scene.client_of(&scene.front(&[]), Auth::Anonymous);
    assert_eq!(refresh(&gateway).await, "nothing");
    assert_eq!(gateway.has_good_credentials().await, None);
}
