//! The protocol of a server that does not send a valid HTTP response.
//!
//! Only explains failures: does not decide whether a call succeeds. Classifies the bytes of the
//! server and never exposes them.

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::gateway::port::PORT_HINT;
use crate::gateway::resolver;
use crate::gateway::tls::causes;

/// Most header lines of a response; the library's default is 100.
pub(super) const MAX_HEADERS: usize = 1_000;

/// Longest time for [`probe`], within the deadline of the failed call.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the bytes of the server are not an HTTP response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolError {
    #[error("answers in TLS; write https instead of http")]
    Tls,
    #[error("does not speak HTTP; {PORT_HINT}")]
    NotHttp,
    #[error("sent a malformed HTTP answer")]
    Malformed,
    #[error("sent an HTTP answer with more than {MAX_HEADERS} header lines, or 400 KB of them")]
    HeadTooLarge,
}

/// The error in a response that could not be parsed; `None` for other errors.
pub(super) fn protocol_error(error: &(dyn Error + 'static)) -> Option<ProtocolError> {
    let error = of_hyper(error).filter(|error| error.is_parse())?;
    Some(if error.is_parse_too_large() {
        ProtocolError::HeadTooLarge
    } else {
        ProtocolError::Malformed
    })
}

/// Whether the server closed the connection before the first byte of a response.
pub(super) fn closed_without_answer(error: &(dyn Error + 'static)) -> bool {
    let reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    of_hyper(error).is_some_and(hyper::Error::is_incomplete_message)
        || causes(error)
            .filter_map(|link| link.downcast_ref())
            .any(reset)
}

/// Whether the request was not sent because the server sent bytes first, as some protocols do and
/// HTTP does not.
pub(super) fn spoke_first(error: &(dyn Error + 'static)) -> bool {
    of_hyper(error).is_some_and(hyper::Error::is_canceled)
}

/// Sends a minimal request to `endpoint` and classifies the first bytes of the response. `None` when
/// the server speaks HTTP, sends nothing, or is unreachable.
pub(super) async fn probe(endpoint: &Url, deadline: Instant) -> Option<ProtocolError> {
    let deadline = deadline.min(Instant::now() + PROBE_TIMEOUT);
    let mut bytes = Vec::new();
    // The bytes that arrived decide, also after an error or a timeout.
    let outcome = timeout_at(deadline, exchange(endpoint, &mut bytes)).await;
    drop(outcome);
    classify(&bytes)
}

async fn exchange(endpoint: &Url, bytes: &mut Vec<u8>) -> io::Result<()> {
    let addresses = resolver::addresses(endpoint).await?;
    let mut stream = TcpStream::connect(&*addresses).await?;
    let request = b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await?;
    while bytes.len() < 5 && stream.read_buf(bytes).await? > 0 {}
    Ok(())
}

fn classify(bytes: &[u8]) -> Option<ProtocolError> {
    match bytes {
        // A record of RFC 8446, section 5.1: an alert, mostly.
        [0x14..=0x17, 3, ..] => Some(ProtocolError::Tls),
        [] | [b'H', b'T', b'T', b'P', b'/', ..] => None,
        _ => Some(ProtocolError::NotHttp),
    }
}

fn of_hyper<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a hyper::Error> {
    causes(error).find_map(|link| link.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_identify_the_protocol() {
        for (bytes, expected) in [
            (
                &b"\x15\x03\x01\x00\x02\x02\x46"[..],
                Some(ProtocolError::Tls),
            ),
            (b"\x15\x03", Some(ProtocolError::Tls)),
            (b"\x16\x03\x03", Some(ProtocolError::Tls)),
            (b"\x15\x01", Some(ProtocolError::NotHttp)),
            (b"\x15", Some(ProtocolError::NotHttp)),
            (b"SSH-2.0-OpenSSH_9.2", Some(ProtocolError::NotHttp)),
            (b"\x00", Some(ProtocolError::NotHttp)),
            (b"", None),
            (b"HTTP/1.1 200 OK", None),
            (b"HTTP/0.9", None),
        ] {
            assert_eq!(classify(bytes), expected, "{bytes:?}");
        }
    }
}
