//! Reports when configured selectors match nothing, and when they match again.
//!
//! Compares with the report before, so that each fact is logged when it begins and when it ends.

use tracing::{info, warn};

use crate::inventory::{Selection, listed};

/// Logs how `now` differs from `before`, the last selection of this configuration.
pub(super) fn report(cluster: &str, before: Option<&Selection>, now: &Selection) {
    let nothing = Selection::default();
    let before = before.unwrap_or(&nothing);
    let count = now.unmatched.len();
    let begun: Vec<_> = now.unmatched.difference(&before.unmatched).collect();
    if !begun.is_empty() {
        let settings = listed(&begun);
        warn!(
            cluster,
            count, "Cluster {cluster}: selectors match nothing: {settings}."
        );
    }
    let ended: Vec<_> = before.unmatched.difference(&now.unmatched).collect();
    if !ended.is_empty() && begun.is_empty() {
        info!(
            cluster,
            count,
            "Cluster {cluster}: selectors that matched nothing match again ({}); {count} still \
             match nothing.",
            ended.len()
        );
    }
    match (before.empty, now.empty) {
        (_, Some(reason)) if before.empty != now.empty => {
            let reason = reason.as_str();
            warn!(
                cluster,
                "Cluster {cluster}: no partition is watched, because {reason}."
            );
        }
        (Some(_), None) => {
            info!(
                cluster,
                "Cluster {cluster}: there are partitions to watch again."
            );
        }
        _ => {}
    }
}

/// Logs when a reload made the selection much smaller.
pub(super) fn report_drop(cluster: &str, before: usize, now: usize) {
    if now.saturating_mul(2) < before {
        warn!(
            cluster,
            before,
            now,
            "Cluster {cluster}: {now} partitions are watched since the reload, {before} were \
             before it."
        );
    }
}
