//! Rate limiting of the log lines about failed accepts.

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing::warn;

/// Minimum time between two log lines of one listener.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Keeps a permanent failure, such as a full file descriptor table, from flooding the log.
#[derive(Default)]
pub(super) struct AcceptFailures {
    last_logged: Option<Instant>,
    unlogged: u64,
}

impl AcceptFailures {
    pub(super) fn log(&mut self, error: &io::Error, listener: &TcpListener) {
        let Some(failures) = self.count(Instant::now()) else {
            return;
        };
        let address = listener
            .local_addr()
            .map_or_else(|_| "?".to_owned(), |address| address.to_string());
        warn!(
            %address, %error, failures,
            "Cannot accept connections to {address} ({error}); {failures} failures since the last such line."
        );
    }

    /// Counts a failure. Returns the number of failures to log, if a line is due.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        let is_recent = |last| now.duration_since(last) < LOG_INTERVAL;
        if self.last_logged.is_some_and(is_recent) {
            return None;
        }
        self.last_logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_accept_failures_are_logged_once_per_interval_with_their_count() {
        let mut failures = AcceptFailures::default();
        let start = Instant::now();
        let pause = Duration::from_millis(100);
        assert_eq!(failures.count(start), Some(1));
        assert_eq!(failures.count(start + pause), None);
        assert_eq!(failures.count(start + pause * 2), None);
        assert_eq!(failures.count(start + LOG_INTERVAL), Some(3));
        assert_eq!(failures.count(start + LOG_INTERVAL), None);
    }
}
