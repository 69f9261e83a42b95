//! What one round of requests achieved.
//!
//! Failures of one collector for the same reason are counted, not logged one by one: ten thousand
//! partitions behind one broken gateway are one fault. The first error of each is kept as the
//! example.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{debug, info};

use crate::gateway::{Error, Reason};
use crate::logging::chain;
use crate::model::Collector;

/// Successes and failures of one round. Shared by what runs at the same time in it.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    read: u64,
    failures: BTreeMap<(Collector, Reason), (u64, String)>,
    skipped: BTreeMap<Collector, usize>,
}

impl Tally {
    /// Something was read.
    pub(super) fn succeed(&self) {
        self.counts().read += 1;
    }

    /// A request failed, or was not sent because others had failed.
    pub(super) fn fail(&self, collector: Collector, error: &Error) {
        debug!(error = chain(error), "A request failed.");
        self.note(collector, error.reason(), || chain(error));
    }

    /// A collector failed for this reason; the first `example` is kept.
    pub(super) fn note(
        &self,
        collector: Collector,
        reason: Reason,
        example: impl FnOnce() -> String,
    ) {
        let mut counts = self.counts();
        let failure = counts.failures.entry((collector, reason));
        failure.or_insert_with(|| (0, example())).0 += 1;
    }

    /// A collector read items that could not be decoded.
    pub(super) fn skip(&self, collector: Collector, items: usize) {
        *self.counts().skipped.entry(collector).or_default() += items;
    }

    /// Number of items of `collector` that could not be decoded.
    pub(super) fn skipped(&self, collector: Collector) -> usize {
        let counts = self.counts();
        counts.skipped.get(&collector).copied().unwrap_or_default()
    }

    /// Why the selected collectors failed; empty if they did not.
    pub(super) fn reasons(&self, of: impl Fn(Collector) -> bool) -> BTreeSet<Reason> {
        let counts = self.counts();
        let failed = counts.failures.keys();
        let failed = failed.filter(|(collector, _)| of(*collector));
        failed.map(|(_, reason)| *reason).collect()
    }

    /// The failures of the selected collectors in words.
    pub(super) fn describe(&self, of: impl Fn(Collector) -> bool) -> String {
        let mut merged: BTreeMap<Reason, (u64, &str)> = BTreeMap::new();
        let counts = self.counts();
        for ((collector, reason), (count, example)) in &counts.failures {
            if of(*collector) {
                merged.entry(*reason).or_insert((0, example)).0 += count;
            }
        }
        let mut text = String::new();
        for (reason, (count, example)) in merged {
            let separator = if text.is_empty() { "" } else { "; " };
            let reason = reason.as_str();
            write!(
                text,
                "{separator}{count} x {reason}, for example: {example}"
            )
            .expect("a String takes everything");
        }
        text
    }

    /// Logs how much of `what` was read, and how fast: routine, except for the first time.
    pub(super) fn log(&self, cluster: &str, what: &str, took: Duration, is_first: bool) {
        let counts = self.counts();
        let (read, seconds) = (counts.read, took.as_secs_f64());
        let failed: u64 = counts.failures.values().map(|(count, _)| count).sum();
        let line = format!(
            "Cluster {cluster}: read {read} {what} in {seconds:.1} s, {failed} requests failed."
        );
        if is_first {
            info!(cluster, read, failed, seconds, "{line}");
        } else {
            debug!(cluster, read, failed, seconds, "{line}");
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
