//! Backup policies and the entities they are enabled for.
//!
//! Formats policies, as in the samples `GetBackupPolicyList.*.json` and
//! `GetBackupPolicyByName.*.json`. Secrets are generated here, as asterisks or as canaries; no
//! other response contains one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::errors::{brs_error, brs_invalid_argument, rejection};
use super::names::Names;
use super::page::{ListPage, QueryParameters};
use super::policy_body;
use super::settings::ResponseSettings;
use crate::simulator::estate::{Entity, Estate, Policy, Rejection, Schedule, Storage};
use crate::simulator::request::Request;
use crate::simulator::response::{GatewayResponse, RouteKind};
use crate::simulator::switches::{CANARY, Secrets, Switches};

pub(super) fn list(
    estate: &Estate,
    query: &QueryParameters,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    let Some(page) = page("BackupPolicies", query, settings) else {
        return brs_invalid_argument("Invalid Arguments.");
    };
    let policies = estate.backup_service.policies.by_name.iter();
    let rest = page.rest(policies.map(|(name, it)| (name.to_string(), &it.policy)));
    page.answer(rest.into_iter(), |(name, policy)| {
        (name.clone(), policy_item(policy, settings.switches))
    })
}

pub(super) fn by_name(
    estate: &Estate,
    name: &str,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    match estate.policy(name) {
        Some(policy) => GatewayResponse::json(policy_item(policy, settings.switches)),
        None => rejection(Rejection::NoSuchPolicy),
    }
}

/// Entities for which a policy is explicitly enabled, as in
/// `GetAllEntitiesBackedUpByPolicy.*.json`.
pub(super) fn enabled(
    estate: &Estate,
    name: &str,
    query: &QueryParameters,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    if estate.policy(name).is_none() {
        return rejection(Rejection::NoSuchPolicy);
    }
    let Some(page) = page(name, query, settings) else {
        return brs_invalid_argument("Invalid Arguments.");
    };
    let names = Names::of(estate);
    let entities = estate.backup_service.enabled_with(name).into_iter();
    let rest = page.rest(entities.map(|it| (key(&it), it)));
    page.answer(rest.into_iter(), |(key, entity)| {
        let mut item = names.of_entity(entity);
        item["EntityKind"] = json!(entity.level());
        (key.clone(), item)
    })
}

/// Creates a policy: 201.
pub(super) fn create(
    estate: &mut Estate,
    request: &Request,
    now: DateTime<Utc>,
) -> GatewayResponse {
    let policy = match policy_body::read(&request.json()) {
        Ok(policy) => policy,
        Err(property) => return invalid_property(property),
    };
    if estate.policy(&policy.name).is_some() {
        return brs_error(
            StatusCode::CONFLICT,
            "FABRIC_E_BACKUP_POLICY_ALREADY_EXISTS",
            "Fabric Backup Policy already exists.",
        );
    }
    estate.add_policy(policy, now);
    GatewayResponse::empty(StatusCode::CREATED)
}

/// Updates a policy: 200. Every update restarts the schedules of all partitions it applies to,
/// whatever changed (BRS `UpdateBackupPolicyOperation.cs`).
pub(super) fn update(
    estate: &mut Estate,
    request: &Request,
    now: DateTime<Utc>,
) -> GatewayResponse {
    let policy = match policy_body::read(&request.json()) {
        Ok(policy) => policy,
        Err(property) => return invalid_property(property),
    };
    if estate.update_policy(&request.id, now, |it| *it = policy) {
        GatewayResponse::empty(StatusCode::OK)
    } else {
        rejection(Rejection::NoSuchPolicy)
    }
}

/// Deletes a policy that applies to nothing: 200.
pub(super) fn delete(estate: &mut Estate, name: &str, now: DateTime<Utc>) -> GatewayResponse {
    if !estate.backup_service.enabled_with(name).is_empty() {
        return brs_error(
            StatusCode::BAD_REQUEST,
            "FABRIC_E_BACKUP_IS_ENABLED",
            "Fabric Backup Policy is in use.",
        );
    }
    if estate.remove_policy(name, now) {
        GatewayResponse::empty(StatusCode::OK)
    } else {
        rejection(Rejection::NoSuchPolicy)
    }
}

fn invalid_property(property: &str) -> GatewayResponse {
    brs_invalid_argument(&format!(
        "{{Message:The request is invalid.,ModelState:{{backupPolicy.{property}:[The {property} \
         field is invalid.]}}}}"
    ))
}

/// The page of a list of the backup service.
pub(super) fn page<'a>(
    context: &'a str,
    query: &'a QueryParameters,
    settings: &'a ResponseSettings<'a>,
) -> Option<ListPage<'a>> {
    ListPage::requested(RouteKind::Backup, context, query, settings)?
        .with_limit(query.get("MaxResults"))
}

/// Key of an entity in continuation tokens; applications sort first, partitions last. Clients
/// insert tokens into URLs unencoded, so a key must not contain a delimiter of URLs.
pub(super) fn key(entity: &Entity) -> String {
    match entity {
        Entity::Application(name) => format!("1!{name}"),
        Entity::Service(name) => format!("2!{name}"),
        Entity::Partition(id) => format!("3!{id}"),
    }
}

fn policy_item(policy: &Policy, switches: &Switches) -> Value {
    let mut item = json!({
        "Name": policy.name,
        "AutoRestoreOnDataLoss": policy.auto_restore_on_data_loss,
        "MaxIncrementalBackups": policy.max_incremental_backups,
        "Schedule": schedule(&policy.schedule),
        "Storage": storage(&policy.storage, switches),
    });
    if let Some(retention) = policy.retention {
        item["RetentionPolicy"] = json!({
            "RetentionPolicyType": "Basic",
            "RetentionDuration": iso(retention.duration),
            "MinimumNumberOfBackups": retention.minimum,
        });
    }
    if switches.newer_fields {
        item["CompressionType"] = json!("CLUSTER_DEFINED");
        item["QuickRecovery"] = json!("Disabled");
        item["Validation"] = json!("Disabled");
    }
    item
}

fn schedule(schedule: &Schedule) -> Value {
    let written = |times: &[chrono::NaiveTime]| -> Value {
        let times = times.iter();
        times
            .map(|it| it.format("0001-01-01T%H:%M:%SZ").to_string())
            .collect()
    };
    match schedule {
        Schedule::Every(interval) => {
            json!({"ScheduleKind": "FrequencyBased", "Interval": iso(*interval)})
        }
        Schedule::Daily(times) => json!({
            "ScheduleKind": "TimeBased",
            "ScheduleFrequencyType": "Daily",
            "RunTimes": written(times),
        }),
        Schedule::Weekly(days, times) => json!({
            "ScheduleKind": "TimeBased",
            "ScheduleFrequencyType": "Weekly",
            "RunDays": days.iter().map(|day| weekday(*day)).collect::<Vec<_>>(),
            "RunTimes": written(times),
        }),
    }
}

fn storage(storage: &Storage, switches: &Switches) -> Value {
    let secret = |what: &str| match switches.secrets {
        Secrets::Stars => "****".to_owned(),
        Secrets::Canaries => format!("{CANARY}-{what}"),
    };
    match storage {
        Storage::AzureBlob {
            friendly_name,
            container,
        } => json!({
            "StorageKind": "AzureBlobStore",
            "FriendlyName": friendly_name,
            "ConnectionString": secret("connection-string"),
            "ContainerName": container,
        }),
        Storage::FileShare {
            friendly_name,
            path,
            user,
        } => json!({
            "StorageKind": "FileShare",
            "FriendlyName": friendly_name,
            "Path": path,
            "PrimaryUserName": user,
            "PrimaryPassword": user.as_ref().map(|_| secret("primary-password")),
            "SecondaryUserName": user.as_ref().map(|it| format!("{it}2")),
            "SecondaryPassword": user.as_ref().map(|_| secret("secondary-password")),
        }),
        Storage::ManagedIdentity {
            friendly_name,
            blob_service_uri,
            container,
        } => json!({
            "StorageKind": "ManagedIdentityAzureBlobStore",
            "FriendlyName": friendly_name,
            "BlobServiceUri": blob_service_uri,
            "ContainerName": container,
            "ManagedIdentityType": "VMSS",
            "ManagedIdentityClientId": "6d7c8b1e-4a3f-4c21-9b0e-2f5d8e7a1c34",
        }),
        Storage::Dsms {
            friendly_name,
            credentials_location,
            container,
        } => json!({
            "StorageKind": "DsmsAzureBlobStore",
            "FriendlyName": friendly_name,
            "StorageCredentialsSourceLocation": credentials_location,
            "ContainerName": container,
        }),
    }
}

fn weekday(day: chrono::Weekday) -> &'static str {
    match day {
        chrono::Weekday::Mon => "Monday",
        chrono::Weekday::Tue => "Tuesday",
        chrono::Weekday::Wed => "Wednesday",
        chrono::Weekday::Thu => "Thursday",
        chrono::Weekday::Fri => "Friday",
        chrono::Weekday::Sat => "Saturday",
        chrono::Weekday::Sun => "Sunday",
    }
}

/// A duration in the format of the .NET `XmlConvert`: whole days are split off, so 24 h is `P1D`.
fn iso(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let part = |number: u64, unit: &str| match number {
        0 => String::new(),
        number => format!("{number}{unit}"),
    };
    let time =
        part(seconds / 3600 % 24, "H") + &part(seconds / 60 % 60, "M") + &part(seconds % 60, "S");
    match (seconds / 86_400, time.is_empty()) {
        (0, true) => "PT0S".to_owned(),
        (0, false) => format!("PT{time}"),
        (days, true) => format!("P{days}D"),
        (days, false) => format!("P{days}DT{time}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_the_service_does() {
        for (seconds, text) in [
            (0, "PT0S"),
            (30, "PT30S"),
            (600, "PT10M"),
            (14_700, "PT4H5M"),
            (86_400, "P1D"),
            (93_600, "P1DT2H"),
            (864_000, "P10D"),
        ] {
            assert_eq!(iso(Duration::from_secs(seconds)), text);
        }
    }
}
