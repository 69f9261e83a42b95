//! The simulated cluster: applications, services, partitions, their backup records, and time.
//!
//! Follows the published source of runtime 6.4. Must not read a clock or do I/O: `now` is an
//! argument and all randomness comes from the seed, so the same calls give the same state.
//! `model` owns the state, `tick` advances it, the other modules implement one concern each.

mod agenda;
mod appearance;
mod backup_service;
mod behaviour;
mod damage;
mod entity;
mod execution;
mod health;
mod health_event;
mod keys;
mod lists;
mod log;
mod model;
mod on_demand;
mod policy;
mod policy_updates;
mod population;
mod primary;
mod propagation;
mod protection;
mod rejection;
mod replica;
mod requests;
mod restore;
mod restore_progress;
mod retention;
mod storage_id;
mod store;
mod store_access;
mod tick;
mod time;
mod timer;
mod upload;

pub use appearance::Appearance;
pub use behaviour::Behaviour;
pub use entity::Entity;
pub use keys::Scheme;
pub use log::{EstateEvent, EstateEventKind};
pub use model::{Estate, ServiceKind};
pub use policy::{Policy, Retention, Schedule, Storage};
pub use rejection::Rejection;
pub use replica::{StateProvider, Tempo};
pub use restore_progress::{RestoreOutcome, RestorePlan};
pub use storage_id::StorageId;
pub use store::{Backup, Validation};

pub(super) use health::Health;
pub(super) use health_event::{HealthReport, HealthReportKind};
pub(super) use keys::Keys;
pub(super) use lists::ListedBackup;
pub(super) use model::{BACKUP_RESTORE_SERVICE, Partition, SYSTEM, Service};
pub(super) use restore_progress::Restore;
pub(super) use time::filetime;

#[cfg(test)]
mod tests;
