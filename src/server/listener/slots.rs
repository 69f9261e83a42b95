//! Connection slots: admission at the cap, and the timeouts of each connection.
//!
//! At the cap, a new connection evicts another one, as [`ConnectionTable`] decides. A connection
//! observes its own eviction through its [`ConnectionSlot`].

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::memory::ResponseMemory;
use super::table::{ConnectionEntry, ConnectionTable, TimeoutKind};
use crate::sync::lock;

/// All slots of one server.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    limits: Limits,
    table: Mutex<ConnectionTable>,
    /// Notified when a connection closes or becomes idle.
    changed: Notify,
}

impl ConnectionSlots {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            table: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Acquires a slot for a new connection; waits while no connection can be evicted for it.
    pub(super) async fn acquire(self: &Arc<Self>, peer: IpAddr) -> Arc<ConnectionSlot> {
        loop {
            // Created before the attempt, so that no notification is lost in between.
            let changed = self.changed.notified();
            if let Some(slot) = self.try_acquire(peer, Instant::now()) {
                return slot;
            }
            // A response that stalls becomes evictable without a notification.
            timeout(self.limits.grace, changed).await.ok();
        }
    }

    /// Evicts a connection, if one can be evicted.
    pub(super) fn evict(&self) {
        self.lock().evict(Instant::now(), &self.limits);
    }

    /// Closes every connection without a running request.
    pub(super) fn close_idle(&self) {
        self.lock().close_idle();
    }

    /// Closes every connection; returns their number.
    pub(super) fn close_all(&self) -> usize {
        self.lock().close_all()
    }

    fn try_acquire(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Option<Arc<ConnectionSlot>> {
        let (id, close) = self.lock().admit(peer, now, &self.limits)?;
        Some(Arc::new(ConnectionSlot {
            slots: Arc::clone(self),
            id,
            close,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        lock(&self.table)
    }
}

/// The slot of one connection, released on drop.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    id: u64,
    close: CancellationToken,
}

/// One response in progress. The drop records that all of it is handed over to the stream.
#[derive(Debug)]
pub(super) struct ResponseGuard(Arc<ConnectionSlot>);

impl ConnectionSlot {
    /// Completes when the connection must close.
    pub(super) async fn closed(&self) {
        self.close.cancelled().await;
    }

    /// Records a complete request head.
    pub(super) fn begin_response(self: &Arc<Self>) -> ResponseGuard {
        self.update(|entry| entry.begin_response(Instant::now()));
        ResponseGuard(Arc::clone(self))
    }

    /// Records that the operating system has accepted `bytes` of the responses.
    pub(super) fn progress(&self, bytes: usize) {
        self.update(|entry| entry.progress(bytes, Instant::now()));
    }

    /// Records that everything handed over to the stream is written.
    pub(super) fn flushed(&self) {
        let became_idle = self.slots.lock().flushed(self.id, Instant::now());
        if became_idle {
            self.slots.changed.notify_waiters();
        }
    }

    /// Completes when the connection exceeds a time limit.
    pub(super) async fn timed_out(&self) -> TimeoutKind {
        let limits = &self.slots.limits;
        // A later phase cannot time out earlier than this, so no phase change needs a wake-up.
        let soonest = limits.header_read.min(limits.response).min(limits.stall);
        loop {
            let now = Instant::now();
            let Some((deadline, kind)) = self.update(|entry| entry.deadline(limits)) else {
                return std::future::pending().await; // `closed` completes instead.
            };
            if deadline <= now {
                return kind;
            }
            sleep_until(deadline.min(now + soonest)).await;
        }
    }

    /// `None` once the connection is evicted or closed.
    fn update<T>(&self, update: impl FnOnce(&mut ConnectionEntry) -> T) -> Option<T> {
        let mut table = self.slots.lock();
        Some(update(table.get_mut(self.id)?))
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.lock().remove(self.id);
        self.slots.changed.notify_waiters();
    }
}

impl ResponseGuard {
    /// Records that the response begins to be sent, and the memory it holds until then.
    pub(super) fn start_sending(&self, memory: ResponseMemory) {
        let ConnectionSlot { slots, id, .. } = &*self.0;
        let mut table = slots.lock();
        table.start_sending(*id, memory, Instant::now(), &slots.limits);
    }
}

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        self.0.update(ConnectionEntry::finish_response);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn capped(connections: usize) -> Arc<ConnectionSlots> {
        ConnectionSlots::new(Limits {
            connections,
            ..Limits::default()
        })
    }

    fn responding_since(slot: &ConnectionSlot) -> Option<Instant> {
        slot.update(|entry| entry.responding_since()).flatten()
    }

    #[tokio::test]
    async fn connection_is_responding_until_the_flush_after_the_last_byte() {
        let slot = capped(1).acquire(PEER).await;
        let response = slot.begin_response();
        let since = responding_since(&slot);
        assert!(since.is_some());
        slot.flushed();
        assert_eq!(responding_since(&slot), since, "not handed over");
        drop(response);
        assert_eq!(responding_since(&slot), since, "handed over, not written");
        slot.flushed();
        assert_eq!(responding_since(&slot), None);
        drop(slot.begin_response());
        assert!(responding_since(&slot) > since, "the clock restarts");
    }

    #[tokio::test]
    async fn request_before_the_last_response_is_written_does_not_restart_the_clock() {
        let slot = capped(1).acquire(PEER).await;
        drop(slot.begin_response());
        let first = responding_since(&slot);
        assert!(first.is_some());
        let second = slot.begin_response();
        assert_eq!(responding_since(&slot), first);
        slot.flushed();
        assert!(
            responding_since(&slot).is_some(),
            "the second response is in progress"
        );
        drop(second);
        assert!(
            responding_since(&slot).is_some(),
            "handed over, not written"
        );
        slot.flushed();
        assert_eq!(responding_since(&slot), None);
    }

    #[tokio::test]
    async fn slots_never_exceed_the_cap_and_are_released_on_drop() {
        let slots = capped(2);
        let [first, second] = [slots.acquire(PEER).await, slots.acquire(PEER).await];
        let third = slots.acquire(PEER).await;
        assert!(first.close.is_cancelled());
        assert!(!second.close.is_cancelled());
        assert_eq!(slots.lock().len(), 2);
        let _responses = [second.begin_response(), third.begin_response()];
        assert!(slots.try_acquire(PEER, Instant::now()).is_none());
        drop(first);
        assert!(slots.try_acquire(PEER, Instant::now()).is_none());
    }
}
