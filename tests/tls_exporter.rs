//! The exporter with a secured cluster: messages at the start, metrics, and changes of files and
//! configuration.

use std::fs;
use std::process::{Command, Output};

use servicefabric_backup_exporter::simulator;

use crate::support::certificates::{Pair, between, params, self_signed, self_signed_as};
use crate::support::page::Page;
use crate::support::process::{Exporter, Setup};
use crate::support::renegotiation::{Backend, Behaviour, Front};
use crate::support::{estate, eventually, simulate};

const UP: &str = "servicefabric_backup_cluster_up";
const GOOD_FILES: &str = "servicefabric_backup_credentials_last_reload_successful";
const INSECURE: &str = "servicefabric_backup_gateway_insecure";
const CLIENT_EXPIRY: &str = "servicefabric_backup_client_certificate_expiry_timestamp_seconds";
const GATEWAY_EXPIRY: &str = "servicefabric_backup_gateway_certificate_expiry_timestamp_seconds";
const ERRORS: &str = "servicefabric_backup_collector_errors_total";

/// A secured cluster with a few partitions, and its registered client.
struct Cluster {
    server: Pair,
    client: Pair,
    front: Front,
    _simulator: simulator::Simulator,
}

impl Cluster {
    async fn start() -> Self {
        let simulator = simulate(estate(1), simulator::Options::default()).await;
        let server = self_signed_as(&between(params("127.0.0.1"), -1, 30));
        let client = self_signed_as(&between(params("exporter"), -1, 20));
        let address = simulator.url().replace("http://", "");
        let backend = Backend::Address(address.parse().unwrap());
        let front = Front::start(Behaviour::of_service_fabric(&server, &[&client], backend));
        Self {
            server,
            client,
            front,
            _simulator: simulator,
        }
    }

    fn config(&self, trust: &str) -> String {
        let endpoint = self.front.url();
        format!(
            "poll: {{interval: 1s, timeout: 1s}}\n\
             clusters:\n\
             - name: prod\n  \
               endpoints: ['{endpoint}']\n  \
               trust: {trust}\n  \
               auth: {{client_certificate: {{cert_file: client.pem, key_file: client.key}}}}\n"
        )
    }

    /// An exporter with the registered client certificate that pins the cluster.
    fn setup(&self) -> Setup {
        let trust = format!("{{thumbprints: ['{}']}}", self.server.sha1());
        let setup = Setup::new(&self.config(&trust));
        fs::write(setup.file("client.pem"), &self.client.certificate).unwrap();
        fs::write(setup.file("client.key"), &self.client.key).unwrap();
        setup
    }
}

fn is(page: &Page, name: &str, value: f64) -> bool {
    page.value(name, &[]) == Some(value)
}

async fn shows(exporter: &Exporter, name: &str, value: f64) -> Page {
    let what = format!("{name} is {value}");
    exporter
        .page_where(&what, |page| is(page, name, value))
        .await
}

#[tokio::test]
async fn secured_cluster_is_monitored_and_changed_files_are_read() {
    let cluster = Cluster::start().await;
    let setup = cluster.setup();
    let exporter = setup.start().await;
    let page = shows(&exporter, UP, 1.0).await;
    assert!(is(&page, GOOD_FILES, 1.0) && is(&page, INSECURE, 0.0));
    let now = servicefabric_backup_exporter::clock::now().timestamp();
    let now = u32::try_from(now).unwrap();
    for (name, days) in [(CLIENT_EXPIRY, 20.0), (GATEWAY_EXPIRY, 30.0)] {
        let left = page.value(name, &[]).unwrap() - f64::from(now);
        assert!((left / 86_400.0 - days).abs() < 0.1, "{name}: {left}");
    }
    fs::write(setup.file("client.key"), "no key any more").unwrap();
    shows(&exporter, GOOD_FILES, 0.0).await;
    // The old credentials still work after full cycles.
    let polls = || {
        cluster
            .front
            .seen()
            .iter()
            .map(|seen| seen.requests)
            .sum::<usize>()
    };
    let before = polls();
    eventually("the cluster is asked", async || {
        (polls() > before + 20).then_some(())
    })
    .await;
    assert!(is(&exporter.scrape().await, UP, 1.0));
    fs::write(setup.file("client.key"), &cluster.client.key).unwrap();
    shows(&exporter, GOOD_FILES, 1.0).await;
    let log = exporter.log();
    let bad = "cannot be used, the old ones stay";
    assert_eq!(log.matches(bad).count(), 1, "{log}");
    assert!(log.contains("client.key: holds no private key"), "{log}");
    assert_eq!(log.matches("are good again").count(), 1, "{log}");
    exporter.stop().await;
}

#[tokio::test]
async fn reload_with_other_pins_closes_the_old_connections() {
    let cluster = Cluster::start().await;
    let setup = cluster.setup();
    let exporter = setup.start().await;
    shows(&exporter, UP, 1.0).await;
    let bad = cluster.config("{ca_file: missing.pem}");
    setup.configure(&bad);
    exporter.signal("HUP");
    exporter.logs("missing.pem: cannot be read").await;
    exporter
        .logs("Cannot reload the configuration; the current one stays in use.")
        .await;
    let other = format!("{{thumbprints: ['{}']}}", self_signed("other").sha256());
    setup.configure(&cluster.config(&other));
    exporter.signal("HUP");
    exporter.logs("Reloaded the configuration.").await;
    let connected = cluster.front.seen().len();
    let page = shows(&exporter, UP, 0.0).await;
    let reason = [("reason", "tls"), ("collector", "inventory")];
    assert!(page.value(ERRORS, &reason).unwrap() > 0.0);
    exporter.logs("not in trust.thumbprints").await;
    exporter.logs(&cluster.server.sha256().to_string()).await;
    let seen = eventually("the old connections have ended", async || {
        let seen = cluster.front.seen();
        seen.iter()
            .take(connected)
            .all(|seen| seen.over)
            .then_some(seen)
    })
    .await;
    assert!(seen.len() > connected);
    assert!(seen.iter().skip(connected).all(|seen| seen.bytes == 0));
    exporter.stop().await;
}

#[tokio::test]
async fn reload_reads_changed_files_like_a_start() {
    let cluster = Cluster::start().await;
    let setup = cluster.setup();
    let exporter = setup.start().await;
    shows(&exporter, UP, 1.0).await;
    let expired = self_signed_as(&between(params("exporter"), -9, -1));
    fs::write(setup.file("client.pem"), &expired.certificate).unwrap();
    fs::write(setup.file("client.key"), &expired.key).unwrap();
    shows(&exporter, GOOD_FILES, 0.0).await;
    exporter.logs("the old ones stay").await;
    exporter.signal("HUP");
    exporter.logs("reloaded changed certificates or keys").await;
    exporter.logs("The client certificate has expired").await;
    shows(&exporter, GOOD_FILES, 1.0).await;
    let now = servicefabric_backup_exporter::clock::now().timestamp();
    exporter
        .page_where("the certificate in use has expired", |page| {
            let expiry = page.value(CLIENT_EXPIRY, &[]);
            expiry.is_some_and(|expiry| expiry < f64::from(u32::try_from(now).unwrap()))
        })
        .await;
    fs::write(setup.file("client.pem"), "no certificate").unwrap();
    exporter.signal("HUP");
    exporter.logs("Cannot reload the configuration").await;
    exporter.stop().await;
}

#[tokio::test]
async fn insecure_cluster_causes_a_warning() {
    let cluster = Cluster::start().await;
    let setup = cluster.setup();
    setup.configure(&cluster.config("{insecure: true}"));
    let exporter = setup.start().await;
    exporter
        .logs("Cluster prod: Server certificates are not verified")
        .await;
    let page = shows(&exporter, UP, 1.0).await;
    assert!(is(&page, INSECURE, 1.0));
    exporter.stop().await;
}

fn run(setup: &Setup, command: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_servicefabric-backup-exporter"))
        .args(command)
        .arg(format!(
            "--config.file={}",
            setup.file("exporter.yml").display()
        ))
        .output()
        .unwrap()
}

#[test]
fn unusable_files_are_configuration_errors() {
    let config = "clusters:\n\
                  - {name: one, endpoints: ['https://a'], auth: {client_certificate: {cert_file: a.pem}}}\n\
                  - {name: two, endpoints: ['https://b'], trust: {ca_file: b.pem}}\n";
    let setup = Setup::new(config);
    fs::write(setup.file("a.pem"), "hunter2").unwrap();
    for command in [&[][..], &["check-config"]] {
        let ended = run(&setup, command);
        let output = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(64), "{output}");
        let lines: Vec<_> = output.lines().collect();
        let [one, two] = lines[..] else {
            panic!("{output}");
        };
        assert!(
            one.contains("cluster one: ") && one.contains("a.pem: holds no"),
            "{output}"
        );
        assert!(
            two.contains("cluster two: ") && two.contains("b.pem: cannot be"),
            "{output}"
        );
        assert!(!output.contains("hunter2"), "{output}");
    }
}

#[test]
fn check_config_prints_warnings() {
    let expired = self_signed_as(&between(params("exporter"), -9, -1));
    let setup = Setup::new(
        "clusters: [{name: prod, endpoints: ['https://a'], trust: {insecure: true}, \
         auth: {client_certificate: {cert_file: a.pem}}}]",
    );
    fs::write(setup.file("a.pem"), expired.combined()).unwrap();
    let ended = run(&setup, &["check-config"]);
    let output = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{output}");
    for part in ["trust.insecure is set", "has expired", "no errors found"] {
        assert!(output.contains(part), "{part}: {output}");
    }
}
