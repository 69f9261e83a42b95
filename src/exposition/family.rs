//! A family: one row of the catalogue, its header lines, and where its samples come from.
//!
//! Rows are plain data with plain functions. A function of a row may only look: it gets a view
//! of one partition, one cluster or the process, and answers with a value or with nothing, and
//! nothing means that no sample is written.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

use super::ClusterView;
use super::encode::OneFamily;
use super::gzip::Piece;
use super::samples::{Labels, SampleSink, Samples, Value};
use super::view::{ClusterAt, PartitionView};
use crate::model::{CollectorStatus, Policy};
use crate::telemetry::{Process, Telemetry};

/// One row of the catalogue.
#[derive(Debug)]
pub struct Family {
    /// The name of its samples, as written in queries; a histogram's without its suffixes.
    pub name: &'static str,
    /// How its samples behave.
    pub kind: Kind,
    /// The labels that a sample may carry.
    pub labels: &'static [&'static str],
    /// One line for people, without a final dot, backslash or line break.
    pub help: &'static str,
    pub(super) source: Source,
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up; it may start again at 0 with the process.
    Counter,
    /// Always 1; its labels are what it says. A gauge in the text format.
    Info,
    /// Counts observations in buckets.
    Histogram,
}

impl Kind {
    /// The word of the header line in OpenMetrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Info => "info",
            Self::Histogram => "histogram",
        }
    }
}

/// Where the samples of a family come from.
#[derive(Debug)]
pub(super) enum Source {
    /// At most one sample per partition.
    Partition(fn(&PartitionView<'_>) -> Option<i64>),
    /// Whole seconds since an instant, at most one sample per partition.
    Age(fn(&PartitionView<'_>) -> Option<DateTime<Utc>>),
    /// A sample per partition and state; the one the partition is in is 1.
    State(
        &'static [&'static str],
        fn(&PartitionView<'_>) -> Option<&'static str>,
    ),
    /// At most one sample of value 1 per partition, with labels of its own.
    Labelled(for<'a> fn(&PartitionView<'a>) -> Option<OwnLabels<'a>>),
    /// Any samples of a cluster.
    Cluster(fn(&ClusterAt<'_>, &Labels<'_>, &mut Samples<'_>) -> fmt::Result),
    /// At most one sample per policy of a cluster.
    Policy(fn(&Policy) -> Option<Value>),
    /// At most one sample per collector of a cluster.
    Collector(fn(&CollectorStatus) -> Option<Value>),
    /// A metric of the telemetry that writes itself.
    Telemetry(fn(&Telemetry) -> &dyn EncodeMetric),
    /// At most one sample of the process.
    ProcessValue(fn(&Process) -> Option<Value>),
    /// Any samples of the process.
    Process(fn(&Process, &mut Samples<'_>) -> fmt::Result),
}

/// Labels that only this family has; those without a value are left out.
pub(super) type OwnLabels<'a> = [(&'static str, Option<&'a str>); 3];

/// What a family is encoded from.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// A cluster at one moment.
    Cluster(ClusterView, DateTime<Utc>),
    /// The exporter itself.
    Process(Arc<Process>),
}

/// The labels of a partition.
pub(super) const PARTITION: &[&str] = &[
    "cluster_name",
    "application_name",
    "service_name",
    "partition_id",
];

/// Rows of the usual shapes.
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
            source: Source::Partition(value),
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
            source: Source::Age(instant),
        }
    }

    pub(super) const fn cluster(
        name: &'static str,
        help: &'static str,
        write: fn(&ClusterAt<'_>, &Labels<'_>, &mut Samples<'_>) -> fmt::Result,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            labels: &["cluster_name"],
            help,
            source: Source::Cluster(write),
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
            source: Source::Policy(value),
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
            source: Source::Collector(value),
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
            source: Source::ProcessValue(value),
        }
    }
}

impl Family {
    /// Whether its samples hold as long as a snapshot does, so that they are encoded once.
    pub(super) fn is_kept(&self) -> bool {
        match self.source {
            Source::Partition(_)
            | Source::State(..)
            | Source::Labelled(_)
            | Source::Cluster(_)
            | Source::Policy(_)
            | Source::Collector(_) => true,
            Source::Age(_)
            | Source::Telemetry(_)
            | Source::ProcessValue(_)
            | Source::Process(_) => false,
        }
    }

    /// The samples that `input` has for this family, compressed, and the first moment at which
    /// they may come out differently.
    pub(super) fn encode(&'static self, input: &Input) -> (Piece, Option<DateTime<Utc>>) {
        let mut sink = SampleSink::new();
        let valid_until = Arc::new(Mutex::new(None));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(OneFamily {
            family: self,
            input: input.clone(),
            valid_until: Arc::clone(&valid_until),
        }));
        encode_registry(&mut sink, &registry).expect("the sink never refuses");
        let valid_until = *valid_until.lock().unwrap_or_else(PoisonError::into_inner);
        (sink.finish(), valid_until)
    }

    /// The name in the header lines of OpenMetrics, where types own suffixes.
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
            writeln!(header, "# UNIT {name} {unit}").expect("a String takes everything");
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
