//! The stat panels at the top of Fleet and Service.
//!
//! Without data, they show a text on grey instead of 0. A zero has no colour, because it can be based on
//! one known partition of thousands. Only the panel On time turns green.

use serde_json::json;
use servicefabric_backup_exporter::protection::ProtectionState;

use super::panel::{FollowUp, Panel};
use super::shards;
use super::states::{
    GREEN, GREY, LATE_OR_STUCK, NEUTRAL, ORANGE, PURPLE, SEVERITY, States, VERMILLION, YELLOW,
    number_of, verdict_numbers,
};

/// Text for panels of exporters.
pub(super) const NO_EXPORTER: &str = "No exporters scraped";

const NO_VERDICTS: &str = "No known verdicts";

/// A query for the number of partitions whose severity compares to that of a verdict.
fn count(comparison: &str, verdict: ProtectionState) -> String {
    format!("sum({SEVERITY} {comparison} bool {})", number_of(verdict))
}

/// The panels that Fleet and Service share.
pub(super) fn all() -> Vec<Panel> {
    vec![
        on_time(),
        counted(
            "Late or stuck",
            &count(">=", LATE_OR_STUCK),
            VERMILLION,
            "Partitions with the verdict Overdue, NeverBackedUp or Stuck. Check storage, policy and health of the worst ones first.",
            &FollowUp::Runbook("ServiceFabricBackupOverdue"),
        )
        .empty(NO_VERDICTS),
        counted(
            "Unprotected",
            &count("==", ProtectionState::Unprotected),
            PURPLE,
            "Partitions without a backup policy. Enable backup for them, or exclude the application in the configuration of the exporter.",
            &FollowUp::Runbook("ServiceFabricBackupUnprotected"),
        )
        .empty(NO_VERDICTS),
        counted(
            "Suspended",
            &count("==", ProtectionState::Suspended),
            YELLOW,
            "Partitions whose backup is suspended: no backups are taken. Resume backup when the maintenance is complete.",
            &FollowUp::Runbook("ServiceFabricBackupSuspendedTooLong"),
        )
        .empty(NO_VERDICTS),
        unknown(),
        oldest(),
    ]
}

fn on_time() -> Panel {
    let expected = format!(
        "({}) != {} != {}",
        verdict_numbers(),
        number_of(ProtectionState::Unprotected),
        number_of(ProtectionState::Suspended)
    );
    // Rounded down, so that a single late partition is never shown as 100 %. The small constant compensates
    // for the rounding error of `avg` in old versions of Prometheus.
    let query = format!(
        "floor(10000 * avg({expected} <= bool {}) + 0.000001) / 10000",
        number_of(ProtectionState::Failing)
    );
    Panel::stat(
        "On time",
        "Share of the scheduled partitions with the verdict Protected, Failing or Pending. Unknown counts as not on time. Unprotected and Suspended partitions have no schedule and are excluded. If the share drops suddenly, check whether backups have stopped.",
        &FollowUp::Runbook("ServiceFabricBackupSilentStop"),
    )
    .now(&query, "on time")
    .unit("percentunit")
    .set("decimals", json!(2))
    .steps(&[(None, GREY), (Some(0.0), VERMILLION), (Some(0.8), ORANGE), (Some(1.0), GREEN)])
    .empty("No known schedule")
    .width(3)
}

fn unknown() -> Panel {
    let query = format!(
        "sum(({}) == bool {})",
        verdict_numbers(),
        number_of(ProtectionState::Unknown)
    );
    counted(
        "Unknown",
        &query,
        GREY,
        "Partitions whose verdict cannot be determined, because data is missing or stale. They are not necessarily late. Check which requests of the exporter fail.",
        &FollowUp::Runbook("ServiceFabricBackupProtectionUnknown"),
    )
    .empty("No partition data")
}

fn oldest() -> Panel {
    let (failing, stuck) = (
        number_of(ProtectionState::Failing),
        number_of(LATE_OR_STUCK),
    );
    let excepted = format!("({SEVERITY} > {failing} < {stuck})");
    let last = "max by (@id) (servicefabric_backup_last_success_timestamp_seconds{@partitions})";
    let query = format!("time() - min({last} unless on (@id) {excepted})");
    Panel::stat(
        "Oldest last success",
        "Age of the oldest last success of all partitions. Partitions that are Unprotected, Suspended or without any backup are excluded. Compare it with the longest schedule, then find the partition in the table of the worst ones.",
        &FollowUp::Runbook("ServiceFabricBackupOverdueLong"),
    )
    .now(&query, "age")
    .option("colorMode", json!("value"))
    .unit("s")
    .set("decimals", json!(1))
    .steps(&[(None, "text")])
    .empty("No known successful backup")
    .width(3)
}

/// Clusters with a shard that no exporter reaches.
pub(super) fn unreached() -> Panel {
    let query = format!(
        "sum(max by (cluster_name) ((\n{}\n) < bool 1))",
        shards::reached()
    );
    counted(
        "Unreachable clusters",
        &query,
        VERMILLION,
        "Clusters of the last day with a shard from which no exporter reaches a gateway. Its partitions are Unknown, not late. Check exporter, network and certificates.",
        &FollowUp::Runbook("ServiceFabricBackupClusterUnreachable"),
    )
    .empty(NO_EXPORTER)
}

/// A stat panel for a count that should be 0.
pub(super) fn counted(
    title: &str,
    query: &str,
    colour: &str,
    description: &str,
    follow_up: &FollowUp,
) -> Panel {
    Panel::stat(title, description, follow_up)
        .now(query, &title.to_lowercase())
        .unit("locale")
        .steps(&[(None, GREY), (Some(0.0), NEUTRAL), (Some(1.0), colour)])
        .width(3)
}

pub(super) fn over_time(verdicts: &States) -> Panel {
    Panel::lines(
        "Verdicts over time",
        "Partitions by verdict over time. If many change to Overdue at once, backups have stopped. If many change to Unknown, the exporter has lost access. Check what changed in the cluster at that time.",
        &FollowUp::Runbook("ServiceFabricBackupSilentStop"),
    )
    .over_time(&verdicts.counts(), "{{state}}")
    .coloured_by(verdicts)
    .custom("fillOpacity", json!(60))
    .custom("lineWidth", json!(1))
    .custom("stacking", json!({ "mode": "normal", "group": "A" }))
    .unit("locale")
    .set("min", json!(0))
    .set("decimals", json!(0))
    .coarse()
    .empty("No partition data")
}
