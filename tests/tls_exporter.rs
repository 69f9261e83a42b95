//! The exporter before a secured cluster: what it says at the start, what it shows, and what a
//! change of its files or its configuration does to it.

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

/// A secured cluster with a few partitions, and the client that it knows.
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

    /// An exporter that the cluster knows, and that pins its certificate.
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
async fn a_secured_cluster_is_watched_and_its_files_are_followed() {
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
    // Whole cycles pass, and it is still let in.
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
async fn a_reload_with_other_pins_leaves_the_connections_of_the_old_ones() {
    let cluster = Cluster::start().await;
    let setup = cluster.setup();
    let exporter = setup.start().await;
    shows(&exporter, UP, 1.0).await;
    let bad = cluster.config("{ca_file: missing.pem}");
    setup.configure(&bad);
    exporter.signal("HUP");
    exporter.logs("missing.pem: cannot be read").await;
    exporter
        .logs("The new configuration cannot be used; the old one stays.")
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
async fn a_reload_takes_changed_files_as_a_start_does_and_restarts_nothing() {
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
    exporter.logs("took over new certificates or keys").await;
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
    exporter.logs("The new configuration cannot be used").await;
    exporter.stop().await;
}

#[tokio::test]
async fn an_insecure_cluster_is_warned_about() {
    let cluster = Cluster::start().await;
    let setup = cluster.setup();
    setup.configure(&cluster.config("{insecure: true}"));
    let exporter = setup.start().await;
    exporter
        .logs("Cluster prod: Every server is believed")
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
fn files_that_cannot_be_used_are_a_wrong_configuration() {
    let config = "clusters:\n\
                  - {name: one, endpoints: ['https://a'], auth: {client_certificate: {cert_file: a.pem}}}\n\
                  - {name: two, endpoints: ['https://b'], trust: {ca_file: b.pem}}\n";
    let setup = Setup::new(config);
    fs::write(setup.file("a.pem"), "hunter2").unwrap();
    for command in [&[][..], &["check-config"]] {
        let ended = run(&setup, command);
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(64), "{told}");
        let lines: Vec<_> = told.lines().collect();
        let [one, two] = lines[..] else {
            panic!("{told}");
        };
        assert!(
            one.contains("cluster one: ") && one.contains("a.pem: holds no"),
            "{told}"
        );
        assert!(
            two.contains("cluster two: ") && two.contains("b.pem: cannot be"),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn what_works_but_should_be_known_is_told_by_check_config() {
    let expired = self_signed_as(&between(params("exporter"), -9, -1));
    let setup = Setup::new(
        "clusters: [{name: prod, endpoints: ['https://a'], trust: {insecure: true}, \
         auth: {client_certificate: {cert_file: a.pem}}}]",
    );
    fs::write(setup.file("a.pem"), expired.combined()).unwrap();
    let ended = run(&setup, &["check-config"]);
    let told = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{told}");
    for part in ["trust.insecure is set", "has expired", "no fault found"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
