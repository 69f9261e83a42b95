//! The demo as a process of its own, as somebody sees it who tries the exporter out.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use servicefabric_backup_exporter::model::BackupState;
use servicefabric_backup_exporter::protection::Protection;
use support::page::Page;
use support::process::Setup;
use support::within;

/// How long everything takes to have been seen.
const ROUND: Duration = Duration::from_secs(150);
const PAUSE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn the_demo_shows_every_state_of_a_requested_backup_and_every_verdict() {
    let exporter = Setup::new("").flag("demo").start().await;
    exporter.ready().await;
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
    exporter.stop().await;
}

const REQUESTED: &str = "servicefabric_backup_progress_state";
const VERDICT: &str = "servicefabric_backup_protection_state";

/// Whether some partition is in this state.
fn shows(page: &Page, family: &str, state: &str) -> bool {
    let samples = page.all(family, &[("state", state)]);
    samples.iter().any(|sample| sample.value > 0.0)
}
