//! Snapshots → the bytes of `/metrics`.
//!
//! Pure: no clock and no socket; `now` is an argument and one value serves a whole page. What
//! changes only with a snapshot is encoded and compressed once and kept; ages and the exporter's
//! own numbers are encoded for each scrape. The sample lines are the same in both formats, so one
//! set of pieces serves OpenMetrics 1.0 and text 0.0.4, plain and compressed.

mod encode;
mod families;
mod family;
mod gzip;
pub mod negotiation;
mod samples;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use crate::config::States;
use crate::snapshot::Snapshot;
use crate::telemetry::Process;
pub use families::families;
use family::Input;
pub use family::{Family, Kind};
use gzip::Piece;
use negotiation::Format;

/// A cluster as it is exposed: what is known of it and how to show it.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// What is known.
    pub snapshot: Arc<Snapshot>,
    /// Older readings are no longer believed.
    pub staleness: TimeDelta,
    /// Which states of a stateset are exposed.
    pub states: States,
}

/// The part of a cluster's page that holds until its snapshot changes or a reading grows stale.
#[derive(Debug)]
pub struct KeptPieces {
    view: ClusterView,
    /// One piece per family, in the order of the catalogue.
    pieces: Vec<Piece>,
    valid_until: Option<DateTime<Utc>>,
}

impl KeptPieces {
    /// Encodes and compresses all that `view` says at `now`, ages excepted.
    pub fn encode(view: ClusterView, now: DateTime<Utc>) -> Self {
        let input = Input::Cluster(view.clone(), now);
        let pieces = families().map(|family| {
            if family.is_kept() {
                family.encode(&input)
            } else {
                Piece::default()
            }
        });
        Self {
            pieces: pieces.collect(),
            valid_until: next_expiry(&view, now),
            view,
        }
    }

    /// Whether these pieces still say what `view` says at `now`.
    pub fn still_hold(&self, view: &ClusterView, now: DateTime<Utc>) -> bool {
        Arc::ptr_eq(&self.view.snapshot, &view.snapshot)
            && self.view.staleness == view.staleness
            && self.view.states == view.states
            && self.valid_until.is_none_or(|until| now < until)
    }
}

/// When the next reading that is believed at `now` ceases to be.
fn next_expiry(view: &ClusterView, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let known = view.snapshot.partitions.values();
    let expiries = known.filter_map(|known| Some(known.read_at? + view.staleness));
    expiries.filter(|expiry| *expiry > now).min()
}

/// A page, cut into compressed pieces.
#[derive(Debug)]
pub struct Page {
    pieces: Vec<Piece>,
}

impl Page {
    /// Puts the kept pieces of all clusters together with what is fresh at `now`.
    pub fn assemble(
        clusters: &[Arc<KeptPieces>],
        process: &Arc<Process>,
        format: Format,
        now: DateTime<Utc>,
    ) -> Self {
        let mut pieces = Vec::new();
        for (index, family) in families().enumerate() {
            let of_process = family.encode(&Input::Process(Arc::clone(process)));
            let of_clusters = clusters.iter().map(|kept| match kept.pieces.get(index) {
                Some(piece) if family.is_kept() => piece.clone(),
                _ => family.encode(&Input::Cluster(kept.view.clone(), now)),
            });
            let samples = of_clusters.chain([of_process]);
            let samples: Vec<Piece> = samples.filter(|piece| !piece.is_empty()).collect();
            if !samples.is_empty() {
                pieces.extend(HEADERS.get(index).map(|headers| headers.of(format).clone()));
                pieces.extend(samples);
            }
        }
        if format.is_openmetrics() {
            pieces.push(END.clone());
        }
        Self { pieces }
    }

    /// The page as one gzip member, in chunks.
    pub fn gzip(&self) -> Vec<Bytes> {
        gzip::member(&self.pieces)
    }

    /// The page as plain text.
    pub fn plain(&self) -> Vec<u8> {
        gzip::inflate(&self.pieces)
    }
}

/// The header lines of one family, compressed, in both formats.
struct Headers {
    openmetrics: Piece,
    text: Piece,
}

impl Headers {
    fn new(family: &Family) -> Self {
        Self {
            openmetrics: Piece::of(family.openmetrics_header().as_bytes()),
            text: Piece::of(family.text_header().as_bytes()),
        }
    }

    fn of(&self, format: Format) -> &Piece {
        if format.is_openmetrics() {
            &self.openmetrics
        } else {
            &self.text
        }
    }
}

/// The headers of the catalogue, in its order.
static HEADERS: LazyLock<Vec<Headers>> = LazyLock::new(|| families().map(Headers::new).collect());

/// What ends a page in OpenMetrics.
static END: LazyLock<Piece> = LazyLock::new(|| Piece::of(b"# EOF\n"));

#[cfg(test)]
mod tests;
