//! Links between the dashboards. They keep time range, data source and selected exporters.

use serde_json::{Value, json};

/// A dashboard as the target of a link.
struct Target {
    uid: &'static str,
    name: &'static str,
    /// Its variables with several values.
    multi: &'static [&'static str],
    /// Its variables with a single value.
    single: &'static [&'static str],
}

const TARGETS: [Target; 4] = [
    Target {
        uid: "sfbe-fleet",
        name: "Fleet",
        multi: &["cluster_name", "application_name"],
        single: &[],
    },
    Target {
        uid: "sfbe-service",
        name: "Service",
        multi: &["service_name"],
        single: &["cluster_name", "application_name"],
    },
    Target {
        uid: "sfbe-partition",
        name: "Partition",
        multi: &[],
        single: &[
            "cluster_name",
            "application_name",
            "service_name",
            "partition_id",
        ],
    },
    Target {
        uid: "sfbe-exporter",
        name: "Exporter",
        multi: &["cluster_name"],
        single: &[],
    },
];

const EXPORTERS: &str = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}";

/// Links at the top of a dashboard. They keep the selected values, except if a variable can have
/// several values here and only one there: Grafana would use "All" as the name of a cluster.
pub(super) fn to_other_dashboards(uid: &str) -> Vec<Value> {
    let here = TARGETS.iter().find(|target| target.uid == uid);
    let here = here.expect("every dashboard is a target");
    let others = TARGETS.iter().filter(|target| target.uid != uid);
    let link = |there: &Target| {
        let single = here
            .single
            .iter()
            .filter(|name| there.single.contains(name) || there.multi.contains(name));
        let multi = here.multi.iter().filter(|name| there.multi.contains(name));
        let chosen: Vec<String> = single
            .chain(multi)
            .map(|name| format!("&${{{name}:queryparam}}"))
            .collect();
        json!({
            "type": "link",
            "title": there.name,
            "tooltip": format!("Service Fabric Backup / {}", there.name),
            "icon": "dashboard",
            "url": format!("/d/{}?{EXPORTERS}{}", there.uid, chosen.concat()),
            "tags": [],
            "asDropdown": false,
            "includeVars": false,
            "keepTime": true,
            "targetBlank": false,
        })
    };
    others.map(link).collect()
}

/// A link from a table row with the columns Cluster, Application and Service.
pub(super) fn service_of_row() -> Value {
    to_service(&of_row(&["Cluster", "Application", "Service"]))
}

/// A link from a table row that also has the column Partition.
pub(super) fn partition_of_row() -> Value {
    to_partition(&of_row(&["Cluster", "Application", "Service", "Partition"]))
}

/// A link from a series with all labels of a partition.
pub(super) fn partition_of_series() -> Value {
    to_partition(&of_series(
        &super::scope::ID.split(", ").collect::<Vec<_>>(),
    ))
}

/// A link from a series with the label `cluster_name`.
pub(super) fn exporter_of_series() -> Value {
    let chosen = of_series(&["cluster_name"]);
    link("Exporter of this cluster", "sfbe-exporter", &chosen)
}

fn to_service(chosen: &str) -> Value {
    link("This service", "sfbe-service", chosen)
}

fn to_partition(chosen: &str) -> Value {
    link("This partition", "sfbe-partition", chosen)
}

fn link(title: &str, uid: &str, chosen: &str) -> Value {
    json!({ "title": title, "url": format!("/d/{uid}?${{__url_time_range}}&{EXPORTERS}&{chosen}"), "targetBlank": false })
}

fn of_row(columns: &[&str]) -> String {
    let variable = |column: &&str| {
        let label = match *column {
            "Partition" => "partition_id".to_owned(),
            column => format!("{}_name", column.to_lowercase()),
        };
        format!("var-{label}=${{__data.fields.{column}:percentencode}}")
    };
    columns.iter().map(variable).collect::<Vec<_>>().join("&")
}

fn of_series(labels: &[&str]) -> String {
    let variable = |label: &&str| format!("var-{label}=${{__field.labels.{label}:percentencode}}");
    labels.iter().map(variable).collect::<Vec<_>>().join("&")
}
