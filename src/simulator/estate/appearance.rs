//! Inputs of the responses about one partition.
//!
//! Detects cheaply whether its record and health are unchanged. Must not miss a change: all inputs
//! of those responses are compared.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::health_event::HealthReport;
use super::{Estate, Partition};
use crate::simulator::record::Record;

/// The record and health of a partition at some time.
#[derive(Clone, Debug)]
pub struct Appearance {
    record: Record,
    reports: [Option<HealthReport>; 2],
}

impl Estate {
    /// The record and health of a partition at `now`; `None` if it does not exist.
    pub fn appearance(&self, id: Uuid, now: DateTime<Utc>) -> Option<Appearance> {
        let partition = self.partitions.get(&id)?;
        Some(Appearance {
            record: partition.record.clone(),
            reports: self.backup_service.shown_reports(id, now),
        })
    }

    /// Whether record and health are unchanged at `now`; then all responses about them have the
    /// same bytes.
    pub fn still_looks(&self, id: Uuid, before: &Appearance, now: DateTime<Utc>) -> bool {
        let looks = |it: &Partition| it.record == before.record;
        self.partitions.get(&id).is_some_and(looks)
            && self.backup_service.shown_reports(id, now) == before.reports
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::simulator::estate::health_event::HealthReportKind;
    use crate::simulator::record::Outcome;
    use crate::simulator::{Scheme, ServiceKind};

    #[test]
    fn appearance_changes_only_with_record_or_health() {
        let start = DateTime::from_timestamp(1_750_000_000, 0).unwrap();
        let mut estate = Estate::empty(1, start);
        let kind = ServiceKind::Persisted;
        let id = estate.add_service("fabric:/A", "fabric:/A/B", kind, Scheme::Singleton, start)[0];
        let never = estate.appearance(id, start).unwrap();
        assert!(estate.still_looks(id, &never, start));
        estate.conclude(id, Outcome::Success, start);
        assert!(!estate.still_looks(id, &never, start));
        let backed_up = estate.appearance(id, start).unwrap();
        estate
            .backup_service
            .report(id, HealthReportKind::Restored, start);
        let sent = start + TimeDelta::seconds(30);
        assert!(!estate.still_looks(id, &backed_up, sent));
        // The report of a restore expires by itself.
        let later = sent + TimeDelta::hours(2);
        assert!(estate.still_looks(id, &backed_up, later));
        estate.remove_partition(id);
        assert!(!estate.still_looks(id, &backed_up, later));
        assert!(estate.appearance(id, later).is_none());
    }
}
