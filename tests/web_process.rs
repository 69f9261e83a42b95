//! The program with a web configuration, from outside.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::fs;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use rcgen::{CertificateParams, KeyPair};
use reqwest::StatusCode;

use self::support::process::{Exporter, Setup};

/// A cluster that nobody has to answer for.
const CONFIG: &str = "clusters: [{name: prod, endpoints: ['http://127.0.0.1:1']}]\n";
/// A password that stands in no log, page or message.
const CANARY: &str = "hunter2";

/// Beside its configuration: a certificate, its key, and this web configuration.
fn setup(web: &str) -> Setup {
    let setup = Setup::new(CONFIG);
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(setup.file("server.crt"), certificate.pem()).unwrap();
    fs::write(setup.file("server.key"), key.serialize_pem()).unwrap();
    write(&setup, web);
    let file = setup.file("web.yml").display().to_string();
    setup.env("SFBE_WEB_CONFIG_FILE", &file)
}

fn write(setup: &Setup, web: &str) {
    fs::write(setup.file("new"), web).unwrap();
    fs::rename(setup.file("new"), setup.file("web.yml")).unwrap();
}

fn users(password: &str) -> String {
    let hash = bcrypt::hash(password, 4).unwrap();
    format!("basic_auth_users: {{alice: {hash}}}\n")
}

fn shakes_hands(exporter: &Exporter) -> bool {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    let address = exporter.addresses().remove(0);
    let stream = std::net::TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    builder.build().connect("localhost", stream).is_ok()
}

#[tokio::test]
async fn pages_carry_what_protects_browsers_without_a_web_configuration() {
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
async fn a_header_of_the_web_configuration_wins() {
    let headers = "http_server_config: {headers: {X-Frame-Options: sameorigin}}\n";
    let setup = setup(headers);
    let exporter = setup.start().await;
    let page = exporter.get("/").await;
    assert_eq!(page.headers.get_all("x-frame-options").iter().count(), 1);
    assert_eq!(page.header("x-frame-options"), "sameorigin");
    exporter.stop().await;
}

#[tokio::test]
async fn every_page_asks_for_the_password_and_no_secret_is_logged() {
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
    // A broken change is told once, with its place, and so is that it is mended.
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
    exporter.logs("can be used again").await;
    let log = exporter.log();
    assert_eq!(log.matches("basic_auth_users.alice").count(), 1, "{log}");
    for text in [&log, &metrics] {
        assert!(!text.contains(CANARY) && !text.contains("$2b$"), "{text}");
    }
    exporter.stop().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_said_so() {
    let setup = setup("tls_server_config: {cert_file: server.crt, key_file: server.key}\n");
    let exporter = setup.start().await;
    exporter.logs("TLS is on, with HTTP/2.").await;
    assert!(shakes_hands(&exporter));
    write(&setup, &users(CANARY));
    assert!(!shakes_hands(&exporter));
    exporter.logs("takes effect with a restart").await;
    exporter.stop().await;
}

#[tokio::test]
async fn a_faulty_web_configuration_ends_the_start() {
    let setup = setup(&format!("basic_auth_users: {{alice: {CANARY}}}\n"));
    let mut exporter = setup.spawn();
    assert_eq!(exporter.ended().await.code(), Some(64));
    exporter
        .logs("web.yml:1:27: basic_auth_users.alice: this is no bcrypt hash")
        .await;
    assert!(!exporter.log().contains(CANARY));
}
