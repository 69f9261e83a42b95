//! Execution of requested backups by primaries.
//!
//! A requested backup is always full, changes neither timer nor last recovery point and never
//! overlaps a periodic one (`BackupRestoreManager.cs`, `BackupNowAsync`). It continues after the
//! request has timed out; its result is then dropped although the backup is stored
//! (`BackupRestoreServiceImpl.cs`).

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

use super::Estate;
use super::agenda::{RequestStep, ScheduledEvent};
use super::log::EstateEventKind;
use super::policy::PolicyVersion;
use super::replica::StateProvider;
use super::requests::{Execution, RESEND};
use super::store::{Backup, Validation};
use super::time::later;
use crate::simulator::record::{Code, Epoch, Outcome, Record, RecoveryPoint};

/// Prefix of the error codes of failed uploads (`BackupCopier.cs`).
const COPIER: &str = "FABRIC_E_BACKUPCOPIER_";

impl Estate {
    /// Delivers the request to the primary, unless it is busy with an older one or unreachable.
    pub(super) fn deliver_request(&mut self, id: Uuid, at: DateTime<Utc>) {
        let isolated = self.backup_service.unreachable.get(&id);
        let isolated = isolated.is_some_and(|it| it.contains(&at));
        let policy = self.applied_policy(id);
        let number = self.backup_service.next_serial();
        let Some(job) = self.requests.pending.get(&id) else {
            return;
        };
        if isolated || self.requests.executions.contains_key(&id) {
            let event = ScheduledEvent::Request(id, job.serial, RequestStep::Deliver);
            return self.backup_service.agenda.insert(later(at, RESEND), event);
        }
        let execution = Execution {
            number,
            serial: job.serial,
            plan: job.plan.clone(),
            policy,
            deadline: job.plan.timeout.map(|timeout| later(at, timeout)),
            began: None,
        };
        if let Some(deadline) = execution.deadline {
            let event = ScheduledEvent::Request(id, number, RequestStep::Finish);
            self.backup_service.agenda.insert(deadline, event);
        }
        self.requests.executions.insert(id, execution);
        self.set_state(id, Record::InProgress);
        let replica = self.backup_service.replicas.get(&id);
        if replica.is_none_or(|it| it.running.is_none()) {
            self.begin_waiting_request(id, at);
        }
    }

    /// Starts a request that waited for another backup.
    pub(super) fn begin_waiting_request(&mut self, id: Uuid, at: DateTime<Utc>) {
        let execution = self.requests.executions.get_mut(&id);
        if let Some(execution) = execution.filter(|it| it.began.is_none()) {
            execution.began = Some(at);
            let event = ScheduledEvent::Request(id, execution.number, RequestStep::Finish);
            let ends = later(at, execution.plan.running_for);
            self.backup_service.agenda.insert(ends, event);
        }
    }

    /// Ends the execution of a request, finished or timed out.
    pub(super) fn finish_request(&mut self, id: Uuid, at: DateTime<Utc>) {
        let Some(execution) = self.requests.executions.remove(&id) else {
            return;
        };
        let Some(began) = execution.began.filter(|it| execution.ends(*it) <= at) else {
            return;
        };
        let taken = later(began, execution.plan.running_for / 2);
        let record = match execution.plan.outcome.clone() {
            Outcome::Success => self.try_to_store(id, execution.policy.as_ref(), taken, at),
            Outcome::Failure(code, message) => Some(self.failure(id, code, message)),
            Outcome::Timeout => Some(Record::Timeout),
            Outcome::Never => None,
        };
        let is_late = self.requests.serial_of(id) != Some(execution.serial);
        let Some(record) = record.filter(|_| !is_late) else {
            return;
        };
        self.requests.pending.remove(&id);
        let worked = matches!(&record, Record::Success(it) if it.taken == self.shown(id, taken));
        self.set_state(id, record);
        let what = if worked {
            EstateEventKind::BackedUpOnRequest { taken }
        } else {
            EstateEventKind::RequestFailed
        };
        self.backup_service.record_event(at, id, what);
    }

    fn try_to_store(
        &mut self,
        id: Uuid,
        policy: Option<&Arc<PolicyVersion>>,
        taken: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Option<Record> {
        if policy.is_some_and(|it| self.backup_service.policies.storage_fails(it, at)) {
            let code = Code::Name(format!("{COPIER}UNEXPECTED_ERROR"));
            let message = "An error occurred during this operation.  Please check the trace logs \
                           for more details.";
            return Some(self.failure(id, code, message.to_owned()));
        }
        let point = self.store_requested(id, policy.map(Arc::as_ref), taken, at)?;
        Some(Record::Success(Box::new(point)))
    }

    /// The record of a failed attempt. For the store of an actor service a failed upload is no
    /// error: the record shows the former request of this primary, or a null pointer error without
    /// one (`BackupRestoreManager.cs`, `backupPropertiesForBackupNow`).
    fn failure(&mut self, id: Uuid, code: Code, message: String) -> Record {
        let in_upload = matches!(&code, Code::Name(name) if name.starts_with(COPIER));
        let provider = self.provider_of(id);
        if !(in_upload && self.backup_service.drops_upload_errors(provider)) {
            return Record::Failure(Arc::new((code, message)));
        }
        match self.backup_service.replica_mut(id).requested.clone() {
            Some(former) => Record::Success(Box::new(former)),
            None => Record::Failure(Arc::new((
                Code::Name("E_POINTER".to_owned()),
                "Object reference not set to an instance of an object.".to_owned(),
            ))),
        }
    }

    /// Stores a full backup in the storage of a policy, or in one that the request names, and ends
    /// the chain of the periodic backups.
    pub(super) fn store_requested(
        &mut self,
        id: Uuid,
        policy: Option<&PolicyVersion>,
        taken: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Option<RecoveryPoint> {
        let shown = self.shown(id, taken);
        let is_actor = self.provider_of(id) == StateProvider::KeyValueStore;
        let partition = self.partitions.get_mut(&id)?;
        let replica = self.backup_service.replica_mut(id);
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
            Some(policy) => self.store(id, policy.storage_id, backup, taken, at),
            None => self
                .backup_service
                .record_stored(id, None, &backup, taken, at),
        }
        Some(point)
    }

    /// A time on the clock of the node of the primary.
    fn shown(&self, id: Uuid, at: DateTime<Utc>) -> DateTime<Utc> {
        let clock = self.backup_service.replicas.get(&id).map(|it| it.clock);
        (at + clock.unwrap_or_default()).trunc_subsecs(0)
    }
}
