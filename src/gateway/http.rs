//! One HTTP exchange: a GET with a deadline, and a body up to a limit.
//!
//! Never follows a redirect, never uses a proxy and never reads more than the limit, whatever
//! length the response claims. Tells TLS failures from network failures.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap};
use reqwest::{Method, Response};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::gateway::bearer::Bearer;
use crate::gateway::body::{self, Body, BodyError};
use crate::gateway::build_error::BuildError;
use crate::gateway::connections::ConnectionSettings;
use crate::gateway::deadline::Deadline;
use crate::gateway::failure::Failure;
use crate::gateway::peer::{self, ProtocolError};
use crate::gateway::retry::MAX_RETRIES;
use crate::gateway::rotation::RotatingConnections;
use crate::gateway::tls;
use crate::gateway::wire::CallClass;
use crate::settings::{Auth, Security, Trust};

/// Longest wait for a connection, however long a call may take.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most large bodies in memory at a time: as many as there are backup lists in flight.
const MAX_LARGE_BODIES: usize = 4;

/// Largest body of an error response that is read, in bytes: real ones are a line.
const ERROR_LIMIT: usize = 1 << 20;

/// The connections to one cluster.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) connections: RotatingConnections,
    /// One permit for each large body in memory. Backup lists have their own because they take
    /// minutes.
    large_bodies: Arc<Semaphore>,
    large_lists: Arc<Semaphore>,
}

/// A GET request.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) endpoint: &'a Url,
    pub(super) url: &'a Url,
    pub(super) class: CallClass,
    /// Largest body accepted, in bytes.
    pub(super) limit: usize,
    pub(super) deadline: Deadline,
    pub(super) bearer: Option<&'a Bearer>,
}

/// The outcome of a request.
#[derive(Debug)]
pub(super) struct Exchange {
    /// HTTP status; `None` without a response.
    pub(super) status: Option<u16>,
    /// The `Date` header.
    pub(super) date: Option<DateTime<Utc>>,
    pub(super) body: Result<Body, Failure>,
}

impl Transport {
    /// The connect timeout leaves a call of `timeout` time for every endpoint and every retry.
    pub(super) fn new(
        timeout: Duration,
        endpoints: Vec<Url>,
        security: Security,
    ) -> Result<Self, BuildError> {
        let attempts = u32::try_from(endpoints.len())
            .unwrap_or(u32::MAX)
            .saturating_add(MAX_RETRIES);
        let connect_timeout = (timeout / attempts.saturating_add(1)).min(MAX_CONNECT_TIMEOUT);
        let connections = RotatingConnections::open(ConnectionSettings {
            security,
            endpoints,
            connect_timeout,
        })?;
        Ok(Self {
            connections,
            large_bodies: Arc::new(Semaphore::new(MAX_LARGE_BODIES)),
            large_lists: Arc::new(Semaphore::new(MAX_LARGE_BODIES)),
        })
    }

    pub(super) fn trust(&self) -> &Trust {
        &self.connections.settings().security.trust
    }

    /// Longest time that an attempt takes to find an endpoint unreachable.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connections.settings().connect_timeout
    }

    /// How to fix the credentials after a gateway rejected them with `status`.
    pub(super) fn auth_hint(&self, status: u16) -> String {
        let auth = &self.connections.settings().security.auth;
        self.connections.current().auth_hint(auth, status)
    }

    pub(super) async fn get(&self, request: Request<'_>) -> Exchange {
        let Request {
            endpoint, deadline, ..
        } = request;
        let timeout = || Failure::Timeout {
            endpoint: endpoint.to_string(),
            timeout: deadline.timeout,
        };
        let response = match timeout_at(deadline.end, self.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let failure = self.failure(endpoint, error);
                // Boxed because it is rare and large.
                let failure = Box::pin(with_protocol(failure, endpoint, deadline)).await;
                return Exchange::without_response(failure);
            }
            Err(_) => return Exchange::without_response(timeout()),
        };
        let limit = if response.status().is_success() {
            request.limit
        } else {
            request.limit.min(ERROR_LIMIT)
        };
        let large = match request.class {
            CallClass::Normal => &self.large_bodies,
            CallClass::StorageScan => &self.large_lists,
        };
        Exchange {
            status: Some(response.status().as_u16()),
            date: date(response.headers()),
            body: timeout_at(deadline.end, read(endpoint, response, limit, large))
                .await
                .unwrap_or_else(|_| Err(timeout())),
        }
    }

    /// Sends a request on a pooled connection, and again on a new one if that one is dead or silent
    /// for half of the time left. A request for a backup list must not be sent twice, so it always
    /// uses a new connection.
    async fn send(&self, request: Request<'_>) -> Result<Response, reqwest::Error> {
        let mut get = reqwest::Request::new(Method::GET, self.with_server_name(request.url));
        if let Some(bearer) = request.bearer {
            get.headers_mut().insert(AUTHORIZATION, bearer.header());
        }
        let connections = self.connections.current();
        let clients = connections.clients(request.endpoint);
        if request.class == CallClass::StorageScan {
            return clients.unpooled.execute(get).await;
        }
        let sent = clients.send(get, request.deadline.remaining() / 2).await;
        if sent.found_dead {
            let now = Instant::now();
            self.connections.replace_dead(&connections, now).await;
        }
        sent.response
    }

    /// `url` with the configured name of the certificate as its host.
    fn with_server_name(&self, url: &Url) -> Url {
        let mut url = url.clone();
        if let Some(name) = tls::server_name(&self.connections.settings().security) {
            url.set_host(Some(name.as_str()))
                .expect("an https URL takes any host name");
        }
        url
    }

    /// The failure of a request without a response.
    fn failure(&self, endpoint: &Url, error: reqwest::Error) -> Failure {
        let (endpoint, source) = (endpoint.to_string(), error.without_url());
        let auth = &self.connections.settings().security.auth;
        let has_certificate = matches!(auth, Auth::ClientCertificate(_));
        if let Some(diagnosis) = tls::diagnose(&source, has_certificate) {
            return Failure::Tls {
                endpoint,
                diagnosis,
                source,
            };
        }
        if source.is_connect() {
            return Failure::Connect { endpoint, source };
        }
        match peer::protocol_error(&source) {
            Some(error) => Failure::Protocol {
                endpoint,
                error,
                source,
            },
            None => Failure::Closed { endpoint, source },
        }
    }
}

/// `failure` with the protocol of the other side, where the response is not HTTP. The HTTP client
/// does not expose the bytes, so a second connection reads them.
async fn with_protocol(failure: Failure, url: &Url, deadline: Deadline) -> Failure {
    let (endpoint, error, source) = match failure {
        Failure::Protocol {
            endpoint,
            error: ProtocolError::Malformed,
            source,
        } => (endpoint, Some(ProtocolError::Malformed), source),
        Failure::Closed { endpoint, source } if peer::spoke_first(&source) => {
            (endpoint, None, source)
        }
        failure => return failure,
    };
    let probed = match url.scheme() {
        "http" => peer::probe(url, deadline.end).await,
        _ => None,
    };
    match probed.or(error) {
        Some(error) => Failure::Protocol {
            endpoint,
            error,
            source,
        },
        None => Failure::Closed { endpoint, source },
    }
}

/// The body of a response. A TLS failure at this point is no question of trust any more: the
/// handshake succeeded, and the request was answered.
async fn read(
    endpoint: &Url,
    response: Response,
    limit: usize,
    large: &Arc<Semaphore>,
) -> Result<Body, Failure> {
    let body = body::read(response, limit, large).await;
    body.map_err(|error| match error {
        BodyError::Interrupted(error) => Failure::Closed {
            endpoint: endpoint.to_string(),
            source: error.without_url(),
        },
        BodyError::TooLarge => Failure::BodyTooLarge { limit },
        BodyError::Encoding(error) => Failure::decode(error, endpoint),
    })
}

impl Exchange {
    fn without_response(failure: Failure) -> Self {
        Self {
            status: None,
            date: None,
            body: Err(failure),
        }
    }
}

fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = headers.get(DATE)?.to_str().ok()?;
    DateTime::parse_from_rfc2822(text)
        .ok()
        .map(|date| date.to_utc())
}
