//! `/api/v1/partitions`: the partitions as JSON.
//!
//! The only page with the failure messages of the cluster. An unknown value is `null`. The versions
//! of an epoch are strings, because they exceed the integers of JavaScript; log sequence numbers do
//! not.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::app::App;
use super::body::text_body;
use super::headers;
use super::shared::Shared;
use crate::clock;
use crate::exposition::{ClusterView, Text};
use crate::fleet::Watched;
use crate::model::{BackupProgress, PartitionId, PartitionKind};
use crate::protection::evaluate;
use crate::protection::evidence::{Evidence, evidence};
use crate::snapshot::{PartitionSnapshot, ProgressHistory, RecoveryPoint};

/// The API and the list that concurrent requests share.
#[derive(Debug)]
pub(super) struct Api {
    app: Arc<App>,
    list: Shared<Result<Text, serde_json::Error>>,
}

impl Api {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self {
            app: Arc::clone(app),
            list: Shared::default(),
        }
    }
}

/// The partitions of all clusters.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Response {
    let clusters = api.app.clusters();
    let encode = move |_: Option<&_>| {
        let now = clock::now();
        let views: Vec<ClusterView> = clusters.iter().map(Watched::view).collect();
        let partitions = views.iter().flat_map(|view| {
            let partitions = view.snapshot.partitions.values();
            partitions.map(|partition| Partition::new(view, partition, now))
        });
        let list = List {
            partitions: partitions.collect(),
        };
        Text::written(|text| serde_json::to_writer(text, &list))
    };
    let encoded = api.list.next(&api.app.encoding_permits, encode).await;
    if let Ok(encoded) = &encoded
        && let Ok(text) = &**encoded
    {
        let headers = [(CONTENT_TYPE, "application/json"), headers::NO_STORE];
        return (headers, text_body(text, false)).into_response();
    }
    error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "failed to encode the partitions",
    )
}

/// One partition by its id.
pub(super) async fn partition(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Response {
    let Ok(id) = Uuid::try_parse(&id) else {
        return error(
            StatusCode::BAD_REQUEST,
            "the partition id must be a GUID like 974bd92a-b395-4631-8a7f-53bd4ae9cf22",
        );
    };
    let now = clock::now();
    for view in api.app.clusters().iter().map(Watched::view) {
        if let Some(partition) = view.snapshot.partitions.get(&PartitionId(id)) {
            let partition = axum::Json(Partition::new(&view, partition, now));
            return ([headers::NO_STORE], partition).into_response();
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
    /// When its progress record was last read.
    read_at: Option<String>,
    stale: bool,
    progress: Option<Progress<'a>>,
    last_success: Option<LastSuccess>,
}

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
    fn new(view: &'a ClusterView, partition: &'a PartitionSnapshot, now: DateTime<Utc>) -> Self {
        let identity = &partition.partition;
        let policy = partition
            .configuration
            .as_ref()
            .and_then(|applied| applied.policy.as_ref());
        let stale = |at| now - at >= view.rules.staleness;
        Self {
            cluster_name: &view.snapshot.cluster,
            application_name: identity.application.as_deref(),
            service_name: identity.service.as_deref(),
            partition_id: identity.id.to_string(),
            partition_kind: identity.kind.map(PartitionKind::as_str),
            policy_name: policy.map(|(name, _)| &**name),
            policy_inherited_from: policy.map(|(_, level)| level.as_str()),
            protection: Protection::new(view, partition, now),
            read_at: partition.read_at().map(rfc3339),
            stale: partition.read_at().is_none_or(stale),
            progress: partition.record().map(|progress| {
                let since = partition
                    .progress_history
                    .as_deref()
                    .and_then(ProgressHistory::since);
                Progress::new(progress, since)
            }),
            last_success: partition
                .success_at(&view.snapshot, now)
                .map(|point| LastSuccess::new(point, partition.last_success_lsn(), now)),
        }
    }
}

impl Protection {
    fn new(view: &ClusterView, partition: &PartitionSnapshot, now: DateTime<Utc>) -> Self {
        let facts = partition.facts(&view.snapshot);
        let verdict = evaluate(&facts, &view.rules, now);
        Self {
            state: verdict.state.as_str(),
            due: verdict.due.map(rfc3339),
            evidence: evidence(&facts, &view.rules, &verdict, now),
        }
    }
}

impl<'a> Progress<'a> {
    fn new(progress: &'a BackupProgress, since: Option<DateTime<Utc>>) -> Self {
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
    /// The log sequence number is an argument, because a backup list reports it later than the
    /// health report that dates a periodic success.
    fn new(point: &RecoveryPoint, lsn: Option<u64>, now: DateTime<Utc>) -> Self {
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
