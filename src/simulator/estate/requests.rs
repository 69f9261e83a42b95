//! Requests for backups that have not ended, and their execution by primaries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::policy::PolicyVersion;
use super::time::later;
use crate::simulator::record::BackupPlan;

/// Interval after which the backup service sends a request again (`BackupPartitionWorkItem.cs`).
pub(super) const RESEND: Duration = Duration::from_secs(30);

/// Requested backups that have not ended.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) pending: HashMap<Uuid, PendingRequest>,
    pub(super) executions: HashMap<Uuid, Execution>,
}

/// A request that the backup service waits for.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub(super) serial: u64,
    pub(super) plan: BackupPlan,
}

/// Execution of a request by a primary.
#[derive(Debug)]
pub(super) struct Execution {
    /// Serial number of the execution; the next primary has another one for the same request.
    pub(super) number: u64,
    /// Serial number of the request.
    pub(super) serial: u64,
    pub(super) plan: BackupPlan,
    pub(super) policy: Option<Arc<PolicyVersion>>,
    /// Timeout on the primary: its own `BackupTimeout`.
    pub(super) deadline: Option<DateTime<Utc>>,
    /// Start of the backup; `None` while it waits for another one.
    pub(super) began: Option<DateTime<Utc>>,
}

impl Execution {
    /// End of a backup that began at this time.
    pub(super) fn ends(&self, began: DateTime<Utc>) -> DateTime<Utc> {
        later(began, self.plan.running_for)
    }
}

impl Requests {
    /// End of the requested backup that the primary is taking.
    pub(super) fn busy_until(&self, id: Uuid) -> Option<DateTime<Utc>> {
        let execution = self.executions.get(&id)?;
        let ends = execution.ends(execution.began?);
        Some(execution.deadline.map_or(ends, |it| it.min(ends)))
    }

    /// Serial number of the request that the backup service waits for.
    pub(super) fn serial_of(&self, id: Uuid) -> Option<u64> {
        Some(self.pending.get(&id)?.serial)
    }

    /// Drops the execution of a request.
    pub(super) fn drop_execution(&mut self, id: Uuid) {
        self.executions.remove(&id);
    }

    pub(super) fn forget(&mut self, id: Uuid) {
        self.pending.remove(&id);
        self.executions.remove(&id);
    }
}
