//! Rules of this project about queries and descriptions: only existing metrics, bounded results, and a next step
//! in every description.

use promql_parser::parser::{AggregateExpr, BinaryExpr, Expr};
use regex::Regex;
use serde_json::Value;
use servicefabric_backup_exporter::exposition::families;

use crate::board::{Board, of_panels, text};
use crate::linter::Rule;
use crate::{appearance, links, promql};

/// Every rule with its name.
pub(crate) const RULES: [(&str, Rule); 12] = [
    ("catalogue", catalogue),
    ("selection", selection),
    ("bounded", bounded),
    ("exporter-jobs", exporter_jobs),
    ("next-step", next_step),
    ("no-value", appearance::no_value),
    ("grey-without-value", appearance::grey_without_value),
    ("states-as-words", appearance::states_as_words),
    ("colours", appearance::colours),
    ("grafana-9.4", appearance::grafana_9_4),
    ("positions", appearance::positions),
    ("links", links::links),
];

/// Queries use only metrics, labels and states that the exporter has.
fn catalogue(board: &Board) -> Vec<String> {
    let check = |(title, query): (&str, &str)| {
        let violations = promql::errors(query, &[]);
        let title = title.to_owned();
        violations
            .into_iter()
            .map(move |error| format!("{title}: {error}"))
    };
    board.queries().into_iter().flat_map(check).collect()
}

/// Every query is restricted by all variables whose labels its metrics have.
fn selection(board: &Board) -> Vec<String> {
    let mut violations = Vec::new();
    let names =
        |label: &&Value| families().any(|family| family.labels.contains(&text(&label["name"])));
    for variable in board.variables().iter().filter(names) {
        let label = text(&variable["name"]);
        let operator = if variable["multi"] == true { "=~" } else { "=" };
        let wanted = (label.to_owned(), operator.to_owned(), format!("${label}"));
        for (title, query) in board.queries() {
            let Ok(expr) = promql::parse(query) else {
                continue;
            };
            let all = promql::selectors(&expr).into_iter();
            let mut free = all.filter(|selector| {
                has_label(&selector.name, label) && !selector.matchers.contains(&wanted)
            });
            violations.extend(
                free.next()
                    .map(|free| format!("{title}: {} of any {label}", free.name)),
            );
        }
    }
    violations
}

fn has_label(metric: &str, label: &str) -> bool {
    families().any(|family| metric.starts_with(family.name) && family.labels.contains(&label))
}

/// A query with a series per partition has a limit, except on dashboards about one partition.
fn bounded(board: &Board) -> Vec<String> {
    let is_of_one = board
        .variables()
        .iter()
        .any(|variable| variable["name"] == "partition_id");
    let free = board.queries().into_iter().filter(|(_, query)| {
        promql::parse(query).is_ok_and(|expr| !is_of_one && is_per_partition(&expr))
    });
    free.map(|(title, query)| format!("{title}: {query} can return all partitions"))
        .collect()
}

/// Whether this is `topk` over all series, not by group.
fn is_topk(expr: &Expr) -> bool {
    matches!(expr, Expr::Aggregate(AggregateExpr { op, modifier: None, .. }) if op.to_string() == "topk")
}

fn is_per_partition(expr: &Expr) -> bool {
    match expr {
        Expr::Aggregate(AggregateExpr { modifier, .. }) => {
            let labels = modifier.as_ref().map(|modifier| &modifier.labels().labels);
            let keeps =
                labels.is_some_and(|labels| labels.iter().any(|label| label == "partition_id"));
            !is_topk(expr) && keeps
        }
        Expr::Binary(BinaryExpr { op, lhs, rhs, .. }) => match op.to_string().as_str() {
            "and" => is_per_partition(lhs) && !is_topk(rhs),
            "unless" => is_per_partition(lhs),
            _ => is_per_partition(lhs) || is_per_partition(rhs),
        },
        Expr::Unary(unary) => is_per_partition(&unary.expr),
        Expr::Paren(paren) => is_per_partition(&paren.expr),
        Expr::Subquery(subquery) => is_per_partition(&subquery.expr),
        Expr::Call(call) => call
            .args
            .args
            .iter()
            .any(|argument| is_per_partition(argument)),
        Expr::VectorSelector(selector) => {
            has_label(selector.name.as_deref().unwrap_or_default(), "partition_id")
        }
        Expr::MatrixSelector(matrix) => has_label(
            matrix.vs.name.as_deref().unwrap_or_default(),
            "partition_id",
        ),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => false,
    }
}

/// Metrics that every target has are restricted to the jobs of exporters, because the variables match every job
/// while none is selected.
fn exporter_jobs(board: &Board) -> Vec<String> {
    let guard =
        "and on (job) group by (job) (last_over_time(servicefabric_backup_exporter_build_info{";
    let is_free = |query: &str| {
        let all = promql::parse(query).map(|expr| promql::selectors(&expr));
        let foreign = all.unwrap_or_default();
        let foreign = foreign
            .iter()
            .filter(|selector| !selector.name.starts_with("servicefabric_backup_"));
        foreign.count() > query.matches(guard).count()
    };
    let free = board
        .queries()
        .into_iter()
        .filter(|(_, query)| is_free(query));
    free.map(|(title, query)| format!("{title}: {query} queries any target"))
        .collect()
}

/// A description names an action, and ends with a link to a runbook or the name of another dashboard.
fn next_step(board: &Board) -> Vec<String> {
    let acts =
        Regex::new(r"(?i)\b(check|look|read|enable|resume|renew|correct|compare|find|click)\b")
            .unwrap();
    let goes = Regex::new(r"(/docs/runbooks/ServiceFabricBackup\w+\.md\)|in the dashboard \*(Service|Partition|Exporter)\*)\.$").unwrap();
    of_panels(board, |panel| {
        let description = text(&panel["description"]);
        let holds = acts.is_match(description) && goes.is_match(description);
        (!holds).then(|| format!("{description:?} names no action or no next step"))
    })
}
