//! The table of open connections: their phases, their timeouts, and which one to evict.
//!
//! Plain data: no socket, and the time is an argument. A cancelled token orders the task of a
//! connection to close it.
//!
//! Invariants: the table has at most [`Limits::connections`] entries, responses hold at most the
//! memory budget, and a connection whose response makes progress is never evicted.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::memory::{ResponseMemory, TotalResponseMemory};
use crate::server::network::Network;

/// Progress of a response is counted in units of this many bytes.
const PROGRESS_UNIT: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct ConnectionTable {
    next_id: u64,
    entries: HashMap<u64, Entry>,
    memory: TotalResponseMemory,
}

#[derive(Debug)]
pub(super) struct Entry {
    peer: Network,
    phase: Phase,
    close: CancellationToken,
}

#[derive(Debug)]
enum Phase {
    /// Before the first complete request head.
    AwaitingRequest { since: Instant },
    /// From a complete request head until every byte of the response is written.
    Responding(Response),
    /// Between a response and the next complete request head.
    Idle { since: Instant },
}

#[derive(Debug)]
struct Response {
    since: Instant,
    /// Responses that have begun and are not handed over to hyper completely. There can be two:
    /// after a request with a body, hyper reads on while it sends the response.
    unfinished: usize,
    /// The memory of the responses that are being sent; empty while the first one is prepared.
    sending: Vec<ResponseMemory>,
    /// When the client last completed a progress unit, and the bytes it has read since.
    progressed: Instant,
    read_since: usize,
}

/// The limit that a connection has exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeoutKind {
    /// [`Limits::first_request`] or [`Limits::header_read`].
    Request,
    /// [`Limits::response`].
    Response,
    /// [`Limits::stall`].
    Stall,
}

impl ConnectionTable {
    /// Adds a connection from `peer`, and evicts another one if the table is full. `None` if none
    /// can be evicted.
    pub(super) fn admit(
        &mut self,
        peer: IpAddr,
        now: Instant,
        limits: &Limits,
    ) -> Option<(u64, CancellationToken)> {
        if self.entries.len() >= limits.connections {
            self.evict(now, limits)?;
        }
        let id = self.next_id;
        self.next_id += 1;
        let close = CancellationToken::new();
        let entry = Entry {
            peer: peer.into(),
            phase: Phase::AwaitingRequest { since: now },
            close: close.clone(),
        };
        self.entries.insert(id, entry);
        Some((id, close))
    }

    /// Closes the connection that has been without a request for longest, or else the one whose
    /// response has stalled for longest. Connections of the peer with the most come first.
    pub(super) fn evict(&mut self, now: Instant, limits: &Limits) -> Option<()> {
        let victim = self.first_of_largest_peer(|_, entry| match &entry.phase {
            Phase::AwaitingRequest { since } | Phase::Idle { since } => Some((false, *since)),
            Phase::Responding(response) => {
                let stalled = now.duration_since(response.progressed) >= limits.grace;
                (response.is_sending() && stalled).then_some((true, response.progressed))
            }
        })?;
        self.remove(victim)?.close.cancel();
        Some(())
    }

    /// The connection with the least `rank` of the peer that has the most connections.
    fn first_of_largest_peer<R: Ord>(
        &self,
        rank: impl Fn(u64, &Entry) -> Option<R>,
    ) -> Option<u64> {
        let mut counts: HashMap<Network, usize> = HashMap::new();
        for entry in self.entries.values() {
            *counts.entry(entry.peer).or_default() += 1;
        }
        let ranked = self.entries.iter().filter_map(|(id, entry)| {
            let count = counts.get(&entry.peer).copied();
            Some((Reverse(count), rank(*id, entry)?, *id))
        });
        ranked.min().map(|(_, _, id)| id)
    }

    pub(super) fn close_idle(&mut self) {
        self.close(|entry| !matches!(entry.phase, Phase::Responding(_)));
    }

    /// Returns the number of closed connections.
    pub(super) fn close_all(&mut self) -> usize {
        self.close(|_| true)
    }

    fn close(&mut self, selected: impl Fn(&Entry) -> bool) -> usize {
        let entries = self.entries.iter();
        let ids: Vec<u64> = entries
            .filter(|(_, entry)| selected(entry))
            .map(|(id, _)| *id)
            .collect();
        let closed = ids.into_iter().filter_map(|id| self.remove(id));
        closed.map(|entry| entry.close.cancel()).count()
    }

    /// `None` once the connection is evicted or closed.
    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        let sending = entry.sending().iter();
        sending.for_each(|response| self.memory.remove(response));
        Some(entry)
    }

    /// Records that a response begins to be sent. Above the memory budget, the connections whose
    /// responses have been without progress for longest are closed.
    pub(super) fn start_sending(
        &mut self,
        id: u64,
        memory: ResponseMemory,
        now: Instant,
        limits: &Limits,
    ) {
        let Some(Phase::Responding(response)) =
            self.entries.get_mut(&id).map(|entry| &mut entry.phase)
        else {
            return;
        };
        if !response.is_sending() {
            (response.progressed, response.read_since) = (now, 0);
        }
        self.memory.add(&memory);
        response.sending.push(memory);
        while self.memory.bytes() > self.budget(limits) {
            let others = |other, entry: &Entry| match &entry.phase {
                Phase::Responding(response) if other != id && response.is_sending() => {
                    Some(response.progressed)
                }
                _ => None,
            };
            let victim = self.first_of_largest_peer(others);
            let Some(slowest) = victim.and_then(|victim| self.remove(victim)) else {
                return;
            };
            slowest.close.cancel();
        }
    }

    /// [`Limits::response_memory`] in addition to two of the largest response: after a page is
    /// replaced, scrapers can still be reading the previous one.
    fn budget(&self, limits: &Limits) -> usize {
        let sending = self.entries.values().flat_map(Entry::sending);
        let largest = sending.map(ResponseMemory::bytes).max();
        let two = largest.unwrap_or_default().saturating_mul(2);
        limits.response_memory.saturating_add(two)
    }

    /// Records that everything handed over to the stream is written. Returns whether the
    /// connection becomes idle.
    pub(super) fn flushed(&mut self, id: u64, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        match &entry.phase {
            Phase::Responding(response) if response.unfinished == 0 => {}
            _ => return false,
        }
        let sending = entry.sending().iter();
        sending.for_each(|response| self.memory.remove(response));
        entry.phase = Phase::Idle { since: now };
        true
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.memory.bytes()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Entry {
    /// Records a complete request head.
    pub(super) fn begin_response(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Responding(response) => response.unfinished += 1,
            Phase::AwaitingRequest { .. } | Phase::Idle { .. } => {
                self.phase = Phase::Responding(Response {
                    since: now,
                    unfinished: 1,
                    sending: Vec::new(),
                    progressed: now,
                    read_since: 0,
                });
            }
        }
    }

    /// Records that a response is handed over to the stream, though not all of it is written.
    pub(super) fn finish_response(&mut self) {
        if let Phase::Responding(response) = &mut self.phase {
            response.unfinished = response.unfinished.saturating_sub(1);
        }
    }

    /// Records that the client has read `bytes` more.
    pub(super) fn progress(&mut self, bytes: usize, now: Instant) {
        if let Phase::Responding(response) = &mut self.phase {
            response.read_since += bytes;
            if response.read_since >= PROGRESS_UNIT {
                (response.progressed, response.read_since) = (now, 0);
            }
        }
    }

    /// When the connection times out if nothing happens until then, and by which limit.
    pub(super) fn deadline(&self, limits: &Limits) -> (Instant, TimeoutKind) {
        match &self.phase {
            Phase::AwaitingRequest { since } => {
                (*since + limits.first_request, TimeoutKind::Request)
            }
            Phase::Idle { since } => (*since + limits.header_read, TimeoutKind::Request),
            Phase::Responding(response) => {
                let total = (response.since + limits.response, TimeoutKind::Response);
                let stall = (response.progressed + limits.stall, TimeoutKind::Stall);
                if response.is_sending() && stall.0 < total.0 {
                    stall
                } else {
                    total
                }
            }
        }
    }

    fn sending(&self) -> &[ResponseMemory] {
        match &self.phase {
            Phase::Responding(response) => &response.sending,
            Phase::AwaitingRequest { .. } | Phase::Idle { .. } => &[],
        }
    }

    #[cfg(test)]
    pub(super) fn responding_since(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Responding(response) => Some(response.since),
            Phase::AwaitingRequest { .. } | Phase::Idle { .. } => None,
        }
    }
}

impl Response {
    fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }
}

#[cfg(test)]
mod tests;
