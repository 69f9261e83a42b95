//! What the dashboards are made of. `BLESS=1 cargo test --test dashboards` writes the JSON beside.
//!
//! Each dashboard has a module with its rows of panels, from the top. Queries are written with
//! marks in place of what is the same everywhere; [`Scope::fill`] knows them. Places and numbers of
//! panels follow from their order, so a new panel is one more item of a row.

mod exporter;
mod fleet;
mod links;
mod look;
mod panel;
mod partition;
mod service;
mod shards;
mod stats;
mod variables;

use serde_json::{Value, json};

use panel::Panel;

/// Every dashboard, with the name of its file.
pub(crate) fn all() -> [(&'static str, Value); 4] {
    [
        ("fleet.json", fleet::dashboard()),
        ("service.json", service::dashboard()),
        ("partition.json", partition::dashboard()),
        ("exporter.json", exporter::dashboard()),
    ]
}

/// The labels that tell one partition from all others.
const ID: &str = "cluster_name, application_name, service_name, partition_id";

/// Keeps, of what Prometheus and every process tell of themselves, what is of our jobs: those that
/// had an exporter within a day.
const OURS: &str = "and on (job) group by (job) (last_over_time(servicefabric_backup_exporter_build_info{@exporters}[1d]))";

/// A dashboard before it is laid out.
struct Dashboard {
    uid: &'static str,
    title: &'static str,
    description: &'static str,
    /// How far back it looks at first.
    from: &'static str,
    scope: Scope,
    variables: Vec<Value>,
    annotations: Vec<Value>,
    /// The height of each row and what stands in it.
    rows: Vec<(u32, Vec<Panel>)>,
}

/// Which series a dashboard is about: matchers for the families of each level, without braces.
struct Scope {
    /// What an exporter says of a cluster as a whole.
    clusters: &'static str,
    /// What it says of services.
    services: &'static str,
    /// What it says of partitions.
    partitions: &'static str,
}

impl Scope {
    /// Writes matchers and labels in place of the marks `@exporters`, `@clusters`, `@services`,
    /// `@partitions` and `@id`, and the joins in place of `@shard` and `@ours`.
    fn fill(&self, text: &str) -> String {
        let exporters = r#"job=~"$job", instance=~"$instance""#;
        let below = |matchers: &str| format!("{exporters}, {matchers}");
        text.replace("@shard", shards::JOIN)
            .replace("@ours", OURS)
            .replace("@exporters", exporters)
            .replace("@clusters", &below(self.clusters))
            .replace("@services", &below(self.services))
            .replace("@partitions", &below(self.partitions))
            .replace("@id", ID)
    }

    /// The same everywhere in a value.
    fn fill_all(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.fill(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.fill_all(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.fill_all(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

impl Dashboard {
    /// The JSON of the dashboard.
    fn laid_out(self) -> Value {
        let mut panels = Vec::new();
        let mut top = 0;
        for (height, row) in self.rows {
            let mut left = 0;
            for panel in row {
                let width = panel.width;
                let place = json!({ "x": left, "y": top, "w": width, "h": height });
                panels.push(panel.placed(panels.len() + 1, place));
                left += width;
            }
            top += height;
        }
        let mut dashboard = json!({
            "uid": self.uid,
            "id": null,
            "title": self.title,
            "description": self.description,
            "tags": ["servicefabric-backup"],
            "timezone": "browser",
            "editable": false,
            "graphTooltip": 1,
            "refresh": "1m",
            "time": { "from": self.from, "to": "now" },
            "schemaVersion": 38,
            "version": 1,
            "templating": { "list": self.variables },
            "annotations": { "list": self.annotations },
            "links": links::to_the_others(self.uid),
            "panels": panels,
        });
        self.scope.fill_all(&mut dashboard);
        dashboard
    }
}
