//! What breaks each rule: its name, a place in the dashboard Fleet, and what to write there, as JSON
//! or as a text.

const QUERY: &str = "/panels/0/targets/0/expr";

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
    ("panel-datasource", "/panels/0/datasource/uid", "prometheus"),
    (
        "panel-datasource",
        "/panels/0/targets/0/datasource/uid",
        "prometheus",
    ),
    ("panel-title-description", "/panels/0/title", ""),
    ("panel-title-description", "/panels/0/description", ""),
    (
        "panel-units",
        "/panels/0/fieldConfig/defaults/unit",
        "parts",
    ),
    (
        "panel-units",
        "/panels/9/fieldConfig/overrides/1/properties/0/value",
        "secs",
    ),
    ("panel-no-targets", "/panels/0/targets", "[]"),
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
    ("what-to-do", "/panels/0/description", "Partitions."),
    ("what-to-do", "/panels/0/description", "Look."),
    ("no-value", "/panels/0/fieldConfig/defaults/noValue", "-"),
    (
        "grey-without-value",
        "/panels/0/fieldConfig/defaults/thresholds/steps/0/color",
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
        "/panels/0/fieldConfig/defaults/thresholds/steps/1/color",
        "red",
    ),
    ("old-enough", "/panels/0/type", "xychart"),
    ("old-enough", "/panels/9/transformations/0/id", "formatTime"),
    (
        "no-value",
        "/panels/10/fieldConfig/overrides/0/properties/2/value",
        "–",
    ),
    ("places", "/panels/1/id", "1"),
    ("places", "/panels/1/gridPos/x", "0"),
    ("places", "/panels/1/gridPos/h", "3"),
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
        "/panels/9/transformations/0/options/renameByName/cluster_name",
        "Where",
    ),
    (
        "links",
        "/panels/9/fieldConfig/overrides/2/properties/0/value/0/url",
        "/d/sfbe-fleet?var-partition_id=1",
    ),
];
