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
use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::memory::ResponseMemory;
use super::slots::{ConnectionSlot, ResponseGuard};
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
            Ok::<_, Infallible>(response.map(|body| GuardedBody {
                body,
                _guard: guard,
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

/// A response body that keeps its guard until hyper drops it. It must report the size and the end
/// of the wrapped body, from which hyper chooses the framing.
#[derive(Debug)]
struct GuardedBody {
    body: Body,
    _guard: ResponseGuard,
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http_body::Body as _;

    use super::super::limits::Limits;
    use super::super::slots::ConnectionSlots;
    use super::*;

    #[tokio::test]
    async fn guarded_body_keeps_the_size_and_the_end_of_the_body() {
        let slots = ConnectionSlots::new(Limits::default());
        let slot = slots.acquire(IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
        let guarded = |body| GuardedBody {
            body,
            _guard: slot.begin_response(),
        };
        let full = guarded(Body::from("ok"));
        assert_eq!(full.size_hint().exact(), Some(2));
        assert!(!full.is_end_stream());
        assert!(guarded(Body::empty()).is_end_stream());
    }
}
