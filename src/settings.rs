//! The valid configuration, with its defaults.
//!
//! Each type can hold valid values only; [`crate::config`] makes them from text. Rules that the
//! poller or the gateway rely on are enforced here, once. Nothing here reads a file or the network.

mod fabric_identity;
mod host_name;
mod quoted;
mod security;
mod selector;
mod thumbprint;
mod token;
pub mod web;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

pub use self::fabric_identity::{FabricIdentity, FabricIdentityError};
pub use self::host_name::HostName;
pub(crate) use self::quoted::quoted;
pub(crate) use self::security::is_loopback;
pub use self::security::{Auth, ClientCertificate, Security, TlsVersion, TokenExposure, Trust};
pub use self::selector::Selector;
pub(crate) use self::selector::{APPLICATIONS, MATCH_ALL, SERVICES, pattern};
pub use self::thumbprint::Thumbprint;
pub use self::token::{
    ApplicationId, Entra, EntraProtocol, ManagedIdentity, TenantId, TokenSource,
};
use crate::model::PartitionId;
use crate::snapshot::Collector;

/// All settings of the exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Intervals and limits of polling.
    pub poll: Poll,
    /// Thresholds of the protection state.
    pub protection: Protection,
    /// Which samples are exposed.
    pub metrics: Metrics,
    /// File that keeps the last successes across restarts; `None`: they are not kept.
    pub state_file: Option<PathBuf>,
    /// At least one, with unique names.
    pub clusters: Vec<Cluster>,
}

/// Intervals and limits of polling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// From the start of one cycle to the start of the next.
    pub interval: Duration,
    /// From one list round to the next.
    pub backups_interval: Duration,
    /// Timeout of one call; at most the interval.
    pub timeout: Duration,
    /// Maximum number of requests in flight per cluster.
    pub concurrency: usize,
    /// Maximum age of a fact before it is stale; at least the interval.
    pub staleness: Duration,
}

/// Thresholds of the protection state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Time after the due time until a partition is overdue.
    pub overdue_allowance: Duration,
    /// How long before a scheduled run a success may be dated that still belongs to that run.
    pub run_tolerance: Duration,
    /// Maximum duration of a requested backup before it counts as stuck.
    pub stuck_after: Duration,
}

/// Which samples are exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Samples of the state metrics.
    pub states: States,
}

/// Samples of a state metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum States {
    /// One per state: 1 for the current state, 0 for the others.
    All,
    /// Only that of the current state.
    Current,
}

/// One Service Fabric cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Value of the label `cluster_name`.
    pub name: Arc<str>,
    /// Base URLs of the gateways, with scheme, host and port; at least one.
    pub endpoints: Vec<Url>,
    /// The partitions to monitor; empty: those of the selected services.
    pub partitions: Vec<PartitionId>,
    /// Selects applications by name.
    pub applications: Selector,
    /// Selects services by name.
    pub services: Selector,
    /// Expected interval of backups where no policy applies; `None`: no backups are expected.
    pub expected_interval: Option<Duration>,
    /// Which collectors run.
    pub collectors: Collectors,
    /// Trust and authentication.
    pub security: Security,
}

impl Cluster {
    /// Whether both select the same partitions, if they have the same gateways.
    pub(crate) fn has_same_selection(&self, other: &Self) -> bool {
        let same_names = self.applications == other.applications && self.services == other.services;
        self.partitions == other.partitions && (same_names || !self.partitions.is_empty())
    }
}

/// Which collectors run, besides the inventory, which always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one switch per collector")]
pub struct Collectors {
    /// Progress record of the last requested backup of each partition.
    pub progress: bool,
    /// Progress record of the last restore of each partition.
    pub restore: bool,
    /// Result of the last periodic backup of each partition, from the health store.
    pub health: bool,
    /// Which policy applies to each entity, and which are suspended.
    pub configuration: bool,
    /// The policies.
    pub policies: bool,
    /// The newest backup of each partition in the storage.
    pub backups: bool,
    /// All backups in the storage; includes `backups`.
    pub history: bool,
}

impl Collectors {
    /// Whether `collector` runs.
    pub fn runs(self, collector: Collector) -> bool {
        match collector {
            Collector::Inventory => true,
            Collector::Configuration => self.configuration,
            Collector::Policies => self.policies,
            Collector::Progress => self.progress,
            Collector::Restore => self.restore,
            Collector::Health => self.health,
            // The list of all backups contains the newest ones.
            Collector::Backups => self.backups && !self.history,
            Collector::History => self.history,
        }
    }

    pub(crate) fn see_requested_backups(self) -> bool {
        self.progress
    }

    /// Health and backup lists are read only where a policy is known to apply.
    pub(crate) fn see_periodic_backups(self) -> bool {
        self.configuration && (self.health || self.backups || self.history)
    }
}

impl Default for Poll {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            backups_interval: Duration::from_secs(15 * 60),
            timeout: Duration::from_secs(10),
            concurrency: 16,
            staleness: Duration::from_secs(5 * 60),
        }
    }
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            overdue_allowance: Duration::from_secs(15 * 60),
            run_tolerance: Duration::from_secs(60),
            stuck_after: Duration::from_secs(15 * 60),
        }
    }
}

impl Default for Collectors {
    fn default() -> Self {
        Self {
            progress: true,
            restore: true,
            health: true,
            configuration: true,
            policies: true,
            backups: true,
            history: false,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            states: States::All,
        }
    }
}
