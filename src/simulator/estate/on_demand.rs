//! The life of a requested backup: Accepted, `BackupInProgress`, then an end.
//!
//! Responsible for the one record each partition has, which belongs to the backup service, and
//! for the work that its primary does for it: both go on by themselves, so a result that comes
//! after the Timeout is dropped although the backup is stored (`BackupRestoreServiceImpl.cs`).
//! Must not answer requests. A requested backup is always full, moves neither the timer nor the
//! last recovery point, and takes turns with the periodic ones (`BackupRestoreManager.cs`,
//! `BackupNowAsync`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::agenda::{Event, RequestStep};
use super::policy::InForce;
use super::replica::StateProvider;
use super::store::{Backup, Validation};
use super::{Estate, Happening, ServiceKind, later};
use crate::simulator::record::{Code, Epoch, Outcome, Plan, Record, RecoveryPoint};

/// How often the backup service sends a request again (`BackupPartitionWorkItem.cs`).
pub(super) const RESEND: Duration = Duration::from_secs(30);

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
    /// No such backup in the storage that applies, or its chain is incomplete.
    NoSuchBackup,
    /// No policy applies.
    NotEnabled,
    /// The partition has no state to back up.
    Stateless,
    /// A storage could not be listed: "Unable to get recovery point details.".
    StorageUnreachable,
    /// A list failed before it had an item because a container or folder does not exist: "Index
    /// was out of range" (`GetRestorePointsOperation.cs`).
    NothingToIndex,
    /// A list failed after it had items of another storage: code 2148734208.
    StorageFailed,
}

/// Requested backups that have not ended.
#[derive(Debug, Default)]
pub(super) struct Requests {
    jobs: HashMap<Uuid, Job>,
    errands: HashMap<Uuid, Errand>,
}

/// What the backup service waits for.
#[derive(Debug)]
struct Job {
    serial: u64,
    plan: Plan,
}

/// What a primary does about a request.
#[derive(Debug)]
struct Errand {
    serial: u64,
    plan: Plan,
    policy: Option<Arc<InForce>>,
    /// When the primary cancels it: its own `BackupTimeout`.
    deadline: Option<DateTime<Utc>>,
    /// When it had its turn.
    began: Option<DateTime<Utc>>,
}

impl Estate {
    /// Requests a backup: the record becomes Accepted and the success before it is gone.
    pub fn request_backup(
        &mut self,
        id: Uuid,
        plan: Plan,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        self.tick(now);
        let restoring = self.restore_runs(id);
        let partition = self.partitions.get_mut(&id).ok_or(Refusal::NotFound)?;
        let kind = self.services.get(&partition.service).map(|it| it.kind);
        if !matches!(kind, Some(ServiceKind::Persisted | ServiceKind::Volatile)) {
            return Err(Refusal::Stateless);
        }
        if self.requests.jobs.contains_key(&id) {
            return Err(Refusal::InProgress);
        }
        if restoring {
            return Err(Refusal::RestoreInProgress);
        }
        partition.record = Record::Accepted;
        let serial = self.periodic.next_serial();
        let agenda = &mut self.periodic.agenda;
        if plan.outcome != Outcome::Never {
            let at = later(now, plan.accepted_for);
            agenda.insert(at, Event::Request(id, serial, RequestStep::Deliver));
        }
        if let Some(timeout) = plan.timeout {
            let at = later(now, timeout);
            agenda.insert(at, Event::Request(id, serial, RequestStep::Expire));
        }
        self.requests.jobs.insert(id, Job { serial, plan });
        self.periodic.note(now, id, Happening::Requested);
        Ok(())
    }

    /// Ends whatever runs for a partition, or ran never, with this outcome at this moment:
    /// how a history is written. [`Outcome::Never`] is a request of that moment, still Accepted.
    pub fn conclude(&mut self, id: Uuid, outcome: Outcome, at: DateTime<Utc>) {
        self.requests.forget(id);
        let record = match outcome {
            Outcome::Success => {
                let policy = self.applied_policy(id);
                let point = self.store_requested(id, policy.as_deref(), at, at);
                point.map_or(Record::Never, |it| Record::Success(Box::new(it)))
            }
            Outcome::Failure(code, message) => Record::Failure(Arc::new((code, message))),
            Outcome::Timeout => Record::Timeout,
            Outcome::Never => {
                let serial = self.periodic.next_serial();
                let plan = Plan {
                    outcome: Outcome::Never,
                    ..Plan::default()
                };
                self.requests.jobs.insert(id, Job { serial, plan });
                Record::Accepted
            }
        };
        self.set_state(id, record);
    }

    /// Puts any body in the place of a record, and ends whatever runs for the partition; JSON
    /// null is a partition no backup was ever requested for.
    pub fn set_record(&mut self, id: Uuid, body: Value) {
        self.requests.forget(id);
        let record = match body {
            Value::Null => Record::Never,
            body => Record::Raw(Arc::new(body)),
        };
        self.set_state(id, record);
    }

    fn set_state(&mut self, id: Uuid, record: Record) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.record = record;
        }
    }

    pub(super) fn advance_request(
        &mut self,
        id: Uuid,
        serial: u64,
        step: RequestStep,
        at: DateTime<Utc>,
    ) {
        match step {
            RequestStep::Expire if self.requests.serial_of(id) == Some(serial) => {
                self.requests.jobs.remove(&id);
                self.set_state(id, Record::Timeout);
                self.periodic.note(at, id, Happening::RequestFailed);
            }
            RequestStep::Deliver if self.requests.serial_of(id) == Some(serial) => {
                self.deliver_request(id, at);
            }
            RequestStep::Finish => {
                let errand = self.requests.errands.get(&id);
                if errand.is_some_and(|it| it.serial == serial) {
                    self.finish_request(id, at);
                }
            }
            RequestStep::Expire | RequestStep::Deliver => {}
        }
    }

    /// The primary takes the request on, unless it is busy with an older one or unreachable.
    fn deliver_request(&mut self, id: Uuid, at: DateTime<Utc>) {
        let isolated = self.periodic.unreachable.get(&id);
        let isolated = isolated.is_some_and(|it| it.contains(&at));
        let policy = self.applied_policy(id);
        let Some(job) = self.requests.jobs.get(&id) else {
            return;
        };
        if isolated || self.requests.errands.contains_key(&id) {
            let event = Event::Request(id, job.serial, RequestStep::Deliver);
            return self.periodic.agenda.insert(later(at, RESEND), event);
        }
        let errand = Errand {
            serial: job.serial,
            plan: job.plan.clone(),
            policy,
            deadline: job.plan.timeout.map(|timeout| later(at, timeout)),
            began: None,
        };
        if let Some(deadline) = errand.deadline {
            let event = Event::Request(id, job.serial, RequestStep::Finish);
            self.periodic.agenda.insert(deadline, event);
        }
        self.requests.errands.insert(id, errand);
        self.set_state(id, Record::InProgress);
        let replica = self.periodic.replicas.get(&id);
        if replica.is_none_or(|it| it.running.is_none()) {
            self.begin_waiting_request(id, at);
        }
    }

    /// Nothing else is being backed up: a request that waited for it has its turn.
    pub(super) fn begin_waiting_request(&mut self, id: Uuid, at: DateTime<Utc>) {
        let errand = self.requests.errands.get_mut(&id);
        if let Some(errand) = errand.filter(|it| it.began.is_none()) {
            errand.began = Some(at);
            let event = Event::Request(id, errand.serial, RequestStep::Finish);
            let ends = later(at, errand.plan.running_for);
            self.periodic.agenda.insert(ends, event);
        }
    }

    /// The primary has finished a request, or its deadline has passed.
    fn finish_request(&mut self, id: Uuid, at: DateTime<Utc>) {
        let Some(errand) = self.requests.errands.remove(&id) else {
            return;
        };
        let Some(began) = errand.began.filter(|it| errand.ends(*it) <= at) else {
            return;
        };
        let taken = later(began, errand.plan.running_for / 2);
        let record = match errand.plan.outcome.clone() {
            Outcome::Success => self.try_to_store(id, errand.policy.as_ref(), taken, at),
            Outcome::Failure(code, message) => Some(self.failure(id, code, message)),
            Outcome::Timeout => Some(Record::Timeout),
            Outcome::Never => None,
        };
        let is_late = self.requests.serial_of(id) != Some(errand.serial);
        let Some(record) = record.filter(|_| !is_late) else {
            return;
        };
        self.requests.jobs.remove(&id);
        let worked = matches!(&record, Record::Success(it) if it.taken == self.shown(id, taken));
        self.set_state(id, record);
        let what = if worked {
            Happening::BackedUpOnRequest { taken }
        } else {
            Happening::RequestFailed
        };
        self.periodic.note(at, id, what);
    }

    fn try_to_store(
        &mut self,
        id: Uuid,
        policy: Option<&Arc<InForce>>,
        taken: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Option<Record> {
        if policy.is_some_and(|it| self.periodic.policies.storage_fails(it, at)) {
            let code = Code::Name(format!("{COPIER}UNEXPECTED_ERROR"));
            let message = "An error occurred during this operation.  Please check the trace logs \
                           for more details.";
            return Some(self.failure(id, code, message.to_owned()));
        }
        let point = self.store_requested(id, policy.map(Arc::as_ref), taken, at)?;
        Some(Record::Success(Box::new(point)))
    }

    /// The record of a failed attempt. For the store of an actor service a failed upload is no
    /// error: the record shows the former request of this primary, or the null pointer that the
    /// lack of one is (`BackupRestoreManager.cs`, `backupPropertiesForBackupNow`).
    fn failure(&mut self, id: Uuid, code: Code, message: String) -> Record {
        let in_upload = matches!(&code, Code::Name(name) if name.starts_with(COPIER));
        let provider = self.provider_of(id);
        if !(in_upload && self.periodic.drops_upload_errors(provider)) {
            return Record::Failure(Arc::new((code, message)));
        }
        match self.periodic.replica_mut(id).requested.clone() {
            Some(former) => Record::Success(Box::new(former)),
            None => Record::Failure(Arc::new((
                Code::Name("E_POINTER".to_owned()),
                "Object reference not set to an instance of an object.".to_owned(),
            ))),
        }
    }

    /// Puts a full backup into the storage of a policy, or into one of the requester's own, and
    /// ends the chain of the periodic ones.
    fn store_requested(
        &mut self,
        id: Uuid,
        policy: Option<&InForce>,
        taken: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Option<RecoveryPoint> {
        let shown = self.shown(id, taken);
        let is_actor = self.provider_of(id) == StateProvider::KeyValueStore;
        let partition = self.partitions.get_mut(&id)?;
        let replica = self.periodic.replica_mut(id);
        partition.lsn += replica.rng.u64(1..500);
        let epoch = if is_actor {
            Epoch::default()
        } else {
            partition.epoch
        };
        let point = RecoveryPoint {
            taken: shown,
            backup: replica.new_id(),
            epoch,
            lsn: (!is_actor).then_some(partition.lsn),
        };
        replica.chain = None;
        replica.requested = Some(point.clone());
        let backup = Backup {
            id: point.backup,
            chain: point.backup,
            full: true,
            taken: shown,
            lsn: point.lsn,
            epoch,
            validation: Validation::None,
            metadata: replica.metadata.clone(),
        };
        match policy {
            Some(policy) => self.store(id, policy.place, backup, taken, at),
            None => self.periodic.note_stored(id, None, &backup, taken, at),
        }
        Some(point)
    }

    /// A moment as the node of the primary prints it.
    fn shown(&self, id: Uuid, at: DateTime<Utc>) -> DateTime<Utc> {
        let clock = self.periodic.replicas.get(&id).map(|it| it.clock);
        (at + clock.unwrap_or_default()).trunc_subsecs(0)
    }
}

/// Codes of a failed upload begin with it (`BackupCopier.cs`).
const COPIER: &str = "FABRIC_E_BACKUPCOPIER_";

impl Errand {
    fn ends(&self, began: DateTime<Utc>) -> DateTime<Utc> {
        later(began, self.plan.running_for)
    }
}

impl Requests {
    /// The number of the request that the backup service waits for.
    pub(super) fn serial_of(&self, id: Uuid) -> Option<u64> {
        Some(self.jobs.get(&id)?.serial)
    }

    /// When the requested backup that a primary is taking will have ended.
    pub(super) fn busy_until(&self, id: Uuid) -> Option<DateTime<Utc>> {
        let errand = self.errands.get(&id)?;
        let ends = errand.ends(errand.began?);
        Some(errand.deadline.map_or(ends, |it| it.min(ends)))
    }

    /// Forgets what a primary does about a request.
    pub(super) fn drop_errand(&mut self, id: Uuid) {
        self.errands.remove(&id);
    }

    pub(super) fn forget(&mut self, id: Uuid) {
        self.jobs.remove(&id);
        self.errands.remove(&id);
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
        assert_eq!(estate.requests.serial_of(id), None);
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
