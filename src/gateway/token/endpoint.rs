//! One question to a token endpoint.
//!
//! Bounded in time and size; never follows a redirect and never uses a proxy, because the question
//! holds a secret. Not the client of the cluster: the servers here are believed for other reasons.

use std::sync::Arc;
use std::time::Duration;

use reqwest::tls::Version;
use reqwest::{ClientBuilder, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use url::Url;

use super::error::TokenError;
use super::issued::{Issued, Reply};
use super::now;
use super::refusal::Refusal;
use crate::gateway::body::{self, BodyError};
use crate::gateway::connections;
use crate::gateway::deadline::Deadline;
use crate::gateway::decode;

/// Largest answer that is read, in bytes: a token has less than a quarter of it.
const LIMIT: usize = 64 * 1024;

/// Longest wait for a connection, within the time for all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes clients of token endpoints that the system's authorities vouch for.
pub(super) fn client() -> ClientBuilder {
    connections::client_builder(CONNECT_TIMEOUT).tls_version_min(Version::TLS_1_2)
}

/// A question that is ready to be sent to a token endpoint.
pub(super) struct Question<'a> {
    pub(super) address: &'a Url,
    pub(super) request: RequestBuilder,
    /// By what we are known; should the answer quote it, nobody sees it.
    pub(super) secret: Option<&'a SecretString>,
    /// What to do when nobody can be reached, or answers.
    pub(super) advice: &'static str,
}

impl Question<'_> {
    /// Asks, and reads the answer before `deadline`.
    pub(super) async fn ask(self, deadline: Deadline) -> Result<Issued, TokenError> {
        let address = without_query(self.address);
        let (secret, advice) = (self.secret, self.advice);
        let unreachable = |source: reqwest::Error| TokenError::Unreachable {
            address: address.clone(),
            advice,
            source: source.without_url(),
        };
        // No answer within the limit needs a permit.
        let large = Arc::new(Semaphore::new(0));
        let exchange = async {
            let response = self.request.send().await.map_err(unreachable)?;
            let status = response.status().as_u16();
            let body = body::read(response, LIMIT, &large).await;
            let body = body.map_err(|unread| match unread {
                BodyError::Interrupted(error) => unreachable(error),
                BodyError::TooLarge => TokenError::TooLarge {
                    address: address.clone(),
                    limit: LIMIT,
                },
                BodyError::Encoding(fault) => TokenError::Decode {
                    address: address.clone(),
                    fault,
                },
            })?;
            Ok((status, body))
        };
        match timeout_at(deadline.end, exchange).await {
            Ok(answer) => answer.and_then(|(status, body)| read(&address, status, &body, secret)),
            Err(_) => Err(TokenError::Late {
                address: address.clone(),
                timeout: deadline.timeout,
                advice,
            }),
        }
    }
}

fn read(
    address: &str,
    status: u16,
    body: &[u8],
    secret: Option<&SecretString>,
) -> Result<Issued, TokenError> {
    let address = address.to_owned();
    if status != 200 {
        let secret = secret.map(ExposeSecret::expose_secret).unwrap_or_default();
        return Err(match Refusal::read(body, secret) {
            Some(refusal) => TokenError::Refused {
                address,
                status,
                refusal,
            },
            None => TokenError::Unexplained { address, status },
        });
    }
    match decode::document::<Reply>(body) {
        Ok(Some(reply)) => match reply
            .access_token
            .as_deref()
            .filter(|token| !token.is_empty())
        {
            Some(token) => Issued::granted(token, &reply, now()),
            None => Err(TokenError::NoToken { address }),
        },
        Ok(None) => Err(TokenError::NoToken { address }),
        Err(fault) => Err(TokenError::Decode { address, fault }),
    }
}

/// What may be shown of an address: no query, no credentials.
fn without_query(address: &Url) -> String {
    format!(
        "{}{}",
        address.origin().ascii_serialization(),
        address.path()
    )
}
