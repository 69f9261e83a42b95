//! The successes of one partition: what health and progress claim, and what lists prove.
//!
//! Pure. Only a listed backup proves a success. An `Ok` in the health store and a record in
//! `Success` are claims: actor services report both after an upload that failed
//! (`ReplicatedStore.BackupAsyncOperation.cpp`), a cancelled backup reports `Ok`
//! (`BackupRestoreManager.cs`), a requested backup may be in another storage, and a backup can be
//! deleted (`CleanBackup`). A claim counts until a complete list, requested late enough after it,
//! shows neither its backup nor a newer one. After that, no claim of the same source counts before a
//! list has confirmed it: a replica whose uploads fail may report `Ok` every few seconds.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::claim::{Claim, ClaimPolicy, ClaimStatus};
use super::listing::{ListMetadata, PartitionListing};
use super::record::{RecoveryPoint, SuccessSource};
use crate::protection::Confirmation;

/// What is known of the successes of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Successes {
    /// The newest restorable backup that a list has shown, unless a later list ended it.
    pub listed: Option<Arc<RecoveryPoint>>,
    /// The newest report of a periodic backup that succeeded.
    pub periodic: Option<Arc<Claim>>,
    /// The newest record of a requested backup that succeeded.
    pub requested: Option<Arc<Claim>>,
}

impl Successes {
    /// The newest success that counts; one dated later than `latest` only where there is no other.
    pub(super) fn last(&self, latest: DateTime<Utc>) -> Option<&Arc<RecoveryPoint>> {
        let claims = self.claims().filter(|claim| claim.counts());
        let points = claims.map(|claim| &claim.point).chain(&self.listed);
        points.max_by_key(|point| point.rank(latest))
    }

    /// Whether a list has shown the backup of `success`, which is the last one, or a newer one.
    pub fn is_confirmed(&self, success: &RecoveryPoint) -> bool {
        let claim = self.claim_of(success);
        success.source == SuccessSource::List
            || claim.is_some_and(|claim| claim.standing == ClaimStatus::Confirmed)
    }

    /// The claim that `success`, which is the last one, was made by.
    fn claim_of(&self, success: &RecoveryPoint) -> Option<&Claim> {
        match success.source {
            SuccessSource::List => None,
            SuccessSource::Periodic => self.periodic.as_deref(),
            SuccessSource::Requested => self.requested.as_deref(),
        }
    }

    /// What lists say of the last success.
    pub(super) fn confirmation(&self, last: Option<&RecoveryPoint>) -> Confirmation {
        let ended = self.claims().filter(|claim| !claim.counts());
        let ended = ended.max_by_key(|claim| claim.point.at);
        let is_deleted = |claim: &&Arc<Claim>| matches!(claim.standing, ClaimStatus::Deleted(_));
        let deleted = self.claims().filter(is_deleted);
        let listed = self.listed.as_deref();
        let is_numbered = listed.is_some_and(|point| point.lsn.is_some());
        let claim = last.and_then(|last| self.claim_of(last));
        let claim = claim.filter(|claim| !is_numbered && claim.standing != ClaimStatus::Confirmed);
        Confirmation {
            newest_listed: listed.map(|point| point.at),
            is_confirmed: last.is_some_and(|last| self.is_confirmed(last)),
            needs_list_since: claim.map(|claim| claim.open_since),
            deleted: deleted.map(|claim| claim.point.at).max(),
            rejected_claim: ended.map(|claim| (claim.point.at, claim.standing.ended_at())),
        }
    }

    /// Log sequence number of `success`, which is the last one. A periodic one has that of its
    /// listed backup.
    pub(super) fn lsn_of(&self, success: &RecoveryPoint) -> Option<u64> {
        let is_listed = success.source == SuccessSource::Periodic && self.is_confirmed(success);
        let listed = self.listed.as_deref().filter(|_| is_listed);
        success.lsn.or_else(|| listed?.lsn)
    }

    fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        [&self.periodic, &self.requested].into_iter().flatten()
    }

    /// Takes a claim in that was read at `seen_at`; of a periodic one, with the end of the attempt
    /// before it where readings were frequent. Returns whether it is new and counts.
    pub(super) fn claim(
        &mut self,
        point: &RecoveryPoint,
        attempt_before: Option<DateTime<Utc>>,
        seen_at: DateTime<Utc>,
        terms: &ClaimPolicy<'_>,
        latest: DateTime<Utc>,
    ) -> bool {
        let requested = self.requested.clone();
        let slot = match point.source {
            SuccessSource::Periodic => &mut self.periodic,
            SuccessSource::Requested => &mut self.requested,
            SuccessSource::List => return false,
        };
        // A claim that is dated in the future does not hide the next real one.
        if let Some(known) = slot.as_mut().filter(|known| known.point.at <= latest) {
            let is_same = point.is_same_backup(&known.point);
            if is_same || point.at < known.point.at {
                read_again(known, is_same.then_some(terms.storage).flatten(), seen_at);
                return false;
            }
        }
        let mut claim = Claim::new(
            RecoveryPoint {
                storage: terms.storage,
                ..point.clone()
            },
            seen_at,
        );
        claim.is_next = attempt_before.is_some();
        let known = slot.as_ref().filter(|known| known.point.at <= latest);
        let before = |known: &Arc<Claim>| known.latest_before(claim.point.at);
        claim.after = attempt_before
            .max(known.and_then(before))
            .max(requested.as_ref().and_then(before));
        if let Some(known) = known
            && !known.point.is_elsewhere(terms.storage)
        {
            claim.follow(known);
        }
        let listed = self.listed.as_deref();
        let is_listed = listed.is_some_and(|listed| {
            !listed.is_elsewhere(terms.storage)
                && claim.is_covered_by(listed, requested.as_deref(), terms.schedule) == Some(true)
        });
        let mut claim = Arc::new(claim);
        if is_listed {
            let created = listed.map(|listed| listed.at);
            Claim::settle(&mut claim, [None, Some(true)], created, seen_at);
        }
        let counts = claim.counts();
        *slot = Some(claim);
        counts
    }

    /// Takes in what a list shows. Returns how many claims it refuted: of health, of progress.
    pub(super) fn read_list(
        &mut self,
        shown: &PartitionListing,
        list: ListMetadata,
        terms: &ClaimPolicy<'_>,
    ) -> [u64; 2] {
        if shown.newest.is_some() {
            self.forget_later(list.future);
        }
        self.read_proof(shown, list, terms.storage);
        let requested = self.requested.clone();
        [&mut self.periodic, &mut self.requested].map(|slot| {
            let Some(claim) = slot else { return 0 };
            let judged = |claim: &Claim| {
                let is_shown = claim.is_shown(shown, requested.as_deref(), terms.schedule);
                is_shown
                    .filter(|is_shown| *is_shown || claim.is_settled(shown, list, terms.storage))
            };
            let judged = [claim.earlier.as_deref().and_then(judged), judged(claim)];
            let created = shown.newest.as_ref().map(|newest| newest.at);
            Claim::settle(claim, judged, created, list.at)
        })
    }

    /// Replaces the proof by what a list shows. A proof ends where a complete list of its storage
    /// shows neither it nor a newer one, and where its own backup can no longer be restored.
    fn read_proof(&mut self, shown: &PartitionListing, list: ListMetadata, storage: Option<u32>) {
        let newest = shown.newest.as_ref();
        if let Some(known) = &self.listed {
            let broken = shown.unrestorable.as_ref();
            let is_broken = broken.is_some_and(|broken| broken.is_same_backup(known));
            let may_exist =
                !list.is_complete || known.is_elsewhere(storage) || shown.hides_before(known.at);
            let is_newer = newest.is_some_and(|newest| newest.at >= known.at);
            let is_same = newest.is_some_and(|newest| newest.is_same_backup(known));
            if is_same || (!is_newer && may_exist && !is_broken) {
                return;
            }
        }
        self.listed = newest.map(|newest| {
            Arc::new(RecoveryPoint {
                storage,
                ..newest.clone()
            })
        });
    }

    /// Whether `newest`, the newest restorable backup of a list, leaves no claim and no proof open.
    pub(super) fn are_covered_by(&self, newest: &RecoveryPoint, terms: &ClaimPolicy<'_>) -> bool {
        let requested = self.requested.as_deref();
        let is_newest = self.listed.as_ref().is_none_or(|it| it.at <= newest.at);
        let mut claims = self.claims().filter(|claim| claim.counts());
        is_newest
            && claims
                .all(|claim| claim.is_covered_by(newest, requested, terms.schedule) == Some(true))
    }

    /// Forgets successes that are dated later than `future`.
    pub(super) fn forget_later(&mut self, future: DateTime<Utc>) {
        self.listed.take_if(|point| point.at > future);
        for slot in [&mut self.periodic, &mut self.requested] {
            slot.take_if(|claim| claim.point.at > future);
        }
    }

    /// Forgets claims that do not count, so that they count when they are read again.
    pub(super) fn forget_ended(&mut self) {
        for slot in [&mut self.periodic, &mut self.requested] {
            slot.take_if(|claim| !claim.counts());
        }
    }

    /// Takes in what an earlier process remembered of the same partition.
    pub(super) fn recall(&mut self, remembered: &Self, latest: DateTime<Utc>) {
        recall(&mut self.periodic, remembered.periodic.as_ref(), latest);
        recall(&mut self.requested, remembered.requested.as_ref(), latest);
        if let Some(listed) = &remembered.listed {
            RecoveryPoint::keep_newest(&mut self.listed, listed, latest);
        }
    }
}

/// Takes in that a claim was read once more, where its policy has this storage, or that an older one
/// was read from an outdated replica.
fn read_again(known: &mut Arc<Claim>, storage: Option<u32>, at: DateTime<Utc>) {
    if known.point.storage.is_none() && storage.is_some() {
        let known = Arc::make_mut(known);
        Arc::make_mut(&mut known.point).storage = storage;
    }
    // The clock of the exporter was set back.
    if at < known.seen_at {
        let known = Arc::make_mut(known);
        known.seen_at = at;
        known.open_since = known.open_since.min(at);
    }
}

/// Joins the newest claim of a source with what an earlier process remembered of that source.
fn recall(known: &mut Option<Arc<Claim>>, remembered: Option<&Arc<Claim>>, latest: DateTime<Utc>) {
    let Some(remembered) = remembered else { return };
    let Some(claim) = known
        .as_mut()
        .filter(|known| known.point.rank(latest) >= remembered.point.rank(latest))
    else {
        *known = Some(Arc::clone(remembered));
        return;
    };
    if remembered.point.at > latest {
        return;
    }
    let claim = Arc::make_mut(claim);
    if claim.point.is_same_backup(&remembered.point) {
        claim.seen_at = claim.seen_at.min(remembered.seen_at);
        claim.open_since = claim.open_since.min(remembered.open_since);
        if claim.standing == ClaimStatus::Open {
            claim.standing = remembered.standing;
        }
    } else if !remembered.point.is_elsewhere(claim.point.storage) {
        claim.follow(remembered);
    }
}

#[cfg(test)]
mod tests;
