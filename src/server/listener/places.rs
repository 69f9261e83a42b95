//! The open connections, their state, and which one to evict.
//!
//! Bookkeeping only: it touches no socket and reads no clock. A cancelled token tells
//! a connection to close.
//!
//! Invariants: there are never more places taken than the cap, responses never hold more memory
//! than the budget, and a connection whose response makes progress loses its place to no other
//! connection.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::held::{Held, HeldByAll};
use crate::server::network::Network;

/// The most responses that are not written yet, of one connection: many times the streams that it
/// may have at a time. Only a client that keeps cancelling requests without reading reaches it.
pub(super) const RESPONSES: usize = 256;

/// Progress of a response is counted in units of this many bytes.
const PORTION: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Places {
    next_id: u64,
    taken: HashMap<u64, Place>,
    held: HeldByAll,
}

#[derive(Debug)]
pub(super) struct Place {
    peer: Network,
    state: State,
    pub(super) close: CancellationToken,
    /// Responses that have begun, and that were handed over, so far.
    begun: u64,
    pub(super) handed_over: u64,
    /// When the client last took a whole portion of its responses, and the bytes it took since.
    progressed: Instant,
    taken: usize,
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
    /// The memory it holds, once it is being sent.
    sending: Option<Held>,
    /// Its position among those that are handed over, though not all of it may be written.
    handed_over: Option<u64>,
}

/// What a connection has taken too long for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    Request,
    Response,
    /// Less than a portion of a response was taken in [`Limits::stall`].
    Progress,
}

impl Places {
    /// Takes a place for a connection from `peer`; at the cap that of another one. `None` while no
    /// connection can be closed for it.
    pub(super) fn admit(
        &mut self,
        peer: IpAddr,
        now: Instant,
        limits: &Limits,
    ) -> Option<(u64, CancellationToken)> {
        if self.taken.len() >= limits.connections {
            self.make_room(now, limits)?;
        }
        let id = self.next_id;
        self.next_id += 1;
        let place = Place {
            peer: peer.into(),
            state: State::Waiting { since: now },
            close: CancellationToken::new(),
            begun: 0,
            handed_over: 0,
            progressed: now,
            taken: 0,
        };
        let close = place.close.clone();
        self.taken.insert(id, place);
        Some((id, close))
    }

    /// Closes a connection of the peer that has the most of those that can be closed: the one
    /// that has gone longest without a request, else the one whose responses have stalled longest.
    pub(super) fn make_room(&mut self, now: Instant, limits: &Limits) -> Option<()> {
        let stalled = |place: &Place| now.duration_since(place.progressed) >= limits.grace;
        let victim = self.victim(|_, place| match &place.state {
            State::Waiting { since } | State::Idle { since } => Some((false, *since)),
            State::Busy(_) => {
                (place.is_sending() && stalled(place)).then_some((true, place.progressed))
            }
        })?;
        self.remove(victim)?.close.cancel();
        Some(())
    }

    /// The first connection in the order of `rank`, of the peer that has the most connections.
    fn victim<R: Ord>(&self, rank: impl Fn(u64, &Place) -> Option<R>) -> Option<u64> {
        let mut shares: HashMap<Network, usize> = HashMap::new();
        for place in self.taken.values() {
            *shares.entry(place.peer).or_default() += 1;
        }
        let ranked = self.taken.iter().filter_map(|(id, place)| {
            let share = shares.get(&place.peer).copied();
            Some((Reverse(share), rank(*id, place)?, *id))
        });
        ranked.min().map(|(_, _, id)| id)
    }

    /// Closes every connection that is `chosen`; returns how many there were.
    pub(super) fn close(&mut self, chosen: impl Fn(&Place) -> bool) -> usize {
        let ids: Vec<u64> = self
            .taken
            .iter()
            .filter(|(_, place)| chosen(place))
            .map(|(id, _)| *id)
            .collect();
        let closed = ids.into_iter().filter_map(|id| self.remove(id));
        closed.map(|place| place.close.cancel()).count()
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Place> {
        self.taken.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Place> {
        let place = self.taken.remove(&id)?;
        place.sending().for_each(|held| self.held.remove(held));
        Some(place)
    }

    /// A response begins to be sent. Beyond the budget, the connections whose responses have gone
    /// longest without progress are closed for it.
    pub(super) fn send(&mut self, id: u64, number: u64, held: Held, now: Instant, limits: &Limits) {
        let Some(place) = self.taken.get_mut(&id) else {
            return;
        };
        let was_sending = place.is_sending();
        let Some(response) = place.state.response(number) else {
            return;
        };
        self.held.add(&held);
        response.sending = Some(held);
        if !was_sending {
            (place.progressed, place.taken) = (now, 0);
        }
        while self.held.bytes() > self.budget(limits) {
            let others = |other, place: &Place| {
                (other != id && place.is_sending()).then_some(place.progressed)
            };
            let Some(slowest) = self.victim(others).and_then(|victim| self.remove(victim)) else {
                return;
            };
            slowest.close.cancel();
        }
    }

    /// Room for [`Limits::held_bytes`] besides two of the largest response: while a page is
    /// replaced by the next one, scrapers may still take the one before.
    fn budget(&self, limits: &Limits) -> usize {
        let sending = self.taken.values().flat_map(Place::sending);
        let largest = sending.map(Held::bytes).max().unwrap_or_default();
        limits.held_bytes.saturating_add(largest.saturating_mul(2))
    }

    /// Of the first `handed_over` responses of a connection everything is written. Returns whether
    /// it becomes idle by that.
    pub(super) fn written(&mut self, id: u64, handed_over: u64, now: Instant) -> bool {
        let Some(place) = self.taken.get_mut(&id) else {
            return false;
        };
        let State::Busy(responses) = &mut place.state else {
            return false;
        };
        let is_written = |one: &mut Response| one.handed_over.is_some_and(|at| at < handed_over);
        for held in responses
            .extract_if(.., is_written)
            .filter_map(|one| one.sending)
        {
            self.held.remove(&held);
        }
        if !responses.is_empty() {
            return false;
        }
        place.state = State::Idle { since: now };
        true
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.bytes()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.taken.len()
    }
}

impl Place {
    /// The number of the response that begins.
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        let number = self.begun;
        self.begun += 1;
        let response = Response {
            number,
            since: now,
            sending: None,
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

    /// The client has taken `bytes` more of its responses.
    pub(super) fn took(&mut self, bytes: usize, now: Instant) {
        self.taken += bytes;
        if self.taken >= PORTION {
            (self.progressed, self.taken) = (now, 0);
        }
    }

    /// Everything of a response is handed over.
    pub(super) fn hand_over(&mut self, number: u64) {
        if let Some(response) = self.state.response(number) {
            response.handed_over = Some(self.handed_over);
            self.handed_over += 1;
        }
    }

    pub(super) fn is_without_request(&self) -> bool {
        !matches!(self.state, State::Busy(_))
    }

    /// When the connection is overdue unless something happens until then, and for what.
    pub(super) fn deadline(&self, now: Instant, limits: &Limits) -> (Instant, Overdue) {
        match &self.state {
            State::Waiting { since } => (*since + limits.first_request, Overdue::Request),
            State::Idle { since } => (*since + limits.header_read, Overdue::Request),
            State::Busy(responses) => {
                let oldest = responses.first().map_or(now, |one| one.since);
                let response = (oldest + limits.response, Overdue::Response);
                let progress = (self.progressed + limits.stall, Overdue::Progress);
                if self.is_sending() && progress.0 < response.0 {
                    progress
                } else {
                    response
                }
            }
        }
    }

    /// Since when its oldest response is under way, and how many are.
    #[cfg(test)]
    pub(super) fn busy(&self) -> Option<(Instant, usize)> {
        match &self.state {
            State::Busy(responses) => Some((responses.first()?.since, responses.len())),
            State::Waiting { .. } | State::Idle { .. } => None,
        }
    }

    fn is_sending(&self) -> bool {
        self.sending().next().is_some()
    }

    fn sending(&self) -> impl Iterator<Item = &Held> {
        let responses = match &self.state {
            State::Busy(responses) => &**responses,
            State::Waiting { .. } | State::Idle { .. } => &[],
        };
        responses.iter().filter_map(|one| one.sending.as_ref())
    }
}

impl State {
    fn response(&mut self, number: u64) -> Option<&mut Response> {
        let Self::Busy(responses) = self else {
            return None;
        };
        let found = responses.binary_search_by_key(&number, |one| one.number);
        responses.get_mut(found.ok()?)
    }
}

#[cfg(test)]
mod tests;
