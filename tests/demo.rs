//! The commands `demo` and `simulate` as processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::page::Page;
use crate::support::process::Setup;
use crate::support::{eventually, within};
use reqwest::{Certificate, Client, StatusCode};
use servicefabric_backup_exporter::model::BackupState;
use servicefabric_backup_exporter::protection::ProtectionState;

/// Prefix of the directory of a secured demo.
const FOLDER: &str = "servicefabric-backup-exporter-demo-";

/// Time within which every state occurs.
const ROUND: Duration = Duration::from_secs(150);
const PAUSE: Duration = Duration::from_millis(500);

/// Cycles after which nothing new is logged.
const SETTLED: f64 = 3.0;

/// Number of cycles that have started.
fn cycles(page: &Page) -> f64 {
    let lists = [("route", "GetApplicationInfoList"), ("status", "200")];
    let begun = page.value("servicefabric_backup_gateway_requests_total", &lists);
    begun.unwrap_or_default()
}

#[tokio::test]
async fn demo_shows_every_state_and_logs_only_changes() {
    let exporter = Setup::new("").flag("demo").start().await;
    exporter.ready().await;
    let settled = exporter.page_where("it has settled", |page| cycles(page) >= SETTLED);
    settled.await;
    let log = exporter.log();
    let page = exporter.scrape().await;
    let up = page.value(
        "servicefabric_backup_cluster_up",
        &[("cluster_name", "demo")],
    );
    assert_eq!(up, Some(1.0));
    let landing = exporter.get("/").await.body;
    assert!(landing.contains("time runs fast"), "{landing}");
    let mut missing: BTreeSet<(&str, &str)> = BTreeSet::new();
    missing.extend(BackupState::ALL.map(|it| (REQUESTED, it.as_str())));
    missing.extend(ProtectionState::ALL.map(|it| (VERDICT, it.as_str())));
    assert_eq!(missing.len(), 7 + 9);
    within(ROUND, PAUSE, "everything was seen", async || {
        let page = exporter.scrape().await;
        missing.retain(|(family, state)| !shows(&page, family, state));
        missing.is_empty().then_some(())
    })
    .await;
    exporter
        .page_where("many cycles have passed", |page| {
            cycles(page) >= SETTLED + 5.0
        })
        .await;
    assert_eq!(exporter.log(), log, "the log reports changes only");
    exporter.stop().await;
}

/// Services of the gallery, and the protection state of their partitions.
const GALLERY: [(&str, &str); 10] = [
    ("BackedUp", "Protected"),
    ("StorageLost", "Overdue"),
    ("StoppedSilently", "Overdue"),
    ("JustEnabled", "Pending"),
    ("OnHold", "Suspended"),
    ("Forgotten", "Unprotected"),
    ("ActorsBackedUp", "Protected"),
    // Health says Ok of both: only the list tells that there is nothing in the store.
    ("ActorsStorageLost", "Overdue"),
    ("CleanedUp", "Pending"),
    ("RanEarly", "Protected"),
];

#[tokio::test]
async fn services_of_the_gallery_reach_their_protection_state() {
    let exporter = Setup::new("").flag("demo").start().await;
    exporter.ready().await;
    let mut others = Vec::new();
    let deadline = Instant::now() + ROUND;
    while Instant::now() < deadline {
        let page = exporter.scrape().await;
        others.clear();
        for (name, verdict) in GALLERY {
            let service = format!("fabric:/Gallery/{name}");
            let of = [("service_name", &*service), ("state", verdict)];
            let samples = page.all(VERDICT, &of);
            let missed = samples.iter().filter(|it| it.value < 1.0).count();
            if samples.is_empty() || missed > 0 {
                others.push(format!(
                    "{missed} of {} {name} not {verdict}",
                    samples.len()
                ));
            }
        }
        if others.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    assert!(others.is_empty(), "{others:#?}");
    exporter.stop().await;
}

#[tokio::test]
async fn secured_demo_serves_the_metrics_to_its_curl_command_and_cleans_up() {
    let setup = Setup::new("").flag("demo").flag("--secure");
    let temporary = setup.folder().display().to_string();
    let setup = setup.env("TMPDIR", &temporary);
    let exporter = setup.start().await;
    let log = exporter.log();
    let (_, command) = log
        .split_once("To get the metrics: curl --config ")
        .unwrap();
    let mut words = command.split_whitespace();
    let file = Path::new(words.next().unwrap());
    // Which port it is was left to the operating system.
    let (_, port) = exporter
        .addresses()
        .remove(0)
        .rsplit_once(':')
        .map(owned)
        .unwrap();
    let url = words.next().unwrap().trim_end_matches('"');
    let url = url.replace("localhost:0", &format!("localhost:{port}"));
    let client = Told::read(file);
    eventually("the page is up", async || {
        let page = client.get(&url).await?;
        let up = [("cluster_name", "demo")];
        let up = page.value("servicefabric_backup_cluster_up", &up);
        (up == Some(1.0)).then_some(())
    })
    .await;
    let folder = file.parent().unwrap();
    assert!(folder.starts_with(&temporary) && folder.exists());
    exporter.stop().await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn secured_demo_cleans_up_if_stopped_early() {
    let setup = Setup::new("").flag("demo").flag("--secure");
    let temporary = setup.folder().to_owned();
    let setup = setup.env("TMPDIR", &temporary.display().to_string());
    let folders = || {
        let entries = fs::read_dir(&temporary).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with(FOLDER))
            .count()
    };
    let exporter = setup.spawn();
    within(
        ROUND,
        Duration::from_millis(1),
        "it has begun",
        async || (folders() > 0).then_some(()),
    )
    .await;
    exporter.stop().await;
    assert_eq!(folders(), 0);
}

#[tokio::test]
async fn simulate_behind_proxy_warns_about_a_public_address() {
    for (address, warns) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
        let setup = Setup::new("").flag("simulate").flag("--behind-proxy");
        let setup = setup.env("SFBE_WEB_LISTEN_ADDRESS", address);
        let exporter = setup.spawn();
        exporter.logs("A simulated gateway listens").await;
        let warned = exporter.log().contains("can choose any role");
        assert_eq!(warned, warns, "{address}");
        exporter.kill();
    }
}

/// Contents of the configuration file for curl.
struct Told {
    client: Client,
    user: String,
    password: String,
}

impl Told {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap().trim_matches([' ', '=', '"']).to_owned()
        };
        let authority = fs::read(value("cacert")).unwrap();
        let authority = Certificate::from_pem(&authority).unwrap();
        let builder = Client::builder().no_proxy().tls_certs_only([authority]);
        let (user, password) = value("user").split_once(':').map(owned).unwrap();
        Self {
            client: builder.build().unwrap(),
            user,
            password,
        }
    }

    async fn get(&self, url: &str) -> Option<Page> {
        let request = self.client.get(url);
        let request = request.basic_auth(&self.user, Some(&self.password));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Some(Page::parse(&response.text().await.unwrap()))
    }
}

fn owned((first, second): (&str, &str)) -> (String, String) {
    (first.to_owned(), second.to_owned())
}

const REQUESTED: &str = "servicefabric_backup_progress_state";
const VERDICT: &str = "servicefabric_backup_protection_state";

/// Whether any partition is in this state.
fn shows(page: &Page, family: &str, state: &str) -> bool {
    let samples = page.all(family, &[("state", state)]);
    samples.iter().any(|sample| sample.value > 0.0)
}
