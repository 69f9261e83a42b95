//! The state of the cluster itself and of the collectors after the last cycle.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::observations::{ClusterObservation, CollectorRun, SecurityStatus};
use crate::inventory::Selection;
use crate::model::{Collector, CollectorStatus, Read};
use crate::protection::ClockSkew;

/// The state of a cluster and of its collectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterStatus {
    /// Whether the gateway authorized a call to Service Fabric itself in the last cycle; `None` before
    /// the end of the first.
    pub up: Option<bool>,
    /// Whether the backup service answered; `None` if the gateway was unreachable.
    pub service_up: Option<bool>,
    /// When this process made the first observations.
    pub since: Option<DateTime<Utc>>,
    /// Runtime version, as last read.
    pub version: Option<String>,
    /// Clock of the gateway minus the exporter's, from the last answer.
    pub clock_skew: Option<TimeDelta>,
    /// Authentication between exporter and cluster.
    pub security: SecurityStatus,
    /// Selectors that matched nothing when that could last be determined.
    pub selection: Option<Read<Arc<Selection>>>,
    /// The collectors that have run.
    pub collectors: BTreeMap<Collector, CollectorStatus>,
}

impl ClusterStatus {
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
