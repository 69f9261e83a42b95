//! The cluster itself and the exporter's work on it, as the last cycle left them.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::observations::{ClusterReading, Collector, CollectorStatus, Run, SecurityReading};
use crate::inventory::Selection;
use crate::protection::{self, Read};

/// A `Date` header has whole seconds and has been on its way for a while.
const SKEW_NOISE: TimeDelta = TimeDelta::seconds(10);

/// Machines of one domain do not authenticate each other when their clocks are further apart than
/// minutes, so a larger skew is that of something else; and it is by so much at most that a wrong
/// header can move a verdict.
const SKEW_LIMIT: TimeDelta = TimeDelta::hours(1);

/// How far in the future a success may be dated that is read while the clocks are apart: most clocks
/// that are wrong are so by hours, for instance by a time zone.
const APART_TOLERANCE: TimeDelta = TimeDelta::days(1);

/// A cluster and the exporter's work on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterStatus {
    /// Whether the last cycle reached a gateway and was let in on a native route; `None` before
    /// the first cycle has ended.
    pub up: Option<bool>,
    /// Whether the backup restore service answered; `None` when the gateway was not reached.
    pub service_up: Option<bool>,
    /// Since when this process watches it; `None` before the first observations.
    pub since: Option<DateTime<Utc>>,
    /// Runtime version, as last read.
    pub version: Option<String>,
    /// Clock of the gateway minus own clock, from the last answer.
    pub clock_skew: Option<TimeDelta>,
    /// How it and the exporter know each other.
    pub security: SecurityReading,
    /// How the configured selection fitted the cluster when that could last be determined.
    pub selection: Option<Read<Arc<Selection>>>,
    /// The collectors that have run.
    pub collectors: BTreeMap<Collector, CollectorStatus>,
}

impl ClusterStatus {
    /// How far the clock of the cluster is ahead, where that is more than what the header it is
    /// read from is off by (no due moment shall move with that noise from poll to poll), and no
    /// more than clocks that merely disagree ever are.
    pub(crate) fn believed_skew(&self) -> TimeDelta {
        let believed = SKEW_NOISE..=SKEW_LIMIT;
        let skew = self
            .clock_skew
            .filter(|skew| believed.contains(&skew.abs()));
        skew.unwrap_or_default()
    }

    /// The latest date that a success may have at `now`.
    pub(crate) fn latest_success(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        protection::latest_success(now, self.believed_skew())
    }

    /// The latest date that a success may have that is read at `now`. Where the clocks are known to
    /// be far apart, a real success may be dated in the future, so it is remembered; it counts once
    /// its date is plausible.
    pub(super) fn latest_read(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let apart = self.clock_skew.is_some_and(|skew| skew.abs() > SKEW_LIMIT);
        if apart {
            now.checked_add_signed(APART_TOLERANCE).unwrap_or(now)
        } else {
            self.latest_success(now)
        }
    }

    /// Whether the clocks of the cluster and the exporter agree. Only then is a success that is
    /// dated in the future wrong for certain and can be forgotten: by a clock that is behind for a
    /// moment, every success is in the future.
    pub(super) fn clocks_agree(&self) -> bool {
        self.clock_skew.is_some_and(|skew| skew.abs() <= SKEW_LIMIT)
    }

    pub(super) fn note(
        &mut self,
        runs: Vec<Run>,
        cluster: Option<ClusterReading>,
        now: DateTime<Utc>,
    ) {
        if let Some(reading) = cluster {
            self.up = Some(reading.up);
            self.service_up = reading.service_up;
            self.version = reading.version.or_else(|| self.version.take());
            self.clock_skew = reading.clock_skew;
            self.security = reading.security;
        }
        for run in runs {
            let earlier = self.collectors.get(&run.collector);
            let succeeded_at = earlier.and_then(|earlier| earlier.succeeded_at);
            let status = CollectorStatus {
                success: run.success,
                succeeded_at: if run.success { Some(now) } else { succeeded_at },
                duration: run.duration,
            };
            self.collectors.insert(run.collector, status);
        }
    }
}
