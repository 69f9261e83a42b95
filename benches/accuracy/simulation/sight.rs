//! When the exporter's questions about a partition were last answered.
//!
//! Responsible for what can be known at a moment, and for nothing that is known.

use super::calendar::{MINUTE, SECOND};
use super::truth::{LISTS_EVERY, SETTLED};

/// `poll.staleness`.
pub(crate) const STALENESS: i64 = 5 * MINUTE;

/// Twice `poll.backups_interval`.
pub(crate) const LIST_STALENESS: i64 = 2 * LISTS_EVERY;

/// When each question about a partition was last answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sight {
    pub(crate) configuration: Option<i64>,
    pub(crate) policies: Option<i64>,
    pub(crate) progress: Option<i64>,
    pub(crate) health: Option<i64>,
    /// When a list was last asked for, answered or not.
    pub(crate) list_asked: Option<i64>,
    /// When the last list was asked for that was answered.
    pub(crate) list: Option<i64>,
    /// The same of the last one that was complete.
    pub(crate) complete_list: Option<i64>,
    /// The same of the last one that was complete or showed the newest backup.
    pub(crate) proving_list: Option<i64>,
    /// Whether the process that runs has read such a list.
    pub(crate) has_listed: bool,
    /// When a process began without memory of the processes before it.
    pub(crate) forgot: Option<i64>,
    /// When the newest backup was taken that any list showed.
    pub(crate) shown: Option<i64>,
    /// The newest success that an answer other than a list has reported, and when it was first read.
    pub(crate) claimed: Option<i64>,
    pub(crate) claimed_at: i64,
    /// The first of those that no complete list has judged, and the first of a periodic backup.
    pub(crate) first_claimed: Option<i64>,
    pub(crate) first_periodic: Option<i64>,
    /// Whether a list has refuted such a success, and none since has confirmed one.
    pub(crate) is_refuted: bool,
    /// Whether the clocks are too far apart to compare moments.
    pub(crate) clocks_disagree: bool,
}

impl Sight {
    /// What a new process knows that remembers what this one knew.
    pub(crate) fn remembered(self) -> Self {
        Self {
            complete_list: self.complete_list,
            proving_list: self.proving_list,
            shown: self.shown,
            claimed: self.claimed,
            claimed_at: self.claimed_at,
            first_claimed: self.first_claimed,
            first_periodic: self.first_periodic,
            is_refuted: self.is_refuted,
            ..Self::default()
        }
    }

    /// An answer other than a list, read at `now`, reported this success.
    pub(crate) fn note_claim(&mut self, success: i64, is_periodic: bool, now: i64) {
        if self.claimed < Some(success) {
            (self.claimed, self.claimed_at) = (Some(success), now);
            self.first_claimed = self.first_claimed.or(self.claimed);
            if is_periodic {
                self.first_periodic = self.first_periodic.or(self.claimed);
            }
        }
    }

    /// A list that was asked for at `at` was answered: when the newest listed backup was taken, and
    /// when the newest that exists was taken and uploaded.
    pub(crate) fn note_list(
        &mut self,
        at: i64,
        is_complete: bool,
        listed: Option<i64>,
        newest: Option<(i64, i64)>,
    ) {
        self.list = Some(at);
        // Lists have whole seconds.
        let shown = listed.zip(newest);
        if is_complete || shown.is_some_and(|(listed, (taken, _))| taken - listed < SECOND) {
            self.proving_list = Some(at);
            self.has_listed = true;
        }
        let is_judged = |claimed: &i64| is_complete && at - claimed >= SETTLED;
        if is_complete {
            self.complete_list = Some(at);
        }
        for first in [&mut self.first_claimed, &mut self.first_periodic] {
            if first.as_ref().is_some_and(is_judged) {
                *first = self.claimed.filter(|claimed| !is_judged(claimed));
            }
        }
        if let Some(claimed) = self.claimed.filter(is_judged) {
            // Records have whole seconds, and the time of the snapshot.
            self.is_refuted = newest.is_none_or(|(_, uploaded)| uploaded < claimed);
        }
    }
}

/// Which questions were answered within their staleness.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each source is fresh or stale, whatever the others are"
)]
pub(super) struct Fresh {
    pub(super) configuration: bool,
    pub(super) policies: bool,
    pub(super) progress: bool,
    pub(super) health: bool,
    pub(super) list: bool,
    pub(super) proving_list: bool,
}

impl Fresh {
    pub(super) fn of(sight: &Sight, now: i64) -> Self {
        let within = |at: Option<i64>, limit: i64| at.is_some_and(|at| now - at < limit);
        Self {
            configuration: within(sight.configuration, STALENESS),
            policies: within(sight.policies, STALENESS),
            progress: within(sight.progress, STALENESS),
            health: within(sight.health, STALENESS),
            list: within(sight.list, LIST_STALENESS),
            proving_list: within(sight.proving_list, LIST_STALENESS),
        }
    }
}
