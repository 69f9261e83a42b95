//! The stream and the response body of a connection, by which its [`Slot`] learns when a response
//! is over.
//!
//! Two marks are needed. The body is dropped once the last of it is handed over; but a body of
//! one piece is handed over at once, however slowly it is read. Only the next complete flush of
//! the stream says that the client has been sent everything. With HTTP/2 a client can also hold
//! a response up by its window, which no flush shows: there the last byte is handed over alone.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::{Answering, Slot};

/// A response body that says when it is handed over, and is otherwise the body it wraps: its size
/// hint and its end are what hyper chooses the framing by.
#[derive(Debug)]
pub(super) struct WatchedBody {
    body: Body,
    /// Whether the last byte of each chunk goes alone: hyper hands over a chunk of any size as
    /// soon as one byte fits into the window of the client, so that one waits for all before it.
    multiplexed: bool,
    last_byte: Option<Bytes>,
    _answering: Answering,
}

impl WatchedBody {
    pub(super) fn new(body: Body, multiplexed: bool, answering: Answering) -> Self {
        Self {
            body,
            multiplexed,
            last_byte: None,
            _answering: answering,
        }
    }

    /// The frame but for the last byte of its data, which is kept.
    fn shortened(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) if self.multiplexed && data.len() > 1 => {
                self.last_byte = Some(data.split_off(data.len() - 1));
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(other) => other,
        }
    }
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(last) = self.last_byte.take() {
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| self.shortened(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.last_byte.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(last) = &self.last_byte else {
            return self.body.size_hint();
        };
        let (kept, rest) = (last.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + kept);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + kept);
        }
        hint
    }
}

/// A connection that tells its slot what is written of the responses handed over.
///
/// HTTP/1.1 does everything in one task and flushes last: what is handed over when a poll ends
/// with nothing left to flush is written. With HTTP/2 responses are handed over by other tasks, at
/// any time: only what was handed over before such a poll is.
pub(super) async fn watch<T>(
    connection: impl Future<Output = T>,
    slot: &Slot,
    multiplexed: bool,
) -> T {
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        slot.wake(cx.waker());
        let before = slot.handed_over();
        let polled = connection.as_mut().poll(cx);
        if polled.is_pending() && slot.is_flushed() {
            slot.written(if multiplexed {
                before
            } else {
                slot.handed_over()
            });
        }
        polled
    })
    .await
}

/// A stream that reports what it takes and when it is flushed. hyper flushes it only when its own buffer is empty.
#[derive(Debug)]
pub(super) struct WatchedStream<S> {
    stream: S,
    slot: Arc<Slot>,
}

impl<S> WatchedStream<S> {
    pub(super) fn new(stream: S, slot: Arc<Slot>) -> Self {
        Self { stream, slot }
    }

    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.slot.took(bytes);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.slot.set_flushed(false);
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.slot.set_flushed(false);
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.slot.set_flushed(true);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use std::net::{IpAddr, Ipv4Addr};

    use super::super::Limits;
    use super::super::connections::Connections;
    use super::*;

    async fn slot() -> Arc<Slot> {
        let connections = Connections::new(Limits::default());
        connections.admit(IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    #[tokio::test]
    async fn a_watched_body_keeps_its_size_and_its_end() {
        let slot = slot().await;
        for multiplexed in [false, true] {
            let body = |body| WatchedBody::new(body, multiplexed, slot.begin());
            let full = body(Body::from("ok"));
            assert_eq!(full.size_hint().exact(), Some(2));
            assert!(!full.is_end_stream());
            assert!(body(Body::empty()).is_end_stream());
        }
    }

    #[tokio::test]
    async fn the_last_byte_of_a_multiplexed_body_goes_alone() {
        let slot = slot().await;
        let mut body = WatchedBody::new(Body::from("abc"), true, slot.begin());
        let mut pieces = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            pieces.push((frame.unwrap().into_data().unwrap(), body.is_end_stream()));
            assert_eq!(body.size_hint().exact(), Some(u64::from(pieces.len() == 1)));
        }
        let expected = [("ab".into(), false), ("c".into(), true)];
        assert_eq!(pieces, expected);
    }
}
