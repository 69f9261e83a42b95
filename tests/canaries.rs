//! Secrets stay where they are: each of them is marked, and the marks are looked for in whatever
//! the program lets out, at the most talkative log level, while things go wrong.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::fs;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::x509::X509;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client};
use servicefabric_backup_exporter::simulator::{Access, Options, Role, ServerIdentity, Simulator};
use support::process::{Exporter, Setup};
use support::{estate, eventually, simulate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What stands in every secret that a person chooses.
const MARK: &str = "canary";

/// The right passwords and tokens, and wrong ones that replace them.
const PFX_PASSWORD: &str = "canary-of-the-pfx";
const TOKEN: &str = "canary-of-the-token";
const REVOKED: &str = "canary-of-a-revoked-token";
const CLIENT_SECRET: &str = "canary-of-entra";
const PAGE_PASSWORD: &str = "canary-of-the-page";

/// A cluster that asks for a certificate or a token.
async fn cluster(
    reader: &CertifiedKey<rcgen::KeyPair>,
) -> (Simulator, CertifiedKey<rcgen::KeyPair>) {
    let gateway =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let mut access = Access::secured();
    access.admit_certificate(reader.cert.der(), Role::User);
    access.admit_token(TOKEN, Role::User);
    let identity =
        ServerIdentity::from_pem(&gateway.cert.pem(), &gateway.signing_key.serialize_pem());
    let options = Options {
        access,
        identity: Some(identity.unwrap()),
        ..Options::default()
    };
    (simulate(estate(7), options).await, gateway)
}

/// A sign-in service that refuses, and repeats what it was sent.
async fn echoing_authority() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let sent =
                    String::from_utf8_lossy(&request[..length]).replace(['\r', '\n', '"'], " ");
                let body = format!(
                    "{{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Invalid client secret provided: {sent}\"}}"
                );
                let head = format!(
                    "HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).await.ok();
            });
        }
    });
    format!("http://{address}")
}

fn pfx(reader: &CertifiedKey<rcgen::KeyPair>, password: &str) -> Vec<u8> {
    let certificate = X509::from_der(reader.cert.der()).unwrap();
    let key = PKey::private_key_from_der(&reader.signing_key.serialize_der()).unwrap();
    let mut builder = Pkcs12::builder();
    builder.name("reader").pkey(&key).cert(&certificate);
    builder.build2(password).unwrap().to_der().unwrap()
}

/// A line from the middle of a key: none of it may show either.
fn line_of(key: &str) -> String {
    key.lines().nth(1).unwrap().to_owned()
}

/// Everything that the program shows to whoever asks.
async fn shown(exporter: &Exporter, client: &Client, base: &str) -> Vec<String> {
    let mut shown = vec![exporter.log(), exporter.command_line()];
    for path in [
        "/",
        "/metrics",
        "/api/v1/partitions",
        "/-/ready",
        "/-/healthy",
        "/nowhere",
    ] {
        for password in [Some(PAGE_PASSWORD), Some("canary-of-a-guess"), None] {
            let request = client.get(format!("{base}{path}"));
            let request = match password {
                Some(_) => request.basic_auth("scraper", password),
                None => request,
            };
            let response = request.send().await.unwrap();
            shown.push(format!("{:?}", response.headers()));
            shown.push(response.text().await.unwrap());
        }
    }
    shown
}

#[tokio::test]
async fn no_secret_is_let_out_whatever_goes_wrong() {
    let reader = generate_simple_self_signed(["reader".to_owned()]).unwrap();
    let (simulator, gateway) = cluster(&reader).await;
    let page = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (page_key, reader_key) = (
        page.signing_key.serialize_pem(),
        reader.signing_key.serialize_pem(),
    );
    let hash = bcrypt::hash(PAGE_PASSWORD, 4).unwrap();
    let endpoint = simulator.url();
    let authority = echoing_authority().await;
    let trust = "trust: {ca_file: gateway.pem}";
    let config = format!(
        "poll: {{interval: 1s, timeout: 1s}}
clusters:
- {{name: pfx, endpoints: ['{endpoint}'], {trust}, auth: {{client_certificate: {{pfx_file: reader.pfx, password_file: password}}}}}}
- {{name: pem, endpoints: ['{endpoint}'], {trust}, auth: {{client_certificate: {{cert_file: reader.pem}}}}}}
- {{name: token, endpoints: ['{endpoint}'], {trust}, auth: {{token_file: token}}}}
- name: entra
  endpoints: ['{endpoint}']
  {trust}
  auth: {{entra: {{tenant_id: contoso.com, client_id: a, client_secret_file: secret, cluster_application_id: b, authority: '{authority}'}}}}
"
    );
    let setup = Setup::new(&config)
        .flag("--log.level=debug")
        .flag("--web.enable-lifecycle");
    let write = |name: &str, text: &[u8]| fs::write(setup.file(name), text).unwrap();
    write("gateway.pem", gateway.cert.pem().as_bytes());
    write("reader.pfx", &pfx(&reader, PFX_PASSWORD));
    write("password", PFX_PASSWORD.as_bytes());
    write("reader.pem", (reader.cert.pem() + &reader_key).as_bytes());
    write("token", TOKEN.as_bytes());
    write("secret", CLIENT_SECRET.as_bytes());
    write("page.key", page_key.as_bytes());
    write("page.pem", page.cert.pem().as_bytes());
    let web = format!(
        "tls_server_config: {{cert_file: page.pem, key_file: page.key}}\nbasic_auth_users: {{scraper: {hash}}}\n"
    );
    write("web.yml", web.as_bytes());
    let web_file = setup.file("web.yml").display().to_string();
    let setup = setup.env("SFBE_WEB_CONFIG_FILE", &web_file);
    let write = |name: &str, text: &[u8]| fs::write(setup.file(name), text).unwrap();

    let exporter = setup.start().await;
    let certificate = Certificate::from_pem(page.cert.pem().as_bytes()).unwrap();
    let client = Client::builder()
        .no_proxy()
        .tls_certs_only([certificate])
        .build()
        .unwrap();
    let port = exporter.addresses()[0]
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let base = format!("https://localhost:{port}");
    let metric = async |wanted: &str| {
        eventually(wanted, async || {
            let scrape = client
                .get(format!("{base}/metrics"))
                .basic_auth("scraper", Some(PAGE_PASSWORD));
            let text = scrape.send().await.ok()?.text().await.ok()?;
            text.contains(wanted).then_some(())
        })
        .await;
    };
    for name in ["pfx", "pem", "token"] {
        metric(&format!(
            "servicefabric_backup_cluster_up{{cluster_name=\"{name}\"}} 1\n"
        ))
        .await;
    }
    metric("servicefabric_backup_cluster_up{cluster_name=\"entra\"} 0\n").await;
    let mut everything = shown(&exporter, &client, &base).await;

    // Everything goes wrong: passwords that open nothing, keys that are none, tokens not known.
    write("password", b"canary-of-a-wrong-password");
    write(
        "reader.pem",
        (reader.cert.pem() + &reader_key[..reader_key.len() / 2]).as_bytes(),
    );
    write("token", REVOKED.as_bytes());
    for name in ["pfx", "pem"] {
        metric(&format!(
            "servicefabric_backup_credentials_last_reload_successful{{cluster_name=\"{name}\"}} 0\n"
        ))
        .await;
    }
    metric("servicefabric_backup_cluster_up{cluster_name=\"token\"} 0\n").await;
    everything.extend(shown(&exporter, &client, &base).await);
    let reload = client
        .post(format!("{base}/-/reload"))
        .basic_auth("scraper", Some(PAGE_PASSWORD));
    everything.push(reload.send().await.unwrap().text().await.unwrap());
    write("token", b"canary of a token with spaces");
    exporter.logs("first line").await;
    write(
        "web.yml",
        format!("{web}basic_auth_users: {{scraper: {hash}canary}}\n").as_bytes(),
    );
    let wrong = client.get(&base).basic_auth("scraper", Some(PAGE_PASSWORD));
    everything.push(format!(
        "{:?}",
        wrong.send().await.map(|response| response.status())
    ));
    exporter.logs("web.yml").await;
    everything.push(exporter.log());
    let program = env!("CARGO_BIN_EXE_servicefabric-backup-exporter");
    for arguments in [
        vec!["--help"],
        vec![
            "check-config",
            "--config.file",
            setup.file("exporter.yml").to_str().unwrap(),
            "--web.config.file",
            &web_file,
        ],
    ] {
        let output = Command::new(program).args(arguments).output().unwrap();
        everything.push(
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        );
    }
    let sent = BASE64_STANDARD.encode(format!("scraper:{PAGE_PASSWORD}"));
    for text in &everything {
        for secret in [
            MARK,
            &hash,
            &line_of(&page_key),
            &line_of(&reader_key),
            &sent,
        ] {
            assert!(!text.contains(secret), "{secret} got out:\n{text}");
        }
    }
    assert!(
        everything.iter().any(|text| text.contains("AADSTS7000215")),
        "the refusal is told"
    );
}
