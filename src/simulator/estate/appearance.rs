//! All that the answers about one partition alone depend on.
//!
//! Responsible for telling at little cost that its record and its health are spelled as before.
//! It may not miss a difference: what goes into those answers is compared as a whole.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::health_event::HealthReport;
use super::{Estate, Partition};
use crate::simulator::record::Record;

/// How a partition looked at some moment to those who ask for its record and its health.
#[derive(Clone, Debug)]
pub struct Appearance {
    record: Record,
    reports: [Option<HealthReport>; 2],
}

impl Estate {
    /// How a partition looks at `now`; `None` when there is no such partition.
    pub fn appearance(&self, id: Uuid, now: DateTime<Utc>) -> Option<Appearance> {
        let partition = self.partitions.get(&id)?;
        Some(Appearance {
            record: partition.record.clone(),
            reports: self.backup_service.shown_reports(id, now),
        })
    }

    /// Whether a partition still looks at `now` as it did: then every answer about its record and
    /// its health has the same bytes as at that moment.
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
    fn a_partition_looks_the_same_until_its_record_or_its_health_changes() {
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
