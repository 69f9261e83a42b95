//! Labels, values, and the sink for the sample lines of one or more families.
//!
//! `prometheus-client` writes the lines, and with them the header lines of OpenMetrics. The sink
//! drops the headers, because a page adds those of the negotiated format.

use std::fmt;

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

use super::gzip::{Segment, SegmentBuilder};

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, or restarts at 0 with the process.
    Counter,
    /// Always 1, with information in labels. A gauge in the text format.
    Info,
    /// Counts observations in buckets.
    Histogram,
}

impl Kind {
    /// The type in the header line of OpenMetrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Info => "info",
            Self::Histogram => "histogram",
        }
    }
}

/// The maximum number of labels of a family.
const CAPACITY: usize = 8;

/// The labels of one sample.
#[derive(Clone, Copy)]
pub(crate) struct Labels<'a> {
    pairs: [(&'static str, &'a str); CAPACITY],
    length: usize,
}

impl<'a> Labels<'a> {
    pub(crate) fn new(pairs: &[(&'static str, Option<&'a str>)]) -> Self {
        let mut labels = Self {
            pairs: [("", ""); CAPACITY],
            length: 0,
        };
        for (key, value) in pairs {
            labels = labels.with(key, *value);
        }
        labels
    }

    /// These labels and one more, unless it has no value.
    #[must_use]
    pub(crate) fn with(mut self, key: &'static str, value: Option<&'a str>) -> Self {
        if let (Some(value), Some(free)) = (value, self.pairs.get_mut(self.length)) {
            *free = (key, value);
            self.length += 1;
        }
        self
    }

    fn as_slice(&self) -> &[(&'static str, &'a str)] {
        self.pairs.get(..self.length).unwrap_or_default()
    }
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Integer(i64),
    Float(f64),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        // No value exceeds 63 bits; a float would still be correct.
        #[expect(
            clippy::cast_precision_loss,
            reason = "Prometheus stores every sample as a float"
        )]
        i64::try_from(value).map_or(Self::Float(value as f64), Self::Integer)
    }
}

/// Writes the samples of one family.
pub(crate) struct Samples<'a> {
    pub(super) encoder: MetricEncoder<'a>,
    pub(super) kind: Kind,
}

impl Samples<'_> {
    /// Writes a sample. The value of an info is always 1.
    pub(crate) fn write(&mut self, labels: &Labels<'_>, value: Value) -> fmt::Result {
        let labels = labels.as_slice();
        if self.kind == Kind::Info {
            return self.encoder.encode_info(&labels);
        }
        if labels.is_empty() {
            return write_value(&mut self.encoder, self.kind, value);
        }
        let mut sample = self.encoder.encode_family(&labels)?;
        write_value(&mut sample, self.kind, value)
    }
}

fn write_value(sample: &mut MetricEncoder<'_>, kind: Kind, value: Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Integer(value)) => {
            sample.encode_counter::<NoLabelSet, _, f64>(&value.unsigned_abs(), None)
        }
        (Kind::Counter, Value::Float(value)) => {
            sample.encode_counter::<NoLabelSet, _, f64>(&value, None)
        }
        (_, Value::Integer(value)) => sample.encode_gauge(&value),
        (_, Value::Float(value)) => sample.encode_gauge(&value),
    }
}

/// Compresses sample lines into one segment per family and drops header lines.
#[derive(Debug, Default)]
pub(super) struct SegmentSink {
    segments: Vec<Segment>,
    /// The segment of the current family, once it has a sample.
    current: Option<SegmentBuilder>,
    families: usize,
    in_line: bool,
    in_comment: bool,
}

impl SegmentSink {
    /// The segments in the order of the families, an empty one for a family without samples.
    pub(super) fn finish(mut self) -> Vec<Segment> {
        self.end_family();
        self.segments
    }

    fn end_family(&mut self) {
        if self.segments.len() < self.families {
            let segment = self.current.take().map(SegmentBuilder::finish);
            self.segments.push(segment.unwrap_or_default());
        }
    }
}

impl fmt::Write for SegmentSink {
    /// A `#` at the start of a fragment and of a line starts a comment: label values are escaped,
    /// and `prometheus-client` writes each part of a line as a fragment of its own. It starts each
    /// family with `# HELP `.
    fn write_str(&mut self, fragment: &str) -> fmt::Result {
        if !self.in_line && fragment.starts_with('#') {
            self.in_comment = true;
            if fragment == "# HELP " {
                self.end_family();
                self.families += 1;
            }
        }
        if fragment.is_empty() {
            return Ok(());
        }
        self.in_line = !fragment.ends_with('\n');
        if !self.in_comment {
            let segment = self.current.get_or_insert_default();
            segment.push(fragment.as_bytes());
        }
        self.in_comment &= self.in_line;
        Ok(())
    }
}
