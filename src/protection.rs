//! The verdict: can this partition be restored, and is its backup on time?
//!
//! Pure: facts, rules and a moment in, one state out, by a fixed order of questions. It never
//! says `Protected` or `Overdue` of what it cannot see: a fact that was not read, or was read too
//! long ago, is no fact. What led to a verdict is told by [`evidence`].

mod attempts;
mod clock_skew;
pub mod confirmation;
pub mod effective;
pub mod evidence;
mod expectation;
mod facts;
pub mod history;
mod sight;

use chrono::{DateTime, TimeDelta, Utc};

pub use self::clock_skew::ClockSkew;
use self::effective::EffectiveConfiguration;
use self::expectation::Expectation;
pub use self::facts::{Facts, Rules};
use self::sight::SET_BACK;
use crate::model::{BackupProgress, BackupState};

/// The verdict on a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtectionState {
    /// What is needed to decide was never read, or is too old to be believed.
    Unknown,
    /// A requested backup neither ends nor fails.
    Stuck,
    /// Nothing says that it should be backed up.
    Unprotected,
    /// Somebody has suspended its protection.
    Suspended,
    /// No backup is known, and the first one is overdue.
    NeverBackedUp,
    /// The next backup is overdue.
    Overdue,
    /// The last attempt failed, and the schedule is not broken yet.
    Failing,
    /// No backup yet, and the first one is not due yet.
    Pending,
    /// It has a backup, and the next one is not due.
    Protected,
}

impl ProtectionState {
    /// Every verdict, in the order in which they are given.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Stuck,
        Self::Unprotected,
        Self::Suspended,
        Self::NeverBackedUp,
        Self::Overdue,
        Self::Failing,
        Self::Pending,
        Self::Protected,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Stuck => "Stuck",
            Self::Unprotected => "Unprotected",
            Self::Suspended => "Suspended",
            Self::NeverBackedUp => "NeverBackedUp",
            Self::Overdue => "Overdue",
            Self::Failing => "Failing",
            Self::Pending => "Pending",
            Self::Protected => "Protected",
        }
    }

    /// How bad it is, from 1: up to 3 the schedule is kept, from 6 on a backup is missing. `None`
    /// for [`Self::Unknown`], which is neither good nor bad.
    pub const fn severity(self) -> Option<i64> {
        match self {
            Self::Unknown => None,
            Self::Protected => Some(1),
            Self::Pending => Some(2),
            Self::Failing => Some(3),
            Self::Suspended => Some(4),
            Self::Unprotected => Some(5),
            Self::Stuck => Some(6),
            Self::Overdue => Some(7),
            Self::NeverBackedUp => Some(8),
        }
    }
}

/// A verdict and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The verdict.
    pub state: ProtectionState,
    /// When the next success is due, allowance not included; on the clock of the cluster.
    pub due: Option<DateTime<Utc>>,
    /// The first moment at which the same facts may give another verdict.
    pub valid_until: Option<DateTime<Utc>>,
}

/// Judges `facts` by `rules` at `now`.
pub fn evaluate(facts: &Facts<'_>, rules: &Rules, now: DateTime<Utc>) -> Verdict {
    let case = Evaluation { facts, rules, now };
    let expected = case.expected();
    let due = expected.as_ref().and_then(|expected| case.due(expected));
    let state = case.state(expected.as_ref(), due);
    let is_suspended = case
        .applied()
        .is_some_and(|applied| applied.suspended.is_some());
    Verdict {
        state,
        due: due.filter(|_| state != ProtectionState::Unknown && !is_suspended),
        valid_until: case.valid_until(expected.as_ref(), due),
    }
}

/// What is known to apply where nothing is read.
static NOTHING: EffectiveConfiguration = EffectiveConfiguration {
    policy: None,
    suspended: None,
};

struct Evaluation<'a> {
    facts: &'a Facts<'a>,
    rules: &'a Rules,
    now: DateTime<Utc>,
}

impl<'a> Evaluation<'a> {
    /// The first line of the table that holds.
    fn state(
        &self,
        expected: Option<&Expectation<'_>>,
        due: Option<DateTime<Utc>>,
    ) -> ProtectionState {
        let Some(applied) = self.applied() else {
            return ProtectionState::Unknown;
        };
        if !self.sees_successes() {
            return ProtectionState::Unknown;
        }
        if self.is_stuck() {
            return ProtectionState::Stuck;
        }
        if applied.policy.is_none() && self.rules.expected_interval.is_none() {
            return ProtectionState::Unprotected;
        }
        if applied.suspended.is_some() {
            return ProtectionState::Suspended;
        }
        if expected.is_none() || !self.sees_expected_successes(applied) {
            return ProtectionState::Unknown;
        }
        if self.facts.clock_skew.excessive().is_some() {
            return ProtectionState::Unknown;
        }
        let Some(due) = due else {
            return ProtectionState::Unknown;
        };
        let clock_skew = self.facts.clock_skew;
        let seen_until = self
            .seen_until(applied)
            .map(|at| clock_skew.to_cluster_time(at));
        let overdue = seen_until > Some(self.late_from(due));
        let unseen = self.may_be_overdue_unseen(applied, due)
            || self.may_be_overdue_forgotten()
            || self.may_lack_the_success(applied, expected);
        if !overdue && unseen {
            return ProtectionState::Unknown;
        }
        match (self.last_success().is_some(), overdue) {
            (false, true) => ProtectionState::NeverBackedUp,
            (true, true) => ProtectionState::Overdue,
            (_, false) if self.is_failing() => ProtectionState::Failing,
            (false, false) => ProtectionState::Pending,
            (true, false) => ProtectionState::Protected,
        }
    }

    /// The last moment at which a success that is due is in time.
    fn late_from(&self, due: DateTime<Utc>) -> DateTime<Utc> {
        plus(due, self.rules.overdue_allowance)
    }

    /// What applies, if that is known. Where the configuration is not read at all and an interval
    /// is expected, no policy is known to apply.
    fn applied(&self) -> Option<&'a EffectiveConfiguration> {
        if !self.rules.reads_configuration && self.rules.expected_interval.is_some() {
            return Some(&NOTHING);
        }
        let read = self.facts.configuration?;
        self.is_fresh(read.at).then_some(read.value)
    }

    fn last_success(&self) -> Option<DateTime<Utc>> {
        self.facts.success_at(self.now)
    }

    fn expected(&self) -> Option<Expectation<'a>> {
        if self.applied()?.policy.is_none() {
            return self.rules.expected_interval.map(Expectation::Requests);
        }
        let schedule = self.facts.schedule.filter(|read| self.is_fresh(read.at))?;
        schedule.value.map(Expectation::Policy)
    }

    /// One interval, or the first run, after the last success; where there is none, after a
    /// backup was first expected. Protection that began, was resumed or got another policy
    /// starts its timers anew.
    fn due(&self, expected: &Expectation<'_>) -> Option<DateTime<Utc>> {
        let known = self.known_due(expected)?;
        let untried = self.observed(self.untried_since(expected));
        Some(known).max(untried.and_then(|at| expected.first(at, self.rules)))
    }

    /// The same, where every replica has tried before.
    fn known_due(&self, expected: &Expectation<'_>) -> Option<DateTime<Utc>> {
        let next = if let Some(success) = self.last_success() {
            expected.after_success(success, self.rules)?
        } else {
            // A replica tries when a backup is due, whenever it was that protection began.
            let since = self.observed(self.facts.expected_since)?;
            let first = expected.first(since, self.rules)?;
            let tried = self.attempt().map(|attempt| attempt.ended);
            tried.map_or(first, |tried| tried.min(first))
        };
        Some(self.not_before_restart(expected, next))
    }

    /// `next`, or the first backup after the schedule last restarted, if that is later.
    fn not_before_restart(&self, expected: &Expectation<'_>, next: DateTime<Utc>) -> DateTime<Utc> {
        let restarted = self.restarted_at(expected);
        let first = restarted.and_then(|at| expected.first(at, self.rules));
        first.map_or(next, |first| first.max(next))
    }

    /// When the schedule last restarted, on the clock of the cluster. A restored partition restarts
    /// the schedule of its policy, and nothing that is requested from outside.
    fn restarted_at(&self, expected: &Expectation<'_>) -> Option<DateTime<Utc>> {
        let is_policy = matches!(expected, Expectation::Policy(_));
        let reset = self.reset_at().filter(|_| is_policy);
        self.observed(self.facts.changed_at).max(reset)
    }

    /// What the clock of the cluster showed when this exporter saw something, if that has been.
    /// Backups are dated and started by that clock: compared with the exporter's as they are, healthy
    /// partitions would be `Overdue`, or a breach would stay unseen for as long as the clocks differ.
    fn observed(&self, at: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        let at = at.filter(|at| self.has_been(*at))?;
        Some(self.facts.clock_skew.to_cluster_time(at))
    }

    /// A replica that has reported no attempt of its own has not been under this policy for a
    /// whole interval, whatever was requested before: its timer runs since protection was first
    /// seen, or less. That stays true when the health store is away.
    fn untried_since(&self, expected: &Expectation<'_>) -> Option<DateTime<Utc>> {
        let is_policy = matches!(expected, Expectation::Policy(_));
        let untried = self.facts.health?.value.is_none();
        self.facts.expected_since.filter(|_| is_policy && untried)
    }

    fn record(&self) -> Option<&'a BackupProgress> {
        let read = self.facts.progress.filter(|read| self.is_fresh(read.at))?;
        read.value
    }

    fn is_stuck(&self) -> bool {
        self.running_since()
            .is_some_and(|since| self.now - since > self.rules.stuck_after)
    }

    fn running_since(&self) -> Option<DateTime<Utc>> {
        let running = [BackupState::Accepted, BackupState::BackupInProgress];
        let record = self.record()?;
        let since = self.facts.running_since.or(self.facts.record_since);
        since.filter(|_| running.contains(&record.state))
    }

    /// The first of all moments to come at which a comparison above turns.
    fn valid_until(
        &self,
        expected: Option<&Expectation<'_>>,
        due: Option<DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        let (facts, rules) = (self.facts, self.rules);
        // "Later than" turns just behind its moment.
        let behind = |moment| plus(moment, TimeDelta::nanoseconds(1));
        let attempted = facts.health.and_then(|read| read.value);
        let awaited = facts.watched_since.filter(|_| self.awaits_first_list());
        let attempt = self.failed_attempt().filter(|_| awaited.is_some());
        let late_from = |due| behind(facts.clock_skew.to_exporter_time(self.late_from(due)));
        let stale = rules.staleness;
        let readings = [
            Self::turns(facts.configuration.map(|read| read.at), stale),
            Self::turns(facts.schedule.map(|read| read.at), stale),
            Self::turns(facts.progress.map(|read| read.at), stale),
            Self::turns(facts.health.map(|read| read.at), stale),
            Self::turns(facts.listed_at, rules.list_staleness),
        ];
        let seen = [facts.changed_at, facts.expected_since];
        let come = seen.map(|at| at.map(|at| plus(at, -SET_BACK)));
        let moments = [
            awaited.map(|since| plus(since, rules.list_staleness)),
            self.running_since()
                .map(|since| behind(plus(since, rules.stuck_after))),
            attempt.map(|attempt| late_from(attempt.ended)),
            due.map(late_from),
            self.forgotten_due().map(late_from),
            self.first_list_until(),
            self.proved_due(expected).map(late_from),
        ];
        let dated = [
            facts.last_success,
            facts.reset_at,
            attempted.map(|attempt| attempt.ended),
            facts.confirmation.deleted,
            facts.confirmation.newest_listed,
        ];
        let dated = dated.map(|at| at.map(|at| facts.clock_skew.plausible_from(at)));
        let readings = readings.into_iter().flatten();
        let turns = readings.chain(moments).chain(dated).chain(come);
        turns.flatten().filter(|turn| *turn > self.now).min()
    }
}

/// Schedules and dates come from the cluster: a sum beyond the calendar is its end, not a panic.
fn plus(moment: DateTime<Utc>, delta: TimeDelta) -> DateTime<Utc> {
    let end = if delta < TimeDelta::zero() {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    };
    moment.checked_add_signed(delta).unwrap_or(end)
}

#[cfg(test)]
mod runs;
#[cfg(test)]
mod tests;
