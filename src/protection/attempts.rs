//! The last attempt to back up, periodic or requested, and whether it failed.
//!
//! Pure.

use chrono::{DateTime, Utc};

use super::Evaluation;
use crate::model::PeriodicAttempt;

impl Evaluation<'_> {
    /// Whether the last attempt, of whichever kind, did not succeed.
    pub(super) fn is_failing(&self) -> bool {
        let clock_skew = self.facts.clock_skew;
        let periodic = self.attempt().filter(|_| self.sees_health());
        let failed_at = periodic
            .filter(|attempt| !attempt.succeeded)
            .map(|attempt| attempt.ended);
        let request = self.request_failed_since();
        let request = request.map(|since| clock_skew.to_cluster_time(since));
        let reported = self.facts.health.filter(|_| self.sees_health());
        let later_attempt = reported.and_then(|read| read.value).map(|last| last.ended);
        // Also one whose backup was deleted, and its report with it.
        let later_attempts = [later_attempt, self.facts.confirmation.deleted];
        let has_ended = |ended: &DateTime<Utc>| clock_skew.plausible_from(*ended) <= self.now;
        let later_attempt = later_attempts.into_iter().flatten().filter(has_ended).max();
        let request = request.filter(|since| later_attempt.is_none_or(|ended| ended < *since));
        let last_failure = failed_at.max(request);
        last_failure > self.last_success()
    }

    /// Since when the last request counts as failed. What had failed before this exporter first
    /// looked has no known time: it counts only where no success is known.
    fn request_failed_since(&self) -> Option<DateTime<Utc>> {
        let record = self.record()?;
        let counts = !self.facts.record_is_baseline || self.last_success().is_none();
        let since = self.facts.record_since?;
        (record.state.is_failure() && counts).then_some(since)
    }

    /// The last periodic attempt under the schedule as it runs now. One that ended before the
    /// schedule restarted is an attempt of the former one, and what it left behind stays until the
    /// next one: a backup that a suspension discarded reports a failure after its upload
    /// (`BackupManager.cs`, `BackupRestoreManager.cs`).
    pub(super) fn attempt(&self) -> Option<PeriodicAttempt> {
        let restarted = self.observed(self.facts.changed_at).max(self.reset_at());
        let attempt = self.facts.health?.value;
        attempt.filter(|attempt| restarted.is_none_or(|at| at < attempt.ended))
    }

    pub(super) fn failed_attempt(&self) -> Option<PeriodicAttempt> {
        self.attempt().filter(|attempt| !attempt.succeeded)
    }
}
