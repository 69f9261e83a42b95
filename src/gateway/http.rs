//! One HTTP exchange: a GET with a deadline, and a body up to a limit.
//!
//! The only place that knows the HTTP library. Never follows a redirect, never uses a proxy and
//! never reads more than it was allowed to, whatever the length the answer claims.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, AUTHORIZATION, DATE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, redirect};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::gateway::body::{self, Unread};
use crate::gateway::error::{BuildError, Cause};
use crate::gateway::retry::MAX_RETRIES;
use crate::gateway::token::Bearer;

/// Longest wait for a connection, however long a call may take.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest body of a refusal that is read, in bytes: real ones are a line.
const ERROR_LIMIT: usize = 1 << 20;

/// The connections to one cluster.
#[derive(Debug)]
pub(super) struct Transport {
    client: Client,
    connect_timeout: Duration,
}

/// Until when a call may run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) end: Instant,
    /// How long the call may take in all.
    timeout: Duration,
}

impl Deadline {
    /// The deadline of a call that begins now.
    pub(super) fn after(timeout: Duration) -> Self {
        Self {
            end: Instant::now() + timeout,
            timeout,
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Exchange {
    /// HTTP status; `None` when no answer began.
    pub(super) status: Option<u16>,
    /// The `Date` header.
    pub(super) date: Option<DateTime<Utc>>,
    pub(super) body: Result<Vec<u8>, Cause>,
}

impl Transport {
    /// The connect time-out leaves a call of `timeout` time for every endpoint and every retry.
    pub(super) fn new(timeout: Duration, endpoints: usize) -> Result<Self, BuildError> {
        let attempts = u32::try_from(endpoints)
            .unwrap_or(u32::MAX)
            .saturating_add(MAX_RETRIES);
        let connect_timeout = (timeout / attempts.saturating_add(1)).min(MAX_CONNECT_TIMEOUT);
        Ok(Self {
            client: client(connect_timeout).map_err(BuildError::Client)?,
            connect_timeout,
        })
    }

    /// How long an attempt may take to find out that an endpoint is dead.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Gets `url` at `endpoint`, at most `limit` bytes of it and not after `deadline`; with
    /// `bearer`, if there is one.
    pub(super) async fn get(
        &self,
        endpoint: &Url,
        url: Url,
        limit: usize,
        deadline: Deadline,
        bearer: Option<&Bearer>,
    ) -> Exchange {
        let late = || Cause::Deadline {
            endpoint: endpoint.to_string(),
            timeout: deadline.timeout,
        };
        let mut request = self.client.get(url);
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, bearer.header());
        }
        let response = match timeout_at(deadline.end, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Exchange::unanswered(cause(endpoint, error)),
            Err(_) => return Exchange::unanswered(late()),
        };
        let limit = if response.status().is_success() {
            limit
        } else {
            limit.min(ERROR_LIMIT)
        };
        Exchange {
            status: Some(response.status().as_u16()),
            date: date(response.headers()),
            body: timeout_at(deadline.end, read(endpoint, response, limit))
                .await
                .unwrap_or_else(|_| Err(late())),
        }
    }
}

impl Exchange {
    fn unanswered(cause: Cause) -> Self {
        Self {
            status: None,
            date: None,
            body: Err(cause),
        }
    }
}

/// Everything that is the same for all requests to a cluster.
fn client(connect_timeout: Duration) -> Result<Client, reqwest::Error> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    Client::builder()
        .user_agent(concat!(
            "servicefabric-backup-exporter/",
            env!("CARGO_PKG_VERSION")
        ))
        .default_headers(headers)
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(connect_timeout)
        .build()
}

async fn read(endpoint: &Url, response: Response, limit: usize) -> Result<Vec<u8>, Cause> {
    let body = body::read(response, limit).await;
    body.map_err(|unread| match unread {
        Unread::Broken(error) => cause(endpoint, error),
        Unread::TooLarge => Cause::TooManyBytes { limit },
    })
}

fn cause(endpoint: &Url, error: reqwest::Error) -> Cause {
    let endpoint = endpoint.to_string();
    let source = error.without_url();
    if source.is_connect() {
        Cause::Connect { endpoint, source }
    } else {
        Cause::Broken { endpoint, source }
    }
}

fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = headers.get(DATE)?.to_str().ok()?;
    DateTime::parse_from_rfc2822(text)
        .ok()
        .map(|date| date.to_utc())
}
