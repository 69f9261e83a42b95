//! What becomes of stored backups without the backup service.
//!
//! Responsible for what checks of a storage find, and for files that go because somebody deletes
//! them. Both concern the storage of the policy that applies, and nothing where none does.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Estate;
use super::log::Happening;
use super::store::{Shelf, Validation};

impl Estate {
    /// A check of the storage finds this of a backup of a partition.
    pub fn record_check(&mut self, id: Uuid, backup: Uuid, found: Validation) {
        let backups = self.shelf_of(id).map(|shelf| &mut shelf.backups);
        let mut backups = backups.into_iter().flatten();
        if let Some(backup) = backups.find(|it| it.id == backup) {
            backup.validation = found;
        }
    }

    /// Somebody deletes a backup of a partition; increments that need it stay behind.
    pub fn delete_backup(&mut self, id: Uuid, backup: Uuid, now: DateTime<Utc>) {
        let Some(place) = self.applied_policy(id).map(|policy| policy.place) else {
            return;
        };
        if let Some(shelf) = self.shelf_of(id) {
            shelf.backups.retain(|it| it.id != backup);
        }
        let deleted = Happening::Deleted { place, backup };
        self.periodic.note(now, id, deleted);
    }

    fn shelf_of(&mut self, id: Uuid) -> Option<&mut Shelf> {
        let place = self.applied_policy(id)?.place;
        let folder = self.folder_of(id)?;
        self.periodic.stores.shelf_mut(place, &folder)
    }
}
