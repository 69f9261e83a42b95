//! From a family and its input to sample lines, through `prometheus-client`.
//!
//! Walks the clusters' partitions, services and collectors and asks the family's function for
//! each. Writes samples only; header lines are the family's business.

use std::fmt;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use uuid::Uuid;

use super::ClusterView;
use super::family::{Family, Input, Kind, Source};
use super::samples::{Labels, Samples, Value};
use super::view::{ClusterAt, PartitionView};
use crate::model::Policy;
use crate::settings::States;
use crate::snapshot::CollectorStatus;

/// A family and its input, as `prometheus-client` wants them.
#[derive(Debug)]
pub(super) struct OneFamily {
    pub(super) family: &'static Family,
    pub(super) input: Input,
    /// Where the encoder leaves until when its samples hold.
    pub(super) holds_until: Arc<Mutex<Option<DateTime<Utc>>>>,
}

impl Collector for OneFamily {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = self.family.kind;
        let metric_type = match kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
            Kind::Info => MetricType::Info,
            Kind::Histogram => MetricType::Histogram,
        };
        let name = self.family.openmetrics_name();
        let encoder = encoder.encode_descriptor(name, "", None, metric_type)?;
        match (&self.family.source, &self.input) {
            (Source::Telemetry(metric), Input::Process(process)) => {
                metric(&process.telemetry).encode(encoder)
            }
            (Source::Process(write), Input::Process(process)) => {
                write(process, &mut Samples { encoder, kind })
            }
            (Source::ProcessValue(value), Input::Process(process)) => {
                let mut samples = Samples { encoder, kind };
                let value = value(process);
                value.map_or(Ok(()), |value| samples.write(&Labels::new(&[]), value))
            }
            (source, Input::Cluster(view, now)) => {
                let cluster = ClusterAt::new(view, *now);
                write_cluster(source, &cluster, Samples { encoder, kind })?;
                let mut holds_until = self.holds_until.lock();
                let holds_until = holds_until.as_deref_mut();
                *holds_until.map_err(|_| fmt::Error)? = cluster.holds_until();
                Ok(())
            }
            (_, Input::Process(_)) => Ok(()),
        }
    }
}

fn write_cluster(
    source: &Source,
    cluster: &ClusterAt<'_>,
    mut samples: Samples<'_>,
) -> fmt::Result {
    let view = cluster.view;
    let cluster_name = Some(&*view.snapshot.cluster);
    let of_cluster = Labels::new(&[("cluster_name", cluster_name)]);
    match source {
        Source::Cluster(write) => return write(cluster, &of_cluster, &mut samples),
        Source::Policy(value) => {
            return write_policies(cluster, *value, &of_cluster, &mut samples);
        }
        Source::Collector(value) => {
            return write_collectors(view, *value, &of_cluster, &mut samples);
        }
        Source::Telemetry(_) | Source::Process(_) | Source::ProcessValue(_) => return Ok(()),
        Source::Partition(_) | Source::Age(_) | Source::State(..) | Source::Labelled(_) => {}
    }
    for known in view.snapshot.partitions.values() {
        let partition = PartitionView { cluster, known };
        let mut id = Uuid::encode_buffer();
        let id = known.partition.id.0.as_hyphenated().encode_lower(&mut id);
        let labels = Labels::new(&[
            ("cluster_name", cluster_name),
            ("application_name", known.partition.application.as_deref()),
            ("service_name", known.partition.service.as_deref()),
            ("partition_id", Some(id)),
        ]);
        write_partition(source, &partition, &labels, &mut samples)?;
    }
    Ok(())
}

fn write_partition(
    source: &Source,
    partition: &PartitionView<'_>,
    labels: &Labels<'_>,
    samples: &mut Samples<'_>,
) -> fmt::Result {
    let states = partition.cluster.view.states;
    match source {
        Source::Partition(value) => {
            value(partition).map_or(Ok(()), |value| samples.write(labels, Value::Integer(value)))
        }
        Source::Age(instant) => instant(partition).map_or(Ok(()), |instant| {
            // Rounded down, below zero as well: clocks may disagree.
            let seconds = (partition.cluster.now - instant)
                .num_milliseconds()
                .div_euclid(1000);
            samples.write(labels, Value::Integer(seconds))
        }),
        Source::State(words, state) => state(partition).map_or(Ok(()), |current| {
            let exposed = |word| states == States::All || word == current;
            words
                .iter()
                .filter(|word| exposed(**word))
                .try_for_each(|word| {
                    let labels = labels.with("state", Some(word));
                    samples.write(&labels, Value::from(*word == current))
                })
        }),
        Source::Labelled(own) => own(partition).map_or(Ok(()), |own| {
            let mut labels = *labels;
            for (key, value) in own {
                labels = labels.with(key, value);
            }
            samples.write(&labels, Value::Integer(1))
        }),
        Source::Cluster(_)
        | Source::Policy(_)
        | Source::Collector(_)
        | Source::Telemetry(_)
        | Source::Process(_)
        | Source::ProcessValue(_) => Ok(()),
    }
}

fn write_collectors(
    view: &ClusterView,
    value: fn(&CollectorStatus) -> Option<Value>,
    labels: &Labels<'_>,
    samples: &mut Samples<'_>,
) -> fmt::Result {
    for (collector, status) in &view.snapshot.status.collectors {
        if let Some(value) = value(status) {
            let labels = labels.with("collector", Some(collector.as_str()));
            samples.write(&labels, value)?;
        }
    }
    Ok(())
}

fn write_policies(
    cluster: &ClusterAt<'_>,
    value: fn(&Policy) -> Option<Value>,
    labels: &Labels<'_>,
    samples: &mut Samples<'_>,
) -> fmt::Result {
    for policy in cluster.policies() {
        if let Some(value) = value(policy) {
            let labels = labels.with("policy_name", Some(&policy.name));
            samples.write(&labels, value)?;
        }
    }
    Ok(())
}
