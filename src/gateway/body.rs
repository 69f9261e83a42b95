//! The body of an answer, up to a limit.
//!
//! Never reads or inflates more than it was allowed to, whatever length the answer claims, and
//! quotes nothing of what it read: the caller knows whose answer it is.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use miniz_oxide::inflate::{
    DecompressError, TINFLStatus, decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit,
};
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use crate::gateway::error::Misread;

/// Why there is no body.
#[derive(Debug)]
pub(super) enum Unread {
    /// The connection broke off.
    Broken(reqwest::Error),
    /// It is larger than allowed.
    TooLarge,
    /// Its content coding is not supported, or its compressed data is not valid.
    Coded(Misread),
}

/// Everything in the body of `response`, if that is no more than `limit` bytes, compressed or not.
pub(super) async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, Unread> {
    let coding = Coding::of(response.headers()).map_err(Unread::Coded)?;
    let claimed = response.content_length().unwrap_or_default();
    if usize::try_from(claimed).is_ok_and(|claimed| claimed > limit) {
        return Err(Unread::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Unread::Broken)? {
        if chunk.len() > limit - body.len() {
            return Err(Unread::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    match coding {
        Some(coding) if !body.is_empty() => coding.inflate(&body, limit),
        _ => Ok(body),
    }
}

/// A content coding (RFC 9110, section 8.4.1). None is asked for, but some proxies compress
/// whatever passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    /// The coding that an answer names, if it names one.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Misread> {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let mut names = names
            .map(|name| name.trim_ascii().to_ascii_lowercase())
            .filter(|name| !matches!(&**name, b"" | b"identity"));
        let coding = match names.next().as_deref() {
            None => return Ok(None),
            Some(b"gzip" | b"x-gzip") => Self::Gzip,
            Some(b"deflate") => Self::Deflate,
            Some(b"br") => return Err(Misread::Coding("Brotli")),
            Some(b"zstd") => return Err(Misread::Coding("Zstandard")),
            Some(_) => return Err(Misread::Coding("an unknown content coding")),
        };
        match names.next() {
            None => Ok(Some(coding)),
            Some(_) => Err(Misread::Coding("more than one content coding")),
        }
    }

    fn inflate(self, body: &[u8], limit: usize) -> Result<Vec<u8>, Unread> {
        match self {
            Self::Gzip => {
                let mut inflated = Vec::new();
                let allowed = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
                let mut reader = MultiGzDecoder::new(body).take(allowed);
                let read = reader.read_to_end(&mut inflated);
                match read {
                    _ if inflated.len() > limit => Err(Unread::TooLarge),
                    Ok(_) => Ok(inflated),
                    Err(_) => Err(Unread::Coded(Misread::Compressed)),
                }
            }
            // Not with flate2, whose reader takes the end of the input for the end of the data.
            Self::Deflate => decompress_to_vec_zlib_with_limit(body, limit)
                .or_else(|fault| without_wrapper(fault, body, limit))
                .map_err(|fault| match fault.status {
                    TINFLStatus::HasMoreOutput => Unread::TooLarge,
                    _ => Unread::Coded(Misread::Compressed),
                }),
        }
    }
}

/// What some servers call deflate: the data without the zlib header that RFC 9110 asks for.
fn without_wrapper(
    fault: DecompressError,
    body: &[u8],
    limit: usize,
) -> Result<Vec<u8>, DecompressError> {
    match fault.status {
        TINFLStatus::HasMoreOutput => Err(fault),
        _ => decompress_to_vec_with_limit(body, limit),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

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

    /// Every way to compress, and the coding that it goes by.
    const WAYS: [(Coding, fn(&[u8]) -> Vec<u8>); 3] = [
        (Coding::Gzip, gzip),
        (Coding::Deflate, zlib),
        (Coding::Deflate, raw),
    ];

    fn named(values: &[&str]) -> Result<Option<Coding>, Misread> {
        let values = values.iter().map(|value| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (CONTENT_ENCODING, value)
        });
        Coding::of(&values.collect())
    }

    #[test]
    fn codings_are_known_by_their_names() {
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
            let fault = named(values).unwrap_err().to_string();
            assert!(
                fault.contains(word) && !fault.contains("hunter2"),
                "{fault}"
            );
        }
    }

    #[test]
    fn data_inflates_up_to_the_limit_and_no_further() {
        let data = vec![b' '; 10_000_000];
        for (coding, compress) in WAYS {
            let body = compress(&data);
            assert!(body.len() < 20_000);
            assert_eq!(coding.inflate(&body, data.len()).unwrap(), data);
            for limit in [0, 1, 1_000, data.len() - 1] {
                let inflated = coding.inflate(&body, limit);
                assert!(
                    matches!(inflated, Err(Unread::TooLarge)),
                    "{coding:?} {limit}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn any_data_survives_and_no_truncated_data_is_taken_for_whole(
            data: Vec<u8>,
            cut: prop::sample::Index,
        ) {
            for (coding, compress) in WAYS {
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
