//! Propagation of configuration changes to replicas.
//!
//! Implements the queue of the backup service and the reaction of replicas. The queue is processed
//! every five seconds in batches of five; an item that cannot be delivered is retried after 1, 2, 4
//! and then every 8 minutes (`BaseWorkItemQueue.cs`). An item is checked against the configuration
//! at its delivery, so a change that is reverted before has no effect
//! (`SendToServiceNodeWorkItem.cs`).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::agenda::{ScheduledEvent, Step, WorkItem};
use super::health_event::HealthReportKind;
use super::log::EstateEventKind;
use super::policy::PolicyVersion;
use super::time::later;
use super::{Entity, Estate};

/// Batch size; a full batch is followed by the next.
const BATCH: usize = 5;

/// Approximate duration of a batch (inferred).
const BATCH_TAKES: Duration = Duration::from_millis(50);

/// Minutes until an undeliverable item is retried.
const REDELIVERIES: [u64; 4] = [1, 2, 4, 8];

impl Estate {
    /// Makes the primaries of these partitions unreachable for the backup service for a while.
    pub fn isolate(&mut self, ids: impl IntoIterator<Item = Uuid>, window: &Range<DateTime<Utc>>) {
        let windows = ids.into_iter().map(|id| (id, window.clone()));
        self.backup_service.unreachable.extend(windows);
    }

    /// Sends a change to the replicas below an entity: an application or service is first
    /// resolved to its partitions, which takes a round more (`ResolveToPartitionWorkItem.cs`).
    pub(super) fn send(&mut self, entity: &Entity, item: WorkItem, now: DateTime<Utc>) {
        let every = self.backup_service.tempo.propagation;
        let mut at = next_round(now, every);
        if !matches!(entity, Entity::Partition(_)) {
            at = later(at, every);
        }
        for (index, id) in self.partitions_of(entity).into_iter().enumerate() {
            let batch = u32::try_from(index / BATCH).unwrap_or(u32::MAX);
            let pause = if every.is_zero() {
                Duration::ZERO
            } else {
                BATCH_TAKES * batch
            };
            let event = ScheduledEvent::Replica(id, Step::Deliver(item, 0));
            self.backup_service.agenda.insert(later(at, pause), event);
        }
    }

    pub(super) fn deliver(&mut self, id: Uuid, item: WorkItem, failures: u8, at: DateTime<Utc>) {
        if !self.partitions.contains_key(&id) {
            return;
        }
        let isolated = self.backup_service.unreachable.get(&id);
        if isolated.is_some_and(|it| it.contains(&at)) {
            let known = REDELIVERIES.get(usize::from(failures));
            let minutes = known.copied().unwrap_or(REDELIVERIES[3]);
            let again = later(at, Duration::from_secs(60 * minutes));
            let step = Step::Deliver(item, failures.saturating_add(1));
            return self
                .backup_service
                .agenda
                .insert(again, ScheduledEvent::Replica(id, step));
        }
        let applied = self.applied_policy(id);
        let suspended = self.suspension_of(&Entity::Partition(id)).is_some();
        match (item, applied) {
            (WorkItem::Disable, None) => self.disable_replica(id, at),
            (WorkItem::Suspend, _) if suspended => self.disable_replica(id, at),
            (WorkItem::Enable | WorkItem::Disable, Some(policy)) if !suspended => {
                self.enable_replica(id, policy, at);
            }
            _ => {}
        }
    }

    /// A new partition requests its policy from the backup service.
    pub(super) fn ask_for_policy(&mut self, id: Uuid, at: DateTime<Utc>) {
        let entity = Entity::Partition(id);
        let suspended = if self.backup_service.behaviour.newcomers_ignore_suspension {
            self.backup_service.is_suspended(&entity)
        } else {
            self.suspension_of(&entity).is_some()
        };
        if let Some(policy) = self.applied_policy(id).filter(|_| !suspended) {
            self.enable_replica(id, policy, at);
        }
    }

    /// Schedules the first policy request of a new partition.
    pub(super) fn inform_newcomer(&mut self, id: Uuid, now: DateTime<Utc>) {
        let is_persisted = !self.partitions_of(&Entity::Partition(id)).is_empty();
        if is_persisted && !self.backup_service.mappings.is_empty() {
            self.backup_service
                .agenda
                .insert(now, ScheduledEvent::Replica(id, Step::Ask));
        }
    }

    /// Starts or changes the policy of a replica (`UpdateBackupSchedulingPolicyAsync`); the same
    /// version of the same policy changes nothing.
    fn enable_replica(&mut self, id: Uuid, policy: Arc<PolicyVersion>, at: DateTime<Utc>) {
        let backup_service = &mut self.backup_service;
        let replica = backup_service.replica_mut(id);
        let active = replica.metadata.active.as_ref();
        if active.is_some_and(|it| it.version == policy.version) {
            return;
        }
        replica.restart(Some(policy), at);
        let is_running = replica.running.is_some();
        backup_service.record_event(at, id, EstateEventKind::Configured { active: true });
        // A running backup is discarded; its end arms the timer.
        if !is_running {
            backup_service.arm_first(id, at);
        }
    }

    /// Ends or suspends protection: timer and schedule are removed, the health event is cleared.
    fn disable_replica(&mut self, id: Uuid, at: DateTime<Utc>) {
        let backup_service = &mut self.backup_service;
        let replica = backup_service.replica_mut(id);
        let was_active = replica.metadata.active.is_some();
        replica.restart(None, at);
        replica.awaits_restore = false;
        if replica.running.is_none() {
            backup_service.set_timer(id, None);
        } else {
            backup_service.discard_running(id, at);
        }
        backup_service.report(id, HealthReportKind::Disabled, at);
        if was_active {
            backup_service.record_event(at, id, EstateEventKind::Configured { active: false });
        }
    }
}

/// Time of the next round of the queue after `now`.
fn next_round(now: DateTime<Utc>, every: Duration) -> DateTime<Utc> {
    let millis = i64::try_from(every.as_millis()).unwrap_or_default();
    if millis == 0 {
        return now;
    }
    let wait = millis - now.timestamp_millis().rem_euclid(millis);
    later(now, Duration::from_millis(wait.unsigned_abs()))
}
