use std::time::Duration;

use bytes::Bytes;

use super::*;

const LIMITS: Limits = Limits {
    connections: 4,
    first_request: Duration::from_secs(10),
    header_read: Duration::from_secs(120),
    response: Duration::from_secs(60),
    stall: Duration::from_secs(10),
    grace: Duration::from_secs(1),
    response_memory: 1_000,
    drain: Duration::from_secs(10),
};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A table, and a clock that starts with it.
struct Fixture {
    table: ConnectionTable,
    start: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self {
            table: ConnectionTable::default(),
            start: Instant::now(),
        }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }

    fn admit(&mut self, peer: &str, at: u64) -> Option<(u64, CancellationToken)> {
        let now = self.at(at);
        self.table.admit(address(peer), now, &LIMITS)
    }

    /// A connection with a response that holds `memory` and is being sent.
    fn sending(&mut self, peer: &str, at: u64, memory: ResponseMemory) -> (u64, CancellationToken) {
        let (id, close) = self.admit(peer, at).unwrap();
        let now = self.at(at);
        self.table.get_mut(id).unwrap().begin_response(now);
        self.table.start_sending(id, memory, now, &LIMITS);
        (id, close)
    }

    fn deadline(&mut self, id: u64) -> (Duration, TimeoutKind) {
        let entry = self.table.get_mut(id).unwrap();
        let (deadline, kind) = entry.deadline(&LIMITS);
        (deadline - self.start, kind)
    }
}

fn own(own: usize) -> ResponseMemory {
    ResponseMemory {
        shared: Vec::new(),
        own,
    }
}

#[test]
fn responding_connection_is_evicted_only_if_its_response_has_stalled() {
    let mut fixture = Fixture::new();
    let sending: Vec<_> = (0..4)
        .map(|n| fixture.sending("10.0.0.1", n, own(0)))
        .collect();
    let (moving, now) = (sending[0].0, fixture.at(900));
    fixture
        .table
        .get_mut(moving)
        .unwrap()
        .progress(PROGRESS_UNIT, now);
    assert!(fixture.admit("10.0.0.1", 1_000).is_none());
    assert!(fixture.admit("10.0.0.1", 1_001).is_some());
    let closed = sending.iter().map(|(_, close)| close.is_cancelled());
    assert_eq!(closed.collect::<Vec<_>>(), [false, true, false, false]);
}

#[test]
fn connection_with_a_response_in_preparation_is_not_evicted() {
    let mut fixture = Fixture::new();
    for _ in 0..4 {
        let (id, _) = fixture.admit("10.0.0.1", 0).unwrap();
        let now = fixture.at(0);
        fixture.table.get_mut(id).unwrap().begin_response(now);
    }
    assert!(fixture.admit("10.0.0.1", 59_000).is_none());
}

#[test]
fn connection_of_the_peer_with_the_most_connections_is_evicted() {
    let mut fixture = Fixture::new();
    let (_, other) = fixture.admit("10.0.0.2", 0).unwrap();
    // An IPv6 network is one peer, and an IPv4-mapped IPv6 address is its IPv4 address.
    let (_, stalled) = fixture.sending("2001:db8::1", 1, own(0));
    let (_, idle) = fixture.admit("2001:db8::2", 2).unwrap();
    let (_, mapped) = fixture.sending("::ffff:10.0.0.3", 3, own(0));
    assert!(fixture.admit("10.0.0.4", 5_000).is_some());
    assert!(
        idle.is_cancelled(),
        "before the responding one of the same peer"
    );
    assert!(fixture.admit("10.0.0.3", 5_000).is_some());
    assert!(
        other.is_cancelled(),
        "the oldest of the peers with one connection each"
    );
    assert!(fixture.admit("10.0.0.5", 5_000).is_some());
    let closed = [&stalled, &mapped].map(CancellationToken::is_cancelled);
    assert_eq!(
        closed,
        [false, false],
        "idle connections of 10.0.0.3 come first"
    );
}

#[test]
fn client_that_makes_progress_times_out_only_by_the_response_limit() {
    let mut fixture = Fixture::new();
    let (id, _) = fixture.sending("10.0.0.1", 0, own(0));
    for second in 1..=50 {
        let now = fixture.at(second * 1_000);
        fixture
            .table
            .get_mut(id)
            .unwrap()
            .progress(PROGRESS_UNIT / 5, now);
    }
    // The last progress unit was complete at 48 s.
    let expected = (Duration::from_secs(58), TimeoutKind::Stall);
    assert_eq!(fixture.deadline(id), expected);
    let now = fixture.at(55_000);
    fixture
        .table
        .get_mut(id)
        .unwrap()
        .progress(PROGRESS_UNIT, now);
    let expected = (Duration::from_secs(60), TimeoutKind::Response);
    assert_eq!(fixture.deadline(id), expected);
}

#[test]
fn trickling_client_times_out_by_the_stall_limit() {
    let mut fixture = Fixture::new();
    let (id, _) = fixture.sending("10.0.0.1", 500, own(0));
    for second in 1..10 {
        let now = fixture.at(second * 1_000);
        fixture.table.get_mut(id).unwrap().progress(1_000, now);
    }
    let expected = (Duration::from_millis(10_500), TimeoutKind::Stall);
    assert_eq!(fixture.deadline(id), expected);
}

#[test]
fn above_the_memory_budget_the_slowest_connections_are_closed() {
    let mut fixture = Fixture::new();
    let (_, slow) = fixture.sending("10.0.0.1", 0, own(500));
    let (moving, progresses) = fixture.sending("10.0.0.1", 1, own(500));
    let now = fixture.at(50);
    fixture
        .table
        .get_mut(moving)
        .unwrap()
        .progress(PROGRESS_UNIT, now);
    let (_, third) = fixture.sending("10.0.0.1", 2, own(500));
    // Two of the largest response and 1,000 bytes.
    assert_eq!(fixture.table.memory(), 1_500);
    let (_, fourth) = fixture.sending("10.0.0.1", 60, own(501));
    let closed = [&slow, &progresses, &third, &fourth].map(CancellationToken::is_cancelled);
    assert_eq!(closed, [false; 4], "2,001 of 2,002 bytes");
    fixture.table.get_mut(moving).unwrap().begin_response(now);
    let now = fixture.at(70);
    fixture.table.start_sending(moving, own(100), now, &LIMITS);
    let closed = [&slow, &progresses, &third, &fourth].map(CancellationToken::is_cancelled);
    assert_eq!(closed, [true, false, false, false]);
    assert_eq!(fixture.table.memory(), 1_601);
}

#[test]
fn memory_is_released_when_a_response_is_written_or_its_connection_is_closed() {
    let mut fixture = Fixture::new();
    let page = Bytes::from(vec![0; 100]);
    let memory = || ResponseMemory {
        shared: vec![page.clone()],
        own: 10,
    };
    let (first, _) = fixture.sending("10.0.0.1", 0, memory());
    let (second, _) = fixture.sending("10.0.0.2", 0, memory());
    assert_eq!(fixture.table.memory(), 120);
    let now = fixture.at(1);
    fixture.table.get_mut(first).unwrap().finish_response();
    assert!(fixture.table.flushed(first, now));
    assert_eq!(fixture.table.memory(), 110);
    fixture.table.remove(second);
    assert_eq!(fixture.table.memory(), 0);
}
