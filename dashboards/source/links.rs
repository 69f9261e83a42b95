//! Links between the dashboards. Time range, data source and choice of exporters always come along.

use serde_json::{Value, json};

/// Every dashboard, by its lasting id and its title.
pub(super) const DASHBOARDS: [(&str, &str); 4] = [
    ("sfbe-fleet", "Service Fabric Backup / Fleet"),
    ("sfbe-service", "Service Fabric Backup / Service"),
    ("sfbe-partition", "Service Fabric Backup / Partition"),
    ("sfbe-exporter", "Service Fabric Backup / Exporter"),
];

const KEPT: &str =
    "${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}";

/// Links at the top of a dashboard; what is chosen comes along.
pub(super) fn to_the_others(uid: &str) -> Vec<Value> {
    let others = DASHBOARDS.iter().filter(|(other, _)| *other != uid);
    let link = |(uid, title): &(&str, &str)| {
        let name = title.rsplit(" / ").next();
        json!({
            "type": "link",
            "title": name,
            "tooltip": title,
            "icon": "dashboard",
            "url": format!("/d/{uid}"),
            "tags": [],
            "asDropdown": false,
            "includeVars": true,
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
    json!({ "title": title, "url": format!("/d/{uid}?{KEPT}&{chosen}"), "targetBlank": false })
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
