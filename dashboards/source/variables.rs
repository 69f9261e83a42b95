//! Variables of the dashboards.
//!
//! The query of each variable is restricted by the variables before it, so that it never returns all
//! partitions.

use serde_json::{Value, json};

use super::panel::datasource;

/// The data source and the exporters, the first variables of every dashboard.
pub(super) fn exporters() -> Vec<Value> {
    let source = json!({
        "type": "datasource",
        "name": "datasource",
        "label": "Data Source",
        "description": "The Prometheus server that scrapes the exporters.",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": false,
        "multi": false,
        "options": [],
        "refresh": 1,
        "regex": "",
        "skipUrlSync": false,
    });
    let build = "servicefabric_backup_exporter_build_info";
    vec![
        source,
        multi("job", "Job", &format!("{build}, job"), ".+"),
        multi(
            "instance",
            "Instance",
            &format!(r#"{build}{{job=~"$job"}}, instance"#),
            ".+",
        ),
    ]
}

pub(super) fn clusters() -> Value {
    multi("cluster_name", "Cluster", CLUSTERS, ".+")
}

/// Several applications. "All" includes partitions whose application is unknown.
pub(super) fn applications() -> Value {
    multi("application_name", "Application", APPLICATIONS, ".*")
}

pub(super) fn services() -> Value {
    multi("service_name", "Service", SERVICES, ".*")
}

pub(super) fn cluster() -> Value {
    single("cluster_name", "Cluster", CLUSTERS)
}

pub(super) fn application() -> Value {
    single("application_name", "Application", APPLICATIONS)
}

pub(super) fn service() -> Value {
    single("service_name", "Service", SERVICES)
}

pub(super) fn partition() -> Value {
    let known = "servicefabric_backup_partition_info{@services}, partition_id";
    single("partition_id", "Partition", known)
}

const CLUSTERS: &str = "servicefabric_backup_partitions{@exporters}, cluster_name";
const APPLICATIONS: &str = "servicefabric_backup_partition_info{@clusters}, application_name";
const SERVICES: &str = r#"servicefabric_backup_partition_info{@clusters, application_name="$application_name"}, service_name"#;

fn single(name: &str, label: &str, known: &str) -> Value {
    query(name, label, known, None)
}

fn multi(name: &str, label: &str, known: &str, all: &str) -> Value {
    query(name, label, known, Some(all))
}

fn query(name: &str, label: &str, known: &str, all: Option<&str>) -> Value {
    let query = format!("label_values({known})");
    let mut variable = json!({
        "type": "query",
        "name": name,
        "label": label,
        "datasource": datasource(),
        "query": query,
        "definition": query,
        "current": {},
        "hide": 0,
        "includeAll": all.is_some(),
        "multi": all.is_some(),
        "options": [],
        "refresh": 2,
        "regex": "",
        "skipUrlSync": false,
        "sort": 1,
    });
    if let Some(all) = all {
        variable["allValue"] = json!(all);
        variable["current"] = json!({ "selected": true, "text": ["All"], "value": ["$__all"] });
    }
    variable
}
