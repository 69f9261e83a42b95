//! HTTP/1.1 on one connected and, with TLS, encrypted stream.
//!
//! Limits the size of request heads and of the buffer, and reports the progress of responses to
//! the [`ConnectionSlot`], whose owner enforces the timeouts.
//!
//! A response ends with the first complete flush after hyper has dropped its body: hyper drops the
//! body when the last chunk is in its own buffer, however slowly the client reads, and flushes the
//! stream only when that buffer is empty.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::memory::ResponseMemory;
use super::slots::ConnectionSlot;
use crate::server::connection_info::ConnectionInfo;

/// Maximum size of a request head, and of the part of a response in the buffer of hyper, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// Serves one stream until the client or an error closes it. After `shutdown`, a running response
/// ends first.
pub(super) async fn serve_stream<S>(
    stream: S,
    info: ConnectionInfo,
    router: TowerToHyperService<Router>,
    slot: Arc<ConnectionSlot>,
    shutdown: CancellationToken,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = MeteredStream {
        stream,
        slot: Arc::clone(&slot),
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        let guard = slot.begin_response();
        let response = router.call(request);
        async move {
            let mut response = response.await?;
            let memory = response.extensions_mut().remove::<ResponseMemory>();
            guard.start_sending(memory.unwrap_or_default());
            Ok::<_, Infallible>(response.map(|body| {
                // The closure owns the guard, which is thus dropped together with the body.
                body.map_err(move |error| {
                    let _owned = &guard;
                    error
                })
            }))
        }
    });
    let connection = http1::Builder::new()
        // The slot enforces the timeouts.
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// A stream that reports written bytes and complete flushes to the slot of its connection.
struct MeteredStream<S> {
    stream: S,
    slot: Arc<ConnectionSlot>,
}

impl<S> MeteredStream<S> {
    fn report(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.slot.progress(bytes);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.report(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.report(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.slot.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
