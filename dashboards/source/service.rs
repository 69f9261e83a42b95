//! Service: every partition of one service, or of all services of one application.

use serde_json::{Value, json};

use super::look::{self, GREY, VERMILLION};
use super::panel::{Next, Panel, seconds};
use super::{Dashboard, Scope, links, stats, variables};

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
        description: "Every partition of a service or an application, its verdict, and what it is backed up by.",
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
                vec![stats::over_time(&look::verdicts()).width(10), timeline()],
            ),
            (8, vec![age_against_schedule(), log_progress(), failures()]),
            (7, vec![policies()]),
        ],
    };
    dashboard.laid_out()
}

const SERVICES: &str = r#"cluster_name="$cluster_name", application_name="$application_name", service_name=~"$service_name""#;

fn partitions() -> Panel {
    Panel::stat(
        "Known partitions",
        "Partitions that an exporter knows of here. When there are fewer than the service has, look whether an exporter or a shard is missing.",
        &Next::Dashboard("Exporter"),
    )
    .now("count(group by (@id) (servicefabric_backup_partition_info{@partitions}))", "partitions")
    .option("colorMode", json!("value"))
    .unit("locale")
    .steps(&[(None, "text")])
    .empty("No exporter tells of a partition")
    .width(3)
}

fn table() -> Panel {
    let (verdicts, requests) = (look::verdicts(), look::requests());
    let queries = [
        look::verdict_numbers(),
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
        "Every partition with its verdict; at most 500, those in trouble first. Click on a partition and read what happened to it. A negative time in Due in says by how much it is late.",
        &Next::Dashboard("Partition"),
    );
    // At most so many rows, those in trouble first: more nobody reads, and a browser slows down.
    // Among equals each query may choose others, so the rows are those of the first one.
    let shown = format!("topk(500, {})", look::verdict_numbers());
    let panel = queries.iter().fold(panel, |panel, query| {
        panel.rows(&format!("({query})\nand on (@id) {shown}"))
    });
    panel
        .rows_of_the_first()
        .hide(&["Value #B"])
        .column("Value #A", "Verdict", "not told", &look::words(&verdicts))
        .column("Value #D", "Due in", "none known", &seconds())
        .column("Value #C", "Last backup", "none known", &seconds())
        .column("Value #F", "Last request", "none known", &request)
        .column("policy_name", "Policy", "none known", &[])
        .column("Value #E", "Log number", "not told", &[])
        .service_columns(&[])
        .column(
            "partition_id",
            "Partition",
            "not told",
            &[
                ("links", json!([links::partition_of_row()])),
                ("custom.width", json!(290)),
            ],
        )
        .sorted_by("Verdict")
        .empty("No exporter tells of a partition")
}

fn timeline() -> Panel {
    let verdicts = look::verdicts();
    let query = format!("topk(50,\n{}\n)", look::verdict_numbers());
    Panel::states(
        "Verdicts of the worst partitions",
        "The verdict of each partition over time, at most fifty at a moment, the worst first. Click on a row and look at the partition where a change is not explained.",
        &Next::Dashboard("Partition"),
        &[verdicts.mapping()],
    )
    .over_time(&query, "{{partition_id}}")
    .leads(&[links::partition_of_series()])
    .coarse()
    .empty("No exporter tells of a partition")
    .width(14)
}

fn age_against_schedule() -> Panel {
    let last = "max by (@id) (servicefabric_backup_last_success_timestamp_seconds{@partitions})";
    let due = "max by (@id) (servicefabric_backup_due_timestamp_seconds{@partitions})";
    let query = format!("topk(20, (time() - {last}) / ({due} - {last} > 0))");
    Panel::lines(
        "Age against the schedule",
        "Age of the last backup, as a share of the time from that backup to the moment the next one is due. A healthy partition climbs to 100 % and falls; above 100 % it is late. The twenty highest. Look at what climbs on.",
        &Next::Runbook("ServiceFabricBackupOverdue"),
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
    .leads(&[links::partition_of_series()])
    .coarse()
    .empty("No partition has a schedule and a backup")
    .width(8)
}

fn log_progress() -> Panel {
    let query = "topk(20, max by (@id) (rate(servicefabric_backup_lsn_advance_total{@partitions}[$__rate_interval])))";
    Panel::lines(
        "Log records newly backed up",
        "Log records per second that successful backups newly covered, the twenty highest. Flat at 0 under a service that writes means that backups hold nothing new: check the newest ones.",
        &Next::Runbook("ServiceFabricBackupLsnFrozen"),
    )
    .over_time(query, "{{service_name}} {{partition_id}}")
    .unit("short")
    .set("min", json!(0))
    .option("legend", json!({ "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false }))
    .leads(&[links::partition_of_series()])
    .coarse()
    .empty("No log sequence number is known")
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
        "Failed requests seen",
        "Requested backups that an exporter saw fail or time out, in all and by failure code; never periodic backups. The first failure of a new code shows by code two minutes later than in the sums, and one at the edge of a bar may stand in the next one too. Look the code up among the failure codes.",
        &Next::Runbook("ServiceFabricBackupRequestFailed"),
    )
    .over_time(&seen(ended, "outcome"), "every {{outcome}}")
    .over_time(&seen("servicefabric_backup_observed_failures_total{@services}", "code"), "{{code}}")
    .unit("locale")
    .set("min", json!(0))
    .custom("drawStyle", json!("bars"))
    .custom("fillOpacity", json!(60))
    .coarse()
    .empty("No requested backup was ever seen")
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
        "The policies that apply here, where they were set, and what they say. A line without a policy is what nobody protects: enable backup there.",
        &Next::Runbook("ServiceFabricBackupUnprotected"),
    );
    let panel = queries.iter().fold(panel, |panel, query| panel.rows(query));
    panel
        .hide(&["Value #B"])
        .column("policy_name", "Policy", "no policy", &[])
        .column("policy_inherited_from", "Set at", "nowhere", &[])
        .column("Value #A", "Partitions", "not told", &[])
        .column("schedule_kind", "Schedule", "not told", &[])
        .column("Value #C", "Longest gap", "not known", &seconds())
        .column("storage_kind", "Storage", "not told", &[])
        .column("Value #D", "Kept for", "no end known", &seconds())
        .column("Value #E", "Kept at least", "not told", &[])
        .column("Value #F", "Incrementals at most", "not told", &[])
        .column("auto_restore", "Restores by itself", "not told", &[])
        .column("cluster_name", "Cluster", "not told", &[])
        .empty("No exporter tells of a partition")
}
