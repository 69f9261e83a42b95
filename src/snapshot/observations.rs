//! The input of a snapshot: the decoded answers of a cycle or a list round.
//!
//! Every part may be missing: a failed call is not an observation, and the snapshot keeps the
//! previous value.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::inventory::{Inventory, Selection};
use crate::model::{
    BackupHealth, BackupProgress, Collector, DecodedList, ListedBackup, Name, PartitionId, Policy,
    Read, RestoreProgress,
};
use crate::protection::effective::{ConfigurationSet, EffectiveConfiguration};

/// The observations since the previous snapshot.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Clock of the gateway minus the exporter's, from the last answer. Part of every publication, so
    /// that the first dates from the cluster are already compared with it.
    pub clock_skew: Option<TimeDelta>,
    /// The inventory of the cluster.
    pub inventory: Option<Read<Inventory>>,
    /// Selectors that match nothing, if every name they apply to was read.
    pub selection: Option<Read<Arc<Selection>>>,
    /// All policies of the cluster.
    pub policies: Option<Read<Vec<Policy>>>,
    /// The backup configurations set in each application.
    pub configurations: Vec<(Name, Read<ConfigurationSet>)>,
    /// Observations of single partitions.
    pub partitions: Vec<(PartitionId, Read<PartitionObservation>)>,
    /// The newest backup of each partition of an application, dated by the request.
    pub newest: Vec<(Name, Read<DecodedList<ListedBackup>>)>,
    /// All backups of the partitions of an application.
    pub histories: Vec<(Name, Read<DecodedList<ListedBackup>>)>,
    /// The newest backup of single partitions.
    pub partition_lists: Vec<(PartitionId, Read<DecodedList<ListedBackup>>)>,
    /// The runs of collectors that have ended.
    pub runs: Vec<CollectorRun>,
    /// The state of the cluster; only at the end of a cycle.
    pub cluster: Option<ClusterObservation>,
}

/// An answer about one partition.
#[derive(Clone, Debug, PartialEq)]
pub enum PartitionObservation {
    /// The progress record; `None` if no backup was ever requested.
    Progress(Option<Arc<BackupProgress>>),
    /// The health events about backups.
    Health(BackupHealth),
    /// The record of the last restore; `None` if there was none.
    Restore(Option<RestoreProgress>),
    /// The effective configuration that the backup service returned for the partition itself.
    Configuration(Arc<EffectiveConfiguration>),
    /// The partition does not exist.
    NotFound,
}

/// The state of a cluster at the end of a cycle.
#[derive(Clone, Debug, Default)]
pub struct ClusterObservation {
    /// Whether the gateway authorized a call to Service Fabric itself (not to the backup service).
    pub up: bool,
    /// Whether the backup service answered; `None` if the gateway was unreachable.
    pub service_up: Option<bool>,
    /// Runtime version, if it could be read.
    pub version: Option<String>,
    /// Authentication between exporter and cluster.
    pub security: SecurityStatus,
}

/// Authentication between exporter and cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityStatus {
    /// Whether the verification of server certificates is disabled; `None` without TLS.
    pub insecure: Option<bool>,
    /// When the client certificate expires, if there is one with a readable expiry.
    pub client_certificate_expiry: Option<DateTime<Utc>>,
    /// When the certificate expires that the gateway in use last presented.
    pub gateway_certificate_expiry: Option<DateTime<Utc>>,
    /// When the last token expires, if it has an expiry.
    pub token_expiry: Option<DateTime<Utc>>,
    /// Whether the last reading of certificates and keys and the last token request succeeded; `None`
    /// without such credentials.
    pub good_credentials: Option<bool>,
}

/// A run of a collector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CollectorRun {
    /// The collector.
    pub collector: Collector,
    /// Whether every call of it succeeded.
    pub success: bool,
    /// How long the run took.
    pub duration: Duration,
}
