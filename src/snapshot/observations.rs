//! What the poller hands in: what was read since the previous snapshot, by whom, and how it went.
//!
//! Values only. Every part may be missing: a request that failed is no observation, and what was
//! not observed stays as it is known.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::inventory::{Inventory, Selection};
use crate::model::{
    BackupHealth, BackupProgress, Collector, DecodedList, ListedBackup, Name, PartitionId, Policy,
    Read, RestoreProgress,
};
use crate::protection::effective::{ConfigurationSet, EffectiveConfiguration};

/// What was observed since the previous snapshot.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Clock of the gateway minus own clock, from the last answer. Known before anything that the
    /// cluster has dated, so that the first readings are judged by it.
    pub clock_skew: Option<TimeDelta>,
    /// What the cluster lists.
    pub inventory: Option<Read<Inventory>>,
    /// How the configured selection fits that, where everything needed to determine it was read.
    pub selection: Option<Read<Arc<Selection>>>,
    /// All policies of the cluster.
    pub policies: Option<Read<Vec<Policy>>>,
    /// What is set in an application, each with its name.
    pub configurations: Vec<(Name, Read<ConfigurationSet>)>,
    /// What was read of single partitions.
    pub partitions: Vec<(PartitionId, Read<PartitionObservation>)>,
    /// The newest backup of each partition of an application, as of the moment of the request.
    pub newest: Vec<(Name, Read<DecodedList<ListedBackup>>)>,
    /// All backups of the partitions of an application, which show the newest ones, too.
    pub histories: Vec<(Name, Read<DecodedList<ListedBackup>>)>,
    /// The newest backup of single partitions.
    pub partition_lists: Vec<(PartitionId, Read<DecodedList<ListedBackup>>)>,
    /// Collectors that have ended a run.
    pub runs: Vec<CollectorRun>,
    /// The cluster as the cycle found it; only at the end of a cycle.
    pub cluster: Option<ClusterObservation>,
}

/// What the cluster said of one partition.
#[derive(Clone, Debug, PartialEq)]
pub enum PartitionObservation {
    /// The record of its last requested backup, or that it has none.
    Progress(Option<Arc<BackupProgress>>),
    /// What its health says of its backups.
    Health(BackupHealth),
    /// The record of its last restore, or that it has none.
    Restore(Option<RestoreProgress>),
    /// What applies to it, by its own answer.
    Configuration(Arc<EffectiveConfiguration>),
    /// There is no such partition.
    NotFound,
}

/// The end of a cycle.
#[derive(Clone, Debug, Default)]
pub struct ClusterObservation {
    /// Whether a gateway was reached and let the exporter in on a native route.
    pub up: bool,
    /// Whether the backup restore service answered; `None` when the gateway was not reached.
    pub service_up: Option<bool>,
    /// Runtime version, when it could be read.
    pub version: Option<String>,
    /// How it and the exporter know each other.
    pub security: SecurityStatus,
}

/// How a cluster and the exporter know each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityStatus {
    /// Whether every server is believed; `None` where there is no TLS.
    pub insecure: Option<bool>,
    /// When the client certificate expires, if there is one and it can be told.
    pub client_certificate_expiry: Option<DateTime<Utc>>,
    /// When the certificate expires that the gateway in use last showed.
    pub gateway_certificate_expiry: Option<DateTime<Utc>>,
    /// When the token that was last had ends, where tokens say so.
    pub token_expiry: Option<DateTime<Utc>>,
    /// Whether certificates and keys could be used when their files were last read, and a token
    /// could be had when it was last asked for; `None` where there is neither.
    pub good_credentials: Option<bool>,
}

/// A run of a collector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CollectorRun {
    /// Of which one.
    pub collector: Collector,
    /// Whether every request of it succeeded.
    pub success: bool,
    /// How long it took.
    pub duration: Duration,
}
