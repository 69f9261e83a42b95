//! Encoding of responses on a connection, and faults of the connection.
//!
//! Implements slow, truncated and unbounded bodies, and connections that end in a reset. A declared
//! length is always that of the complete body, so a truncated body is detectable.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::CONTENT_LENGTH;
use hyper::http::response::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub(super) type ResponseBody = UnsyncBoxBody<Bytes, io::Error>;

/// Number of pieces of a slow body.
const PIECES: usize = 16;

/// Chunk size of an unbounded body in bytes.
const CHUNK: usize = 64 * 1024;

/// Time for half a body to reach the client before the connection is closed.
const BEFORE_THE_CUT: Duration = Duration::from_millis(20);

pub(super) fn whole(head: Builder, body: Bytes) -> Response<ResponseBody> {
    assemble(
        head,
        Full::new(body)
            .map_err(|never| match never {})
            .boxed_unsync(),
    )
}

/// The body in pieces over `time`; `in_flight_request` is held until the last piece.
pub(super) fn slow<S: Send + Sync + 'static>(
    head: Builder,
    body: &Bytes,
    time: Duration,
    in_flight_request: Arc<S>,
) -> Response<ResponseBody> {
    let length = body.len();
    let size = length.div_ceil(PIECES).max(1);
    let pieces: Vec<Bytes> = (0..length)
        .step_by(size)
        .map(|at| body.slice(at..length.min(at + size)))
        .collect();
    let pause = time / u32::try_from(pieces.len().max(1)).unwrap_or(u32::MAX);
    let pieces = stream::iter(pieces).then(move |piece| {
        let in_flight_request = Arc::clone(&in_flight_request);
        async move {
            tokio::time::sleep(pause).await;
            drop(in_flight_request);
            Ok(piece)
        }
    });
    assemble(head.header(CONTENT_LENGTH, length), streamed(pieces))
}

/// Half of the body; then the connection closes.
pub(super) fn truncated(head: Builder, body: &Bytes) -> Response<ResponseBody> {
    let half = body.slice(..body.len() / 2);
    let cut = stream::once(async {
        tokio::time::sleep(BEFORE_THE_CUT).await;
        Err(io::Error::other("body cut off on purpose"))
    });
    let pieces = stream::iter([Ok(half)]).chain(cut);
    assemble(head.header(CONTENT_LENGTH, body.len()), streamed(pieces))
}

/// A JSON string of at least this many bytes, chunked, without a declared length.
pub(super) fn unbounded(head: Builder, bytes: u64) -> Response<ResponseBody> {
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let chunks = usize::try_from(bytes.div_ceil(CHUNK as u64)).unwrap_or(usize::MAX);
    let quote = || stream::iter([Bytes::from_static(b"\"")]);
    let text = stream::repeat(chunk).take(chunks);
    assemble(head, streamed(quote().chain(text).chain(quote()).map(Ok)))
}

fn streamed(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> ResponseBody {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

fn assemble(head: Builder, body: ResponseBody) -> Response<ResponseBody> {
    head.body(body)
        .expect("every header is a constant or a number")
}

/// Makes its connection end in a reset.
#[derive(Clone, Debug, Default)]
pub(super) struct ResetSwitch(Arc<AtomicBool>);

impl ResetSwitch {
    /// Requests the reset and returns the error that ends the connection.
    pub(super) fn request_reset(&self) -> io::Error {
        self.0.store(true, Ordering::Release);
        io::Error::other("connection reset on purpose")
    }
}

/// A TCP stream that is closed by RST instead of FIN if a reset was requested.
#[derive(Debug)]
pub(super) struct ResettableStream {
    stream: TcpStream,
    reset_switch: ResetSwitch,
}

impl ResettableStream {
    pub(super) fn new(stream: TcpStream, reset_switch: ResetSwitch) -> Self {
        // Without it, small responses wait for the client's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection to the simulated gateway keeps Nagle's delay");
        }
        Self {
            stream,
            reset_switch,
        }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl Drop for ResettableStream {
    fn drop(&mut self) {
        if self.reset_switch.0.load(Ordering::Acquire)
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::warn!(%error, "the simulated gateway could not reset a connection");
        }
    }
}

impl AsyncRead for ResettableStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for ResettableStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
