//! The open connections of all listeners, and what each of them is doing.
//!
//! Decides who gets a place: at the cap, a new connection takes that of the one that has gone
//! longest without a request. It touches no socket; a connection learns through its [`Slot`]
//! that it has to go.
//!
//! Invariant: a busy connection never loses its place to another one, and there are never more
//! places taken than the cap.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Limits;

/// The most responses that are not written yet, of one connection: many times the streams that it
/// may have at a time, so that only who gives up requests all the time without reading gets there.
const RESPONSES: usize = 256;

/// The places of one server.
#[derive(Debug)]
pub(super) struct Connections {
    capacity: usize,
    places: Mutex<Places>,
    /// Tells those who wait for a place that one ended or became idle.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Places {
    next_id: u64,
    taken: HashMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    state: State,
    close: CancellationToken,
    /// Responses that have begun, and that were handed over, so far.
    begun: u64,
    handed_over: u64,
}

#[derive(Debug)]
enum State {
    /// No complete request head so far.
    Waiting { since: Instant },
    /// From a complete request head until the last byte of every response has left: the responses
    /// under way, the oldest first. There are several with HTTP/2, and in HTTP/1.1 when requests
    /// had a body, after which hyper reads on. At least one.
    Busy(Vec<Response>),
    /// Between two requests.
    Idle { since: Instant },
}

#[derive(Debug)]
struct Response {
    /// Increasing.
    number: u64,
    /// When the head of its request was complete.
    since: Instant,
    /// Its place among those that are handed over, though not all of it may be written.
    handed_over: Option<u64>,
}

impl Connections {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            places: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Takes a place for a new connection; waits as long as all connections are busy.
    pub(super) async fn admit(self: &Arc<Self>) -> Arc<Slot> {
        loop {
            // Made before the look, so that no change falls between the look and the wait.
            let changed = self.changed.notified();
            if let Some(slot) = self.try_admit(Instant::now()) {
                return slot;
            }
            changed.await;
        }
    }

    /// Closes the connection that has gone longest without a request, if there is one.
    pub(super) fn make_room(&self) {
        self.lock().close_longest_without_request();
    }

    /// Closes every connection without a running request.
    pub(super) fn close_idle(&self) {
        self.close(|place| place.state.without_request_since().is_some());
    }

    /// Closes every connection; how many there were.
    pub(super) fn close_all(&self) -> usize {
        self.close(|_| true)
    }

    fn close(&self, chosen: impl Fn(&Place) -> bool) -> usize {
        let mut places = self.lock();
        let closed = places.taken.extract_if(|_, place| chosen(place));
        closed.map(|(_, place)| place.close.cancel()).count()
    }

    fn try_admit(self: &Arc<Self>, now: Instant) -> Option<Arc<Slot>> {
        let mut places = self.lock();
        if places.taken.len() >= self.capacity {
            places.close_longest_without_request()?;
        }
        let id = places.next_id;
        places.next_id += 1;
        let close = CancellationToken::new();
        let place = Place {
            state: State::Waiting { since: now },
            close: close.clone(),
            begun: 0,
            handed_over: 0,
        };
        places.taken.insert(id, place);
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

impl Place {
    /// The number of the response that begins.
    fn begin(&mut self) -> u64 {
        let number = self.begun;
        self.begun += 1;
        let response = Response {
            number,
            since: Instant::now(),
            handed_over: None,
        };
        match &mut self.state {
            State::Busy(responses) if responses.len() < RESPONSES => responses.push(response),
            State::Busy(_) => self.close.cancel(),
            State::Waiting { .. } | State::Idle { .. } => {
                self.state = State::Busy(vec![response]);
            }
        }
        number
    }
}

impl Places {
    fn close_longest_without_request(&mut self) -> Option<()> {
        let since = |(id, place): (&u64, &Place)| Some((place.state.without_request_since()?, *id));
        let (_, id) = self.taken.iter().filter_map(since).min()?;
        self.taken.remove(&id)?.close.cancel();
        Some(())
    }
}

impl State {
    fn without_request_since(&self) -> Option<Instant> {
        match self {
            Self::Waiting { since } | Self::Idle { since } => Some(*since),
            Self::Busy(_) => None,
        }
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

/// What a connection has taken too long for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Overdue {
    Request,
    Response,
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
        let number = self.change(Place::begin);
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
            if self.change(|place| place.state.without_request_since().is_some()) == Some(true) {
                return;
            }
            changed.await;
        }
    }

    /// Of the first `handed_over` responses everything is written.
    pub(super) fn written(&self, handed_over: u64) {
        let idle = self.change(|place| {
            let State::Busy(responses) = &mut place.state else {
                return false;
            };
            responses.retain(|one| one.handed_over.is_none_or(|at| at >= handed_over));
            let ended = responses.is_empty();
            if ended {
                let since = Instant::now();
                place.state = State::Idle { since };
            }
            ended
        });
        if idle == Some(true) {
            self.connections.changed.notify_waiters();
        }
    }

    /// Completes when the first request, a further one or a response has taken longer than it may.
    pub(super) async fn overdue(&self, limits: Limits) -> Overdue {
        // Whatever begins from now on is not overdue before that: to look again then is early
        // enough for every later state.
        let soonest = limits.header_read.min(limits.response);
        loop {
            let now = Instant::now();
            let Some((deadline, overdue)) = self.change(|place| place.state.deadline(limits))
            else {
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
        Some(change(places.taken.get_mut(&self.id)?))
    }
}

impl State {
    fn deadline(&self, limits: Limits) -> (Instant, Overdue) {
        match self {
            Self::Waiting { since } => (*since + limits.first_request, Overdue::Request),
            Self::Idle { since } => (*since + limits.header_read, Overdue::Request),
            Self::Busy(responses) => {
                let oldest = responses.first().map_or_else(Instant::now, |one| one.since);
                (oldest + limits.response, Overdue::Response)
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.lock().taken.remove(&self.id);
        self.connections.changed.notify_waiters();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.slot.change(|place| {
            let State::Busy(responses) = &mut place.state else {
                return;
            };
            let found = responses.binary_search_by_key(&self.number, |one| one.number);
            if let Some(one) = found.ok().and_then(|index| responses.get_mut(index)) {
                one.handed_over = Some(place.handed_over);
                place.handed_over += 1;
            }
        });
        self.slot.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::super::watched::watch;
    use super::*;

    fn busy_since(slot: &Slot) -> Option<Instant> {
        slot.change(|place| match &place.state {
            State::Busy(responses) => responses.first().map(|one| one.since),
            State::Waiting { .. } | State::Idle { .. } => None,
        })?
    }

    #[tokio::test]
    async fn a_request_before_the_last_answer_is_written_does_not_restart_the_clock() {
        let slot = Connections::new(1).admit().await;
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
        let slot = Connections::new(1).admit().await;
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
        let slot = Connections::new(1).admit().await;
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
        let patience = std::time::Duration::from_secs(20);
        tokio::time::timeout(patience, over).await.unwrap();
        connection.abort();
    }

    #[tokio::test]
    async fn a_connection_that_gives_up_requests_without_reading_is_closed() {
        let slot = Connections::new(1).admit().await;
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
        let unwritten = slot.change(|place| match &place.state {
            State::Busy(responses) => responses.len(),
            State::Waiting { .. } | State::Idle { .. } => 0,
        });
        assert_eq!(unwritten, Some(RESPONSES));
    }

    #[tokio::test]
    async fn places_are_never_more_than_the_cap_and_come_back() {
        let connections = Connections::new(2);
        let [first, second] = [connections.admit().await, connections.admit().await];
        let third = connections.admit().await;
        assert!(first.close.is_cancelled());
        assert!(!second.close.is_cancelled());
        assert_eq!(connections.lock().taken.len(), 2);
        let _busy = [second.begin(), third.begin()];
        assert!(connections.try_admit(Instant::now()).is_none());
        drop(first);
        assert!(connections.try_admit(Instant::now()).is_none());
    }
}
