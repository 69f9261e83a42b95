//! Health events of the backup machinery on a partition.
//!
//! Responsible for what the health manager remembers: one event for each property, replaced by
//! the next report, with the moments it changed its state. It may not spell events out. An event
//! without a time to live stays as it is for ever, whatever became of its author.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::Estate;
use uuid::Uuid;

/// How long the health manager takes to store a report.
const STORED_AFTER: TimeDelta = TimeDelta::milliseconds(883);

/// What a report of the backup machinery says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Said {
    /// `Backup`, Ok: the last periodic backup worked.
    BackedUp,
    /// `Backup`, Warning: the last periodic attempt failed.
    Failed,
    /// `Backup`, Ok for one second: the replica has stopped to back up.
    Disabled,
    /// `Restore`, Ok for two hours.
    Restored,
}

/// The last report on one property.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulator) struct Report {
    pub(in crate::simulator) said: Said,
    /// When the author made it: the end of what it tells of.
    pub(in crate::simulator) at: DateTime<Utc>,
    pub(in crate::simulator) ok_since: Option<DateTime<Utc>>,
    pub(in crate::simulator) warning_since: Option<DateTime<Utc>>,
}

/// What `GetHealth` shows of a partition, but for its spelling.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Health {
    pub(in crate::simulator) created: DateTime<Utc>,
    pub(in crate::simulator) reports: Vec<Report>,
}

impl Estate {
    /// The health of a partition at `now`; `None` when there is no such partition.
    pub(in crate::simulator) fn health_of(&self, id: Uuid, now: DateTime<Utc>) -> Option<Health> {
        let partition = self.partitions.get(&id)?;
        let replica = self.periodic.replicas.get(&id);
        let reports = replica.into_iter().flat_map(|it| [it.backup, it.restore]);
        Some(Health {
            created: partition.created,
            reports: reports
                .flatten()
                .filter(|report| report.is_shown(now))
                .collect(),
        })
    }

    /// The end of the last periodic attempt that a health event tells of, and whether it worked.
    pub fn last_attempt(&self, id: Uuid, now: DateTime<Utc>) -> Option<(DateTime<Utc>, bool)> {
        let report = self.periodic.replicas.get(&id)?.backup?;
        match report.said {
            Said::BackedUp => Some((report.at, true)),
            Said::Failed => Some((report.at, false)),
            Said::Disabled | Said::Restored => None,
        }
        .filter(|_| report.is_shown(now))
    }
}

impl Report {
    /// The report that takes the place of the one before on the same property.
    pub(super) fn after(before: Option<Self>, said: Said, at: DateTime<Utc>) -> Self {
        let at = at.trunc_subsecs(3);
        let before = before.filter(|it| it.is_shown(at));
        let stored = at + STORED_AFTER;
        let unchanged = before.is_some_and(|it| it.is_warning() == (said == Said::Failed));
        let since = |known: Option<DateTime<Utc>>, reached: bool| match (reached, unchanged) {
            (true, false) => Some(stored),
            _ => known,
        };
        Self {
            said,
            at,
            ok_since: since(before.and_then(|it| it.ok_since), said != Said::Failed),
            warning_since: since(before.and_then(|it| it.warning_since), said == Said::Failed),
        }
    }

    /// When the health manager stored it.
    pub(in crate::simulator) fn stored(&self) -> DateTime<Utc> {
        self.at + STORED_AFTER
    }

    pub(in crate::simulator) fn is_warning(&self) -> bool {
        self.said == Said::Failed
    }

    /// How long it is shown; `None` is for ever.
    pub(in crate::simulator) fn time_to_live(&self) -> Option<TimeDelta> {
        match self.said {
            Said::BackedUp | Said::Failed => None,
            Said::Disabled => Some(TimeDelta::seconds(1)),
            Said::Restored => Some(TimeDelta::hours(2)),
        }
    }

    pub(super) fn is_shown(&self, now: DateTime<Utc>) -> bool {
        let until = self.time_to_live().map(|it| self.at + it);
        until.is_none_or(|until| now < until)
    }
}
