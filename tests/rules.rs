//! The rules for Prometheus query families that the exporter serves, every alert is complete, and `docs/alerts.md`
//! documents all of them.
//!
//! Whether they are right is tested with `promtool test rules`: its tests are in `tests/rules`, and
//! `tests/real/rules.py` runs them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use serde_saphyr::NonFiniteFloatPolicy;

#[path = "support/bless.rs"]
mod bless;
#[path = "support/promql.rs"]
mod promql;

const ALERTS: &str = "deploy/prometheus/servicefabric-backup.alerts.yml";
const RECORDINGS: &str = "deploy/prometheus/servicefabric-backup.rules.yml";

/// The recorded series with their labels.
const RECORDED: [(&str, &[&str]); 49] = [
    (
        "service:servicefabric_backup_requested_backups:worst",
        &[
            CLUSTER,
            APPLICATION,
            SERVICE,
            PARTITION,
            POLICY,
            "state",
            "severity",
        ],
    ),
    (
        "service:servicefabric_backup_requested_backups_last_success_age_seconds:worst",
        &[
            CLUSTER,
            APPLICATION,
            SERVICE,
            PARTITION,
            POLICY,
            "state",
            "severity",
        ],
    ),
    (
        "service:servicefabric_backup_requested_backups_failure:worst",
        &[
            CLUSTER,
            APPLICATION,
            SERVICE,
            PARTITION,
            "state",
            "severity",
            "code",
        ],
    ),
    (
        "partition:servicefabric_backup_partition_info:dropped",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "service:servicefabric_backup_partition_info:worst",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "service:servicefabric_backup_restore_state:failed",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "service:servicefabric_backup_restore_state:running",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "service:servicefabric_backup_partition_data_loss_timestamp_seconds:unexplained",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "partition:servicefabric_backup_last_success_lsn:frozen",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION],
    ),
    (
        "service:servicefabric_backup_last_success_lsn:frozen",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "partition:servicefabric_backup_chain_length:exceeded",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION],
    ),
    (
        "service:servicefabric_backup_chain_length:exceeded",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "partition:servicefabric_backup_oldest_recovery_point_age_seconds:exceeded",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION],
    ),
    (
        "service:servicefabric_backup_oldest_recovery_point_age_seconds:exceeded",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "service:servicefabric_backup_claims_refuted_total:increase6h",
        &[CLUSTER, APPLICATION, SERVICE],
    ),
    (
        "service:servicefabric_backup_claims_refuted:worst",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "partition:servicefabric_backup_unrestorable_backups:recent",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION],
    ),
    (
        "service:servicefabric_backup_unrestorable_backups:worst",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "partition:servicefabric_backup_protection_state:worst",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, "state"],
    ),
    (
        "partition:servicefabric_backup_partition_info:policy",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "partition:servicefabric_backup_last_success_timestamp_seconds:max",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION],
    ),
    (
        "service:servicefabric_backup_protection_state:count",
        &[CLUSTER, APPLICATION, SERVICE, "state"],
    ),
    (
        "policy:servicefabric_backup_protection_state:count",
        &[CLUSTER, POLICY, "state"],
    ),
    (
        "cluster:servicefabric_backup_protection_state:count",
        &[CLUSTER, "state"],
    ),
    (
        "cluster:servicefabric_backup_partitions:on_time_ratio",
        &[CLUSTER],
    ),
    (
        "cluster:servicefabric_backup_partitions:late_ratio",
        &[CLUSTER],
    ),
    (
        "service:servicefabric_backup_last_success_timestamp_seconds:min",
        &[CLUSTER, APPLICATION, SERVICE],
    ),
    (
        "cluster:servicefabric_backup_last_success_timestamp_seconds:min",
        &[CLUSTER],
    ),
    (
        "instance:servicefabric_backup_cluster_up:shard",
        &["job", "instance", CLUSTER, "shard", "shards"],
    ),
    (
        "shard:servicefabric_backup_cluster_up:max",
        &[CLUSTER, "shard", "shards"],
    ),
    (
        "shard:servicefabric_backup_service_up:max",
        &[CLUSTER, "shard", "shards"],
    ),
    (
        "shard:servicefabric_backup_partitions:max",
        &[CLUSTER, "shard", "shards"],
    ),
    (
        "shard:servicefabric_backup_cluster_up:orphaned",
        &[CLUSTER, "shard", "shards"],
    ),
    (
        "cluster:servicefabric_backup_collector_errors_total:refused15m",
        &[CLUSTER],
    ),
    (
        "service:servicefabric_backup_last_success_age_seconds:worst",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY, "state"],
    ),
    (
        "partition:servicefabric_backup_overdue_seconds:late",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY, "state"],
    ),
    (
        "partition:servicefabric_backup_overdue_seconds:long",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY, "state"],
    ),
    (
        "service:servicefabric_backup_overdue_seconds:worst",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY, "state"],
    ),
    (
        "service:servicefabric_backup_overdue_last_success_age_seconds:worst",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY, "state"],
    ),
    (
        "service:servicefabric_backup_overdue_seconds:worst_long",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY, "state"],
    ),
    (
        "service:servicefabric_backup_overdue_last_success_age_seconds:worst_long",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY, "state"],
    ),
    (
        "partition:servicefabric_backup_periodic_success:failing",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION],
    ),
    (
        "service:servicefabric_backup_periodic_success:worst",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, POLICY],
    ),
    (
        "partition:servicefabric_backup_progress_failure_observed:last",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION],
    ),
    (
        "partition:servicefabric_backup_requested_backups:failed",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION, "state"],
    ),
    (
        "partition:servicefabric_backup_requested_backups:severity",
        &[
            CLUSTER,
            APPLICATION,
            SERVICE,
            PARTITION,
            "state",
            "severity",
        ],
    ),
    (
        "partition:servicefabric_backup_restore_state:failed",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION],
    ),
    (
        "partition:servicefabric_backup_partition_data_loss_timestamp_seconds:unexplained",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION],
    ),
    (
        "partition:servicefabric_backup_restore_state:running",
        &[CLUSTER, APPLICATION, SERVICE, PARTITION],
    ),
];

const CLUSTER: &str = "cluster_name";
const APPLICATION: &str = "application_name";
const SERVICE: &str = "service_name";
const PARTITION: &str = "partition_id";
const POLICY: &str = "policy_name";

#[derive(Debug, Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    interval: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    r#for: Option<String>,
    keep_firing_for: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Rule {
    fn name(&self) -> &str {
        self.alert.as_deref().or(self.record.as_deref()).unwrap()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn groups() -> Vec<Group> {
    let files =
        [ALERTS, RECORDINGS].map(|file| serde_saphyr::from_str::<Groups>(&read(file)).unwrap());
    files.into_iter().flat_map(|file| file.groups).collect()
}

fn rules() -> Vec<Rule> {
    groups().into_iter().flat_map(|group| group.rules).collect()
}

fn alerts() -> Vec<Rule> {
    let rules = rules().into_iter();
    rules.filter(|rule| rule.alert.is_some()).collect()
}

#[test]
fn every_expression_asks_for_what_is_served_or_recorded() {
    for rule in rules() {
        let faults = promql::faults(&rule.expr, &RECORDED);
        assert_eq!(faults, Vec::<String>::new(), "{}", rule.name());
        for selector in promql::selectors(&promql::parse(&rule.expr).unwrap()) {
            let name = &selector.name;
            assert!(
                !name.contains(':') || RECORDED.iter().any(|(known, _)| known == name),
                "{}: {name} is not recorded",
                rule.name()
            );
            assert!(
                !name.ends_with("_total") || selector.function.as_deref() == Some("increase"),
                "{}: {name} is a counter",
                rule.name()
            );
        }
    }
}

/// Whether the series of an expression can have this label: summing by it finds it, or does not.
fn has_label(expr: &str, label: &str) -> bool {
    promql::faults(&format!("sum by ({label}) ({expr})"), &RECORDED).is_empty()
}

#[test]
fn recorded_series_have_the_labels_that_the_others_ask_for() {
    let recording = rules().into_iter().filter(|rule| rule.record.is_some());
    let recording: Vec<_> = recording.collect();
    let names: Vec<_> = recording.iter().map(Rule::name).collect();
    assert_eq!(names, RECORDED.map(|(name, _)| name));
    for (rule, (name, labels)) in recording.iter().zip(RECORDED) {
        for label in labels {
            assert!(has_label(&rule.expr, label), "{name} has no {label}");
        }
        for label in [APPLICATION, SERVICE, PARTITION, "state", "job", "instance"] {
            let expected = labels.contains(&label);
            assert_eq!(has_label(&rule.expr, label), expected, "{name}: {label}");
        }
    }
}

#[test]
fn no_alert_is_about_one_partition() {
    for alert in alerts() {
        let name = alert.name();
        assert!(!has_label(&alert.expr, PARTITION), "{name}");
        assert!(!alert.expr.contains("without"), "{name}");
    }
}

#[test]
fn every_group_has_the_name_of_the_project_and_every_rule_one_of_its_own() {
    let groups = groups();
    for group in &groups {
        assert!(
            group.name.starts_with("servicefabric-backup."),
            "{}",
            group.name
        );
    }
    let rules = rules();
    let names: BTreeSet<_> = rules.iter().map(Rule::name).collect();
    assert_eq!(names.len(), rules.len());
}

#[test]
fn every_alert_says_what_to_do_how_urgent_it_is_and_where_to_look() {
    let kinds = [
        "blind", "late", "failing", "coverage", "restore", "chain", "exporter",
    ];
    for alert in alerts() {
        let name = alert.name();
        assert!(name.starts_with("ServiceFabricBackup"), "{name}");
        let labels: Vec<_> = alert.labels.keys().map(String::as_str).collect();
        assert_eq!(labels, ["kind", "severity"], "{name}");
        assert!(kinds.contains(&alert.labels["kind"].as_str()), "{name}");
        let severity = alert.labels["severity"].as_str();
        let is_known = ["critical", "warning"].contains(&severity);
        assert!(is_known || has_own_severity(&alert), "{name}");
        let annotations: Vec<_> = alert.annotations.keys().map(String::as_str).collect();
        let expected = ["dashboard", "description", "runbook_url", "summary"];
        assert_eq!(annotations, expected, "{name}");
        let dashboard = alert.annotations["dashboard"].as_str();
        assert!(dashboard.starts_with("d/sfbe-"), "{name}: {dashboard}");
        let runbook = format!("docs/runbooks/{name}.md");
        let base = env!("CARGO_PKG_REPOSITORY");
        let url = format!("{base}/blob/main/{runbook}");
        assert_eq!(alert.annotations["runbook_url"], url);
        let runbook = read(&runbook);
        let headings: Vec<_> = runbook
            .lines()
            .filter(|line| line.starts_with('#'))
            .collect();
        assert!(headings.contains(&format!("# {name}").as_str()), "{name}");
        let parts = headings.iter().filter(|line| line.starts_with("## "));
        let expected = [
            "## Meaning",
            "## Impact",
            "## Diagnosis",
            "## Mitigation",
            "## Silencing",
            "## See also",
        ];
        assert_eq!(parts.copied().collect::<Vec<_>>(), expected, "{name}");
    }
}

/// Whether the expression computes the severity, as `critical` or `warning`.
fn has_own_severity(alert: &Rule) -> bool {
    alert.labels["severity"] == "{{ $labels.severity }}" && has_label(&alert.expr, "severity")
}

/// The queries in the text of an alert, with every label value that the text fills in as `x`.
fn queries(alert: &Rule) -> Vec<String> {
    let query = Regex::new(r#"printf "((?:[^"\\]|\\.)*)"[^|}]*\| query"#).unwrap();
    let texts = alert.annotations.values();
    let found = texts.flat_map(|text| {
        assert_eq!(
            text.matches("| query").count(),
            query.find_iter(text).count()
        );
        query.captures_iter(text)
    });
    let found = found.map(|captures| captures[1].replace("\\\"", "\"").replace("%q", "\"x\""));
    found.collect()
}

/// Prometheus evaluates the text of an alert for each of hundreds of services that it fires for.
#[test]
fn texts_query_one_sample_per_service_or_exporter() {
    let mut count = 0;
    for alert in alerts() {
        for query in queries(&alert) {
            count += 1;
            let faults = promql::faults(&query, &RECORDED);
            assert_eq!(faults, Vec::<String>::new(), "{}", alert.name());
            for selector in promql::selectors(&promql::parse(&query).unwrap()) {
                let name = &selector.name;
                let is_rolled_up = ["service:", "cluster:"]
                    .iter()
                    .any(|it| name.starts_with(it));
                let is_of_exporter = name.starts_with("servicefabric_backup_exporter_");
                assert!(is_rolled_up || is_of_exporter, "{}: {name}", alert.name());
            }
        }
    }
    assert!(count > 20, "{count} queries found");
}

#[test]
fn every_alert_about_partitions_names_the_worst_and_the_first_step() {
    for alert in alerts() {
        let name = alert.name();
        let text = &alert.annotations["description"];
        assert!(text.contains("First step: "), "{name}");
        let kind = alert.labels["kind"].as_str();
        let is_about_partitions = ["late", "failing", "restore", "chain"].contains(&kind)
            || has_label(&alert.expr, SERVICE)
            || has_label(&alert.expr, APPLICATION);
        if is_about_partitions {
            for part in [
                "Worst: partition {{ .Labels.partition_id }}",
                ".Labels.policy_name",
            ] {
                assert!(text.contains(part), "{name}: {part}");
            }
        }
    }
}

#[test]
fn every_runbook_of_an_alert_has_its_alert() {
    let alerts = alerts();
    let names: BTreeSet<_> = alerts.iter().map(Rule::name).collect();
    for entry in fs::read_dir(root().join("docs/runbooks")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".md");
        assert!(
            !name.starts_with("ServiceFabricBackup") || names.contains(name),
            "{name}"
        );
    }
}

/// What is read of a file of `promtool test rules`.
#[derive(Debug, Deserialize)]
struct TestFile {
    tests: Vec<TestGroup>,
}

#[derive(Debug, Deserialize)]
struct TestGroup {
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
    #[serde(default)]
    promql_expr_test: Vec<ExprTest>,
}

#[derive(Debug, Deserialize)]
struct AlertTest {
    alertname: String,
    exp_alerts: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct ExprTest {
    expr: String,
}

#[test]
fn every_rule_has_a_test_and_every_alert_one_in_which_it_is_silent() {
    let files = fs::read_dir(root().join("tests/rules")).unwrap();
    let files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    let files = files.iter().map(|file| {
        // An expected value may be infinite.
        let options = serde_saphyr::options! {
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        };
        serde_saphyr::from_str_with_options::<TestFile>(&read(file), options)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    });
    let tests: Vec<TestGroup> = files.flat_map(|file| file.tests).collect();
    for rule in rules() {
        let name = rule.name();
        let of_alert = |fires: bool| {
            let mut all = tests.iter().flat_map(|test| &test.alert_rule_test);
            all.any(|test| test.alertname == name && test.exp_alerts.is_empty() != fires)
        };
        let mut expressions = tests.iter().flat_map(|test| &test.promql_expr_test);
        if rule.alert.is_some() {
            assert!(of_alert(true), "no test fires {name}");
            assert!(of_alert(false), "no test holds {name} back");
        } else {
            assert!(expressions.any(|test| test.expr.contains(name)), "{name}");
        }
    }
}

/// The comment right above a line that begins so, without its marks.
fn comment(text: &str, line: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|other| *other == line).unwrap();
    let above = lines[..at].iter().rev();
    let mut above: Vec<_> = above.map_while(|line| line.strip_prefix("# ")).collect();
    above.reverse();
    above.join("\n")
}

/// The severity, or both where the expression decides.
fn severity(alert: &Rule) -> &str {
    if has_own_severity(alert) {
        "critical or warning"
    } else {
        &alert.labels["severity"]
    }
}

/// A template in words: the labels by their names, and N for the value.
fn in_words(template: &str) -> String {
    let steps = [
        (r"\{\{ \$labels\.(\w+)[^}]*\}\}", "*$1*"),
        (r"\{\{ \$value[^}]*\}\}", "N"),
        (r"\{\{ else \}\}", " or "),
        (r"\{\{[^}]*\}\}", ""),
    ];
    steps.iter().fold(template.to_owned(), |text, (from, to)| {
        Regex::new(from)
            .unwrap()
            .replace_all(&text, *to)
            .into_owned()
    })
}

const INTRODUCTION: &str = "\
# Alerts

All alerts and recorded series of
[servicefabric-backup.alerts.yml](../deploy/prometheus/servicefabric-backup.alerts.yml) and
[servicefabric-backup.rules.yml](../deploy/prometheus/servicefabric-backup.rules.yml), which Prometheus loads as
`rule_files`, from 2.42 on. This page is generated from them: after a change, run
`BLESS=1 cargo test --test rules`.

`critical` is a page, `warning` a ticket; [severity follows harm](runbooks/README.md). *For* is how long the condition
has to hold before the alert fires. *Keep firing for* is how long the alert still fires once the condition does not hold
any more, or its data is missing. The name of an alert links to its runbook.
";

/// The whole page.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str(
        "\n| Alert | Severity | Summary | For | Keep firing for |\n|---|---|---|---|---|\n",
    );
    for alert in alerts() {
        let name = alert.name();
        let severity = severity(&alert);
        let summary = &alert.annotations["summary"];
        let [waits, stays] = [&alert.r#for, &alert.keep_firing_for];
        let [waits, stays] = [waits, stays].map(|time| time.as_deref().unwrap_or("-"));
        let summary = in_words(summary);
        writeln!(
            page,
            "| [{name}](runbooks/{name}.md) | {severity} | {summary} | {waits} | {stays} |"
        )
        .unwrap();
    }
    let texts = [ALERTS, RECORDINGS].map(read).join("\n");
    let mut headline = "";
    for group in groups() {
        let is_recording = group.rules.iter().all(|rule| rule.record.is_some());
        let above = if is_recording {
            "Recorded series"
        } else {
            "Expressions"
        };
        if headline != above {
            headline = above;
            writeln!(page, "\n## {headline}").unwrap();
        }
        let title = group.name.trim_start_matches("servicefabric-backup.");
        writeln!(page, "\n### Group `{title}`").unwrap();
        let of_group = comment(&texts, &format!("- name: {}", group.name));
        if !of_group.is_empty() {
            writeln!(page, "\n{of_group}").unwrap();
        }
        if let Some(interval) = &group.interval {
            writeln!(page, "\nEvaluated every {interval}.").unwrap();
        }
        for rule in &group.rules {
            page.push_str(&described(rule, &texts));
        }
    }
    page
}

/// One rule: its name, its comment, its expression, and what else it has.
fn described(rule: &Rule, texts: &str) -> String {
    let (name, key) = (
        rule.name(),
        if rule.alert.is_some() {
            "alert"
        } else {
            "record"
        },
    );
    let mut text = format!("\n#### `{name}`\n");
    let why = comment(texts, &format!("- {key}: {name}"));
    if !why.is_empty() {
        write!(text, "\n{why}\n").unwrap();
    }
    write!(text, "\n```promql\n{}\n```\n", rule.expr.trim_end()).unwrap();
    let times = [
        ("for", &rule.r#for),
        ("keep_firing_for", &rule.keep_firing_for),
    ];
    let times = times.iter().filter_map(|(key, time)| {
        let time = time.as_ref()?;
        Some(format!("`{key}: {time}`"))
    });
    let labels = rule
        .labels
        .iter()
        .map(|(key, value)| format!("`{key}: {value}`"));
    let rest: Vec<String> = times.chain(labels).collect();
    if !rest.is_empty() {
        write!(text, "\n{}\n", rest.join(", ")).unwrap();
    }
    text
}

#[test]
fn the_page_of_alerts_shows_the_rules_as_they_are() {
    let path = root().join("docs/alerts.md");
    let page = page();
    if bless::bless() {
        fs::write(&path, &page).unwrap();
    }
    assert_eq!(
        read(path),
        page,
        "write docs/alerts.md anew: BLESS=1 cargo test --test rules"
    );
}

#[test]
fn every_recorded_series_is_explained() {
    let text = [ALERTS, RECORDINGS].map(read).join("\n");
    for (name, _) in RECORDED {
        assert_ne!(comment(&text, &format!("- record: {name}")), "", "{name}");
    }
}
