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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_that_is_invalid_in_a_header_is_rejected() {
        assert!(Bearer::new(&"x".repeat(MAX_TOKEN)).is_ok());
        for token in ["", "a b", "a\r\nHost: b", "ü", "a\0"] {
            assert!(matches!(
                Bearer::new(token),
                Err(BearerError::InvalidCharacter)
            ));
        }
        let long = Bearer::new(&"x".repeat(MAX_TOKEN + 1));
        assert!(matches!(long, Err(BearerError::TooLong)));
    }

    #[test]
    fn bearer_is_hidden_in_debug_output() {
        let bearer = Bearer::new("hunter2").unwrap();
        assert_eq!(bearer.header(), "Bearer hunter2");
        assert!(!format!("{bearer:?} {:?}", bearer.header()).contains("hunter2"));
    }
}
