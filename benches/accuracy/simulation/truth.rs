//! What is true of one partition at each instant, from the log of what really happened to it.
//!
//! Responsible for the state that a verdict is measured by: the same nine words, derived from what
//! lies in the store and not from what the cluster answered, with arithmetic of its own. It must not
//! look at a snapshot, a verdict or an answer; [`Sight`] says only when which question was answered.
//! All moments are on the clock of the cluster. Sections are those of `docs/accuracy.md`.

use std::collections::BTreeMap;

use servicefabric_backup_exporter::protection::ProtectionState;
use servicefabric_backup_exporter::simulator::EstateEventKind;
use uuid::Uuid;

use super::calendar::{Calendar, HOUR, MINUTE, SECOND};
use super::sight::{Fresh, LIST_STALENESS, Sight};

/// Grace after a due moment, `protection.overdue_allowance`.
pub(crate) const ALLOWANCE: i64 = 15 * MINUTE;

/// The longest that a requested backup may take, `protection.stuck_after`.
pub(crate) const STUCK_AFTER: i64 = 15 * MINUTE;

/// `poll.backups_interval`.
pub(crate) const LISTS_EVERY: i64 = 15 * MINUTE;

/// The longest difference of clocks by which moments can be compared.
pub(crate) const COMPARABLE: i64 = HOUR;

/// A list asked for so long after a claim must hold the backup.
pub(crate) const SETTLED: i64 = 5 * MINUTE;

/// `expected_interval` in clusters that have one.
pub(crate) const EXPECTED_EVERY: Calendar = Calendar::Every(24 * 60);

/// What the operators have agreed on for a partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    /// Name, version and calendar of the policy that applies.
    pub(crate) policy: Option<(String, u64, Calendar)>,
    pub(crate) suspended: bool,
    /// Whether something else is expected to request backups where no policy applies.
    pub(crate) requests_expected: bool,
}

/// A backup that lies in a storage.
#[derive(Clone, Copy, Debug)]
struct Backup {
    /// The full backup that it depends on.
    chain: Uuid,
    taken: i64,
    ended: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Periodic,
    Requested,
}

/// What is true of a partition, whoever sees it.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    /// Whether its failed uploads are reported as successes.
    hides_failures: bool,
    terms: Terms,
    /// When a policy began to apply: before, there was no reason to read its health.
    agreed: i64,
    /// When requests became the only backups that are expected.
    alone_since: i64,
    /// When its schedule last restarted for a reason that an answer of the cluster shows.
    restarted: i64,
    /// When its schedule last restarted for a reason that shows nowhere.
    restarted_unseen: Option<i64>,
    /// When operators last changed something, visibly or not.
    changed: i64,
    changed_unseen: Option<i64>,
    /// What lies in a storage undamaged, also in one that its policy has left.
    stored: BTreeMap<Uuid, Backup>,
    /// When those were taken that lie there and cannot be restored.
    damaged: BTreeMap<Uuid, i64>,
    /// The newest of it that can be restored.
    newest: Option<Backup>,
    /// When the newest backup was last deleted.
    deleted: Option<i64>,
    /// The kind of attempt that ended last, if it failed.
    failed: Option<Attempt>,
    /// When the last periodic attempt ended that was reported.
    reported: Option<i64>,
    /// When the last failed attempt had been uploaded nevertheless.
    uploaded_at: Option<i64>,
    requested: Option<i64>,
}

/// What is true at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant {
    /// The state that the exporter should report: `Unknown` where it cannot see, and without
    /// failures that show nowhere.
    pub(crate) expected: ProtectionState,
    /// Whether the exporter could not see for more than one poll.
    pub(crate) is_blind: bool,
    /// The state as it is.
    pub(crate) real: ProtectionState,
    /// Since when the schedule and the allowance are broken, if they are.
    pub(crate) breach: Option<Breach>,
}

/// A broken schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breach {
    pub(crate) began: i64,
    /// Since when the answers read so far report a success that would keep the schedule, if only a
    /// list that has not been read yet can refute it.
    pub(crate) needs_list_since: Option<i64>,
    /// Whether only a list of all backups shows it: the newest backup would keep the schedule, but
    /// depends on one that is gone, or a damaged one is newer than all that can be restored.
    pub(crate) needs_history: bool,
    /// Whether its schedule would be kept if it counted from a restart that shows nowhere.
    pub(crate) after_unseen_restart: bool,
}

impl Truth {
    pub(crate) fn new(created: i64, hides_failures: bool) -> Self {
        Self {
            hides_failures,
            terms: Terms::default(),
            agreed: created,
            alone_since: created,
            restarted: created,
            restarted_unseen: None,
            changed: created,
            changed_unseen: None,
            stored: BTreeMap::new(),
            damaged: BTreeMap::new(),
            newest: None,
            deleted: None,
            failed: None,
            reported: None,
            uploaded_at: None,
            requested: None,
        }
    }

    /// Takes in what operators decided at `at`.
    pub(crate) fn agree(&mut self, terms: Terms, at: i64) {
        if self.terms == terms {
            return;
        }
        self.changed = at;
        let is_active = terms.policy.is_some() && !terms.suspended;
        if is_active {
            self.restarted = self.restarted.max(at);
        }
        // Attempts of the schedule before are not the last attempt of this one.
        self.failed = self.failed.filter(|kind| *kind == Attempt::Requested);
        if terms.policy.is_none() && self.terms.policy.is_some() {
            // Until then there was no reason to request backups.
            self.alone_since = at;
        }
        if terms.policy.is_some() && self.terms.policy.is_none() {
            self.agreed = at;
        }
        self.terms = terms;
    }

    /// Takes in that operators restarted its schedule in a way that no answer shows.
    pub(crate) fn restart_unseen(&mut self, at: i64) {
        self.changed_unseen = Some(at);
    }

    /// Takes in what happened to it.
    pub(crate) fn note(&mut self, what: EstateEventKind, at: i64) {
        match what {
            EstateEventKind::Configured { active: true }
                if self.changed_unseen > Some(self.changed) =>
            {
                self.restarted_unseen = Some(at);
            }
            EstateEventKind::Configured { active: true } | EstateEventKind::Restored => {
                self.restarted = self.restarted.max(at);
            }
            EstateEventKind::Stored {
                backup,
                chain,
                taken,
                restorable: true,
                ..
            } => {
                let stored = Backup {
                    chain,
                    taken: taken.timestamp_millis(),
                    ended: at,
                };
                self.stored.insert(backup, stored);
                let is_newest = self.newest.is_none_or(|it| it.taken <= stored.taken);
                if is_newest && self.stored.contains_key(&chain) {
                    self.newest = Some(stored);
                }
                (self.failed, self.deleted) = (None, None);
            }
            EstateEventKind::Stored { backup, taken, .. } => {
                self.damaged.insert(backup, taken.timestamp_millis());
            }
            EstateEventKind::Deleted { backup, .. } => self.delete(backup, at),
            EstateEventKind::BackedUp { .. } => (self.failed, self.reported) = (None, Some(at)),
            EstateEventKind::Failed => {
                self.reported = Some(at);
                // A change of role ends an attempt without a report, but only after its upload.
                let was_uploaded = self.newest.is_some_and(|it| it.ended == at);
                (self.failed, self.uploaded_at) =
                    (Some(Attempt::Periodic), was_uploaded.then_some(at));
            }
            EstateEventKind::PrimaryMoved => {
                if self.uploaded_at == Some(at) {
                    self.failed = None;
                }
            }
            EstateEventKind::Requested => self.requested = Some(at),
            EstateEventKind::BackedUpOnRequest { .. } => {
                (self.requested, self.failed) = (None, None);
            }
            EstateEventKind::RequestFailed => {
                (self.requested, self.failed) = (None, Some(Attempt::Requested));
            }
            EstateEventKind::Configured { active: false }
            | EstateEventKind::Armed { .. }
            | EstateEventKind::TimerStopped
            | EstateEventKind::AwaitsRestore => {}
        }
    }

    fn delete(&mut self, backup: Uuid, at: i64) {
        self.damaged.remove(&backup);
        let deleted = self.stored.remove(&backup);
        let is_lost = |it: Backup| {
            it.chain == backup || deleted.is_some_and(|deleted| deleted.taken == it.taken)
        };
        if self.newest.is_some_and(is_lost) {
            self.newest = self.newest_until(at);
            self.deleted = Some(at);
        }
    }

    /// The newest backup that can be restored, of those that had been uploaded at `until`.
    fn newest_until(&self, until: i64) -> Option<Backup> {
        self.newest_of(|it| it.ended <= until)
    }

    fn newest_of(&self, counts: impl Fn(&Backup) -> bool) -> Option<Backup> {
        let stored = self.stored.values().filter(|it| counts(it));
        let restorable = stored.filter(|it| self.stored.contains_key(&it.chain));
        restorable.max_by_key(|it| it.taken).copied()
    }

    /// When the newest backup in a storage was taken and uploaded.
    pub(crate) fn newest(&self) -> Option<(i64, i64)> {
        self.newest.map(|it| (it.taken, it.ended))
    }

    /// When the newest backup in a storage had been uploaded.
    pub(crate) fn last_success(&self) -> Option<i64> {
        Some(self.newest?.ended)
    }

    /// What is true at `now`, and what of it an exporter with this sight can know.
    pub(crate) fn at(&self, now: i64, sight: &Sight) -> Instant {
        let breach = self.breach(now, sight);
        let real = self.state(now, breach.is_some(), self.failed, true);
        // A question that had no reason before is not unanswered yet.
        let sight = &Sight {
            health: sight.health.max(Some(self.agreed)),
            ..*sight
        };
        let fresh = Fresh::of(sight, now);
        // The record of requests is not needed for a verdict; without it, they are not seen.
        let shown = self.failed.filter(|kind| match kind {
            Attempt::Periodic => !self.hides_failures,
            Attempt::Requested => fresh.progress,
        });
        let seen = self.state(now, breach.is_some(), shown, fresh.progress);
        let expected = if self.is_in_sight(now, sight, fresh, seen) {
            seen
        } else {
            ProtectionState::Unknown
        };
        // Answers of a slow gateway are dated when the last one of their kind has arrived.
        let lately = Fresh::of(sight, now - MINUTE);
        let was_in_sight = self.is_in_sight(now - MINUTE, sight, lately, seen);
        Instant {
            is_blind: expected == ProtectionState::Unknown && !was_in_sight,
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

    fn breach(&self, now: i64, sight: &Sight) -> Option<Breach> {
        let late_from = self.late_from(self.newest)?;
        // What was deleted had kept the schedule until then.
        let began = late_from.max(self.deleted.unwrap_or(late_from));
        if now <= began {
            return None;
        }
        let listed = |after: i64| sight.complete_list.is_some_and(|asked| asked >= after);
        // After a list has refuted a report, a further one is not believed before it is listed.
        let claimed = sight.claimed.filter(|claimed| {
            self.keeps(*claimed, *claimed, now) && !listed(*claimed + SETTLED) && !sight.is_refuted
        });
        let claimed_since = claimed.and(sight.first_claimed);
        let deleted = self
            .deleted
            .filter(|deleted| *deleted == began && !listed(began));
        // A damaged one hides that the good one before it was deleted.
        let damaged = self.damaged.values().max().copied();
        let is_hidden = damaged.is_some_and(|damaged| {
            self.deleted.is_some_and(|deleted| damaged <= deleted)
                && self.newest.is_none_or(|it| it.taken < damaged)
                && sight.claimed.is_none_or(|claimed| claimed < damaged)
        });
        let due_after = |restart: i64| Some(self.due(None)?.max(self.next(restart)?));
        let after_unseen_restart = self
            .restarted_unseen
            .and_then(due_after)
            .is_some_and(|due| now <= due + ALLOWANCE);
        Some(Breach {
            began,
            needs_list_since: claimed_since.max(deleted).map(|since| since.max(began)),
            needs_history: is_hidden
                || self
                    .stored
                    .values()
                    .any(|it| self.keeps(it.taken, it.ended, now)),
            after_unseen_restart,
        })
    }

    /// From when on the schedule is broken beyond the allowance, if this backup is the newest.
    fn late_from(&self, newest: Option<Backup>) -> Option<i64> {
        let newest = newest.map(|it| (it.taken, it.ended));
        Some(self.due(newest)? + ALLOWANCE)
    }

    /// Whether a backup that was taken and uploaded at these moments would keep the schedule.
    fn keeps(&self, taken: i64, ended: i64, now: i64) -> bool {
        let due = self.due(Some((taken, ended)));
        due.is_some_and(|due| now <= due + ALLOWANCE)
    }

    /// When the next backup is due after one that was taken and uploaded at these moments, or
    /// after the schedule restarted.
    fn due(&self, newest: Option<(i64, i64)>) -> Option<i64> {
        match &self.terms.policy {
            Some((_, _, calendar)) => {
                let counted = newest.map(|(taken, ended)| calendar.after(taken, ended));
                let restarted = calendar.first_after(self.restarted);
                Some(counted.unwrap_or(restarted).max(restarted))
            }
            None if self.terms.requests_expected => {
                let newest = newest.map_or(self.alone_since, |(_, ended)| ended);
                Some(EXPECTED_EVERY.first_after(newest.max(self.alone_since)))
            }
            None => None,
        }
    }

    /// When the first backup is due after a restart of the schedule.
    fn next(&self, restarted: i64) -> Option<i64> {
        let (_, _, calendar) = self.terms.policy.as_ref()?;
        Some(calendar.first_after(restarted))
    }

    /// The state with this failure, with or without what is known of requests.
    fn state(
        &self,
        now: i64,
        is_late: bool,
        failed: Option<Attempt>,
        with_requests: bool,
    ) -> ProtectionState {
        let runs_since = self.requested.map(|since| now - since);
        if with_requests && runs_since.is_some_and(|age| age > STUCK_AFTER) {
            return ProtectionState::Stuck;
        }
        if self.terms.policy.is_none() && !self.terms.requests_expected {
            return ProtectionState::Unprotected;
        }
        if self.terms.suspended {
            return ProtectionState::Suspended;
        }
        match (is_late, self.newest.is_none()) {
            (true, true) => ProtectionState::NeverBackedUp,
            (true, false) => ProtectionState::Overdue,
            (false, _) if failed.is_some() => ProtectionState::Failing,
            (false, true) => ProtectionState::Pending,
            (false, false) => ProtectionState::Protected,
        }
    }

    /// Whether it can be known with this sight that `state` is the state.
    fn is_in_sight(&self, now: i64, sight: &Sight, fresh: Fresh, state: ProtectionState) -> bool {
        if !fresh.configuration || !(fresh.progress || fresh.health || fresh.list) {
            return false;
        }
        match state {
            ProtectionState::Stuck | ProtectionState::Unprotected | ProtectionState::Suspended => {
                true
            }
            _ if sight.clocks_disagree => false,
            _ if self.terms.policy.is_none() => fresh.progress,
            _ if !fresh.policies => false,
            _ if self.is_claimed_only(now, sight, fresh)
                || self.is_forgotten(now, sight, state) =>
            {
                false
            }
            _ if fresh.health => true,
            // A list shows the past up to its moment: a backup that is late only since then may
            // have come.
            _ if fresh.list => {
                let until = sight.list.max(sight.health).unwrap_or(now);
                let late_from = self.late_from(self.newest_until(until));
                late_from.is_none_or(|from| now <= from || until > from)
            }
            _ => false,
        }
    }

    /// Whether nothing but a report that can be false tells of the newest success, and the last list
    /// that could confirm one is stale.
    fn is_claimed_only(&self, now: i64, sight: &Sight, fresh: Fresh) -> bool {
        // What was read, or changed, in the last two polls may not be published yet.
        let is_settled = now - self.changed.max(self.restarted).max(sight.claimed_at) > IN_TIME;
        // A report that does not keep the schedule is late, whether it is true or not.
        let claimed = sight
            .claimed
            .filter(|claimed| is_settled && self.keeps(*claimed, *claimed, now));
        // What a list shows is there, whatever the clock of the exporter was then.
        let listed =
            self.newest_of(|it| sight.shown.is_some_and(|shown| it.taken - shown < SECOND));
        let is_shown = |claimed: i64| listed.is_some_and(|it| it.ended >= claimed);
        let is_newer =
            |claimed| sight.proving_list.is_none_or(|asked| asked < claimed) && !is_shown(claimed);
        // The first list of a process may come as late as that.
        let first_claimed = sight.first_periodic.or(sight.first_claimed);
        let awaited_since = first_claimed.max(Some(self.agreed));
        let awaits_first = !sight.has_listed
            && awaited_since.is_some_and(|since| now - since < LIST_STALENESS + IN_TIME);
        let is_proved = listed.is_some_and(|it| self.keeps(it.taken, it.ended, now));
        self.hides_failures
            && !fresh.proving_list
            && claimed.is_some_and(is_newer)
            && !awaits_first
            && !is_proved
    }

    /// Whether the schedule may have restarted just before a process began that remembers nothing:
    /// no attempt has been reported since it restarted.
    fn is_forgotten(&self, now: i64, sight: &Sight, state: ProtectionState) -> bool {
        let is_late = matches!(
            state,
            ProtectionState::Overdue | ProtectionState::NeverBackedUp
        );
        let is_untried = self.reported.is_none_or(|at| at < self.restarted);
        let forgot = sight.forgot.filter(|forgot| *forgot > self.restarted);
        let late_from = forgot.and_then(|forgot| Some(self.next(forgot)? + ALLOWANCE));
        is_late && is_untried && late_from.is_some_and(|from| now <= from)
    }
}

/// The longest that may pass until a breach is reported: two polls.
pub(crate) const IN_TIME: i64 = 120 * SECOND;
