//! What the verdict rests on, and by what it is judged.
//!
//! Values only: each fact with the moment at which it was read, so that the judge can tell what
//! is still believed.

use chrono::{DateTime, TimeDelta, Utc};

use super::clock_skew::ClockSkew;
use super::confirmation::Confirmation;
use super::effective::EffectiveConfiguration;
use crate::model::{BackupProgress, PeriodicAttempt, Read, Schedule};

/// All that the verdict on a partition rests on. `None` is what was never read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// What applies to it.
    pub configuration: Option<Read<&'a EffectiveConfiguration>>,
    /// Schedule of the policy that applies: `None` inside when there is no such policy, or its
    /// kind of schedule is not known.
    pub schedule: Option<Read<Option<&'a Schedule>>>,
    /// The record of the last requested backup.
    pub progress: Option<Read<Option<&'a BackupProgress>>>,
    /// Since when that record is as it is.
    pub record_since: Option<DateTime<Utc>>,
    /// Since when it is accepted or in progress, without a new request in between.
    pub running_since: Option<DateTime<Utc>>,
    /// Whether it was so already when this exporter first looked.
    pub record_is_baseline: bool,
    /// The last periodic attempt.
    pub health: Option<Read<Option<PeriodicAttempt>>>,
    /// When the backups in the store were last listed.
    pub listed_at: Option<DateTime<Utc>>,
    /// The newest proof of a good backup, from whatever source. It is ignored while it is dated in
    /// the future: see [`Self::success_at`].
    pub last_success: Option<DateTime<Utc>>,
    /// Whether a list of the store has confirmed that success.
    pub confirmation: Confirmation,
    /// When it was first seen that a backup is expected.
    pub expected_since: Option<DateTime<Utc>>,
    /// When the schedule was last seen to restart: protection began, was resumed or got another
    /// policy, or the report of the last attempt vanished.
    pub changed_at: Option<DateTime<Utc>>,
    /// When the partition was created, last lost data or was last restored, on the clock of the
    /// cluster. No schedule has been running for longer.
    pub reset_at: Option<DateTime<Utc>>,
    /// Since when this process watches the partition.
    pub watched_since: Option<DateTime<Utc>>,
    /// The clock of the cluster and the exporter's. Times of backups and [`Self::reset_at`] are of
    /// the former, all others here of the latter.
    pub clock_skew: ClockSkew,
}

impl Facts<'_> {
    /// The last success, unless it is dated in the future at `now`. A date that was plausible when
    /// it was read is not plausible any more after a wrong clock was corrected.
    pub fn success_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.last_success
            .filter(|at| self.clock_skew.plausible_from(*at) <= now)
    }
}

/// By what the facts are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Older facts are not believed, if they are read in each cycle.
    pub staleness: TimeDelta,
    /// Older lists of backups are not believed.
    pub list_staleness: TimeDelta,
    /// Grace after the due moment.
    pub overdue_allowance: TimeDelta,
    /// How long before a run by the clock a success may be dated that belongs to that run.
    pub run_tolerance: TimeDelta,
    /// The longest that a requested backup may take.
    pub stuck_after: TimeDelta,
    /// What is expected where no policy applies.
    pub expected_interval: Option<TimeDelta>,
    /// Whether the configuration is read at all.
    pub reads_configuration: bool,
    /// Whether lists of backups are read at all.
    pub reads_lists: bool,
}
