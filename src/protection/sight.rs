//! What a verdict can rest on at its moment: which sources are fresh, and up to when they see.
//!
//! Pure. A fact that was read too long ago is no fact, and where only lists tell of successes,
//! nobody has seen what happened since the last one.

use chrono::{DateTime, TimeDelta, Utc};

use super::effective::EffectiveConfiguration;
use super::expectation::Expectation;
use super::{Evaluation, plus};
use crate::model::{JITTER, PeriodicAttempt};

/// A clock that is set back by less than this makes no reading a stranger.
pub(super) const SET_BACK: TimeDelta = TimeDelta::seconds(5);

impl Evaluation<'_> {
    /// Where only lists tell of successes: whether the next one is late by now, but was not yet
    /// when they were read. It may be there or not; nobody has looked.
    pub(super) fn may_be_overdue_unseen(
        &self,
        applied: &EffectiveConfiguration,
        due: DateTime<Utc>,
    ) -> bool {
        let only_lists = applied.policy.is_some() && !self.sees_health();
        only_lists && self.is_late(due)
    }

    /// Where a process without memory of the partition cannot tell since when a schedule has been
    /// running under which nothing was tried: when the next success was due if it was long ago. A
    /// known success counts from there. Without one it is the first backup, which was due at the
    /// earliest one interval after the partition was created or reset, and the schedule may have
    /// begun at any time since.
    pub(super) fn forgotten_due(&self) -> Option<DateTime<Utc>> {
        let first_look = self.facts.watched_since?;
        let since = self.facts.expected_since?;
        let began_unseen = self.facts.changed_at.is_none_or(|at| at < first_look);
        let is_forgotten = began_unseen && (since - first_look).abs() < self.rules.staleness;
        let expected = self.expected().filter(|_| is_forgotten)?;
        let latest = self.facts.clock_skew.latest_success(self.now);
        let has_ended = |attempt: PeriodicAttempt| attempt.ended <= latest;
        match self.last_success() {
            Some(_) => {
                self.untried_since(&expected)?;
                self.known_due(&expected)
            }
            None if self.attempt().is_some_and(has_ended) => None,
            None => self
                .reset_at()
                .map_or(Some(DateTime::<Utc>::MIN_UTC), |at| {
                    expected.first(at, self.rules)
                }),
        }
    }

    /// Whether that is late. It may be, or the timer may run since a moment ago.
    pub(super) fn may_be_overdue_forgotten(&self) -> bool {
        self.forgotten_due().is_some_and(|due| self.is_late(due))
    }

    /// Whether the last success may be false, and lists, which alone could tell, are stale.
    pub(super) fn may_lack_the_success(
        &self,
        applied: &EffectiveConfiguration,
        expected: Option<&Expectation<'_>>,
    ) -> bool {
        let is_in_doubt =
            self.facts.confirmation.needs_list_since.is_some() && self.last_success().is_some();
        let is_judged_by_lists = self.rules.reads_lists && applied.policy.is_some();
        let awaits_first = self
            .first_list_until()
            .is_some_and(|until| self.now < until);
        let is_proved = self
            .proved_due(expected)
            .is_some_and(|due| !self.is_late(due));
        is_in_doubt && is_judged_by_lists && !self.sees_list() && !awaits_first && !is_proved
    }

    /// Until when a list is awaited that judges the last success, where this process has read none:
    /// as long as a list would be fresh, from the claim and from the policy on.
    pub(super) fn first_list_until(&self) -> Option<DateTime<Utc>> {
        let claimed = self.facts.confirmation.needs_list_since?;
        let since = Some(claimed).max(self.facts.expected_since)?;
        let is_first = self.facts.listed_at.is_none();
        is_first.then(|| plus(since, self.rules.list_staleness))
    }

    /// When the next success is due after the newest listed backup alone.
    pub(super) fn proved_due(&self, expected: Option<&Expectation<'_>>) -> Option<DateTime<Utc>> {
        self.facts.confirmation.needs_list_since?;
        let (listed, expected) = self.facts.confirmation.newest_listed.zip(expected)?;
        if self.facts.clock_skew.plausible_from(listed) > self.now {
            return None;
        }
        let next = expected.after_success(listed, self.rules)?;
        Some(self.not_before_restart(expected, next))
    }

    fn is_late(&self, due: DateTime<Utc>) -> bool {
        self.facts.clock_skew.to_cluster_time(self.now) > self.late_from(due)
    }

    pub(super) fn is_fresh(&self, read_at: DateTime<Utc>) -> bool {
        self.believes(read_at, self.rules.staleness)
    }

    /// Whether what was read then is believed for so long now. A reading of the future was made
    /// before the exporter's clock was set back: nobody knows how old it is.
    fn believes(&self, read_at: DateTime<Utc>, limit: TimeDelta) -> bool {
        (-SET_BACK..limit).contains(&(self.now - read_at))
    }

    /// Whether what was seen then lies behind by the exporter's clock, as it is set now. What does
    /// not was seen before the clock was set back, nobody knows when: to count from it would hide
    /// every breach until its time has come.
    pub(super) fn has_been(&self, moment: DateTime<Utc>) -> bool {
        moment <= plus(self.now, SET_BACK)
    }

    /// When that turns: as the clock comes to it, and as it gets too old.
    pub(super) fn turns(
        read_at: Option<DateTime<Utc>>,
        limit: TimeDelta,
    ) -> [Option<DateTime<Utc>>; 2] {
        let begins = read_at.map(|at| plus(at, -SET_BACK));
        [begins, read_at.map(|at| plus(at, limit))]
    }

    pub(super) fn sees_progress(&self) -> bool {
        self.facts
            .progress
            .is_some_and(|read| self.is_fresh(read.at))
    }

    pub(super) fn sees_health(&self) -> bool {
        self.facts.health.is_some_and(|read| self.is_fresh(read.at))
    }

    pub(super) fn sees_list(&self) -> bool {
        let believed = |at| self.believes(at, self.rules.list_staleness);
        self.facts.listed_at.is_some_and(believed)
    }

    pub(super) fn sees_successes(&self) -> bool {
        self.sees_progress() || self.sees_health() || self.sees_list()
    }

    /// Whether the successes that are expected would be seen: those of a policy never show in
    /// the record of requests, those of requests nowhere else.
    pub(super) fn sees_expected_successes(&self, applied: &EffectiveConfiguration) -> bool {
        match applied.policy {
            Some(_) => self.sees_health() || self.sees_list(),
            None => self.sees_progress(),
        }
    }

    /// The moment up to which a success would have been seen. A list is read rarely: until the
    /// next one, what happened since is not known, and its absence proves nothing.
    pub(super) fn seen_until(&self, applied: &EffectiveConfiguration) -> Option<DateTime<Utc>> {
        let by_health = self.sees_health() && !self.awaits_first_list();
        if applied.policy.is_none() || by_health {
            return Some(self.now);
        }
        self.facts.listed_at
    }

    /// A failed attempt hides the success before it, which only a list can tell to a process that
    /// has just begun to watch. It waits for the first one, but not for ever.
    pub(super) fn awaits_first_list(&self) -> bool {
        let since = self.facts.watched_since;
        let is_new = since.is_some_and(|since| self.now - since < self.rules.list_staleness);
        let may_hide = |attempt: PeriodicAttempt| self.may_hide_a_success(attempt);
        is_new
            && self.rules.reads_lists
            && self.facts.listed_at.is_none()
            && self.failed_attempt().is_some_and(may_hide)
    }

    /// Whether there may be a success between the one that is remembered and a failed attempt: none
    /// fits in where that attempt was the first that was due. And whatever fits in was due again
    /// when this one failed.
    fn may_hide_a_success(&self, attempt: PeriodicAttempt) -> bool {
        let Some((known, expected)) = self.last_success().zip(self.expected()) else {
            return true;
        };
        let hidden = expected.after_success(known, self.rules);
        let next = hidden.and_then(|hidden| expected.next(hidden));
        let fits_in = next.is_some_and(|next| plus(next, -JITTER) <= attempt.ended);
        fits_in && !self.is_late(attempt.ended)
    }

    /// When the partition was created or reset, if that is not in the future.
    pub(super) fn reset_at(&self) -> Option<DateTime<Utc>> {
        let latest = self.facts.clock_skew.latest_success(self.now);
        self.facts.reset_at.filter(|at| *at <= latest)
    }
}
