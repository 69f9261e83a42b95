//! The life of a requested backup: Accepted, `BackupInProgress`, then an end.
//!
//! Responsible for the one record each partition has: a new request overwrites it, and only a
//! Success fills it with numbers. It may not answer requests. A request that runs is refused a
//! second one; what is due is kept in order, so a tick never looks at what is not.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{Estate, ServiceKind};
use crate::simulator::record::{Outcome, Plan, Record, RecoveryPoint};

/// Why a backup was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request before it has not ended.
    InProgress,
    /// No such partition.
    NotFound,
    /// The partition has no state to back up.
    Stateless,
}

/// A request that has not ended.
#[derive(Debug)]
pub(super) struct Job {
    plan: Plan,
    accepted: DateTime<Utc>,
    running: bool,
}

impl Estate {
    /// Requests a backup: the record becomes Accepted and the success before it is gone.
    pub fn request_backup(
        &mut self,
        id: Uuid,
        plan: Plan,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let partition = self.partitions.get_mut(&id).ok_or(Refusal::NotFound)?;
        let kind = self.services.get(&partition.service).map(|it| it.kind);
        if !matches!(kind, Some(ServiceKind::Persisted | ServiceKind::Volatile)) {
            return Err(Refusal::Stateless);
        }
        if self.jobs.contains_key(&id) {
            return Err(Refusal::InProgress);
        }
        partition.record = Record::Accepted;
        let job = Job {
            plan,
            accepted: now,
            running: false,
        };
        self.due.extend(job.next_step().map(|at| (at, id)));
        self.jobs.insert(id, job);
        Ok(())
    }

    /// Moves every request along whose time has come.
    pub fn tick(&mut self, now: DateTime<Utc>) {
        while let Some(&(at, id)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, id));
            self.advance(id, at);
        }
    }

    /// Ends whatever runs for a partition, or ran never, with this outcome at this moment:
    /// how a history is written. [`Outcome::Never`] is a request of that moment, still Accepted.
    pub fn conclude(&mut self, id: Uuid, outcome: Outcome, at: DateTime<Utc>) {
        self.forget_job(id);
        let record = match outcome {
            Outcome::Success => self.succeed(id, at),
            Outcome::Failure(code, message) => Record::Failure(Arc::new((code, message))),
            Outcome::Timeout => Record::Timeout,
            Outcome::Never => {
                self.jobs.insert(id, Job::stuck(at));
                Record::Accepted
            }
        };
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.record = record;
        }
    }

    /// Puts any body in the place of a record, and ends whatever runs for the partition; JSON
    /// null is a partition no backup was ever requested for.
    pub fn set_record(&mut self, id: Uuid, body: Value) {
        self.forget_job(id);
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.record = match body {
                Value::Null => Record::Never,
                body => Record::Raw(Arc::new(body)),
            };
        }
    }

    fn advance(&mut self, id: Uuid, at: DateTime<Utc>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.deadline().is_some_and(|deadline| deadline <= at) {
            self.conclude(id, Outcome::Timeout, at);
        } else if job.running {
            let (outcome, snapshot) = (job.plan.outcome.clone(), job.snapshot());
            self.conclude(id, outcome, snapshot);
        } else {
            job.running = true;
            self.due.extend(job.next_step().map(|at| (at, id)));
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.record = Record::InProgress;
            }
        }
    }

    fn succeed(&mut self, id: Uuid, at: DateTime<Utc>) -> Record {
        let backup = self.new_id();
        let written = self.rng.u64(1..500);
        let Some(partition) = self.partitions.get_mut(&id) else {
            return Record::Never;
        };
        partition.lsn += written;
        Record::Success(Box::new(RecoveryPoint {
            taken: at.trunc_subsecs(0),
            backup,
            epoch: partition.epoch,
            lsn: partition.lsn,
        }))
    }

    pub(super) fn forget_job(&mut self, id: Uuid) {
        let job = self.jobs.remove(&id);
        if let Some(at) = job.and_then(|job| job.next_step()) {
            self.due.remove(&(at, id));
        }
    }
}

impl Job {
    /// A request that no primary ever takes on.
    fn stuck(accepted: DateTime<Utc>) -> Self {
        let plan = Plan {
            outcome: Outcome::Never,
            ..Plan::default()
        };
        Self {
            plan,
            accepted,
            running: false,
        }
    }

    /// When the record changes next; `None` when it is stuck.
    fn next_step(&self) -> Option<DateTime<Utc>> {
        let planned = match (&self.plan.outcome, self.running) {
            (Outcome::Never, _) => None,
            (_, false) => Some(later(self.accepted, self.plan.accepted_for)),
            (_, true) => Some(later(
                later(self.accepted, self.plan.accepted_for),
                self.plan.running_for,
            )),
        };
        [planned, self.deadline()].into_iter().flatten().min()
    }

    fn deadline(&self) -> Option<DateTime<Utc>> {
        Some(later(self.accepted, self.plan.timeout?))
    }

    /// The snapshot is taken half-way; the rest is upload.
    fn snapshot(&self) -> DateTime<Utc> {
        later(
            self.accepted,
            self.plan.accepted_for + self.plan.running_for / 2,
        )
    }
}

/// `start` plus `delay`, at the latest the end of time.
fn later(start: DateTime<Utc>, delay: Duration) -> DateTime<Utc> {
    let delay = TimeDelta::from_std(delay).ok();
    delay
        .and_then(|delay| start.checked_add_signed(delay))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
