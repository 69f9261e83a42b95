//! What breaks each rule: its name, a place in the dashboard Fleet, and what to write there, as JSON
//! or as a text. The place is a JSON pointer; one into a panel begins with its title.

use serde_json::Value;

use crate::board::{items, title};

const QUERY: &str = "Known to be on time/targets/0/expr";

/// What stands at a place.
pub(crate) fn at<'a>(board: &'a mut Value, place: &str) -> &'a mut Value {
    let (name, rest) = place.split_at(place.find('/').unwrap());
    let index = items(&board["panels"])
        .iter()
        .position(|panel| title(panel) == name);
    let inside = if name.is_empty() {
        board
    } else {
        &mut board["panels"][index.unwrap()]
    };
    inside.pointer_mut(rest).unwrap()
}

pub(crate) const BROKEN: &[(&str, &str, &str)] = &[
    ("template-datasource", "/templating/list/0/label", "Source"),
    ("template-job", "/templating/list/1/allValue", ".*"),
    ("template-instance", "/templating/list/2/multi", "false"),
    (
        "template-label-promql",
        "/templating/list/2/query",
        "label_values(up, cluster_name)",
    ),
    (
        "template-label-promql",
        "/templating/list/2/query",
        "query_result(up)",
    ),
    (
        "template-on-time-change-reload",
        "/templating/list/3/refresh",
        "1",
    ),
    (
        "panel-datasource",
        "Known to be on time/datasource/uid",
        "prometheus",
    ),
    (
        "panel-datasource",
        "Known to be on time/targets/0/datasource/uid",
        "prometheus",
    ),
    ("panel-title-description", "Known to be on time/title", ""),
    (
        "panel-title-description",
        "Known to be on time/description",
        "",
    ),
    (
        "panel-units",
        "Known to be on time/fieldConfig/defaults/unit",
        "parts",
    ),
    (
        "panel-units",
        "Worst partitions/fieldConfig/overrides/1/properties/1/value",
        "secs",
    ),
    ("panel-no-targets", "Known to be on time/targets", "[]"),
    ("target-promql", QUERY, "sum("),
    (
        "target-rate-interval",
        QUERY,
        "rate(process_cpu_seconds_total[5m])",
    ),
    ("target-job", QUERY, r#"up{job="x", instance=~"$instance"}"#),
    (
        "target-instance",
        QUERY,
        r#"up{job=~"$job", instance="$instance"}"#,
    ),
    (
        "target-counter-agg",
        QUERY,
        "sum(process_cpu_seconds_total)",
    ),
    ("uneditable-dashboard", "/editable", "true"),
    ("catalogue", QUERY, "sum(servicefabric_backup_late)"),
    (
        "catalogue",
        QUERY,
        r#"sum(servicefabric_backup_protection_state{state="Late"})"#,
    ),
    (
        "chosen",
        QUERY,
        "min(servicefabric_backup_due_timestamp_seconds{@clusters})",
    ),
    (
        "chosen",
        QUERY,
        r#"min(servicefabric_backup_partitions{cluster_name="$cluster_name"})"#,
    ),
    (
        "bounded",
        QUERY,
        "servicefabric_backup_due_timestamp_seconds - time()",
    ),
    (
        "bounded",
        QUERY,
        "max by (partition_id) (servicefabric_backup_suspended)",
    ),
    ("bounded", QUERY, "servicefabric_backup_suspended and up"),
    (
        "bounded",
        QUERY,
        "topk by (partition_id) (1, servicefabric_backup_suspended)",
    ),
    (
        "what-to-do",
        "Known to be on time/description",
        "Partitions.",
    ),
    ("what-to-do", "Known to be on time/description", "Look."),
    (
        "no-value",
        "Known to be on time/fieldConfig/defaults/noValue",
        "-",
    ),
    (
        "grey-without-value",
        "Known to be on time/fieldConfig/defaults/thresholds/steps/0/color",
        "#009E73",
    ),
    ("states-as-words", QUERY, "9 * max by (cluster_name) (up)"),
    (
        "states-as-words",
        QUERY,
        "max by (cluster_name) (servicefabric_backup_cluster_up{})",
    ),
    (
        "states-as-words",
        QUERY,
        "servicefabric_backup_protection_severity{}",
    ),
    (
        "colours",
        "Known to be on time/fieldConfig/defaults/thresholds/steps/1/color",
        "red",
    ),
    ("old-enough", "Known to be on time/type", "xychart"),
    (
        "old-enough",
        "Worst partitions/transformations/0/id",
        "formatTime",
    ),
    (
        "no-value",
        "Services in trouble/fieldConfig/overrides/0/properties/0/value",
        "–",
    ),
    ("no-value", "Known to be on time/options/textMode", "name"),
    (
        "no-value",
        "Worst partitions/transformations/0/options/renameByName/cluster_name",
        "Where",
    ),
    (
        "grey-without-value",
        "Worst partitions/fieldConfig/defaults/thresholds/steps/0/color",
        "#009E73",
    ),
    ("ours", QUERY, "max(up)"),
    (
        "ours",
        QUERY,
        "max(process_open_fds) + max(scrape_duration_seconds)",
    ),
    ("places", "Broken/id", "1"),
    ("places", "Broken/gridPos/x", "0"),
    ("places", "Broken/gridPos/h", "3"),
    ("links", "/links/0/url", "/d/sfbe-nothing"),
    ("links", "/links/0/keepTime", "false"),
    (
        "links",
        "/links/0/url",
        "/d/sfbe-service?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${cluster_name:queryparam}",
    ),
    (
        "links",
        "/links/2/url",
        "/d/sfbe-exporter?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}",
    ),
    (
        "links",
        "Worst partitions/transformations/0/options/renameByName/cluster_name",
        "Where",
    ),
    (
        "links",
        "Worst partitions/fieldConfig/overrides/4/properties/1/value/0/url",
        "/d/sfbe-fleet?var-partition_id=1",
    ),
];
