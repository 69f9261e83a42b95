//! The facts about a partition from which its protection state is evaluated.

use chrono::{DateTime, Utc};

use super::Snapshot;
use super::partition::PartitionSnapshot;
use super::record::{ProgressHistory, RecoveryPoint};
use crate::model::{Read, RestoreState};
use crate::protection::Facts;

impl PartitionSnapshot {
    /// The facts of the partition.
    pub fn facts<'a>(&'a self, snapshot: &'a Snapshot) -> Facts<'a> {
        let policies = snapshot.policies.as_ref();
        let applied = self.configuration.as_deref();
        let policy = applied.and_then(|applied| applied.policy.as_ref());
        let schedule = policy
            .and_then(|(name, _)| policies?.value.get(name))
            .and_then(|policy| policy.schedule.as_ref());
        let seen = self.progress_history.as_deref();
        let progress = self.progress.as_ref().map(|read| Read {
            value: read.value.as_deref(),
            at: read.at,
        });
        Facts {
            configuration: applied
                .zip(self.configuration_read_at)
                .map(|(value, at)| Read { value, at }),
            schedule: policies.map(|policies| Read {
                value: schedule,
                at: policies.at,
            }),
            progress,
            record_since: seen.and_then(ProgressHistory::since),
            running_since: seen.and_then(|seen| seen.running_since),
            record_is_baseline: seen.is_some_and(|seen| seen.is_baseline),
            health: self.health,
            first_attempt: self.first_attempt,
            listed_at: self.listed_at,
            last_success: self.last_success.as_ref().map(|point| point.at),
            confirmation: self.successes.confirmation(self.last_success.as_deref()),
            expected_since: match policy {
                Some(_) => self.protected_since,
                None => Some(self.known_since),
            },
            changed_at: self.changed_at,
            reset_at: self.reset_at(),
            watched_since: snapshot.status.since.max(Some(self.known_since)),
            clock_skew: snapshot.status.clock_skew_or_zero(),
        }
    }

    /// When the partition was created, last lost data or was last restored, if known.
    pub(super) fn reset_at(&self) -> Option<DateTime<Utc>> {
        let record = self.restore.and_then(|read| read.value);
        let restored = record
            .filter(|record| record.state == RestoreState::Success)
            .and_then(|record| record.timestamp);
        let reset = self.partition.data_loss_time.max(restored);
        reset.max(self.restore_reported)
    }

    /// The last success, unless it is dated in the future at `now`.
    pub fn success_at(&self, snapshot: &Snapshot, now: DateTime<Utc>) -> Option<&RecoveryPoint> {
        let latest = snapshot.status.clock_skew_or_zero().latest_success(now);
        self.last_success
            .as_deref()
            .filter(|point| point.at <= latest)
    }
}
