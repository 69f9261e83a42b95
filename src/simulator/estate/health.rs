//! Health of partitions as the health manager reports it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Estate;
use super::health_event::{HealthReport, HealthReportKind};

/// Health of a partition as in `GetHealth`.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Health {
    pub(in crate::simulator) created: DateTime<Utc>,
    pub(in crate::simulator) reports: Vec<HealthReport>,
}

impl Estate {
    /// The health of a partition at `now`; `None` when there is no such partition.
    pub(in crate::simulator) fn health_of(&self, id: Uuid, now: DateTime<Utc>) -> Option<Health> {
        let created = self.partitions.get(&id)?.created;
        let reports = self.backup_service.shown_reports(id, now);
        let reports = reports.into_iter().flatten().collect();
        Some(Health { created, reports })
    }

    /// The end of the last periodic attempt that a health event reports, and whether the event
    /// is Ok.
    pub fn last_attempt(&self, id: Uuid, now: DateTime<Utc>) -> Option<(DateTime<Utc>, bool)> {
        let [backup, _] = self.backup_service.shown_reports(id, now);
        let report = backup?;
        match report.kind {
            HealthReportKind::BackedUp => Some((report.at, true)),
            HealthReportKind::Failed => Some((report.at, false)),
            HealthReportKind::Disabled
            | HealthReportKind::Restored
            | HealthReportKind::RestoredItself => None,
        }
    }
}
