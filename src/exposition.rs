//! Snapshots → the bytes of `/metrics`.
//!
//! Pure: no clock and no socket; `now` is an argument and one value serves a whole page. What
//! changes only with a snapshot is encoded and compressed once and kept; ages and the exporter's
//! own numbers are encoded for each page. The sample lines are the same in both formats, so one
//! set of pieces serves OpenMetrics 1.0 and text 0.0.4, plain and compressed.

mod encode;
mod families;
mod family;
mod gzip;
pub mod negotiation;
mod samples;
mod view;

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};

use crate::protection::Rules;
use crate::settings::States;
use crate::snapshot::Snapshot;
use crate::telemetry::Process;
pub use families::families;
use family::Input;
pub use family::{Family, Kind};
use gzip::Piece;
pub use gzip::{INFLATING, Text};
use negotiation::Format;

/// A cluster as it is exposed: what is known of it and how to show it.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// What is known.
    pub snapshot: Arc<Snapshot>,
    /// By what partitions are judged, and how long a reading is believed.
    pub rules: Rules,
    /// Which states of a stateset are exposed.
    pub states: States,
}

/// The part of a cluster's page that holds until its snapshot changes, or time turns a verdict or
/// makes a reading stale.
#[derive(Debug)]
pub struct KeptPieces {
    view: ClusterView,
    /// One per family, in the order of the catalogue, each with the moment until which it holds.
    pieces: Vec<(Piece, Option<DateTime<Utc>>)>,
}

impl KeptPieces {
    /// Encodes and compresses all that `view` says at `now`, ages excepted. What `earlier` still
    /// says is taken from there.
    pub fn encode(view: ClusterView, now: DateTime<Utc>, earlier: Option<&Self>) -> Self {
        let earlier = earlier.filter(|earlier| earlier.shows(&view));
        let input = Input::Cluster(view.clone(), now);
        let pieces = families().enumerate().map(|(index, family)| {
            let held = earlier.and_then(|earlier| earlier.piece(index, now));
            match held {
                Some(held) => held.clone(),
                None if family.is_kept() => family.encode(&input),
                None => (Piece::default(), None),
            }
        });
        let pieces = pieces.collect();
        Self { view, pieces }
    }

    /// Whether these pieces still say what `view` says at `now`.
    pub fn still_hold(&self, view: &ClusterView, now: DateTime<Utc>) -> bool {
        self.shows(view) && (0..self.pieces.len()).all(|index| self.piece(index, now).is_some())
    }

    /// Whether they were made from `view`, at whatever moment.
    pub fn shows(&self, view: &ClusterView) -> bool {
        Arc::ptr_eq(&self.view.snapshot, &view.snapshot)
            && self.view.rules == view.rules
            && self.view.states == view.states
    }

    fn piece(&self, index: usize, now: DateTime<Utc>) -> Option<&(Piece, Option<DateTime<Utc>>)> {
        let piece = self.pieces.get(index);
        piece.filter(|(_, holds_until)| holds_until.is_none_or(|until| now < until))
    }
}

/// The samples of all clusters and of the process, compressed: a page without its format.
#[derive(Debug)]
pub struct Page {
    /// The pieces of each family, in the order of the catalogue.
    families: Vec<Vec<Piece>>,
}

impl Page {
    /// Puts the kept pieces of all clusters together with what is fresh at `now`.
    pub fn assemble(
        clusters: &[Arc<KeptPieces>],
        process: &Arc<Process>,
        now: DateTime<Utc>,
    ) -> Self {
        let families = families().enumerate().map(|(index, family)| {
            let (of_process, _) = family.encode(&Input::Process(Arc::clone(process)));
            let of_clusters = clusters.iter().map(|kept| match kept.pieces.get(index) {
                Some((piece, _)) if family.is_kept() => piece.clone(),
                _ => family.encode(&Input::Cluster(kept.view.clone(), now)).0,
            });
            let samples = of_clusters.chain([of_process]);
            samples.filter(|piece| !piece.is_empty()).collect()
        });
        Self {
            families: families.collect(),
        }
    }

    /// The page with the header lines of `format`.
    pub fn in_format(&self, format: Format) -> Text {
        let mut pieces = Vec::new();
        for (samples, headers) in self.families.iter().zip(&*HEADERS) {
            if !samples.is_empty() {
                pieces.push(headers.of(format).clone());
                pieces.extend_from_slice(samples);
            }
        }
        if format.is_openmetrics() {
            pieces.push(END.clone());
        }
        Text { pieces }
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
