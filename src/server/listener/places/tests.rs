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
    held_bytes: 1_000,
    drain: Duration::from_secs(10),
};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Places, and a clock that starts with them.
struct Scene {
    places: Places,
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        Self {
            places: Places::default(),
            start: Instant::now(),
        }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }

    fn admit(&mut self, peer: &str, at: u64) -> Option<(u64, CancellationToken)> {
        let now = self.at(at);
        self.places.admit(address(peer), now, &LIMITS)
    }

    /// A connection that is sent a response that holds `held`.
    fn sending(&mut self, peer: &str, at: u64, held: Held) -> (u64, CancellationToken) {
        let (id, close) = self.admit(peer, at).unwrap();
        let now = self.at(at);
        let number = self.places.get_mut(id).unwrap().begin(now);
        self.places.send(id, number, held, now, &LIMITS);
        (id, close)
    }

    fn deadline(&mut self, id: u64) -> (Duration, Overdue) {
        let place = self.places.get_mut(id).unwrap();
        let (deadline, overdue) = place.deadline(self.start, &LIMITS);
        (deadline - self.start, overdue)
    }
}

fn own(own: usize) -> Held {
    Held {
        shared: Vec::new(),
        own,
    }
}

#[test]
fn a_connection_makes_room_only_once_its_response_has_stalled() {
    let mut scene = Scene::new();
    let sending: Vec<_> = (0..4)
        .map(|n| scene.sending("10.0.0.1", n, own(0)))
        .collect();
    let (moving, now) = (sending[0].0, scene.at(900));
    scene.places.get_mut(moving).unwrap().took(PORTION, now);
    assert!(scene.admit("10.0.0.1", 1_000).is_none());
    assert!(scene.admit("10.0.0.1", 1_001).is_some());
    let closed = sending.iter().map(|(_, close)| close.is_cancelled());
    assert_eq!(closed.collect::<Vec<_>>(), [false, true, false, false]);
}

#[test]
fn a_response_that_is_prepared_does_not_make_room() {
    let mut scene = Scene::new();
    for _ in 0..4 {
        let (id, _) = scene.admit("10.0.0.1", 0).unwrap();
        let now = scene.at(0);
        scene.places.get_mut(id).unwrap().begin(now);
    }
    assert!(scene.admit("10.0.0.1", 59_000).is_none());
}

#[test]
fn the_peer_with_the_most_connections_makes_room() {
    let mut scene = Scene::new();
    let (_, other) = scene.admit("10.0.0.2", 0).unwrap();
    // One peer may have many addresses in IPv6, and IPv4 addresses come in IPv6, too.
    let (_, stalled) = scene.sending("2001:db8::1", 1, own(0));
    let (_, idle) = scene.admit("2001:db8::2", 2).unwrap();
    let (_, mapped) = scene.sending("::ffff:10.0.0.3", 3, own(0));
    assert!(scene.admit("10.0.0.4", 5_000).is_some());
    assert!(idle.is_cancelled(), "before the one that is busy");
    assert!(scene.admit("10.0.0.3", 5_000).is_some());
    assert!(other.is_cancelled(), "the first of peers with one each");
    assert!(scene.admit("10.0.0.5", 5_000).is_some());
    let closed = [&stalled, &mapped].map(CancellationToken::is_cancelled);
    assert_eq!(closed, [false, false], "idle ones of 10.0.0.3 come first");
}

#[test]
fn a_client_that_takes_a_portion_in_time_is_cut_off_only_by_the_response_limit() {
    let mut scene = Scene::new();
    let (id, _) = scene.sending("10.0.0.1", 0, own(0));
    for second in 1..=50 {
        let now = scene.at(second * 1_000);
        scene.places.get_mut(id).unwrap().took(PORTION / 5, now);
    }
    // The last whole portion was complete at 48 s.
    let cut = (Duration::from_secs(58), Overdue::Progress);
    assert_eq!(scene.deadline(id), cut);
    let now = scene.at(55_000);
    scene.places.get_mut(id).unwrap().took(PORTION, now);
    let cut = (Duration::from_secs(60), Overdue::Response);
    assert_eq!(scene.deadline(id), cut);
}

#[test]
fn a_client_that_trickles_is_overdue_after_the_stall_limit() {
    let mut scene = Scene::new();
    let (id, _) = scene.sending("10.0.0.1", 500, own(0));
    for second in 1..10 {
        let now = scene.at(second * 1_000);
        scene.places.get_mut(id).unwrap().took(1_000, now);
    }
    let cut = (Duration::from_millis(10_500), Overdue::Progress);
    assert_eq!(scene.deadline(id), cut);
}

#[test]
fn beyond_the_budget_the_slowest_responses_are_cut_off() {
    let mut scene = Scene::new();
    let (_, slow) = scene.sending("10.0.0.1", 0, own(500));
    let (moving, progresses) = scene.sending("10.0.0.1", 1, own(500));
    let now = scene.at(50);
    scene.places.get_mut(moving).unwrap().took(PORTION, now);
    let (_, third) = scene.sending("10.0.0.1", 2, own(500));
    // Two of the largest response and 1,000 bytes.
    assert_eq!(scene.places.held(), 1_500);
    let (_, fourth) = scene.sending("10.0.0.1", 60, own(501));
    let closed = [&slow, &progresses, &third, &fourth].map(CancellationToken::is_cancelled);
    assert_eq!(closed, [false; 4], "2,001 of 2,002 bytes");
    let (id, number) = (moving, scene.places.get_mut(moving).unwrap().begin(now));
    let now = scene.at(70);
    scene.places.send(id, number, own(100), now, &LIMITS);
    let closed = [&slow, &progresses, &third, &fourth].map(CancellationToken::is_cancelled);
    assert_eq!(closed, [true, false, false, false]);
    assert_eq!(scene.places.held(), 1_601);
}

#[test]
fn memory_is_given_back_when_a_response_is_written_or_its_connection_closed() {
    let mut scene = Scene::new();
    let page = Bytes::from(vec![0; 100]);
    let held = || Held {
        shared: vec![page.clone()],
        own: 10,
    };
    let (first, _) = scene.sending("10.0.0.1", 0, held());
    let (second, _) = scene.sending("10.0.0.2", 0, held());
    assert_eq!(scene.places.held(), 120);
    let now = scene.at(1);
    let place = scene.places.get_mut(first).unwrap();
    place.hand_over(0);
    assert!(scene.places.written(first, 1, now));
    assert_eq!(scene.places.held(), 110);
    scene.places.remove(second);
    assert_eq!(scene.places.held(), 0);
}
