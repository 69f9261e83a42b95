//! The successes of one partition: claims of health reports and progress records, and listed backups.
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

/// The successes of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Successes {
    /// The newest restorable backup in a list, unless a later list shows that it is gone.
    pub listed: Option<Arc<RecoveryPoint>>,
    /// The newest claim of a health report.
    pub periodic: Option<Arc<Claim>>,
    /// The newest claim of a progress record.
    pub requested: Option<Arc<Claim>>,
}

impl Successes {
    /// The newest success that counts; one dated after `latest` only if there is no other.
    pub(super) fn last(&self, latest: DateTime<Utc>) -> Option<&Arc<RecoveryPoint>> {
        let claims = self.claims().filter(|claim| claim.counts());
        let points = claims.map(|claim| &claim.point).chain(&self.listed);
        points.max_by_key(|point| point.rank(latest))
    }

    /// Whether a list has confirmed `success`, which is the last one.
    pub fn is_confirmed(&self, success: &RecoveryPoint) -> bool {
        let claim = self.claim_of(success);
        success.source == SuccessSource::List
            || claim.is_some_and(|claim| claim.status == ClaimStatus::Confirmed)
    }

    /// The claim of `success`, which is the last one.
    fn claim_of(&self, success: &RecoveryPoint) -> Option<&Claim> {
        match success.source {
            SuccessSource::List => None,
            SuccessSource::Periodic => self.periodic.as_deref(),
            SuccessSource::Requested => self.requested.as_deref(),
        }
    }

    /// What lists show about the last success.
    pub(super) fn confirmation(&self, last: Option<&RecoveryPoint>) -> Confirmation {
        let ended = self.claims().filter(|claim| !claim.counts());
        let ended = ended.max_by_key(|claim| claim.point.at);
        let is_deleted = |claim: &&Arc<Claim>| matches!(claim.status, ClaimStatus::Deleted(_));
        let deleted = self.claims().filter(is_deleted);
        let listed = self.listed.as_deref();
        let is_numbered = listed.is_some_and(|point| point.lsn.is_some());
        let claim = last.and_then(|last| self.claim_of(last));
        let claim = claim.filter(|claim| !is_numbered && claim.status != ClaimStatus::Confirmed);
        Confirmation {
            newest_listed: listed.map(|point| point.at),
            is_confirmed: last.is_some_and(|last| self.is_confirmed(last)),
            needs_list_since: claim.map(|claim| claim.open_since),
            deleted: deleted.map(|claim| claim.point.at).max(),
            rejected_claim: ended.map(|claim| (claim.point.at, claim.status.ended_at())),
        }
    }

    /// Log sequence number of `success`, which is the last one; of the listed backup if the success is
    /// periodic.
    pub(super) fn lsn_of(&self, success: &RecoveryPoint) -> Option<u64> {
        let is_listed = success.source == SuccessSource::Periodic && self.is_confirmed(success);
        let listed = self.listed.as_deref().filter(|_| is_listed);
        success.lsn.or_else(|| listed?.lsn)
    }

    fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        [&self.periodic, &self.requested].into_iter().flatten()
    }

    /// Adds a claim that was read at `seen_at`. `attempt_before` is the end of the previous attempt, if
    /// readings were so frequent that none was missed in between. Returns whether the claim is new
    /// and counts.
    pub(super) fn add_claim(
        &mut self,
        point: &RecoveryPoint,
        attempt_before: Option<DateTime<Utc>>,
        seen_at: DateTime<Utc>,
        policy: &ClaimPolicy<'_>,
        latest: DateTime<Utc>,
    ) -> bool {
        let requested = self.requested.clone();
        let slot = match point.source {
            SuccessSource::Periodic => &mut self.periodic,
            SuccessSource::Requested => &mut self.requested,
            SuccessSource::List => return false,
        };
        // A claim dated in the future must not hide the next one.
        if let Some(known) = slot.as_mut().filter(|known| known.point.at <= latest) {
            let is_same = point.is_same_backup(&known.point);
            if is_same || point.at < known.point.at {
                update_repeated(known, is_same.then_some(policy.storage).flatten(), seen_at);
                return false;
            }
        }
        let mut claim = Claim::new(
            RecoveryPoint {
                storage: policy.storage,
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
            && !known.point.is_in_other_storage(policy.storage)
        {
            claim.follow(known);
        }
        let listed = self.listed.as_deref();
        let is_listed = listed.is_some_and(|listed| {
            !listed.is_in_other_storage(policy.storage)
                && claim.is_covered_by(listed, requested.as_deref(), policy.schedule) == Some(true)
        });
        let mut claim = Arc::new(claim);
        if is_listed {
            let created = listed.map(|listed| listed.at);
            Claim::apply_list(&mut claim, [None, Some(true)], created, seen_at);
        }
        let counts = claim.counts();
        *slot = Some(claim);
        counts
    }

    /// Applies a list. Returns the number of refuted claims: of health, of progress.
    pub(super) fn apply_list(
        &mut self,
        listing: &PartitionListing,
        list: ListMetadata,
        policy: &ClaimPolicy<'_>,
    ) -> [u64; 2] {
        if listing.newest.is_some() {
            self.remove_dated_after(list.future);
        }
        self.update_listed(listing, list, policy.storage);
        let requested = self.requested.clone();
        [&mut self.periodic, &mut self.requested].map(|slot| {
            let Some(claim) = slot else { return 0 };
            let decided = |claim: &Claim| {
                let is_listed = claim.is_listed(listing, requested.as_deref(), policy.schedule);
                is_listed.filter(|is_listed| {
                    *is_listed || claim.must_be_listed(listing, list, policy.storage)
                })
            };
            let decided = [claim.earlier.as_deref().and_then(decided), decided(claim)];
            let created = listing.newest.as_ref().map(|newest| newest.at);
            Claim::apply_list(claim, decided, created, list.at)
        })
    }

    /// Replaces the newest listed backup. It is removed if a complete list of its storage contains
    /// neither it nor a newer one, or if it has become unrestorable.
    fn update_listed(
        &mut self,
        listing: &PartitionListing,
        list: ListMetadata,
        storage: Option<u32>,
    ) {
        let newest = listing.newest.as_ref();
        if let Some(known) = &self.listed {
            let unrestorable = listing.unrestorable.as_ref();
            let is_unrestorable = unrestorable.is_some_and(|point| point.is_same_backup(known));
            let may_exist = !list.is_complete
                || known.is_in_other_storage(storage)
                || listing.hides_before(known.at);
            let is_newer = newest.is_some_and(|newest| newest.at >= known.at);
            let is_same = newest.is_some_and(|newest| newest.is_same_backup(known));
            if is_same || (!is_newer && may_exist && !is_unrestorable) {
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

    /// Whether `newest`, the newest restorable backup of a list, confirms every claim and is not older
    /// than the newest listed backup.
    pub(super) fn are_covered_by(&self, newest: &RecoveryPoint, policy: &ClaimPolicy<'_>) -> bool {
        let requested = self.requested.as_deref();
        let is_newest = self.listed.as_ref().is_none_or(|it| it.at <= newest.at);
        let mut claims = self.claims().filter(|claim| claim.counts());
        is_newest
            && claims
                .all(|claim| claim.is_covered_by(newest, requested, policy.schedule) == Some(true))
    }

    /// Removes successes dated after `future`.
    pub(super) fn remove_dated_after(&mut self, future: DateTime<Utc>) {
        self.listed.take_if(|point| point.at > future);
        for slot in [&mut self.periodic, &mut self.requested] {
            slot.take_if(|claim| claim.point.at > future);
        }
    }

    /// Removes claims that do not count, so that they count when they are read again.
    pub(super) fn remove_rejected(&mut self) {
        for slot in [&mut self.periodic, &mut self.requested] {
            slot.take_if(|claim| !claim.counts());
        }
    }

    /// Merges the successes that an earlier process remembered.
    pub(super) fn merge(&mut self, remembered: &Self, latest: DateTime<Utc>) {
        merge(&mut self.periodic, remembered.periodic.as_ref(), latest);
        merge(&mut self.requested, remembered.requested.as_ref(), latest);
        if let Some(listed) = &remembered.listed {
            RecoveryPoint::keep_newest(&mut self.listed, listed, latest);
        }
    }
}

/// Updates a claim that was read again, or that hides an older one from an outdated replica.
fn update_repeated(known: &mut Arc<Claim>, storage: Option<u32>, at: DateTime<Utc>) {
    if known.point.storage.is_none() && storage.is_some() {
        let known = Arc::make_mut(known);
        Arc::make_mut(&mut known.point).storage = storage;
    }
    // The exporter's clock was set back.
    if at < known.seen_at {
        let known = Arc::make_mut(known);
        known.seen_at = at;
        known.open_since = known.open_since.min(at);
    }
}

/// Merges the newest claim of a source with the one that an earlier process remembered.
fn merge(known: &mut Option<Arc<Claim>>, remembered: Option<&Arc<Claim>>, latest: DateTime<Utc>) {
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
        if claim.status == ClaimStatus::Open {
            claim.status = remembered.status;
        }
    } else if !remembered.point.is_in_other_storage(claim.point.storage) {
        claim.follow(remembered);
    }
}

#[cfg(test)]
mod tests;
