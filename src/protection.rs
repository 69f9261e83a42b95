//! Evaluates the protection of a partition: can it be restored, and is its backup on time?
//!
//! Pure: from [`Facts`], [`Rules`] and a time to a [`Verdict`]. A partition is `Protected` or
//! `Overdue` only on the basis of fresh facts; otherwise it is `Unknown`. [`evidence`] lists the
//! facts behind a verdict.

mod clock_skew;
mod current;
pub mod effective;
pub mod evidence;
mod expectation;
mod facts;
pub mod history;
mod verdict;

use chrono::{DateTime, TimeDelta, Utc};

pub use self::clock_skew::ClockSkew;
use self::clock_skew::saturating_add;
use self::current::CurrentFacts;
use self::effective::EffectiveConfiguration;
use self::expectation::Expectation;
pub use self::facts::{Confirmation, Facts, Rules};
pub use self::verdict::{ProtectionState, Verdict};
use crate::model::{JITTER, PeriodicAttempt};

/// Evaluates `facts` by `rules` at `now`.
pub fn evaluate(facts: &Facts<'_>, rules: &Rules, now: DateTime<Utc>) -> Verdict {
    let current = CurrentFacts { facts, rules, now };
    let expectation = current.expectation();
    let due = expectation
        .as_ref()
        .and_then(|expectation| due(&current, expectation));
    let evaluation = Evaluation {
        current,
        expectation,
        due,
    };
    let state = evaluation.state();
    let is_suspended = current
        .configuration()
        .is_some_and(|configuration| configuration.suspended.is_some());
    Verdict {
        state,
        due: due.filter(|_| state != ProtectionState::Unknown && !is_suspended),
        valid_until: evaluation.valid_until(),
    }
}

/// When the next success is due, in cluster time.
fn due(current: &CurrentFacts<'_>, expectation: &Expectation<'_>) -> Option<DateTime<Utc>> {
    let known = due_after_attempts(current, expectation)?;
    let untried = current.to_past_cluster_time(current.untried_since(expectation));
    Some(known).max(untried.and_then(|at| expectation.first(at, current.rules)))
}

/// When the next success is due if every replica has made an attempt: after the last success or,
/// if there is none, after a backup was first expected.
fn due_after_attempts(
    current: &CurrentFacts<'_>,
    expectation: &Expectation<'_>,
) -> Option<DateTime<Utc>> {
    let next = if let Some(success) = current.last_success() {
        expectation.after_success(success, current.rules)?
    } else {
        // A replica makes an attempt when a backup is due, so the first one was due by then. Later
        // attempts without a success must not postpone it.
        let since = current.to_past_cluster_time(current.facts.expected_since)?;
        let first = expectation.first(since, current.rules)?;
        let tried = current.first_attempt_ended();
        tried.map_or(first, |tried| tried.min(first))
    };
    Some(not_before_restart(current, expectation, next))
}

/// `next`, or the first backup after the schedule last restarted if that is later.
fn not_before_restart(
    current: &CurrentFacts<'_>,
    expectation: &Expectation<'_>,
    next: DateTime<Utc>,
) -> DateTime<Utc> {
    let restarted = current.restarted_at(expectation);
    let first = restarted.and_then(|at| expectation.first(at, current.rules));
    first.map_or(next, |first| first.max(next))
}

struct Evaluation<'a> {
    current: CurrentFacts<'a>,
    expectation: Option<Expectation<'a>>,
    due: Option<DateTime<Utc>>,
}

impl Evaluation<'_> {
    /// The first state in the order of [`ProtectionState::ALL`] whose conditions hold.
    fn state(&self) -> ProtectionState {
        let current = &self.current;
        let Some(configuration) = current.configuration() else {
            return ProtectionState::Unknown;
        };
        if !current.can_see_successes() {
            return ProtectionState::Unknown;
        }
        if self.is_stuck() {
            return ProtectionState::Stuck;
        }
        if configuration.policy.is_none() && current.rules.expected_interval.is_none() {
            return ProtectionState::Unprotected;
        }
        if configuration.suspended.is_some() {
            return ProtectionState::Suspended;
        }
        let (Some(expectation), Some(due)) = (&self.expectation, self.due) else {
            return ProtectionState::Unknown;
        };
        let clock_skew = current.facts.clock_skew;
        if !current.can_see_expected_successes(configuration) || clock_skew.excessive().is_some() {
            return ProtectionState::Unknown;
        }
        let known_until = self.successes_known_until(configuration);
        let known_until = known_until.map(|at| clock_skew.to_cluster_time(at));
        let is_overdue = known_until > Some(self.overdue_after(due));
        let is_uncertain = self.may_be_overdue_since_last_list(configuration, due)
            || self.may_be_overdue_since_before_start()
            || self.last_success_may_be_false(configuration, expectation);
        if !is_overdue && is_uncertain {
            return ProtectionState::Unknown;
        }
        match (current.last_success().is_some(), is_overdue) {
            (false, true) => ProtectionState::NeverBackedUp,
            (true, true) => ProtectionState::Overdue,
            (_, false) if current.is_failing() => ProtectionState::Failing,
            (false, false) => ProtectionState::Pending,
            (true, false) => ProtectionState::Protected,
        }
    }

    fn is_stuck(&self) -> bool {
        let since = self.current.running_since();
        since.is_some_and(|since| self.current.now - since > self.current.rules.stuck_after)
    }

    /// The last time at which a success that is due at `due` is not overdue.
    fn overdue_after(&self, due: DateTime<Utc>) -> DateTime<Utc> {
        saturating_add(due, self.current.rules.overdue_allowance)
    }

    fn is_overdue(&self, due: DateTime<Utc>) -> bool {
        let now = self.current.now;
        self.current.facts.clock_skew.to_cluster_time(now) > self.overdue_after(due)
    }

    /// Until when every success would be known. Lists are read rarely: the absence of a backup
    /// from the last list proves nothing about the time since.
    fn successes_known_until(
        &self,
        configuration: &EffectiveConfiguration,
    ) -> Option<DateTime<Utc>> {
        let by_health = self.current.has_fresh_health() && !self.awaits_first_list();
        if configuration.policy.is_none() || by_health {
            return Some(self.current.now);
        }
        self.current.facts.listed_at
    }

    /// Whether lists are the only source of successes and the next one became overdue since the
    /// last list.
    fn may_be_overdue_since_last_list(
        &self,
        configuration: &EffectiveConfiguration,
        due: DateTime<Utc>,
    ) -> bool {
        let only_lists = configuration.policy.is_some() && !self.current.has_fresh_health();
        only_lists && self.is_overdue(due)
    }

    fn may_be_overdue_since_before_start(&self) -> bool {
        self.due_if_schedule_is_older()
            .is_some_and(|due| self.is_overdue(due))
    }

    /// When the next success was due if the schedule is older than this process, which has no
    /// state of the partition and has seen no attempt: after the last success or, without one,
    /// after the partition was created or reset. `None` if the age of the schedule is known.
    fn due_if_schedule_is_older(&self) -> Option<DateTime<Utc>> {
        let (current, facts) = (&self.current, self.current.facts);
        let watched_since = facts.watched_since?;
        let since = facts.expected_since?;
        let began_earlier = facts.changed_at.is_none_or(|at| at < watched_since);
        let is_unknown = began_earlier && (since - watched_since).abs() < current.rules.staleness;
        let expectation = self.expectation.as_ref().filter(|_| is_unknown)?;
        let latest = facts.clock_skew.latest_success(current.now);
        let is_past = |attempt: PeriodicAttempt| attempt.ended <= latest;
        match current.last_success() {
            Some(_) => {
                current.untried_since(expectation)?;
                due_after_attempts(current, expectation)
            }
            None if current.attempt().is_some_and(is_past) => None,
            None => current
                .reset_at()
                .map_or(Some(DateTime::<Utc>::MIN_UTC), |at| {
                    expectation.first(at, current.rules)
                }),
        }
    }

    /// Whether the last success is a claim that only a list can confirm, and lists are stale.
    fn last_success_may_be_false(
        &self,
        configuration: &EffectiveConfiguration,
        expectation: &Expectation<'_>,
    ) -> bool {
        let current = &self.current;
        let needs_list = current.facts.confirmation.needs_list_since.is_some()
            && current.last_success().is_some();
        let is_listed = current.rules.reads_lists && configuration.policy.is_some();
        let awaits_first = self
            .first_list_deadline()
            .is_some_and(|deadline| current.now < deadline);
        let is_proved = self
            .due_after_listed(expectation)
            .is_some_and(|due| !self.is_overdue(due));
        needs_list && is_listed && !current.has_fresh_list() && !awaits_first && !is_proved
    }

    /// Until when an unconfirmed success counts without any list since the start: for
    /// `list_staleness` after the claim and after the policy was first seen.
    fn first_list_deadline(&self) -> Option<DateTime<Utc>> {
        let facts = self.current.facts;
        let claimed = facts.confirmation.needs_list_since?;
        let since = Some(claimed).max(facts.expected_since)?;
        let is_first = facts.listed_at.is_none();
        is_first.then(|| saturating_add(since, self.current.rules.list_staleness))
    }

    /// When the next success is due after the newest listed backup, if the last success is an
    /// unconfirmed claim.
    fn due_after_listed(&self, expectation: &Expectation<'_>) -> Option<DateTime<Utc>> {
        let (current, facts) = (&self.current, self.current.facts);
        facts.confirmation.needs_list_since?;
        let listed = facts.confirmation.newest_listed?;
        if facts.clock_skew.plausible_from(listed) > current.now {
            return None;
        }
        let next = expectation.after_success(listed, current.rules)?;
        Some(not_before_restart(current, expectation, next))
    }

    /// Whether a list may still show a success that a failed attempt hides from a process that
    /// has just started.
    fn awaits_first_list(&self) -> bool {
        let (rules, facts) = (self.current.rules, self.current.facts);
        let is_recent = |since| self.current.now - since < rules.list_staleness;
        facts.watched_since.is_some_and(is_recent)
            && rules.reads_lists
            && facts.listed_at.is_none()
            && self
                .current
                .failed_attempt()
                .is_some_and(|attempt| self.may_hide_success(attempt))
    }

    /// Whether there may be an unknown success between the last known one and a failed attempt.
    /// There is none if that attempt was the first one due, and none that matters if the next
    /// success after it was already overdue when the attempt failed.
    fn may_hide_success(&self, attempt: PeriodicAttempt) -> bool {
        let current = &self.current;
        let Some((known, expectation)) = current.last_success().zip(self.expectation.as_ref())
        else {
            return true;
        };
        let hidden = expectation.after_success(known, current.rules);
        let next = hidden.and_then(|hidden| expectation.next(hidden));
        let fits_in = next.is_some_and(|next| saturating_add(next, -JITTER) <= attempt.ended);
        fits_in && !self.is_overdue(attempt.ended)
    }

    /// The next time at which a condition of [`Self::state`] may change.
    fn valid_until(&self) -> Option<DateTime<Utc>> {
        let (facts, rules) = (self.current.facts, self.current.rules);
        // "Later than" changes just after the time it compares with.
        let after = |at| saturating_add(at, TimeDelta::nanoseconds(1));
        let overdue_from = |due| after(facts.clock_skew.to_exporter_time(self.overdue_after(due)));
        let awaited = facts.watched_since.filter(|_| self.awaits_first_list());
        let attempt = self.current.failed_attempt().filter(|_| awaited.is_some());
        let after_listed = self
            .expectation
            .as_ref()
            .and_then(|expectation| self.due_after_listed(expectation));
        let changes = [
            awaited.map(|since| saturating_add(since, rules.list_staleness)),
            self.current
                .running_since()
                .map(|since| after(saturating_add(since, rules.stuck_after))),
            attempt.map(|attempt| overdue_from(attempt.ended)),
            self.due.map(overdue_from),
            self.due_if_schedule_is_older().map(overdue_from),
            self.first_list_deadline(),
            after_listed.map(overdue_from),
        ];
        let changes = changes.into_iter().flatten().chain(self.current.changes());
        changes.filter(|change| *change > self.current.now).min()
    }
}

#[cfg(test)]
mod runs;
#[cfg(test)]
mod tests;
