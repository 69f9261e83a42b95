//! Computation of the backup timer of a primary replica.
//!
//! Derives the delay from schedule, jitter, last recovery point and missed runs, as
//! `BackupTimer.cs` of runtime 6.4. All times are on the clock of the node.

use std::time::Duration;

use chrono::{DateTime, Datelike, Days, NaiveTime, TimeDelta, Utc, Weekday};

use super::policy::Schedule;
use super::time::later;

/// Reason for arming a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The schedule begins, or a backup succeeded.
    Scheduled,
    /// A primary starts with a schedule that it found in the partition: a missed run is made up.
    Takeover,
    /// The last retry of a run failed: an interval counts from now.
    Exhausted,
}

/// Inputs of a timer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer<'a> {
    pub(super) schedule: &'a Schedule,
    /// The last recovery point: end of the last good periodic backup, shifted by its jitter.
    pub(super) recovery_point: Option<DateTime<Utc>>,
    /// Last restart of the schedule (`PolicyUpdateTime`).
    pub(super) restarted: DateTime<Utc>,
    /// `JitterInBackupsInSeconds`.
    pub(super) jitter: Duration,
    pub(super) midnight_stop: bool,
}

/// An armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Armed {
    pub(super) delay: TimeDelta,
    pub(super) jitter: TimeDelta,
}

impl Timer<'_> {
    /// Arms the timer at `now`; `None` where `Random.Next(low, high)` throws because `low` is the
    /// larger one, an exception that nothing observes.
    pub(super) fn arm(
        &self,
        reason: Reason,
        now: DateTime<Utc>,
        rng: &mut fastrand::Rng,
    ) -> Option<Armed> {
        let due = if reason == Reason::Takeover && self.missed(now) {
            TimeDelta::zero()
        } else {
            self.due(reason, now)
        };
        let bound = i64::try_from(self.jitter.as_millis()).unwrap_or_default();
        let low = -due.num_milliseconds().min(bound);
        let jitter = match low.cmp(&bound) {
            std::cmp::Ordering::Less => rng.i64(low..bound),
            std::cmp::Ordering::Equal => low,
            std::cmp::Ordering::Greater => return None,
        };
        let jitter = TimeDelta::milliseconds(jitter);
        let delay = due + jitter;
        Some(Armed { delay, jitter })
    }

    /// Time until the next run (`GetNextScheduledRunTime`).
    fn due(&self, reason: Reason, now: DateTime<Utc>) -> TimeDelta {
        let current = self.recovery_point.map_or(now, |it| it.max(now));
        let next = match self.schedule {
            Schedule::Every(interval) => {
                let counted = self.recovery_point.filter(|_| reason != Reason::Exhausted);
                later(counted.unwrap_or(current), *interval).max(current)
            }
            Schedule::Daily(times) => first_from(current, &WEEK, times),
            Schedule::Weekly(days, times) => first_from(current, days, times),
        };
        if self.midnight_stop {
            (next - midnight(current)) - (now - midnight(now))
        } else {
            next - now
        }
    }

    /// Whether a run was missed since the last recovery point (`CheckForMissedBackup`): never
    /// without one.
    fn missed(&self, now: DateTime<Utc>) -> bool {
        let Some(point) = self.recovery_point.filter(|it| *it <= now) else {
            return false;
        };
        let since = now - point.max(self.restarted);
        match self.schedule {
            Schedule::Every(interval) => {
                since > TimeDelta::from_std(*interval).unwrap_or(TimeDelta::MAX)
            }
            Schedule::Daily(times) => {
                last_before(now, &WEEK, times).is_some_and(|it| since > now - it)
            }
            Schedule::Weekly(days, times) => {
                last_before(now, days, times).is_some_and(|it| since > now - it)
            }
        }
    }
}

const WEEK: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

fn midnight(at: DateTime<Utc>) -> DateTime<Utc> {
    at.date_naive().and_time(NaiveTime::MIN).and_utc()
}

/// The first run time at or after `from`; the latest representable time if there is none.
fn first_from(from: DateTime<Utc>, days: &[Weekday], times: &[NaiveTime]) -> DateTime<Utc> {
    let dates = (0..8).filter_map(|ahead| from.date_naive().checked_add_days(Days::new(ahead)));
    let mut dates = dates.filter(|date| days.contains(&date.weekday()));
    dates
        .find_map(|date| {
            let instants = times.iter().map(|time| date.and_time(*time).and_utc());
            instants.filter(|it| *it >= from).min()
        })
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The last run time before `now`.
fn last_before(now: DateTime<Utc>, days: &[Weekday], times: &[NaiveTime]) -> Option<DateTime<Utc>> {
    let dates = (0..8).filter_map(|ago| now.date_naive().checked_sub_days(Days::new(ago)));
    let mut dates = dates.filter(|date| days.contains(&date.weekday()));
    dates.find_map(|date| {
        let instants = times.iter().map(|time| date.and_time(*time).and_utc());
        instants.filter(|it| *it < now).max()
    })
}

#[cfg(test)]
mod tests;
