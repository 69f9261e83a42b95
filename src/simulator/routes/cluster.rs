//! Nodes of the cluster, and health of the cluster, applications and services.
//!
//! Formats `GetNodeInfoList` and `GetHealth`, as in the samples `GetNodeInfoList.*` and
//! `GetClusterHealth.json`. A warning on a partition is a warning on everything above it; there are
//! no other causes of bad health.

use chrono::{DateTime, Utc};
use hyper::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::errors::invalid_argument;
use super::page::{ListPage, QueryParameters};
use super::settings::ResponseSettings;
use crate::simulator::estate::{Estate, HealthReport, Service};
use crate::simulator::response::{GatewayResponse, RouteKind};

/// Number of nodes.
const NODES: usize = 5;

pub(super) fn nodes(query: &QueryParameters, settings: &ResponseSettings<'_>) -> GatewayResponse {
    let page = ListPage::requested(RouteKind::Native, "Nodes", query, settings);
    let page = page.and_then(|page| page.with_limit(query.get("MaxResults")));
    let Some(page) = page else {
        return invalid_argument();
    };
    let names = (0..NODES).map(|index| (node_name(index), index));
    page.answer(page.rest(names).into_iter(), |(name, index)| {
        (name.clone(), node(*index, settings))
    })
}

pub(super) fn health(estate: &Estate, now: DateTime<Utc>) -> GatewayResponse {
    let applications: Vec<_> = estate
        .applications
        .keys()
        .map(|name| (name, application_state(estate, name, now)))
        .collect();
    let state = worst(applications.iter().map(|(_, state)| *state));
    let applications = applications.iter();
    let applications: Value = applications
        .map(|(name, state)| json!({"Name": &***name, "AggregatedHealthState": state}))
        .collect();
    let nodes: Value = (0..NODES)
        .map(|index| {
            json!({
                "Name": node_name(index),
                "Id": {"Id": node_id(index)},
                "AggregatedHealthState": "Ok",
            })
        })
        .collect();
    let mut body = entity_health(state);
    body["NodeHealthStates"] = nodes;
    body["ApplicationHealthStates"] = applications;
    GatewayResponse::json(body)
}

pub(super) fn application_health(
    estate: &Estate,
    name: &str,
    now: DateTime<Utc>,
) -> GatewayResponse {
    let Some(services) = estate.applications.get(name) else {
        return not_in_the_store();
    };
    let services = services.iter().filter_map(|name| {
        let state = service_state(estate, estate.services.get(name)?, now);
        Some(json!({"ServiceName": &**name, "AggregatedHealthState": state}))
    });
    let services: Value = services.collect();
    let mut body = entity_health(application_state(estate, name, now));
    body["Name"] = json!(name);
    body["ServiceHealthStates"] = services;
    body["DeployedApplicationHealthStates"] = json!([]);
    GatewayResponse::json(body)
}

pub(super) fn service_health(estate: &Estate, name: &str, now: DateTime<Utc>) -> GatewayResponse {
    let Some(service) = estate.services.get(name) else {
        return not_in_the_store();
    };
    let partitions: Value = service
        .partitions
        .iter()
        .map(|id| {
            let state = partition_state(estate, *id, now);
            json!({"PartitionId": id, "AggregatedHealthState": state})
        })
        .collect();
    let mut body = entity_health(service_state(estate, service, now));
    body["Name"] = json!(name);
    body["PartitionHealthStates"] = partitions;
    GatewayResponse::json(body)
}

fn entity_health(state: &str) -> Value {
    json!({
        "HealthEvents": [],
        "AggregatedHealthState": state,
        "UnhealthyEvaluations": [],
        "HealthStatistics": {"HealthStateCountList": []},
    })
}

fn not_in_the_store() -> GatewayResponse {
    GatewayResponse::error(
        RouteKind::Native,
        StatusCode::NOT_FOUND,
        "FABRIC_E_HEALTH_ENTITY_NOT_FOUND",
        "Entity not found in health store.",
    )
}

fn application_state(estate: &Estate, name: &str, now: DateTime<Utc>) -> &'static str {
    let services = estate.applications.get(name).into_iter().flatten();
    let services = services.filter_map(|name| estate.services.get(name));
    worst(services.map(|service| service_state(estate, service, now)))
}

fn service_state(estate: &Estate, service: &Service, now: DateTime<Utc>) -> &'static str {
    let partitions = service.partitions.iter();
    worst(partitions.map(|id| partition_state(estate, *id, now)))
}

fn partition_state(estate: &Estate, id: Uuid, now: DateTime<Utc>) -> &'static str {
    let health = estate.health_of(id, now);
    let mut reports = health.iter().flat_map(|it| &it.reports);
    if reports.any(HealthReport::is_warning) {
        "Warning"
    } else {
        "Ok"
    }
}

fn worst(mut states: impl Iterator<Item = &'static str>) -> &'static str {
    states.find(|state| *state == "Warning").unwrap_or("Ok")
}

fn node_name(index: usize) -> String {
    format!("_Node_{index}")
}

fn node_id(index: usize) -> String {
    format!("{:032x}", index + 1)
}

fn node(index: usize, settings: &ResponseSettings<'_>) -> Value {
    json!({
        "Name": node_name(index),
        "IpAddressOrFQDN": format!("10.0.0.{}", index + 4),
        "Type": "NodeType0",
        "CodeVersion": settings.cluster_version,
        "ConfigVersion": "1",
        "NodeStatus": "Up",
        "NodeUpTimeInSeconds": "698803",
        "HealthState": "Ok",
        "IsSeedNode": true,
        "UpgradeDomain": index.to_string(),
        "FaultDomain": format!("fd:/{index}"),
        "Id": {"Id": node_id(index)},
        "InstanceId": "132428553760489593",
        "NodeDeactivationInfo": {
            "NodeDeactivationIntent": "Invalid",
            "NodeDeactivationStatus": "None",
            "NodeDeactivationTask": [],
            "PendingSafetyChecks": [],
        },
        "IsStopped": false,
        "NodeDownTimeInSeconds": "0",
        "NodeUpAt": "2020-08-25T18:56:31.439Z",
        "NodeDownAt": "0001-01-01T00:00:00.000Z",
        "InfrastructurePlacementID": "",
    })
}
