//! The body of an answer, up to a limit.
//!
//! Never reads more than it was allowed to, whatever length the answer claims, and says nothing of
//! what it read: whose answer it is and what went wrong with it is told by the caller.

use reqwest::Response;

/// Why there is no body.
#[derive(Debug)]
pub(super) enum Unread {
    /// The connection broke off.
    Broken(reqwest::Error),
    /// It is larger than allowed.
    TooLarge,
}

/// Everything in the body of `response`, if that is no more than `limit` bytes.
pub(super) async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, Unread> {
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
    Ok(body)
}
