//! Prometheus rules: they query only metrics that the exporter serves, every alert has all annotations and a runbook, and
//! `docs/alerts.md` lists all of them.
//!
//! `promtool test rules` tests the results of the rules, with the files of `tests/rules`. `tests/real/rules.py` runs it.

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

/// Recorded series and their labels, in the order of the files.
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
fn every_expression_queries_known_series() {
    for rule in rules() {
        let errors = promql::errors(&rule.expr, &RECORDED);
        assert_eq!(errors, Vec::<String>::new(), "{}", rule.name());
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

/// Whether the result of an expression can have this label.
fn has_label(expr: &str, label: &str) -> bool {
    promql::errors(&format!("sum by ({label}) ({expr})"), &RECORDED).is_empty()
}

#[test]
fn recorded_series_have_exactly_the_declared_labels() {
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
fn no_alert_has_the_partition_label() {
    for alert in alerts() {
        let name = alert.name();
        assert!(!has_label(&alert.expr, PARTITION), "{name}");
        assert!(!alert.expr.contains("without"), "{name}");
    }
}

#[test]
fn group_names_have_the_project_prefix_and_rule_names_are_unique() {
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
fn every_alert_has_severity_kind_annotations_and_runbook() {
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
        check_runbook(name, &read(&runbook));
    }
}

/// Checks the headings of a runbook, that it has commands, and that it is at most a screen and a half long.
fn check_runbook(name: &str, runbook: &str) {
    let mut headings = runbook.lines().filter(|line| line.starts_with('#'));
    assert_eq!(headings.next(), Some(format!("# {name}").as_str()));
    let sections: Vec<_> = headings.filter(|line| line.starts_with("## ")).collect();
    let expected = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"];
    assert_eq!(sections, expected, "{name}");
    let (_, diagnosis) = runbook.split_once("## Diagnosis").unwrap();
    let (diagnosis, _) = diagnosis.split_once("## Mitigation").unwrap();
    assert!(diagnosis.contains("```"), "{name} has no commands");
    let length = runbook.lines().count();
    assert!(length <= 76, "{name} has {length} lines");
}

/// Whether the severity is a label that the expression sets to `critical` or `warning`.
fn has_own_severity(alert: &Rule) -> bool {
    alert.labels["severity"] == "{{ $labels.severity }}" && has_label(&alert.expr, "severity")
}

/// The queries in the annotations of an alert, with `x` for every label value.
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

/// Prometheus renders the annotations for every service for which an alert fires, and there can be hundreds.
#[test]
fn annotations_query_one_sample_per_service_or_exporter() {
    let mut count = 0;
    for alert in alerts() {
        for query in queries(&alert) {
            count += 1;
            let errors = promql::errors(&query, &RECORDED);
            assert_eq!(errors, Vec::<String>::new(), "{}", alert.name());
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
fn descriptions_name_the_worst_partition_and_the_first_step() {
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
fn every_runbook_belongs_to_an_alert() {
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

/// A file of `promtool test rules`.
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
fn every_rule_has_a_test_and_every_alert_one_that_fires_and_one_that_does_not() {
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

/// The comment above a line, without `#`.
fn comment(text: &str, line: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|other| *other == line).unwrap();
    let above = lines[..at].iter().rev();
    let mut above: Vec<_> = above.map_while(|line| line.strip_prefix("# ")).collect();
    above.reverse();
    above.join("\n")
}

const INTRODUCTION: &str = "\
# Alerts

This page lists the alerts of
[servicefabric-backup.alerts.yml](../deploy/prometheus/servicefabric-backup.alerts.yml) and the recorded series of
[servicefabric-backup.rules.yml](../deploy/prometheus/servicefabric-backup.rules.yml). Prometheus 2.42 or later loads both
files as `rule_files`. Every alert links to its runbook, and *rule* links to its expression.

`critical` pages, `warning` opens a ticket; [runbooks/README.md](runbooks/README.md) has the criteria. *For* is the time
for which the condition must hold before the alert fires. *Keep firing for* is the time for which the alert keeps firing
after the condition has ended or its data is missing.

The page is generated. After a change of the rules, run `BLESS=1 cargo test --test rules`.
";

/// The content of `docs/alerts.md`.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let (mut alerting, mut recording) = (String::new(), String::new());
    for file in [ALERTS, RECORDINGS] {
        let text = read(file);
        for group in serde_saphyr::from_str::<Groups>(&text).unwrap().groups {
            let (alerts, records): (Vec<_>, Vec<_>) =
                group.rules.iter().partition(|rule| rule.alert.is_some());
            if !alerts.is_empty() {
                alerting.push_str(&heading("##", &group, &text));
                alerting.push_str("\n| Alert | Severity | Meaning | For | Keep firing for | |\n|---|---|---|---|---|---|\n");
                alerting.extend(alerts.iter().map(|rule| alert_row(rule, file, &text)));
            }
            if !records.is_empty() {
                recording.push_str(&heading("###", &group, &text));
                recording.push_str("\n| Series | Meaning | |\n|---|---|---|\n");
                recording.extend(records.iter().map(|rule| record_row(rule, file, &text)));
            }
        }
    }
    write!(page, "{alerting}\n## Recorded series\n{recording}").unwrap();
    page
}

/// The heading of a group, its comment and its interval.
fn heading(level: &str, group: &Group, text: &str) -> String {
    let title = group.name.trim_start_matches("servicefabric-backup.");
    let mut heading = format!("\n{level} {title}\n");
    let comment = comment(text, &format!("- name: {}", group.name));
    if !comment.is_empty() {
        write!(heading, "\n{comment}\n").unwrap();
    }
    if let Some(interval) = &group.interval {
        write!(heading, "\nEvaluated every {interval}.\n").unwrap();
    }
    heading
}

fn alert_row(rule: &Rule, file: &str, text: &str) -> String {
    let name = rule.name();
    let severity = if has_own_severity(rule) {
        "critical or warning"
    } else {
        &rule.labels["severity"]
    };
    let meaning = meaning(name);
    let times = [&rule.r#for, &rule.keep_firing_for];
    let [waits, stays] = times.map(|time| time.as_deref().unwrap_or("-"));
    let link = link(file, text, &format!("- alert: {name}"));
    format!(
        "| [{name}](runbooks/{name}.md) | {severity} | {meaning} | {waits} | {stays} | {link} |\n"
    )
}

fn record_row(rule: &Rule, file: &str, text: &str) -> String {
    let line = format!("- record: {}", rule.name());
    let meaning = comment(text, &line).replace('\n', " ");
    format!(
        "| `{}` | {meaning} | {} |\n",
        rule.name(),
        link(file, text, &line)
    )
}

/// The first sentence of the section Meaning of a runbook.
fn meaning(alert: &str) -> String {
    let runbook = read(format!("docs/runbooks/{alert}.md"));
    let (_, section) = runbook.split_once("## Meaning\n\n").unwrap();
    let (paragraph, _) = section.split_once("\n\n").unwrap();
    let paragraph = paragraph.replace('\n', " ");
    let sentence = paragraph.split_once(". ").map(|(sentence, _)| sentence);
    sentence
        .unwrap_or_else(|| paragraph.trim_end_matches('.'))
        .to_owned()
}

/// A link to the line of a file on which a rule starts.
fn link(file: &str, text: &str, start: &str) -> String {
    let at = text.lines().position(|line| line.trim() == start).unwrap();
    format!("[rule](../{file}#L{})", at + 1)
}

#[test]
fn the_page_of_alerts_matches_the_rules() {
    let path = root().join("docs/alerts.md");
    let page = page();
    if bless::bless() {
        fs::write(&path, &page).unwrap();
    }
    assert_eq!(
        read(path),
        page,
        "docs/alerts.md is out of date: run BLESS=1 cargo test --test rules"
    );
}

#[test]
fn every_recorded_series_has_a_comment() {
    let text = [ALERTS, RECORDINGS].map(read).join("\n");
    for (name, _) in RECORDED {
        assert_ne!(comment(&text, &format!("- record: {name}")), "", "{name}");
    }
}
