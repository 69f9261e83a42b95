//! Rules of this project about the appearance of panels: missing data never looks healthy, states are shown by
//! name, and colours are distinguishable.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;
use servicefabric_backup_exporter::protection::ProtectionState;

use crate::board::{Board, items, of_panels, text, title};

/// Functions and operators after which a query does not return the numbers of states.
const COUNTED: [&str; 5] = ["count_values(", "count by", "topk by", " bool ", " unless "];

/// Colours of states.
pub(crate) const PALETTE: [&str; 9] = [
    "#009E73", "#56B4E9", "#0072B2", "#F0E442", "#E69F00", "#D55E00", "#661100", "#CC79A7", GREY,
];

/// The colour of unknown values.
const GREY: &str = "#DDDDDD";

/// Neutral colours.
const PLAIN: [&str; 2] = ["text", "transparent"];

/// An empty result, and an empty cell, has a text.
pub(crate) fn no_value(board: &Board) -> Vec<String> {
    of_panels(board, |panel| {
        let config = &panel["fieldConfig"];
        let words = text(&config["defaults"]["noValue"]);
        // Grafana does not show the text with `textMode: name`.
        let says = words.split_whitespace().count() >= 2 && panel["options"]["textMode"] != "name";
        if let Some(head) = columns(panel).find(|head| !has_words(config, head)) {
            return Some(format!("empty cells of {head} have no text"));
        }
        let mut cells = properties(config, "noValue").map(text);
        let mute = cells.find(|words| !words.contains(char::is_alphabetic));
        let mute = if says { mute } else { Some(words) };
        mute.map(|words| format!("{words:?} is no text for an empty result"))
    })
}

/// The headers of the columns of a table.
fn columns(panel: &Value) -> impl Iterator<Item = &str> {
    let changes = items(&panel["transformations"]).iter();
    let heads = changes.filter_map(|change| change["options"]["renameByName"].as_object());
    heads.flat_map(|heads| heads.values().map(text))
}

/// Whether a column has its own text for empty cells. The text of the table does not apply to them.
fn has_words(config: &Value, head: &str) -> bool {
    let mut overrides = items(&config["overrides"]).iter();
    overrides.any(|own| {
        own["matcher"]["options"] == head
            && items(&own["properties"])
                .iter()
                .any(|property| property["id"] == "noValue")
    })
}

/// A missing number is grey or has no colour.
pub(crate) fn grey_without_value(board: &Board) -> Vec<String> {
    of_panels(board, |panel| {
        let base = text(&panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["color"]);
        let is_coloured = panel["type"] != "timeseries" && ![GREY, "text"].contains(&base);
        is_coloured.then(|| format!("is {base} without a value"))
    })
}

/// A state is shown by its name, never by its number.
pub(crate) fn states_as_words(board: &Board) -> Vec<String> {
    let number = Regex::new(r"(?:^|\s|\()([\d.]+) ([*+]) (?:max by|\()").unwrap();
    let flag =
        r"^max(?: by \([\w, ]+\))? ?\((?:up|\w+_(?:up|success|suspended|successful|insecure))\{";
    let flag = Regex::new(flag).unwrap();
    of_panels(board, |panel| {
        let targets = items(&panel["targets"]).iter();
        let queries = targets.map(|target| text(&target["expr"]));
        let mut wanted = BTreeSet::new();
        let is_shown = |query: &&str| !COUNTED.iter().any(|counted| query.contains(counted));
        for query in queries.filter(is_shown) {
            for found in number.captures_iter(query) {
                let first: f64 = found[1].parse().unwrap();
                let last = if &found[2] == "+" { first + 1.0 } else { first };
                wanted.extend([first, last].map(|number| number.to_string()));
            }
            if query.contains("_protection_severity{") {
                let severities = ProtectionState::ALL
                    .iter()
                    .filter_map(|verdict| verdict.severity());
                wanted.extend(severities.map(|severity| severity.to_string()));
            }
            if flag.is_match(query) {
                wanted.extend(["0", "1"].map(str::to_owned));
            }
        }
        let known = keys_of_mappings(panel);
        let bare = wanted
            .into_iter()
            .find(|number| !known.contains(number.as_str()))?;
        Some(format!("shows the bare number {bare}"))
    })
}

/// The values of a property in the field overrides.
fn properties<'a>(config: &'a Value, id: &'a str) -> impl Iterator<Item = &'a Value> {
    let overrides = items(&config["overrides"]).iter();
    let all = overrides.flat_map(|own| items(&own["properties"]));
    let found = all.filter(move |property| property["id"] == id);
    found.map(|property| &property["value"])
}

fn keys_of_mappings(panel: &Value) -> BTreeSet<&str> {
    let config = &panel["fieldConfig"];
    properties(config, "mappings")
        .chain([&config["defaults"]["mappings"]])
        .flat_map(items)
        .filter_map(|mapping| mapping["options"].as_object())
        .flat_map(|options| options.keys().map(String::as_str))
        .collect()
}

/// All colours are in the palette.
pub(crate) fn colours(board: &Board) -> Vec<String> {
    let all = colours_in(&board.json).into_iter();
    let strange = all.filter(|colour| !PALETTE.contains(colour) && !PLAIN.contains(colour));
    strange
        .map(|colour| format!("{colour} is not in the palette"))
        .collect()
}

fn colours_in(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            let is_colour = |key: &str| ["color", "fixedColor", "iconColor"].contains(&key);
            let fields = fields.iter();
            let found = fields.flat_map(|(key, field)| match field {
                Value::String(colour) if is_colour(key) => vec![colour.as_str()],
                field => colours_in(field),
            });
            found.collect()
        }
        Value::Array(items) => items.iter().flat_map(colours_in).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Panel types and transformations exist in Grafana 9.4.
pub(crate) fn grafana_9_4(board: &Board) -> Vec<String> {
    let kinds = ["stat", "table", "timeseries", "state-timeline"];
    of_panels(board, |panel| {
        let kind = text(&panel["type"]);
        let changes = items(&panel["transformations"]).iter();
        let strange = changes
            .map(|change| text(&change["id"]))
            .find(|id| !["merge", "organize", "sortBy", "filterByValue"].contains(id));
        match strange {
            _ if !kinds.contains(&kind) => Some(format!("is a {kind}")),
            Some(id) => Some(format!("needs {id}")),
            None => None,
        }
    })
}

/// Panels have unique ids, do not overlap, and leave no gaps.
pub(crate) fn positions(board: &Board) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut bottom = 0;
    let mut violations = Vec::new();
    for panel in board.panels() {
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        let is_free = cells.filter(|cell| !taken.insert(*cell)).count() == 0;
        if !is_free || !ids.insert(panel["id"].to_string()) || x + w > 24 {
            violations.push(format!("{} overlaps or has a duplicate id", title(panel)));
        }
        bottom = bottom.max(y + h);
    }
    if taken.len() as u64 != 24 * bottom {
        violations.push("has a gap".to_owned());
    }
    violations
}
