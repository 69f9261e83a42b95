//! Tests of the query checker that the tests of rules and dashboards use.

#[path = "support/promql.rs"]
mod promql;

const RECORDED: [(&str, &[&str]); 1] = [("made:up", &["cluster_name"])];

/// Invalid queries and their errors.
const INVALID: &[(&str, &str)] = &[
    ("sum(", "is not PromQL"),
    ("servicefabric_backup_nothing", "not in the catalogue"),
    (
        "servicefabric_backup_gateway_request_duration_seconds",
        "not in the catalogue",
    ),
    (
        "cluster:servicefabric_backup_nothing:sum",
        "not in the catalogue",
    ),
    (
        "galaxy:servicefabric_backup_partitions:sum",
        "not in the catalogue",
    ),
    (
        r#"servicefabric_backup_partitions{service_name="x"}"#,
        "no label service_name",
    ),
    (
        r#"servicefabric_backup_protection_state{state=~"Overdue|Late"} == 1"#,
        "\"Late\"",
    ),
    (
        r#"servicefabric_backup_progress_state{state="Overdue"}"#,
        "\"Overdue\"",
    ),
    (
        r#"servicefabric_backup_collector_success{collector!="histories"}"#,
        "\"histories\"",
    ),
    (
        "sum by (service_name) (servicefabric_backup_partitions)",
        "groups by service_name",
    ),
    (
        "sum by (state) (sum by (cluster_name) (servicefabric_backup_protection_state))",
        "groups by state",
    ),
    (
        "max by (le) (servicefabric_backup_gateway_request_duration_seconds_sum)",
        "groups by le",
    ),
    (
        "servicefabric_backup_partition_info * on (service_name) group_left () servicefabric_backup_policy_info",
        "matches on service_name",
    ),
    (
        "servicefabric_backup_partition_info * on (policy_name) group_left (retention) servicefabric_backup_policy_info",
        "takes retention",
    ),
    (
        "made:up > on (job) group_left () sum(made:up)",
        "matches on job",
    ),
    (
        "count_values(\"version\", made:up) + on (job) made:up",
        "matches on job",
    ),
    (
        "rate(up{application_name=\"x\"}[$__rate_interval])",
        "no label application_name",
    ),
    (
        "topk(3, max by (job) (made:up)) - on (instance) up",
        "matches on instance",
    ),
    ("-(made:up * ignoring (state) made:up)", "matches on state"),
    ("sum without (state) (up)", "groups by state"),
    (
        "max by (state) (max_over_time((up == 1)[$__range:$__interval]))",
        "groups by state",
    ),
];

const VALID: &[&str] = &[
    r#"count by (state) (max by (partition_id, state) (servicefabric_backup_protection_state{job=~"$job", cluster_name=~"${cluster_name:regex}"} == 1))"#,
    r"histogram_quantile(0.9, sum by (le, route) (rate(servicefabric_backup_gateway_request_duration_seconds_bucket[$__rate_interval])))",
    r"sum by (job, instance) (up) or made:up",
    r#"policy:servicefabric_backup_protection_state:count{policy_name="x", state="Overdue"}"#,
    r"shard:servicefabric_backup_cluster_up:max * on (cluster_name) group_left (version) servicefabric_backup_cluster_info",
    r#"label_replace(up, "who", "$1", "instance", "(.*)") * on (who) group_right (job) label_replace(made:up, "who", "x", "", "")"#,
    r#"max by (version) (label_join(vector(time()), "version", "-"))"#,
    r#"servicefabric_backup_protection_state{state=~"$state|.+", state!="$state"} unless on (partition_id) servicefabric_backup_suspended == 1"#,
];

#[test]
fn queries_of_unknown_series_have_errors() {
    for (text, error) in INVALID {
        let found = promql::errors(text, &RECORDED);
        assert!(
            found.iter().any(|found| found.contains(error)),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn queries_of_known_series_have_no_errors() {
    for text in VALID {
        assert_eq!(
            promql::errors(text, &RECORDED),
            Vec::<String>::new(),
            "{text}"
        );
    }
}

#[test]
fn selectors_have_matchers_and_the_enclosing_function() {
    let text = r#"topk(scalar(up{job!~"a"}), sum(rate(process_cpu_seconds_total{job=~"${job:regex}"}[$__rate_interval])))"#;
    let found = promql::selectors(&promql::parse(text).unwrap());
    let mut found: Vec<_> = found
        .iter()
        .map(|found| {
            let matchers: Vec<_> = found
                .matchers
                .iter()
                .map(|(label, op, value)| format!("{label}{op}{value}"))
                .collect();
            (
                found.name.as_str(),
                matchers.join(","),
                found.function.as_deref(),
            )
        })
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (
                "process_cpu_seconds_total",
                "job=~$job".to_owned(),
                Some("rate")
            ),
            ("up", "job!~a".to_owned(), Some("scalar")),
        ]
    );
}
