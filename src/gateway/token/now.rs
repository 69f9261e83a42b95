//! The current time for the token module.

use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::clock;

/// The current time on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Monotonic: for the renewal of tokens. Tests can pause it.
    pub(super) instant: Instant,
    /// Wall clock: for the expiry times in responses and metrics.
    pub(super) time: DateTime<Utc>,
}

impl Now {
    pub(super) fn read() -> Self {
        Self {
            instant: tokio::time::Instant::now().into_std(),
            time: clock::now(),
        }
    }
}
