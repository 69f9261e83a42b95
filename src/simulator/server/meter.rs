//! Counters of requests and connections.
//!
//! Tests and benchmarks read them while the gateway serves. Counters only increase; a request is in
//! flight until the last byte of its response.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::lock::lock;
use crate::simulator::request::Request;

#[derive(Debug, Default)]
pub(super) struct Meter {
    requests: Mutex<BTreeMap<String, u64>>,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
    connections: AtomicU64,
    full_handshakes: AtomicU64,
}

impl Meter {
    pub(super) fn count(&self, request: &Request) {
        let name = request.operation.name();
        let mut requests = lock(&self.requests);
        match requests.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(requests.insert(name.to_owned(), 1)),
        }
    }

    pub(super) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn count_full_handshake(&self) {
        self.full_handshakes.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn requests(&self) -> BTreeMap<String, u64> {
        lock(&self.requests).clone()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(super) fn peak(&self) -> usize {
        self.peak.load(Ordering::Acquire)
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }

    pub(super) fn full_handshakes(&self) -> u64 {
        self.full_handshakes.load(Ordering::Acquire)
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlightRequest(Arc<Meter>);

impl InFlightRequest {
    pub(super) fn take(meter: &Arc<Meter>) -> Self {
        let taken = meter.in_flight.fetch_add(1, Ordering::AcqRel) + 1;
        meter.peak.fetch_max(taken, Ordering::AcqRel);
        Self(Arc::clone(meter))
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
