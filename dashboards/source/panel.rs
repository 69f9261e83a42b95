//! Panels: one constructor per kind, and what can be said of any of them.
//!
//! Only kinds and options that Grafana 9.4 has. Every panel asks for the words it shows when there
//! is no answer, because an empty panel must never look like good news.

use serde_json::{Map, Value, json};

use super::look::States;

/// A panel before it has a place.
pub(super) struct Panel {
    pub(super) width: u32,
    json: Value,
    /// What is done with the answers before a table shows them.
    changes: Vec<Value>,
    columns: Vec<(&'static str, &'static str)>,
    hidden: Vec<&'static str>,
}

/// The data source that was chosen.
pub(super) fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// Where the description of a panel sends somebody who sees it red.
pub(super) enum Next {
    /// A runbook, by the alert it belongs to.
    Runbook(&'static str),
    /// Another dashboard, by its title.
    Dashboard(&'static str),
}

const RUNBOOKS: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/runbooks");

impl Panel {
    fn new(kind: &str, title: &str, description: &str, next: &Next, options: &Value) -> Self {
        let next = match next {
            Next::Runbook(alert) => format!("Runbook: [{alert}]({RUNBOOKS}/{alert}.md)."),
            Next::Dashboard(title) => format!("Go on in the dashboard *{title}*."),
        };
        let json = json!({
            "type": kind,
            "title": title,
            "description": format!("{description} {next}"),
            "datasource": datasource(),
            "options": options,
            "targets": [],
            "fieldConfig": {
                "defaults": { "unit": "none", "mappings": [], "custom": {} },
                "overrides": [],
            },
        });
        Self {
            width: 24,
            json,
            changes: Vec::new(),
            columns: Vec::new(),
            hidden: vec!["Time"],
        }
    }

    /// One value, large.
    pub(super) fn stat(title: &str, description: &str, next: &Next) -> Self {
        let options = json!({
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            "textMode": "value",
        });
        Self::new("stat", title, description, next, &options)
    }

    /// Lines over time.
    pub(super) fn lines(title: &str, description: &str, next: &Next) -> Self {
        let options = json!({
            "legend": { "calcs": ["lastNotNull"], "displayMode": "list", "placement": "bottom", "showLegend": true },
            "tooltip": { "mode": "multi", "sort": "desc" },
        });
        let custom = json!({
            "drawStyle": "line",
            "fillOpacity": 0,
            "lineWidth": 2,
            "showPoints": "never",
            "spanNulls": false,
        });
        Self::new("timeseries", title, description, next, &options).set("custom", custom)
    }

    /// States over time, one row per series.
    pub(super) fn states(title: &str, description: &str, next: &Next, mappings: &[Value]) -> Self {
        let options = json!({
            "alignValue": "left",
            "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false },
            "mergeValues": true,
            "rowHeight": 0.9,
            "showValue": "auto",
            "tooltip": { "mode": "single", "sort": "none" },
        });
        Self::new("state-timeline", title, description, next, &options)
            .set("custom", json!({ "fillOpacity": 90, "lineWidth": 0 }))
            .set("mappings", json!(mappings))
            .steps(&[(None, super::look::GREY)])
    }

    /// Rows and columns.
    pub(super) fn table(title: &str, description: &str, next: &Next) -> Self {
        let options = json!({ "showHeader": true });
        let custom = json!({ "align": "auto", "cellOptions": { "type": "auto" }, "inspect": false, "filterable": true });
        Self::new("table", title, description, next, &options)
            .set("custom", custom)
            .steps(&[(None, super::look::GREY)])
    }

    /// The next column of a table, from the left: the label or `Value` it shows, its head, the words
    /// of an empty cell, and how else it differs from the others. A table of several queries has a
    /// `Value #A` for each.
    pub(super) fn column(
        mut self,
        field: &'static str,
        head: &'static str,
        none: &str,
        own: &[(&str, Value)],
    ) -> Self {
        self.columns.push((field, head));
        self.only(head, &[&[("noValue", json!(none))], own].concat())
    }

    /// The columns that tell a service.
    pub(super) fn service_columns(self, own: &[(&str, Value)]) -> Self {
        self.column("cluster_name", "Cluster", "not told", &[])
            .column("application_name", "Application", "not known", &[])
            .column("service_name", "Service", "not known", own)
    }

    /// Drops the rows for which the first query has no answer.
    pub(super) fn rows_of_the_first(mut self) -> Self {
        self.changes
            .push(json!({ "id": "filterByValue", "options": {
            "filters": [{ "fieldName": "Value #A", "config": { "id": "isNull", "options": {} } }],
            "type": "exclude",
            "match": "any",
        } }));
        self
    }

    /// What else the queries of a table answer, and nobody has to see.
    pub(super) fn hide(mut self, fields: &[&'static str]) -> Self {
        self.hidden.extend(fields);
        self
    }

    /// Sorts the rows by a label before anything is hidden, largest first.
    pub(super) fn ordered_by(mut self, label: &str) -> Self {
        let sorted = json!({ "id": "sortBy", "options": {
            "fields": {},
            "sort": [{ "field": label, "desc": true }],
        } });
        self.changes.push(sorted);
        self
    }

    /// The column that the rows are sorted by at first, largest first.
    pub(super) fn sorted_by(mut self, head: &str) -> Self {
        self.json["options"]["sortBy"] = json!([{ "displayName": head, "desc": true }]);
        self
    }

    /// Says how one column or series differs from the others.
    pub(super) fn only(mut self, name: &str, properties: &[(&str, Value)]) -> Self {
        let properties: Vec<Value> = properties
            .iter()
            .map(|(id, value)| json!({ "id": id, "value": value }))
            .collect();
        let matcher = json!({ "id": "byName", "options": name });
        let own = json!({ "matcher": matcher, "properties": properties });
        if let Some(overrides) = self.json["fieldConfig"]["overrides"].as_array_mut() {
            overrides.push(own);
        }
        self
    }

    /// Gives each series that is named after a state its colour.
    pub(super) fn coloured_by(self, states: &States) -> Self {
        states.states.iter().fold(self, |panel, state| {
            let colour = json!({ "mode": "fixed", "fixedColor": state.colour });
            panel.only(state.word, &[("color", colour)])
        })
    }

    /// A query over time.
    pub(super) fn over_time(self, query: &str, legend: &str) -> Self {
        self.target(query, legend, "time_series", false)
    }

    /// A query for now.
    pub(super) fn now(self, query: &str, legend: &str) -> Self {
        self.target(query, legend, "time_series", true)
    }

    /// A query for now whose series are rows of a table.
    pub(super) fn rows(self, query: &str) -> Self {
        self.target(query, "", "table", true)
    }

    fn target(mut self, query: &str, legend: &str, format: &str, instant: bool) -> Self {
        if let Some(targets) = self.json["targets"].as_array_mut() {
            let id = u8::try_from(targets.len()).map_or('Z', |index| char::from(b'A' + index));
            targets.push(json!({
                "refId": id.to_string(),
                "datasource": datasource(),
                "editorMode": "code",
                "expr": query,
                "format": format,
                "instant": instant,
                "range": !instant,
                "legendFormat": legend,
            }));
        }
        self
    }

    /// The words shown in place of an empty answer.
    pub(super) fn empty(self, words: &str) -> Self {
        self.set("noValue", json!(words))
    }

    pub(super) fn unit(self, unit: &str) -> Self {
        self.set("unit", json!(unit))
    }

    pub(super) fn width(mut self, width: u32) -> Self {
        self.width = width;
        self
    }

    pub(super) fn mapped(self, mapping: &Value) -> Self {
        self.set("mappings", json!([mapping]))
    }

    /// Colours from each value on; the first has no value.
    pub(super) fn steps(self, steps: &[(Option<f64>, &str)]) -> Self {
        let steps: Vec<Value> = steps
            .iter()
            .map(|(value, colour)| json!({ "value": value, "color": colour }))
            .collect();
        self.set("color", json!({ "mode": "thresholds" }))
            .set("thresholds", json!({ "mode": "absolute", "steps": steps }))
    }

    /// Sets a default of all its fields.
    pub(super) fn set(mut self, key: &str, value: Value) -> Self {
        self.json["fieldConfig"]["defaults"][key] = value;
        self
    }

    /// Sets an option of how its series are drawn.
    pub(super) fn custom(mut self, key: &str, value: Value) -> Self {
        self.json["fieldConfig"]["defaults"]["custom"][key] = value;
        self
    }

    /// Sets an option of its kind of panel.
    pub(super) fn option(mut self, key: &str, value: Value) -> Self {
        self.json["options"][key] = value;
        self
    }

    /// Shows the label of its only series, as it is, where there would be a value.
    pub(super) fn label(mut self, label: &str) -> Self {
        self.json["targets"][0]["format"] = json!("table");
        self.json["options"]["reduceOptions"]["fields"] = json!(format!("/^{label}$/"));
        self.unit("string")
    }

    /// Draws at most so many points, none closer than a minute: for queries over all partitions.
    pub(super) fn coarse(mut self) -> Self {
        self.json["maxDataPoints"] = json!(100);
        self.json["interval"] = json!("1m");
        self
    }

    /// Where a click leads from anywhere in it.
    pub(super) fn leads(self, links: &[Value]) -> Self {
        self.set("links", json!(links))
    }

    /// The JSON of the panel at its place.
    pub(super) fn placed(mut self, id: usize, place: Value) -> Value {
        self.json["id"] = json!(id);
        self.json["gridPos"] = place;
        if !self.columns.is_empty() {
            self.json["transformations"] = json!(self.arranged());
        }
        self.json
    }

    /// Joins the answers of a table by the labels they share, and arranges its columns.
    fn arranged(&self) -> Vec<Value> {
        let is_joined = self.json["targets"]
            .as_array()
            .is_some_and(|targets| targets.len() > 1);
        let merged = is_joined.then(|| json!({ "id": "merge", "options": {} }));
        let fields = self.columns.iter().map(|(field, _)| (*field).to_owned());
        let order: Map<String, Value> = fields.zip((0..).map(|place: u8| json!(place))).collect();
        let heads = self.columns.iter();
        let heads: Map<String, Value> = heads
            .map(|(field, head)| ((*field).to_owned(), json!(head)))
            .collect();
        let hidden = self.hidden.iter();
        let hidden: Map<String, Value> = hidden
            .map(|field| ((*field).to_owned(), json!(true)))
            .collect();
        let organised = json!({ "id": "organize", "options": {
            "excludeByName": hidden,
            "indexByName": order,
            "renameByName": heads,
        } });
        let changes = self.changes.iter().cloned();
        merged
            .into_iter()
            .chain(changes)
            .chain([organised])
            .collect()
    }
}

/// How a column shows lengths of time.
pub(super) fn seconds() -> [(&'static str, Value); 3] {
    [
        ("unit", json!("s")),
        ("decimals", json!(1)),
        ("custom.width", json!(115)),
    ]
}
