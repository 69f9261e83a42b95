//! The cluster itself and the exporter's work on it, as the last cycle left them.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::observations::{ClusterObservation, CollectorRun, SecurityStatus};
use crate::inventory::Selection;
use crate::model::{Collector, CollectorStatus, Read};
use crate::protection::ClockSkew;

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
    pub security: SecurityStatus,
    /// How the configured selection fitted the cluster when that could last be determined.
    pub selection: Option<Read<Arc<Selection>>>,
    /// The collectors that have run.
    pub collectors: BTreeMap<Collector, CollectorStatus>,
}

impl ClusterStatus {
    /// Its clock and the exporter's.
    pub(crate) fn clock_skew_or_zero(&self) -> ClockSkew {
        ClockSkew::new(self.clock_skew.unwrap_or_default())
    }

    pub(super) fn note(
        &mut self,
        runs: Vec<CollectorRun>,
        cluster: Option<ClusterObservation>,
        now: DateTime<Utc>,
    ) {
        if let Some(reading) = cluster {
            self.up = Some(reading.up);
            self.service_up = reading.service_up;
            self.version = reading.version.or_else(|| self.version.take());
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
