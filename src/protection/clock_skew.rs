//! The clock of the cluster, compared with the exporter's.
//!
//! Pure. The cluster dates backups, the exporter dates its readings. A small difference is
//! corrected; where it is too large to be trusted, times of the two clocks are not compared.

use chrono::{DateTime, TimeDelta, Utc};

use super::plus;

/// A `Date` header has whole seconds and has been on its way for a while.
const NOISE: TimeDelta = TimeDelta::seconds(10);

/// Machines of one domain do not authenticate each other when their clocks are further apart than
/// minutes, so a larger skew is an error of a clock or of a header.
const LIMIT: TimeDelta = TimeDelta::hours(1);

/// How far ahead of the cluster's clock a success may be dated: the nodes of a cluster differ, and
/// one of them answers for all. A success dated later proves nothing: its partition would count as
/// protected until that time has come, with or without further backups.
const FUTURE_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// How far the clock of the cluster is ahead of the exporter's; zero until it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSkew {
    skew: TimeDelta,
}

impl ClockSkew {
    /// The clocks of a cluster that is ahead by `skew`.
    pub const fn new(skew: TimeDelta) -> Self {
        Self { skew }
    }

    /// The skew, where it is too large to compare times of the two clocks.
    pub fn excessive(self) -> Option<TimeDelta> {
        Some(self.skew).filter(|skew| skew.abs() > LIMIT)
    }

    /// How much is added to the exporter's time to get the cluster's: the skew, unless it is noise
    /// (due moments must not move with it from poll to poll) or the clocks are too far apart.
    pub fn correction(self) -> TimeDelta {
        let corrected = NOISE..=LIMIT;
        let skew = Some(self.skew).filter(|skew| corrected.contains(&skew.abs()));
        skew.unwrap_or_default()
    }

    /// The cluster's time when the exporter's is `moment`.
    pub fn to_cluster_time(self, moment: DateTime<Utc>) -> DateTime<Utc> {
        plus(moment, self.correction())
    }

    /// The exporter's time when the cluster's is `moment`.
    pub fn to_exporter_time(self, moment: DateTime<Utc>) -> DateTime<Utc> {
        plus(moment, -self.correction())
    }

    /// The latest date that a success may have when the exporter's time is `now`. Where the clocks
    /// are too far apart, the one that is behind decides.
    pub fn latest_success(self, now: DateTime<Utc>) -> DateTime<Utc> {
        plus(now, self.ahead())
    }

    /// The date beyond which a success is in the future of both clocks, when the exporter's time is
    /// `now`: the end of the calendar where they are too far apart to tell. A cluster that is behind
    /// for a moment does not move it.
    pub fn future_for_both(self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.excessive().is_some() {
            return DateTime::<Utc>::MAX_UTC;
        }
        plus(
            now,
            self.correction().max(TimeDelta::zero()) + FUTURE_TOLERANCE,
        )
    }

    /// When a success dated `at` stops being in the future, on the exporter's clock.
    pub fn plausible_from(self, at: DateTime<Utc>) -> DateTime<Utc> {
        plus(at, -self.ahead())
    }

    fn ahead(self) -> TimeDelta {
        let skew = self.excessive().map(|skew| skew.min(TimeDelta::zero()));
        let skew = skew.unwrap_or_else(|| self.correction());
        skew.checked_add(&FUTURE_TOLERANCE).unwrap_or(skew)
    }
}
