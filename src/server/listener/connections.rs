//! Admits connections, and waits for what their places tell of them.
//!
//! At the cap a new connection takes the place of another one, as [`Places`] decides. A connection
//! learns through its [`Slot`] that it has to go.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::held::Held;
use super::places::{Overdue, Place, Places};

/// The places of one server.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    places: Mutex<Places>,
    /// Wakes those that wait for a place once one is given back or becomes idle.
    changed: Notify,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            places: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Takes a place for a new connection; waits while none can be closed for it.
    pub(super) async fn admit(self: &Arc<Self>, peer: IpAddr) -> Arc<Slot> {
        loop {
            // Made before the look, so that no change falls between the look and the wait.
            let changed = self.changed.notified();
            if let Some(slot) = self.try_admit(peer, Instant::now()) {
                return slot;
            }
            // Either a place changes, or a response makes no progress meanwhile.
            timeout(self.limits.grace, changed).await.ok();
        }
    }

    /// Closes a connection to make room, if one can be closed.
    pub(super) fn make_room(&self) {
        self.lock().make_room(Instant::now(), &self.limits);
    }

    /// Closes every connection without a running request.
    pub(super) fn close_idle(&self) {
        self.lock().close(Place::is_without_request);
    }

    /// Closes every connection; returns how many there were.
    pub(super) fn close_all(&self) -> usize {
        self.lock().close(|_| true)
    }

    fn try_admit(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Option<Arc<Slot>> {
        let (id, close) = self.lock().admit(peer, now, &self.limits)?;
        Some(Arc::new(Slot {
            connections: Arc::clone(self),
            id,
            close,
            flushed: AtomicBool::new(true),
            task: AtomicWaker::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection, given back when the last owner drops it.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Arc<Connections>,
    id: u64,
    close: CancellationToken,
    /// Whether nothing was written to the stream since it was flushed.
    flushed: AtomicBool,
    /// Wakes the task of the connection.
    task: AtomicWaker,
}

/// The handing over of one response; it ends with the drop.
#[derive(Debug)]
pub(super) struct Answering {
    slot: Arc<Slot>,
    number: u64,
}

impl Slot {
    /// Completes when the connection has to go.
    pub(super) async fn closed(&self) {
        self.close.cancelled().await;
    }

    /// A request head is complete. It costs the connection its place when too many are.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        let number = self.change(|place| place.begin(Instant::now()));
        Answering {
            slot: Arc::clone(self),
            number: number.unwrap_or_default(), // Without a place nothing is counted any more.
        }
    }

    /// Whether nothing was written to the stream since it was flushed.
    pub(super) fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Acquire)
    }

    /// The stream is flushed completely, or something is written to it.
    pub(super) fn set_flushed(&self, flushed: bool) {
        self.flushed.store(flushed, Ordering::Release);
    }

    /// The stream has taken `bytes`.
    pub(super) fn took(&self, bytes: usize) {
        self.change(|place| place.took(bytes, Instant::now()));
    }

    /// Has the task woken whenever a response is handed over: with HTTP/2 that can be after all of
    /// it was written, and nobody else would look again.
    pub(super) fn wake(&self, task: &Waker) {
        self.task.register(task);
    }

    /// How many responses have been handed over so far.
    pub(super) fn handed_over(&self) -> u64 {
        self.change(|place| place.handed_over).unwrap_or_default()
    }

    /// Completes when no response is under way; never without a place.
    pub(super) async fn idle(&self) {
        loop {
            // Made before the look, so that no change falls between the look and the wait.
            let changed = self.connections.changed.notified();
            if self.change(|place| place.is_without_request()) == Some(true) {
                return;
            }
            changed.await;
        }
    }

    /// Of the first `handed_over` responses everything is written.
    pub(super) fn written(&self, handed_over: u64) {
        let mut places = self.connections.lock();
        if places.written(self.id, handed_over, Instant::now()) {
            self.connections.changed.notify_waiters();
        }
    }

    /// Completes when the first request, a further one or a response has taken longer than it may.
    pub(super) async fn overdue(&self) -> Overdue {
        let limits = &self.connections.limits;
        // Whatever begins from now on is not overdue before that: to look again then is early
        // enough for every later state.
        let soonest = limits.header_read.min(limits.response).min(limits.stall);
        loop {
            let now = Instant::now();
            let Some((deadline, overdue)) = self.change(|place| place.deadline(now, limits)) else {
                return std::future::pending().await; // Closed already.
            };
            if deadline <= now {
                return overdue;
            }
            sleep_until(deadline.min(now + soonest)).await;
        }
    }

    /// Applies `change` to the place, unless it is already taken away.
    fn change<T>(&self, change: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let mut places = self.connections.lock();
        Some(change(places.get_mut(self.id)?))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
        self.connections.changed.notify_waiters();
    }
}

impl Answering {
    /// The response begins to be sent, and holds memory until it is.
    pub(super) fn send(&self, held: Held) {
        let connections = &self.slot.connections;
        let mut places = connections.lock();
        places.send(
            self.slot.id,
            self.number,
            held,
            Instant::now(),
            &connections.limits,
        );
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.slot.change(|place| place.hand_over(self.number));
        self.slot.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::super::places::RESPONSES;
    use super::super::watched::watch;
    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn one_slot() -> Arc<Slot> {
        capped(1).admit(PEER).await
    }

    fn capped(connections: usize) -> Arc<Connections> {
        Connections::new(Limits {
            connections,
            ..Limits::default()
        })
    }

    fn busy_since(slot: &Slot) -> Option<Instant> {
        slot.change(|place| place.busy())
            .flatten()
            .map(|(since, _)| since)
    }

    #[tokio::test]
    async fn a_request_before_the_last_answer_is_written_does_not_restart_the_clock() {
        let slot = one_slot().await;
        drop(slot.begin());
        let first = busy_since(&slot);
        assert!(first.is_some());
        let second = slot.begin();
        assert_eq!(busy_since(&slot), first);
        slot.written(slot.handed_over());
        assert!(busy_since(&slot) > first, "the second answer is under way");
        drop(second);
        assert!(busy_since(&slot).is_some(), "handed over, not written");
        slot.written(slot.handed_over());
        assert_eq!(busy_since(&slot), None);
    }

    #[tokio::test]
    async fn a_connection_is_busy_while_any_of_its_answers_is() {
        let slot = one_slot().await;
        let [first, second, third] = [slot.begin(), slot.begin(), slot.begin()];
        let since = busy_since(&slot);
        drop(second);
        slot.written(slot.handed_over());
        assert_eq!(busy_since(&slot), since, "the oldest one counts");
        let before = slot.handed_over();
        drop(first);
        slot.written(before);
        assert_eq!(busy_since(&slot), since, "it was handed over too late");
        drop(third);
        slot.written(slot.handed_over());
        assert_eq!(busy_since(&slot), None);
    }

    #[tokio::test]
    async fn an_answer_that_is_handed_over_after_it_was_written_is_over_too() {
        let slot = one_slot().await;
        let answering = slot.begin();
        let watched = Arc::clone(&slot);
        let connection = tokio::spawn(async move {
            watch(std::future::pending::<()>(), &watched, true).await;
        });
        tokio::task::yield_now().await; // The connection is polled, and nothing is left to do.
        drop(answering);
        let over = async {
            while busy_since(&slot).is_some() {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(20);
        timeout(patience, over).await.unwrap();
        connection.abort();
    }

    #[tokio::test]
    async fn a_connection_that_gives_up_requests_without_reading_is_closed() {
        let slot = one_slot().await;
        for _ in 0..RESPONSES {
            drop(slot.begin());
        }
        assert!(!slot.close.is_cancelled());
        slot.written(slot.handed_over());
        for _ in 0..RESPONSES {
            drop(slot.begin());
        }
        assert!(!slot.close.is_cancelled(), "it has read in between");
        drop(slot.begin());
        assert!(slot.close.is_cancelled());
        let unwritten = slot.change(|place| place.busy()).flatten();
        assert_eq!(unwritten.map(|(_, count)| count), Some(RESPONSES));
    }

    #[tokio::test]
    async fn places_are_never_more_than_the_cap_and_come_back() {
        let connections = capped(2);
        let [first, second] = [connections.admit(PEER).await, connections.admit(PEER).await];
        let third = connections.admit(PEER).await;
        assert!(first.close.is_cancelled());
        assert!(!second.close.is_cancelled());
        assert_eq!(connections.lock().count(), 2);
        let _busy = [second.begin(), third.begin()];
        assert!(connections.try_admit(PEER, Instant::now()).is_none());
        drop(first);
        assert!(connections.try_admit(PEER, Instant::now()).is_none());
    }
}
