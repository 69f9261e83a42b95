//! The demo as a process of its own, as somebody sees it who tries the exporter out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::page::Page;
use crate::support::process::Setup;
use crate::support::{eventually, within};
use reqwest::{Certificate, Client, StatusCode};
use servicefabric_backup_exporter::model::BackupState;
use servicefabric_backup_exporter::protection::Protection;

/// What the name of the folder of a secured demo begins with.
const FOLDER: &str = "servicefabric-backup-exporter-demo-";

/// How long everything takes to have been seen.
const ROUND: Duration = Duration::from_secs(150);
const PAUSE: Duration = Duration::from_millis(500);

/// Cycles after which the log has nothing new to report.
const SETTLED: f64 = 3.0;

/// The cycles that have begun.
fn cycles(page: &Page) -> f64 {
    let lists = [("route", "GetApplicationInfoList"), ("status", "200")];
    let begun = page.value("servicefabric_backup_gateway_requests_total", &lists);
    begun.unwrap_or_default()
}

#[tokio::test]
async fn the_demo_shows_every_state_of_a_requested_backup_and_every_verdict_with_a_quiet_log() {
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
    assert!(landing.contains("compressed"), "{landing}");
    let mut missing: BTreeSet<(&str, &str)> = BTreeSet::new();
    missing.extend(BackupState::ALL.map(|it| (REQUESTED, it.as_str())));
    missing.extend(Protection::ALL.map(|it| (VERDICT, it.as_str())));
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

/// Services of the gallery, and the verdict that all partitions of each come to.
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
async fn each_service_of_the_gallery_comes_to_the_verdict_that_its_name_promises() {
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
async fn the_secured_demo_shows_the_page_to_who_does_as_it_says_and_cleans_up() {
    let setup = Setup::new("").flag("demo").flag("--secure");
    let temporary = setup.folder().display().to_string();
    let setup = setup.env("TMPDIR", &temporary);
    let exporter = setup.start().await;
    let log = exporter.log();
    let (_, command) = log.split_once("to see the page: curl --config ").unwrap();
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
async fn a_secured_demo_that_is_ended_early_leaves_nothing_behind() {
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
async fn a_gateway_behind_a_proxy_warns_of_an_address_that_others_reach() {
    for (address, warns) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
        let setup = Setup::new("").flag("simulate").flag("--behind-proxy");
        let setup = setup.env("SFBE_WEB_LISTEN_ADDRESS", address);
        let exporter = setup.spawn();
        exporter.logs("A simulated gateway answers").await;
        let warned = exporter.log().contains("choose their own role");
        assert_eq!(warned, warns, "{address}");
        exporter.kill();
    }
}

/// What a file for curl says.
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

/// Whether some partition is in this state.
fn shows(page: &Page, family: &str, state: &str) -> bool {
    let samples = page.all(family, &[("state", state)]);
    samples.iter().any(|sample| sample.value > 0.0)
}
