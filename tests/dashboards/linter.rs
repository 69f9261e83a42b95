//! The rules of Grafana's dashboard linter in strict mode, with their original names.

use regex::Regex;
use serde_json::{Value, json};

use crate::board::{Board, items, text, title};
use crate::promql;

/// A rule that returns the violations of a dashboard.
pub(crate) type Rule = fn(&Board) -> Vec<String>;

/// Every rule with its name.
pub(crate) const RULES: [(&str, Rule); 15] = [
    ("template-datasource", template_datasource),
    ("template-job", |board| template(board, "job", "Job")),
    ("template-instance", |board| {
        template(board, "instance", "Instance")
    }),
    ("template-label-promql", template_label_promql),
    (
        "template-on-time-change-reload",
        template_on_time_change_reload,
    ),
    ("panel-datasource", panel_datasource),
    ("panel-title-description", panel_title_description),
    ("panel-units", panel_units),
    ("panel-no-targets", panel_no_targets),
    ("target-promql", target_promql),
    ("target-rate-interval", target_rate_interval),
    ("target-job", |board| target_matcher(board, "job")),
    ("target-instance", |board| target_matcher(board, "instance")),
    ("target-counter-agg", target_counter_agg),
    ("uneditable-dashboard", uneditable_dashboard),
];

/// The units of Grafana that the dashboards use.
const UNITS: [&str; 10] = [
    "none",
    "locale",
    "string",
    "short",
    "percentunit",
    "bytes",
    "dateTimeAsIso",
    "s",
    "cps",
    "reqps",
];

fn check(holds: bool, words: &str) -> Vec<String> {
    if holds {
        Vec::new()
    } else {
        vec![words.to_owned()]
    }
}

fn template_datasource(board: &Board) -> Vec<String> {
    let all = board.variables().iter();
    let sources: Vec<_> = all
        .filter(|variable| variable["type"] == "datasource")
        .collect();
    let holds = sources.len() == 1
        && sources.iter().all(|source| {
            source["name"] == "datasource"
                && source["label"] == "Data Source"
                && source["query"] == "prometheus"
        });
    check(holds, "has no variable datasource, labelled Data Source")
}

fn template(board: &Board, name: &str, label: &str) -> Vec<String> {
    let holds = board.variables().iter().any(|variable| {
        variable["name"] == name
            && variable["label"] == label
            && variable["type"] == "query"
            && variable["datasource"]["uid"] == "${datasource}"
            && variable["multi"] == true
            && variable["allValue"] == ".+"
    });
    check(
        holds,
        &format!("has no variable {name} with several values and All"),
    )
}

fn query_variables(board: &Board) -> impl Iterator<Item = &Value> {
    let all = board.variables().iter();
    all.filter(|variable| variable["type"] == "query")
}

fn template_label_promql(board: &Board) -> Vec<String> {
    let form = Regex::new(r"^label_values\((.+), (\w+)\)$").unwrap();
    let check = |variable: &Value| {
        let query = text(&variable["query"]);
        let Some(parts) = form.captures(query) else {
            return vec![format!("{query} is not label_values(...)")];
        };
        promql::errors(&format!("group by ({}) ({})", &parts[2], &parts[1]), &[])
    };
    query_variables(board).flat_map(check).collect()
}

fn template_on_time_change_reload(board: &Board) -> Vec<String> {
    let stale = query_variables(board).filter(|variable| variable["refresh"] != 2);
    stale
        .map(|variable| {
            format!(
                "{} is not refreshed when the time range changes",
                variable["name"]
            )
        })
        .collect()
}

fn panel_datasource(board: &Board) -> Vec<String> {
    let own = |value: &Value| {
        value["datasource"] == json!({ "type": "prometheus", "uid": "${datasource}" })
    };
    let holds = |panel: &&Value| own(panel) && items(&panel["targets"]).iter().all(own);
    let panels = board.panels().iter().chain(board.annotations());
    let wrong = panels.filter(|panel| !holds(panel));
    wrong
        .map(|panel| format!("{} has another data source", title(panel)))
        .collect()
}

fn panel_title_description(board: &Board) -> Vec<String> {
    let mute = board
        .panels()
        .iter()
        .filter(|panel| title(panel).is_empty() || text(&panel["description"]).is_empty());
    mute.map(|panel| format!("panel {} has no title or no description", panel["id"]))
        .collect()
}

fn panel_units(board: &Board) -> Vec<String> {
    let of_panel = |panel: &Value| {
        let overrides = items(&panel["fieldConfig"]["overrides"]).iter();
        let own = overrides
            .flat_map(|own| items(&own["properties"]))
            .filter(|property| property["id"] == "unit")
            .map(|property| text(&property["value"]).to_owned());
        let unit = text(&panel["fieldConfig"]["defaults"]["unit"]).to_owned();
        let wrong = own
            .chain([unit])
            .filter(|unit| !UNITS.contains(&unit.as_str()));
        wrong
            .map(|unit| format!("{} has the unit {unit:?}", title(panel)))
            .collect::<Vec<_>>()
    };
    board.panels().iter().flat_map(of_panel).collect()
}

fn panel_no_targets(board: &Board) -> Vec<String> {
    let idle = board
        .panels()
        .iter()
        .filter(|panel| items(&panel["targets"]).is_empty());
    idle.map(|panel| format!("{} has no targets", title(panel)))
        .collect()
}

fn target_promql(board: &Board) -> Vec<String> {
    let check =
        |(title, query): (&str, &str)| Some(format!("{title}: {}", promql::parse(query).err()?));
    board.queries().into_iter().filter_map(check).collect()
}

fn target_rate_interval(board: &Board) -> Vec<String> {
    let rates = Regex::new(r"(?:rate|irate|increase)\([^\[]*\[([^\]]*)\]").unwrap();
    let check = |(title, query): (&str, &str)| {
        let mut ranges = rates.captures_iter(query);
        ranges
            .any(|range| &range[1] != "$__rate_interval")
            .then(|| format!("{title}: {query} does not use $__rate_interval"))
    };
    board.queries().into_iter().filter_map(check).collect()
}

/// Every selector of every query, with the title of its panel.
fn selectors(board: &Board) -> Vec<(String, promql::Selector)> {
    let of_query = |(title, query): (&str, &str)| {
        let all = promql::parse(query).map(|expr| promql::selectors(&expr));
        let all = all.unwrap_or_default().into_iter();
        let title = title.to_owned();
        all.map(move |selector| (title.clone(), selector))
    };
    board.queries().into_iter().flat_map(of_query).collect()
}

fn target_matcher(board: &Board, label: &str) -> Vec<String> {
    let wanted = (label.to_owned(), "=~".to_owned(), format!("${label}"));
    let all = selectors(board).into_iter();
    let free = all.filter(|(_, selector)| !selector.matchers.contains(&wanted));
    free.map(|(title, selector)| format!("{title}: {} without {label}", selector.name))
        .collect()
}

fn target_counter_agg(board: &Board) -> Vec<String> {
    let all = selectors(board).into_iter();
    let bare = all.filter(|(_, selector)| {
        let function = selector.function.as_deref().unwrap_or_default();
        selector.name.ends_with("_total") && !["rate", "irate", "increase"].contains(&function)
    });
    bare.map(|(title, selector)| format!("{title}: {} without rate or increase", selector.name))
        .collect()
}

fn uneditable_dashboard(board: &Board) -> Vec<String> {
    check(board.json["editable"] == false, "can be edited")
}
