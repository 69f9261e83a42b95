//! What is true of one partition at each instant, from the log of what really happened to it.
//!
//! Responsible for the state that a verdict is measured by: the same nine words, reached from what
//! the simulated cluster did and not from what it answered, with arithmetic of its own. It may not
//! look at a snapshot, a verdict or an answer. All moments are on the clock of the cluster.

use std::collections::VecDeque;

use servicefabric_backup_exporter::protection::Protection;
use servicefabric_backup_exporter::simulator::Happening;

use super::calendar::{Calendar, MINUTE, SECOND};

/// Grace behind a due moment, `protection.overdue_allowance`.
pub(crate) const ALLOWANCE: i64 = 15 * MINUTE;

/// The longest that a requested backup may take, `protection.stuck_after`.
pub(crate) const STUCK_AFTER: i64 = 15 * MINUTE;

/// `poll.staleness`.
pub(crate) const STALENESS: i64 = 5 * MINUTE;

/// Twice `poll.backups_interval`.
pub(crate) const LIST_STALENESS: i64 = 30 * MINUTE;

/// What `expected_interval` says in clusters that have one.
pub(crate) const EXPECTED_EVERY: Calendar = Calendar::Every(24 * 60);

/// Successes remembered, to know what had been one when something was last seen.
const REMEMBERED: usize = 4;

/// What the operators have come to for a partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    /// Name, version and calendar of the policy that applies.
    pub(crate) policy: Option<(String, u64, Calendar)>,
    pub(crate) suspended: bool,
    /// Whether something else is expected to request backups where no policy applies.
    pub(crate) requests_expected: bool,
}

/// A backup that can be restored.
#[derive(Clone, Copy, Debug)]
struct Backup {
    taken: i64,
    ended: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Periodic,
    Requested,
}

/// When each thing about a partition was last read, and published, by the exporter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sight {
    pub(crate) configuration: Option<i64>,
    pub(crate) policies: Option<i64>,
    pub(crate) progress: Option<i64>,
    pub(crate) health: Option<i64>,
    pub(crate) list: Option<i64>,
}

/// What is true of a partition, whoever sees it.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    terms: Terms,
    /// When a policy began to apply: before, nobody had a reason to read its health.
    agreed: i64,
    /// When requests began to be what is expected.
    alone_since: i64,
    /// When its timer started anew last, or should have.
    restarted: i64,
    /// Newest last.
    successes: VecDeque<Backup>,
    /// The kind of attempt that ended last, if it failed.
    failed: Option<Attempt>,
    requested: Option<i64>,
}

/// What is true at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant {
    /// The state that the exporter should tell: `Unknown` where it cannot see.
    pub(crate) expected: Protection,
    /// The state as it is.
    pub(crate) real: Protection,
    /// Since when the schedule and the allowance are broken, if they are.
    pub(crate) breach: Option<i64>,
}

impl Truth {
    pub(crate) fn new(created: i64) -> Self {
        Self {
            terms: Terms::default(),
            agreed: created,
            alone_since: created,
            restarted: created,
            successes: VecDeque::new(),
            failed: None,
            requested: None,
        }
    }

    /// Takes in what operators decided at `at`.
    pub(crate) fn agree(&mut self, terms: Terms, at: i64) {
        if self.terms == terms {
            return;
        }
        let is_active = terms.policy.is_some() && !terms.suspended;
        if is_active {
            self.restarted = self.restarted.max(at);
        } else if self.terms.policy.is_some() {
            // The replica resets all that it knew, and its report disappears; a request is no
            // matter of the replica.
            self.failed = self.failed.filter(|kind| *kind == Attempt::Requested);
        }
        if terms.policy.is_none() && self.terms.policy.is_some() {
            // Whoever requests backups where no policy applies could not know before.
            self.alone_since = at;
        }
        if terms.policy.is_some() && self.terms.policy.is_none() {
            self.agreed = at;
        }
        self.terms = terms;
    }

    /// Takes in what happened to it.
    pub(crate) fn note(&mut self, what: Happening, at: i64) {
        match what {
            Happening::Configured { active: true } => self.restarted = self.restarted.max(at),
            Happening::Configured { active: false } => {}
            Happening::BackedUp { taken } => self.succeed(taken.timestamp_millis(), at),
            Happening::Failed => self.failed = Some(Attempt::Periodic),
            Happening::Requested => self.requested = Some(at),
            Happening::BackedUpOnRequest { taken } => {
                self.requested = None;
                self.succeed(taken.timestamp_millis(), at);
            }
            Happening::RequestFailed => {
                self.requested = None;
                self.failed = Some(Attempt::Requested);
            }
            Happening::Armed { .. }
            | Happening::TimerStopped
            | Happening::Stored { .. }
            | Happening::Deleted { .. }
            | Happening::PrimaryMoved
            | Happening::Restored
            | Happening::AwaitsRestore => {}
        }
    }

    fn succeed(&mut self, taken: i64, ended: i64) {
        self.failed = None;
        self.successes.push_back(Backup { taken, ended });
        if self.successes.len() > REMEMBERED {
            self.successes.pop_front();
        }
    }

    /// When the newest backup that could be restored had been uploaded.
    pub(crate) fn last_success(&self) -> Option<i64> {
        self.successes.back().map(|backup| backup.ended)
    }

    /// What is true at `now`, and what of it an exporter with this sight can know.
    pub(crate) fn at(&self, now: i64, sight: &Sight) -> Instant {
        let late_from = |until| self.late_from(until).filter(|from| now > *from);
        let breach = late_from(now);
        let real = self.state(now, breach.is_some(), true);
        // What is not read yet because nobody could know that it matters is not blindness yet.
        let sight = &Sight {
            health: sight.health.max(Some(self.agreed)),
            ..*sight
        };
        let fresh = Fresh::of(sight, now);
        // The record of requests is not needed for a verdict; without it, it tells nothing of them.
        let seen = self.state(now, breach.is_some(), fresh.progress);
        let expected = if self.is_in_sight(now, sight, fresh, seen) {
            seen
        } else {
            Protection::Unknown
        };
        Instant {
            expected,
            real,
            breach: breach.filter(|_| self.is_expected()),
        }
    }

    fn is_expected(&self) -> bool {
        match self.terms.policy {
            Some(_) => !self.terms.suspended,
            None => self.terms.requests_expected,
        }
    }

    /// From when on the schedule is broken beyond the allowance, if nothing succeeds after `until`.
    fn late_from(&self, until: i64) -> Option<i64> {
        let newest = self.successes.iter().rev().find(|it| it.ended <= until);
        let due = match &self.terms.policy {
            // An interval counts from the end of a backup, a run wants one that began with it.
            Some((_, _, calendar)) => {
                let counted = newest.map(|backup| {
                    if calendar.is_interval() {
                        backup.ended
                    } else {
                        backup.taken
                    }
                });
                calendar.after(counted.unwrap_or(self.restarted).max(self.restarted))
            }
            None if self.terms.requests_expected => {
                let newest = newest.map_or(self.alone_since, |backup| backup.ended);
                EXPECTED_EVERY.after(newest.max(self.alone_since))
            }
            None => return None,
        };
        Some(due + ALLOWANCE)
    }

    /// The state by all that happened, or by all but requests.
    fn state(&self, now: i64, is_late: bool, with_requests: bool) -> Protection {
        let runs_since = self.requested.map(|since| now - since);
        if with_requests && runs_since.is_some_and(|age| age > STUCK_AFTER) {
            return Protection::Stuck;
        }
        if self.terms.policy.is_none() && !self.terms.requests_expected {
            return Protection::Unprotected;
        }
        if self.terms.suspended {
            return Protection::Suspended;
        }
        let failed = self.failed;
        let failed = failed.is_some_and(|kind| with_requests || kind == Attempt::Periodic);
        match (is_late, self.successes.is_empty()) {
            (true, true) => Protection::NeverBackedUp,
            (true, false) => Protection::Overdue,
            (false, _) if failed => Protection::Failing,
            (false, true) => Protection::Pending,
            (false, false) => Protection::Protected,
        }
    }

    /// Whether somebody with this sight can know that `state` is the state.
    fn is_in_sight(&self, now: i64, sight: &Sight, fresh: Fresh, state: Protection) -> bool {
        if !fresh.configuration || !(fresh.progress || fresh.health || fresh.list) {
            return false;
        }
        match state {
            Protection::Stuck | Protection::Unprotected | Protection::Suspended => true,
            _ if self.terms.policy.is_none() => fresh.progress,
            _ if !fresh.policies => false,
            _ if fresh.health => true,
            // A list tells what was, up to its moment: what is late only since then may have come.
            _ if fresh.list => {
                let until = sight.list.max(sight.health).unwrap_or(now);
                let late_from = self.late_from(until);
                late_from.is_none_or(|from| now <= from || until > from)
            }
            _ => false,
        }
    }
}

/// What is read so lately that it is believed.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each source is believed or not, whatever the others are"
)]
struct Fresh {
    configuration: bool,
    policies: bool,
    progress: bool,
    health: bool,
    list: bool,
}

impl Fresh {
    fn of(sight: &Sight, now: i64) -> Self {
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

/// The longest that may pass until a breach is told: two polls.
pub(crate) const IN_TIME: i64 = 120 * SECOND;
