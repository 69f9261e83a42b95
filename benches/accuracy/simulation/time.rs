//! Simulated time: the paused clock of the runtime, read as milliseconds since 1970.
//!
//! Responsible for the two clocks of a simulation, that of the cluster and that of the exporter,
//! which differ by the skew. Each cluster is simulated on a thread of its own.

use std::cell::Cell;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

thread_local! {
    /// The instant of the runtime that stands for a moment of the cluster's clock.
    static EPOCH: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
    /// Clock of the cluster minus that of the exporter.
    static SKEW: Cell<i64> = const { Cell::new(0) };
}

/// Lets the clock of the cluster show `now` at this instant.
pub(crate) fn begin(now: i64) {
    EPOCH.set(Some((Instant::now(), now)));
}

/// Sets the exporter's clock.
pub(crate) fn set_skew(skew: i64) {
    SKEW.set(skew);
}

/// The clock of the cluster.
pub(crate) fn now() -> i64 {
    let (epoch, began) = epoch();
    let passed = i64::try_from(epoch.elapsed().as_millis());
    began + passed.unwrap_or_default()
}

/// The clock of the exporter.
pub(crate) fn exporter() -> DateTime<Utc> {
    moment(now() - SKEW.get())
}

/// Waits until the clock of the cluster shows `at`.
pub(crate) async fn wait_until(at: i64) {
    let (epoch, began) = epoch();
    let passed = Duration::from_millis(u64::try_from(at - began).unwrap_or_default());
    tokio::time::sleep_until(epoch + passed).await;
}

pub(crate) fn moment(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at).expect("the simulated years are in the calendar")
}

fn epoch() -> (Instant, i64) {
    EPOCH
        .get()
        .expect("a simulation begins before it reads a clock")
}
