//! The demo as a process of its own, as somebody sees it who tries the exporter out.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::process::Setup;
use support::within;

/// How long everything takes to have been seen.
const ROUND: Duration = Duration::from_secs(150);
const PAUSE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn the_demo_shows_every_state_of_a_requested_backup() {
    let exporter = Setup::new("").flag("demo").start().await;
    exporter.ready().await;
    let page = exporter.scrape().await;
    let up = page.value(
        "servicefabric_backup_cluster_up",
        &[("cluster_name", "demo")],
    );
    assert_eq!(up, Some(1.0));
    let all = [
        "Accepted",
        "BackupInProgress",
        "Failure",
        "Invalid",
        "Success",
        "Timeout",
        "Unknown",
    ];
    let mut seen = BTreeSet::new();
    within(ROUND, PAUSE, "every state was seen", async || {
        let page = exporter.scrape().await;
        let states = page.all("servicefabric_backup_progress_state", &[]);
        let current = states.into_iter().filter(|sample| sample.value > 0.0);
        seen.extend(current.filter_map(|sample| sample.labels.get("state").cloned()));
        (seen.iter().eq(all.iter())).then_some(())
    })
    .await;
    exporter.stop().await;
}
