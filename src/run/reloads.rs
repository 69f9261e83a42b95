//! When the configuration is read again: requests that arrive together share one reload.
//!
//! A request is answered with the result of a reload that began after it had arrived.

use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::server::ReloadRequest;

/// Shortest time from the end of one reload to the beginning of the next.
const PAUSE: Duration = Duration::from_secs(1);

/// The reloads that are wanted.
#[derive(Debug)]
pub(super) struct Reloads {
    requests: mpsc::Receiver<ReloadRequest>,
    waiting: Vec<ReloadRequest>,
    wanted: bool,
    not_before: Instant,
}

impl Reloads {
    pub(super) fn new(requests: mpsc::Receiver<ReloadRequest>) -> Self {
        Self {
            requests,
            waiting: Vec::new(),
            wanted: false,
            not_before: Instant::now(),
        }
    }

    /// Requests a reload without a reply.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Waits until a reload is wanted and due; returns the requests that it is to answer. Loses
    /// nothing when it is cancelled.
    pub(super) async fn due(&mut self) -> Vec<ReloadRequest> {
        if !self.wanted {
            match self.requests.recv().await {
                Some(request) => self.waiting.push(request),
                None => pending().await,
            }
            self.wanted = true;
        }
        sleep_until(self.not_before).await;
        while let Ok(request) = self.requests.try_recv() {
            self.waiting.push(request);
        }
        self.wanted = false;
        std::mem::take(&mut self.waiting)
    }

    /// Notes that a reload ended at `now`.
    pub(super) fn done(&mut self, now: Instant) {
        self.not_before = now + PAUSE;
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
    async fn requests_that_wait_share_one_reload_and_every_one_is_answered() {
        let (sender, mut reloads) = reloads();
        assert!(reloads.due().now_or_never().is_none(), "none is wanted");
        for count in 0..=5 {
            let answers: Vec<_> = (0..count)
                .map(|_| {
                    let (answer, answered) = oneshot::channel();
                    sender.try_send(answer).unwrap();
                    answered
                })
                .collect();
            reloads.want();
            reloads.want();
            let answered = reloads.due().await;
            assert_eq!(answered.len(), count);
            for request in answered {
                request.send(Ok(())).unwrap();
            }
            for answer in answers {
                assert_eq!(answer.await.unwrap(), Ok(()));
            }
            assert!(reloads.due().now_or_never().is_none(), "all are done");
        }
    }

    #[tokio::test]
    async fn a_reload_soon_after_another_waits_and_keeps_its_request() {
        let (sender, mut reloads) = reloads();
        reloads.done(Instant::now() + Duration::from_secs(3600));
        let (answer, mut answered) = oneshot::channel();
        sender.try_send(answer).unwrap();
        for _ in 0..3 {
            assert!(reloads.due().now_or_never().is_none());
        }
        assert!(answered.try_recv().is_err(), "not answered yet");
        reloads.not_before = Instant::now();
        assert_eq!(reloads.due().await.len(), 1);
    }
}
