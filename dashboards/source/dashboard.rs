//! Layout of a dashboard: ids and positions of panels follow from their order.

use serde_json::{Value, json};

use super::links;
use super::panel::Panel;
use super::scope::Scope;

pub(super) struct Dashboard {
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    /// Start of the initial time range.
    pub(super) from: &'static str,
    pub(super) scope: Scope,
    pub(super) variables: Vec<Value>,
    pub(super) annotations: Vec<Value>,
    /// Height and panels of each row.
    pub(super) rows: Vec<(u32, Vec<Panel>)>,
}

impl Dashboard {
    pub(super) fn into_json(self) -> Value {
        let mut panels = Vec::new();
        let mut top = 0;
        for (height, row) in self.rows {
            let mut left = 0;
            for panel in row {
                let width = panel.width;
                let place = json!({ "x": left, "y": top, "w": width, "h": height });
                panels.push(panel.into_json(panels.len() + 1, place));
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
            "links": links::to_other_dashboards(self.uid),
            "panels": panels,
        });
        self.scope.fill_all(&mut dashboard);
        dashboard
    }
}
