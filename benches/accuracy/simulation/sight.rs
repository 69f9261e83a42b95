//! When the exporter's questions about a partition were last answered.
//!
//! Responsible for what can be known at a moment, and for nothing that is known.

use super::calendar::MINUTE;
use super::truth::LISTS_EVERY;

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
    /// When the last list was asked for, and the last that was complete.
    pub(crate) list: Option<i64>,
    pub(crate) complete_list: Option<i64>,
    /// The newest success that an answer other than a list has reported.
    pub(crate) claimed: Option<i64>,
    /// Whether the clocks are too far apart to compare moments.
    pub(crate) clocks_disagree: bool,
}

impl Sight {
    /// A list that was asked for at `at` was answered.
    pub(crate) fn note_list(&mut self, at: i64, is_complete: bool) {
        self.list = Some(at);
        if is_complete {
            self.complete_list = Some(at);
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
        }
    }
}
