//! The rule of this project about links: their targets exist, and they keep the selected values.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use crate::board::{Board, boards, items, text, texts};

/// The violations of all links of a dashboard.
pub(crate) fn links(board: &Board) -> Vec<String> {
    let all = boards();
    let at_the_top = items(&board.json["links"]).iter();
    let mut violations: Vec<String> = at_the_top
        .flat_map(|link| check_link(link, &BTreeSet::new(), board, &all))
        .collect();
    for panel in board.panels() {
        let config = &panel["fieldConfig"];
        let changes = items(&panel["transformations"]).iter();
        let heads = changes
            .flat_map(|change| texts(&change["options"]["renameByName"]))
            .collect();
        let overrides = items(&config["overrides"]).iter();
        let own = overrides
            .flat_map(|own| items(&own["properties"]))
            .filter(|property| property["id"] == "links")
            .flat_map(|property| items(&property["value"]));
        let links = own.chain(items(&config["defaults"]["links"]));
        violations.extend(links.flat_map(|link| check_link(link, &heads, board, &all)));
    }
    violations
}

/// The violations of a link on the dashboard `here`, in a table with these column headers.
fn check_link(link: &Value, heads: &BTreeSet<&str>, here: &Board, all: &[Board]) -> Vec<String> {
    let to = text(&link["url"]);
    let (path, chosen) = to.split_once('?').unwrap_or((to, ""));
    let uid = path.strip_prefix("/d/").unwrap_or_default();
    let Some(target) = all.iter().find(|board| board.json["uid"] == uid) else {
        return vec![format!("{to} has no target")];
    };
    let mut violations = Vec::new();
    if link["keepTime"] != true && !chosen.contains("${__url_time_range}") {
        violations.push(format!("{to} does not keep the time range"));
    }
    let kept = |name: &str| chosen.contains(&format!("${{{name}:queryparam}}"));
    let explicit: Vec<&str> = chosen
        .split('&')
        .filter_map(|part| part.strip_prefix("var-")?.split('=').next())
        .collect();
    for variable in target.variables() {
        let name = text(&variable["name"]);
        let Some(own) = here.variables().iter().find(|own| own["name"] == name) else {
            continue;
        };
        // Grafana uses "All" as the value of a variable with a single value.
        let fits = own["multi"] != true || variable["multi"] == true;
        if kept(name) && !fits || !kept(name) && fits && !explicit.contains(&name) {
            violations.push(format!("{to} does not handle {name} correctly"));
        }
    }
    let kept_names = Regex::new(r"\$\{(\w+):queryparam\}").unwrap();
    let kept_names = kept_names
        .captures_iter(chosen)
        .map(|found| found[1].to_owned());
    let names: Vec<String> = explicit
        .iter()
        .map(|name| (*name).to_owned())
        .chain(kept_names)
        .collect();
    let has_variable = |name: &str| {
        target
            .variables()
            .iter()
            .any(|variable| variable["name"] == name)
    };
    let unknown = names.iter().filter(|name| !has_variable(name));
    violations.extend(unknown.map(|name| format!("{to} sets the unknown variable {name}")));
    let column = Regex::new(r"\$\{__data\.fields\.(\w+):percentencode\}").unwrap();
    let columns = column
        .captures_iter(chosen)
        .map(|found| found[1].to_owned());
    let missing = columns.filter(|head| !heads.contains(head.as_str()));
    violations.extend(missing.map(|head| format!("{to} needs the column {head}")));
    violations
}
