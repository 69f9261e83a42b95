//! A look at files that is given up on when it takes too long, and never taken twice at a time.
//!
//! Reads off the runtime's threads, because a file may lie on a share that hangs. A thread that
//! hangs cannot be ended: whoever comes after it waits for the same look instead of losing another
//! thread to the same file.

use std::panic::resume_unwind;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// The look that is under way, if there is one.
#[derive(Debug)]
pub(super) struct Look<T>(Option<JoinHandle<T>>);

impl<T> Default for Look<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Look<T> {
    /// What `look` sees, or the look before it that did not come to an end in time; `None` when
    /// it does not end within `patience`.
    pub(super) async fn within(
        &mut self,
        patience: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let looking = self.0.get_or_insert_with(|| spawn_blocking(look));
        let looked = timeout(patience, looking).await.ok()?;
        self.0 = None;
        // It fails by a panic only, which is not ours to keep.
        Some(looked.unwrap_or_else(|e| resume_unwind(e.into_panic())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_look_that_hangs_is_waited_for_and_no_other_is_begun() {
        let mut look = Look::default();
        let (end, hanging) = mpsc::channel();
        let first = look.within(SHORT, move || hanging.recv().unwrap()).await;
        assert_eq!(first, None);
        for _ in 0..3 {
            let again = look.within(SHORT, || panic!("a second look")).await;
            assert_eq!(again, None);
        }
        end.send(1).unwrap();
        assert_eq!(look.within(LONG, || panic!("a second look")).await, Some(1));
        assert_eq!(look.within(LONG, || 2).await, Some(2));
    }
}
