//! Dispatch of requests to the routes of the gateway.
//!
//! Native routes require an `api-version` that the gateway knows; backup routes are forwarded to
//! the backup service, which has rules of its own. Changes nothing but the estate; must not touch
//! sockets or faults. The client is authorized before. A path or verb that is not a route is 400.

use chrono::{DateTime, Utc};
use hyper::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::access::Role;
use super::estate::{Entity, Estate, Rejection};
use super::record::BackupPlan;
use super::request::{Operation, Request, parse_version};
use super::response::{GatewayResponse, RouteKind};

mod backup_lists;
mod cluster;
mod configuration;
mod errors;
mod health;
mod lists;
mod names;
mod page;
mod policies;
mod policy_body;
mod settings;

pub(super) use settings::{Paging, ResponseSettings};

use errors::{
    accepted, brs_error, brs_invalid_argument, invalid_argument, not_a_guid, not_found, rejection,
};
use names::id_of;

/// Responds to a request and applies its change to the estate.
pub(super) fn answer(
    estate: &mut Estate,
    request: &Request,
    settings: &ResponseSettings<'_>,
    now: DateTime<Utc>,
) -> GatewayResponse {
    match request.operation.kind() {
        RouteKind::Native => native(estate, request, settings, now),
        RouteKind::Backup if !settings.backup_service || !estate.has_backup_service() => {
            GatewayResponse::empty(StatusCode::NOT_FOUND)
        }
        RouteKind::Backup if settings.role == Role::User && request.operation.changes() => {
            brs_error(StatusCode::FORBIDDEN, "E_ACCESSDENIED", "Access Denied.")
        }
        RouteKind::Backup => backup(estate, request, settings, now),
    }
}

fn native(
    estate: &Estate,
    request: &Request,
    settings: &ResponseSettings<'_>,
    now: DateTime<Utc>,
) -> GatewayResponse {
    if request.operation == Operation::GetExplorer {
        return GatewayResponse::explorer();
    }
    let newest = parse_version(settings.cluster_version).unwrap_or((6, 4));
    let allowed = request.operation.minimum_version()..=newest;
    let Some(version) = request.api_version().filter(|it| allowed.contains(it)) else {
        return invalid_argument();
    };
    let timeout = request.timeout().map(Result::unwrap_or_default);
    if timeout.is_some_and(|seconds| seconds < 1 || u32::try_from(seconds).is_err()) {
        return invalid_argument();
    }
    match request.operation {
        Operation::GetNodeInfoList => cluster::nodes(&request.query, settings),
        Operation::GetClusterHealth => cluster::health(estate, now),
        Operation::GetApplicationHealth => {
            cluster::application_health(estate, &request.name(), now)
        }
        Operation::GetServiceHealth => cluster::service_health(estate, &request.name(), now),
        Operation::GetClusterVersion => {
            GatewayResponse::json(json!({"Version": settings.cluster_version}))
        }
        Operation::GetAadMetadata => GatewayResponse::json(settings.access.metadata()),
        Operation::GetApplicationInfoList => lists::applications(estate, &request.query, settings),
        Operation::GetApplicationInfo => lists::application(estate, &request.name(), settings),
        Operation::GetServiceInfoList => {
            lists::services(estate, &request.name(), &request.query, settings)
        }
        Operation::GetPartitionInfoList => {
            lists::partitions(estate, &request.name(), version, &request.query, settings)
        }
        Operation::GetApplicationNameInfo => application_name(estate, &request.name()),
        Operation::Unknown => invalid_argument(),
        _ => native_partition(estate, request, settings, now),
    }
}

fn native_partition(
    estate: &Estate,
    request: &Request,
    settings: &ResponseSettings<'_>,
    now: DateTime<Utc>,
) -> GatewayResponse {
    let Some(id) = request.partition() else {
        return invalid_argument();
    };
    match request.operation {
        Operation::GetPartitionInfo => lists::partition(estate, id, settings),
        Operation::GetPartitionHealth => health::of_partition(estate, id, now),
        _ => match estate.service_of(id) {
            Some(name) => name_info(&name),
            None => not_found(RouteKind::Native, "FABRIC_E_PARTITION_NOT_FOUND"),
        },
    }
}

fn application_name(estate: &Estate, service: &str) -> GatewayResponse {
    let found = estate.services.get(service);
    match found.filter(|_| !estate.is_being_deleted(service)) {
        Some(service) => name_info(&service.application),
        None => not_found(RouteKind::Native, "FABRIC_E_SERVICE_DOES_NOT_EXIST"),
    }
}

fn name_info(name: &str) -> GatewayResponse {
    GatewayResponse::json(json!({"Id": id_of(name), "Name": name}))
}

fn backup(
    estate: &mut Estate,
    request: &Request,
    settings: &ResponseSettings<'_>,
    now: DateTime<Utc>,
) -> GatewayResponse {
    // A timeout below 1 is rejected before the operation begins (BRS `BaseController.cs`).
    match request.timeout() {
        Some(Err(_)) => return GatewayResponse::masked(),
        Some(Ok(seconds)) if seconds < 1 => return GatewayResponse::web_api_error(),
        _ => {}
    }
    // The service parses the version as one decimal number, so 6.10 is older than 6.4.
    let version = request.query.get("api-version");
    let version: f64 = version.and_then(|it| it.parse().ok()).unwrap_or_default();
    if version < 6.4 {
        return brs_invalid_argument("Invalid API Version");
    }
    match request.operation {
        Operation::CreateBackupPolicy => policies::create(estate, request, now),
        Operation::UpdateBackupPolicy => policies::update(estate, request, now),
        Operation::DeleteBackupPolicy => policies::delete(estate, &request.id, now),
        Operation::GetBackupPolicyList => policies::list(estate, &request.query, settings),
        Operation::GetBackupPolicyByName => policies::by_name(estate, &request.id, settings),
        Operation::GetAllEntitiesBackedUpByPolicy => {
            policies::enabled(estate, &request.id, &request.query, settings)
        }
        _ => match request.entity(settings.switches.brs_accepts_tilde) {
            None => not_a_guid(request),
            Some(entity) => backup_entity(estate, request, &entity, settings, now),
        },
    }
}

fn backup_entity(
    estate: &mut Estate,
    request: &Request,
    entity: &Entity,
    settings: &ResponseSettings<'_>,
    now: DateTime<Utc>,
) -> GatewayResponse {
    use Operation as Op;
    match request.operation {
        Op::GetApplicationBackupConfigurationInfo
        | Op::GetServiceBackupConfigurationInfo
        | Op::GetPartitionBackupConfigurationInfo => {
            configuration::read(estate, request, entity, settings)
        }
        Op::GetApplicationBackupList | Op::GetServiceBackupList | Op::GetPartitionBackupList => {
            backup_lists::list(estate, request, entity, settings, now)
        }
        Op::GetPartitionBackupProgress
        | Op::GetPartitionRestoreProgress
        | Op::BackupPartition
        | Op::RestorePartition => match entity {
            Entity::Partition(id) => backup_partition(estate, request, *id, settings, now),
            _ => GatewayResponse::masked(),
        },
        _ => configuration::change(estate, request, entity, now),
    }
}

fn backup_partition(
    estate: &mut Estate,
    request: &Request,
    id: Uuid,
    settings: &ResponseSettings<'_>,
    now: DateTime<Utc>,
) -> GatewayResponse {
    match request.operation {
        Operation::BackupPartition => on_demand(estate, request, id, settings, now),
        Operation::RestorePartition => {
            let backup = request.property("BackupId").and_then(|it| it.parse().ok());
            accepted(estate.request_restore(id, backup, settings.restore.clone(), now))
        }
        Operation::GetPartitionRestoreProgress if estate.partitions.contains_key(&id) => {
            health::restore(estate.restore_of(id), settings)
        }
        _ => estate
            .progress(id)
            .map_or_else(|| rejection(Rejection::NotFound), GatewayResponse::progress),
    }
}

fn on_demand(
    estate: &mut Estate,
    request: &Request,
    id: Uuid,
    settings: &ResponseSettings<'_>,
    now: DateTime<Utc>,
) -> GatewayResponse {
    let minutes = request.query.get("BackupTimeout").map(|it| it.parse());
    let Some(minutes) = minutes.unwrap_or(Ok(10_u32)).ok().filter(|it| *it > 0) else {
        return GatewayResponse::masked();
    };
    let plan = BackupPlan {
        timeout: Some(std::time::Duration::from_secs(u64::from(minutes) * 60)),
        ..settings.on_demand.clone()
    };
    accepted(estate.request_backup(id, plan, now))
}
