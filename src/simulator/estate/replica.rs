//! State of the periodic backups of one partition: policy, timer, chain.
//!
//! Policy and last recovery point are replicated and survive a change of primary; timer, retries
//! and chain belong to one primary. Each replica has its own random seed, so that partitions do not
//! influence each other.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::agenda::Step;
use super::behaviour::Behaviour;
use super::health_event::HealthProperty;
use super::policy::PolicyVersion;
use super::time::later;
use super::timer::{Reason, Timer};
use crate::simulator::record::RecoveryPoint;

/// Retries of a failed backup before its run is skipped (`RescheduleTimer.cs`).
const RETRIES: u32 = 5;

/// The state provider of a service (`KeyValueStoreReplica.cs`, `ReliableStateManagerImpl.cs`).
/// No API shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateProvider {
    /// Reliable collections.
    #[default]
    ReliableCollections,
    /// The key-value store of Reliable Actors: its backups are always full, carry -1 as epoch and
    /// LSN, and report success although the upload failed.
    KeyValueStore,
}

/// Durations that no policy sets; the defaults are those of the real service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tempo {
    /// Interval of the queue that sends configuration changes to replicas (`BaseWorkItemQueue.cs`).
    pub propagation: Duration,
    /// `JitterInBackupsInSeconds`: maximum deviation of the start of a run from its due time.
    pub jitter: Duration,
    /// Approximate delay of a retry.
    pub retry: Duration,
    /// From the start of a backup to its snapshot.
    pub snapshot: RangeInclusive<Duration>,
    /// From the snapshot to the end of the upload.
    pub upload: RangeInclusive<Duration>,
    /// `HealthReportSendInterval`: maximum delay of a health report on its node.
    pub health_reports: Duration,
    /// Length of an hour in retention: it runs hourly, or every 24 hours if the retention is 24
    /// hours or longer.
    pub hour: Duration,
}

impl Default for Tempo {
    fn default() -> Self {
        Self {
            propagation: Duration::from_secs(5),
            jitter: Duration::from_secs(10),
            retry: Duration::from_secs(60),
            snapshot: Duration::from_secs(1)..=Duration::from_secs(5),
            upload: Duration::from_secs(5)..=Duration::from_secs(60),
            health_reports: Duration::from_secs(30),
            hour: Duration::from_secs(3600),
        }
    }
}

/// The part of a schedule that is stored in the partition and therefore in its backups.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata {
    /// The active policy; `None` without a policy or while suspended.
    pub(super) active: Option<Arc<PolicyVersion>>,
    /// When that policy arrived (`PolicyUpdateTime`).
    pub(super) updated: DateTime<Utc>,
    pub(super) recovery_point: Option<DateTime<Utc>>,
}

/// State of a primary replica.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) rng: fastrand::Rng,
    pub(super) metadata: Metadata,
    /// Time and kind of its next step.
    pub(super) timer: Option<(DateTime<Utc>, Step)>,
    /// Jitter of the armed run.
    pub(super) jitter: TimeDelta,
    pub(super) running: Option<RunningBackup>,
    pub(super) chain: Option<Chain>,
    pub(super) failures: u32,
    /// Offset of the clock of its node.
    pub(super) clock: TimeDelta,
    /// Whether its timers are stopped until the schedule restarts.
    pub(super) silenced: bool,
    /// Whether it waits for a restore, without write status.
    pub(super) awaits_restore: bool,
    /// The last requested backup of this primary.
    pub(super) requested: Option<RecoveryPoint>,
    pub(super) backup: HealthProperty,
    pub(super) restore: HealthProperty,
}

/// A running periodic backup.
#[derive(Debug)]
pub(super) struct RunningBackup {
    pub(super) policy: Arc<PolicyVersion>,
    /// The schedule at the start of the backup.
    pub(super) metadata: Metadata,
    pub(super) backup: Uuid,
    /// The chain including this backup.
    pub(super) chain: Chain,
    pub(super) taken: DateTime<Utc>,
    pub(super) lsn: u64,
    /// Whether it is uploaded; false if protection ended before the snapshot was complete.
    pub(super) uploads: bool,
    /// Clock offset of the node that becomes primary when this backup ends.
    pub(super) successor: Option<TimeDelta>,
}

/// The chain of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) id: Uuid,
    /// Backups in it (`NumberOfBackupsInChain`).
    pub(super) length: u32,
}

impl Replica {
    pub(super) fn new(id: Uuid) -> Self {
        let mut rng = fastrand::Rng::with_seed(id.as_u64_pair().1);
        let phase = rng.f64();
        Self {
            rng,
            metadata: Metadata::default(),
            timer: None,
            jitter: TimeDelta::zero(),
            running: None,
            chain: None,
            failures: 0,
            clock: TimeDelta::zero(),
            silenced: false,
            awaits_restore: false,
            requested: None,
            backup: HealthProperty::new(phase),
            restore: HealthProperty::new(phase),
        }
    }

    /// Restarts the schedule with another policy or none. A running backup continues.
    pub(super) fn restart(&mut self, active: Option<Arc<PolicyVersion>>, at: DateTime<Utc>) {
        self.metadata = Metadata {
            active,
            updated: at + self.clock,
            recovery_point: None,
        };
        self.chain = None;
        self.failures = 0;
        self.silenced = false;
    }

    /// Discards the state of the former primary.
    pub(super) fn take_over(&mut self, clock: TimeDelta) {
        self.chain = None;
        self.failures = 0;
        self.requested = None;
        self.clock = clock;
    }

    /// Arms the next run and returns its time; `None` if no timer could be armed.
    pub(super) fn arm(
        &mut self,
        reason: Reason,
        at: DateTime<Utc>,
        tempo: &Tempo,
        behaviour: Behaviour,
    ) -> Option<DateTime<Utc>> {
        let active = self.metadata.active.as_ref()?;
        self.failures = 0;
        self.jitter = TimeDelta::zero();
        let timer = Timer {
            schedule: &active.policy.schedule,
            recovery_point: self.metadata.recovery_point,
            restarted: self.metadata.updated,
            jitter: tempo.jitter,
            midnight_stop: behaviour.midnight_stop,
        };
        let armed = timer.arm(reason, at + self.clock, &mut self.rng)?;
        self.jitter = armed.jitter;
        let due = at.checked_add_signed(armed.delay);
        // An interval of zero must not fire twice at the same time.
        let next = at + TimeDelta::milliseconds(1);
        Some(due.unwrap_or(DateTime::<Utc>::MAX_UTC).max(next))
    }

    /// Time of the next retry; `None` after the last one.
    pub(super) fn retry(&mut self, at: DateTime<Utc>, tempo: &Tempo) -> Option<DateTime<Utc>> {
        if self.failures == RETRIES {
            return None;
        }
        self.failures += 1;
        self.jitter = TimeDelta::zero();
        let stretch = 0.95 + 0.1 * self.rng.f64();
        Some(later(at, tempo.retry.mul_f64(stretch)))
    }

    /// A random GUID of version 4.
    pub(super) fn new_id(&mut self) -> Uuid {
        let bytes = self.rng.u128(..).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// The chain of the next backup: a new one unless the policy allows another increment
    /// (`BackupRestoreManager.cs`, `TimerCallback`).
    pub(super) fn next_chain(&self, backup: Uuid, provider: StateProvider, most: u32) -> Chain {
        match self.chain {
            Some(chain)
                if provider == StateProvider::ReliableCollections && chain.length <= most =>
            {
                Chain {
                    length: chain.length + 1,
                    ..chain
                }
            }
            _ => Chain {
                id: backup,
                length: 1,
            },
        }
    }
}

pub(super) fn draw(rng: &mut fastrand::Rng, range: &RangeInclusive<Duration>) -> Duration {
    let span = range.end().saturating_sub(*range.start());
    *range.start() + span.mul_f64(rng.f64())
}
