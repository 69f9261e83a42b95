//! Links between the dashboards. Time range, data source and choice of exporters always come along.

use serde_json::{Value, json};

/// A dashboard as others lead to it.
struct Place {
    uid: &'static str,
    name: &'static str,
    /// What one can choose any of there.
    any: &'static [&'static str],
    /// What one chooses one of there.
    one: &'static [&'static str],
}

const PLACES: [Place; 4] = [
    Place {
        uid: "sfbe-fleet",
        name: "Fleet",
        any: &["cluster_name", "application_name"],
        one: &[],
    },
    Place {
        uid: "sfbe-service",
        name: "Service",
        any: &["service_name"],
        one: &["cluster_name", "application_name"],
    },
    Place {
        uid: "sfbe-partition",
        name: "Partition",
        any: &[],
        one: &[
            "cluster_name",
            "application_name",
            "service_name",
            "partition_id",
        ],
    },
    Place {
        uid: "sfbe-exporter",
        name: "Exporter",
        any: &["cluster_name"],
        one: &[],
    },
];

const EXPORTERS: &str = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}";

/// Links at the top of a dashboard. What is chosen comes along, but for what may be several there
/// and must be one here: Grafana would take "All" for the name of a cluster.
pub(super) fn to_the_others(uid: &str) -> Vec<Value> {
    let here = PLACES.iter().find(|place| place.uid == uid);
    let here = here.expect("every dashboard has a place");
    let others = PLACES.iter().filter(|place| place.uid != uid);
    let link = |there: &Place| {
        let one = here
            .one
            .iter()
            .filter(|name| there.one.contains(name) || there.any.contains(name));
        let any = here.any.iter().filter(|name| there.any.contains(name));
        let chosen: Vec<String> = one
            .chain(any)
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

/// From a row of a table with the columns Cluster, Application and Service.
pub(super) fn service_of_row() -> Value {
    to_service(&of_row(&["Cluster", "Application", "Service"]))
}

/// From a row of a table that has the column Partition as well.
pub(super) fn partition_of_row() -> Value {
    to_partition(&of_row(&["Cluster", "Application", "Service", "Partition"]))
}

/// From a series with all labels of a partition.
pub(super) fn partition_of_series() -> Value {
    to_partition(&of_series(&super::ID.split(", ").collect::<Vec<_>>()))
}

/// From a series with the label `cluster_name`.
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
    let choose = |column: &&str| {
        let label = match *column {
            "Partition" => "partition_id".to_owned(),
            column => format!("{}_name", column.to_lowercase()),
        };
        format!("var-{label}=${{__data.fields.{column}:percentencode}}")
    };
    columns.iter().map(choose).collect::<Vec<_>>().join("&")
}

fn of_series(labels: &[&str]) -> String {
    let choose = |label: &&str| format!("var-{label}=${{__field.labels.{label}:percentencode}}");
    labels.iter().map(choose).collect::<Vec<_>>().join("&")
}
