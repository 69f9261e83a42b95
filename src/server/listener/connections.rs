//! The open connections of all listeners, and what each of them is doing.
//!
//! Decides who gets a place: at the cap, a new connection takes that of the one that has gone
//! longest without a request. It touches no socket; a connection learns through its [`Slot`]
//! that it has to go.
//!
//! Invariant: a busy connection never loses its place to another one, and there are never more
//! places taken than the cap.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

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
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No complete request head so far.
    Waiting { since: Instant },
    /// From a complete request head until the last byte of the response has left. `answered`
    /// says that all of the response is handed over, though not all of it written.
    Busy { since: Instant, answered: bool },
    /// Between two requests.
    Idle { since: Instant },
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
        };
        places.taken.insert(id, place);
        Some(Arc::new(Slot {
            connections: Arc::clone(self),
            id,
            close,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn without_request_since(self) -> Option<Instant> {
        match self {
            Self::Waiting { since } | Self::Idle { since } => Some(since),
            Self::Busy { .. } => None,
        }
    }
}

/// The place of one connection, given back when the last owner drops it.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Arc<Connections>,
    id: u64,
    close: CancellationToken,
}

/// What a connection has taken too long for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Overdue {
    Request,
    Response,
}

/// The handing over of one response; it ends with the drop.
#[derive(Debug)]
pub(super) struct Answering(Arc<Slot>);

impl Slot {
    /// Completes when the connection has to go.
    pub(super) async fn closed(&self) {
        self.close.cancelled().await;
    }

    /// A request head is complete.
    ///
    /// While the answer before is not written yet (hyper can read on when a request had a body)
    /// the clock runs on: else a client could hold its connection by asking without reading.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        self.change(|state| {
            let since = match *state {
                State::Busy { since, .. } => since,
                State::Waiting { .. } | State::Idle { .. } => Instant::now(),
            };
            *state = State::Busy {
                since,
                answered: false,
            };
        });
        Answering(Arc::clone(self))
    }

    /// Everything handed over so far is written.
    pub(super) fn flushed(&self) {
        let idle = self.change(|state| {
            let ended = matches!(state, State::Busy { answered: true, .. });
            if ended {
                let since = Instant::now();
                *state = State::Idle { since };
            }
            ended
        });
        if idle == Some(true) {
            self.connections.changed.notify_waiters();
        }
    }

    /// Completes when the first request or a response has taken longer than it may.
    pub(super) async fn overdue(&self, first_request: Duration, response: Duration) -> Overdue {
        loop {
            let now = Instant::now();
            let (deadline, overdue) = match self.change(|state| *state) {
                Some(State::Waiting { since }) => (since + first_request, Overdue::Request),
                Some(State::Busy { since, .. }) => (since + response, Overdue::Response),
                Some(State::Idle { .. }) | None => (now + response, Overdue::Response),
            };
            if deadline <= now {
                return overdue;
            }
            // A request that begins from now on is not overdue before `now + response`: to look
            // again then is early enough for every later state.
            sleep_until(deadline.min(now + response)).await;
        }
    }

    /// Applies `change` to the state, unless the place is already taken away.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut places = self.connections.lock();
        let place = places.taken.get_mut(&self.id)?;
        Some(change(&mut place.state))
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
        self.0.change(|state| {
            if let State::Busy { answered, .. } = state {
                *answered = true;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy_since(slot: &Slot) -> Option<Instant> {
        slot.change(|state| match *state {
            State::Busy { since, .. } => Some(since),
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
        slot.flushed();
        assert_eq!(
            busy_since(&slot),
            first,
            "a flush amid an answer ends nothing"
        );
        drop(second);
        slot.flushed();
        assert_eq!(busy_since(&slot), None);
        let _third = slot.begin();
        assert!(busy_since(&slot) > first);
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
