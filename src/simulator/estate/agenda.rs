//! Scheduled events in order of time.
//!
//! Simultaneous events have a fixed order, so that many small steps of time and one large step give
//! the same state.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The queue of scheduled events.
#[derive(Debug, Default)]
pub(super) struct Agenda(BTreeSet<(DateTime<Utc>, ScheduledEvent)>);

/// A scheduled event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ScheduledEvent {
    /// A step of an on-demand backup, with the serial number of the request or, for `Finish`, of
    /// its execution.
    Request(Uuid, u64, RequestStep),
    /// A step of the replica of a partition.
    Replica(Uuid, Step),
    /// Retention of a policy runs: serial number of the setting, failed attempts so far.
    Retention(Arc<str>, u64, u8),
    /// The deletion of a `CleanBackup`, by serial number.
    CleanUp(u64),
}

/// A step of an on-demand backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RequestStep {
    /// The request times out.
    Expire,
    /// The backup service sends it to the primary.
    Deliver,
    /// The primary has finished it, or was cancelled.
    Finish,
}

/// A step of the replica of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// The queue delivers a change of the configuration, after this many failed deliveries.
    Deliver(WorkItem, u8),
    /// A new partition requests its policy.
    Ask,
    /// Its timer stops without a trace.
    Silence,
    /// A backup starts.
    Start,
    /// The running backup ends.
    End,
    /// A restore enters its next state.
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

    /// Removes and returns the first event that is due at `now`.
    pub(super) fn next(&mut self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, ScheduledEvent)> {
        self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.pop_first()
    }
}
