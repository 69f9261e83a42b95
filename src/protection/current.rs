//! The facts about one partition at the time of the evaluation.
//!
//! Pure. A stale fact counts as missing. So does a date in the future: it comes from a wrong clock,
//! and the partition would count as protected, or as not yet due, until that date.

use chrono::{DateTime, TimeDelta, Utc};

use super::clock_skew::saturating_add;
use super::effective::EffectiveConfiguration;
use super::expectation::Expectation;
use super::facts::{Facts, Rules};
use crate::model::{BackupProgress, BackupState, PeriodicAttempt};

/// A fact read this far in the future is still fresh: the exporter's clock may be set back by a
/// few seconds at any time.
pub(super) const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(5);

/// The configuration of every partition if the exporter does not read configurations.
static NO_POLICY: EffectiveConfiguration = EffectiveConfiguration {
    policy: None,
    suspended: None,
};

/// Facts and rules at one moment.
#[derive(Clone, Copy)]
pub(super) struct CurrentFacts<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) rules: &'a Rules,
    pub(super) now: DateTime<Utc>,
}

impl<'a> CurrentFacts<'a> {
    /// The effective configuration, if it is fresh.
    pub(super) fn configuration(&self) -> Option<&'a EffectiveConfiguration> {
        if !self.rules.reads_configuration && self.rules.expected_interval.is_some() {
            return Some(&NO_POLICY);
        }
        let read = self.facts.configuration?;
        self.is_fresh(read.at).then_some(read.value)
    }

    pub(super) fn last_success(&self) -> Option<DateTime<Utc>> {
        self.facts.success_at(self.now)
    }

    pub(super) fn expectation(&self) -> Option<Expectation<'a>> {
        if self.configuration()?.policy.is_none() {
            return self.rules.expected_interval.map(Expectation::Requests);
        }
        let schedule = self.facts.schedule.filter(|read| self.is_fresh(read.at))?;
        schedule.value.map(Expectation::Policy)
    }

    pub(super) fn has_fresh_progress(&self) -> bool {
        self.facts
            .progress
            .is_some_and(|read| self.is_fresh(read.at))
    }

    pub(super) fn has_fresh_health(&self) -> bool {
        self.facts.health.is_some_and(|read| self.is_fresh(read.at))
    }

    pub(super) fn has_fresh_list(&self) -> bool {
        let is_fresh = |at| self.is_younger(at, self.rules.list_staleness);
        self.facts.listed_at.is_some_and(is_fresh)
    }

    pub(super) fn can_see_successes(&self) -> bool {
        self.has_fresh_progress() || self.has_fresh_health() || self.has_fresh_list()
    }

    /// Whether a success of the expected kind would be visible: progress records contain no
    /// periodic backups, and the other sources are only read where a policy applies.
    pub(super) fn can_see_expected_successes(
        &self,
        configuration: &EffectiveConfiguration,
    ) -> bool {
        match configuration.policy {
            Some(_) => self.has_fresh_health() || self.has_fresh_list(),
            None => self.has_fresh_progress(),
        }
    }

    fn is_fresh(&self, read_at: DateTime<Utc>) -> bool {
        self.is_younger(read_at, self.rules.staleness)
    }

    /// Whether the age of a fact is known and below `limit`. A fact read in the future was read
    /// before the exporter's clock was set back, so its age is unknown.
    fn is_younger(&self, read_at: DateTime<Utc>, limit: TimeDelta) -> bool {
        (-CLOCK_TOLERANCE..limit).contains(&(self.now - read_at))
    }

    /// Converts a time of the exporter's clock to cluster time; `None` if it is in the future.
    /// Backups are started and dated by the clock of the cluster: compared with uncorrected times
    /// of the exporter, a healthy partition would be `Overdue`, or an overdue one would go
    /// unnoticed for as long as the clocks differ. A time in the future was noted before the
    /// exporter's clock was set back: counting from it would hide an overdue backup until then.
    pub(super) fn to_past_cluster_time(&self, at: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        let at = at.filter(|at| *at <= saturating_add(self.now, CLOCK_TOLERANCE))?;
        Some(self.facts.clock_skew.to_cluster_time(at))
    }

    /// When the partition was created or reset, unless that is in the future.
    pub(super) fn reset_at(&self) -> Option<DateTime<Utc>> {
        let latest = self.facts.clock_skew.latest_success(self.now);
        self.facts.reset_at.filter(|at| *at <= latest)
    }

    /// When the schedule last restarted, in cluster time. A restore restarts the schedule of a
    /// policy, but does not affect backups that are requested.
    pub(super) fn restarted_at(&self, expectation: &Expectation<'_>) -> Option<DateTime<Utc>> {
        let is_policy = matches!(expectation, Expectation::Policy(_));
        let reset = self.reset_at().filter(|_| is_policy);
        self.to_past_cluster_time(self.facts.changed_at).max(reset)
    }

    /// When a backup was first expected, if the replica has reported no attempt since: then it has
    /// not been under this policy for a whole interval. This holds even if the health report is
    /// stale, and whatever backups were requested.
    pub(super) fn untried_since(&self, expectation: &Expectation<'_>) -> Option<DateTime<Utc>> {
        let is_policy = matches!(expectation, Expectation::Policy(_));
        let is_untried = self.facts.health?.value.is_none();
        self.facts
            .expected_since
            .filter(|_| is_policy && is_untried)
    }

    /// The last periodic attempt under the current schedule. An earlier attempt does not count: a
    /// backup that a suspension discards reports a failure after its upload, and that report
    /// remains until the next attempt (`BackupManager.cs`, `BackupRestoreManager.cs`).
    pub(super) fn attempt(&self) -> Option<PeriodicAttempt> {
        let attempt = self.facts.health?.value;
        attempt.filter(|attempt| self.is_of_current_schedule(attempt.ended))
    }

    /// When the first known attempt under the current schedule ended.
    pub(super) fn first_attempt_ended(&self) -> Option<DateTime<Utc>> {
        let last = self.attempt()?.ended;
        let first = self.facts.first_attempt;
        let first = first.filter(|first| self.is_of_current_schedule(*first));
        Some(first.map_or(last, |first| first.min(last)))
    }

    fn is_of_current_schedule(&self, ended: DateTime<Utc>) -> bool {
        let restarted = self
            .to_past_cluster_time(self.facts.changed_at)
            .max(self.reset_at());
        restarted.is_none_or(|at| at < ended)
    }

    pub(super) fn failed_attempt(&self) -> Option<PeriodicAttempt> {
        self.attempt().filter(|attempt| !attempt.succeeded)
    }

    /// Whether the last attempt, periodic or requested, failed.
    pub(super) fn is_failing(&self) -> bool {
        let clock_skew = self.facts.clock_skew;
        let fresh_health = self.facts.health.filter(|_| self.has_fresh_health());
        let periodic = self.failed_attempt().filter(|_| fresh_health.is_some());
        let request = self.request_failed_since();
        let request = request.map(|since| clock_skew.to_cluster_time(since));
        let last_attempt = fresh_health.and_then(|read| read.value);
        // The report of an attempt is deleted together with its backup.
        let later_attempts = [
            last_attempt.map(|attempt| attempt.ended),
            self.facts.confirmation.deleted,
        ];
        let is_past = |ended: &DateTime<Utc>| clock_skew.plausible_from(*ended) <= self.now;
        let later_attempt = later_attempts.into_iter().flatten().filter(is_past).max();
        let request = request.filter(|since| later_attempt.is_none_or(|ended| ended < *since));
        periodic.map(|attempt| attempt.ended).max(request) > self.last_success()
    }

    /// When the last request was first seen to have failed. If it had failed before the exporter
    /// first read it, the time is unknown, and the failure counts only if no success is known.
    fn request_failed_since(&self) -> Option<DateTime<Utc>> {
        let record = self.progress_record()?;
        let counts = !self.facts.record_is_baseline || self.last_success().is_none();
        let since = self.facts.record_since?;
        (record.state.is_failure() && counts).then_some(since)
    }

    /// When the requested backup that is still running was first seen.
    pub(super) fn running_since(&self) -> Option<DateTime<Utc>> {
        let running = [BackupState::Accepted, BackupState::BackupInProgress];
        let record = self.progress_record()?;
        let since = self.facts.running_since.or(self.facts.record_since);
        since.filter(|_| running.contains(&record.state))
    }

    fn progress_record(&self) -> Option<&'a BackupProgress> {
        let read = self.facts.progress.filter(|read| self.is_fresh(read.at))?;
        read.value
    }

    /// Every time at which a fact becomes fresh, stale or plausible.
    pub(super) fn changes(&self) -> impl Iterator<Item = DateTime<Utc>> + use<'a> {
        let (facts, rules) = (self.facts, self.rules);
        let attempt = facts.health.and_then(|read| read.value);
        let read = [
            facts.configuration.map(|read| read.at),
            facts.schedule.map(|read| read.at),
            facts.progress.map(|read| read.at),
            facts.health.map(|read| read.at),
        ];
        let stale = read.map(|at| at.map(|at| saturating_add(at, rules.staleness)));
        let list_stale = facts
            .listed_at
            .map(|at| saturating_add(at, rules.list_staleness));
        let seen = [facts.listed_at, facts.changed_at, facts.expected_since];
        let fresh = read.into_iter().chain(seen);
        let fresh = fresh.map(|at| at.map(|at| saturating_add(at, -CLOCK_TOLERANCE)));
        let dated = [
            facts.last_success,
            facts.reset_at,
            attempt.map(|attempt| attempt.ended),
            facts.confirmation.deleted,
            facts.confirmation.newest_listed,
        ];
        let dated = dated.map(|at| at.map(|at| facts.clock_skew.plausible_from(at)));
        let stale = stale.into_iter().chain([list_stale]);
        stale.chain(fresh).chain(dated).flatten()
    }
}
