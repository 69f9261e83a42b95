//! The numbers on top of Fleet and Service: how many partitions are in which trouble.
//!
//! A zero is said only where something is known. Where nothing is, the number is missing, grey,
//! and words stand in its place. A zero has no colour: with one partition known of thousands it is
//! no good news. Only the share of all that are known to be on time turns green.

use serde_json::json;
use servicefabric_backup_exporter::protection::ProtectionState;

use super::look::{
    BROKEN, GREEN, GREY, NEUTRAL, ORANGE, PURPLE, SEVERITY, States, VERMILLION, YELLOW, number_of,
    verdict_numbers,
};
use super::panel::{Next, Panel};
use super::shards;

const NOTHING_KNOWN: &str = "No verdict is known";

/// How many partitions have a severity that is so; missing where no verdict is known.
fn count(comparison: &str, verdict: ProtectionState) -> String {
    format!("sum({SEVERITY} {comparison} bool {})", number_of(verdict))
}

/// All of them.
pub(super) fn all() -> Vec<Panel> {
    vec![
        on_time(),
        counted(
            "Broken",
            &count(">=", BROKEN),
            VERMILLION,
            "Partitions that should have a backup and have none in time: Overdue, NeverBackedUp or Stuck. Look at storage, policy and health of the worst ones first.",
            &Next::Runbook("ServiceFabricBackupOverdue"),
        )
        .empty(NOTHING_KNOWN),
        counted(
            "Unprotected",
            &count("==", ProtectionState::Unprotected),
            PURPLE,
            "Partitions that no policy protects. Enable backup for them, or leave the application out of the exporter's configuration.",
            &Next::Runbook("ServiceFabricBackupUnprotected"),
        )
        .empty(NOTHING_KNOWN),
        counted(
            "Suspended",
            &count("==", ProtectionState::Suspended),
            YELLOW,
            "Partitions whose protection somebody has suspended: no backup is taken. Resume it when the work is done.",
            &Next::Runbook("ServiceFabricBackupSuspendedTooLong"),
        )
        .empty(NOTHING_KNOWN),
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
    // Rounded down: not 100 % as long as one is missing, however many there are. Old versions of
    // Prometheus lose a little in `avg`.
    let query = format!(
        "floor(10000 * avg({expected} <= bool {}) + 0.000001) / 10000",
        number_of(ProtectionState::Failing)
    );
    Panel::stat(
        "Known to be on time",
        "Share of the partitions with a schedule whose backup is known to be on time: Protected, Failing or Pending. Unknown counts as not on time; Unprotected and Suspended have no schedule and are not in it. When it falls for many at once, check whether backups have stopped.",
        &Next::Runbook("ServiceFabricBackupSilentStop"),
    )
    .now(&query, "on time")
    .unit("percentunit")
    .set("decimals", json!(2))
    .steps(&[(None, GREY), (Some(0.0), VERMILLION), (Some(0.8), ORANGE), (Some(1.0), GREEN)])
    .empty("No schedule is known")
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
        "Partitions that no exporter can judge: what is needed was never read, or too long ago. Blind is not late. Check what the exporter cannot read.",
        &Next::Runbook("ServiceFabricBackupProtectionUnknown"),
    )
    .empty("No exporter tells of a partition")
}

fn oldest() -> Panel {
    let (failing, stuck) = (number_of(ProtectionState::Failing), number_of(BROKEN));
    let excepted = format!("({SEVERITY} > {failing} < {stuck})");
    let last = "max by (@id) (servicefabric_backup_last_success_timestamp_seconds{@partitions})";
    let query = format!("time() - min({last} unless on (@id) {excepted})");
    Panel::stat(
        "Oldest last backup",
        "Age of the last good backup where that is oldest: so much a restore would lose there. Without partitions that are Unprotected or Suspended, and without those that have no backup at all. Compare it with the longest schedule, then look for the partition among the worst.",
        &Next::Runbook("ServiceFabricBackupOverdueLong"),
    )
    .now(&query, "age")
    .option("colorMode", json!("value"))
    .unit("s")
    .set("decimals", json!(1))
    .steps(&[(None, "text")])
    .empty("No good backup is known")
    .width(3)
}

/// Clusters that nobody sees, or not all of them.
pub(super) fn unreached() -> Panel {
    let query = format!(
        "sum(max by (cluster_name) ((\n{}\n) < bool 1))",
        shards::reached()
    );
    counted(
        "Clusters not reached",
        &query,
        VERMILLION,
        "Clusters, among those seen within a day, of which a shard has no exporter now that reaches a gateway. What it watches is blind, not late. Check exporter, network and certificates.",
        &Next::Runbook("ServiceFabricBackupClusterUnreachable"),
    )
    .empty("No exporter is scraped")
}

/// A number that is no trouble as long as it is 0.
pub(super) fn counted(
    title: &str,
    query: &str,
    colour: &str,
    description: &str,
    next: &Next,
) -> Panel {
    Panel::stat(title, description, next)
        .now(query, &title.to_lowercase())
        .unit("locale")
        .steps(&[(None, GREY), (Some(0.0), NEUTRAL), (Some(1.0), colour)])
        .width(3)
}

/// How many partitions there are by verdict, over time.
pub(super) fn over_time(verdicts: &States) -> Panel {
    Panel::lines(
        "Verdicts over time",
        "How many partitions had which verdict. A step to Overdue in many at once is a silent stop; a step to Unknown means that the exporter went blind. Check what changed in the cluster at that time.",
        &Next::Runbook("ServiceFabricBackupSilentStop"),
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
    .empty("No exporter tells of a partition")
}
