//! Access to the JSON of a dashboard.

use serde_json::Value;

use crate::source;

/// A dashboard and the name of its file.
#[derive(Clone)]
pub(crate) struct Board {
    pub(crate) file: &'static str,
    pub(crate) json: Value,
}

pub(crate) fn boards() -> Vec<Board> {
    let all = source::all().into_iter();
    all.map(|(file, json)| Board { file, json }).collect()
}

impl Board {
    pub(crate) fn panels(&self) -> &[Value] {
        items(&self.json["panels"])
    }

    pub(crate) fn variables(&self) -> &[Value] {
        items(&self.json["templating"]["list"])
    }

    pub(crate) fn annotations(&self) -> &[Value] {
        items(&self.json["annotations"]["list"])
    }

    /// Every query, with the title of its panel or the name of its annotation.
    pub(crate) fn queries(&self) -> Vec<(&str, &str)> {
        let of_panels = self.panels().iter().flat_map(|panel| {
            let targets = items(&panel["targets"]).iter();
            targets.map(|target| (title(panel), text(&target["expr"])))
        });
        let of_annotations = self.annotations().iter();
        of_panels
            .chain(
                of_annotations
                    .map(|annotation| (text(&annotation["name"]), text(&annotation["expr"]))),
            )
            .collect()
    }
}

/// The items of a list, or none for another value.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A string, or an empty one for another value.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn title(panel: &Value) -> &str {
    text(&panel["title"])
}

/// All strings of a value, at any depth.
pub(crate) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// The violations of all panels, each with the title of its panel.
pub(crate) fn of_panels<'a, T: Into<Option<String>>>(
    board: &'a Board,
    check: impl Fn(&'a Value) -> T,
) -> Vec<String> {
    let panels = board.panels().iter();
    let violations =
        panels.filter_map(|panel| Some(format!("{}: {}", title(panel), check(panel).into()?)));
    violations.collect()
}
