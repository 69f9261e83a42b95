//! Claims: successes of health reports and progress records that a list confirms or refutes.
//!
//! Pure. A health report has no backup id. But the backups of a partition never overlap, and each
//! run of its schedule creates one, which is sufficient to match a claim with a listed backup.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::listing::{ListMetadata, PartitionListing};
use super::record::{RecoveryPoint, SuccessSource};
use crate::model::{JITTER, Policies, Read, Schedule};
use crate::protection::effective::EffectiveConfiguration;

/// Health readings at shorter intervals miss no attempt, except one that is followed by the next at
/// once.
pub(super) const FREQUENT: TimeDelta = TimeDelta::minutes(5);

/// A list requested this long after a claim was first read contains its backup.
const LISTED_AFTER_SEEN: TimeDelta = TimeDelta::minutes(1);

/// The same after the end of the upload, which allows for the clock differences of the nodes.
const LISTED_AFTER_UPLOAD: TimeDelta = TimeDelta::minutes(5);

/// Times in lists are truncated to whole seconds.
const RESOLUTION: TimeDelta = TimeDelta::seconds(1);

/// A success of a health report or a progress record.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The claimed recovery point.
    pub point: Arc<RecoveryPoint>,
    /// When the claim was first read, in exporter time.
    pub seen_at: DateTime<Utc>,
    /// When the oldest claim was first read that lists have neither confirmed nor refuted, in exporter
    /// time.
    pub open_since: DateTime<Utc>,
    /// End of the periodic attempt, or time of the requested backup, before this one. Backups of a
    /// partition never overlap, so the claimed one was created later.
    pub after: Option<DateTime<Utc>>,
    /// Whether readings were so frequent that no attempt was missed since `after`.
    pub is_next: bool,
    /// What lists have listing.
    pub status: ClaimStatus,
    /// The oldest claim of the same source that is neither confirmed nor refuted: if reports follow
    /// each other quickly, a list can never decide on the newest one.
    pub earlier: Option<Arc<Self>>,
}

/// What lists have shown about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimStatus {
    /// No list could confirm or refute the claim yet.
    Open,
    /// A list contains its backup or a newer one.
    Confirmed,
    /// Open, but an earlier claim was refuted: it counts only after confirmation.
    Doubted,
    /// The list requested at this time contains neither its backup nor a newer one.
    Refuted(DateTime<Utc>),
    /// The same after a confirmation: the backup was deleted.
    Deleted(DateTime<Utc>),
}

impl ClaimStatus {
    /// When the list was requested that refuted the claim.
    pub const fn ended_at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Refuted(at) | Self::Deleted(at) => Some(at),
            Self::Open | Self::Confirmed | Self::Doubted => None,
        }
    }
}

/// The parts of the effective policy that matter for claims.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClaimPolicy<'a> {
    pub(super) storage: Option<u32>,
    pub(super) schedule: Option<&'a Schedule>,
}

impl<'a> ClaimPolicy<'a> {
    /// The policy in `configuration`; empty if it is unknown.
    pub(super) fn of(
        policies: Option<&'a Read<Policies>>,
        configuration: Option<&EffectiveConfiguration>,
    ) -> Self {
        let name = configuration.and_then(|configuration| configuration.policy.as_ref());
        let policy = name.and_then(|(name, _)| policies?.value.get(name));
        Self {
            storage: policy.map(|policy| policy.storage_fingerprint),
            schedule: policy.and_then(|policy| policy.schedule.as_ref()),
        }
    }
}

impl Claim {
    /// A claim first read at `seen_at`.
    pub(crate) fn new(point: RecoveryPoint, seen_at: DateTime<Utc>) -> Self {
        Self {
            point: Arc::new(point),
            seen_at,
            open_since: seen_at,
            after: None,
            is_next: false,
            status: ClaimStatus::Open,
            earlier: None,
        }
    }

    /// Whether the claim counts as a success.
    pub fn counts(&self) -> bool {
        matches!(self.status, ClaimStatus::Open | ClaimStatus::Confirmed)
    }

    /// Whether `newest`, the newest backup of a list, is the claimed one or newer; `None` if that is
    /// unknown. `requested` is the newest known claim of a requested backup.
    pub(super) fn is_covered_by(
        &self,
        newest: &RecoveryPoint,
        requested: Option<&Self>,
        schedule: Option<&Schedule>,
    ) -> Option<bool> {
        let at = self.point.at;
        if at - newest.at < RESOLUTION {
            return Some(true);
        }
        if self.point.source != SuccessSource::Periodic {
            let id = self.point.backup_id;
            return Some(id.is_some() && newest.backup_id == id);
        }
        let after = self
            .after
            .max(requested.and_then(|it| it.latest_before(at)));
        if after.is_some_and(|after| newest.at <= after) {
            return Some(false);
        }
        if self.is_next {
            return Some(true);
        }
        Some(is_of_one_run(schedule?, newest.at, at))
    }

    /// The latest time before `at` at which, by this claim, another backup was created.
    pub(super) fn latest_before(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let known = [Some(self.point.at), self.after].into_iter().flatten();
        known.filter(|known| *known < at).max()
    }

    /// Whether a list contains the claimed backup or a newer one; `None` if the list does not decide
    /// that.
    pub(super) fn is_listed(
        &self,
        listing: &PartitionListing,
        requested: Option<&Self>,
        schedule: Option<&Schedule>,
    ) -> Option<bool> {
        if self.is_unrestorable(listing) {
            return Some(false);
        }
        let newest = listing.newest.as_ref();
        let held = newest.map_or(Some(false), |newest| {
            self.is_covered_by(newest, requested, schedule)
        });
        held.filter(|held| *held || !listing.hides_before(self.point.at))
    }

    /// Whether an unrestorable backup is the newest one created before the end of the claimed backup,
    /// and newer than all restorable ones: it is the claimed one, or the claimed one is missing.
    fn is_unrestorable(&self, listing: &PartitionListing) -> bool {
        let newest = listing.newest.as_ref().map(|newest| newest.at);
        let unrestorable = listing.unrestorable.as_ref().map(|point| point.at);
        self.point.source == SuccessSource::Periodic
            && unrestorable > newest
            && unrestorable <= Some(self.point.at)
    }

    /// Whether the unrestorable backup is certainly the claimed one, so that no later list is needed.
    fn is_certainly_unrestorable(&self, listing: &PartitionListing) -> bool {
        let unrestorable = listing.unrestorable.as_ref().map(|point| point.at);
        self.is_next && unrestorable > self.after && self.is_unrestorable(listing)
    }

    /// Whether the list would contain the claimed backup if it existed.
    pub(super) fn must_be_listed(
        &self,
        listing: &PartitionListing,
        list: ListMetadata,
        storage: Option<u32>,
    ) -> bool {
        let by_upload = list.cluster_time.is_some_and(|at| {
            self.point.source == SuccessSource::Periodic
                && at - self.point.at >= LISTED_AFTER_UPLOAD
        });
        let is_late = by_upload
            || list.at - self.seen_at >= LISTED_AFTER_SEEN
            || self.is_certainly_unrestorable(listing);
        list.is_complete && is_late && !self.point.is_in_other_storage(storage)
    }

    /// Applies the status of the previous claim of the same source and storage.
    pub(super) fn follow(&mut self, before: &Arc<Self>) {
        match before.status {
            ClaimStatus::Refuted(_) | ClaimStatus::Doubted if self.status == ClaimStatus::Open => {
                self.status = ClaimStatus::Doubted;
            }
            ClaimStatus::Open if self.status == ClaimStatus::Open => {
                let earlier = before.earlier.as_ref().unwrap_or(before);
                self.earlier = Some(Arc::clone(earlier));
                self.open_since = before.open_since.min(self.open_since);
            }
            _ => {}
        }
    }

    /// Applies a list requested at `at`: whether it contains the backup of the earlier claim and of
    /// this one, or newer ones, and when its newest backup was `created`. Returns the number of
    /// refuted claims.
    pub(super) fn apply_list(
        claim: &mut Arc<Self>,
        [earlier, newest]: [Option<bool>; 2],
        created: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
    ) -> u64 {
        let mut refuted = u64::from(earlier == Some(false));
        let status = match (newest, claim.status) {
            (Some(true), _) => ClaimStatus::Confirmed,
            (Some(false), ClaimStatus::Confirmed) => ClaimStatus::Deleted(at),
            (Some(false), ClaimStatus::Open | ClaimStatus::Doubted) => {
                refuted += 1;
                ClaimStatus::Refuted(at)
            }
            (None, ClaimStatus::Open) if earlier == Some(false) => ClaimStatus::Doubted,
            (_, before) => before,
        };
        let is_decided = earlier.is_some() || newest.is_some();
        if status != claim.status || (is_decided && claim.earlier.is_some()) {
            let claim = Arc::make_mut(claim);
            claim.status = status;
            claim.earlier.take_if(|_| is_decided);
            claim.open_since = claim.seen_at;
            if status == ClaimStatus::Confirmed {
                // The claim is this backup: once it is deleted, an older one must not confirm it.
                let before = created.and_then(|created| created.checked_sub_signed(RESOLUTION));
                claim.after = claim.after.max(before.filter(|it| *it < claim.point.at));
            }
        }
        refuted
    }
}

/// Whether a backup created at `created` may be the one whose upload ended at `ended`: there is no
/// other run of the schedule in between.
fn is_of_one_run(schedule: &Schedule, created: DateTime<Utc>, ended: DateTime<Utc>) -> bool {
    match schedule {
        Schedule::Frequency(interval) => {
            let interval = TimeDelta::from_std(*interval).unwrap_or(TimeDelta::MAX);
            ended - created < interval - JITTER.min(interval / 2)
        }
        Schedule::Daily(_) | Schedule::Weekly(..) => {
            let next = created.checked_add_signed(JITTER);
            let next = next.and_then(|after| schedule.next(after));
            next.and_then(|run| run.checked_sub_signed(JITTER))
                .is_none_or(|run| run > ended)
        }
    }
}
