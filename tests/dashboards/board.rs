//! A dashboard as the rules look at it.

use serde_json::Value;

use crate::source;

/// A dashboard and the name of its file.
#[derive(Clone)]
pub(crate) struct Board {
    pub(crate) file: &'static str,
    pub(crate) json: Value,
}

/// All of them.
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

    /// Every query of a panel or an annotation, with whose it is.
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

/// The items of a list; none of what is no list.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text; an empty one of what is no text.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn title(panel: &Value) -> &str {
    text(&panel["title"])
}

/// Everything that is written in a value, at any depth.
pub(crate) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// The faults of each panel, with its title.
pub(crate) fn of_panels<'a, T: Into<Option<String>>>(
    board: &'a Board,
    check: impl Fn(&'a Value) -> T,
) -> Vec<String> {
    let panels = board.panels().iter();
    let faults =
        panels.filter_map(|panel| Some(format!("{}: {}", title(panel), check(panel).into()?)));
    faults.collect()
}
