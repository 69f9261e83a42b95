//! Reads files with a timeout, and never twice at the same time.
//!
//! Runs outside of the runtime's threads, because a file can be on a network share that hangs. A
//! hanging thread cannot be ended: later reads wait for the same one instead of blocking another
//! thread on the same file.

use std::panic::resume_unwind;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// The read in progress.
#[derive(Debug)]
pub(super) struct BlockingRead<T>(Option<JoinHandle<T>>);

impl<T> Default for BlockingRead<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> BlockingRead<T> {
    /// The result of `read`, or of the earlier read if that is still in progress; `None` when it does
    /// not end within `limit`.
    pub(super) async fn within(
        &mut self,
        limit: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let reading = self.0.get_or_insert_with(|| spawn_blocking(read));
        let outcome = timeout(limit, reading).await.ok()?;
        self.0 = None;
        // The task is never cancelled, so an error is a panic.
        Some(outcome.unwrap_or_else(|error| resume_unwind(error.into_panic())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_hanging_read_is_awaited_and_no_second_one_starts() {
        let mut read = BlockingRead::default();
        let (end, hanging) = mpsc::channel();
        let first = read.within(SHORT, move || hanging.recv().unwrap()).await;
        assert_eq!(first, None);
        for _ in 0..3 {
            let again = read.within(SHORT, || panic!("a second read")).await;
            assert_eq!(again, None);
        }
        end.send(1).unwrap();
        assert_eq!(read.within(LONG, || panic!("a second read")).await, Some(1));
        assert_eq!(read.within(LONG, || 2).await, Some(2));
    }
}
