//! Secrets stay where they are: each of them is marked, and the marks are looked for in whatever
//! the program lets out, at the most talkative log level, while things go wrong.

use std::fs;
use std::process::Command;

use crate::support::process::{Exporter, Setup};
use crate::support::{at, estate, eventually, simulate};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::x509::X509;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use reqwest::{Certificate, Client, RequestBuilder};
use servicefabric_backup_exporter::simulator::{
    Access, Code, Options, Outcome, Role, ServerIdentity, Simulator,
};
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

/// A certificate and its key.
type Pair = CertifiedKey<KeyPair>;

/// A cluster that asks for a certificate or a token.
async fn cluster(reader: &Pair) -> (Simulator, Pair) {
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

fn pfx(reader: &Pair, password: &str) -> Vec<u8> {
    let certificate = X509::from_der(reader.cert.der()).unwrap();
    let key = PKey::private_key_from_der(&reader.signing_key.serialize_der()).unwrap();
    let mut builder = Pkcs12::builder();
    builder.name("reader").pkey(&key).cert(&certificate);
    builder.build2(password).unwrap().to_der().unwrap()
}

/// The program with a secret of every kind, and a cluster that it may read.
struct Scene {
    _simulator: Simulator,
    setup: Setup,
    web: String,
    reader: Pair,
    page: Pair,
    hash: String,
}

impl Scene {
    async fn set() -> Self {
        let reader = generate_simple_self_signed(["reader".to_owned()]).unwrap();
        let (simulator, gateway) = cluster(&reader).await;
        let page = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let hash = bcrypt::hash(PAGE_PASSWORD, 4).unwrap();
        let config = config(&simulator.url(), &echoing_authority().await);
        let setup = Setup::new(&config)
            .flag("--log.level=debug")
            .flag("--web.enable-lifecycle");
        let web_file = setup.file("web.yml").display().to_string();
        let scene = Self {
            _simulator: simulator,
            setup: setup.env("SFBE_WEB_CONFIG_FILE", &web_file),
            web: format!(
                "tls_server_config: {{cert_file: page.pem, key_file: page.key}}\n\
                 basic_auth_users: {{scraper: {hash}}}\n"
            ),
            reader,
            page,
            hash,
        };
        scene.write("gateway.pem", gateway.cert.pem());
        scene.write("reader.pfx", pfx(&scene.reader, PFX_PASSWORD));
        scene.write("password", PFX_PASSWORD);
        scene.write(
            "reader.pem",
            scene.reader.cert.pem() + &scene.reader.signing_key.serialize_pem(),
        );
        scene.write("token", TOKEN);
        scene.write("secret", CLIENT_SECRET);
        scene.write("page.pem", scene.page.cert.pem());
        scene.write("page.key", scene.page.signing_key.serialize_pem());
        scene.write("web.yml", &scene.web);
        scene
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.setup.file(name), contents).unwrap();
    }

    /// Whatever must not be seen: marks, a line of each key, and what is made of a password.
    fn secrets(&self) -> [String; 5] {
        let line_of = |key: &KeyPair| key.serialize_pem().lines().nth(1).unwrap().to_owned();
        let sent = BASE64_STANDARD.encode(format!("scraper:{PAGE_PASSWORD}"));
        let page_key = line_of(&self.page.signing_key);
        let reader_key = line_of(&self.reader.signing_key);
        [
            MARK.to_owned(),
            self.hash.clone(),
            sent,
            page_key,
            reader_key,
        ]
    }

    /// What the program says before it runs.
    fn said_by_commands(&self) -> Vec<String> {
        let config = self.setup.file("exporter.yml").display().to_string();
        let web = self.setup.file("web.yml").display().to_string();
        let check = [
            "check-config",
            "--config.file",
            &config,
            "--web.config.file",
            &web,
        ];
        let said = |arguments: &[&str]| {
            let program = env!("CARGO_BIN_EXE_servicefabric-backup-exporter");
            let output = Command::new(program).args(arguments).output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            text(output.stdout) + &text(output.stderr)
        };
        vec![said(&["--help"]), said(&check)]
    }
}

/// Clusters that are the same one, reached with each kind of secret.
fn config(endpoint: &str, authority: &str) -> String {
    let clusters = [
        (
            "pfx",
            "{client_certificate: {pfx_file: reader.pfx, password_file: password}}".to_owned(),
        ),
        (
            "pem",
            "{client_certificate: {cert_file: reader.pem}}".to_owned(),
        ),
        ("token", "{token_file: token}".to_owned()),
        (
            "entra",
            format!(
                "{{entra: {{tenant_id: contoso.com, client_id: a, client_secret_file: secret, \
                 cluster_application_id: b, authority: '{authority}'}}}}"
            ),
        ),
    ];
    let clusters = clusters.map(|(name, auth)| {
        format!(
            "- {{name: {name}, endpoints: ['{endpoint}'], trust: {{ca_file: gateway.pem}}, auth: {auth}, \
             services: {{exclude: ['fabric:/{name}']}}}}\n"
        )
    });
    format!(
        "poll: {{interval: 1s, timeout: 1s}}\nclusters:\n{}",
        clusters.concat()
    )
}

/// Whoever looks at the pages, and everything that was seen.
struct Onlooker<'a> {
    exporter: &'a Exporter,
    client: Client,
    base: String,
    seen: Vec<String>,
}

impl Onlooker<'_> {
    fn with_password(&self, path: &str) -> RequestBuilder {
        let request = self.client.get(format!("{}{path}", self.base));
        request.basic_auth("scraper", Some(PAGE_PASSWORD))
    }

    async fn awaits(&self, line: &str) {
        eventually(line, async || {
            let page = self.with_password("/metrics").send().await.ok()?;
            page.text().await.ok()?.contains(line).then_some(())
        })
        .await;
    }

    async fn look_at_everything(&mut self) {
        let mut seen = vec![self.exporter.log(), self.exporter.command_line()];
        for path in [
            "/",
            "/metrics",
            "/api/v1/partitions",
            "/-/ready",
            "/nowhere",
        ] {
            let guess = self.client.get(format!("{}{path}", self.base));
            let guess = guess.basic_auth("scraper", Some("canary-of-a-guess"));
            for request in [self.with_password(path), guess] {
                let response = request.send().await.unwrap();
                seen.push(format!("{:?}", response.headers()));
                seen.push(response.text().await.unwrap());
            }
        }
        self.seen.extend(seen);
    }
}

#[tokio::test]
async fn no_secret_is_let_out_whatever_goes_wrong() {
    let scene = Scene::set().await;
    let exporter = scene.setup.start().await;
    let certificate = Certificate::from_pem(scene.page.cert.pem().as_bytes()).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([certificate]);
    let address = exporter.addresses().remove(0);
    let mut onlooker = Onlooker {
        exporter: &exporter,
        client: client.build().unwrap(),
        base: address.replace("http://127.0.0.1", "https://localhost"),
        seen: scene.said_by_commands(),
    };
    for (cluster, up) in [("pfx", 1), ("pem", 1), ("token", 1), ("entra", 0)] {
        let line = format!("servicefabric_backup_cluster_up{{cluster_name=\"{cluster}\"}} {up}\n");
        onlooker.awaits(&line).await;
    }
    onlooker.look_at_everything().await;

    // Passwords that open nothing, keys that are cut off, tokens that are not known.
    scene.write("password", "canary-of-a-wrong-password");
    let half: String = scene
        .reader
        .signing_key
        .serialize_pem()
        .chars()
        .take(90)
        .collect();
    scene.write("reader.pem", scene.reader.cert.pem() + &half);
    scene.write("token", REVOKED);
    for cluster in ["pfx", "pem"] {
        let good = "servicefabric_backup_credentials_last_reload_successful";
        let line = format!("{good}{{cluster_name=\"{cluster}\"}} 0\n");
        onlooker.awaits(&line).await;
    }
    let locked_out = "servicefabric_backup_cluster_up{cluster_name=\"token\"} 0\n";
    onlooker.awaits(locked_out).await;
    onlooker.look_at_everything().await;
    let reload = onlooker.client.post(format!("{}/-/reload", onlooker.base));
    let reload = reload.basic_auth("scraper", Some(PAGE_PASSWORD));
    let told = reload.send().await.unwrap().text().await.unwrap();
    assert!(told.contains("reader.pem"), "{told}");
    onlooker.seen.push(told);

    scene.write("token", "canary of a token with spaces");
    exporter.logs("first line").await;
    let twice = format!(
        "{}basic_auth_users: {{scraper: {}canary}}\n",
        scene.web, scene.hash
    );
    scene.write("web.yml", twice);
    let closed = onlooker.with_password("/").send().await;
    onlooker
        .seen
        .push(format!("{:?}", closed.map(|it| it.status())));
    exporter.logs("web.yml").await;
    onlooker.seen.push(exporter.log());
    onlooker.seen.extend(scene.said_by_commands());

    for secret in scene.secrets() {
        for text in &onlooker.seen {
            assert!(!text.contains(&secret), "{secret} got out:\n{text}");
        }
    }
    let refused = |text: &String| text.contains("AADSTS7000215");
    assert!(onlooker.seen.iter().any(refused), "the refusal is told");
}

#[tokio::test]
async fn secrets_in_failure_messages_of_the_cluster_are_blanked() {
    let encoded = BASE64_STANDARD.encode("svc:canary");
    let messages = [
        "Cannot open 'AccountName=shop;AccountKey=canary==;EndpointSuffix=x'.".to_owned(),
        "PUT https://svc:canary@store.example.org/backups failed.".to_owned(),
        r#"{\"url\":\"https:\/\/svc:canary@store.example.org\"}"#.to_owned(),
        "403 for Authorization: SharedKey shop:canary+/=\r\nx-ms-date: today".to_owned(),
        "403 for SharedKey shop:canary+/= at 12:00.".to_owned(),
        "Sent BEARER canary-of-the-token, got 401.".to_owned(),
        format!("Sent Basic {encoded}, got 401."),
        "x-api-key: canary, api_key=canary&apikey=canary".to_owned(),
        "https://store.blob.core.windows.net/c?sv=2024&sig=canary%2B&se=2030".to_owned(),
        r"https://store.blob.core.windows.net/c?sv=2024\u0026sig=canary".to_owned(),
        "https://copy.azurewebsites.net/api/run?code=canary==".to_owned(),
        "access_token=canary, client_secret=canary, canary\nPWD=canary;PassWord='canary;canary'"
            .to_owned(),
    ];
    let mut estate = estate(7);
    let partitions = estate.partition_ids();
    for (partition, message) in partitions.iter().zip(&messages) {
        let code = Code::Name("FABRIC_E_BACKUPCOPIER_UNEXPECTED_ERROR".to_owned());
        estate.conclude(
            *partition,
            Outcome::Failure(code, message.clone()),
            at(3600),
        );
    }
    let simulator = simulate(estate, Options::default()).await;
    let config = format!(
        "clusters: [{{name: a, endpoints: ['{}']}}]\n",
        simulator.url()
    );
    let exporter = Setup::new(&config).flag("--log.level=debug").start().await;
    exporter.ready().await;
    let mut seen = Vec::new();
    for partition in partitions.iter().take(messages.len()) {
        let page = exporter
            .get(&format!("/api/v1/partitions/{partition}"))
            .await;
        assert!(page.body.contains("***"), "{}", page.body);
        seen.push(page.body);
    }
    for path in ["/", "/metrics", "/api/v1/partitions"] {
        seen.push(exporter.get(path).await.body);
    }
    seen.push(exporter.log());
    for text in seen {
        assert!(!text.contains(MARK) && !text.contains(&encoded), "{text}");
    }
    exporter.stop().await;
}
