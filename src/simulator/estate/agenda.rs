//! What happens next, in order of time.
//!
//! Responsible for the order alone: events of one moment come in a fixed order, so that many
//! small steps of time and a large one give the same world.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Everything that will happen.
#[derive(Debug, Default)]
pub(super) struct Agenda(BTreeSet<(DateTime<Utc>, ScheduledEvent)>);

/// Something that happens without being asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ScheduledEvent {
    /// A step of an on-demand backup: of the request with this number or, where the primary
    /// finishes, of its work with this number.
    Request(Uuid, u64, RequestStep),
    /// Something happens to the replica of a partition.
    Replica(Uuid, Step),
    /// Retention of a policy runs, for the setting with this number, after so many failed tries.
    Retention(Arc<str>, u64, u8),
    /// The backups of a `CleanBackup` are deleted.
    CleanUp(u64),
}

/// A step of an on-demand backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RequestStep {
    /// The backup service gives up on it.
    Expire,
    /// The backup service sends it to the primary.
    Deliver,
    /// The primary has finished it, or was cancelled.
    Finish,
}

/// Something that happens to the replica of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// The queue delivers a change of the configuration, after so many failed deliveries.
    Deliver(WorkItem, u8),
    /// A new partition asks for its policy.
    Ask,
    /// Its timer dies, and nobody notices.
    Silence,
    /// A backup starts.
    Start,
    /// The backup that runs has ended.
    End,
    /// A restore moves along.
    Restore,
}

/// Work items of the queue (`SendToServiceNodeWorkItem.cs`): each is checked against the
/// configuration of the moment when it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WorkItem {
    /// Enable, update, resume, and the push after a restore.
    Enable,
    Disable,
    Suspend,
}

impl Agenda {
    pub(super) fn insert(&mut self, at: DateTime<Utc>, event: ScheduledEvent) {
        self.0.insert((at, event));
    }

    pub(super) fn remove(&mut self, at: DateTime<Utc>, event: ScheduledEvent) {
        self.0.remove(&(at, event));
    }

    /// Takes out the first event that is due at `now`.
    pub(super) fn next(&mut self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, ScheduledEvent)> {
        self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.pop_first()
    }
}
