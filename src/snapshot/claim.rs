//! A success that health or progress reports, and how a list of the store judges it.
//!
//! Pure. Backups of a partition never overlap, and each run of its schedule takes one: that is
//! enough to tell whether the newest listed backup is the claimed one, though a health report has no
//! id.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::listing::{ListMetadata, PartitionListing};
use super::record::{RecoveryPoint, SuccessSource};
use crate::model::{JITTER, Policies, Read, Schedule};
use crate::protection::effective::EffectiveConfiguration;

/// Readings of health that are closer together than this miss no attempt but one that the next one
/// followed at once.
pub(super) const FREQUENT: TimeDelta = TimeDelta::minutes(5);

/// A list requested this long after a claim was first read shows its backup.
const SETTLED_AFTER_SEEN: TimeDelta = TimeDelta::minutes(1);

/// The same after the end of an upload, for the difference between the clocks of the nodes.
const SETTLED_AFTER_UPLOAD: TimeDelta = TimeDelta::minutes(5);

/// Times in lists are cut down to whole seconds.
const RESOLUTION: TimeDelta = TimeDelta::seconds(1);

/// A success that health or progress reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The claimed recovery point.
    pub point: Arc<RecoveryPoint>,
    /// When this exporter first read it, on its own clock.
    pub seen_at: DateTime<Utc>,
    /// When the first of the claims was read that lists have not judged since, this one included; on
    /// the same clock.
    pub open_since: DateTime<Utc>,
    /// The end of a periodic attempt or the time of a requested backup before it. Backups of a
    /// partition never overlap, so the claimed one was created later.
    pub after: Option<DateTime<Utc>>,
    /// Whether readings were so frequent that no attempt was missed since then.
    pub is_next: bool,
    /// Whether it counts.
    pub standing: ClaimStatus,
    /// The oldest claim of the same source that no list could judge yet: where reports follow each
    /// other quickly, the newest one is never old enough.
    pub earlier: Option<Arc<Self>>,
}

/// What the lists say of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimStatus {
    /// No list could judge it yet.
    Open,
    /// A list shows its backup or a newer one.
    Confirmed,
    /// No list could judge it yet, and a claim before it was refuted.
    Doubted,
    /// The list requested at this moment shows neither its backup nor a newer one.
    Refuted(DateTime<Utc>),
    /// The same, after an earlier list had confirmed it: its backup was deleted.
    Deleted(DateTime<Utc>),
}

impl ClaimStatus {
    /// When a list ended the claim.
    pub const fn ended_at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Refuted(at) | Self::Deleted(at) => Some(at),
            Self::Open | Self::Confirmed | Self::Doubted => None,
        }
    }
}

/// The policy that applies to a partition, as far as claims are judged by it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClaimPolicy<'a> {
    pub(super) storage: Option<u32>,
    pub(super) schedule: Option<&'a Schedule>,
}

impl<'a> ClaimPolicy<'a> {
    /// The terms of the policy in `applied`, as far as that policy is known.
    pub(super) fn of(
        policies: Option<&'a Read<Policies>>,
        applied: Option<&EffectiveConfiguration>,
    ) -> Self {
        let name = applied.and_then(|applied| applied.policy.as_ref());
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
            standing: ClaimStatus::Open,
            earlier: None,
        }
    }

    /// Whether it counts as a success.
    pub fn counts(&self) -> bool {
        matches!(self.standing, ClaimStatus::Open | ClaimStatus::Confirmed)
    }

    /// Whether `newest`, the newest backup of a list, is the claimed one or newer; `None` where that
    /// cannot be determined. `requested` is the newest requested backup that is known.
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

    /// The latest moment before `at` at which this claim shows that another backup was taken.
    pub(super) fn latest_before(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let known = [Some(self.point.at), self.after].into_iter().flatten();
        known.filter(|known| *known < at).max()
    }

    /// Whether the newest shown backup is the claimed one or newer; `None` where the list cannot
    /// tell.
    pub(super) fn is_shown(
        &self,
        shown: &PartitionListing,
        requested: Option<&Self>,
        schedule: Option<&Schedule>,
    ) -> Option<bool> {
        if self.is_unrestorable(shown) {
            return Some(false);
        }
        let newest = shown.newest.as_ref();
        let held = newest.map_or(Some(false), |newest| {
            self.is_covered_by(newest, requested, schedule)
        });
        held.filter(|held| *held || !shown.hides_before(self.point.at))
    }

    /// Whether a backup that cannot be restored is the newest one created before the end of the claimed
    /// one, and later than all that can: then that is the claimed one, or the claimed one is missing.
    fn is_unrestorable(&self, shown: &PartitionListing) -> bool {
        let newest = shown.newest.as_ref().map(|newest| newest.at);
        let unrestorable = shown.unrestorable.as_ref().map(|point| point.at);
        self.point.source == SuccessSource::Periodic
            && unrestorable > newest
            && unrestorable <= Some(self.point.at)
    }

    /// Whether the list shows that the claimed backup itself cannot be restored: no wait is needed for
    /// a list to show it.
    fn is_shown_unrestorable(&self, shown: &PartitionListing) -> bool {
        let unrestorable = shown.unrestorable.as_ref().map(|point| point.at);
        self.is_next && unrestorable > self.after && self.is_unrestorable(shown)
    }

    /// Whether a list shows the claimed backup, or would show it.
    pub(super) fn is_settled(
        &self,
        shown: &PartitionListing,
        list: ListMetadata,
        storage: Option<u32>,
    ) -> bool {
        let by_upload = list.cluster_time.is_some_and(|at| {
            self.point.source == SuccessSource::Periodic
                && at - self.point.at >= SETTLED_AFTER_UPLOAD
        });
        let is_late = by_upload
            || list.at - self.seen_at >= SETTLED_AFTER_SEEN
            || self.is_shown_unrestorable(shown);
        list.is_complete && is_late && !self.point.is_elsewhere(storage)
    }

    /// Takes over what is known of the claim before it, of the same source and storage.
    pub(super) fn follow(&mut self, before: &Arc<Self>) {
        match before.standing {
            ClaimStatus::Refuted(_) | ClaimStatus::Doubted
                if self.standing == ClaimStatus::Open =>
            {
                self.standing = ClaimStatus::Doubted;
            }
            ClaimStatus::Open if self.standing == ClaimStatus::Open => {
                let earlier = before.earlier.as_ref().unwrap_or(before);
                self.earlier = Some(Arc::clone(earlier));
                self.open_since = before.open_since.min(self.open_since);
            }
            _ => {}
        }
    }

    /// Takes in what a list requested at `at` says of this claim and of the earlier one: whether it
    /// shows their backups or newer ones, the newest of which was created at `shown`. Returns how many
    /// claims it refuted.
    pub(super) fn settle(
        claim: &mut Arc<Self>,
        [earlier, newest]: [Option<bool>; 2],
        shown: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
    ) -> u64 {
        let mut refuted = u64::from(earlier == Some(false));
        let standing = match (newest, claim.standing) {
            (Some(true), _) => ClaimStatus::Confirmed,
            (Some(false), ClaimStatus::Confirmed) => ClaimStatus::Deleted(at),
            (Some(false), ClaimStatus::Open | ClaimStatus::Doubted) => {
                refuted += 1;
                ClaimStatus::Refuted(at)
            }
            (None, ClaimStatus::Open) if earlier == Some(false) => ClaimStatus::Doubted,
            (_, before) => before,
        };
        let is_judged = earlier.is_some() || newest.is_some();
        if standing != claim.standing || (is_judged && claim.earlier.is_some()) {
            let claim = Arc::make_mut(claim);
            claim.standing = standing;
            claim.earlier.take_if(|_| is_judged);
            claim.open_since = claim.seen_at;
            if standing == ClaimStatus::Confirmed {
                // Now it is known which one it is: no older one stands in for it when it is gone.
                let before = shown.and_then(|created| created.checked_sub_signed(RESOLUTION));
                claim.after = claim.after.max(before.filter(|it| *it < claim.point.at));
            }
        }
        refuted
    }
}

/// Whether a backup created at `created` can be the one whose upload ended at `ended`: no other run of
/// the schedule lies between.
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
