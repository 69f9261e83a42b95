//! Our own rules about what is asked and said: nothing that is not served, nothing without an end,
//! and what to do next.

use promql_parser::parser::{AggregateExpr, BinaryExpr, Expr};
use regex::Regex;
use serde_json::Value;
use servicefabric_backup_exporter::exposition::families;

use crate::board::{Board, of_panels, text};
use crate::linter::Rule;
use crate::{links, look, promql};

/// Every rule, by name.
pub(crate) const RULES: [(&str, Rule); 12] = [
    ("catalogue", catalogue),
    ("chosen", chosen),
    ("bounded", bounded),
    ("ours", ours),
    ("what-to-do", what_to_do),
    ("no-value", look::no_value),
    ("grey-without-value", look::grey_without_value),
    ("states-as-words", look::states_as_words),
    ("colours", look::colours),
    ("old-enough", look::old_enough),
    ("places", look::places),
    ("links", links::links),
];

/// Metrics, labels and states are those that the exporter serves.
fn catalogue(board: &Board) -> Vec<String> {
    let check = |(title, query): (&str, &str)| {
        let faults = promql::faults(query, &[]);
        let title = title.to_owned();
        faults
            .into_iter()
            .map(move |fault| format!("{title}: {fault}"))
    };
    board.queries().into_iter().flat_map(check).collect()
}

/// Every query is about what was chosen at the top, as far as its labels go.
fn chosen(board: &Board) -> Vec<String> {
    let mut faults = Vec::new();
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
            faults.extend(
                free.next()
                    .map(|free| format!("{title}: {} of any {label}", free.name)),
            );
        }
    }
    faults
}

fn has_label(metric: &str, label: &str) -> bool {
    families().any(|family| metric.starts_with(family.name) && family.labels.contains(&label))
}

/// What has a line or a row per partition says how many at most, unless it is about one.
fn bounded(board: &Board) -> Vec<String> {
    let is_of_one = board
        .variables()
        .iter()
        .any(|variable| variable["name"] == "partition_id");
    let free = board.queries().into_iter().filter(|(_, query)| {
        promql::parse(query).is_ok_and(|expr| !is_of_one && is_per_partition(&expr))
    });
    free.map(|(title, query)| format!("{title}: {query} may answer with all partitions"))
        .collect()
}

/// The first few of all; not of each group.
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

/// What every target and every process has is asked of the jobs of exporters only, because the
/// variables let everything through as long as nothing is chosen.
fn ours(board: &Board) -> Vec<String> {
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
    free.map(|(title, query)| format!("{title}: {query} asks any target"))
        .collect()
}

/// A description says what to do, and where to go on.
fn what_to_do(board: &Board) -> Vec<String> {
    let acts =
        Regex::new(r"(?i)\b(check|look|read|enable|resume|renew|correct|compare|find|click)\b")
            .unwrap();
    let goes = Regex::new(r"(/docs/runbooks/ServiceFabricBackup\w+\.md\)|in the dashboard \*(Service|Partition|Exporter)\*)\.$").unwrap();
    of_panels(board, |panel| {
        let description = text(&panel["description"]);
        let holds = acts.is_match(description) && goes.is_match(description);
        (!holds).then(|| format!("{description:?} does not say what to do"))
    })
}
