//! The body of a response, up to a limit.
//!
//! Never reads or inflates more than the limit, whatever length the response claims. Errors quote
//! nothing of the body; the caller adds the endpoint.

use std::io::Read;
use std::ops::Deref;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use miniz_oxide::inflate::{
    DecompressError, TINFLStatus, decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit,
};
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gateway::decode::DecodeError;

/// Why a body could not be read.
#[derive(Debug)]
pub(super) enum BodyError {
    /// The connection was closed.
    Interrupted(reqwest::Error),
    /// The body is larger than the limit.
    TooLarge,
    /// The content coding is not supported, or the compressed data is invalid.
    Encoding(DecodeError),
}

/// A body, with the permit that a large one holds while it is in memory.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Largest body that is read without a permit, in bytes.
const SMALL: usize = 256 * 1024;

/// The body of `response`, if it has at most `limit` bytes before and after inflating. Waits for a
/// permit of `large` above [`SMALL`]: the limit on requests in flight alone would let bodies of the
/// largest size fill the memory.
pub(super) async fn read(
    mut response: Response,
    limit: usize,
    large: &Arc<Semaphore>,
) -> Result<Body, BodyError> {
    let coding = Coding::of(response.headers()).map_err(BodyError::Encoding)?;
    let claimed = response.content_length().unwrap_or_default();
    if usize::try_from(claimed).is_ok_and(|claimed| claimed > limit) {
        return Err(BodyError::TooLarge);
    }
    let mut bytes = Vec::new();
    let mut permit = None;
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Interrupted)? {
        if chunk.len() > limit - bytes.len() {
            return Err(BodyError::TooLarge);
        }
        if permit.is_none() && bytes.len() + chunk.len() > SMALL {
            permit = Some(Box::pin(permitted(large)).await);
        }
        bytes.extend_from_slice(&chunk);
    }
    if let Some(coding) = coding.filter(|_| !bytes.is_empty()) {
        if permit.is_none() && limit > SMALL {
            permit = Some(Box::pin(permitted(large)).await);
        }
        bytes = coding.inflate(&bytes, limit)?;
    }
    Ok(Body {
        bytes,
        _permit: permit,
    })
}

/// Callers box it: few bodies are large, and every call would reserve memory for it.
async fn permitted(large: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = Arc::clone(large).acquire_owned().await;
    permit.expect("the semaphore is never closed")
}

/// A content coding (RFC 9110, section 8.4.1). None is requested, but some proxies compress all
/// responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    /// The coding in the headers of a response.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, DecodeError> {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let mut names = names
            .map(|name| name.trim_ascii().to_ascii_lowercase())
            .filter(|name| !matches!(&**name, b"" | b"identity"));
        let coding = match names.next().as_deref() {
            None => return Ok(None),
            Some(b"gzip" | b"x-gzip") => Self::Gzip,
            Some(b"deflate") => Self::Deflate,
            Some(b"br") => return Err(DecodeError::ContentEncoding("Brotli")),
            Some(b"zstd") => return Err(DecodeError::ContentEncoding("Zstandard")),
            Some(_) => return Err(DecodeError::ContentEncoding("an unknown content coding")),
        };
        match names.next() {
            None => Ok(Some(coding)),
            Some(_) => Err(DecodeError::ContentEncoding("more than one content coding")),
        }
    }

    fn inflate(self, body: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
        match self {
            Self::Gzip => {
                let mut inflated = Vec::new();
                let allowed = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
                let mut reader = MultiGzDecoder::new(body).take(allowed);
                let read = reader.read_to_end(&mut inflated);
                match read {
                    _ if inflated.len() > limit => Err(BodyError::TooLarge),
                    Ok(_) => Ok(inflated),
                    Err(_) => Err(BodyError::Encoding(DecodeError::Compression)),
                }
            }
            // Not with flate2, whose reader accepts truncated data.
            Self::Deflate => decompress_to_vec_zlib_with_limit(body, limit)
                .or_else(|error| inflate_raw(error, body, limit))
                .map_err(|error| match error.status {
                    TINFLStatus::HasMoreOutput => BodyError::TooLarge,
                    _ => BodyError::Encoding(DecodeError::Compression),
                }),
        }
    }
}

/// Some servers send deflate without the zlib header that RFC 9110 requires.
fn inflate_raw(
    error: DecompressError,
    body: &[u8],
    limit: usize,
) -> Result<Vec<u8>, DecompressError> {
    match error.status {
        TINFLStatus::HasMoreOutput => Err(error),
        _ => decompress_to_vec_with_limit(body, limit),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::gateway::connections::client_builder;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(data: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    type Compress = fn(&[u8]) -> Vec<u8>;

    /// Every format, with the coding that names it.
    const FORMATS: [(Coding, Compress); 3] = [
        (Coding::Gzip, gzip),
        (Coding::Deflate, zlib),
        (Coding::Deflate, raw),
    ];

    fn named(values: &[&str]) -> Result<Option<Coding>, DecodeError> {
        let values = values.iter().map(|value| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (CONTENT_ENCODING, value)
        });
        Coding::of(&values.collect())
    }

    #[test]
    fn content_coding_is_read_from_the_headers() {
        for (values, coding) in [
            (&[][..], None),
            (&["identity"], None),
            (&["", " , "], None),
            (&["gzip"], Some(Coding::Gzip)),
            (&["X-GZip"], Some(Coding::Gzip)),
            (&["identity, gzip"], Some(Coding::Gzip)),
            (&["identity", " deflate "], Some(Coding::Deflate)),
        ] {
            assert_eq!(named(values).unwrap(), coding, "{values:?}");
        }
        for (values, word) in [
            (&["br"][..], "Brotli"),
            (&["zstd"], "Zstandard"),
            (&["gzip, gzip"], "more than one"),
            (&["gzip", "br"], "more than one"),
            (&["hunter2"], "unknown"),
            (&["\u{fc}"], "unknown"),
        ] {
            let error = named(values).unwrap_err().to_string();
            assert!(
                error.contains(word) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn data_is_inflated_up_to_the_limit() {
        let data = vec![b' '; 10_000_000];
        for (coding, compress) in FORMATS {
            let body = compress(&data);
            assert!(body.len() < 20_000);
            assert_eq!(coding.inflate(&body, data.len()).unwrap(), data);
            for limit in [0, 1, 1_000, data.len() - 1] {
                let inflated = coding.inflate(&body, limit);
                assert!(
                    matches!(inflated, Err(BodyError::TooLarge)),
                    "{coding:?} {limit}"
                );
            }
        }
    }

    /// Reads a body of `length` bytes, compressed if `coding` says so.
    async fn fetch(coding: &str, length: usize, large: &Arc<Semaphore>) -> Body {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let data = vec![b' '; length];
        let data = if coding == "gzip" { gzip(&data) } else { data };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Encoding: {coding}\r\n\r\n",
            data.len()
        );
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&data).await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
        });
        let client = client_builder(Duration::from_secs(60)).tls_certs_only([]);
        let response = client.build().unwrap().get(url).send().await.unwrap();
        read(response, 4 << 20, large).await.unwrap()
    }

    #[tokio::test]
    async fn permits_limit_the_large_bodies_in_memory() {
        for (coding, length) in [
            ("identity", SMALL + 1),
            ("identity", 4 << 20),
            ("gzip", 1_000_000),
        ] {
            let large = Arc::new(Semaphore::new(2));
            let one = fetch(coding, length, &large).await;
            let other = fetch(coding, length, &large).await;
            assert_eq!((one.len(), other.len()), (length, length));
            assert_eq!(large.available_permits(), 0);
            assert_eq!(fetch("identity", SMALL, &large).await.len(), SMALL);
            let third = fetch(coding, length, &large);
            let late = timeout(Duration::from_millis(100), third).await;
            assert!(late.is_err(), "{coding} {length}");
            drop(one);
            fetch(coding, length, &large).await;
            drop(other);
            assert_eq!(large.available_permits(), 2);
        }
    }

    proptest! {
        #[test]
        fn complete_data_is_inflated_and_truncated_data_is_rejected(
            data: Vec<u8>,
            cut: prop::sample::Index,
        ) {
            for (coding, compress) in FORMATS {
                let body = compress(&data);
                prop_assert_eq!(&coding.inflate(&body, data.len()).unwrap(), &data);
                let part = &body[..cut.index(body.len())];
                prop_assert!(part.is_empty() || coding.inflate(part, 1 << 20).is_err());
            }
        }

        #[test]
        fn any_bytes_are_inflated_within_the_limit_or_rejected(body: Vec<u8>, limit in 0..2_000_usize) {
            for coding in [Coding::Gzip, Coding::Deflate] {
                if let Ok(inflated) = coding.inflate(&body, limit) {
                    prop_assert!(inflated.len() <= limit);
                }
            }
        }

        #[test]
        fn several_gzip_members_are_one_body(one: Vec<u8>, other: Vec<u8>) {
            let body = [gzip(&one), gzip(&other)].concat();
            let whole = [one, other].concat();
            prop_assert_eq!(Coding::Gzip.inflate(&body, whole.len()).unwrap(), whole);
        }
    }
}
