//! Requested backups: Accepted, `BackupInProgress`, then an end.
//!
//! Maintains the record of each partition, which belongs to the backup service
//! (`BackupPartitionWorkItem.cs`): a new request overwrites it, and a timeout ends it whatever the
//! primary does (`execution`).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::agenda::{RequestStep, ScheduledEvent};
use super::log::EstateEventKind;
use super::requests::PendingRequest;
use super::time::later;
use super::{Estate, Rejection, ServiceKind};
use crate::simulator::record::{BackupPlan, Outcome, Record};

impl Estate {
    /// Requests a backup: the record becomes Accepted and loses the former success.
    pub fn request_backup(
        &mut self,
        id: Uuid,
        plan: BackupPlan,
        now: DateTime<Utc>,
    ) -> Result<(), Rejection> {
        self.tick(now);
        let restoring = self.restore_runs(id);
        let partition = self.partitions.get_mut(&id).ok_or(Rejection::NotFound)?;
        let kind = self.services.get(&partition.service).map(|it| it.kind);
        if !matches!(kind, Some(ServiceKind::Persisted | ServiceKind::Volatile)) {
            return Err(Rejection::Stateless);
        }
        if self.requests.pending.contains_key(&id) {
            return Err(Rejection::InProgress);
        }
        if restoring {
            return Err(Rejection::RestoreInProgress);
        }
        partition.record = Record::Accepted;
        let serial = self.backup_service.next_serial();
        let agenda = &mut self.backup_service.agenda;
        if plan.outcome != Outcome::Never {
            let at = later(now, plan.accepted_for);
            agenda.insert(
                at,
                ScheduledEvent::Request(id, serial, RequestStep::Deliver),
            );
        }
        if let Some(timeout) = plan.timeout {
            let at = later(now, timeout);
            agenda.insert(at, ScheduledEvent::Request(id, serial, RequestStep::Expire));
        }
        self.requests
            .pending
            .insert(id, PendingRequest { serial, plan });
        self.backup_service
            .record_event(now, id, EstateEventKind::Requested);
        Ok(())
    }

    /// Sets the outcome of the request of a partition at this time, to write a history.
    /// [`Outcome::Never`] is a request of that time that stays Accepted.
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
                let serial = self.backup_service.next_serial();
                let plan = BackupPlan {
                    outcome: Outcome::Never,
                    ..BackupPlan::default()
                };
                self.requests
                    .pending
                    .insert(id, PendingRequest { serial, plan });
                Record::Accepted
            }
        };
        self.set_state(id, record);
    }

    /// Replaces the record by an arbitrary body and ends a running request; JSON null means that no
    /// backup was ever requested.
    pub fn set_record(&mut self, id: Uuid, body: Value) {
        self.requests.forget(id);
        let record = match body {
            Value::Null => Record::Never,
            body => Record::Raw(Arc::new(body)),
        };
        self.set_state(id, record);
    }

    pub(super) fn set_state(&mut self, id: Uuid, record: Record) {
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
                self.requests.pending.remove(&id);
                self.set_state(id, Record::Timeout);
                self.backup_service
                    .record_event(at, id, EstateEventKind::RequestFailed);
            }
            RequestStep::Deliver if self.requests.serial_of(id) == Some(serial) => {
                self.deliver_request(id, at);
            }
            RequestStep::Finish => {
                let execution = self.requests.executions.get(&id);
                if execution.is_some_and(|it| it.number == serial) {
                    self.finish_request(id, at);
                }
            }
            RequestStep::Expire | RequestStep::Deliver => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::simulator::record::Code;
    use crate::simulator::{EstateSize, Scheme};

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_750_000_000, 0).unwrap()
    }

    fn world() -> (Estate, Uuid) {
        let size = EstateSize {
            seed: 1,
            applications: 2,
            services_per_application: 1,
            partitions_per_service: 1,
        };
        let estate = Estate::generate(&size, start());
        let id = estate.partition_ids()[1];
        assert_eq!(&*estate.application_of(id).unwrap(), "fabric:/Shop");
        (estate, id)
    }

    fn plan(outcome: Outcome) -> BackupPlan {
        BackupPlan {
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
    fn success_contains_time_of_its_snapshot_at_any_later_tick() {
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
        assert_eq!(again(&mut estate, running), Err(Rejection::InProgress));
        let ended = start() + SECOND * 6;
        estate.tick(ended);
        assert_eq!(again(&mut estate, ended), Ok(()));
    }

    #[test]
    fn a_stuck_request_stays_accepted_and_refuses_others_until_its_timeout() {
        let (mut estate, id) = world();
        let stuck = BackupPlan {
            timeout: Some(SECOND * 600),
            ..plan(Outcome::Never)
        };
        estate.request_backup(id, stuck.clone(), start()).unwrap();
        estate.tick(start() + SECOND * 599);
        assert_eq!(state(&estate, id), "Accepted");
        assert_eq!(
            estate.request_backup(id, stuck, start()),
            Err(Rejection::InProgress)
        );
        estate.tick(start() + SECOND * 600);
        assert_eq!(state(&estate, id), "Timeout");
    }

    #[test]
    fn a_backup_slower_than_its_timeout_ends_as_timeout() {
        let (mut estate, id) = world();
        let slow = BackupPlan {
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
    fn removed_partition_drops_its_requests() {
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
            Err(Rejection::NotFound)
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
            Err(Rejection::Stateless)
        );
    }
}
