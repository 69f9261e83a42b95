//! What is known of one cluster, and how it moves on: previous + observed + now → next.
//!
//! Pure and total: no clock, no I/O, no error. A snapshot is never changed, only replaced as a
//! whole. It forgets nothing because a reading failed: the last success of a partition is sticky,
//! and only an inventory that was read makes a partition disappear.

mod record;
mod totals;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::inventory::{Inventory, Scope};
use crate::model::{BackupProgress, FailureCode, Partition, PartitionId};
pub use record::{RecordIdentity, RecoveryPoint, Seen};
pub use totals::{Outcome, ServiceKey, Totals};

/// At most this many distinct failure codes become label values; the rest is `other`.
const MAX_FAILURE_CODES: usize = 64;

/// What is known of one cluster at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Its configured name.
    pub cluster: Arc<str>,
    /// Every known partition.
    pub partitions: BTreeMap<PartitionId, PartitionSnapshot>,
    /// Counters of the requested backups seen to end, for every service with a known partition.
    pub totals: BTreeMap<ServiceKey, Totals>,
    /// The cluster itself, as the last cycle left it.
    pub status: ClusterStatus,
    codes: BTreeSet<FailureCode>,
}

/// What is known of one partition. What a reading seldom changes is shared with the snapshots
/// before: several of them are alive at a time, and a cluster may have 100,000 partitions.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionSnapshot {
    /// What it is called.
    pub partition: Partition,
    /// When its progress was last read successfully.
    pub read_at: Option<DateTime<Utc>>,
    /// The record of the last requested backup, as that reading found it; `None` when no backup
    /// was ever requested.
    pub progress: Option<Arc<BackupProgress>>,
    /// What was seen of its records so far; `None` before the first reading.
    pub seen: Option<Arc<Seen>>,
    /// Newest proof of a good backup. Sticky: no request, failure or restart takes it away.
    pub last_success: Option<Arc<RecoveryPoint>>,
    /// Log records newly covered by successful backups, within one data-loss epoch each.
    pub lsn_advance: u64,
}

/// A cluster and the exporter's work on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterStatus {
    /// Whether the last cycle reached a gateway and was let in on a native route; `None` before
    /// the first cycle has ended.
    pub up: Option<bool>,
    /// Whether the backup restore service answered; `None` when the gateway was not reached.
    pub service_up: Option<bool>,
    /// Runtime version, as last read.
    pub version: Option<String>,
    /// Clock of the gateway minus own clock, from the last answer.
    pub clock_skew: Option<TimeDelta>,
    /// The collectors that have run.
    pub collectors: BTreeMap<Collector, CollectorStatus>,
}

/// A group of requests that succeed or fail together in the eyes of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collector {
    /// Applications, services, partitions, names.
    Inventory,
    /// `GetBackupProgress` of every partition.
    Progress,
}

impl Collector {
    /// Every collector.
    pub const ALL: [Self; 2] = [Self::Inventory, Self::Progress];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Progress => "progress",
        }
    }
}

/// The last run of a collector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CollectorStatus {
    /// Whether every request of it succeeded.
    pub success: bool,
    /// When it last succeeded.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// How long it took.
    pub duration: Duration,
}

/// What was observed since the previous snapshot. Every part may be missing.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// What the cluster lists.
    pub inventory: Option<Inventory>,
    /// Readings of `GetBackupProgress`, each with the moment of its answer.
    pub progress: Vec<(PartitionId, DateTime<Utc>, Reading)>,
    /// The cluster as the cycle found it; only at the end of a cycle.
    pub cluster: Option<ClusterReading>,
}

/// What the cluster said of one partition. A request that failed is no reading.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Its record, or that it has none.
    Record(Option<BackupProgress>),
    /// There is no such partition.
    NotFound,
}

/// The end of a cycle.
#[derive(Clone, Debug, Default)]
pub struct ClusterReading {
    /// See [`ClusterStatus::up`].
    pub up: bool,
    /// See [`ClusterStatus::service_up`].
    pub service_up: Option<bool>,
    /// Runtime version, when it could be read.
    pub version: Option<String>,
    /// See [`ClusterStatus::clock_skew`].
    pub clock_skew: Option<TimeDelta>,
    /// Success and duration of each collector that ran.
    pub runs: Vec<(Collector, bool, Duration)>,
}

impl PartitionSnapshot {
    /// A partition of which nothing but its name is known.
    pub fn new(partition: Partition) -> Self {
        Self {
            partition,
            read_at: None,
            progress: None,
            seen: None,
            last_success: None,
            lsn_advance: 0,
        }
    }

    /// Whether what was read is still believed at `now`.
    pub fn is_fresh(&self, now: DateTime<Utc>, staleness: TimeDelta) -> bool {
        self.read_at.is_some_and(|read| now - read < staleness)
    }
}

impl Snapshot {
    /// A cluster of which nothing is known yet.
    pub fn empty(cluster: Arc<str>) -> Self {
        Self::remembered(cluster, Vec::new(), BTreeMap::new())
    }

    /// A cluster as an earlier process remembered it.
    pub fn remembered(
        cluster: Arc<str>,
        partitions: Vec<PartitionSnapshot>,
        totals: BTreeMap<ServiceKey, Totals>,
    ) -> Self {
        let codes = totals
            .values()
            .flat_map(|totals| totals.failures.keys().cloned())
            .collect();
        let partitions = partitions
            .into_iter()
            .map(|known| (known.partition.id, known))
            .collect();
        let mut snapshot = Self {
            cluster,
            partitions,
            totals,
            status: ClusterStatus::default(),
            codes,
        };
        snapshot.settle_totals();
        snapshot
    }

    /// Whether a cycle has ended, well or not.
    pub fn is_ready(&self) -> bool {
        self.status.up.is_some()
    }

    /// The snapshot after `observations`, made at `now`.
    #[must_use]
    pub fn advance(&self, observations: Observations, now: DateTime<Utc>) -> Self {
        let mut next = self.clone();
        if let Some(inventory) = observations.inventory {
            next.list(inventory);
        }
        for (id, read_at, reading) in observations.progress {
            match reading {
                Reading::Record(progress) => next.read(id, read_at, progress, now),
                Reading::NotFound => next.lose(id),
            }
        }
        next.settle_totals();
        if let Some(reading) = observations.cluster {
            next.status.end_cycle(reading, now);
        }
        next
    }

    /// Takes a reading in: moves the record, the last success and the counters on.
    fn read(
        &mut self,
        id: PartitionId,
        read_at: DateTime<Utc>,
        progress: Option<BackupProgress>,
        now: DateTime<Utc>,
    ) {
        let Some(known) = self.partitions.get_mut(&id) else {
            return;
        };
        let completion = Seen::observe(&mut known.seen, progress.as_ref(), read_at);
        let progress = progress.map(|progress| bound_code(progress, &mut self.codes));
        if let Some(outcome) = completion {
            let totals = self.totals.entry(ServiceKey::of(&known.partition));
            totals.or_default().count(outcome, progress.as_ref());
        }
        if let Some(point) = progress.as_ref().and_then(|p| RecoveryPoint::of(p, now)) {
            known.lsn_advance += point.advance_over(known.last_success.as_deref());
            RecoveryPoint::keep_newest(&mut known.last_success, point);
        }
        known.read_at = Some(read_at);
        if known.progress.as_deref() != progress.as_ref() {
            known.progress = progress.map(Arc::new);
        }
    }

    /// The backup service does not know the partition. Where the inventory does, it is the
    /// authority on what exists, and only the record is gone; a partition that was configured by
    /// its id and never found is no partition.
    fn lose(&mut self, id: PartitionId) {
        let Some(known) = self.partitions.get_mut(&id) else {
            return;
        };
        known.progress = None;
        known.read_at = None;
        if known.partition.service.is_none() {
            self.partitions.remove(&id);
        }
    }

    /// Takes an inventory in: new partitions appear, those not listed disappear, those that could
    /// not be read stay.
    fn list(&mut self, inventory: Inventory) {
        let mut previous = std::mem::take(&mut self.partitions);
        let listed = inventory.listed.into_iter().map(|partition| {
            let known = match previous.get(&partition.id) {
                Some(known) => PartitionSnapshot {
                    partition: known.partition.updated(partition),
                    ..known.clone()
                },
                None => PartitionSnapshot::new(partition),
            };
            (known.partition.id, known)
        });
        // Collected at once, the nodes of the map are full; one by one, they are not.
        self.partitions = listed.collect();
        previous.retain(|id, known| {
            let unread = |scope: &Scope| scope.contains(&known.partition);
            inventory.unread.iter().any(unread) && !self.partitions.contains_key(id)
        });
        self.partitions.append(&mut previous);
    }

    /// Counters exist for exactly the services that have a known partition.
    fn settle_totals(&mut self) {
        let mut settled = BTreeMap::new();
        for known in self.partitions.values() {
            let key = ServiceKey::of(&known.partition);
            if let Entry::Vacant(vacant) = settled.entry(key) {
                let totals = self.totals.remove(vacant.key()).unwrap_or_default();
                vacant.insert(totals);
            }
        }
        self.totals = settled;
    }
}

/// Replaces a failure code that would be one label value too many by `other`.
fn bound_code(mut progress: BackupProgress, codes: &mut BTreeSet<FailureCode>) -> BackupProgress {
    if let Some(failure) = &mut progress.failure
        && !codes.contains(&failure.code)
    {
        if codes.len() < MAX_FAILURE_CODES {
            codes.insert(failure.code.clone());
        } else {
            failure.code = FailureCode::other();
        }
    }
    progress
}

impl ClusterStatus {
    fn end_cycle(&mut self, reading: ClusterReading, now: DateTime<Utc>) {
        self.up = Some(reading.up);
        self.service_up = reading.service_up;
        self.version = reading.version.or_else(|| self.version.take());
        self.clock_skew = reading.clock_skew;
        for (collector, success, duration) in reading.runs {
            let earlier = self.collectors.get(&collector);
            let succeeded_at = if success {
                Some(now)
            } else {
                earlier.and_then(|earlier| earlier.succeeded_at)
            };
            let status = CollectorStatus {
                success,
                succeeded_at,
                duration,
            };
            self.collectors.insert(collector, status);
        }
    }
}

#[cfg(test)]
mod tests;
