//! Pages that are encoded once for all requests that wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Mutex, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

type Latest<T> = Option<(Instant, Arc<T>)>;

/// A page that is encoded on a blocking thread, one at a time.
#[derive(Debug)]
pub(super) struct Shared<T> {
    /// The last page and when its encoding started, as long as requests wait.
    latest: Arc<Mutex<Latest<T>>>,
    requests: AtomicUsize,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self {
            latest: Arc::default(),
            requests: AtomicUsize::new(0),
        }
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// The next page whose encoding starts after the call. Encoding needs a permit.
    ///
    /// # Errors
    ///
    /// If `encode` panics.
    pub(super) async fn next(
        &self,
        permits: &Arc<Semaphore>,
        encode: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Arc<T>, JoinError> {
        let arrival = Instant::now();
        let _request = Request::new(self);
        let mut latest = Arc::clone(&self.latest).lock_owned().await;
        if let Some((started, page)) = &*latest
            && *started >= arrival
        {
            return Ok(Arc::clone(page));
        }
        let permit = Arc::clone(permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        // Encoding completes for the other requests even if this client disconnects.
        let encoding = spawn_blocking(move || {
            let started = Instant::now();
            // The memory of the last page is free before this one is encoded.
            *latest = None;
            let page = Arc::new(encode());
            *latest = Some((started, Arc::clone(&page)));
            drop(permit);
            page
        });
        encoding.await
    }
}

/// Drops the page with the last request that waits for it, because it refers to encoded clusters.
struct Request<'a, T>(&'a Shared<T>);

impl<'a, T> Request<'a, T> {
    fn new(shared: &'a Shared<T>) -> Self {
        shared.requests.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl<T> Drop for Request<'_, T> {
    fn drop(&mut self) {
        let is_last = self.0.requests.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && let Ok(mut latest) = self.0.latest.try_lock() {
            *latest = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;

    use futures_util::future::join_all;
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn waiting_requests_share_the_next_page_and_get_no_earlier_one() {
        let (shared, permits) = (Shared::default(), Arc::new(Semaphore::new(1)));
        let encoded = Arc::new(AtomicUsize::new(0));
        let next = |signals: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>| {
            let encoded = Arc::clone(&encoded);
            shared.next(&permits, move || {
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
    async fn panic_fails_only_one_page() {
        let (shared, permits) = (Shared::default(), Arc::new(Semaphore::new(1)));
        let failed = shared.next(&permits, || panic!("injected"));
        assert!(failed.await.is_err());
        let page = shared.next(&permits, || 7);
        assert_eq!(*page.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn no_page_stays_in_memory_after_the_last_request() {
        let (shared, permits) = (Shared::default(), Arc::new(Semaphore::new(1)));
        let page = shared.next(&permits, || 7).await.unwrap();
        assert_eq!(Arc::strong_count(&page), 1);
    }
}
