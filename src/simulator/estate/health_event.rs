//! Health events of the backup service on a partition.
//!
//! The health manager keeps one event per property, replaced by the next report, with its
//! transition times. A report becomes visible when its node sends it, up to 30 s after it was made
//! (`HealthReportingComponent.cpp`). A report with a lower sequence number, which is the clock of
//! its node, is rejected (`HealthEntity.cpp`, `SequenceNumber.cpp`). An event with an infinite time
//! to live outlives its author.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::time::later;

/// Kind of a health report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum HealthReportKind {
    /// `Backup`, Ok: the last periodic attempt ended without an error that the manager observed.
    BackedUp,
    /// `Backup`, Warning: the last periodic attempt failed.
    Failed,
    /// `Backup`, Ok for one second: the replica no longer backs up.
    Disabled,
    /// `Restore`, Ok for two hours: a user restored the partition.
    Restored,
    /// `Restore`, Ok without expiry: the partition restored itself after a data loss.
    RestoredItself,
}

/// The last report on one property.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulator) struct HealthReport {
    pub(in crate::simulator) kind: HealthReportKind,
    /// When the author made it, on the clock of its node.
    pub(in crate::simulator) at: DateTime<Utc>,
    pub(in crate::simulator) ok_since: Option<DateTime<Utc>>,
    pub(in crate::simulator) warning_since: Option<DateTime<Utc>>,
    stored: DateTime<Utc>,
}

/// The reports on one property: the last visible one, and a newer one that may still be pending.
#[derive(Debug)]
pub(super) struct HealthProperty {
    /// Phase of the reporting interval of its node, from 0 to 1.
    phase: f64,
    sent: Option<HealthReport>,
    newest: Option<HealthReport>,
}

impl HealthProperty {
    pub(super) fn new(phase: f64) -> Self {
        Self {
            phase,
            sent: None,
            newest: None,
        }
    }

    pub(super) fn post(
        &mut self,
        kind: HealthReportKind,
        source: DateTime<Utc>,
        at: DateTime<Utc>,
        every: Duration,
    ) {
        let source = source.trunc_subsecs(3);
        if self.newest.is_some_and(|it| it.at > source) {
            return;
        }
        if let Some(newest) = self.newest.filter(|it| it.stored <= at) {
            self.sent = Some(newest);
        }
        let stored = self.sending_after(at, every);
        let before = self.sent.filter(|it| it.is_shown(stored));
        let unchanged =
            before.is_some_and(|it| it.is_warning() == (kind == HealthReportKind::Failed));
        let since = |known: Option<DateTime<Utc>>, reached: bool| match (reached, unchanged) {
            (true, false) => Some(stored),
            _ => known,
        };
        self.newest = Some(HealthReport {
            kind,
            at: source,
            ok_since: since(
                before.and_then(|it| it.ok_since),
                kind != HealthReportKind::Failed,
            ),
            warning_since: since(
                before.and_then(|it| it.warning_since),
                kind == HealthReportKind::Failed,
            ),
            stored,
        });
    }

    /// Time at which the node next sends reports.
    fn sending_after(&self, at: DateTime<Utc>, every: Duration) -> DateTime<Utc> {
        let millis = i64::try_from(every.as_millis()).unwrap_or_default().max(1);
        let phase = i64::try_from(every.mul_f64(self.phase).as_millis()).unwrap_or_default();
        let into_round = (at.timestamp_millis() - phase).rem_euclid(millis);
        let wait = (millis - into_round) % millis;
        later(at, Duration::from_millis(wait.unsigned_abs())).trunc_subsecs(3)
    }

    pub(super) fn shown(&self, now: DateTime<Utc>) -> Option<HealthReport> {
        let newest = self.newest.filter(|it| it.stored <= now);
        newest.or(self.sent).filter(|it| it.is_shown(now))
    }
}

impl HealthReport {
    /// When the health manager stored it.
    pub(in crate::simulator) fn stored(&self) -> DateTime<Utc> {
        self.stored
    }

    pub(in crate::simulator) fn is_warning(&self) -> bool {
        self.kind == HealthReportKind::Failed
    }

    /// Time to live; `None` is infinite.
    pub(in crate::simulator) fn time_to_live(&self) -> Option<TimeDelta> {
        match self.kind {
            HealthReportKind::BackedUp
            | HealthReportKind::Failed
            | HealthReportKind::RestoredItself => None,
            HealthReportKind::Disabled => Some(TimeDelta::seconds(1)),
            HealthReportKind::Restored => Some(TimeDelta::hours(2)),
        }
    }

    fn is_shown(&self, now: DateTime<Utc>) -> bool {
        let until = self.time_to_live().map(|it| self.stored + it);
        self.stored <= now && until.is_none_or(|until| now < until)
    }
}
