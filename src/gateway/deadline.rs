//! The deadline of a call or of a token request.

use std::time::Duration;

use tokio::time::Instant;

/// The end of an operation, with the timeout that it was computed from for error messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) end: Instant,
    pub(super) timeout: Duration,
}

impl Deadline {
    /// `timeout` from now.
    pub(super) fn after(timeout: Duration) -> Self {
        Self {
            end: Instant::now() + timeout,
            timeout,
        }
    }

    /// Time left until the deadline.
    pub(super) fn remaining(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}
