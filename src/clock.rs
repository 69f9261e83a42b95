//! The one place that reads the wall clock.
//!
//! Only the shell (poller, server, simulator) may call it; everything between the
//! gateway and the exposition receives its `now` as an argument.

use chrono::{DateTime, Utc};

/// A function that returns the current time: [`now`], or the clock of a simulation.
pub type Clock = fn() -> DateTime<Utc>;

/// The current time of this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock the rule points to"
)]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
