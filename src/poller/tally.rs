//! What one cycle achieved, for its one line in the log.
//!
//! Failures of the same reason are counted, not logged one by one: ten thousand partitions behind
//! one broken gateway are one fact. The first error of each reason is kept as the example.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::gateway::Error;

/// Successes and failures of one cycle.
#[derive(Debug, Default)]
pub(super) struct Tally {
    read: u64,
    failures: BTreeMap<&'static str, (u64, String)>,
}

impl Tally {
    /// A partition was read.
    pub(super) fn succeed(&mut self) {
        self.read += 1;
    }

    /// A request failed, or was not sent because others had failed.
    pub(super) fn fail(&mut self, error: &Error) {
        debug!(error = chain(error), "A request failed.");
        let failure = self.failures.entry(error.reason().as_str());
        failure.or_insert_with(|| (0, chain(error))).0 += 1;
    }

    /// Writes the line of the cycle.
    pub(super) fn log(&self, cluster: &str, took: Duration) {
        let (read, seconds) = (self.read, took.as_secs_f64());
        if self.failures.is_empty() {
            info!(
                cluster,
                partitions = read,
                seconds,
                "Read {read} partitions of cluster {cluster} in {seconds:.1} s."
            );
            return;
        }
        let failed: u64 = self.failures.values().map(|(count, _)| count).sum();
        let mut reasons = String::new();
        for (reason, (count, example)) in &self.failures {
            let separator = if reasons.is_empty() { "" } else { "; " };
            write!(
                reasons,
                "{separator}{count} x {reason}, for example: {example}"
            )
            .expect("a String takes everything");
        }
        warn!(
            cluster,
            partitions = read,
            failed,
            seconds,
            "Read {read} partitions of cluster {cluster} in {seconds:.1} s, {failed} requests \
             failed: {reasons}."
        );
    }
}

/// An error with all its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("a String takes everything");
        cause = error.source();
    }
    text
}
