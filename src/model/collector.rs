//! The collectors: groups of requests that are switched and reported together.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// A group of calls that is switched and reported together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collector {
    /// Applications, services, partitions, names.
    Inventory,
    /// The backup configurations.
    Configuration,
    /// All policies.
    Policies,
    /// The last requested backup of every partition.
    Progress,
    /// The last restore of every partition.
    Restore,
    /// The last periodic attempt of every partition.
    Health,
    /// The newest backup of every partition in the store.
    Backups,
    /// All backups in the store.
    History,
}

impl Collector {
    /// Every collector.
    pub const ALL: [Self; 8] = [
        Self::Inventory,
        Self::Configuration,
        Self::Policies,
        Self::Progress,
        Self::Restore,
        Self::Health,
        Self::Backups,
        Self::History,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Configuration => "configuration",
            Self::Policies => "policies",
            Self::Progress => "progress",
            Self::Restore => "restore",
            Self::Health => "health",
            Self::Backups => "backups",
            Self::History => "history",
        }
    }
}

/// The last run of a collector, and the last one that succeeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CollectorStatus {
    /// Whether every request of the last run succeeded.
    pub success: bool,
    /// When the last successful run ended.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// How long the last run took.
    pub duration: Duration,
}
