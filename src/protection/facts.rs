//! The facts that a verdict is based on, and the rules by which they are evaluated.

use chrono::{DateTime, TimeDelta, Utc};

use super::clock_skew::ClockSkew;
use super::effective::EffectiveConfiguration;
use crate::model::{BackupProgress, PeriodicAttempt, Read, Schedule};

/// The facts about one partition. `None` means that a fact was never read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The effective backup configuration.
    pub configuration: Option<Read<&'a EffectiveConfiguration>>,
    /// Schedule of the effective policy: `None` inside if there is no such policy, or if its kind
    /// of schedule is unknown.
    pub schedule: Option<Read<Option<&'a Schedule>>>,
    /// The progress record: `None` inside if no backup was ever requested.
    pub progress: Option<Read<Option<&'a BackupProgress>>>,
    /// When the progress record was first read in its current state.
    pub record_since: Option<DateTime<Utc>>,
    /// When the current request was first read as accepted or in progress.
    pub running_since: Option<DateTime<Utc>>,
    /// Whether the first reading already showed the progress record in its current state.
    pub record_is_baseline: bool,
    /// The last periodic attempt: `None` inside if the health store has no report.
    pub health: Option<Read<Option<PeriodicAttempt>>>,
    /// End of the first periodic attempt under the current schedule that this process has seen.
    pub first_attempt: Option<DateTime<Utc>>,
    /// When the last backup list was requested.
    pub listed_at: Option<DateTime<Utc>>,
    /// The newest success from any source, possibly dated in the future: see
    /// [`Self::success_at`].
    pub last_success: Option<DateTime<Utc>>,
    /// What backup lists show about that success.
    pub confirmation: Confirmation,
    /// When the exporter first saw that a backup is expected.
    pub expected_since: Option<DateTime<Utc>>,
    /// When the schedule was last seen to restart: protection began, was resumed or got another
    /// policy, or the report of the last attempt was deleted.
    pub changed_at: Option<DateTime<Utc>>,
    /// When the partition was created, last lost data or was last restored, in cluster time. The
    /// schedule has not been running for longer.
    pub reset_at: Option<DateTime<Utc>>,
    /// When this process first saw the partition.
    pub watched_since: Option<DateTime<Utc>>,
    /// The dates of backups and [`Self::reset_at`] are in cluster time, all others in exporter
    /// time.
    pub clock_skew: ClockSkew,
}

impl Facts<'_> {
    /// The last success, unless it is dated in the future at `now`. The date may have been
    /// plausible when it was read, before a wrong clock was corrected.
    pub fn success_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.last_success
            .filter(|at| self.clock_skew.plausible_from(*at) <= now)
    }
}

/// What backup lists show about the last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// The newest restorable backup in a list.
    pub newest_listed: Option<DateTime<Utc>>,
    /// Whether a list showed the backup of the last success.
    pub is_confirmed: bool,
    /// When the last success was claimed, if only a list can confirm it: no list has done so yet,
    /// and no listed backup has a log sequence number. Services with log sequence numbers are not
    /// actor services, which report failed uploads as successes.
    pub needs_list_since: Option<DateTime<Utc>>,
    /// The newest success that a list had confirmed before its backup was deleted.
    pub deleted: Option<DateTime<Utc>>,
    /// The newest claim that does not count, and when the list was requested that refuted it;
    /// `None` inside while no list has.
    pub rejected_claim: Option<(DateTime<Utc>, Option<DateTime<Utc>>)>,
}

/// The settings by which facts are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Age from which facts that are read in every cycle are stale.
    pub staleness: TimeDelta,
    /// Age from which backup lists are stale.
    pub list_staleness: TimeDelta,
    /// Time after the due time until the partition is overdue.
    pub overdue_allowance: TimeDelta,
    /// How long before a run at a fixed time a success of that run may be dated.
    pub run_tolerance: TimeDelta,
    /// Maximum duration of a requested backup.
    pub stuck_after: TimeDelta,
    /// Expected interval between requested backups where no policy applies.
    pub expected_interval: Option<TimeDelta>,
    /// Whether backup configurations are read.
    pub reads_configuration: bool,
    /// Whether backup lists are read.
    pub reads_lists: bool,
}
