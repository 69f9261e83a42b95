//! When the next backup is expected, and from what.
//!
//! Pure: from a moment of the cluster's clock to the next one.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Rules, plus};
use crate::model::Schedule;

/// What is expected of a partition.
pub(super) enum Expectation<'a> {
    /// Backups by a policy that has this schedule.
    Policy(&'a Schedule),
    /// Backups that something else requests.
    Requests(TimeDelta),
}

impl Expectation<'_> {
    pub(super) fn next(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Policy(schedule) => schedule.next(moment),
            Self::Requests(interval) => moment.checked_add_signed(*interval),
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

    /// The first backup after a schedule began or restarted at `moment`, if nothing was tried since.
    /// The replicas act on the change up to minutes later (`SendToServiceNodeWorkItem.cs`). For an
    /// interval, the allowance covers that; a run by the clock that falls in between may be left
    /// out, and the next one is what can be expected.
    pub(super) fn first(&self, moment: DateTime<Utc>, rules: &Rules) -> Option<DateTime<Utc>> {
        match self {
            Self::Policy(Schedule::Daily(_) | Schedule::Weekly(..)) => {
                self.next(plus(moment, rules.overdue_allowance))
            }
            _ => self.next(moment),
        }
    }
}
