//! From a family to its sample lines: labels, values, and the sink that takes the lines.
//!
//! `prometheus-client` writes the lines, so that escaping and numbers are its business. It writes
//! the header lines of OpenMetrics as well; those are dropped here, because the page puts the
//! header of either format in front.

use std::fmt;

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

use super::family::Kind;
use super::gzip::{Piece, PieceBuilder};

/// The most labels that a family of the catalogue has.
const CAPACITY: usize = 8;

/// The labels of one sample. A label without a value is left out.
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

    /// These labels and one more.
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
    /// A count, a state, a whole number of seconds.
    Integer(i64),
    /// Anything else.
    Float(f64),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        // Wider numbers than 63 bits do not occur; as a float they would still be right.
        #[expect(
            clippy::cast_precision_loss,
            reason = "every sample is a float in the end"
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

/// Takes what `prometheus-client` writes, drops the lines that begin with `#`, and compresses.
#[derive(Debug)]
pub(super) struct SampleSink {
    piece: PieceBuilder,
    at_line_start: bool,
    in_comment: bool,
}

impl SampleSink {
    pub(super) fn new() -> Self {
        Self {
            piece: PieceBuilder::default(),
            at_line_start: true,
            in_comment: false,
        }
    }

    pub(super) fn finish(self) -> Piece {
        self.piece.finish()
    }
}

impl fmt::Write for SampleSink {
    /// A comment is never begun in the middle of a fragment: label values are escaped, and
    /// `prometheus-client` writes each part of a line on its own.
    fn write_str(&mut self, fragment: &str) -> fmt::Result {
        if self.at_line_start && fragment.starts_with('#') {
            self.in_comment = true;
        }
        if fragment.is_empty() {
            return Ok(());
        }
        self.at_line_start = fragment.ends_with('\n');
        if !self.in_comment {
            self.piece.push(fragment.as_bytes());
        }
        self.in_comment &= !self.at_line_start;
        Ok(())
    }
}
