//! Accepts connections and protects the exporter from its clients.
//!
//! Bounds how many connections are open, how long one may stay silent, how large a request head
//! may be, how slowly a client may read a response, and how much memory all responses hold; a TLS
//! handshake counts towards the time to the first request. It knows nothing of routes: they come
//! as a router.
//!
//! Invariant: a request is never refused because other connections are idle or read slowly. What a
//! client does wrong, and what a handler does wrong, ends its own connection and nothing else.

mod address;
mod connections;
mod held;
mod http;
mod places;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use futures_util::future::join_all;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

pub use self::address::{bind, check};
use self::connections::{Connections, Slot};
pub use self::held::Held;
use self::http::{Ended, Http};
use self::places::Overdue;
use super::live::{Admission, Live};
use super::tls;
use crate::logging::panic_message;

/// The pause after a failed accept: out of file descriptors, the next attempt fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The least time between two log lines about failed accepts of one listener.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The send buffer of a connection in the operating system. Left alone it grows to megabytes for
/// each client that does not read, and a client is seen to progress only by a third of it.
const SEND_BUFFER: usize = 256 * 1024;

/// What one client, and all clients together, may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections served at a time, over all listeners; at least 1.
    pub connections: usize,
    /// The longest a new connection may take to send its first complete request head.
    pub first_request: Duration,
    /// The longest any further request head may take, counted from the end of the response
    /// before it: so also the longest a kept-alive connection may idle. Below the scrape interval
    /// it makes every scrape connect anew.
    pub header_read: Duration,
    /// The longest from a request head to the client having taken the last byte of the response.
    pub response: Duration,
    /// The longest a client may take for 64 KiB of a response that is being sent.
    pub stall: Duration,
    /// How long a client must have taken less than that before its connection can be closed to
    /// make room for another one.
    pub grace: Duration,
    /// The most bytes that all responses hold together, besides two of the largest one. Beyond it
    /// the slowest are cut off.
    pub held_bytes: usize,
    /// The longest running responses may take to end after the shutdown has begun, or after other
    /// TLS settings than those of their connection are in force.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            first_request: Duration::from_secs(10),
            header_read: Duration::from_secs(120),
            response: Duration::from_secs(60),
            stall: Duration::from_secs(10),
            grace: Duration::from_secs(1),
            held_bytes: 64 * 1024 * 1024,
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves `router` on all `listeners`, which share one set of `limits`, until `shutdown`; with
/// TLS where `live` began with it.
///
/// After the shutdown no connection is accepted, idle ones are closed at once, and running
/// responses have [`Limits::drain`] to end. Returns whether all of them did.
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    live: Option<Arc<Live>>,
    limits: Limits,
    shutdown: CancellationToken,
) -> bool {
    let tasks = TaskTracker::new();
    let server = Server {
        connections: Connections::new(limits),
        http: Http {
            tasks: tasks.clone(),
            router: TowerToHyperService::new(router),
            shutdown: shutdown.clone(),
            drain: limits.drain,
        },
        tasks,
        tls: live.filter(|live| live.began_with_tls()),
        drain: limits.drain,
        shutdown,
    };
    let accepting = join_all(listeners.into_iter().map(|one| server.accept_from(one)));
    server.shutdown.run_until_cancelled(accepting).await;
    server.drain().await
}

struct Server {
    connections: Arc<Connections>,
    tasks: TaskTracker,
    http: Http,
    tls: Option<Arc<Live>>,
    drain: Duration,
    shutdown: CancellationToken,
}

impl Server {
    /// Accepts for ever. While no connection can be closed for it, one accepted connection is held
    /// unread and the others wait in the backlog of the operating system.
    async fn accept_from(&self, listener: TcpListener) {
        let mut failures = AcceptFailures::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let slot = self.connections.admit(peer.ip()).await;
                    self.start(stream, peer, slot);
                }
                Err(error) if is_lost_by_peer(&error) => {
                    debug!(%error, "A connection was gone before it was accepted.");
                }
                Err(error) => {
                    failures.report(&error, &listener);
                    // Below the cap too, file descriptors can run out.
                    self.connections.make_room();
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Runs one connection in a task of its own, so that a panic in a handler ends only that.
    fn start(&self, stream: TcpStream, peer: SocketAddr, slot: Arc<Slot>) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "The connection from {peer} keeps Nagle's algorithm.");
        }
        if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER) {
            debug!(%peer, %error, "The connection from {peer} keeps its default send buffer.");
        }
        let spoken = speak(
            stream,
            Arc::clone(&slot),
            self.tls.clone(),
            self.http.clone(),
        );
        self.tasks.spawn(async move {
            let supervised = AssertUnwindSafe(supervise(spoken, &slot, peer));
            if let Err(panic) = supervised.catch_unwind().await {
                let message = panic_message(&*panic);
                error!(%peer, panic = message, "A request handler panicked ({message}); the connection from {peer} is closed.");
            }
        });
    }

    async fn drain(&self) -> bool {
        self.connections.close_idle();
        self.tasks.close();
        if timeout(self.drain, self.tasks.wait()).await.is_ok() {
            info!("All responses have ended and all connections are closed.");
            return true;
        }
        let cut = self.connections.close_all();
        let seconds = self.drain.as_secs_f64();
        warn!(
            connections = cut,
            "{cut} connections were still busy {seconds} seconds after the shutdown began and are cut."
        );
        false
    }
}

/// Speaks HTTP on one connection: plainly, or after the handshake of `tls`, as it chooses.
async fn speak(stream: TcpStream, slot: Arc<Slot>, tls: Option<Arc<Live>>, http: Http) -> Ended {
    let Some(live) = tls else {
        let admission = Admission::plain(stream.peer_addr()?.ip());
        return http.serve(stream, slot, admission, false).await;
    };
    let (stream, admission) = tls::accept(stream, &live).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
    http.serve(stream, slot, admission, http2).await
}

/// Runs `spoken` until it ends, its place is taken away or its time is over. The last two drop
/// it, and with it the socket.
async fn supervise(spoken: impl Future<Output = Ended>, slot: &Slot, peer: SocketAddr) {
    tokio::select! {
        biased;
        () = slot.closed() => debug!(%peer, "The connection from {peer} is closed: its place or memory is needed, it sends too many requests at a time, or the exporter stops."),
        result = spoken => if let Err(error) = result {
            debug!(%peer, error = &*error, "The connection from {peer} ended early.");
        },
        overdue = slot.overdue() => match overdue {
            Overdue::Request => debug!(%peer, "The connection from {peer} sent no request in time."),
            Overdue::Progress => debug!(%peer, "The connection from {peer} reads too slowly."),
            Overdue::Response => info!(%peer, "The response to {peer} was not taken in time."),
        },
    }
}

/// Whether an accept failed for one connection only, so that the next can succeed at once.
fn is_lost_by_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Keeps a lasting failure, as a full file descriptor table, from filling the log.
#[derive(Default)]
struct AcceptFailures {
    last_logged: Option<Instant>,
    unlogged: u64,
}

impl AcceptFailures {
    fn report(&mut self, error: &io::Error, listener: &TcpListener) {
        let Some(failures) = self.count(Instant::now()) else {
            return;
        };
        let address = listener
            .local_addr()
            .map_or_else(|_| "?".to_owned(), |address| address.to_string());
        warn!(
            %address, %error, failures,
            "Connections to {address} cannot be accepted ({error}), {failures} failures since the last such line."
        );
    }

    /// Counts a failure; the number to log, if it is time to.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        let quiet = |last| now.duration_since(last) < ACCEPT_LOG_INTERVAL;
        if self.last_logged.is_some_and(quiet) {
            return None;
        }
        self.last_logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasting_accept_failures_are_logged_once_per_interval_with_their_number() {
        let mut failures = AcceptFailures::default();
        let start = Instant::now();
        assert_eq!(failures.count(start), Some(1));
        assert_eq!(failures.count(start + ACCEPT_PAUSE), None);
        assert_eq!(failures.count(start + ACCEPT_PAUSE * 2), None);
        assert_eq!(failures.count(start + ACCEPT_LOG_INTERVAL), Some(3));
        assert_eq!(failures.count(start + ACCEPT_LOG_INTERVAL), None);
    }
}
