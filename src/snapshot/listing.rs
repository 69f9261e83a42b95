//! What one backup list shows of one partition.

use chrono::{DateTime, Utc};

use super::record::RecoveryPoint;

/// Which backups a list contains.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ListScope {
    /// The newest one of each partition.
    Newest,
    /// All.
    All,
}

/// The backups of one partition in a list.
#[derive(Clone, Debug, Default)]
pub(super) struct PartitionListing {
    /// The newest restorable backup.
    pub(super) newest: Option<RecoveryPoint>,
    /// The newest unrestorable backup.
    pub(super) unrestorable: Option<RecoveryPoint>,
    /// Whether the list contains only the newest backup of each partition.
    pub(super) newest_only: bool,
}

impl PartitionListing {
    /// Whether a newer, unrestorable backup hides those of `at` and before.
    pub(super) fn hides_before(&self, at: DateTime<Utc>) -> bool {
        let unrestorable = self.unrestorable.as_ref();
        self.newest_only && unrestorable.is_some_and(|point| point.at > at)
    }
}

/// The properties of a list that claims are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListMetadata {
    /// When the list was requested, in exporter time.
    pub(super) at: DateTime<Utc>,
    /// The same in cluster time, unless the clocks cannot be compared.
    pub(super) cluster_time: Option<DateTime<Utc>>,
    /// The date after which a success is in the future of both clocks.
    pub(super) future: DateTime<Utc>,
    /// Whether the list contains every backup in the storage of the policy.
    pub(super) is_complete: bool,
}
