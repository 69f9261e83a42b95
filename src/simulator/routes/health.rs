//! Health of a partition, and the progress of its restore.
//!
//! Formats health events, as in the samples `GetPartitionHealth.*.json`, and always includes an
//! event of the failover manager. Filters are accepted and ignored.

use chrono::{DateTime, TimeDelta, Utc};
use hyper::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::settings::ResponseSettings;
use crate::simulator::estate::{Estate, Health, HealthReport, HealthReportKind, Restore, filetime};
use crate::simulator::record::Epoch;
use crate::simulator::response::{GatewayResponse, RouteKind};

/// The longest duration of .NET.
const FOR_EVER: &str = "P10675199DT2H48M5.4775807S";

pub(super) fn of_partition(estate: &Estate, id: Uuid, now: DateTime<Utc>) -> GatewayResponse {
    let Some(health) = estate.health_of(id, now) else {
        return GatewayResponse::error(
            RouteKind::Native,
            StatusCode::NOT_FOUND,
            "FABRIC_E_HEALTH_ENTITY_NOT_FOUND",
            "Entity not found in health store.",
        );
    };
    GatewayResponse::json(body(id, &health))
}

/// `RestoreProgressInfo`, as in the samples `GetPartitionRestoreProgress.*.json`; the LSN is a
/// bare number, and there is no `FailureError`.
pub(super) fn restore(
    restore: Option<&Restore>,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    let Some(restore) = restore else {
        return GatewayResponse::json(Value::Null);
    };
    let ended = restore.ended;
    let spelling = settings.switches.epoch_spelling;
    let epoch = restore.target.map(|(epoch, lsn)| match lsn {
        Some(_) => epoch.to_json(spelling),
        None => Epoch::unknown(spelling),
    });
    let lsn = match restore.target {
        None => json!(0),
        Some((_, None)) => json!(-1),
        Some((_, Some(lsn))) => json!(lsn),
    };
    GatewayResponse::json(json!({
        "RestoreState": restore.state.word(),
        "TimeStampUtc": ended.map_or_else(
            || "0001-01-01T00:00:00Z".to_owned(),
            |it| it.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        ),
        "RestoredEpoch": epoch,
        "RestoredLsn": lsn,
    }))
}

fn body(id: Uuid, health: &Health) -> Value {
    let mut events = vec![failover_manager_event(health.created)];
    events.extend(health.reports.iter().map(event));
    let unhealthy: Vec<_> = health
        .reports
        .iter()
        .filter(|it| it.is_warning())
        .map(evaluation)
        .collect();
    let state = if unhealthy.is_empty() {
        "Ok"
    } else {
        "Warning"
    };
    let counts = json!({"OkCount": 3, "ErrorCount": 0, "WarningCount": 0});
    json!({
        "HealthEvents": events,
        "AggregatedHealthState": state,
        "UnhealthyEvaluations": unhealthy,
        "HealthStatistics": {
            "HealthStateCountList": [{"EntityKind": "Replica", "HealthStateCount": counts}],
        },
        "PartitionId": id,
        "ReplicaHealthStates": [],
    })
}

fn evaluation(report: &HealthReport) -> Value {
    json!({"HealthEvaluation": {
        "Kind": "Event",
        "AggregatedHealthState": "Warning",
        "Description": "Unhealthy event: SourceId='System.BackupRestoreManager', \
                        Property='Backup', HealthState='Warning', ConsiderWarningAsError=false.",
        "ConsiderWarningAsError": false,
        "UnhealthyEvent": event(report),
    }})
}

fn event(report: &HealthReport) -> Value {
    let at = report.at.format("%-m/%-d/%Y %-I:%M:%S %p");
    let (property, description) = match report.kind {
        HealthReportKind::BackedUp => (
            "Backup",
            format!("Partition successfully backed up at {at} GMT"),
        ),
        HealthReportKind::Failed => (
            "Backup",
            "Failed to take periodic backup for this partition with error:\n\
             System.UnauthorizedAccessException: Access is denied."
                .to_owned(),
        ),
        HealthReportKind::Disabled => {
            ("Backup", "Periodic backup successfully disabled".to_owned())
        }
        HealthReportKind::Restored | HealthReportKind::RestoredItself => (
            "Restore",
            format!("Partition was successfully restored at {at} GMT."),
        ),
    };
    json!({
        "SourceId": "System.BackupRestoreManager",
        "Property": property,
        "HealthState": if report.is_warning() { "Warning" } else { "Ok" },
        "TimeToLiveInMilliSeconds": report.time_to_live().map_or_else(
            || FOR_EVER.to_owned(),
            |it| format!("PT{}S", it.num_seconds()),
        ),
        "Description": description,
        "SequenceNumber": filetime(report.at).to_string(),
        "RemoveWhenExpired": !matches!(report.kind, HealthReportKind::BackedUp | HealthReportKind::Failed),
        "SourceUtcTimestamp": millis(Some(report.at)),
        "LastModifiedUtcTimestamp": millis(Some(report.stored())),
        "IsExpired": false,
        "LastOkTransitionAt": millis(report.ok_since),
        "LastWarningTransitionAt": millis(report.warning_since),
        "LastErrorTransitionAt": millis(None),
    })
}

fn failover_manager_event(created: DateTime<Utc>) -> Value {
    let stored = Some(created + TimeDelta::milliseconds(3461));
    json!({
        "SourceId": "System.FM",
        "Property": "State",
        "HealthState": "Ok",
        "TimeToLiveInMilliSeconds": FOR_EVER,
        "Description": "Partition is healthy.",
        "SequenceNumber": "191",
        "RemoveWhenExpired": false,
        "HealthReportId": "FM_7.0_1011",
        "SourceUtcTimestamp": millis(Some(created)),
        "LastModifiedUtcTimestamp": millis(stored),
        "IsExpired": false,
        "LastOkTransitionAt": millis(stored),
        "LastWarningTransitionAt": millis(None),
        "LastErrorTransitionAt": millis(None),
    })
}

/// A time in the format of native routes; year 1 if absent.
fn millis(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(
        || "0001-01-01T00:00:00.000Z".to_owned(),
        |it| it.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
    )
}
