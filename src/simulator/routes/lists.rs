//! Lists of applications, services and partitions, and their items.
//!
//! Determines the items of a list, their order and their format. 64-bit numbers are strings,
//! enumerations are names and absent properties are omitted, as on native routes.

use std::ops::Bound::{Excluded, Unbounded};

use hyper::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::errors::{invalid_argument, not_found};
use super::names::id_of;
use super::page::{ListPage, QueryParameters};
use super::settings::ResponseSettings;
use crate::simulator::estate::{
    BACKUP_RESTORE_SERVICE, Estate, Keys, Partition, SYSTEM, Service, ServiceKind,
};
use crate::simulator::response::{GatewayResponse, RouteKind};
use crate::simulator::switches::PartitionEpoch;

pub(super) fn applications(
    estate: &Estate,
    query: &QueryParameters,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    let Some(page) = ListPage::requested(RouteKind::Native, "fabric:/", query, settings) else {
        return invalid_argument();
    };
    let Some(page) = page.with_limit(query.get("MaxResults")) else {
        return invalid_argument();
    };
    let after = page.after.as_deref();
    let names = estate
        .applications
        .range::<str, _>((after.map_or(Unbounded, Excluded), Unbounded))
        .map(|(name, _)| &**name)
        .filter(|name| *name != SYSTEM);
    page.answer(names, |name| {
        (name.to_string(), application_item(estate, name, settings))
    })
}

/// One application; one that does not exist is 204.
pub(super) fn application(
    estate: &Estate,
    name: &str,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    if estate.applications.contains_key(name) && name != SYSTEM {
        GatewayResponse::json(application_item(estate, name, settings))
    } else {
        GatewayResponse::empty(StatusCode::NO_CONTENT)
    }
}

pub(super) fn services(
    estate: &Estate,
    application: &str,
    query: &QueryParameters,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    let names = estate.applications.get(application);
    let Some(names) = names.filter(|_| !estate.is_being_deleted(application)) else {
        return not_found(RouteKind::Native, "FABRIC_E_APPLICATION_NOT_FOUND");
    };
    let Some(page) = ListPage::requested(RouteKind::Native, application, query, settings) else {
        return invalid_argument();
    };
    let after = page.after.as_deref();
    let services = names
        .range::<str, _>((after.map_or(Unbounded, Excluded), Unbounded))
        .filter(|name| settings.backup_service || ***name != *BACKUP_RESTORE_SERVICE)
        .filter_map(|name| Some((&**name, estate.services.get(name)?)));
    page.answer(services, |(name, service)| {
        let mut item = service_item(name, service, settings);
        if estate.is_being_deleted(name) {
            item["ServiceStatus"] = json!("Deleting");
        }
        ((*name).to_owned(), item)
    })
}

pub(super) fn partitions(
    estate: &Estate,
    service: &str,
    version: (u32, u32),
    query: &QueryParameters,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    let found = estate.services.get(service);
    let Some(found) = found.filter(|_| !estate.is_being_deleted(service)) else {
        return not_found(RouteKind::Native, "FABRIC_E_SERVICE_DOES_NOT_EXIST");
    };
    let Some(page) = ListPage::requested(RouteKind::Native, service, query, settings) else {
        return invalid_argument();
    };
    let after = page.after.as_deref().map(str::parse::<Uuid>);
    let Ok(after) = after.transpose() else {
        return invalid_argument();
    };
    let ids = found
        .partitions
        .range((after.map_or(Unbounded, Excluded), Unbounded))
        .filter_map(|id| Some((*id, estate.partitions.get(id)?)));
    let epoch = epoch_key(settings, version >= (6, 4));
    page.answer(ids, |(id, partition)| {
        let item = partition_item(*id, partition, found.kind, epoch, settings);
        (id.to_string(), item)
    })
}

/// One partition; one that does not exist is 204.
pub(super) fn partition(
    estate: &Estate,
    id: Uuid,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    let partition = estate.partitions.get(&id);
    let service = partition.and_then(|it| estate.services.get(&it.service));
    match partition.zip(service) {
        None => GatewayResponse::empty(StatusCode::NO_CONTENT),
        Some((partition, service)) => {
            let epoch = epoch_key(settings, false);
            GatewayResponse::json(partition_item(id, partition, service.kind, epoch, settings))
        }
    }
}

/// As in the samples `GetApplicationInfoList.*.json`.
fn application_item(estate: &Estate, name: &str, settings: &ResponseSettings<'_>) -> Value {
    let type_name = name.rsplit('/').next().unwrap_or(name);
    let mut item = json!({
        "Id": id_of(name),
        "Name": name,
        "TypeName": format!("{type_name}Type"),
        "TypeVersion": "1.0.0",
        "Status": if estate.is_being_deleted(name) { "Deleting" } else { "Ready" },
        "Parameters": [],
        "HealthState": "Ok",
        "ApplicationDefinitionKind": "ServiceFabricApplicationDescription",
    });
    if settings.switches.newer_fields {
        item["ManagedApplicationIdentity"] = json!({"ManagedIdentities": []});
        item["ApplicationMetadata"] = json!({"ArmMetadata": {}});
    }
    item
}

/// As in the sample `GetServiceInfoList.mixed.json`; only stateful services have
/// `HasPersistedState`.
fn service_item(name: &str, service: &Service, settings: &ResponseSettings<'_>) -> Value {
    let type_name = name.rsplit('/').next().unwrap_or(name);
    let mut item = json!({
        "Id": id_of(name),
        "ServiceKind": kind_word(service.kind),
        "Name": name,
        "TypeName": format!("{type_name}Type"),
        "ManifestVersion": "1.0.0",
        "HealthState": "Ok",
        "ServiceStatus": "Active",
        "IsServiceGroup": false,
    });
    match service.kind {
        ServiceKind::Persisted => item["HasPersistedState"] = json!(true),
        ServiceKind::Volatile => item["HasPersistedState"] = json!(false),
        ServiceKind::Stateless | ServiceKind::SelfReconfiguring => {}
    }
    if settings.switches.newer_fields {
        item["ServiceMetadata"] = json!({"ArmMetadata": {}});
    }
    item
}

/// As in the samples `GetPartitionInfo.*.json`.
fn partition_item(
    id: Uuid,
    partition: &Partition,
    kind: ServiceKind,
    epoch_key: &str,
    settings: &ResponseSettings<'_>,
) -> Value {
    let mut item = json!({
        "ServiceKind": kind_word(kind),
        "PartitionInformation": partition_information(id, &partition.keys),
        "HealthState": "Ok",
        "PartitionStatus": "Ready",
    });
    match kind {
        ServiceKind::Persisted | ServiceKind::Volatile => {
            item["TargetReplicaSetSize"] = json!(3);
            item["MinReplicaSetSize"] = json!(2);
            item["LastQuorumLossDurationInSeconds"] = json!("0");
            item[epoch_key] = json!({
                "ConfigurationVersion": partition.epoch.configuration.to_string(),
                "DataLossVersion": partition.epoch.data_loss.to_string(),
            });
        }
        ServiceKind::Stateless => item["InstanceCount"] = json!(-1),
        ServiceKind::SelfReconfiguring => {
            item["InstanceCount"] = json!(2);
            item["MinInstanceCount"] = json!(2);
        }
    }
    if settings.switches.newer_fields {
        item["PartitionMetadata"] = json!({"ArmMetadata": {}});
    }
    item
}

pub(super) fn partition_information(id: Uuid, keys: &Keys) -> Value {
    match keys {
        Keys::Singleton => json!({"ServicePartitionKind": "Singleton", "Id": id}),
        Keys::Named(name) => {
            json!({"ServicePartitionKind": "Named", "Id": id, "Name": &**name})
        }
        Keys::Range(low, high) => json!({
            "ServicePartitionKind": "Int64Range",
            "Id": id,
            "LowKey": low.to_string(),
            "HighKey": high.to_string(),
        }),
    }
}

fn epoch_key(settings: &ResponseSettings<'_>, primary: bool) -> &'static str {
    match (settings.switches.partition_epoch, primary) {
        (PartitionEpoch::Primary, _) | (PartitionEpoch::ByVersion, true) => "PrimaryEpoch",
        _ => "CurrentConfigurationEpoch",
    }
}

fn kind_word(kind: ServiceKind) -> &'static str {
    match kind {
        ServiceKind::Persisted | ServiceKind::Volatile => "Stateful",
        ServiceKind::Stateless => "Stateless",
        ServiceKind::SelfReconfiguring => "SelfReconfiguring",
    }
}
