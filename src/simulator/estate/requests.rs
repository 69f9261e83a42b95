//! Requests for backups that have not ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::policy::PolicyVersion;
use super::time::later;
use crate::simulator::record::BackupPlan;

/// How often the backup service sends a request again (`BackupPartitionWorkItem.cs`).
pub(super) const RESEND: Duration = Duration::from_secs(30);

/// Requested backups that have not ended.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) pending: HashMap<Uuid, PendingRequest>,
    pub(super) executions: HashMap<Uuid, Execution>,
}

/// What the backup service waits for.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub(super) serial: u64,
    pub(super) plan: BackupPlan,
}

/// What a primary does about a request.
#[derive(Debug)]
pub(super) struct Execution {
    /// Its own number; the next primary has another one for the same request.
    pub(super) number: u64,
    /// That of the request.
    pub(super) serial: u64,
    pub(super) plan: BackupPlan,
    pub(super) policy: Option<Arc<PolicyVersion>>,
    /// When the primary cancels it: its own `BackupTimeout`.
    pub(super) deadline: Option<DateTime<Utc>>,
    /// When it had its turn.
    pub(super) began: Option<DateTime<Utc>>,
}

impl Execution {
    /// When the work ends that began at a moment.
    pub(super) fn ends(&self, began: DateTime<Utc>) -> DateTime<Utc> {
        later(began, self.plan.running_for)
    }
}

impl Requests {
    /// When the requested backup that a primary is taking will have ended.
    pub(super) fn busy_until(&self, id: Uuid) -> Option<DateTime<Utc>> {
        let execution = self.executions.get(&id)?;
        let ends = execution.ends(execution.began?);
        Some(execution.deadline.map_or(ends, |it| it.min(ends)))
    }

    /// The number of the request that the backup service waits for.
    pub(super) fn serial_of(&self, id: Uuid) -> Option<u64> {
        Some(self.pending.get(&id)?.serial)
    }

    /// Forgets what a primary does about a request.
    pub(super) fn drop_execution(&mut self, id: Uuid) {
        self.executions.remove(&id);
    }

    pub(super) fn forget(&mut self, id: Uuid) {
        self.pending.remove(&id);
        self.executions.remove(&id);
    }
}
