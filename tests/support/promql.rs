//! Checks the queries of rules and dashboards against the catalogue of metrics.
//!
//! The check follows labels through an expression like Prometheus: labels that `by (...)` removes are not
//! available outside of it. It does not evaluate the expression.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use promql_parser::label::MatchOp;
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector,
};
use regex::Regex;
use servicefabric_backup_exporter::exposition::{Family, Kind, families};
use servicefabric_backup_exporter::gateway::Reason;
use servicefabric_backup_exporter::model::{BackupState, Collector, RestoreState};
use servicefabric_backup_exporter::protection::ProtectionState;
use servicefabric_backup_exporter::snapshot::BackupOutcome;

/// Labels that Prometheus adds to every series of a target.
const TARGET: [&str; 2] = ["job", "instance"];

/// Metrics that Prometheus adds for every target.
const OF_TARGETS: [&str; 4] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
];

/// Labels of recorded series by the level in their names.
const LEVELS: [(&str, &[&str]); 6] = [
    (
        "partition",
        &[
            "cluster_name",
            "application_name",
            "service_name",
            "partition_id",
        ],
    ),
    (
        "service",
        &["cluster_name", "application_name", "service_name"],
    ),
    ("application", &["cluster_name", "application_name"]),
    ("policy", &["cluster_name", "policy_name"]),
    ("shard", &["cluster_name", "shard", "shards"]),
    ("cluster", &["cluster_name"]),
];

/// Replacement of `$__rate_interval`, a duration that no query contains literally.
pub(crate) const RATE_INTERVAL: &str = "4m1s";

/// A selector in an expression: `name{label="value"}`.
#[derive(Debug)]
pub(crate) struct Selector {
    pub(crate) name: String,
    /// Label, operator and value of each matcher, with variables as `$name`.
    pub(crate) matchers: Vec<(String, String, String)>,
    /// The function whose argument the selector is.
    pub(crate) function: Option<String>,
}

/// Replaces the variables of Grafana, or writes them in the short form inside strings.
fn without_variables(text: &str) -> String {
    static LONG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\$\{(\w+)(:\w+)?\}").unwrap());
    let short = LONG.replace_all(text, "$$${1}");
    let short = short.replace("$__rate_interval", RATE_INTERVAL);
    let short = short.replace("$__range_s", "3600");
    short
        .replace("$__range", "1h")
        .replace("$__interval", "15s")
}

/// Parses an expression that can contain variables of Grafana.
pub(crate) fn parse(text: &str) -> Result<Expr, String> {
    promql_parser::parser::parse(&without_variables(text))
}

/// All selectors of an expression.
pub(crate) fn selectors(expr: &Expr) -> Vec<Selector> {
    let mut found = Vec::new();
    collect(expr, None, &mut found);
    found
}

fn collect(expr: &Expr, function: Option<&str>, found: &mut Vec<Selector>) {
    match expr {
        Expr::Aggregate(AggregateExpr { expr, param, .. }) => {
            collect(expr, None, found);
            if let Some(param) = param {
                collect(param, None, found);
            }
        }
        Expr::Unary(unary) => collect(&unary.expr, None, found),
        Expr::Binary(binary) => {
            collect(&binary.lhs, None, found);
            collect(&binary.rhs, None, found);
        }
        Expr::Paren(paren) => collect(&paren.expr, function, found),
        Expr::Subquery(subquery) => collect(&subquery.expr, None, found),
        Expr::Call(call) => {
            for argument in &call.args.args {
                collect(argument, Some(call.func.name), found);
            }
        }
        Expr::VectorSelector(selector) => found.push(described(selector, function)),
        Expr::MatrixSelector(matrix) => found.push(described(&matrix.vs, function)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

fn described(selector: &VectorSelector, function: Option<&str>) -> Selector {
    let all = &selector.matchers;
    let matchers = all.matchers.iter().chain(all.or_matchers.iter().flatten());
    let matchers = matchers.map(|matcher| {
        let operator = match matcher.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Re(_) => "=~",
            MatchOp::NotRe(_) => "!~",
        };
        let (name, value) = (matcher.name.clone(), matcher.value.clone());
        (name, operator.to_owned(), value)
    });
    Selector {
        name: selector.name.clone().unwrap_or_default(),
        matchers: matchers.collect(),
        function: function.map(str::to_owned),
    }
}

/// The errors of an expression: invalid syntax, unknown metrics, label values or labels. `recorded` are
/// recorded series with their labels, for names without the name of a metric.
pub(crate) fn errors(text: &str, recorded: &[(&str, &[&str])]) -> Vec<String> {
    let expr = match parse(text) {
        Ok(expr) => expr,
        Err(error) => return vec![format!("is not PromQL: {error}")],
    };
    let mut flow = Flow {
        recorded,
        errors: Vec::new(),
    };
    flow.labels(&expr);
    flow.errors
}

type Labels = BTreeSet<String>;

/// Follows labels from the selectors to the outermost expression.
struct Flow<'a> {
    recorded: &'a [(&'a str, &'a [&'a str])],
    errors: Vec<String>,
}

impl Flow<'_> {
    /// The possible labels of the series of an expression.
    fn labels(&mut self, expr: &Expr) -> Labels {
        match expr {
            Expr::Aggregate(aggregate) => self.aggregated(aggregate),
            Expr::Unary(unary) => self.labels(&unary.expr),
            Expr::Binary(binary) => self.joined(binary),
            Expr::Paren(paren) => self.labels(&paren.expr),
            Expr::Subquery(subquery) => self.labels(&subquery.expr),
            Expr::Call(call) => self.called(call),
            Expr::VectorSelector(selector) => self.selected(&described(selector, None)),
            Expr::MatrixSelector(matrix) => self.selected(&described(&matrix.vs, None)),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Labels::new(),
        }
    }

    fn selected(&mut self, selector: &Selector) -> Labels {
        let name = &selector.name;
        let Some(mut labels) = labels_of(name, self.recorded) else {
            self.errors.push(format!("{name} is not in the catalogue"));
            return Labels::new();
        };
        let is_recorded = name.contains(':');
        if !is_recorded {
            labels.extend(TARGET.map(str::to_owned));
        }
        for (label, operator, value) in &selector.matchers {
            if !labels.contains(label) {
                self.errors.push(format!("{name} has no label {label}"));
            }
            let is_regex = operator.ends_with('~');
            let is_plain = value.chars().all(|c| c.is_alphanumeric() || c == '|');
            let lists_words = is_plain || !is_regex && !value.starts_with('$');
            for word in value.split('|').filter(|_| lists_words) {
                if label_values(name, label).is_some_and(|words| !words.contains(&word)) {
                    self.errors
                        .push(format!("{name} never has {label}={word:?}"));
                }
            }
        }
        labels
    }

    fn aggregated(&mut self, aggregate: &AggregateExpr) -> Labels {
        let inner = self.labels(&aggregate.expr);
        let named = |modifier: &LabelModifier| modifier.labels().labels.clone();
        let wanted: Vec<String> = aggregate.modifier.as_ref().map(named).unwrap_or_default();
        self.require(&wanted, &inner, "groups by");
        let operator = aggregate.op.to_string();
        if ["topk", "bottomk", "limitk"].contains(&operator.as_str()) {
            return inner;
        }
        let mut left: Labels = match &aggregate.modifier {
            Some(LabelModifier::Exclude(_)) => inner
                .into_iter()
                .filter(|label| !wanted.contains(label))
                .collect(),
            _ => wanted.into_iter().collect(),
        };
        if let Some(Expr::StringLiteral(made)) = aggregate.param.as_deref() {
            left.insert(made.val.clone());
        }
        left
    }

    fn called(&mut self, call: &Call) -> Labels {
        let arguments = &call.args.args;
        let mut labels = Labels::new();
        for argument in arguments {
            labels.extend(self.labels(argument));
        }
        match (call.func.name, arguments.get(1).map(|second| &**second)) {
            ("label_replace" | "label_join", Some(Expr::StringLiteral(made))) => {
                labels.insert(made.val.clone());
            }
            ("histogram_quantile", _) => {
                labels.remove("le");
            }
            ("vector" | "scalar" | "time", _) => labels.clear(),
            _ => {}
        }
        labels
    }

    fn joined(&mut self, binary: &BinaryExpr) -> Labels {
        let (left, right) = (self.labels(&binary.lhs), self.labels(&binary.rhs));
        let is_scalar = |expr: &Expr| expr.value_type() == ValueType::Scalar;
        if is_scalar(&binary.lhs) || is_scalar(&binary.rhs) {
            return &left | &right;
        }
        let card = binary.modifier.as_ref().map(|modifier| &modifier.card);
        let matching = binary
            .modifier
            .as_ref()
            .and_then(|modifier| modifier.matching.as_ref());
        if let Some(matching) = matching {
            let named = &matching.labels().labels;
            let both = if matching.is_include() {
                &left & &right
            } else {
                &left | &right
            };
            self.require(named, &both, "matches on");
        }
        let taken = |labels: &Labels, from: &Labels, this: &mut Self| {
            this.require(&from.iter().cloned().collect::<Vec<_>>(), labels, "takes");
        };
        match (card, matching) {
            (Some(VectorMatchCardinality::ManyToOne(more)), _) => {
                let more = more.labels.iter().cloned().collect();
                taken(&right, &more, self);
                &left | &more
            }
            (Some(VectorMatchCardinality::OneToMany(more)), _) => {
                let more = more.labels.iter().cloned().collect();
                taken(&left, &more, self);
                &right | &more
            }
            (Some(VectorMatchCardinality::ManyToMany), _) if binary.op.to_string() == "or" => {
                &left | &right
            }
            (Some(VectorMatchCardinality::OneToOne), Some(LabelModifier::Include(on))) => {
                on.labels.iter().cloned().collect()
            }
            (Some(VectorMatchCardinality::OneToOne), Some(LabelModifier::Exclude(ignored))) => {
                let ignored = ignored.labels.iter().cloned().collect();
                &left - &ignored
            }
            _ => left,
        }
    }

    fn require(&mut self, wanted: &[String], there: &Labels, verb: &str) {
        for label in wanted.iter().filter(|label| !there.contains(*label)) {
            self.errors
                .push(format!("{verb} {label}, which is not there"));
        }
    }
}

/// The labels of a metric of the exporter, of a recording rule or of Prometheus. `None` for an unknown
/// metric.
fn labels_of(name: &str, recorded: &[(&str, &[&str])]) -> Option<Labels> {
    let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
    if let Some((_, labels)) = recorded.iter().find(|(known, _)| *known == name) {
        return Some(owned(labels));
    }
    if OF_TARGETS.contains(&name) {
        return Some(Labels::new());
    }
    if let [level, metric, _] = name.split(':').collect::<Vec<_>>()[..] {
        let (_, labels) = LEVELS.iter().find(|(known, _)| *known == level)?;
        return Some(&owned(labels) | &owned(family(metric)?.labels));
    }
    let mut labels: Labels = owned(family(name)?.labels);
    if name.ends_with("_bucket") {
        labels.insert("le".to_owned());
    }
    Some(labels)
}

/// The family of a sample.
fn family(name: &str) -> Option<&'static Family> {
    families().find(|family| match family.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| name.strip_suffix(suffix) == Some(family.name)),
        Kind::Gauge | Kind::Counter | Kind::Info => family.name == name,
    })
}

/// All values of a label that has an enum.
fn label_values(name: &str, label: &str) -> Option<Vec<&'static str>> {
    match label {
        "state" if name.contains("_protection_state") => {
            Some(ProtectionState::ALL.map(ProtectionState::as_str).to_vec())
        }
        "state" if name.contains("_progress_state") => {
            Some(BackupState::ALL.map(BackupState::as_str).to_vec())
        }
        "state" if name.contains("_restore_state") => {
            Some(RestoreState::ALL.map(RestoreState::as_str).to_vec())
        }
        "collector" => Some(Collector::ALL.map(Collector::as_str).to_vec()),
        "reason" => Some(Reason::ALL.map(Reason::as_str).to_vec()),
        "outcome" => Some(BackupOutcome::ALL.map(BackupOutcome::as_str).to_vec()),
        _ => None,
    }
}
