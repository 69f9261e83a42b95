//! What the primary replica of one partition knows: its policy, its timer, its chain.
//!
//! Responsible for when its next backup starts and for which chain a backup belongs to. It may
//! not start one: the agenda of the estate does that. Each draws its own chance, so that nothing
//! that happens to one partition changes another.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::health::Report;
use super::later;
use super::periodic::Step;
use super::policy::InForce;

/// How often a failed backup is tried again before its turn is lost.
const RETRIES: u32 = 5;

/// How long things take that no policy says; the defaults are those of the real service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tempo {
    /// From a change of configuration to the replicas that act on it.
    pub propagation: Duration,
    /// A backup after an interval comes at most so much earlier or later.
    pub jitter: Duration,
    /// About how long after a failure the next try comes.
    pub retry: Duration,
    /// From the start of a backup to its snapshot.
    pub snapshot: RangeInclusive<Duration>,
    /// From the snapshot to the end of the upload.
    pub upload: RangeInclusive<Duration>,
}

impl Default for Tempo {
    fn default() -> Self {
        Self {
            propagation: Duration::from_secs(2),
            jitter: Duration::from_secs(10),
            retry: Duration::from_secs(60),
            snapshot: Duration::from_secs(1)..=Duration::from_secs(5),
            upload: Duration::from_secs(5)..=Duration::from_secs(60),
        }
    }
}

/// What a primary replica knows.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) rng: fastrand::Rng,
    /// The policy it acts on; `None` while nothing applies or protection is suspended.
    pub(super) active: Option<Arc<InForce>>,
    /// Its next Start or End.
    pub(super) timer: Option<(DateTime<Utc>, Step)>,
    pub(super) running: Option<Running>,
    pub(super) chain: Option<Chain>,
    pub(super) failures: u32,
    /// Whether it has made a backup since it was configured.
    pub(super) has_recovery_point: bool,
    pub(super) backup: Option<Report>,
    pub(super) restore: Option<Report>,
}

/// A backup under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) taken: DateTime<Utc>,
    pub(super) full: bool,
    pub(super) lsn: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    id: Uuid,
    pub(super) increments: u32,
}

impl Replica {
    pub(super) fn new(id: Uuid) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(id.as_u64_pair().1),
            active: None,
            timer: None,
            running: None,
            chain: None,
            failures: 0,
            has_recovery_point: false,
            backup: None,
            restore: None,
        }
    }

    /// Begins from nothing with another policy, or with none.
    pub(super) fn restart(&mut self, active: Option<Arc<InForce>>) {
        self.active = active;
        self.running = None;
        self.chain = None;
        self.failures = 0;
        self.has_recovery_point = false;
    }

    /// The next start by the schedule, counted from `from`.
    pub(super) fn next_turn(
        &mut self,
        from: DateTime<Utc>,
        tempo: &Tempo,
    ) -> Option<DateTime<Utc>> {
        let schedule = &self.active.as_ref()?.policy.schedule;
        let bound = i64::try_from(tempo.jitter.as_millis()).unwrap_or_default();
        let jitter = TimeDelta::milliseconds(self.rng.i64(-bound..=bound));
        Some(schedule.next(from, jitter))
    }

    /// The next start after a failure: soon, or at the next turn when all retries are used up.
    pub(super) fn next_try(&mut self, at: DateTime<Utc>, tempo: &Tempo) -> Option<DateTime<Utc>> {
        if self.failures == RETRIES {
            self.failures = 0;
            return self.next_turn(at, tempo);
        }
        self.failures += 1;
        let stretch = 0.95 + 0.1 * self.rng.f64();
        Some(later(at, tempo.retry.mul_f64(stretch)))
    }

    /// The id of the backup that was just made and of the chain it belongs to.
    pub(super) fn lengthen_chain(&mut self, full: bool) -> (Uuid, Uuid) {
        let bytes = self.rng.u128(..).to_be_bytes();
        let backup = uuid::Builder::from_random_bytes(bytes).into_uuid();
        let chain = match self.chain {
            Some(chain) if !full => Chain {
                increments: chain.increments + 1,
                ..chain
            },
            _ => Chain {
                id: backup,
                increments: 0,
            },
        };
        self.chain = Some(chain);
        (backup, chain.id)
    }
}

pub(super) fn draw(rng: &mut fastrand::Rng, range: &RangeInclusive<Duration>) -> Duration {
    let span = range.end().saturating_sub(*range.start());
    *range.start() + span.mul_f64(rng.f64())
}
