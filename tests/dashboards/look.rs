//! Our own rules about what is seen: nothing that looks like good news and is none, words where there
//! would be numbers, colours that everybody can tell apart.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;
use servicefabric_backup_exporter::protection::ProtectionState;

use crate::board::{Board, items, of_panels, text, title};

/// What makes something else of the numbers of states before anybody sees them.
const COUNTED: [&str; 5] = ["count_values(", "count by", "topk by", " bool ", " unless "];

/// Colours of states.
pub(crate) const PALETTE: [&str; 9] = [
    "#009E73", "#56B4E9", "#0072B2", "#F0E442", "#E69F00", "#D55E00", "#661100", "#CC79A7", GREY,
];

/// The colour of what is not known.
const GREY: &str = "#DDDDDD";

/// The colours of what stands around.
const PLAIN: [&str; 2] = ["text", "transparent"];

/// Where there is no answer, words say what is missing.
pub(crate) fn no_value(board: &Board) -> Vec<String> {
    of_panels(board, |panel| {
        let config = &panel["fieldConfig"];
        let words = text(&config["defaults"]["noValue"]);
        // In place of a name they are not shown.
        let says = words.split_whitespace().count() >= 2 && panel["options"]["textMode"] != "name";
        if let Some(head) = columns(panel).find(|head| !has_words(config, head)) {
            return Some(format!(
                "an empty cell of {head} does not say what is missing"
            ));
        }
        let mut cells = properties(config, "noValue").map(text);
        let mute = cells.find(|words| !words.contains(char::is_alphabetic));
        let mute = if says { mute } else { Some(words) };
        mute.map(|words| format!("{words:?} does not say what is missing"))
    })
}

/// The heads of the columns of a table.
fn columns(panel: &Value) -> impl Iterator<Item = &str> {
    let changes = items(&panel["transformations"]).iter();
    let heads = changes.filter_map(|change| change["options"]["renameByName"].as_object());
    heads.flat_map(|heads| heads.values().map(text))
}

/// The words of the whole table are not those of a cell.
fn has_words(config: &Value, head: &str) -> bool {
    let mut overrides = items(&config["overrides"]).iter();
    overrides.any(|own| {
        own["matcher"]["options"] == head
            && items(&own["properties"])
                .iter()
                .any(|property| property["id"] == "noValue")
    })
}

/// A number that is missing has no colour of good or bad news.
pub(crate) fn grey_without_value(board: &Board) -> Vec<String> {
    of_panels(board, |panel| {
        let base = text(&panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["color"]);
        let is_coloured = panel["type"] != "timeseries" && ![GREY, "text"].contains(&base);
        is_coloured.then(|| format!("is {base} without a value"))
    })
}

/// The number of a state is never shown, and its word always is.
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

/// The values of a property where some fields differ from the others.
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

/// Nothing that only some people can tell apart.
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

/// Grafana 9.4 has it.
pub(crate) fn old_enough(board: &Board) -> Vec<String> {
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

/// Panels have a number and a place of their own, and leave no hole.
pub(crate) fn places(board: &Board) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut bottom = 0;
    let mut faults = Vec::new();
    for panel in board.panels() {
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        let is_free = cells.filter(|cell| !taken.insert(*cell)).count() == 0;
        if !is_free || !ids.insert(panel["id"].to_string()) || x + w > 24 {
            faults.push(format!("{} is in the way", title(panel)));
        }
        bottom = bottom.max(y + h);
    }
    if taken.len() as u64 != 24 * bottom {
        faults.push("has a hole".to_owned());
    }
    faults
}
