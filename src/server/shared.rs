//! Pages that are encoded once for all requests that wait for them.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

type Latest<T> = Option<(Instant, Arc<T>)>;

/// A page, encoded off the runtime's threads, one at a time.
#[derive(Debug)]
pub(super) struct Shared<T> {
    /// The last page, and the moment before it was encoded.
    latest: Arc<Mutex<Latest<T>>>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self {
            latest: Arc::default(),
        }
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// A page that is encoded after the call: by the next call of `encode`, which gets the last
    /// page, and for which a permit is needed.
    ///
    /// # Errors
    ///
    /// When `encode` panics.
    pub(super) async fn next(
        &self,
        permits: &Arc<Semaphore>,
        encode: impl FnOnce(Option<&T>) -> T + Send + 'static,
    ) -> Result<Arc<T>, JoinError> {
        let arrival = Instant::now();
        let mut latest = Arc::clone(&self.latest).lock_owned().await;
        if let Some((began, page)) = &*latest
            && *began >= arrival
        {
            return Ok(Arc::clone(page));
        }
        let permit = Arc::clone(permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        // Encoding completes for the other requests even if this client disconnects.
        let encoding = spawn_blocking(move || {
            let began = Instant::now();
            let page = Arc::new(encode(latest.as_ref().map(|(_, page)| &**page)));
            *latest = Some((began, Arc::clone(&page)));
            drop(permit);
            page
        });
        encoding.await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures_util::future::join_all;
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn all_that_wait_share_the_next_page_and_none_gets_an_earlier_one() {
        let (shared, permits) = (Shared::default(), Arc::new(Semaphore::new(1)));
        let encoded = Arc::new(AtomicUsize::new(0));
        let next = |signals: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>| {
            let encoded = Arc::clone(&encoded);
            shared.next(&permits, move |_| {
                if let Some((begun, may_end)) = signals {
                    begun.send(()).unwrap();
                    may_end.recv().unwrap();
                }
                encoded.fetch_add(1, Ordering::SeqCst)
            })
        };
        let (begun, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel();
        let mut first = pin!(next(Some((begun, may_end))));
        assert!(poll!(&mut first).is_pending());
        has_begun.recv().unwrap();
        let mut waiting = pin!(join_all((0..100).map(|_| next(None))));
        assert!(poll!(&mut waiting).is_pending(), "all have arrived");
        end.send(()).unwrap();
        assert_eq!(*first.await.unwrap(), 0);
        assert!(waiting.await.into_iter().all(|page| *page.unwrap() == 1));
        assert_eq!(*next(None).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_fails_one_page_only() {
        let (shared, permits) = (Shared::default(), Arc::new(Semaphore::new(1)));
        let failed = shared.next(&permits, |_| panic!("as the test wants it"));
        assert!(failed.await.is_err());
        let page = shared.next(&permits, |earlier: Option<&u8>| {
            assert_eq!(earlier, None);
            7
        });
        assert_eq!(*page.await.unwrap(), 7);
    }
}
