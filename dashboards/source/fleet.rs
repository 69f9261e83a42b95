//! Fleet: is everything backed up, and if not, what, where and since when. One screen.

use serde_json::{Value, json};
use servicefabric_backup_exporter::protection::ProtectionState;

use super::look::{self, BROKEN, GREY, PURPLE, SEVERITY, SKY, VERMILLION, number_of};
use super::panel::{Next, Panel, datasource};
use super::{Dashboard, Scope, links, shards, stats, variables};

pub(super) fn dashboard() -> Value {
    let mut variables = variables::exporters();
    variables.extend([variables::clusters(), variables::applications()]);
    let mut numbers = stats::all();
    numbers.extend([stats::unreached(), unanswered()]);
    let dashboard = Dashboard {
        uid: "sfbe-fleet",
        title: "Service Fabric Backup / Fleet",
        description: "Whether the partitions of all clusters are protected, and which are not.",
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
                    stats::over_time(&look::verdicts()).width(8),
                    failed_requests(),
                ],
            ),
        ],
    };
    dashboard.laid_out()
}

const SERVICES: &str = r#"cluster_name=~"$cluster_name", application_name=~"$application_name""#;

/// Marks changes of the runtime, after which backups have been seen to stop.
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
        "textFormat": "Service Fabric runtime of {{cluster_name}} is {{version}} now.",
        "tagKeys": "cluster_name",
    })
}

fn unanswered() -> Panel {
    let reached = shards::best("servicefabric_backup_cluster_up");
    let answers = shards::best("servicefabric_backup_service_up");
    let query = format!("sum(max by (cluster_name) (({reached} == 1)\n> bool {answers}))");
    stats::counted(
        "Backup service silent",
        &query,
        VERMILLION,
        "Clusters that are reached, and whose backup restore service did not answer a shard in the last poll: it is absent, unreachable, or refuses the exporter. Nobody sees what becomes of backups there. Check the service in the cluster.",
        &Next::Runbook("ServiceFabricBackupServiceDown"),
    )
    .empty("No cluster is reached")
}

fn by_verdict() -> Panel {
    let verdicts = look::verdicts();
    let bar = [
        (
            "custom.cellOptions",
            json!({ "type": "gauge", "mode": "basic" }),
        ),
        ("color", json!({ "mode": "fixed", "fixedColor": SKY })),
    ];
    Panel::table(
        "Partitions by verdict",
        "Every partition has one verdict; the worst stand on top. Look up what a verdict means, and what to do about it, in docs/protection.md; find the partitions in the tables beside.",
        &Next::Dashboard("Service"),
    )
    .rows(&verdicts.counts())
    .ordered_by("rank")
    .hide(&["rank"])
    .column("state", "Verdict", "not told", &look::words(&verdicts))
    .column("Value", "Partitions", "not told", &bar)
    .unit("locale")
    .set("decimals", json!(0))
    .set("min", json!(0))
    .empty("No exporter tells of a partition")
    .width(4)
}

fn worst_partitions() -> Panel {
    let verdicts = look::verdicts();
    let broken = format!("0 * {}", verdicts.worst(number_of(BROKEN)));
    let due = "max by (@id) (servicefabric_backup_due_timestamp_seconds{@partitions})";
    let query =
        format!("topk(20,\n{broken} + on (@id) group_left () (time() - {due})\nor {broken}\n)");
    let past_due = [
        ("unit", json!("s")),
        ("decimals", json!(1)),
        ("mappings", json!([look::up_to(0.0, "not due", GREY)])),
        ("custom.width", json!(110)),
    ];
    Panel::table(
        "Worst partitions",
        "The twenty broken partitions whose backup is past its due moment by most. Click on one and read what happened to it; look at its storage and policy.",
        &Next::Runbook("ServiceFabricBackupOverdueLong"),
    )
    .rows(&query)
    .column("state", "Verdict", "not told", &look::words(&verdicts))
    .column("Value", "Past due", "not told", &past_due)
    .service_columns(&[("links", json!([links::service_of_row()]))])
    .column("partition_id", "Partition", "not told", &[("links", json!([links::partition_of_row()]))])
    .sorted_by("Past due")
    .empty("No broken partition is known")
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
        "Services in trouble",
        "The twenty services with most broken partitions, and those with most that are Unprotected or Unknown. Many in one service point to its policy or storage: look there first.",
        &Next::Dashboard("Service"),
    )
    .rows(&having(SEVERITY, ">=", BROKEN))
    .rows(&having(SEVERITY, "==", ProtectionState::Unprotected))
    .rows(&having(&look::verdict_numbers(), "==", ProtectionState::Unknown))
    .column("Value #A", "Broken", FEW, &counted(VERMILLION))
    .column("Value #B", "Unprotected", FEW, &counted(PURPLE))
    .column("Value #C", "Unknown", FEW, &counted("text"))
    .service_columns(&[("links", json!([links::service_of_row()]))])
    .sorted_by("Broken")
    .unit("locale")
    .empty("No trouble is known")
    .width(9)
}

/// A service may be among the first for another column.
const FEW: &str = "few or none";

/// A number in the colour of what it counts.
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
        "Past due, by cluster",
        "Share of the partitions with a due moment that are past it, the allowance not counted. It rises at once when backups stop without a word. A gap means that nothing is known. Check the backup service and the upgrades marked here.",
        &Next::Runbook("ServiceFabricBackupSilentStop"),
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
    .leads(&[links::exporter_of_series()])
    .coarse()
    .empty("No partition has a due moment")
    .width(8)
}

fn failed_requests() -> Panel {
    let query = "count by (code) (max by (@id, code) (servicefabric_backup_progress_failure{@partitions} == 1))";
    Panel::lines(
        "Failed requests, by code",
        "Partitions whose last requested backup failed or timed out, by failure code. Periodic backups never show here. Look the code up among the failure codes and read the message on the exporter's page of the partition.",
        &Next::Runbook("ServiceFabricBackupRequestFailed"),
    )
    .over_time(query, "{{code}}")
    .unit("locale")
    .set("min", json!(0))
    .set("decimals", json!(0))
    .coarse()
    .empty("No failed request is known")
    .width(8)
}
