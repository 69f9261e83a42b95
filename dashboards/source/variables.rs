//! What can be chosen at the top of a dashboard.
//!
//! Each list asks only for what belongs to the choices before it: the partitions of one service,
//! never all of them.

use serde_json::{Value, json};

use super::panel::datasource;

/// The data source and the exporters; every dashboard begins with them.
pub(super) fn exporters() -> Vec<Value> {
    let source = json!({
        "type": "datasource",
        "name": "datasource",
        "label": "Data Source",
        "description": "The Prometheus that scrapes the exporters.",
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
        any("job", "Job", &format!("{build}, job"), ".+"),
        any(
            "instance",
            "Instance",
            &format!(r#"{build}{{job=~"$job"}}, instance"#),
            ".+",
        ),
    ]
}

/// Any of the clusters.
pub(super) fn clusters() -> Value {
    any("cluster_name", "Cluster", CLUSTERS, ".+")
}

/// Any of the applications; a partition whose application is not known is among all of them.
pub(super) fn applications() -> Value {
    any("application_name", "Application", APPLICATIONS, ".*")
}

/// Any of the services of the application.
pub(super) fn services() -> Value {
    any("service_name", "Service", SERVICES, ".*")
}

/// One cluster.
pub(super) fn cluster() -> Value {
    one("cluster_name", "Cluster", CLUSTERS)
}

/// One application of the cluster.
pub(super) fn application() -> Value {
    one("application_name", "Application", APPLICATIONS)
}

/// One service of the application.
pub(super) fn service() -> Value {
    one("service_name", "Service", SERVICES)
}

/// One partition of the service.
pub(super) fn partition() -> Value {
    let known = "servicefabric_backup_partition_info{@services}, partition_id";
    one("partition_id", "Partition", known)
}

const CLUSTERS: &str = "servicefabric_backup_partitions{@exporters}, cluster_name";
const APPLICATIONS: &str = "servicefabric_backup_partition_info{@clusters}, application_name";
const SERVICES: &str = r#"servicefabric_backup_partition_info{@clusters, application_name="$application_name"}, service_name"#;

fn one(name: &str, label: &str, known: &str) -> Value {
    query(name, label, known, None)
}

fn any(name: &str, label: &str, known: &str, all: &str) -> Value {
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
