//! The source of the dashboards. `BLESS=1 cargo test --test dashboards` writes the JSON files.
//!
//! Each dashboard has a module with its rows of panels, top to bottom. Queries contain placeholders
//! for label matchers, which [`scope::Scope`] replaces.

mod dashboard;
mod exporter;
mod fleet;
mod links;
mod panel;
mod partition;
mod scope;
mod service;
mod shards;
mod states;
mod stats;
mod variables;

use serde_json::Value;

/// Every dashboard with the name of its file.
pub(crate) fn all() -> [(&'static str, Value); 4] {
    [
        ("fleet.json", fleet::dashboard()),
        ("service.json", service::dashboard()),
        ("partition.json", partition::dashboard()),
        ("exporter.json", exporter::dashboard()),
    ]
}
