//! The difference between the clocks of a cluster and of the exporter.
//!
//! Pure. The cluster dates backups, the exporter dates its readings. A small difference is
//! corrected. If it is too large to be trusted, times of the two clocks are not compared.

use chrono::{DateTime, TimeDelta, Utc};

/// A `Date` header has a resolution of one second and was sent a while ago.
const NOISE: TimeDelta = TimeDelta::seconds(10);

/// Kerberos rejects a machine whose clock differs by more than five minutes, so a larger skew is
/// an error of a clock or of a header.
const LIMIT: TimeDelta = TimeDelta::hours(1);

/// How far ahead of the cluster's clock a success may be dated: the skew is measured with one node,
/// and the clocks of the others differ from it. A success dated later is ignored: its partition
/// would count as protected until then, with or without further backups.
const FUTURE_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// How far the clock of the cluster is ahead of the exporter's; zero until it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSkew {
    skew: TimeDelta,
}

impl ClockSkew {
    pub(crate) const fn new(skew: TimeDelta) -> Self {
        Self { skew }
    }

    /// The skew, if it is too large to compare times of the two clocks.
    pub fn excessive(self) -> Option<TimeDelta> {
        Some(self.skew).filter(|skew| skew.abs() > LIMIT)
    }

    /// The correction from exporter time to cluster time: the skew, or zero if the skew is noise
    /// (due times must not change with it in every cycle) or excessive.
    pub(crate) fn correction(self) -> TimeDelta {
        let corrected = NOISE..=LIMIT;
        let skew = Some(self.skew).filter(|skew| corrected.contains(&skew.abs()));
        skew.unwrap_or_default()
    }

    pub(crate) fn to_cluster_time(self, exporter_time: DateTime<Utc>) -> DateTime<Utc> {
        saturating_add(exporter_time, self.correction())
    }

    pub(super) fn to_exporter_time(self, cluster_time: DateTime<Utc>) -> DateTime<Utc> {
        saturating_add(cluster_time, -self.correction())
    }

    /// The latest plausible date of a success at `now` in exporter time. If the skew is excessive,
    /// the clock that is behind decides.
    pub(crate) fn latest_success(self, now: DateTime<Utc>) -> DateTime<Utc> {
        saturating_add(now, self.ahead())
    }

    /// The date after which a success is in the future of both clocks at `now` in exporter time;
    /// the end of the calendar if the skew is excessive. A clock of the cluster that is behind
    /// for a while does not change it.
    pub(crate) fn future_for_both(self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.excessive().is_some() {
            return DateTime::<Utc>::MAX_UTC;
        }
        saturating_add(
            now,
            self.correction().max(TimeDelta::zero()) + FUTURE_TOLERANCE,
        )
    }

    /// When a success dated `at` becomes plausible, in exporter time.
    pub(crate) fn plausible_from(self, at: DateTime<Utc>) -> DateTime<Utc> {
        saturating_add(at, -self.ahead())
    }

    fn ahead(self) -> TimeDelta {
        let skew = self.excessive().map(|skew| skew.min(TimeDelta::zero()));
        let skew = skew.unwrap_or_else(|| self.correction());
        skew.checked_add(&FUTURE_TOLERANCE).unwrap_or(skew)
    }
}

/// Dates and schedules come from the cluster: a sum beyond the calendar is its end, not a panic.
pub(super) fn saturating_add(time: DateTime<Utc>, delta: TimeDelta) -> DateTime<Utc> {
    let end = if delta < TimeDelta::zero() {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    };
    time.checked_add_signed(delta).unwrap_or(end)
}
