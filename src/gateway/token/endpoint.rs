//! A request to a token endpoint.
//!
//! Bounded in time and size. Follows no redirects and uses no proxy, because the request contains a
//! secret. Separate from the client of the cluster, because the servers are trusted for other
//! reasons.

use std::sync::Arc;
use std::time::Duration;

use reqwest::tls::Version;
use reqwest::{ClientBuilder, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use url::Url;

use super::access_token::{AccessToken, TokenResponse};
use super::error::TokenError;
use super::error_response::ErrorResponse;
use super::now::Now;
use crate::gateway::body::{self, BodyError};
use crate::gateway::connections;
use crate::gateway::deadline::Deadline;
use crate::gateway::decode;

/// Largest response, in bytes; a token is less than a quarter of it.
const LIMIT: usize = 64 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The client for endpoints that the authorities of the system verify.
pub(super) fn client() -> ClientBuilder {
    connections::client_builder(CONNECT_TIMEOUT).tls_version_min(Version::TLS_1_2)
}

pub(super) struct TokenRequest<'a> {
    pub(super) address: &'a Url,
    pub(super) request: RequestBuilder,
    /// The secret in the request, which is masked if an error response quotes it.
    pub(super) secret: Option<&'a SecretString>,
    /// What to check if the endpoint does not respond.
    pub(super) hint: &'static str,
}

impl TokenRequest<'_> {
    pub(super) async fn send(self, deadline: Deadline) -> Result<AccessToken, TokenError> {
        let address = without_query(self.address);
        let (secret, hint) = (self.secret, self.hint);
        let unreachable = |source: reqwest::Error| TokenError::Unreachable {
            address: address.clone(),
            hint,
            source: source.without_url(),
        };
        // No response within the limit needs a permit for large bodies.
        let permits = Arc::new(Semaphore::new(0));
        let exchange = async {
            let response = self.request.send().await.map_err(unreachable)?;
            let status = response.status().as_u16();
            let body = body::read(response, LIMIT, &permits).await;
            let body = body.map_err(|error| match error {
                BodyError::Interrupted(error) => unreachable(error),
                BodyError::TooLarge => TokenError::TooLarge {
                    address: address.clone(),
                    limit: LIMIT,
                },
                BodyError::Encoding(error) => TokenError::Decode {
                    address: address.clone(),
                    error,
                },
            })?;
            Ok((status, body))
        };
        match timeout_at(deadline.end, exchange).await {
            Ok(response) => {
                response.and_then(|(status, body)| parse(address, status, &body, secret))
            }
            Err(_) => Err(TokenError::Timeout {
                address,
                timeout: deadline.timeout,
                hint,
            }),
        }
    }
}

fn parse(
    address: String,
    status: u16,
    body: &[u8],
    secret: Option<&SecretString>,
) -> Result<AccessToken, TokenError> {
    if status != 200 {
        let secret = secret.map(ExposeSecret::expose_secret).unwrap_or_default();
        return Err(match ErrorResponse::parse(body, secret) {
            Some(response) => TokenError::Rejected {
                address,
                status,
                response,
            },
            None => TokenError::InvalidError { address, status },
        });
    }
    match decode::document::<TokenResponse>(body) {
        Ok(Some(response)) => match response.access_token.as_deref() {
            Some(token) if !token.is_empty() => {
                AccessToken::from_response(token, &response, Now::read())
            }
            _ => Err(TokenError::NoToken { address }),
        },
        Ok(None) => Err(TokenError::NoToken { address }),
        Err(error) => Err(TokenError::Decode { address, error }),
    }
}

fn without_query(address: &Url) -> String {
    format!(
        "{}{}",
        address.origin().ascii_serialization(),
        address.path()
    )
}
