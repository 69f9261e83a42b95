//! What one backup list shows of one partition.

use chrono::{DateTime, Utc};

use super::record::RecoveryPoint;

/// Which backups a list was to show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ListScope {
    /// The newest one of each partition.
    Newest,
    /// All.
    All,
}

/// What a list shows of one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct PartitionListing {
    /// The newest backup that can be restored.
    pub(super) newest: Option<RecoveryPoint>,
    /// The newest backup that cannot be restored.
    pub(super) unrestorable: Option<RecoveryPoint>,
    /// Whether older backups than those shown may exist, as in lists of the newest ones.
    pub(super) newest_only: bool,
}

impl PartitionListing {
    /// Whether a backup newer than `at` is shown that cannot be restored and hides older ones.
    pub(super) fn hides_before(&self, at: DateTime<Utc>) -> bool {
        let unrestorable = self.unrestorable.as_ref();
        self.newest_only && unrestorable.is_some_and(|point| point.at > at)
    }
}

/// A list of the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListMetadata {
    /// When it was requested, on the clock of the exporter.
    pub(super) at: DateTime<Utc>,
    /// The same on the clock of the cluster, where the clocks agree.
    pub(super) by_cluster_clock: Option<DateTime<Utc>>,
    /// The date beyond which a success is in the future of both clocks.
    pub(super) future: DateTime<Utc>,
    /// Whether a backup that it does not show is not in the storage of the policy.
    pub(super) is_complete: bool,
}
