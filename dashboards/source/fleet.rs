//! The dashboard Fleet: protection of the partitions of all clusters, on one screen.

use serde_json::{Value, json};
use servicefabric_backup_exporter::protection::Protection;

use super::dashboard::Dashboard;
use super::panel::{FollowUp, Panel, datasource};
use super::scope::Scope;
use super::states::{self, GREY, LATE_OR_STUCK, PURPLE, SEVERITY, SKY, VERMILLION, number_of};
use super::{links, shards, stats, variables};

pub(super) fn dashboard() -> Value {
    let mut variables = variables::exporters();
    variables.extend([variables::clusters(), variables::applications()]);
    let mut numbers = stats::all();
    numbers.extend([stats::unreached(), service_down()]);
    let dashboard = Dashboard {
        uid: "sfbe-fleet",
        title: "Service Fabric Backup / Fleet",
        description: "Protection of the partitions of all clusters.",
        from: "now-24h",
        scope: Scope {
            clusters: r#"cluster_name=~"$cluster_name""#,
            services: SERVICES,
            partitions: SERVICES,
        },
        variables,
        annotations: vec![upgrades()],
        rows: vec![
            (4, numbers),
            (8, vec![by_verdict(), worst_partitions(), worst_services()]),
            (
                8,
                vec![
                    past_due(),
                    stats::over_time(&states::verdicts()).width(8),
                    failed_requests(),
                ],
            ),
        ],
    };
    dashboard.into_json()
}

const SERVICES: &str = r#"cluster_name=~"$cluster_name", application_name=~"$application_name""#;

/// Annotations for runtime upgrades, because some of them stopped all backups.
fn upgrades() -> Value {
    let seen = "group by (cluster_name, version) (servicefabric_backup_cluster_info{@clusters})";
    let before = "group by (cluster_name, version) (servicefabric_backup_cluster_info{@clusters} offset 10m)";
    let query = format!("{seen} unless {before}\nand on (cluster_name) {before}");
    json!({
        "name": "Runtime upgrades",
        "datasource": datasource(),
        "enable": true,
        "iconColor": SKY,
        "expr": query,
        "step": "1m",
        "titleFormat": "Runtime {{version}}",
        "textFormat": "The Service Fabric runtime of {{cluster_name}} is now {{version}}.",
        "tagKeys": "cluster_name",
    })
}

fn service_down() -> Panel {
    let reached = shards::best("servicefabric_backup_cluster_up");
    let answers = shards::best("servicefabric_backup_service_up");
    let query = format!("sum(max by (cluster_name) (({reached} == 1)\n> bool {answers}))");
    stats::counted(
        "Backup service unavailable",
        &query,
        VERMILLION,
        "Reachable clusters whose Backup and Restore Service did not answer a shard in the last poll: it is absent, unavailable, or rejects the exporter. Missing backups of these clusters are not detected. Check the service in the cluster.",
        &FollowUp::Runbook("ServiceFabricBackupServiceDown"),
    )
    .empty("No reachable clusters")
}

fn by_verdict() -> Panel {
    let verdicts = states::verdicts();
    let bar = [
        (
            "custom.cellOptions",
            json!({ "type": "gauge", "mode": "basic" }),
        ),
        ("color", json!({ "mode": "fixed", "fixedColor": SKY })),
    ];
    Panel::table(
        "Partitions by verdict",
        "Number of partitions with each verdict, worst first. Look up the verdicts in docs/protection.md, and find the partitions in the other tables.",
        &FollowUp::Dashboard("Service"),
    )
    .rows(&verdicts.counts())
    .ordered_by("rank")
    .hide(&["rank"])
    .column("state", "Verdict", "unknown", &states::verdict_cells(&verdicts))
    .column("Value", "Partitions", "unknown", &bar)
    .unit("locale")
    .set("decimals", json!(0))
    .set("min", json!(0))
    .empty("No partition data")
    .width(4)
}

fn worst_partitions() -> Panel {
    let verdicts = states::verdicts();
    let late_or_stuck = format!("0 * {}", verdicts.worst(number_of(LATE_OR_STUCK)));
    let due = "max by (@id) (servicefabric_backup_due_timestamp_seconds{@partitions})";
    let query = format!(
        "topk(20,\n{late_or_stuck} + on (@id) group_left () (time() - {due})\nor {late_or_stuck}\n)"
    );
    let past_due = [
        ("unit", json!("s")),
        ("decimals", json!(1)),
        (
            "mappings",
            json!([states::range_mapping(0.0, "not due", GREY)]),
        ),
        ("custom.width", json!(110)),
    ];
    Panel::table(
        "Worst partitions",
        "The 20 late or stuck partitions that are the longest past their due time. Click on a partition to see its history, and check its storage and policy.",
        &FollowUp::Runbook("ServiceFabricBackupOverdueLong"),
    )
    .rows(&query)
    .column("state", "Verdict", "unknown", &states::verdict_cells(&verdicts))
    .column("Value", "Past due", "unknown", &past_due)
    .service_columns(&[("links", json!([links::service_of_row()]))])
    .column("partition_id", "Partition", "unknown", &[("links", json!([links::partition_of_row()]))])
    .sorted_by("Past due")
    .empty("No known late or stuck partitions")
    .width(11)
}

fn worst_services() -> Panel {
    let having = |numbers: &str, comparison: &str, verdict| {
        let labels = "cluster_name, application_name, service_name";
        format!(
            "topk(20, count by ({labels}) (({numbers}) {comparison} {}))",
            number_of(verdict)
        )
    };
    Panel::table(
        "Services with problems",
        "The 20 services with the most partitions that are late or stuck, Unprotected, or Unknown. Many partitions of one service indicate a problem of its policy or storage: check these first.",
        &FollowUp::Dashboard("Service"),
    )
    .rows(&having(SEVERITY, ">=", LATE_OR_STUCK))
    .rows(&having(SEVERITY, "==", Protection::Unprotected))
    .rows(&having(&states::verdict_numbers(), "==", Protection::Unknown))
    .column("Value #A", "Late or stuck", FEW, &counted(VERMILLION))
    .column("Value #B", "Unprotected", FEW, &counted(PURPLE))
    .column("Value #C", "Unknown", FEW, &counted("text"))
    .service_columns(&[("links", json!([links::service_of_row()]))])
    .sorted_by("Late or stuck")
    .unit("locale")
    .empty("No known problems")
    .width(9)
}

/// An empty cell: the service is in the top 20 for another column.
const FEW: &str = "not in the top 20";

/// Properties of a table column with a coloured count.
fn counted(colour: &str) -> [(&'static str, Value); 3] {
    [
        ("color", json!({ "mode": "fixed", "fixedColor": colour })),
        ("custom.cellOptions", json!({ "type": "color-text" })),
        ("custom.width", json!(95)),
    ]
}

fn past_due() -> Panel {
    let query = "avg by (cluster_name) (max by (@id) (servicefabric_backup_due_timestamp_seconds{@partitions}) < bool time())";
    Panel::lines(
        "Past due by cluster",
        "Share of the partitions that are past their due time, without the allowance. It rises immediately when backups stop silently. A gap means that there is no data. Check the Backup and Restore Service, and the upgrades that are marked here.",
        &FollowUp::Runbook("ServiceFabricBackupSilentStop"),
    )
    .over_time(query, "{{cluster_name}}")
    .unit("percentunit")
    .set("min", json!(0))
    .set("max", json!(1))
    .custom("thresholdsStyle", json!({ "mode": "dashed" }))
    .set("thresholds", json!({ "mode": "absolute", "steps": [
        { "value": null, "color": GREY },
        { "value": 0.2, "color": VERMILLION },
    ] }))
    .linked_to(&[links::exporter_of_series()])
    .coarse()
    .empty("No known schedule")
    .width(8)
}

fn failed_requests() -> Panel {
    let query = "count by (code) (max by (@id, code) (servicefabric_backup_progress_failure{@partitions} == 1))";
    Panel::lines(
        "Failed requests by code",
        "Partitions whose last requested backup failed or timed out, by failure code. Periodic backups are not included. Look up the code in docs/runbooks/failure-codes.md, and read the message in the API of the exporter.",
        &FollowUp::Runbook("ServiceFabricBackupRequestFailed"),
    )
    .over_time(query, "{{code}}")
    .unit("locale")
    .set("min", json!(0))
    .set("decimals", json!(0))
    .coarse()
    .empty("No known failed requests")
    .width(8)
}
