//! The only module that reads the wall clock.
//!
//! The pure modules, from `inventory` to `exposition`, receive the time as an argument.

use chrono::{DateTime, Utc};

/// Returns the current time: [`now`], or a simulated time.
pub type Clock = fn() -> DateTime<Utc>;

/// The current time of the machine.
#[expect(clippy::disallowed_methods, reason = "the only allowed call")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
