//! Restores: Accepted, `RestoreInProgress`, `SecondariesInProgress`, then an end.
//!
//! Maintains the restore record of each partition and the effects of restores and data losses: the
//! state of an old backup including its schedule, a new data loss version, a broken chain. During a
//! restore neither backups nor other restores are accepted.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::agenda::{ScheduledEvent, Step, WorkItem};
use super::health_event::HealthReportKind;
use super::log::EstateEventKind;
use super::restore_progress::{Restore, RestoreOutcome, RestorePlan, RestoreSource, RestoreState};
use super::store::Validation;
use super::time::{filetime, later};
use super::timer::Reason;
use super::{Entity, Estate, Rejection};

impl Estate {
    /// Requests a restore of a listed backup: the one of this id, which may belong to another
    /// partition of the application, or the newest that can be restored. It is checked by id, and
    /// its chain down to the full backup (`RestorePartitionRequestOperation.cs`).
    pub fn request_restore(
        &mut self,
        id: Uuid,
        backup: Option<Uuid>,
        plan: RestorePlan,
        now: DateTime<Utc>,
    ) -> Result<(), Rejection> {
        self.tick(now);
        let own = self.sources(&Entity::Partition(id), now)?;
        if self.restore_runs(id) {
            return Err(Rejection::RestoreInProgress);
        }
        if self.requests.serial_of(id).is_some() {
            return Err(Rejection::InProgress);
        }
        let source = match backup {
            None => own.into_iter().next_back(),
            Some(wanted) => {
                let application = self.application_of(id).map(Entity::Application);
                let foreign = application.map(|it| self.sources(&it, now));
                let foreign = foreign.unwrap_or(Ok(Vec::new())).unwrap_or_default();
                let mut all = own.into_iter().chain(foreign);
                all.find(|it| it.backup.id == wanted)
            }
        };
        let source = source.ok_or(Rejection::NoSuchBackup)?;
        self.begin_restore(id, source, plan, now);
        Ok(())
    }

    /// Loses the data of a partition. It is restored from its newest backup if its policy says so
    /// (without a record); from the backup of an old restore, if it has a record of one and the
    /// runtime is 6.4; otherwise it waits without write status, if it is protected.
    pub fn lose_data(&mut self, id: Uuid, now: DateTime<Utc>) {
        self.tick(now);
        if !self.partitions.contains_key(&id) {
            return;
        }
        self.raise_data_loss(id, now);
        let policy = self.applied_policy(id);
        let repeats = self.backup_service.behaviour.repeats_old_restores;
        let old = self.backup_service.restores.get(&id).filter(|_| repeats);
        let source = match old.map(|it| it.source.clone()) {
            Some(old) => Some(old),
            None if policy.is_some_and(|it| it.policy.auto_restore_on_data_loss) => {
                let sources = self.sources(&Entity::Partition(id), now);
                sources.unwrap_or_default().pop()
            }
            None => None,
        };
        self.backup_service.stop_for_restore(id);
        match source {
            Some(source) => {
                self.apply(id, &source, now);
                self.backup_service
                    .report(id, HealthReportKind::RestoredItself, now);
            }
            None if self.backup_service.active_policy(id).is_some() => {
                self.backup_service.replica_mut(id).awaits_restore = true;
                self.backup_service
                    .record_event(now, id, EstateEventKind::AwaitsRestore);
            }
            None => {}
        }
    }

    /// The last restore of a partition.
    pub(in crate::simulator) fn restore_of(&self, id: Uuid) -> Option<&Restore> {
        self.backup_service.restores.get(&id)
    }

    pub(super) fn restore_runs(&self, id: Uuid) -> bool {
        self.restore_of(id).is_some_and(|it| !it.state.is_end())
    }

    /// Listed backups of a scope whose chain is complete, oldest first.
    fn sources(&self, scope: &Entity, now: DateTime<Utc>) -> Result<Vec<RestoreSource>, Rejection> {
        let listed = self.listed(scope, now)?;
        let has_full = |chain: Uuid| listed.iter().any(|it| it.backup.id == chain);
        let complete = listed.iter().filter(|it| has_full(it.backup.chain));
        Ok(complete
            .map(|it| RestoreSource {
                partition: it.folder.partition,
                backup: it.backup.clone(),
            })
            .collect())
    }

    fn begin_restore(
        &mut self,
        id: Uuid,
        source: RestoreSource,
        plan: RestorePlan,
        at: DateTime<Utc>,
    ) {
        let next = later(at, plan.accepted_for);
        let event = ScheduledEvent::Replica(id, Step::Restore);
        self.backup_service.agenda.insert(next, event);
        let restore = Restore {
            state: RestoreState::Accepted,
            ended: None,
            target: Some((source.backup.epoch, source.backup.lsn)),
            plan,
            source,
        };
        self.backup_service.restores.insert(id, restore);
    }

    pub(super) fn advance_restore(&mut self, id: Uuid, at: DateTime<Utc>) {
        let Some(restore) = self.backup_service.restores.get_mut(&id) else {
            return;
        };
        let is_valid = restore.source.backup.validation == Validation::None;
        let next = match (restore.state, restore.plan.outcome) {
            (RestoreState::Accepted, _) => {
                restore.state = RestoreState::RestoreInProgress;
                Some(restore.plan.running_for)
            }
            (RestoreState::RestoreInProgress, RestoreOutcome::Success) if is_valid => {
                restore.state = RestoreState::SecondariesInProgress;
                let source = restore.source.clone();
                let secondaries = restore.plan.secondaries_for;
                self.raise_data_loss(id, at);
                self.backup_service.stop_for_restore(id);
                self.apply(id, &source, at);
                if secondaries.is_zero() {
                    return self.advance_restore(id, at);
                }
                Some(secondaries)
            }
            (RestoreState::RestoreInProgress, outcome) => {
                restore.target = None;
                restore.state = match outcome {
                    RestoreOutcome::Timeout => RestoreState::Timeout,
                    _ => RestoreState::Failure,
                };
                None
            }
            (RestoreState::SecondariesInProgress, _) => {
                restore.state = RestoreState::Success;
                restore.ended = Some(at);
                self.backup_service
                    .report(id, HealthReportKind::Restored, at);
                None
            }
            _ => None,
        };
        if let Some(delay) = next {
            let event = ScheduledEvent::Replica(id, Step::Restore);
            self.backup_service.agenda.insert(later(at, delay), event);
        }
    }

    /// A restore is a deliberate data loss (`FailoverUnit.cpp`, `UpdateEpochForDataLoss`).
    fn raise_data_loss(&mut self, id: Uuid, at: DateTime<Utc>) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.epoch.data_loss = filetime(at).max(partition.epoch.data_loss + 1);
        }
    }

    /// Applies the state of a backup and its schedule (`BackupRestoreManager.cs`,
    /// `InitializeAsync`): armed as after a change of primary if the backup belongs to this
    /// partition, requested anew otherwise. Then the backup service sends the current policy.
    fn apply(&mut self, id: Uuid, source: &RestoreSource, at: DateTime<Utc>) {
        if let (Some(partition), Some(lsn)) = (self.partitions.get_mut(&id), source.backup.lsn) {
            partition.lsn = lsn;
        }
        let is_own = source.partition == id;
        let replica = self.backup_service.replica_mut(id);
        replica.awaits_restore = false;
        replica.take_over(TimeDelta::zero());
        replica.restart(None, at);
        if is_own {
            replica.metadata = source.backup.metadata.clone();
        }
        self.backup_service
            .record_event(at, id, EstateEventKind::Restored);
        if is_own {
            self.backup_service.arm(id, Reason::Takeover, at);
        } else {
            self.ask_for_policy(id, at);
        }
        self.send(&Entity::Partition(id), WorkItem::Enable, at);
    }
}
