//! Arithmetic on times.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Seconds between 1601, where FILETIME begins, and 1970.
const FILETIME_TO_UNIX: i64 = 11_644_473_600;

/// A time in units of 100 ns since 1601.
pub(in crate::simulator) fn filetime(at: DateTime<Utc>) -> u64 {
    let seconds = u64::try_from(at.timestamp() + FILETIME_TO_UNIX).unwrap_or_default();
    seconds * 10_000_000 + u64::from(at.timestamp_subsec_nanos()) / 100
}

/// `start` plus `delay`, or the latest time that can be represented.
pub(super) fn later(start: DateTime<Utc>, delay: Duration) -> DateTime<Utc> {
    let delay = TimeDelta::from_std(delay).ok();
    delay
        .and_then(|delay| start.checked_add_signed(delay))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
