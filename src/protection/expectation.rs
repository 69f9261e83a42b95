//! When the next backup is expected, in cluster time.

use chrono::{DateTime, TimeDelta, Utc};

use super::clock_skew::saturating_add;
use super::facts::Rules;
use crate::model::Schedule;

/// The kind of backups that are expected of a partition.
pub(super) enum Expectation<'a> {
    /// Periodic backups by a policy with this schedule.
    Policy(&'a Schedule),
    /// Requested backups with this interval.
    Requests(TimeDelta),
}

impl Expectation<'_> {
    pub(super) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Policy(schedule) => schedule.next(after),
            Self::Requests(interval) => after.checked_add_signed(*interval),
        }
    }

    pub(super) fn after_success(
        &self,
        success: DateTime<Utc>,
        rules: &Rules,
    ) -> Option<DateTime<Utc>> {
        match self {
            Self::Policy(schedule) => schedule.next_after_success(success, rules.run_tolerance),
            Self::Requests(_) => self.next(success),
        }
    }

    /// The first backup of a schedule that began or restarted at `start`. The replicas receive the
    /// change up to minutes later (`SendToServiceNodeWorkItem.cs`). For an interval, the overdue
    /// allowance covers this delay. A run at a fixed time within the allowance may be missed, so
    /// the one after it is expected.
    pub(super) fn first(&self, start: DateTime<Utc>, rules: &Rules) -> Option<DateTime<Utc>> {
        match self {
            Self::Policy(Schedule::Daily(_) | Schedule::Weekly(..)) => {
                self.next(saturating_add(start, rules.overdue_allowance))
            }
            _ => self.next(start),
        }
    }
}
