//! Deletion of backups: retention and `CleanBackup` (`RetentionManager.cs`).
//!
//! Both process existing partitions and the current storage of a policy: folders of removed
//! partitions, and backups in a storage that the policy used before, stay for ever.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::agenda::ScheduledEvent;
use super::backup_service::BackupService;
use super::log::EstateEventKind;
use super::policy::{PolicyVersion, Retention, SetRetention};
use super::storage_id::StorageId;
use super::store::{Backup, CleanUp, FolderContents};
use super::time::later;
use super::{Entity, Estate, Rejection};

/// Attempts of a failed retention run, a minute apart.
const TRIES: u8 = 5;

/// Approximate duration of `CleanBackup` (inferred).
const CLEANS_UP_AFTER: Duration = Duration::from_secs(20);

impl Estate {
    /// Disables the policy of an entity and deletes the backups of its partitions in the storage of
    /// that policy (`DisableBackupMappingOperation.cs`), in the background. Includes on-demand
    /// backups and, for an application, backups of services with a policy of their own.
    pub fn disable_and_clean(
        &mut self,
        entity: &Entity,
        now: DateTime<Utc>,
    ) -> Result<(), Rejection> {
        self.tick(now);
        let before = self.backup_service.own_policy(entity);
        let before = before
            .and_then(|it| self.backup_service.policies.by_name.get(it))
            .cloned();
        self.disable(entity, now)?;
        let Some(policy) = before else {
            return Ok(());
        };
        if !self.cleans(entity, &policy) {
            return Ok(());
        }
        let serial = self.backup_service.next_serial();
        let clean_up = CleanUp {
            storage_id: policy.storage_id,
            scope: entity.clone(),
        };
        self.backup_service.clean_ups.insert(serial, clean_up);
        let at = later(now, CLEANS_UP_AFTER);
        self.backup_service
            .agenda
            .insert(at, ScheduledEvent::CleanUp(serial));
        Ok(())
    }

    /// Whether `CleanBackup` deletes anything if another policy is inherited from then on: it
    /// should keep the backups that this policy lists, and does the opposite.
    fn cleans(&self, entity: &Entity, policy: &PolicyVersion) -> bool {
        let Some(inherited) = self.policy_of(entity) else {
            return true;
        };
        let policies = &self.backup_service.policies;
        let is_same = policies.counts_as(policy) == policies.counts_as(inherited);
        is_same == self.backup_service.behaviour.inverted_clean_up
    }

    pub(super) fn clean_up(&mut self, serial: u64, at: DateTime<Utc>) {
        let Some(clean_up) = self.backup_service.clean_ups.remove(&serial) else {
            return;
        };
        for id in self.partitions_of(&clean_up.scope) {
            let own = Entity::Partition(id);
            // The filter considers mappings of partitions only.
            if own != clean_up.scope && self.backup_service.own_policy(&own).is_some() {
                continue;
            }
            self.delete(id, clean_up.storage_id, at, |contents| {
                contents.taken_before(at)
            });
        }
    }

    /// Moves the primary of the backup service: in 6.4 the retention timers are recreated but not
    /// armed. All other work continues from replicated state.
    pub fn fail_over_backup_service(&mut self, now: DateTime<Utc>) {
        self.tick(now);
        if self.backup_service.behaviour.retention_stops_after_failover {
            for set in self.backup_service.policies.retentions.values_mut() {
                set.serial = 0;
            }
        }
    }

    pub(super) fn run_retention(
        &mut self,
        name: &Arc<str>,
        serial: u64,
        tries: u8,
        at: DateTime<Utc>,
    ) {
        let policies = &self.backup_service.policies;
        let set = policies.retentions.get(name);
        let set = set.filter(|it| it.serial == serial).map(|it| it.retention);
        let (Some(retention), Some(policy)) = (set, policies.by_name.get(name).cloned()) else {
            return;
        };
        if policies.listing_fails(name, at) && tries < TRIES {
            let again = later(at, Duration::from_secs(60));
            let event = ScheduledEvent::Retention(Arc::clone(name), serial, tries + 1);
            return self.backup_service.agenda.insert(again, event);
        }
        if !policies.listing_fails(name, at) {
            for id in self.partitions_under(&policy) {
                self.delete(id, policy.storage_id, at, |contents| {
                    contents.expired(retention, at)
                });
            }
        }
        self.backup_service
            .plan_retention(name, serial, retention, at);
    }

    /// Existing partitions for which a policy is the effective one.
    fn partitions_under(&self, policy: &PolicyVersion) -> Vec<Uuid> {
        let entities = self.backup_service.enabled_with(&policy.policy.name);
        let ids = entities.iter().flat_map(|it| self.partitions_of(it));
        ids.filter(|id| {
            let applied = self.applied_policy(*id);
            applied.is_some_and(|it| it.version == policy.version)
        })
        .collect()
    }

    /// Deletes backups of a partition in a storage.
    fn delete(
        &mut self,
        id: Uuid,
        storage_id: StorageId,
        at: DateTime<Utc>,
        which: impl Fn(&FolderContents) -> Range<usize>,
    ) {
        let Some(folder) = self.folder_of(id) else {
            return;
        };
        let Some(backups) = self
            .backup_service
            .stores
            .folder_contents_mut(storage_id, &folder)
        else {
            return;
        };
        let which = which(backups);
        for backup in backups.take(which) {
            let what = EstateEventKind::Deleted {
                storage_id,
                backup: backup.id,
            };
            self.backup_service.record_event(at, id, what);
        }
    }
}

impl BackupService {
    /// Retention is armed where it is set or changed, and only there.
    pub(super) fn arm_retention(&mut self, policy: &PolicyVersion, now: DateTime<Utc>) {
        let name: Arc<str> = policy.policy.name.as_str().into();
        let Some(retention) = policy.policy.retention else {
            self.policies.retentions.remove(&name);
            return;
        };
        let known = self.policies.retentions.get(&name);
        if known.is_some_and(|it| it.retention == retention) {
            return;
        }
        let serial = self.next_serial();
        let set = SetRetention { retention, serial };
        self.policies.retentions.insert(Arc::clone(&name), set);
        self.plan_retention(&name, serial, retention, now);
    }

    fn plan_retention(
        &mut self,
        name: &Arc<str>,
        serial: u64,
        retention: Retention,
        at: DateTime<Utc>,
    ) {
        let day = self.tempo.hour * 24;
        let every = if retention.duration < day {
            self.tempo.hour
        } else {
            day
        };
        let event = ScheduledEvent::Retention(Arc::clone(name), serial, 0);
        self.agenda.insert(later(at, every), event);
    }
}

impl FolderContents {
    /// Backups taken before this time.
    fn taken_before(&self, moment: DateTime<Utc>) -> Range<usize> {
        0..self.backups.partition_point(|it| it.taken < moment)
    }

    /// Backups that retention deletes (`RetentionManager.cs`, `DeleteFilesForPartition`): of those
    /// older than the duration, the ones before the newest full one, newest first, as long as more
    /// than the minimum remain. So whole chains stay, and of a chain that the minimum protects in
    /// part its beginning.
    fn expired(&self, retention: Retention, now: DateTime<Utc>) -> Range<usize> {
        let old = |it: &Backup| later(it.taken, retention.duration) < now;
        let old = self.backups.partition_point(old);
        let full = self.backups.range(..old).rposition(|it| it.full);
        let end = full.unwrap_or_default();
        let spare = self.backups.len().saturating_sub(retention.minimum);
        end - end.min(spare)..end
    }
}
