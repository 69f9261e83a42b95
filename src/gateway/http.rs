//! One HTTP exchange: a GET with a deadline, and a body up to a limit.
//!
//! Never follows a redirect, never uses a proxy and never reads more than it was allowed to,
//! whatever the length the answer claims. Tells a failure of TLS from one of the network.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap};
use reqwest::{Method, Request, Response};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::gateway::bearer::Bearer;
use crate::gateway::body::{self, Body, Unread};
use crate::gateway::connections::Plan;
use crate::gateway::deadline::Deadline;
use crate::gateway::error::{BuildError, Cause};
use crate::gateway::peer::{self, HttpFault};
use crate::gateway::query::Pace;
use crate::gateway::retry::MAX_RETRIES;
use crate::gateway::rotation::Rotating;
use crate::gateway::security::{Auth, Security, Trust};
use crate::gateway::tls;

/// Longest wait for a connection, however long a call may take.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most large bodies in memory at a time: as many as there are lists of backups in flight.
const MAX_LARGE_BODIES: usize = 4;

/// Largest body of a refusal that is read, in bytes: real ones are a line.
const ERROR_LIMIT: usize = 1 << 20;

/// The connections to one cluster.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) lines: Rotating,
    /// One permit for each large body that may be in memory. Lists of backups have their own: they
    /// take minutes.
    large_bodies: Arc<Semaphore>,
    large_lists: Arc<Semaphore>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Exchange {
    /// HTTP status; `None` when no answer began.
    pub(super) status: Option<u16>,
    /// The `Date` header.
    pub(super) date: Option<DateTime<Utc>>,
    pub(super) body: Result<Body, Cause>,
}

impl Transport {
    /// The connect time-out leaves a call of `timeout` time for every endpoint and every retry.
    pub(super) fn new(
        timeout: Duration,
        endpoints: Vec<Url>,
        security: Security,
    ) -> Result<Self, BuildError> {
        let attempts = u32::try_from(endpoints.len())
            .unwrap_or(u32::MAX)
            .saturating_add(MAX_RETRIES);
        let connect_timeout = (timeout / attempts.saturating_add(1)).min(MAX_CONNECT_TIMEOUT);
        let lines = Rotating::start(Plan {
            security,
            endpoints,
            connect_timeout,
        })?;
        Ok(Self {
            lines,
            large_bodies: Arc::new(Semaphore::new(MAX_LARGE_BODIES)),
            large_lists: Arc::new(Semaphore::new(MAX_LARGE_BODIES)),
        })
    }

    /// Which servers are believed.
    pub(super) fn trust(&self) -> &Trust {
        &self.lines.plan().security.trust
    }

    /// How long an attempt may take to find out that an endpoint is dead.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.lines.plan().connect_timeout
    }

    /// What to do when a gateway does not know who asks.
    pub(super) fn advice_of_the_locked_out(&self, status: u16) -> String {
        let auth = &self.lines.plan().security.auth;
        self.lines.in_use().advice_of_the_locked_out(auth, status)
    }

    /// Gets `url` at `endpoint`, at most `limit` bytes of it and not after `deadline`; with
    /// `bearer`, if there is one.
    pub(super) async fn get(
        &self,
        endpoint: &Url,
        url: Url,
        pace: Pace,
        limit: usize,
        deadline: Deadline,
        bearer: Option<&Bearer>,
    ) -> Exchange {
        let late = || Cause::Deadline {
            endpoint: endpoint.to_string(),
            timeout: deadline.timeout,
        };
        let mut request = Request::new(Method::GET, self.named(url));
        if let Some(bearer) = bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.header());
        }
        let sending = self.send(endpoint, request, pace, deadline);
        let response = match timeout_at(deadline.end, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let cause = self.cause(endpoint, error);
                // Rare, and large: not every call should carry the room for it.
                let cause = Box::pin(identified(cause, endpoint, deadline)).await;
                return Exchange::unanswered(cause);
            }
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
            body: timeout_at(
                deadline.end,
                read(endpoint, response, limit, self.large(pace)),
            )
            .await
            .unwrap_or_else(|_| Err(late())),
        }
    }

    fn large(&self, pace: Pace) -> &Arc<Semaphore> {
        match pace {
            Pace::Prompt => &self.large_bodies,
            Pace::Storage => &self.large_lists,
        }
    }

    /// Sends `request` on a pooled connection, and again on a new one if that one is dead or silent
    /// for half of the time. A list of backups must not be sent twice, so it is sent on a new
    /// connection at once.
    async fn send(
        &self,
        endpoint: &Url,
        request: Request,
        pace: Pace,
        deadline: Deadline,
    ) -> Result<Response, reqwest::Error> {
        let connections = self.lines.in_use();
        let clients = connections.clients(endpoint);
        if pace == Pace::Storage {
            return clients.unpooled.execute(request).await;
        }
        let sent = clients.send(request, deadline.remaining() / 2).await;
        if sent.found_dead {
            self.lines.renew_dead(&connections, Instant::now()).await;
        }
        sent.response
    }

    /// `url` with the name that the certificate must carry as its host, if there is one.
    fn named(&self, mut url: Url) -> Url {
        if let Some(name) = tls::server_name(&self.lines.plan().security) {
            url.set_host(Some(name.as_str()))
                .expect("an https URL takes any host name");
        }
        url
    }

    /// Why no answer began.
    fn cause(&self, url: &Url, error: reqwest::Error) -> Cause {
        let (endpoint, source) = (url.to_string(), error.without_url());
        let identified = matches!(self.lines.plan().security.auth, Auth::ClientCertificate(_));
        match tls::diagnose(&source, identified) {
            Some(diagnosis) => Cause::Tls {
                endpoint,
                diagnosis,
                source,
            },
            None if source.is_connect() => Cause::Connect { endpoint, source },
            None => match peer::http_fault(&source) {
                Some(fault) => Cause::NoHttp {
                    endpoint,
                    fault,
                    source,
                },
                None => Cause::Broken { endpoint, source },
            },
        }
    }
}

/// `cause`, and which protocol the other side speaks, where the answer could not be parsed as HTTP.
/// The HTTP client does not show the bytes, so they are read once more.
async fn identified(cause: Cause, endpoint: &Url, deadline: Deadline) -> Cause {
    let (address, fault, source) = match cause {
        Cause::NoHttp {
            endpoint,
            fault: HttpFault::Malformed,
            source,
        } => (endpoint, Some(HttpFault::Malformed), source),
        Cause::Broken { endpoint, source } if peer::spoke_first(&source) => {
            (endpoint, None, source)
        }
        cause => return cause,
    };
    let probed = if endpoint.scheme() == "http" {
        peer::probe(endpoint, deadline.end).await
    } else {
        None
    };
    match probed.or(fault) {
        Some(fault) => Cause::NoHttp {
            endpoint: address,
            fault,
            source,
        },
        None => Cause::Broken {
            endpoint: address,
            source,
        },
    }
}

/// The body of an answer. A failure of TLS in the middle of one is no matter of trust any more: both
/// sides had agreed, and the request was answered.
async fn read(
    endpoint: &Url,
    response: Response,
    limit: usize,
    large: &Arc<Semaphore>,
) -> Result<Body, Cause> {
    let body = body::read(response, limit, large).await;
    body.map_err(|unread| match unread {
        Unread::Broken(error) => Cause::Broken {
            endpoint: endpoint.to_string(),
            source: error.without_url(),
        },
        Unread::TooLarge => Cause::TooManyBytes { limit },
        Unread::Coded(misread) => misread.into(),
    })
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

fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = headers.get(DATE)?.to_str().ok()?;
    DateTime::parse_from_rfc2822(text)
        .ok()
        .map(|date| date.to_utc())
}
