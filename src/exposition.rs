//! Encodes cluster views to the page of `/metrics`.
//!
//! Pure. Everything that does not depend on the time of a scrape is encoded and compressed once
//! per [`ClusterView`]; a scrape adds the ages and the exporter's own metrics. OpenMetrics 1.0 and
//! the text format 0.0.4 have the same sample lines, so the same segments serve both formats, with
//! and without compression.

mod encode;
mod families;
mod family;
mod gzip;
pub mod negotiation;
mod samples;

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};

use crate::cluster_view::ClusterView;
use crate::telemetry::Process;
use encode::{encode_cluster, encode_fresh};
pub use families::families;
pub use family::Family;
use gzip::Segment;
pub use gzip::{INFLATING, Text};
use negotiation::Format;
pub use samples::Kind;

/// The part of the page that a view of one cluster determines.
#[derive(Debug)]
pub struct EncodedCluster {
    /// The view that the segments encode.
    pub view: Arc<ClusterView>,
    /// One per family, in the order of the catalogue; empty for families that are encoded with each
    /// scrape.
    segments: Vec<Segment>,
}

impl EncodedCluster {
    /// Encodes and compresses `view`. Segments of `previous` that would be the same are reused.
    pub fn encode(view: ClusterView, previous: Option<&Self>) -> Self {
        let view = Arc::new(view);
        let has_verdicts = previous.is_some_and(|it| view.has_verdicts_of(&it.view));
        let has_facts = previous.is_some_and(|it| view.has_facts_of(&it.view));
        let is_reused = |family: &Family| {
            if family.shows_verdicts() {
                has_verdicts
            } else {
                has_facts
            }
        };
        let to_encode = families().filter(|it| !it.is_fresh_per_scrape() && !is_reused(it));
        let mut encoded = encode_cluster(to_encode.collect(), &view).into_iter();
        let segments = families().enumerate().map(|(index, family)| {
            if family.is_fresh_per_scrape() {
                return Segment::default();
            }
            let reused = previous.filter(|_| is_reused(family));
            let segment = match reused {
                Some(previous) => previous.segments.get(index).cloned(),
                None => encoded.next(),
            };
            segment.unwrap_or_default()
        });
        Self {
            segments: segments.collect(),
            view,
        }
    }
}

/// The samples of all clusters and of the process, compressed: a page without header lines.
#[derive(Debug)]
pub struct Page {
    /// The segments of each family, in the order of the catalogue.
    families: Vec<Vec<Segment>>,
}

impl Page {
    /// Joins the segments of `clusters` with the samples that depend on `now` and on `process`.
    pub fn assemble(
        clusters: &[Arc<EncodedCluster>],
        process: &Arc<Process>,
        now: DateTime<Utc>,
    ) -> Self {
        let fresh = families().filter(|family| family.is_fresh_per_scrape());
        let views = clusters.iter().map(|cluster| Arc::clone(&cluster.view));
        let fresh = encode_fresh(fresh.collect(), views.collect(), process, now);
        let mut fresh = fresh.into_iter();
        let families = families().enumerate().map(|(index, family)| {
            let segments: Vec<Segment> = if family.is_fresh_per_scrape() {
                fresh.next().into_iter().collect()
            } else {
                let segments = clusters.iter().map(|cluster| cluster.segments.get(index));
                segments.flatten().cloned().collect()
            };
            let with_samples = segments.into_iter().filter(|segment| !segment.is_empty());
            with_samples.collect()
        });
        Self {
            families: families.collect(),
        }
    }

    /// The page with the header lines of `format`.
    pub fn in_format(&self, format: Format) -> Text {
        let mut segments = Vec::new();
        for (samples, headers) in self.families.iter().zip(&*HEADERS) {
            if !samples.is_empty() {
                segments.push(headers.of(format).clone());
                segments.extend_from_slice(samples);
            }
        }
        if format.is_openmetrics() {
            segments.push(END.clone());
        }
        Text { segments }
    }
}

/// The compressed header lines of one family in both formats.
struct Headers {
    openmetrics: Segment,
    text: Segment,
}

impl Headers {
    fn new(family: &Family) -> Self {
        Self {
            openmetrics: Segment::of(family.openmetrics_header().as_bytes()),
            text: Segment::of(family.text_header().as_bytes()),
        }
    }

    fn of(&self, format: Format) -> &Segment {
        if format.is_openmetrics() {
            &self.openmetrics
        } else {
            &self.text
        }
    }
}

/// In the order of the catalogue.
static HEADERS: LazyLock<Vec<Headers>> = LazyLock::new(|| families().map(Headers::new).collect());

/// The last line of a page in OpenMetrics.
static END: LazyLock<Segment> = LazyLock::new(|| Segment::of(b"# EOF\n"));

#[cfg(test)]
mod tests;
