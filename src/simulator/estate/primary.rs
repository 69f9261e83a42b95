//! Changes of the primary replica.
//!
//! Determines the effect on a running backup and on the timer of the next primary, which reads
//! schedule and last recovery point from the partition.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Estate;
use super::agenda::RequestStep;
use super::agenda::ScheduledEvent;
use super::health_event::HealthReportKind;
use super::log::EstateEventKind;
use super::replica::StateProvider;
use super::requests::RESEND;
use super::time::later;
use super::timer::Reason;

impl Estate {
    /// Moves the primary of a partition to a node with a correct clock.
    pub fn move_primary(&mut self, id: Uuid, now: DateTime<Utc>) {
        self.move_primary_to(id, TimeDelta::zero(), now);
    }

    /// Moves the primary of a partition to a node with this clock offset. The change of role waits
    /// for a running periodic backup (`LoggingReplicator.cs`), which is then listed but not
    /// counted.
    pub fn move_primary_to(&mut self, id: Uuid, clock: TimeDelta, now: DateTime<Utc>) {
        self.tick(now);
        if !self.partitions.contains_key(&id) {
            return;
        }
        self.cancel_request(id, now);
        let replica = self.backup_service.replica_mut(id);
        match replica.running.as_mut() {
            Some(running) => running.successor = Some(clock),
            None => self.install_primary(id, clock, now),
        }
    }

    /// Closes or aborts the primary replica of a partition, as a restart of its node does, and
    /// lets another take over. A backup under way is cancelled: during its snapshot it reports Ok
    /// without a backup, because only faulted tasks count as failures; during the upload it ends
    /// in a transient error, a Warning (`BackupRestoreManager.cs`, `InteropExceptionMap.cs`).
    pub fn close_primary(&mut self, id: Uuid, now: DateTime<Utc>) {
        self.tick(now);
        if !self.partitions.contains_key(&id) {
            return;
        }
        self.cancel_request(id, now);
        let provider = self.provider_of(id);
        let running = self.backup_service.replica_mut(id).running.take();
        self.backup_service.set_timer(id, None);
        if let Some(running) = running {
            let backup_service = &mut self.backup_service;
            let reports_ok = if running.taken > now {
                backup_service.behaviour.cancelled_reports_ok
            } else {
                provider == StateProvider::KeyValueStore
                    && backup_service.drops_upload_errors(provider)
            };
            let kind = if reports_ok {
                HealthReportKind::BackedUp
            } else {
                HealthReportKind::Failed
            };
            backup_service.report(id, kind, now);
            backup_service.record_event(now, id, EstateEventKind::Failed);
        }
        self.install_primary(id, TimeDelta::zero(), now);
    }

    /// Completes a change of primary (`BackupRestoreManager.cs`, `InitializeAsync`).
    pub(super) fn install_primary(&mut self, id: Uuid, clock: TimeDelta, at: DateTime<Utc>) {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        partition.epoch.configuration += 1 << 32;
        self.backup_service.replica_mut(id).take_over(clock);
        self.backup_service
            .record_event(at, id, EstateEventKind::PrimaryMoved);
        self.backup_service.arm(id, Reason::Takeover, at);
    }

    /// A requested backup is lost with its primary; the backup service sends it again to the
    /// next one.
    fn cancel_request(&mut self, id: Uuid, now: DateTime<Utc>) {
        self.requests.drop_execution(id);
        if let Some(serial) = self.requests.serial_of(id) {
            let event = ScheduledEvent::Request(id, serial, RequestStep::Deliver);
            self.backup_service.agenda.insert(later(now, RESEND), event);
        }
    }
}
