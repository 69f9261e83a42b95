//! State of the backup service: policies, mappings, replicas, storages and scheduled events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::agenda::{Agenda, ScheduledEvent, Step};
use super::behaviour::Behaviour;
use super::entity::{Entity, Mappings};
use super::health_event::{HealthReport, HealthReportKind};
use super::log::{EstateEvent, EstateEventKind};
use super::policy::{Policies, PolicyVersion};
use super::replica::{Replica, Tempo};
use super::restore_progress::Restore;
use super::storage_id::StorageId;
use super::store::{Backup, CleanUp, Stores, Validation};
use super::time::later;
use super::timer::Reason;

/// State of the backup service and of the replicas it controls.
#[derive(Debug, Default)]
pub(in crate::simulator) struct BackupService {
    pub(in crate::simulator) policies: Policies,
    pub(in crate::simulator) behaviour: Behaviour,
    pub(super) mappings: Mappings,
    pub(super) suspensions: BTreeSet<Entity>,
    pub(super) tempo: Tempo,
    pub(super) stores: Stores,
    pub(super) replicas: HashMap<Uuid, Replica>,
    pub(super) restores: HashMap<Uuid, Restore>,
    pub(super) clean_ups: BTreeMap<u64, CleanUp>,
    /// Periods in which primaries are unreachable for the backup service.
    pub(super) unreachable: HashMap<Uuid, Range<DateTime<Utc>>>,
    pub(super) agenda: Agenda,
    pub(super) attempts: u64,
    /// Events since the last call of `take_log`; `None` before the first one.
    pub(super) log: Option<Vec<EstateEvent>>,
    serial: u64,
    /// Time up to which all events were processed.
    pub(super) time: DateTime<Utc>,
}

impl BackupService {
    /// The effective time of a query: no earlier than the last processed time.
    pub(super) fn present(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.time.max(now)
    }

    /// Returns a new serial number.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Replaces the timer of a replica.
    pub(super) fn set_timer(&mut self, id: Uuid, next: Option<(DateTime<Utc>, Step)>) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut replica.timer, next);
        if let Some((at, step)) = before {
            self.agenda.remove(at, ScheduledEvent::Replica(id, step));
        }
        if let Some((at, step)) = next {
            self.agenda.insert(at, ScheduledEvent::Replica(id, step));
        }
    }

    /// Arms the timer of a replica for the next run of its schedule.
    pub(super) fn arm(&mut self, id: Uuid, reason: Reason, at: DateTime<Utc>) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        if replica.silenced || replica.awaits_restore {
            return;
        }
        let is_active = replica.metadata.active.is_some();
        let due = replica.arm(reason, at, &self.tempo, self.behaviour);
        self.set_timer(id, due.map(|due| (due, Step::Start)));
        match due {
            Some(due) => self.record_event(at, id, EstateEventKind::Armed { due }),
            None if is_active => self.record_event(at, id, EstateEventKind::TimerStopped),
            None => {}
        }
    }

    /// Arms the timer of a replica after a failed attempt (`BackupScheduler.cs`, `RearmTimer`).
    pub(super) fn arm_after_failure(&mut self, id: Uuid, at: DateTime<Utc>) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        if replica.silenced || replica.metadata.active.is_none() {
            return;
        }
        let Some(due) = replica.retry(at, &self.tempo) else {
            return self.arm(id, Reason::Exhausted, at);
        };
        self.set_timer(id, Some((due, Step::Start)));
        self.record_event(at, id, EstateEventKind::Armed { due });
    }

    /// Arms the timer of a schedule that was just started.
    pub(super) fn arm_first(&mut self, id: Uuid, at: DateTime<Utc>) {
        if self.behaviour.waits_after_restart {
            return self.arm(id, Reason::Scheduled, at);
        }
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        let wait = self.tempo.jitter.mul_f64(replica.rng.f64());
        let due = later(at, wait);
        self.set_timer(id, Some((due, Step::Start)));
        self.record_event(at, id, EstateEventKind::Armed { due });
    }

    pub(super) fn silence(&mut self, id: Uuid, at: DateTime<Utc>) {
        self.set_timer(id, None);
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.running = None;
            replica.silenced = true;
            self.record_event(at, id, EstateEventKind::TimerStopped);
        }
    }

    /// Removes a partition. Its backups, mapping and suspension stay.
    pub(super) fn forget_partition(&mut self, id: Uuid) {
        self.set_timer(id, None);
        self.replicas.remove(&id);
        self.restores.remove(&id);
        self.unreachable.remove(&id);
    }

    /// Reopens the replica: a running backup is lost without a report.
    pub(super) fn stop_for_restore(&mut self, id: Uuid) {
        self.set_timer(id, None);
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.running = None;
        }
    }

    /// The health events `Backup` and `Restore` that the health manager shows.
    pub(super) fn shown_reports(&self, id: Uuid, now: DateTime<Utc>) -> [Option<HealthReport>; 2] {
        let Some(replica) = self.replicas.get(&id) else {
            return [None, None];
        };
        let now = self.present(now);
        [&replica.backup, &replica.restore].map(|property| property.shown(now))
    }

    /// Sends a health report of the replica at `at`, on the clock of the cluster.
    pub(super) fn report(&mut self, id: Uuid, kind: HealthReportKind, at: DateTime<Utc>) {
        let every = self.tempo.health_reports;
        let replica = self.replica_mut(id);
        let source = at + replica.clock;
        let property = match kind {
            HealthReportKind::BackedUp | HealthReportKind::Failed | HealthReportKind::Disabled => {
                &mut replica.backup
            }
            HealthReportKind::Restored | HealthReportKind::RestoredItself => &mut replica.restore,
        };
        property.post(kind, source, at, every);
    }

    /// The replica of a partition; created on first use.
    pub(super) fn replica_mut(&mut self, id: Uuid) -> &mut Replica {
        let replica = self.replicas.entry(id);
        replica.or_insert_with(|| Replica::new(id))
    }

    /// The active policy of a replica.
    pub(super) fn active_policy(&self, id: Uuid) -> Option<&Arc<PolicyVersion>> {
        self.replicas.get(&id)?.metadata.active.as_ref()
    }

    pub(super) fn record_event(
        &mut self,
        at: DateTime<Utc>,
        partition: Uuid,
        what: EstateEventKind,
    ) {
        let happened = EstateEvent {
            at,
            partition,
            what,
        };
        if let Some(log) = &mut self.log {
            log.push(happened);
        }
    }

    pub(super) fn record_stored(
        &mut self,
        id: Uuid,
        storage_id: Option<StorageId>,
        backup: &Backup,
        taken: DateTime<Utc>,
        at: DateTime<Utc>,
    ) {
        let stored = EstateEventKind::Stored {
            storage_id,
            backup: backup.id,
            chain: backup.chain,
            taken,
            restorable: backup.validation == Validation::None,
        };
        self.record_event(at, id, stored);
    }
}
