//! The response body of an encoded text.

use std::convert::Infallible;

use axum::Extension;
use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;

use super::listener::ResponseMemory;
use crate::exposition::{INFLATING, Text};

/// Sends `text`, which is stored compressed, as it is or decompressed on the fly. Reports the
/// memory to the listener.
pub(super) fn text_body(text: &Text, gzip: bool) -> Response {
    let shared = text.gzip();
    if !gzip {
        let length = [(CONTENT_LENGTH, text.plain_length().to_string())];
        let chunks = stream::iter(text.plain().map(Ok::<_, Infallible>));
        let own = INFLATING;
        let memory = Extension(ResponseMemory { shared, own });
        return (length, memory, Body::from_stream(chunks)).into_response();
    }
    let length: usize = shared.iter().map(Bytes::len).sum();
    let headers = [
        (CONTENT_ENCODING, "gzip".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
    ];
    let chunks = stream::iter(shared.clone().into_iter().map(Ok::<_, Infallible>));
    let memory = Extension(ResponseMemory { shared, own: 0 });
    (headers, memory, Body::from_stream(chunks)).into_response()
}
