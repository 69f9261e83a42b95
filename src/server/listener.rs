//! The HTTP listener: accepts connections, terminates TLS, and limits the resources of clients.
//!
//! Limits the number of connections, the time for a request head and for reading a response, and
//! the memory that all responses hold. The routes are an argument.
//!
//! Invariant: a request is never refused because other connections are idle or read slowly. An
//! error of a client and a panic of a handler close their own connection and no other.

mod accept_failures;
mod address;
mod http;
mod limits;
mod memory;
mod slots;
mod table;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use futures_util::future::join_all;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use self::accept_failures::AcceptFailures;
pub use self::address::bind;
pub(crate) use self::address::check;
use self::http::serve_stream;
pub use self::limits::Limits;
pub use self::memory::ResponseMemory;
use self::slots::{ConnectionSlot, ConnectionSlots};
use self::table::TimeoutKind;
use super::connection_info::ConnectionInfo;
use super::web_config::ReloadableWebConfig;
use crate::logging::panic_message;

/// The pause after a failed accept: if file descriptors have run out, the next attempt fails too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The send buffer of a connection in the operating system. By default it grows to megabytes for
/// each client that does not read, and becomes writable again only when a third of it is free.
const SEND_BUFFER: usize = 256 * 1024;

/// Serves `router` on all `listeners`, which share one set of `limits`, until `shutdown`; with
/// TLS if `web_config` was loaded with TLS settings.
///
/// After the shutdown no connection is accepted, idle ones are closed at once, and running
/// responses have [`Limits::drain`] to end. Returns whether all of them did.
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    web_config: Option<Arc<ReloadableWebConfig>>,
    limits: Limits,
    shutdown: CancellationToken,
) -> bool {
    let server = Server {
        slots: ConnectionSlots::new(limits),
        tasks: TaskTracker::new(),
        router: TowerToHyperService::new(router),
        tls: web_config.filter(|config| config.tls_enabled()),
        drain: limits.drain,
        shutdown,
    };
    let accepting = join_all(listeners.into_iter().map(|one| server.accept_from(one)));
    server.shutdown.run_until_cancelled(accepting).await;
    server.drain().await
}

struct Server {
    slots: Arc<ConnectionSlots>,
    tasks: TaskTracker,
    router: TowerToHyperService<Router>,
    tls: Option<Arc<ReloadableWebConfig>>,
    drain: Duration,
    shutdown: CancellationToken,
}

impl Server {
    /// Accepts without end. While no connection can be evicted, one accepted connection waits
    /// unread, and the others wait in the backlog of the operating system.
    async fn accept_from(&self, listener: TcpListener) {
        let mut failures = AcceptFailures::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let slot = self.slots.acquire(peer.ip()).await;
                    self.start(stream, peer, slot);
                }
                Err(error) if is_lost_connection(&error) => {
                    debug!(%error, "A connection was closed before it was accepted.");
                }
                Err(error) => {
                    failures.log(&error, &listener);
                    // File descriptors can run out below the cap as well.
                    self.slots.evict();
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Runs one connection in a task of its own, to which a panic in a handler is confined.
    fn start(&self, stream: TcpStream, peer: SocketAddr, slot: Arc<ConnectionSlot>) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "Cannot disable Nagle's algorithm for the connection from {peer}.");
        }
        if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER) {
            debug!(%peer, %error, "Cannot set the send buffer size of the connection from {peer}.");
        }
        let (router, tls) = (self.router.clone(), self.tls.clone());
        let shutdown = self.shutdown.clone();
        let served = serve_connection(stream, peer, tls, router, Arc::clone(&slot), shutdown);
        self.tasks.spawn(async move {
            let supervised = AssertUnwindSafe(supervise(served, &slot, peer));
            if let Err(panic) = supervised.catch_unwind().await {
                let message = panic_message(&*panic);
                error!(%peer, panic = message, "A request handler panicked ({message}); the connection from {peer} is closed.");
            }
        });
    }

    async fn drain(&self) -> bool {
        self.slots.close_idle();
        self.tasks.close();
        if timeout(self.drain, self.tasks.wait()).await.is_ok() {
            info!("All responses are sent and all connections are closed.");
            return true;
        }
        let connections = self.slots.close_all();
        let seconds = self.drain.as_secs_f64();
        warn!(
            connections,
            "Closed {connections} connections that were still busy {seconds} seconds after the shutdown began."
        );
        false
    }
}

/// Serves one connection, with TLS if `tls` is given.
async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ReloadableWebConfig>>,
    router: TowerToHyperService<Router>,
    slot: Arc<ConnectionSlot>,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let info = |tls| ConnectionInfo {
        peer: peer.ip(),
        tls,
    };
    let served = if let Some(web_config) = tls {
        let (stream, tls) = accept_tls(stream, &web_config).await?;
        serve_stream(stream, info(Some(tls)), router, slot, shutdown).await
    } else {
        serve_stream(stream, info(None), router, slot, shutdown).await
    };
    Ok(served?)
}

/// Completes the handshake with the TLS settings at the time of the client hello, and returns them.
async fn accept_tls(
    stream: TcpStream,
    web_config: &Arc<ReloadableWebConfig>,
) -> io::Result<(TlsStream<TcpStream>, Arc<ServerConfig>)> {
    let handshake = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let active = web_config.active().await;
    let config = active.and_then(|active| active.tls.clone());
    let config = config.ok_or_else(|| {
        io::Error::other("the web configuration is invalid or no longer has TLS settings")
    })?;
    let stream = handshake.into_stream(Arc::clone(&config)).await?;
    Ok((stream, config))
}

/// Runs `served` until it ends, its slot is taken away, or it times out. The last two drop it,
/// which closes the socket.
async fn supervise(
    served: impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>>,
    slot: &ConnectionSlot,
    peer: SocketAddr,
) {
    tokio::select! {
        biased;
        () = slot.closed() => debug!(%peer, "Closed the connection from {peer} to free its slot or memory, or to shut down."),
        result = served => if let Err(error) = result {
            debug!(%peer, error = &*error, "The connection from {peer} failed.");
        },
        timeout = slot.timed_out() => match timeout {
            TimeoutKind::Request => debug!(%peer, "Closed the connection from {peer}: no complete request in time."),
            TimeoutKind::Stall => debug!(%peer, "Closed the connection from {peer}: it reads too slowly."),
            TimeoutKind::Response => info!(%peer, "Closed the connection from {peer}: it did not read the response in time."),
        },
    }
}

/// Whether an accept failed for one connection only, so that the next one can succeed at once.
fn is_lost_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
