//! Speaks HTTP/1.1 or HTTP/2 on one stream that is already connected, and encrypted if need be.
//!
//! Bounds what one connection can cost: the size of request heads, the number of streams at a
//! time, and what is buffered for them. How long anything may take is the supervisor's business,
//! but for the end of a connection that has to go. A handler that panics ends its connection, or
//! with HTTP/2 its stream, and nothing else.

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::connections::Slot;
use super::held::Held;
use super::watched::{WatchedBody, WatchedStream, watch};
use crate::logging::panic_message;
use crate::server::live::Admission;

/// The most bytes of a request head, and of a response waiting in user space, per connection;
/// with HTTP/2 of the latter for each stream.
const BUFFER_BYTES: u16 = 16 * 1024;

/// Requests under way at a time on one connection: more than a browser opens, and than a scraper
/// has any use for.
const STREAMS: u32 = 16;

/// How long a client of HTTP/2 that has everything may take to agree to the end: to close at once
/// could cost it what it has not read yet.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(super) type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// What all connections share.
#[derive(Clone)]
pub(super) struct Http {
    pub(super) tasks: TaskTracker,
    pub(super) router: TowerToHyperService<Router>,
    pub(super) shutdown: CancellationToken,
    /// The longest running responses may take to end once their connection has to.
    pub(super) drain: Duration,
}

impl Http {
    /// Serves one stream. On shutdown, and when its admission ends, running responses end first,
    /// if they do so in time.
    pub(super) async fn serve<S>(
        self,
        stream: S,
        slot: Arc<Slot>,
        admission: Admission,
        http2: bool,
    ) -> Ended
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let ended = admission.clone();
        let stream = TokioIo::new(WatchedStream::new(stream, Arc::clone(&slot)));
        let (router, answered) = (self.router, Arc::clone(&slot));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(admission.clone());
            let answering = answered.begin();
            let response = router.call(request);
            async move {
                let mut response = response.await?;
                let held = response.extensions_mut().remove::<Held>();
                answering.send(held.unwrap_or_default());
                let watched = |body| WatchedBody::new(body, http2, answering);
                Ok::<_, Infallible>(response.map(watched))
            }
        });
        let builder = builder(Streams(self.tasks), http2);
        let mut connection = pin!(builder.serve_connection(stream, service));
        tokio::select! {
            result = watch(connection.as_mut(), &slot, http2) => return result,
            () = self.shutdown.cancelled() => {}
            () = ended.ended() => {}
        }
        connection.as_mut().graceful_shutdown();
        // With HTTP/2 that alone waits for the client, and lets it begin requests until then.
        let farewell = async {
            slot.idle().await;
            sleep(FAREWELL).await;
        };
        let overdue = async {
            sleep(self.drain).await;
            if self.shutdown.is_cancelled() {
                // Who waits for all connections cuts those that are left, and tells of them.
                pending::<()>().await;
            }
        };
        tokio::select! {
            result = watch(connection, &slot, http2) => result,
            () = farewell => Ok(()),
            () = overdue => Err("it did not end in time".into()),
        }
    }
}

fn builder(streams: Streams, http2: bool) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    // The supervisor knows when a request head is overdue, for both protocols.
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES.into());
    builder
        .http2()
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(BUFFER_BYTES.into())
        .max_send_buf_size(BUFFER_BYTES.into())
        // No request has a body that is read.
        .initial_stream_window_size(u32::from(BUFFER_BYTES))
        .initial_connection_window_size(u32::from(u16::MAX))
        // Streams that the client gives up, or that it breaks the rules on, before they are
        // forgotten: more than this ends the connection.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(20);
    if http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    }
}

/// Runs the streams of HTTP/2, each in a task that ends with its connection.
#[derive(Clone)]
struct Streams(TaskTracker);

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn(async move {
            if let Err(panic) = AssertUnwindSafe(stream).catch_unwind().await {
                let message = panic_message(&*panic);
                error!(
                    panic = message,
                    "A request handler panicked ({message}); its HTTP/2 stream is closed."
                );
            }
        });
    }
}
