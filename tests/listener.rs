//! The HTTP listener over real sockets: responses, limits and shutdown.

#![expect(
    clippy::panic,
    reason = "clippy does not treat helper functions as tests"
)]

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use servicefabric_backup_exporter::server::listener::{Limits, ResponseMemory, bind, serve};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A test that waits longer than this has failed.
const DEADLINE: Duration = Duration::from_secs(20);
/// A limit that a test waits for.
const SHORT: Duration = Duration::from_millis(200);
/// More than the socket buffers of both ends hold.
const BIG: usize = 64 * 1024 * 1024;
/// A response that reports the memory it holds.
const PAGE: usize = 2 * 1024 * 1024;

/// Limits that a test reaches only if it lowers them.
fn limits() -> Limits {
    Limits {
        connections: 3,
        first_request: DEADLINE * 2,
        header_read: DEADLINE * 2,
        response: DEADLINE * 2,
        stall: DEADLINE * 2,
        grace: DEADLINE * 2,
        response_memory: usize::MAX,
        drain: DEADLINE * 2,
    }
}

/// Synchronization between the handlers and the test.
#[derive(Clone)]
struct Signals {
    slow_entered: Arc<Semaphore>,
    slow_may_end: Arc<Semaphore>,
    big_dropped: Arc<Semaphore>,
    page_entered: Arc<Semaphore>,
    /// Bytes of all pages in memory.
    pages: Arc<AtomicUsize>,
}

/// A page that is counted while it is in memory.
struct Page(Vec<u8>, Arc<AtomicUsize>);

impl Page {
    fn new(pages: Arc<AtomicUsize>) -> Self {
        pages.fetch_add(PAGE, Ordering::SeqCst);
        Self(vec![b'x'; PAGE], pages)
    }
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.1.fetch_sub(PAGE, Ordering::SeqCst);
    }
}

struct Big(Vec<u8>, Arc<Semaphore>);

impl AsRef<[u8]> for Big {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Big {
    fn drop(&mut self) {
        self.1.add_permits(1);
    }
}

impl Signals {
    fn new() -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self {
            slow_entered: none(),
            slow_may_end: none(),
            big_dropped: none(),
            page_entered: none(),
            pages: Arc::default(),
        }
    }

    fn router(&self) -> Router {
        let (slow, big, page) = (self.clone(), self.clone(), self.clone());
        Router::new()
            .route("/", get(async || "ok"))
            .route(
                "/slow",
                get(async move || {
                    slow.slow_entered.add_permits(1);
                    await_signal(&slow.slow_may_end).await;
                    "done"
                }),
            )
            .route(
                "/big",
                get(async move || Bytes::from_owner(Big(vec![b'x'; BIG], big.big_dropped))),
            )
            .route(
                "/page",
                get(async move || {
                    page.page_entered.add_permits(1);
                    let page = Bytes::from_owner(Page::new(page.pages));
                    let shared = vec![page.clone()];
                    (Extension(ResponseMemory { shared, own: 0 }), page)
                }),
            )
            .route("/panic", get(panics))
    }
}

async fn panics() -> &'static str {
    panic!("injected by the test")
}

async fn await_signal(signal: &Semaphore) {
    signal.acquire().await.unwrap().forget();
}

struct Exporter {
    addresses: Vec<SocketAddr>,
    signals: Signals,
    shutdown: CancellationToken,
    served: JoinHandle<bool>,
}

impl Exporter {
    fn start(limits: Limits) -> Self {
        Self::listen(bind("127.0.0.1:0").unwrap(), limits)
    }

    fn listen(listeners: Vec<TcpListener>, limits: Limits) -> Self {
        let signals = Signals::new();
        let shutdown = CancellationToken::new();
        Self {
            addresses: listeners.iter().map(|l| l.local_addr().unwrap()).collect(),
            shutdown: shutdown.clone(),
            served: tokio::spawn(serve(listeners, signals.router(), None, limits, shutdown)),
            signals,
        }
    }

    async fn connect(&self) -> Client {
        Client::connect(self.addresses[0]).await
    }

    /// Starts `count` clients that request a page and hardly read it: some read nothing, some the
    /// head, some one byte now and then.
    async fn slow_readers(&self, count: usize) -> Vec<JoinHandle<()>> {
        let mut readers = Vec::new();
        for number in 0..count {
            let mut client = Client::with_small_buffer(self.addresses[0]).await;
            client.ask("/page").await;
            readers.push(tokio::spawn(async move {
                match number % 3 {
                    0 => std::future::pending().await,
                    1 => client.trickle(64, Duration::ZERO).await,
                    _ => {}
                }
                client.trickle(usize::MAX, SHORT).await;
            }));
        }
        let entered = self
            .signals
            .page_entered
            .acquire_many(count.try_into().unwrap());
        within_deadline(entered).await.unwrap().forget();
        readers
    }

    /// Waits until the pages in memory have at most `limit` bytes.
    async fn pages_take_at_most(&self, limit: usize) {
        let below = async {
            while self.signals.pages.load(Ordering::SeqCst) > limit {
                sleep(Duration::from_millis(5)).await;
            }
        };
        within_deadline(below).await;
    }

    async fn ended_gracefully(self) -> bool {
        within_deadline(self.served).await.unwrap()
    }
}

async fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .expect("within the deadline")
}

struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
struct Response {
    head: String,
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: within_deadline(TcpStream::connect(address)).await.unwrap(),
            unread: Vec::new(),
        }
    }

    /// With a receive buffer of a few kilobytes.
    async fn with_small_buffer(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self {
            stream: within_deadline(socket.connect(address)).await.unwrap(),
            unread: Vec::new(),
        }
    }

    /// Reads up to `bytes`, a byte at a time with a pause after each.
    async fn trickle(&self, bytes: usize, pause: Duration) {
        for _ in 0..bytes {
            if self.stream.readable().await.is_err()
                || matches!(self.stream.try_read(&mut [0]), Ok(0))
            {
                return;
            }
            sleep(pause).await;
        }
    }

    async fn send(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            within_deadline(self.stream.writable()).await.unwrap();
            match self.stream.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("cannot send: {error}"),
            }
        }
    }

    async fn ask(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .await;
    }

    async fn get(&mut self, path: &str) -> Response {
        self.ask(path).await;
        self.answer().await
    }

    async fn answer(&mut self) -> Response {
        self.answer_with_body(true).await
    }

    async fn answer_with_body(&mut self, with_body: bool) -> Response {
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.read_more().await, "closed before a response head");
        };
        let head = self.unread.drain(..head_end).collect();
        let mut response = Response {
            head: String::from_utf8(head).unwrap(),
            body: Vec::new(),
        };
        if with_body {
            let length: usize = response.header("content-length").unwrap().parse().unwrap();
            while self.unread.len() < length {
                assert!(self.read_more().await, "closed within a response body");
            }
            response.body = self.unread.drain(..length).collect();
        }
        response
    }

    /// Reads the available bytes; false at the end of the connection.
    async fn read_more(&mut self) -> bool {
        let mut buffer = vec![0; 1 << 20];
        loop {
            within_deadline(self.stream.readable()).await.unwrap();
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(read) => {
                    self.unread.extend_from_slice(&buffer[..read]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("cannot read: {error}"),
            }
        }
    }

    /// Reads until the connection is closed.
    async fn rest(&mut self) -> Vec<u8> {
        while self.read_more().await {}
        std::mem::take(&mut self.unread)
    }

    async fn is_closed_without_a_byte(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }

    async fn has_nothing_to_read(&mut self) {
        let readable = timeout(SHORT, self.read_more()).await;
        assert!(readable.is_err(), "answered or closed too early");
    }
}

#[tokio::test]
async fn connection_without_a_complete_request_head_is_closed() {
    let exporter = Exporter::start(Limits {
        first_request: SHORT,
        ..limits()
    });
    let mut silent = exporter.connect().await;
    let mut half = exporter.connect().await;
    half.send("GET / HTTP/1.1\r\nHost: te").await;
    silent.is_closed_without_a_byte().await;
    half.is_closed_without_a_byte().await;
}

#[tokio::test]
async fn keep_alive_connection_serves_several_requests_and_outlives_the_first_request_limit() {
    let exporter = Exporter::start(Limits {
        first_request: SHORT,
        ..limits()
    });
    let mut client = exporter.connect().await;
    assert_eq!(client.get("/").await.body, b"ok");
    client.has_nothing_to_read().await;
    client.has_nothing_to_read().await;
    let again = client.get("/").await;
    assert!(again.head.starts_with("HTTP/1.1 200"), "{again:?}");
    assert_eq!(again.body, b"ok");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let exporter = Exporter::start(limits());
    exporter.signals.slow_may_end.add_permits(1);
    let mut client = exporter.connect().await;
    let request = |path| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    client.send(&(request("/slow") + &request("/"))).await;
    assert_eq!(client.answer().await.body, b"done");
    assert_eq!(client.answer().await.body, b"ok");
}

#[tokio::test]
async fn idle_connection_is_closed_at_the_limit() {
    let exporter = Exporter::start(Limits {
        header_read: SHORT,
        ..limits()
    });
    let mut client = exporter.connect().await;
    assert_eq!(client.get("/").await.body, b"ok");
    client.is_closed_without_a_byte().await;
}

#[tokio::test]
async fn oversized_request_head_is_rejected() {
    let exporter = Exporter::start(limits());
    let mut client = exporter.connect().await;
    let padding = "x".repeat(20 * 1024);
    client
        .send(&format!("GET / HTTP/1.1\r\nPadding: {padding}"))
        .await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    assert_eq!(exporter.connect().await.get("/").await.body, b"ok");
}

#[tokio::test]
async fn at_the_cap_only_the_longest_idle_connection_is_evicted() {
    let exporter = Exporter::start(limits());
    let mut first = exporter.connect().await;
    let mut second = exporter.connect().await;
    let mut third = exporter.connect().await;
    for client in [&mut first, &mut second, &mut third] {
        assert_eq!(client.get("/").await.body, b"ok");
    }
    assert_eq!(first.get("/").await.body, b"ok");

    let mut fourth = exporter.connect().await;
    assert_eq!(fourth.get("/").await.body, b"ok");
    second.is_closed_without_a_byte().await;
    for client in [&mut first, &mut third, &mut fourth] {
        assert_eq!(client.get("/").await.body, b"ok");
    }
}

#[tokio::test]
async fn at_the_cap_a_connection_without_a_request_is_evicted() {
    let exporter = Exporter::start(limits());
    let mut busy = exporter.connect().await;
    busy.ask("/slow").await;
    within_deadline(await_signal(&exporter.signals.slow_entered)).await;
    let mut silent = exporter.connect().await;
    let mut idle = exporter.connect().await;
    assert_eq!(idle.get("/").await.body, b"ok");

    assert_eq!(exporter.connect().await.get("/").await.body, b"ok");
    silent.is_closed_without_a_byte().await;
    exporter.signals.slow_may_end.add_permits(1);
    assert_eq!(busy.answer().await.body, b"done");
    assert_eq!(idle.get("/").await.body, b"ok");
}

#[tokio::test]
async fn with_all_connections_busy_the_next_one_waits_for_the_first_to_end() {
    let exporter = Exporter::start(limits());
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut client = exporter.connect().await;
        client.ask("/slow").await;
        within_deadline(await_signal(&exporter.signals.slow_entered)).await;
        busy.push(client);
    }
    let mut next = exporter.connect().await;
    next.ask("/").await;
    next.has_nothing_to_read().await;

    exporter.signals.slow_may_end.add_permits(1);
    assert_eq!(next.answer().await.body, b"ok");
    exporter.signals.slow_may_end.add_permits(2);
    for client in &mut busy {
        assert_eq!(client.answer().await.body, b"done");
    }
}

#[tokio::test]
async fn connection_whose_response_makes_progress_is_not_evicted() {
    let exporter = Exporter::start(Limits {
        connections: 1,
        ..limits()
    });
    let mut reader = exporter.connect().await;
    reader.ask("/big").await;
    assert!(reader.read_more().await);
    let mut next = exporter.connect().await;
    next.ask("/").await;
    next.has_nothing_to_read().await;

    assert_eq!(reader.answer().await.body.len(), BIG);
    assert_eq!(next.answer().await.body, b"ok");
}

#[tokio::test]
async fn slow_reader_is_closed_at_the_response_limit() {
    let exporter = Exporter::start(Limits {
        connections: 1,
        response: SHORT,
        ..limits()
    });
    let mut reader = exporter.connect().await;
    reader.has_nothing_to_read().await; // The limit counts from the request, not the connection.
    reader.ask("/big").await;
    within_deadline(await_signal(&exporter.signals.big_dropped)).await;
    let taken = reader.rest().await.len();
    assert!(taken < BIG, "{taken} bytes");
    assert_eq!(exporter.connect().await.get("/").await.body, b"ok");
}

#[tokio::test]
async fn five_hundred_slow_readers_hold_little_memory_and_delay_no_other_client() {
    let exporter = Exporter::start(Limits {
        connections: 512,
        response_memory: 8 * PAGE,
        ..limits()
    });
    let _slow = exporter.slow_readers(500).await;
    for _ in 0..10 {
        let page = exporter.connect().await.get("/page").await;
        assert_eq!(page.body.len(), PAGE);
    }
    exporter.pages_take_at_most(10 * PAGE).await;
}

#[tokio::test]
async fn connections_that_do_not_read_are_evicted_for_new_ones() {
    let exporter = Exporter::start(Limits {
        connections: 10,
        grace: SHORT,
        ..limits()
    });
    let _slow = exporter.slow_readers(10).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = exporter.connect().await;
        client.ask("/slow").await;
        within_deadline(await_signal(&exporter.signals.slow_entered)).await;
        clients.push(client);
    }
    exporter.signals.slow_may_end.add_permits(10);
    for client in &mut clients {
        assert_eq!(client.answer().await.body, b"done");
    }
}

#[tokio::test]
async fn slow_readers_are_closed_at_the_stall_limit() {
    let exporter = Exporter::start(Limits {
        connections: 512,
        stall: SHORT * 5,
        ..limits()
    });
    let _slow = exporter.slow_readers(30).await;
    exporter.pages_take_at_most(0).await;
}

#[tokio::test]
async fn client_above_the_minimum_rate_gets_its_whole_page() {
    let stall = SHORT * 10;
    let exporter = Exporter::start(Limits {
        connections: 512,
        stall,
        ..limits()
    });
    let _slow = exporter.slow_readers(30).await;
    let mut client = Client::with_small_buffer(exporter.addresses[0]).await;
    let begun = tokio::time::Instant::now();
    client.ask("/page").await;
    let mut buffer = vec![0; 32 * 1024];
    while client.unread.len() < PAGE {
        within_deadline(client.stream.readable()).await.unwrap();
        match client.stream.try_read(&mut buffer) {
            Ok(0) => panic!("cut off after {} bytes", client.unread.len()),
            Ok(read) => client.unread.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("cannot read: {error}"),
        }
        let behind = stall * 2 * u32::try_from(client.unread.len() / 1024).unwrap() / 2048;
        tokio::time::sleep_until(begun + behind).await;
    }
    assert_eq!(client.answer().await.body.len(), PAGE);
    // The slow readers, which began earlier, are closed by now.
    exporter.pages_take_at_most(0).await;
}

#[tokio::test]
async fn response_limit_applies_to_each_response_of_a_keep_alive_connection() {
    let exporter = Exporter::start(Limits {
        response: SHORT,
        ..limits()
    });
    let mut client = exporter.connect().await;
    assert_eq!(client.get("/").await.body, b"ok");
    client.has_nothing_to_read().await;
    assert_eq!(client.get("/").await.body, b"ok");
    client.ask("/slow").await;
    client.is_closed_without_a_byte().await;
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_lets_running_responses_end() {
    let exporter = Exporter::start(limits());
    let mut idle = exporter.connect().await;
    assert_eq!(idle.get("/").await.body, b"ok");
    let mut half = exporter.connect().await;
    half.send("GET / HT").await;
    let mut busy = exporter.connect().await;
    busy.ask("/slow").await;
    within_deadline(await_signal(&exporter.signals.slow_entered)).await;

    exporter.shutdown.cancel();
    idle.is_closed_without_a_byte().await;
    half.is_closed_without_a_byte().await;
    let refused = within_deadline(TcpStream::connect(exporter.addresses[0])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);

    exporter.signals.slow_may_end.add_permits(1);
    let answer = busy.answer().await;
    assert_eq!(answer.body, b"done");
    assert_eq!(answer.header("connection"), Some("close"));
    busy.is_closed_without_a_byte().await;
    assert!(exporter.ended_gracefully().await);
}

#[tokio::test]
async fn shutdown_lets_a_slow_reader_read_its_whole_response() {
    let exporter = Exporter::start(limits());
    let mut reader = exporter.connect().await;
    reader.ask("/big").await;
    assert!(reader.read_more().await);
    exporter.shutdown.cancel();
    assert_eq!(reader.answer().await.body.len(), BIG);
    assert!(exporter.ended_gracefully().await);
}

#[tokio::test]
async fn drain_deadline_closes_a_stuck_response() {
    let exporter = Exporter::start(Limits {
        drain: SHORT,
        ..limits()
    });
    let mut stuck = exporter.connect().await;
    stuck.ask("/slow").await;
    within_deadline(await_signal(&exporter.signals.slow_entered)).await;
    exporter.shutdown.cancel();
    assert!(!exporter.ended_gracefully().await);
    stuck.is_closed_without_a_byte().await;
}

#[tokio::test]
async fn several_listeners_share_one_cap() {
    let mut listeners = bind("127.0.0.1:0").unwrap();
    listeners.extend(bind("127.0.0.1:0").unwrap());
    let exporter = Exporter::listen(
        listeners,
        Limits {
            connections: 1,
            ..limits()
        },
    );
    let mut one = Client::connect(exporter.addresses[0]).await;
    assert_eq!(one.get("/").await.body, b"ok");
    let mut other = Client::connect(exporter.addresses[1]).await;
    assert_eq!(other.get("/").await.body, b"ok");
    one.is_closed_without_a_byte().await;
}

#[tokio::test]
async fn head_response_has_the_length_and_no_body() {
    let exporter = Exporter::start(limits());
    let mut client = exporter.connect().await;
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let head = client.answer_with_body(false).await;
    assert_eq!(head.header("content-length"), Some("2"));
    // A body sent by mistake would precede this response.
    let get = client.get("/").await;
    assert!(get.head.starts_with("HTTP/1.1 200"), "{get:?}");
    assert_eq!(get.header("content-length"), Some("2"));
    assert_eq!(get.header("transfer-encoding"), None);
}

#[tokio::test]
async fn panicking_handler_closes_only_its_connection_and_releases_its_slot() {
    let exporter = Exporter::start(Limits {
        connections: 1,
        ..limits()
    });
    let mut unlucky = exporter.connect().await;
    unlucky.ask("/panic").await;
    unlucky.is_closed_without_a_byte().await;
    assert_eq!(exporter.connect().await.get("/").await.body, b"ok");
    exporter.shutdown.cancel();
    assert!(exporter.ended_gracefully().await);
}

#[tokio::test]
async fn bare_port_listens_on_all_interfaces() {
    let exporter = Exporter::listen(bind(":0").unwrap(), limits());
    let port = exporter.addresses[0].port();
    let mut v4 = Client::connect((Ipv4Addr::LOCALHOST, port).into()).await;
    assert_eq!(v4.get("/").await.body, b"ok");
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let mut v6 = Client::connect((Ipv6Addr::LOCALHOST, port).into()).await;
        assert_eq!(v6.get("/").await.body, b"ok");
    }
}

#[tokio::test]
async fn name_listens_on_all_its_addresses_with_one_port() {
    let exporter = Exporter::listen(bind("localhost:0").unwrap(), limits());
    let port = exporter.addresses[0].port();
    for address in &exporter.addresses {
        assert!(address.ip().is_loopback(), "{address}");
        assert_eq!(address.port(), port);
        assert_eq!(Client::connect(*address).await.get("/").await.body, b"ok");
    }
}

#[tokio::test]
async fn malformed_listen_address_is_named_in_the_error() {
    for wrong in [
        "",
        ":",
        "19180",
        "localhost",
        ":+80",
        ":65536",
        "::1:9",
        "[::1]",
        "[::1:9",
        "host:80/",
        "http://host:80",
        "a b:80",
    ] {
        let error = bind(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}: {error}");
        assert!(error.to_string().contains(&format!("`{wrong}`")), "{error}");
    }
}

#[tokio::test]
async fn address_in_use_is_named_in_the_error() {
    for address in ["127.0.0.1", "localhost", ""] {
        let taken = bind(&format!("{address}:0")).unwrap();
        let port = taken[0].local_addr().unwrap().port();
        let error: io::Error = bind(&format!("{address}:{port}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{address}: {error}");
        assert!(error.to_string().contains(&format!(":{port}")), "{error}");
        assert!(error.source().is_some());
    }
}
