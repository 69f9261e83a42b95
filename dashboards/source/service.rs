//! The dashboard Service: the partitions of one service, or of all services of one application.

use serde_json::{Value, json};

use super::dashboard::Dashboard;
use super::panel::{FollowUp, Panel, seconds};
use super::scope::Scope;
use super::states::{self, GREY, VERMILLION};
use super::{links, stats, variables};

pub(super) fn dashboard() -> Value {
    let mut variables = variables::exporters();
    variables.extend([
        variables::cluster(),
        variables::application(),
        variables::services(),
    ]);
    let mut numbers = stats::all();
    numbers.extend([stats::unreached(), partitions()]);
    let dashboard = Dashboard {
        uid: "sfbe-service",
        title: "Service Fabric Backup / Service",
        description: "All partitions of a service or application, with their verdicts and policies.",
        from: "now-24h",
        scope: Scope {
            clusters: r#"cluster_name="$cluster_name""#,
            services: SERVICES,
            partitions: SERVICES,
        },
        variables,
        annotations: Vec::new(),
        rows: vec![
            (4, numbers),
            (10, vec![table()]),
            (
                9,
                vec![stats::over_time(&states::verdicts()).width(10), timeline()],
            ),
            (8, vec![relative_age(), lsn_rate(), failures()]),
            (7, vec![policies()]),
        ],
    };
    dashboard.into_json()
}

const SERVICES: &str = r#"cluster_name="$cluster_name", application_name="$application_name", service_name=~"$service_name""#;

fn partitions() -> Panel {
    Panel::stat(
        "Known partitions",
        "Watched partitions of the selection. If the service has more, check whether an exporter or a shard is missing.",
        &FollowUp::Dashboard("Exporter"),
    )
    .now("count(group by (@id) (servicefabric_backup_partition_info{@partitions}))", "partitions")
    .option("colorMode", json!("value"))
    .unit("locale")
    .steps(&[(None, "text")])
    .empty("No partition data")
    .width(3)
}

fn table() -> Panel {
    let (verdicts, requests) = (states::verdicts(), states::requests());
    let queries = [
        states::verdict_numbers(),
        "max by (@id, policy_name) (servicefabric_backup_partition_info{@partitions})".to_owned(),
        "time() - max by (@id) (servicefabric_backup_last_success_timestamp_seconds{@partitions})"
            .to_owned(),
        "max by (@id) (servicefabric_backup_due_timestamp_seconds{@partitions}) - time()"
            .to_owned(),
        "max by (@id) (servicefabric_backup_last_success_lsn{@partitions})".to_owned(),
        requests.numbers(),
    ];
    let request = [
        ("mappings", json!([requests.mapping()])),
        ("color", json!({ "mode": "fixed", "fixedColor": "text" })),
    ];
    let panel = Panel::table(
        "Partitions",
        "Partitions with their verdicts, worst first, up to 500. A negative value of Due in is the time since the due time. Click on a partition to see its history.",
        &FollowUp::Dashboard("Partition"),
    );
    // The limit keeps the browser responsive. With equal values, `topk` can select different partitions in
    // each query, so the rows of the first query count.
    let shown = format!("topk(500, {})", states::verdict_numbers());
    let panel = queries.iter().fold(panel, |panel, query| {
        panel.rows(&format!("({query})\nand on (@id) {shown}"))
    });
    panel
        .only_rows_of_first_query()
        .hide(&["Value #B"])
        .column(
            "Value #A",
            "Verdict",
            "unknown",
            &states::verdict_cells(&verdicts),
        )
        .column("Value #D", "Due in", "none known", &seconds())
        .column("Value #C", "Last backup", "none known", &seconds())
        .column("Value #F", "Last request", "none known", &request)
        .column("policy_name", "Policy", "none known", &[])
        .column("Value #E", "LSN", "unknown", &[])
        .service_columns(&[])
        .column(
            "partition_id",
            "Partition",
            "unknown",
            &[
                ("links", json!([links::partition_of_row()])),
                ("custom.width", json!(290)),
            ],
        )
        .sorted_by("Verdict")
        .empty("No partition data")
}

fn timeline() -> Panel {
    let verdicts = states::verdicts();
    let query = format!("topk(50,\n{}\n)", states::verdict_numbers());
    Panel::states(
        "Verdicts of the worst partitions",
        "Verdicts over time of up to 50 partitions, worst first. Click on a row to see the history of the partition.",
        &FollowUp::Dashboard("Partition"),
        &[verdicts.mapping()],
    )
    .over_time(&query, "{{partition_id}}")
    .linked_to(&[links::partition_of_series()])
    .coarse()
    .empty("No partition data")
    .width(14)
}

fn relative_age() -> Panel {
    let last = "max by (@id) (servicefabric_backup_last_success_timestamp_seconds{@partitions})";
    let due = "max by (@id) (servicefabric_backup_due_timestamp_seconds{@partitions})";
    let query = format!("topk(20, (time() - {last}) / ({due} - {last} > 0))");
    Panel::lines(
        "Age relative to the schedule",
        "Age of the last backup relative to the time between that backup and the due time, for the 20 highest partitions. A healthy partition rises to 100 % and drops. Above 100 %, it is late: check the partitions that continue to rise.",
        &FollowUp::Runbook("ServiceFabricBackupOverdue"),
    )
    .over_time(&query, "{{service_name}} {{partition_id}}")
    .unit("percentunit")
    .set("min", json!(0))
    .custom("thresholdsStyle", json!({ "mode": "dashed" }))
    .set("thresholds", json!({ "mode": "absolute", "steps": [
        { "value": null, "color": GREY },
        { "value": 1, "color": VERMILLION },
    ] }))
    .option("legend", json!({ "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false }))
    .linked_to(&[links::partition_of_series()])
    .coarse()
    .empty("No backed-up partitions with a schedule")
    .width(8)
}

fn lsn_rate() -> Panel {
    let query = "topk(20, max by (@id) (rate(servicefabric_backup_lsn_advance_total{@partitions}[$__rate_interval])))";
    Panel::lines(
        "Log records backed up",
        "New log records per second in successful backups, for the 20 highest partitions. If the rate stays at 0 while the service writes, the backups contain no new data: check the newest ones.",
        &FollowUp::Runbook("ServiceFabricBackupLsnFrozen"),
    )
    .over_time(query, "{{service_name}} {{partition_id}}")
    .unit("short")
    .set("min", json!(0))
    .option("legend", json!({ "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false }))
    .linked_to(&[links::partition_of_series()])
    .coarse()
    .empty("No known LSN")
    .width(8)
}

fn failures() -> Panel {
    let seen = |counter: &str, label: &str| {
        let labels =
            format!("cluster_name, application_name, service_name, {label}, shard, shards");
        format!(
            "sum by ({label}) (max by ({labels}) (increase({counter}[$__rate_interval]) * @shard))"
        )
    };
    let ended = r#"servicefabric_backup_observed_completions_total{@services, outcome!="success"}"#;
    Panel::lines(
        "Observed failed requests",
        "Requested backups that failed or timed out, in total and by failure code. Periodic backups are not included. The first failure of a new code appears by code two minutes after the total, and a failure at the edge of a bar can also appear in the next one. Look up the code in docs/runbooks/failure-codes.md.",
        &FollowUp::Runbook("ServiceFabricBackupRequestFailed"),
    )
    .over_time(&seen(ended, "outcome"), "all with {{outcome}}")
    .over_time(&seen("servicefabric_backup_observed_failures_total{@services}", "code"), "{{code}}")
    .unit("locale")
    .set("min", json!(0))
    .custom("drawStyle", json!("bars"))
    .custom("fillOpacity", json!(60))
    .coarse()
    .empty("No observed requests")
    .width(8)
}

fn policies() -> Panel {
    let used = "max by (@id, policy_name, policy_inherited_from) (servicefabric_backup_partition_info{@partitions})";
    let of_use =
        "and on (cluster_name, policy_name) servicefabric_backup_partition_info{@partitions}";
    let label = "cluster_name, policy_name";
    let described = "schedule_kind, storage_kind, auto_restore";
    let of_policy = |family: &str| format!("max by ({label}) ({family}{{@clusters}}) {of_use}");
    let queries = [
        format!("count by ({label}, policy_inherited_from) ({used})"),
        format!(
            "max by ({label}, {described}) (servicefabric_backup_policy_info{{@clusters}}) {of_use}"
        ),
        of_policy("servicefabric_backup_policy_interval_seconds"),
        of_policy("servicefabric_backup_policy_retention_seconds"),
        of_policy("servicefabric_backup_policy_minimum_backups"),
        of_policy("servicefabric_backup_policy_max_incrementals"),
    ];
    let panel = Panel::table(
        "Policies in use",
        "Policies of the selection, the level on which they were enabled, and their settings. Partitions in the row without a policy are not protected: enable backup for them.",
        &FollowUp::Runbook("ServiceFabricBackupUnprotected"),
    );
    let panel = queries.iter().fold(panel, |panel, query| panel.rows(query));
    panel
        .hide(&["Value #B"])
        .column("policy_name", "Policy", "no policy", &[])
        .column("policy_inherited_from", "Set at", "none", &[])
        .column("Value #A", "Partitions", "unknown", &[])
        .column("schedule_kind", "Schedule", "unknown", &[])
        .column("Value #C", "Longest interval", "unknown", &seconds())
        .column("storage_kind", "Storage", "unknown", &[])
        .column("Value #D", "Retention", "unknown", &seconds())
        .column("Value #E", "Minimum backups", "unknown", &[])
        .column("Value #F", "Maximum incrementals", "unknown", &[])
        .column("auto_restore", "Automatic restore", "unknown", &[])
        .column("cluster_name", "Cluster", "unknown", &[])
        .empty("No partition data")
}
