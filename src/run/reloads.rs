//! Queue of reload requests, which combines concurrent ones.
//!
//! A request is answered with the result of a reload that started after it arrived.

use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::server::ReloadRequest;

/// Minimum time from the end of one reload to the start of the next.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// The queued reloads.
#[derive(Debug)]
pub(super) struct Reloads {
    requests: mpsc::Receiver<ReloadRequest>,
    waiting: Vec<ReloadRequest>,
    is_requested: bool,
    not_before: Instant,
}

impl Reloads {
    pub(super) fn new(requests: mpsc::Receiver<ReloadRequest>) -> Self {
        Self {
            requests,
            waiting: Vec::new(),
            is_requested: false,
            not_before: Instant::now(),
        }
    }

    /// Requests a reload without a reply.
    pub(super) fn request(&mut self) {
        self.is_requested = true;
    }

    /// Waits for the next reload; returns the requests to answer. Cancel safe.
    pub(super) async fn next(&mut self) -> Vec<ReloadRequest> {
        if !self.is_requested {
            match self.requests.recv().await {
                Some(request) => self.waiting.push(request),
                None => pending().await,
            }
            self.is_requested = true;
        }
        sleep_until(self.not_before).await;
        while let Ok(request) = self.requests.try_recv() {
            self.waiting.push(request);
        }
        self.is_requested = false;
        std::mem::take(&mut self.waiting)
    }

    /// Records that a reload ended at `now`.
    pub(super) fn done(&mut self, now: Instant) {
        self.not_before = now + MIN_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    fn reloads() -> (mpsc::Sender<ReloadRequest>, Reloads) {
        let (sender, requests) = mpsc::channel(8);
        (sender, Reloads::new(requests))
    }

    #[tokio::test]
    async fn queued_requests_share_one_reload_and_are_all_answered() {
        let (sender, mut reloads) = reloads();
        assert!(reloads.next().now_or_never().is_none(), "none is requested");
        for count in 0..=5 {
            let answers: Vec<_> = (0..count)
                .map(|_| {
                    let (answer, answered) = oneshot::channel();
                    sender.try_send(answer).unwrap();
                    answered
                })
                .collect();
            reloads.request();
            reloads.request();
            let answered = reloads.next().await;
            assert_eq!(answered.len(), count);
            for request in answered {
                request.send(Ok(())).unwrap();
            }
            for answer in answers {
                assert_eq!(answer.await.unwrap(), Ok(()));
            }
            assert!(reloads.next().now_or_never().is_none(), "all are done");
        }
    }

    #[tokio::test]
    async fn reload_soon_after_another_waits_and_keeps_its_request() {
        let (sender, mut reloads) = reloads();
        reloads.done(Instant::now() + Duration::from_secs(3600));
        let (answer, mut answered) = oneshot::channel();
        sender.try_send(answer).unwrap();
        for _ in 0..3 {
            assert!(reloads.next().now_or_never().is_none());
        }
        assert!(answered.try_recv().is_err(), "not answered yet");
        reloads.not_before = Instant::now();
        assert_eq!(reloads.next().await.len(), 1);
    }
}
