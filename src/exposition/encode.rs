//! Encodes families to compressed sample lines through `prometheus-client`.
//!
//! One registry per call writes all families, in the order of the catalogue.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use uuid::Uuid;

use super::family::{Family, SampleSource};
use super::gzip::Segment;
use super::samples::{Kind, Labels, Samples, SegmentSink, Value};
use crate::cluster_view::{ClusterView, PartitionView};
use crate::settings::States;
use crate::telemetry::Process;

/// The samples of `families` for one cluster, a segment per family. Ages and the families of the
/// process have none.
pub(super) fn encode_cluster(
    families: Vec<&'static Family>,
    view: &Arc<ClusterView>,
) -> Vec<Segment> {
    encode(Source::Cluster(Arc::clone(view)), families)
}

/// The ages of all clusters at `now`, and the samples of the process, a segment per family.
pub(super) fn encode_fresh(
    families: Vec<&'static Family>,
    views: Vec<Arc<ClusterView>>,
    process: &Arc<Process>,
    now: DateTime<Utc>,
) -> Vec<Segment> {
    let process = Arc::clone(process);
    let source = Source::Fresh {
        views,
        process,
        now,
    };
    encode(source, families)
}

fn encode(source: Source, families: Vec<&'static Family>) -> Vec<Segment> {
    let mut sink = SegmentSink::default();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(FamilyCollector { families, source }));
    encode_registry(&mut sink, &registry).expect("neither the sink nor a family fails");
    sink.finish()
}

/// `prometheus-client` hands an encoder to a `Collector` only.
#[derive(Debug)]
struct FamilyCollector {
    families: Vec<&'static Family>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Cluster(Arc<ClusterView>),
    Fresh {
        views: Vec<Arc<ClusterView>>,
        process: Arc<Process>,
        now: DateTime<Utc>,
    },
}

impl Collector for FamilyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            let metric_type = match family.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
                Kind::Info => MetricType::Info,
                Kind::Histogram => MetricType::Histogram,
            };
            let name = family.openmetrics_name();
            let encoder = encoder.encode_descriptor(name, "", None, metric_type)?;
            match &self.source {
                Source::Cluster(view) => write_cluster(family, view, encoder)?,
                Source::Fresh {
                    views,
                    process,
                    now,
                } => write_fresh(family, views, process, *now, encoder)?,
            }
        }
        Ok(())
    }
}

fn write_fresh(
    family: &Family,
    views: &[Arc<ClusterView>],
    process: &Process,
    now: DateTime<Utc>,
    encoder: MetricEncoder<'_>,
) -> fmt::Result {
    let kind = family.kind;
    match &family.source {
        SampleSource::Telemetry(metric) => metric(&process.telemetry).encode(encoder),
        SampleSource::Process(write) => write(process, &mut Samples { encoder, kind }),
        SampleSource::ProcessValue(value) => {
            let mut samples = Samples { encoder, kind };
            value(process).map_or(Ok(()), |value| samples.write(&Labels::new(&[]), value))
        }
        SampleSource::Age(time) => {
            let mut samples = Samples { encoder, kind };
            let mut write = |partition: &PartitionView<'_>, labels: &Labels<'_>| {
                time(partition).map_or(Ok(()), |time| {
                    // Rounded down, also below zero: clocks may differ.
                    let seconds = (now - time).num_milliseconds().div_euclid(1000);
                    samples.write(labels, Value::Integer(seconds))
                })
            };
            views
                .iter()
                .try_for_each(|view| for_each_partition(view, &mut write))
        }
        _ => Ok(()),
    }
}

fn write_cluster(family: &Family, view: &ClusterView, encoder: MetricEncoder<'_>) -> fmt::Result {
    let kind = family.kind;
    let samples = &mut Samples { encoder, kind };
    let cluster = Labels::new(&[("cluster_name", Some(&*view.snapshot.cluster))]);
    match &family.source {
        SampleSource::Cluster(write) => write(view, &cluster, samples),
        SampleSource::Policy(value) => {
            for policy in view.policies() {
                if let Some(value) = value(policy) {
                    let labels = cluster.with("policy_name", Some(&policy.name));
                    samples.write(&labels, value)?;
                }
            }
            Ok(())
        }
        SampleSource::Collector(value) => {
            for (collector, status) in &view.snapshot.status.collectors {
                if let Some(value) = value(status) {
                    let labels = cluster.with("collector", Some(collector.as_str()));
                    samples.write(&labels, value)?;
                }
            }
            Ok(())
        }
        source => for_each_partition(view, &mut |partition, labels| {
            write_partition(source, partition, labels, samples)
        }),
    }
}

fn for_each_partition(
    view: &ClusterView,
    write: &mut impl FnMut(&PartitionView<'_>, &Labels<'_>) -> fmt::Result,
) -> fmt::Result {
    let cluster = Some(&*view.snapshot.cluster);
    for partition in view.partitions() {
        let identity = &partition.known.partition;
        let mut id = Uuid::encode_buffer();
        let id = identity.id.0.as_hyphenated().encode_lower(&mut id);
        let labels = Labels::new(&[
            ("cluster_name", cluster),
            ("application_name", identity.application.as_deref()),
            ("service_name", identity.service.as_deref()),
            ("partition_id", Some(id)),
        ]);
        write(&partition, &labels)?;
    }
    Ok(())
}

fn write_partition(
    source: &SampleSource,
    partition: &PartitionView<'_>,
    labels: &Labels<'_>,
    samples: &mut Samples<'_>,
) -> fmt::Result {
    let exposed = partition.cluster.settings.states;
    let value = match source {
        SampleSource::Partition(value) => value(partition),
        SampleSource::Verdict(value) => value(&partition.verdict),
        SampleSource::State(states, state) => {
            return state(partition).map_or(Ok(()), |current| {
                write_states(states, current, exposed, labels, samples)
            });
        }
        SampleSource::VerdictState(states, state) => {
            let current = state(&partition.verdict);
            return write_states(states, current, exposed, labels, samples);
        }
        SampleSource::Labelled(own) => {
            return own(partition).map_or(Ok(()), |own| {
                let labels = own
                    .into_iter()
                    .fold(*labels, |labels, (key, value)| labels.with(key, value));
                samples.write(&labels, Value::Integer(1))
            });
        }
        _ => None,
    };
    value.map_or(Ok(()), |value| samples.write(labels, Value::Integer(value)))
}

fn write_states(
    states: &[&'static str],
    current: &str,
    exposed: States,
    labels: &Labels<'_>,
    samples: &mut Samples<'_>,
) -> fmt::Result {
    let states = states
        .iter()
        .filter(|state| exposed == States::All || **state == current);
    for state in states {
        let labels = labels.with("state", Some(state));
        samples.write(&labels, Value::from(*state == current))?;
    }
    Ok(())
}
