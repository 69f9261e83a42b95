//! Changes to stored backups from outside the backup service.
//!
//! Results of validation and manual deletions, in the storage of the policy that applies; no effect
//! without one.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Estate;
use super::log::EstateEventKind;
use super::store::{FolderContents, Validation};

impl Estate {
    /// Sets the validation result of a backup.
    pub fn record_check(&mut self, id: Uuid, backup: Uuid, found: Validation) {
        let backups = self
            .folder_contents(id)
            .map(|contents| &mut contents.backups);
        let mut backups = backups.into_iter().flatten();
        if let Some(backup) = backups.find(|it| it.id == backup) {
            backup.validation = found;
        }
    }

    /// Deletes a backup of a partition; increments that depend on it stay.
    pub fn delete_backup(&mut self, id: Uuid, backup: Uuid, now: DateTime<Utc>) {
        let Some(storage_id) = self.applied_policy(id).map(|policy| policy.storage_id) else {
            return;
        };
        if let Some(contents) = self.folder_contents(id) {
            contents.backups.retain(|it| it.id != backup);
        }
        let deleted = EstateEventKind::Deleted { storage_id, backup };
        self.backup_service.record_event(now, id, deleted);
    }

    fn folder_contents(&mut self, id: Uuid) -> Option<&mut FolderContents> {
        let storage_id = self.applied_policy(id)?.storage_id;
        let folder = self.folder_of(id)?;
        self.backup_service
            .stores
            .folder_contents_mut(storage_id, &folder)
    }
}
