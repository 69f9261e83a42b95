//! A family: one row of the catalogue with its header lines and the source of its samples.
//!
//! Rows are data with plain functions of a partition, a cluster or the process. `None` writes no
//! sample.

use std::fmt::{self, Write as _};

use chrono::{DateTime, Utc};
use prometheus_client::encoding::EncodeMetric;

use super::samples::{Kind, Labels, Samples, Value};
use crate::cluster_view::{ClusterView, PartitionView};
use crate::model::{CollectorStatus, Policy};
use crate::protection::Verdict;
use crate::telemetry::{Process, Telemetry};

/// One row of the catalogue.
#[derive(Debug)]
pub struct Family {
    /// The name of its samples; that of a histogram without suffixes.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The labels that a sample may have.
    pub labels: &'static [&'static str],
    /// One line without a final dot, backslash or line break.
    pub help: &'static str,
    pub(super) source: SampleSource,
}

/// The source of the samples of a family.
#[derive(Debug)]
pub(super) enum SampleSource {
    /// At most one sample per partition.
    Partition(fn(&PartitionView<'_>) -> Option<i64>),
    /// At most one sample per partition.
    Verdict(fn(&Verdict) -> Option<i64>),
    /// Whole seconds since a time, at most one sample per partition.
    Age(fn(&PartitionView<'_>) -> Option<DateTime<Utc>>),
    /// A state set: one sample per partition and state, 1 for the current state.
    State(
        &'static [&'static str],
        fn(&PartitionView<'_>) -> Option<&'static str>,
    ),
    /// A state set of the verdict.
    VerdictState(&'static [&'static str], fn(&Verdict) -> &'static str),
    /// At most one sample of value 1 per partition, with labels of its own.
    Labelled(for<'a> fn(&PartitionView<'a>) -> Option<OwnLabels<'a>>),
    /// Any number of samples per cluster.
    Cluster(fn(&ClusterView, &Labels<'_>, &mut Samples<'_>) -> fmt::Result),
    /// At most one sample per policy of a cluster.
    Policy(fn(&Policy) -> Option<Value>),
    /// At most one sample per collector of a cluster.
    Collector(fn(&CollectorStatus) -> Option<Value>),
    /// A metric that encodes itself.
    Telemetry(fn(&Telemetry) -> &dyn EncodeMetric),
    /// At most one sample.
    ProcessValue(fn(&Process) -> Option<Value>),
    /// Any number of samples.
    Process(fn(&Process, &mut Samples<'_>) -> fmt::Result),
}

/// Labels that only this family has; those without a value are left out.
pub(super) type OwnLabels<'a> = [(&'static str, Option<&'a str>); 3];

/// The labels of a partition.
pub(super) const PARTITION: &[&str] = &[
    "cluster_name",
    "application_name",
    "service_name",
    "partition_id",
];

/// Constructors of common rows.
impl Family {
    pub(super) const fn partition(
        name: &'static str,
        help: &'static str,
        value: fn(&PartitionView<'_>) -> Option<i64>,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            labels: PARTITION,
            help,
            source: SampleSource::Partition(value),
        }
    }

    pub(super) const fn verdict(
        name: &'static str,
        help: &'static str,
        value: fn(&Verdict) -> Option<i64>,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            labels: PARTITION,
            help,
            source: SampleSource::Verdict(value),
        }
    }

    pub(super) const fn age(
        name: &'static str,
        help: &'static str,
        instant: fn(&PartitionView<'_>) -> Option<DateTime<Utc>>,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            labels: PARTITION,
            help,
            source: SampleSource::Age(instant),
        }
    }

    pub(super) const fn cluster(
        name: &'static str,
        help: &'static str,
        write: fn(&ClusterView, &Labels<'_>, &mut Samples<'_>) -> fmt::Result,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            labels: &["cluster_name"],
            help,
            source: SampleSource::Cluster(write),
        }
    }

    pub(super) const fn policy(
        name: &'static str,
        help: &'static str,
        value: fn(&Policy) -> Option<Value>,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            labels: &["cluster_name", "policy_name"],
            help,
            source: SampleSource::Policy(value),
        }
    }

    pub(super) const fn collector(
        name: &'static str,
        help: &'static str,
        value: fn(&CollectorStatus) -> Option<Value>,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            labels: &["cluster_name", "collector"],
            help,
            source: SampleSource::Collector(value),
        }
    }

    pub(super) const fn process(
        name: &'static str,
        kind: Kind,
        help: &'static str,
        value: fn(&Process) -> Option<Value>,
    ) -> Self {
        Self {
            name,
            kind,
            labels: &[],
            help,
            source: SampleSource::ProcessValue(value),
        }
    }
}

impl Family {
    /// Whether its samples depend on the time of the scrape.
    pub(super) fn is_fresh_per_scrape(&self) -> bool {
        matches!(
            self.source,
            SampleSource::Age(_)
                | SampleSource::Telemetry(_)
                | SampleSource::ProcessValue(_)
                | SampleSource::Process(_)
        )
    }

    /// Whether its samples depend on verdicts and on nothing else that changes with time.
    pub(super) fn shows_verdicts(&self) -> bool {
        matches!(
            self.source,
            SampleSource::Verdict(_) | SampleSource::VerdictState(..)
        )
    }

    /// The name in the header lines of OpenMetrics, without the suffix of the type.
    pub(super) fn openmetrics_name(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }

    /// The base unit at the end of the name, if there is one.
    pub(super) fn unit(&self) -> Option<&'static str> {
        let name = self.openmetrics_name();
        let units = ["seconds", "bytes"];
        units.into_iter().find(|unit| name.ends_with(unit))
    }

    pub(super) fn openmetrics_header(&self) -> String {
        let (name, kind, help) = (self.openmetrics_name(), self.kind.as_str(), self.help);
        let mut header = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        if let Some(unit) = self.unit() {
            writeln!(header, "# UNIT {name} {unit}").expect("writing to a String cannot fail");
        }
        header
    }

    pub(super) fn text_header(&self) -> String {
        let (name, help) = (self.name, self.help);
        let kind = match self.kind {
            Kind::Info => Kind::Gauge,
            kind => kind,
        };
        format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str())
    }
}
