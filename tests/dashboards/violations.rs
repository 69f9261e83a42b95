//! A violation of each rule: name of the rule, JSON pointer into the dashboard Fleet, and new value, as JSON
//! or as a string. A pointer into a panel starts with the title of the panel.

use serde_json::Value;

use crate::board::{items, title};

const QUERY: &str = "On time/targets/0/expr";

/// The value at a JSON pointer.
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

pub(crate) const VIOLATIONS: &[(&str, &str, &str)] = &[
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
    ("panel-datasource", "On time/datasource/uid", "prometheus"),
    (
        "panel-datasource",
        "On time/targets/0/datasource/uid",
        "prometheus",
    ),
    ("panel-title-description", "On time/title", ""),
    ("panel-title-description", "On time/description", ""),
    ("panel-units", "On time/fieldConfig/defaults/unit", "parts"),
    (
        "panel-units",
        "Worst partitions/fieldConfig/overrides/1/properties/1/value",
        "secs",
    ),
    ("panel-no-targets", "On time/targets", "[]"),
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
        "selection",
        QUERY,
        "min(servicefabric_backup_due_timestamp_seconds{@clusters})",
    ),
    (
        "selection",
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
    ("next-step", "On time/description", "Partitions."),
    ("next-step", "On time/description", "Look."),
    ("no-value", "On time/fieldConfig/defaults/noValue", "-"),
    (
        "grey-without-value",
        "On time/fieldConfig/defaults/thresholds/steps/0/color",
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
        "On time/fieldConfig/defaults/thresholds/steps/1/color",
        "red",
    ),
    ("grafana-9.4", "On time/type", "xychart"),
    (
        "grafana-9.4",
        "Worst partitions/transformations/0/id",
        "formatTime",
    ),
    (
        "no-value",
        "Services with problems/fieldConfig/overrides/0/properties/0/value",
        "–",
    ),
    ("no-value", "On time/options/textMode", "name"),
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
    ("exporter-jobs", QUERY, "max(up)"),
    (
        "exporter-jobs",
        QUERY,
        "max(process_open_fds) + max(scrape_duration_seconds)",
    ),
    ("positions", "Late or stuck/id", "1"),
    ("positions", "Late or stuck/gridPos/x", "0"),
    ("positions", "Late or stuck/gridPos/h", "3"),
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
