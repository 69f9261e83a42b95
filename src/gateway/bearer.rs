//! A bearer token in the form of an `Authorization` header.

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

/// Largest token accepted, in bytes: http.sys accepts no longer header field.
pub(super) const MAX_TOKEN: usize = 16 * 1024;

/// A bearer token that is valid in a header.
#[derive(Clone, Debug)]
pub(super) struct Bearer(SecretString);

/// A token that cannot be sent in a header.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum BearerError {
    #[error("the token is larger than {MAX_TOKEN} bytes, which no gateway accepts")]
    TooLong,
    #[error("the token has characters that are not allowed in an HTTP header")]
    InvalidCharacter,
}

impl Bearer {
    pub(super) fn new(token: &str) -> Result<Self, BearerError> {
        if token.len() > MAX_TOKEN {
            return Err(BearerError::TooLong);
        }
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BearerError::InvalidCharacter);
        }
        Ok(Self(format!("Bearer {token}").into()))
    }

    /// The value of the header `Authorization`, marked as sensitive.
    pub(super) fn header(&self) -> HeaderValue {
        let header = HeaderValue::from_str(self.0.expose_secret());
        let mut header = header.expect("a token consists of visible ASCII characters");
        header.set_sensitive(true);
        header
    }
}

impl PartialEq for Bearer {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}
