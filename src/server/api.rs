//! `/api/v1/partitions`: what is known of partitions, as JSON, for people and their scripts.
//!
//! The only place that shows the failure messages of the cluster. Unknown is `null`. The numbers
//! of epochs are strings, because JavaScript cannot hold them; log sequence numbers are far
//! smaller.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Served, body, headers};
use crate::clock;
use crate::exposition::{ClusterView, Text};
use crate::fleet::Watched;
use crate::model::{BackupProgress, PartitionId};
use crate::protection::evaluate;
use crate::protection::evidence::{Evidence, evidence};
use crate::snapshot::{PartitionSnapshot, ProgressHistory, RecoveryPoint};

/// Every partition of every cluster.
pub(super) async fn partitions(State(served): State<Arc<Served>>) -> Response {
    let watched = served.watched();
    let encode = move |_: Option<&_>| {
        let now = clock::now();
        let views: Vec<ClusterView> = watched.iter().map(Watched::view).collect();
        let partitions = views.iter().flat_map(|view| {
            let known = view.snapshot.partitions.values();
            known.map(|known| Partition::of(view, known, now))
        });
        let partitions = List {
            partitions: partitions.collect(),
        };
        Text::written(|text| serde_json::to_writer(text, &partitions))
    };
    let encoded = served.partitions.next(&served.permits, encode).await;
    if let Ok(encoded) = &encoded
        && let Ok(text) = &**encoded
    {
        let headers = [(CONTENT_TYPE, "application/json"), headers::FRESH];
        return (headers, body(text, false)).into_response();
    }
    error(StatusCode::INTERNAL_SERVER_ERROR, "encoding failed")
}

/// One partition, by its id.
pub(super) async fn partition(
    State(served): State<Arc<Served>>,
    Path(id): Path<String>,
) -> Response {
    let Ok(id) = Uuid::try_parse(&id) else {
        return error(
            StatusCode::BAD_REQUEST,
            "the partition id must be a GUID like 974bd92a-b395-4631-8a7f-53bd4ae9cf22",
        );
    };
    let now = clock::now();
    for view in served.watched().iter().map(Watched::view) {
        if let Some(known) = view.snapshot.partitions.get(&PartitionId(id)) {
            let partition = axum::Json(Partition::of(&view, known, now));
            return ([headers::FRESH], partition).into_response();
        }
    }
    error(StatusCode::NOT_FOUND, "no such partition is watched")
}

fn error(status: StatusCode, text: &str) -> Response {
    #[derive(Serialize)]
    struct Error<'a> {
        error: &'a str,
    }
    (status, axum::Json(Error { error: text })).into_response()
}

#[derive(Serialize)]
struct List<'a> {
    partitions: Vec<Partition<'a>>,
}

#[derive(Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the names are those of the metric labels"
)]
struct Partition<'a> {
    cluster_name: &'a str,
    application_name: Option<&'a str>,
    service_name: Option<&'a str>,
    partition_id: String,
    partition_kind: Option<&'static str>,
    policy_name: Option<&'a str>,
    policy_inherited_from: Option<&'static str>,
    protection: Protection,
    /// When its progress was last read, and whether that is too long ago to be believed.
    read_at: Option<String>,
    stale: bool,
    progress: Option<Progress<'a>>,
    last_success: Option<LastSuccess>,
}

/// The verdict, and all that led to it.
#[derive(Serialize)]
struct Protection {
    state: &'static str,
    due: Option<String>,
    evidence: Vec<Evidence>,
}

#[derive(Serialize)]
struct Progress<'a> {
    state: &'static str,
    since: Option<String>,
    timestamp: Option<String>,
    backup_id: Option<Uuid>,
    lsn: Option<u64>,
    data_loss_version: Option<String>,
    configuration_version: Option<String>,
    failure: Option<Failure<'a>>,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: &'a str,
    message: Option<&'a str>,
}

#[derive(Serialize)]
struct LastSuccess {
    timestamp: String,
    age_seconds: i64,
    backup_id: Option<Uuid>,
    lsn: Option<u64>,
    data_loss_version: Option<String>,
}

impl<'a> Partition<'a> {
    fn of(view: &'a ClusterView, known: &'a PartitionSnapshot, now: DateTime<Utc>) -> Self {
        let policy = known
            .configuration
            .as_ref()
            .and_then(|applied| applied.policy.as_ref());
        let stale = |at| now - at >= view.rules.staleness;
        Self {
            cluster_name: &view.snapshot.cluster,
            application_name: known.partition.application.as_deref(),
            service_name: known.partition.service.as_deref(),
            partition_id: known.partition.id.to_string(),
            partition_kind: known
                .partition
                .kind
                .map(crate::model::PartitionKind::as_str),
            policy_name: policy.map(|(name, _)| &**name),
            policy_inherited_from: policy.map(|(_, level)| level.as_str()),
            protection: Protection::of(view, known, now),
            read_at: known.read_at().map(rfc3339),
            stale: known.read_at().is_none_or(stale),
            progress: known.record().map(|progress| {
                let since = known
                    .progress_history
                    .as_deref()
                    .and_then(ProgressHistory::since);
                Progress::of(progress, since)
            }),
            last_success: known
                .success_at(&view.snapshot, now)
                .map(|point| LastSuccess::of(point, known.last_success_lsn(), now)),
        }
    }
}

impl Protection {
    fn of(view: &ClusterView, known: &PartitionSnapshot, now: DateTime<Utc>) -> Self {
        let facts = known.facts(&view.snapshot);
        let verdict = evaluate(&facts, &view.rules, now);
        Self {
            state: verdict.state.as_str(),
            due: verdict.due.map(rfc3339),
            evidence: evidence(&facts, &view.rules, &verdict, now),
        }
    }
}

impl<'a> Progress<'a> {
    fn of(progress: &'a BackupProgress, since: Option<DateTime<Utc>>) -> Self {
        let epoch = progress.epoch;
        Self {
            state: progress.state.as_str(),
            since: since.map(rfc3339),
            timestamp: progress.timestamp.map(rfc3339),
            backup_id: progress.backup_id,
            lsn: progress.lsn,
            data_loss_version: epoch
                .and_then(|e| e.data_loss_version)
                .map(|v| v.to_string()),
            configuration_version: epoch
                .and_then(|e| e.configuration_version)
                .map(|v| v.to_string()),
            failure: progress.failure.as_ref().map(|failure| Failure {
                code: failure.code.as_str(),
                message: failure.message.as_deref(),
            }),
        }
    }
}

impl LastSuccess {
    /// The number of a periodic success comes later and from elsewhere than its time.
    fn of(point: &RecoveryPoint, lsn: Option<u64>, now: DateTime<Utc>) -> Self {
        Self {
            timestamp: rfc3339(point.at),
            age_seconds: (now - point.at).num_milliseconds().div_euclid(1000),
            backup_id: point.backup_id,
            lsn,
            data_loss_version: point.data_loss_version.map(|version| version.to_string()),
        }
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
