//! Periodic backups: snapshot, upload and result.
//!
//! Determines the start and end of a backup and its effects: a file in a storage, a health report,
//! a recovery point, an armed timer. Must not change the record of requested backups. Follows
//! `BackupRestoreManager.cs` (`TimerCallback`, `BackupCallback`, `PostBackupContinuationTask`).

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Estate;
use super::agenda::Step;
use super::backup_service::BackupService;
use super::health_event::HealthReportKind;
use super::log::EstateEventKind;
use super::replica::{RunningBackup, StateProvider, draw};
use super::store::{Backup, Validation};
use super::time::later;
use super::timer::Reason;
use crate::simulator::record::Epoch;

impl Estate {
    /// Starts a backup when the timer fires, or waits for a running requested one.
    pub(super) fn start_backup(&mut self, id: Uuid, at: DateTime<Utc>) {
        if let Some(free) = self.requests.busy_until(id).filter(|free| *free > at) {
            return self.backup_service.set_timer(id, Some((free, Step::Start)));
        }
        let provider = self.provider_of(id);
        let backup_service = &mut self.backup_service;
        let (Some(partition), Some(replica)) = (
            self.partitions.get_mut(&id),
            backup_service.replicas.get_mut(&id),
        ) else {
            return;
        };
        let Some(policy) = replica.metadata.active.clone() else {
            return;
        };
        // The schedule is stored in the partition, so even an idle one writes a little.
        partition.lsn += replica.rng.u64(1..500);
        let taken = later(at, draw(&mut replica.rng, &backup_service.tempo.snapshot));
        let ended = later(taken, draw(&mut replica.rng, &backup_service.tempo.upload));
        let backup = replica.new_id();
        let most = policy.policy.max_incremental_backups;
        replica.running = Some(RunningBackup {
            policy,
            metadata: replica.metadata.clone(),
            backup,
            chain: replica.next_chain(backup, provider, most),
            taken,
            lsn: partition.lsn,
            uploads: true,
            successor: None,
        });
        backup_service.attempts += 1;
        backup_service.set_timer(id, Some((ended, Step::End)));
    }

    /// Ends the upload, successful or not.
    pub(super) fn end_backup(&mut self, id: Uuid, at: DateTime<Utc>) {
        let backup_service = &mut self.backup_service;
        backup_service.set_timer(id, None);
        let Some(replica) = backup_service.replicas.get_mut(&id) else {
            return;
        };
        let Some(running) = replica.running.take() else {
            return;
        };
        let uploaded =
            running.uploads && !backup_service.policies.storage_fails(&running.policy, at);
        // The policy changed since the backup began: the callback returns false.
        let discarded = replica.metadata.active.is_none()
            || replica.metadata.updated != running.metadata.updated;
        if uploaded {
            self.store_periodic(id, &running, at);
        }
        if let Some(clock) = running.successor {
            // "Not primary" ends the work of the old replica without a report.
            self.backup_service
                .record_event(at, id, EstateEventKind::Failed);
            self.install_primary(id, clock, at);
        } else if uploaded && !discarded {
            self.backup_service.count(id, &running, at);
        } else {
            let provider = self.provider_of(id);
            self.backup_service.fail(id, provider, at);
        }
        self.begin_waiting_request(id, at);
    }

    fn store_periodic(&mut self, id: Uuid, running: &RunningBackup, at: DateTime<Utc>) {
        let is_actor = self.provider_of(id) == StateProvider::KeyValueStore;
        let Some(partition) = self.partitions.get(&id) else {
            return;
        };
        let clock = self.backup_service.replicas.get(&id).map(|it| it.clock);
        let backup = Backup {
            id: running.backup,
            chain: running.chain.id,
            full: running.chain.id == running.backup,
            taken: running.taken + clock.unwrap_or_default(),
            lsn: (!is_actor).then_some(running.lsn),
            epoch: if is_actor {
                Epoch::default()
            } else {
                partition.epoch
            },
            validation: Validation::None,
            metadata: running.metadata.clone(),
        };
        let storage_id = running.policy.storage_id;
        self.store(id, storage_id, backup, running.taken, at);
    }

    /// The state provider of the service of a partition.
    pub(super) fn provider_of(&self, id: Uuid) -> StateProvider {
        let partition = self.partitions.get(&id);
        let service = partition.and_then(|it| self.services.get(&it.service));
        service.map(|it| it.provider).unwrap_or_default()
    }
}

impl BackupService {
    /// Records a backup that was uploaded under the current policy.
    fn count(&mut self, id: Uuid, running: &RunningBackup, at: DateTime<Utc>) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        // A run that started early must not be repeated.
        let shift = if replica.jitter < TimeDelta::zero() {
            replica.jitter.abs() + TimeDelta::seconds(1)
        } else {
            TimeDelta::zero()
        };
        replica.metadata.recovery_point = Some(at + replica.clock + shift);
        replica.chain = Some(running.chain);
        let taken = running.taken;
        self.record_event(at, id, EstateEventKind::BackedUp { taken });
        self.report(id, HealthReportKind::BackedUp, at);
        self.arm(id, Reason::Scheduled, at);
    }

    /// Records a backup that failed or was discarded. The store of an actor service reports both as
    /// a success (`ReplicatedStore.BackupAsyncOperation.cpp`, `OnUserPostBackupCompleted`).
    fn fail(&mut self, id: Uuid, provider: StateProvider, at: DateTime<Utc>) {
        self.record_event(at, id, EstateEventKind::Failed);
        if self.drops_upload_errors(provider) {
            self.report(id, HealthReportKind::BackedUp, at);
            self.arm(id, Reason::Scheduled, at);
        } else {
            self.report(id, HealthReportKind::Failed, at);
            self.arm_after_failure(id, at);
        }
    }

    pub(super) fn drops_upload_errors(&self, provider: StateProvider) -> bool {
        provider == StateProvider::KeyValueStore && self.behaviour.actors_drop_upload_errors
    }

    /// The policy changed while a backup runs. If protection ended before the snapshot was
    /// complete, nothing is uploaded.
    pub(super) fn discard_running(&mut self, id: Uuid, at: DateTime<Utc>) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        let is_active = replica.metadata.active.is_some();
        let Some(running) = replica.running.as_mut() else {
            return;
        };
        if !is_active && running.taken > at {
            running.uploads = false;
            let taken = running.taken;
            self.set_timer(id, Some((taken, Step::End)));
        }
    }
}
