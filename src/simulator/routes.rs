//! Which request gets which answer.
//!
//! Responsible for the rules of the two kinds of routes: native ones, where the gateway insists
//! on an api-version it knows, and backup ones, which it passes on unread to a service with
//! rules of its own. Pure but for the estate it is given; it may not touch sockets or faults,
//! and whoever asks has been let in before. Whatever is not a route of the gateway is 400, wrong
//! verbs included.

use chrono::{DateTime, Utc};
use hyper::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::access::Role;
use super::answer::{Answer, Kind};
use super::estate::{Entity, Estate, Refusal};
use super::record::Plan;
use super::request::{Operation, Request, parse_version};

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
mod terms;

pub(super) use terms::{Paging, Terms};

use errors::{
    accepted, brs_error, brs_invalid_argument, invalid_argument, not_a_guid, not_found, refusal,
};
use names::id_of;

/// Answers a request and, where it asks for that, changes the estate.
pub(super) fn answer(
    estate: &mut Estate,
    request: &Request,
    terms: &Terms<'_>,
    now: DateTime<Utc>,
) -> Answer {
    match request.operation.kind() {
        Kind::Native => native(estate, request, terms, now),
        Kind::Backup if !terms.backup_service || !estate.has_backup_service() => {
            Answer::empty(StatusCode::NOT_FOUND)
        }
        Kind::Backup if terms.role == Role::User && request.operation.changes() => {
            brs_error(StatusCode::FORBIDDEN, "E_ACCESSDENIED", "Access Denied.")
        }
        Kind::Backup => backup(estate, request, terms, now),
    }
}

fn native(estate: &Estate, request: &Request, terms: &Terms<'_>, now: DateTime<Utc>) -> Answer {
    if request.operation == Operation::GetExplorer {
        return Answer::explorer();
    }
    let newest = parse_version(terms.cluster_version).unwrap_or((6, 4));
    let allowed = request.operation.minimum_version()..=newest;
    let Some(version) = request.api_version().filter(|it| allowed.contains(it)) else {
        return invalid_argument();
    };
    let timeout = request.timeout().map(Result::unwrap_or_default);
    if timeout.is_some_and(|seconds| seconds < 1 || u32::try_from(seconds).is_err()) {
        return invalid_argument();
    }
    match request.operation {
        Operation::GetNodeInfoList => cluster::nodes(&request.query, terms),
        Operation::GetClusterHealth => cluster::health(estate, now),
        Operation::GetApplicationHealth => {
            cluster::application_health(estate, &request.name(), now)
        }
        Operation::GetServiceHealth => cluster::service_health(estate, &request.name(), now),
        Operation::GetClusterVersion => Answer::json(json!({"Version": terms.cluster_version})),
        Operation::GetAadMetadata => Answer::json(terms.access.metadata()),
        Operation::GetApplicationInfoList => lists::applications(estate, &request.query, terms),
        Operation::GetApplicationInfo => lists::application(estate, &request.name(), terms),
        Operation::GetServiceInfoList => {
            lists::services(estate, &request.name(), &request.query, terms)
        }
        Operation::GetPartitionInfoList => {
            lists::partitions(estate, &request.name(), version, &request.query, terms)
        }
        Operation::GetApplicationNameInfo => application_name(estate, &request.name()),
        Operation::Unknown => invalid_argument(),
        _ => native_partition(estate, request, terms, now),
    }
}

fn native_partition(
    estate: &Estate,
    request: &Request,
    terms: &Terms<'_>,
    now: DateTime<Utc>,
) -> Answer {
    let Some(id) = request.partition() else {
        return invalid_argument();
    };
    match request.operation {
        Operation::GetPartitionInfo => lists::partition(estate, id, terms),
        Operation::GetPartitionHealth => health::of_partition(estate, id, now),
        _ => match estate.service_of(id) {
            Some(name) => name_info(&name),
            None => not_found(Kind::Native, "FABRIC_E_PARTITION_NOT_FOUND"),
        },
    }
}

fn application_name(estate: &Estate, service: &str) -> Answer {
    let found = estate.services.get(service);
    match found.filter(|_| !estate.is_being_deleted(service)) {
        Some(service) => name_info(&service.application),
        None => not_found(Kind::Native, "FABRIC_E_SERVICE_DOES_NOT_EXIST"),
    }
}

fn name_info(name: &str) -> Answer {
    Answer::json(json!({"Id": id_of(name), "Name": name}))
}

fn backup(estate: &mut Estate, request: &Request, terms: &Terms<'_>, now: DateTime<Utc>) -> Answer {
    // A timeout below 1 is refused before the operation begins (BRS `BaseController.cs`).
    match request.timeout() {
        Some(Err(_)) => return Answer::masked(),
        Some(Ok(seconds)) if seconds < 1 => return Answer::web_api_error(),
        _ => {}
    }
    // The service reads the version as one number, so here 6.10 is older than 6.4.
    let version = request.query.get("api-version");
    let version: f64 = version.and_then(|it| it.parse().ok()).unwrap_or_default();
    if version < 6.4 {
        return brs_invalid_argument("Invalid API Version");
    }
    match request.operation {
        Operation::CreateBackupPolicy => policies::create(estate, request, now),
        Operation::UpdateBackupPolicy => policies::update(estate, request, now),
        Operation::DeleteBackupPolicy => policies::delete(estate, &request.id, now),
        Operation::GetBackupPolicyList => policies::list(estate, &request.query, terms),
        Operation::GetBackupPolicyByName => policies::by_name(estate, &request.id, terms),
        Operation::GetAllEntitiesBackedUpByPolicy => {
            policies::enabled(estate, &request.id, &request.query, terms)
        }
        _ => match request.entity(terms.switches.brs_accepts_tilde) {
            None => not_a_guid(request),
            Some(entity) => backup_entity(estate, request, &entity, terms, now),
        },
    }
}

fn backup_entity(
    estate: &mut Estate,
    request: &Request,
    entity: &Entity,
    terms: &Terms<'_>,
    now: DateTime<Utc>,
) -> Answer {
    use Operation as Op;
    match request.operation {
        Op::GetApplicationBackupConfigurationInfo
        | Op::GetServiceBackupConfigurationInfo
        | Op::GetPartitionBackupConfigurationInfo => {
            configuration::read(estate, request, entity, terms)
        }
        Op::GetApplicationBackupList | Op::GetServiceBackupList | Op::GetPartitionBackupList => {
            backup_lists::list(estate, request, entity, terms, now)
        }
        Op::GetPartitionBackupProgress
        | Op::GetPartitionRestoreProgress
        | Op::BackupPartition
        | Op::RestorePartition => match entity {
            Entity::Partition(id) => backup_partition(estate, request, *id, terms, now),
            _ => Answer::masked(),
        },
        _ => configuration::change(estate, request, entity, now),
    }
}

fn backup_partition(
    estate: &mut Estate,
    request: &Request,
    id: Uuid,
    terms: &Terms<'_>,
    now: DateTime<Utc>,
) -> Answer {
    match request.operation {
        Operation::BackupPartition => on_demand(estate, request, id, terms, now),
        Operation::RestorePartition => {
            let backup = request.property("BackupId").and_then(|it| it.parse().ok());
            accepted(estate.request_restore(id, backup, terms.restore.clone(), now))
        }
        Operation::GetPartitionRestoreProgress if estate.partitions.contains_key(&id) => {
            health::restore(estate.restore_of(id), terms)
        }
        _ => estate
            .progress(id)
            .map_or_else(|| refusal(Refusal::NotFound), Answer::progress),
    }
}

fn on_demand(
    estate: &mut Estate,
    request: &Request,
    id: Uuid,
    terms: &Terms<'_>,
    now: DateTime<Utc>,
) -> Answer {
    let minutes = request.query.get("BackupTimeout").map(|it| it.parse());
    let Some(minutes) = minutes.unwrap_or(Ok(10_u32)).ok().filter(|it| *it > 0) else {
        return Answer::masked();
    };
    let plan = Plan {
        timeout: Some(std::time::Duration::from_secs(u64::from(minutes) * 60)),
        ..terms.on_demand.clone()
    };
    accepted(estate.request_backup(id, plan, now))
}
