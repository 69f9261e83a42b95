//! The exporter process with a web configuration.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use reqwest::{Client, StatusCode};
use servicefabric_backup_exporter::simulator::Options;
use tokio::net::TcpStream;

use crate::support::page::Page;
use crate::support::process::{Exporter, Setup};
use crate::support::{estate, eventually, simulate};

/// A cluster that is unreachable.
const CONFIG: &str = "clusters: [{name: prod, endpoints: ['http://127.0.0.1:1']}]\n";
/// A password that must not appear in any log, page or message.
const CANARY: &str = "hunter2";

/// A folder with a certificate, its key, and this web configuration.
fn setup(web: &str) -> Setup {
    let setup = Setup::new(CONFIG);
    certify(&setup, 1975, 4096);
    write(&setup, web);
    let file = setup.file("web.yml").display().to_string();
    setup.env("SFBE_WEB_CONFIG_FILE", &file)
}

/// Issues a certificate that is valid in these years.
fn certify(setup: &Setup, first: i32, last: i32) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(first, 1, 1);
    params.not_after = date_time_ymd(last, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(setup.file("server.crt"), certificate.pem()).unwrap();
    fs::write(setup.file("server.key"), key.serialize_pem()).unwrap();
    let private = Permissions::from_mode(0o640);
    fs::set_permissions(setup.file("server.key"), private).unwrap();
}

fn check_config(setup: &Setup) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_servicefabric-backup-exporter"))
        .arg("check-config")
        .env("SFBE_CONFIG_FILE", setup.file("exporter.yml"))
        .env("SFBE_WEB_CONFIG_FILE", setup.file("web.yml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The metrics over TLS, without verification of the certificate.
async fn encrypted_page(exporter: &Exporter) -> Page {
    let client = Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true);
    let address = exporter.addresses().remove(0);
    let url = address.replace("http://127.0.0.1", "https://localhost") + "/metrics";
    let response = client.build().unwrap().get(url).send().await.unwrap();
    Page::parse(&response.text().await.unwrap())
}

fn write(setup: &Setup, web: &str) {
    fs::write(setup.file("new"), web).unwrap();
    fs::rename(setup.file("new"), setup.file("web.yml")).unwrap();
}

fn users(password: &str) -> String {
    let hash = bcrypt::hash(password, 4).unwrap();
    format!("basic_auth_users: {{alice: {hash}}}\n")
}

fn handshake_succeeds(exporter: &Exporter) -> bool {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    let address = exporter.addresses().remove(0);
    let stream = std::net::TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    builder.build().connect("localhost", stream).is_ok()
}

#[tokio::test]
async fn pages_have_security_headers_without_a_web_configuration() {
    let exporter = Setup::new(CONFIG)
        .env("SFBE_WEB_CONFIG_FILE", "")
        .start()
        .await;
    for path in [
        "/",
        "/metrics",
        "/api/v1/partitions",
        "/-/healthy",
        "/nowhere",
    ] {
        let reply = exporter.get(path).await;
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
    }
    let page = exporter.get("/").await;
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert_eq!(page.header("x-frame-options"), "deny");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    for path in ["/", "/api/v1/partitions"] {
        assert_eq!(exporter.get(path).await.header("cache-control"), "no-store");
    }
    exporter.stop().await;
}

#[tokio::test]
async fn header_of_the_web_configuration_replaces_the_default() {
    let headers = "http_server_config: {headers: {X-Frame-Options: sameorigin}}\n";
    let setup = setup(headers);
    let exporter = setup.start().await;
    let page = exporter.get("/").await;
    assert_eq!(page.headers.get_all("x-frame-options").iter().count(), 1);
    assert_eq!(page.header("x-frame-options"), "sameorigin");
    exporter.stop().await;
}

#[tokio::test]
async fn every_page_requires_the_password_and_no_secret_is_logged() {
    let setup = setup(&users(CANARY)).flag("--log.level=debug");
    let exporter = setup.start().await;
    for path in [
        "/",
        "/metrics",
        "/api/v1/partitions",
        "/-/healthy",
        "/-/ready",
    ] {
        for wrong in [
            exporter.get(path).await,
            exporter.get_as(path, "alice", "no").await,
        ] {
            assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "{path}");
        }
        assert_ne!(
            exporter.get_as(path, "alice", CANARY).await.status,
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    let metrics = exporter.get_as("/metrics", "alice", CANARY).await.body;
    // An invalid change is logged once with its position, and so is the fix.
    write(&setup, &format!("basic_auth_users: {{alice: {CANARY}}}\n"));
    for _ in 0..3 {
        let reply = exporter.get_as("/", "alice", CANARY).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    exporter.logs("web.yml:1:27: basic_auth_users.alice").await;
    write(&setup, &users(CANARY));
    assert_eq!(
        exporter.get_as("/", "alice", CANARY).await.status,
        StatusCode::OK
    );
    exporter.logs("is valid again").await;
    let log = exporter.log();
    assert_eq!(log.matches("basic_auth_users.alice").count(), 1, "{log}");
    for text in [&log, &metrics] {
        assert!(!text.contains(CANARY) && !text.contains("$2b$"), "{text}");
    }
    exporter.stop().await;
}

#[tokio::test]
async fn setting_that_needs_a_restart_is_logged() {
    let setup = setup("tls_server_config: {cert_file: server.crt, key_file: server.key}\n");
    let exporter = setup.start().await;
    exporter.logs("TLS is on.").await;
    assert!(handshake_succeeds(&exporter));
    write(&setup, &users(CANARY));
    assert!(!handshake_succeeds(&exporter));
    exporter.logs("takes effect with a restart").await;
    exporter.stop().await;
}

#[tokio::test]
async fn invalid_web_configuration_prevents_the_start() {
    let setup = setup(&format!("basic_auth_users: {{alice: {CANARY}}}\n"));
    let mut exporter = setup.spawn();
    assert_eq!(exporter.ended().await.code(), Some(64));
    exporter
        .logs("web.yml:1:27: basic_auth_users.alice: expected a bcrypt hash")
        .await;
    assert!(!exporter.log().contains(CANARY));
}

const TLS: &str = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";
const EXPIRY: &str = "servicefabric_backup_exporter_web_certificate_expiry_timestamp_seconds";

#[tokio::test]
async fn certificate_expiry_is_a_metric_and_an_invalid_certificate_a_warning() {
    let setup = setup(TLS);
    for (first, last, seconds, warning) in [
        (
            1975,
            2021,
            1_609_459_200.0,
            Some("expired at 2021-01-01T00:00:00Z"),
        ),
        (
            3000,
            3001,
            32_535_216_000.0,
            Some("is not valid before 3000-01-01T00:00:00Z"),
        ),
        (1975, 3000, 32_503_680_000.0, None),
    ] {
        certify(&setup, first, last);
        let output = check_config(&setup);
        let exporter = setup.start().await;
        for _ in 0..3 {
            let page = encrypted_page(&exporter).await;
            assert_eq!(page.value(EXPIRY, &[]), Some(seconds));
        }
        let log = exporter.log();
        // The unreachable cluster is an error of another component.
        let logged = log.matches("level=error component=server").count();
        match warning {
            Some(warning) => {
                assert!(
                    output.contains(&format!(
                        "web.yml: the certificate of the listener {warning}"
                    )),
                    "{output}"
                );
                assert!(log.contains(warning) && logged == 1, "{log}");
            }
            None => assert!(!output.contains("warning") && logged == 0, "{output}{log}"),
        }
        exporter.stop().await;
    }
}

#[tokio::test]
async fn certificate_replaced_at_runtime_is_checked_again() {
    let setup = setup(TLS);
    let exporter = setup.start().await;
    assert_eq!(
        encrypted_page(&exporter).await.value(EXPIRY, &[]),
        Some(67_090_118_400.0)
    );
    certify(&setup, 1975, 2021);
    let expired = async || {
        let page = encrypted_page(&exporter).await;
        (page.value(EXPIRY, &[]) == Some(1_609_459_200.0)).then_some(())
    };
    eventually("the new certificate is in the metric", expired).await;
    exporter.logs("expired at 2021-01-01T00:00:00Z").await;
    exporter.stop().await;
}

#[tokio::test]
async fn without_tls_there_is_no_certificate_expiry() {
    let setup = setup("");
    let exporter = setup.start().await;
    assert_eq!(exporter.scrape().await.value(EXPIRY, &[]), None);
    exporter.stop().await;
}

#[tokio::test]
async fn world_readable_key_is_a_warning() {
    let setup = setup(TLS);
    let key = setup.file("server.key");
    for (mode, warned) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false)] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let warning = format!("(mode {mode:03o}): run `chmod 640 {}`", key.display());
        let output = check_config(&setup);
        assert_eq!(output.contains(&warning), warned, "{output}");
        let exporter = setup.start().await;
        assert_eq!(
            exporter.log().contains(&warning),
            warned,
            "{}",
            exporter.log()
        );
        exporter.stop().await;
    }
    // With an inline key, the configuration is the file with the secret.
    let indented = |name: &str| {
        let pem = fs::read_to_string(setup.file(name)).unwrap();
        pem.trim().replace('\n', "\n    ")
    };
    let [certificate, key] = ["server.crt", "server.key"].map(indented);
    write(
        &setup,
        &format!("tls_server_config:\n  cert: |\n    {certificate}\n  key: |\n    {key}\n"),
    );
    for (mode, warned) in [(0o644, true), (0o640, false)] {
        let file = setup.file("web.yml");
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let output = check_config(&setup);
        assert_eq!(
            output.contains(&format!("chmod 640 {}", file.display())),
            warned,
            "{output}"
        );
    }
}

#[tokio::test]
async fn world_readable_secrets_of_clusters_are_warnings() {
    let setup = setup("");
    fs::copy(setup.file("server.crt"), setup.file("client.crt")).unwrap();
    fs::copy(setup.file("server.key"), setup.file("client.key")).unwrap();
    let entra = "{tenant_id: contoso.com, client_id: a, client_secret_file: entra, \
                 cluster_application_id: b}";
    setup.configure(&format!(
        "clusters:\n\
         - {{name: a, endpoints: ['https://localhost:1'], auth: {{client_certificate: {{cert_file: client.crt, key_file: client.key}}}}}}\n\
         - {{name: b, endpoints: ['https://localhost:2'], auth: {{token_file: token}}}}\n\
         - {{name: c, endpoints: ['https://localhost:3'], auth: {{entra: {entra}}}}}\n"
    ));
    let files = ["client.key", "token", "entra"].map(|name| setup.file(name));
    for file in &files[1..] {
        fs::write(file, CANARY).unwrap();
    }
    for (mode, warned) in [(0o644, true), (0o640, false)] {
        for file in &files {
            fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        }
        let output = check_config(&setup);
        let exporter = setup.start().await;
        for file in &files {
            let fix = format!("chmod 640 {}", file.display());
            assert_eq!(output.contains(&fix), warned, "{output}");
            assert_eq!(exporter.log().contains(&fix), warned, "{}", exporter.log());
        }
        exporter.stop().await;
    }
}

#[tokio::test]
async fn scrapes_and_polls_succeed_with_few_file_descriptors_and_many_idle_connections() {
    let simulator = simulate(estate(7), Options::default()).await;
    let config = format!(
        "poll: {{interval: 1s, timeout: 1s}}\nclusters: [{{name: a, endpoints: ['{}']}}]\n",
        simulator.url()
    );
    let exporter = Setup::new(&config)
        .launched_by("ulimit -n 64 && exec \"$0\" \"$@\"")
        .start()
        .await;
    let room = "may open 64 files, which leaves room for 20 client connections instead of 512";
    exporter.logs(room).await;
    let address = exporter.addresses().remove(0);
    let mut idle = Vec::new();
    for _ in 0..200 {
        let stream = TcpStream::connect(address.trim_start_matches("http://")).await;
        idle.push(stream.unwrap());
    }
    eventually("surplus connections are closed", async || {
        idle.retain(|stream| stream.try_read(&mut [0]).is_err());
        (idle.len() <= 20).then_some(())
    })
    .await;
    let newest = |page: &Page| {
        let polled = page.all("servicefabric_backup_partition_poll_timestamp_seconds", &[]);
        polled.iter().map(|sample| sample.value).fold(0.0, f64::max)
    };
    // While many connections arrive at once, closing ones can use up the remaining descriptors.
    let before = exporter.log().len();
    let mut last = 0.0;
    for _ in 0..3 {
        let succeeds = |page: &Page| {
            let up = page.value("servicefabric_backup_cluster_up", &[]);
            up == Some(1.0) && newest(page) > last
        };
        last = newest(&exporter.page_where("a poll succeeds", succeeds).await);
    }
    let log = exporter.log().split_off(before);
    assert!(!log.contains("os error 24"), "{log}");
    exporter.stop().await;
}
