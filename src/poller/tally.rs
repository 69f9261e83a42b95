//! What one cycle achieved, for its one line in the log.
//!
//! Failures of the same reason are counted, not logged one by one: ten thousand partitions behind
//! one broken gateway are one fact. The first error of each reason is kept as the example.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::gateway::Error;
use crate::logging::chain;

/// Successes and failures of one cycle. Shared by what runs at the same time in it.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    read: u64,
    failures: BTreeMap<&'static str, (u64, String)>,
}

impl Tally {
    /// Something was read.
    pub(super) fn succeed(&self) {
        self.counts().read += 1;
    }

    /// A request failed, or was not sent because others had failed.
    pub(super) fn fail(&self, error: &Error) {
        debug!(error = chain(error), "A request failed.");
        let mut counts = self.counts();
        let failure = counts.failures.entry(error.reason().as_str());
        failure.or_insert_with(|| (0, chain(error))).0 += 1;
    }

    /// Writes the line over all that was read, which is called `what`.
    pub(super) fn log(&self, cluster: &str, what: &str, took: Duration) {
        let counts = self.counts();
        let (read, seconds) = (counts.read, took.as_secs_f64());
        if counts.failures.is_empty() {
            info!(
                cluster,
                read, seconds, "Cluster {cluster}: read {read} {what} in {seconds:.1} s."
            );
            return;
        }
        let failed: u64 = counts.failures.values().map(|(count, _)| count).sum();
        let mut reasons = String::new();
        for (reason, (count, example)) in &counts.failures {
            let separator = if reasons.is_empty() { "" } else { "; " };
            write!(
                reasons,
                "{separator}{count} x {reason}, for example: {example}"
            )
            .expect("a String takes everything");
        }
        warn!(
            cluster,
            read,
            failed,
            seconds,
            "Cluster {cluster}: read {read} {what} in {seconds:.1} s, {failed} requests failed: \
             {reasons}."
        );
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
