//! The life of a requested backup: Accepted, `BackupInProgress`, then an end.
//!
//! Responsible for the one record each partition has: a new request overwrites it, and only a
//! Success fills it with numbers. It may not answer requests. A request that runs is refused a
//! second one, and it takes turns with the periodic backups of its replica; what is due is kept
//! in order, so a tick never looks at what is not.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{Backup, Estate, Happening, ServiceKind, later};
use crate::simulator::record::{Outcome, Plan, Record, RecoveryPoint};

/// Why the cluster did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request before it has not ended.
    InProgress,
    /// A restore has not ended.
    RestoreInProgress,
    /// No such partition.
    NotFound,
    /// No such service.
    NoSuchService,
    /// No such application.
    NoSuchApplication,
    /// No such policy.
    NoSuchPolicy,
    /// No such backup in the storage that applies.
    NoSuchBackup,
    /// No policy applies.
    NotEnabled,
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
        let restoring = self.restore_runs(id);
        let partition = self.partitions.get_mut(&id).ok_or(Refusal::NotFound)?;
        let kind = self.services.get(&partition.service).map(|it| it.kind);
        if !matches!(kind, Some(ServiceKind::Persisted | ServiceKind::Volatile)) {
            return Err(Refusal::Stateless);
        }
        if self.jobs.contains_key(&id) {
            return Err(Refusal::InProgress);
        }
        if restoring {
            return Err(Refusal::RestoreInProgress);
        }
        partition.record = Record::Accepted;
        let job = Job {
            plan,
            accepted: now,
            running: false,
        };
        self.due.extend(job.next_step().map(|at| (at, id)));
        self.jobs.insert(id, job);
        self.periodic.note(now, id, Happening::Requested);
        Ok(())
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

    /// The next step of any request.
    pub(super) fn next_request(&self) -> Option<(DateTime<Utc>, Uuid)> {
        self.due.first().copied()
    }

    pub(super) fn request_runs(&self, id: Uuid) -> bool {
        self.jobs.contains_key(&id)
    }

    /// When the backup that a replica makes on request will have ended.
    pub(super) fn request_runs_until(&self, id: Uuid) -> Option<DateTime<Utc>> {
        let job = self.jobs.get(&id)?;
        job.next_step().filter(|_| job.running)
    }

    pub(super) fn advance_request(&mut self, id: Uuid, at: DateTime<Utc>) {
        self.due.remove(&(at, id));
        let free = self.busy_until(id).filter(|free| *free > at);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.deadline().is_some_and(|deadline| deadline <= at) {
            self.conclude(id, Outcome::Timeout, at);
            self.periodic.note(at, id, Happening::RequestFailed);
        } else if job.running {
            let (outcome, taken) = (job.plan.outcome.clone(), job.snapshot());
            let ended = match outcome {
                Outcome::Success => Happening::BackedUpOnRequest { taken },
                _ => Happening::RequestFailed,
            };
            self.conclude(id, outcome, taken);
            self.periodic.note(at, id, ended);
        } else if let Some(free) = free {
            let waited = (free - job.accepted).to_std().unwrap_or_default();
            job.plan.accepted_for = waited;
            self.due.extend(job.next_step().map(|at| (at, id)));
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
        let (epoch, lsn) = (partition.epoch, partition.lsn);
        let taken = at.trunc_subsecs(0);
        self.list_requested(
            id,
            Backup {
                id: backup,
                chain: backup,
                full: true,
                taken,
                lsn: Some(lsn),
                epoch,
            },
        );
        Record::Success(Box::new(RecoveryPoint {
            taken,
            backup,
            epoch,
            lsn,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::simulator::record::Code;
    use crate::simulator::{Scheme, Shape};

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_750_000_000, 0).unwrap()
    }

    fn world() -> (Estate, Uuid) {
        let shape = Shape {
            seed: 1,
            applications: 2,
            services_per_application: 1,
            partitions_per_service: 1,
        };
        let estate = Estate::generate(&shape, start());
        let id = estate.partition_ids()[1];
        assert_eq!(&*estate.application_of(id).unwrap(), "fabric:/Shop");
        (estate, id)
    }

    fn plan(outcome: Outcome) -> Plan {
        Plan {
            accepted_for: SECOND * 2,
            running_for: SECOND * 4,
            outcome,
            timeout: None,
        }
    }

    fn state(estate: &Estate, id: Uuid) -> String {
        let record = estate.record(id).unwrap();
        record["BackupState"].as_str().unwrap_or("null").to_owned()
    }

    #[test]
    fn a_request_passes_through_accepted_and_in_progress_to_its_end() {
        let failure = Outcome::Failure(Code::Number(5), "no".to_owned());
        let ends = [
            (Outcome::Success, "Success"),
            (failure, "Failure"),
            (Outcome::Timeout, "Timeout"),
        ];
        for (outcome, end) in ends {
            let (mut estate, id) = world();
            assert_eq!(state(&estate, id), "null");
            estate.request_backup(id, plan(outcome), start()).unwrap();
            let mut seen = Vec::new();
            for second in 0..8 {
                estate.tick(start() + SECOND * second);
                seen.push(state(&estate, id));
            }
            seen.dedup();
            assert_eq!(seen, ["Accepted", "BackupInProgress", end]);
        }
    }

    #[test]
    fn a_success_tells_the_moment_of_its_snapshot_whenever_it_is_looked_at() {
        let (mut estate, id) = world();
        estate
            .request_backup(id, plan(Outcome::Success), start())
            .unwrap();
        estate.tick(start() + SECOND * 1000);
        let record = estate.record(id).unwrap();
        assert_eq!(record["TimeStampUtc"], "2025-06-15T15:06:44Z");
        let location = record["BackupLocation"].as_str().unwrap();
        let service = estate.service_of(id).unwrap();
        let service = service.strip_prefix("fabric:/Shop/").unwrap();
        assert_eq!(
            location,
            format!("Shop\\{service}\\{id}\\2025-06-15 15.06.44.zip")
        );
    }

    #[test]
    fn a_new_request_erases_the_success_before_it_and_the_next_lsn_is_higher() {
        let (mut estate, id) = world();
        let mut last = 0;
        for round in 0..20 {
            estate.conclude(id, Outcome::Success, start());
            let lsn = estate.record(id).unwrap()["LsnOfLastBackupRecord"]
                .as_u64()
                .unwrap();
            assert!(lsn > last, "round {round}: {lsn} after {last}");
            last = lsn;
        }
        estate
            .request_backup(id, plan(Outcome::Success), start())
            .unwrap();
        let record = estate.record(id).unwrap();
        assert_eq!(record["LsnOfLastBackupRecord"], 0);
        assert_eq!(record["TimeStampUtc"], "0001-01-01T00:00:00Z");
        assert_eq!(record["EpochOfLastBackupRecord"], Value::Null);
    }

    #[test]
    fn a_second_request_is_refused_until_the_first_has_ended() {
        let (mut estate, id) = world();
        let again =
            |estate: &mut Estate, now| estate.request_backup(id, plan(Outcome::Success), now);
        again(&mut estate, start()).unwrap();
        let running = start() + SECOND * 3;
        estate.tick(running);
        assert_eq!(again(&mut estate, running), Err(Refusal::InProgress));
        let ended = start() + SECOND * 6;
        estate.tick(ended);
        assert_eq!(again(&mut estate, ended), Ok(()));
    }

    #[test]
    fn a_stuck_request_stays_accepted_and_refuses_others_until_its_timeout() {
        let (mut estate, id) = world();
        let stuck = Plan {
            timeout: Some(SECOND * 600),
            ..plan(Outcome::Never)
        };
        estate.request_backup(id, stuck.clone(), start()).unwrap();
        estate.tick(start() + SECOND * 599);
        assert_eq!(state(&estate, id), "Accepted");
        assert_eq!(
            estate.request_backup(id, stuck, start()),
            Err(Refusal::InProgress)
        );
        estate.tick(start() + SECOND * 600);
        assert_eq!(state(&estate, id), "Timeout");
    }

    #[test]
    fn a_backup_slower_than_its_timeout_ends_as_timeout() {
        let (mut estate, id) = world();
        let slow = Plan {
            timeout: Some(SECOND * 3),
            ..plan(Outcome::Success)
        };
        estate.request_backup(id, slow, start()).unwrap();
        estate.tick(start() + SECOND * 3);
        assert_eq!(state(&estate, id), "Timeout");
        estate.tick(start() + SECOND * 60);
        assert_eq!(state(&estate, id), "Timeout");
    }

    #[test]
    fn a_record_set_by_hand_is_not_changed_by_the_request_it_replaces() {
        let (mut estate, id) = world();
        estate
            .request_backup(id, plan(Outcome::Success), start())
            .unwrap();
        estate.set_record(id, json!({"BackupState": "Paused"}));
        estate.tick(start() + SECOND * 60);
        assert_eq!(estate.record(id), Some(json!({"BackupState": "Paused"})));
    }

    #[test]
    fn what_vanishes_takes_its_requests_along() {
        let (mut estate, id) = world();
        estate
            .request_backup(id, plan(Outcome::Success), start())
            .unwrap();
        let service = estate.service_of(id).unwrap();
        estate.remove_service(&service);
        estate.tick(start() + SECOND * 60);
        assert_eq!(estate.record(id), None);
        assert_eq!(
            estate.request_backup(id, plan(Outcome::Success), start()),
            Err(Refusal::NotFound)
        );
        assert!(estate.jobs.is_empty() && estate.due.is_empty());
    }

    #[test]
    fn stateless_partitions_are_refused() {
        let (mut estate, _) = world();
        let kind = ServiceKind::Stateless;
        let ids = estate.add_service("fabric:/A", "fabric:/A/B", kind, Scheme::Singleton, start());
        assert_eq!(
            estate.request_backup(ids[0], plan(Outcome::Success), start()),
            Err(Refusal::Stateless)
        );
    }
}
