//! Builder of panels.
//!
//! It uses only panel types and options of Grafana 9.4. Every panel needs a text for an empty result,
//! because an empty panel must not look like a healthy one.

use serde_json::{Map, Value, json};

use super::states::States;

/// A panel without id and position.
pub(super) struct Panel {
    pub(super) width: u32,
    json: Value,
    /// Transformations before the columns are arranged.
    changes: Vec<Value>,
    columns: Vec<(&'static str, &'static str)>,
    hidden: Vec<&'static str>,
}

/// The data source of the variable `datasource`.
pub(super) fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// The link at the end of the description of a panel.
pub(super) enum FollowUp {
    /// The runbook of an alert.
    Runbook(&'static str),
    /// Another dashboard by its title.
    Dashboard(&'static str),
}

const RUNBOOKS: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/runbooks");

impl Panel {
    fn new(
        kind: &str,
        title: &str,
        description: &str,
        follow_up: &FollowUp,
        options: &Value,
    ) -> Self {
        let follow_up = match follow_up {
            FollowUp::Runbook(alert) => format!("Runbook: [{alert}]({RUNBOOKS}/{alert}.md)."),
            FollowUp::Dashboard(title) => format!("Continue in the dashboard *{title}*."),
        };
        let json = json!({
            "type": kind,
            "title": title,
            "description": format!("{description} {follow_up}"),
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

    pub(super) fn stat(title: &str, description: &str, follow_up: &FollowUp) -> Self {
        let options = json!({
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            "textMode": "value",
        });
        Self::new("stat", title, description, follow_up, &options)
    }

    pub(super) fn lines(title: &str, description: &str, follow_up: &FollowUp) -> Self {
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
        Self::new("timeseries", title, description, follow_up, &options).set("custom", custom)
    }

    /// A state timeline with one row per series.
    pub(super) fn states(
        title: &str,
        description: &str,
        follow_up: &FollowUp,
        mappings: &[Value],
    ) -> Self {
        let options = json!({
            "alignValue": "left",
            "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false },
            "mergeValues": true,
            "rowHeight": 0.9,
            "showValue": "auto",
            "tooltip": { "mode": "single", "sort": "none" },
        });
        Self::new("state-timeline", title, description, follow_up, &options)
            .set("custom", json!({ "fillOpacity": 90, "lineWidth": 0 }))
            .set("mappings", json!(mappings))
            .steps(&[(None, super::states::GREY)])
    }

    pub(super) fn table(title: &str, description: &str, follow_up: &FollowUp) -> Self {
        let options = json!({ "showHeader": true });
        let custom = json!({ "align": "auto", "cellOptions": { "type": "auto" }, "inspect": false, "filterable": true });
        Self::new("table", title, description, follow_up, &options)
            .set("custom", custom)
            .steps(&[(None, super::states::GREY)])
    }

    /// Adds a column to a table: the label or `Value` that it shows, its header, the text of an empty
    /// cell, and further properties. A table with several queries has the fields `Value #A`,
    /// `Value #B` and so on.
    pub(super) fn column(
        mut self,
        field: &'static str,
        head: &'static str,
        none: &str,
        own: &[(&str, Value)],
    ) -> Self {
        self.columns.push((field, head));
        self.override_field(head, &[&[("noValue", json!(none))], own].concat())
    }

    /// Adds the columns that identify a service.
    pub(super) fn service_columns(self, own: &[(&str, Value)]) -> Self {
        self.column("cluster_name", "Cluster", "unknown", &[])
            .column("application_name", "Application", "unknown", &[])
            .column("service_name", "Service", "unknown", own)
    }

    /// Removes the rows for which the first query has no value.
    pub(super) fn only_rows_of_first_query(mut self) -> Self {
        self.changes
            .push(json!({ "id": "filterByValue", "options": {
            "filters": [{ "fieldName": "Value #A", "config": { "id": "isNull", "options": {} } }],
            "type": "exclude",
            "match": "any",
        } }));
        self
    }

    /// Hides fields of the queries of a table.
    pub(super) fn hide(mut self, fields: &[&'static str]) -> Self {
        self.hidden.extend(fields);
        self
    }

    /// Sorts the rows by a label, largest first, before fields are hidden.
    pub(super) fn ordered_by(mut self, label: &str) -> Self {
        let sorted = json!({ "id": "sortBy", "options": {
            "fields": {},
            "sort": [{ "field": label, "desc": true }],
        } });
        self.changes.push(sorted);
        self
    }

    /// Sets the column by which the table is initially sorted, largest first.
    pub(super) fn sorted_by(mut self, head: &str) -> Self {
        self.json["options"]["sortBy"] = json!([{ "displayName": head, "desc": true }]);
        self
    }

    /// Overrides properties of one column or series.
    pub(super) fn override_field(mut self, name: &str, properties: &[(&str, Value)]) -> Self {
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

    /// Sets the colour of every series that has the name of a state.
    pub(super) fn coloured_by(self, states: &States) -> Self {
        states.states.iter().fold(self, |panel, state| {
            let colour = json!({ "mode": "fixed", "fixedColor": state.colour });
            panel.override_field(state.word, &[("color", colour)])
        })
    }

    /// Adds a range query.
    pub(super) fn over_time(self, query: &str, legend: &str) -> Self {
        self.target(query, legend, "time_series", false)
    }

    /// Adds an instant query.
    pub(super) fn now(self, query: &str, legend: &str) -> Self {
        self.target(query, legend, "time_series", true)
    }

    /// Adds an instant query whose series are rows of a table.
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

    /// Sets the text for an empty result.
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

    /// Sets the thresholds. The first one has no value.
    pub(super) fn steps(self, steps: &[(Option<f64>, &str)]) -> Self {
        let steps: Vec<Value> = steps
            .iter()
            .map(|(value, colour)| json!({ "value": value, "color": colour }))
            .collect();
        self.set("color", json!({ "mode": "thresholds" }))
            .set("thresholds", json!({ "mode": "absolute", "steps": steps }))
    }

    /// Sets a field default.
    pub(super) fn set(mut self, key: &str, value: Value) -> Self {
        self.json["fieldConfig"]["defaults"][key] = value;
        self
    }

    /// Sets a custom field default of the panel type.
    pub(super) fn custom(mut self, key: &str, value: Value) -> Self {
        self.json["fieldConfig"]["defaults"]["custom"][key] = value;
        self
    }

    /// Sets an option of the panel type.
    pub(super) fn option(mut self, key: &str, value: Value) -> Self {
        self.json["options"][key] = value;
        self
    }

    /// Shows a label of the only series in place of its value.
    pub(super) fn label(mut self, label: &str) -> Self {
        self.json["targets"][0]["format"] = json!("table");
        self.json["options"]["reduceOptions"]["fields"] = json!(format!("/^{label}$/"));
        self.unit("string")
    }

    /// Limits the number and distance of data points, for queries over all partitions.
    pub(super) fn coarse(mut self) -> Self {
        self.json["maxDataPoints"] = json!(100);
        self.json["interval"] = json!("1m");
        self
    }

    /// Sets the data links of all fields.
    pub(super) fn linked_to(self, links: &[Value]) -> Self {
        self.set("links", json!(links))
    }

    /// The JSON of the panel with its id and position.
    pub(super) fn into_json(mut self, id: usize, place: Value) -> Value {
        self.json["id"] = json!(id);
        self.json["gridPos"] = place;
        if !self.columns.is_empty() {
            self.json["transformations"] = json!(self.transformations());
        }
        self.json
    }

    /// Transformations that join the queries of a table by their labels, and arrange its columns.
    fn transformations(&self) -> Vec<Value> {
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

/// Properties of a table column with durations.
pub(super) fn seconds() -> [(&'static str, Value); 3] {
    [
        ("unit", json!("s")),
        ("decimals", json!(1)),
        ("custom.width", json!(115)),
    ]
}
