//! All that the answers about one partition alone depend on.
//!
//! Responsible for telling at little cost that its record and its health are spelled as before.
//! It may not miss a difference: what goes into those answers is compared as a whole.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::health::Report;
use super::{Estate, Partition};
use crate::simulator::record::Record;

/// How a partition looked at some moment to those who ask for its record and its health.
#[derive(Clone, Debug)]
pub struct Appearance {
    record: Record,
    reports: [Option<Report>; 2],
}

impl Estate {
    /// How a partition looks at `now`; `None` when there is no such partition.
    pub fn appearance(&self, id: Uuid, now: DateTime<Utc>) -> Option<Appearance> {
        let partition = self.partitions.get(&id)?;
        Some(Appearance {
            record: partition.record.clone(),
            reports: self.shown_reports(id, now),
        })
    }

    /// Whether a partition still looks at `now` as it did: then every answer about its record and
    /// its health has the same bytes as at that moment.
    pub fn still_looks(&self, id: Uuid, before: &Appearance, now: DateTime<Utc>) -> bool {
        let looks = |it: &Partition| it.record == before.record;
        self.partitions.get(&id).is_some_and(looks) && self.shown_reports(id, now) == before.reports
    }

    fn shown_reports(&self, id: Uuid, now: DateTime<Utc>) -> [Option<Report>; 2] {
        let replica = self.periodic.replicas.get(&id);
        let reports = replica.map_or([None, None], |it| [it.backup, it.restore]);
        reports.map(|report| report.filter(|it| it.is_shown(now)))
    }
}
