//! Middleware that applies the web configuration to every request, on every path.
//!
//! The order is fixed: 500 while the web configuration is invalid, 421 on a connection that other
//! TLS settings accepted, 429 by the rate limit, 401 without a valid password. Responses disclose
//! nothing of the configuration except its headers.

mod basic_auth;
mod login_queue;
mod rate_limit;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use self::basic_auth::{Authenticator, LoginOutcome};
use self::rate_limit::TokenBucket;
use super::connection_info::ConnectionInfo;
use super::headers::nosniff;
use super::web_config::{ActiveWebConfig, ReloadableWebConfig};
use crate::sync::lock;

/// The share of the connections whose logins can wait for a password comparison, as a divisor. The
/// others stay available to authenticated clients.
const WAITING_SHARE: usize = 4;

/// Adds the web configuration, if there is one, and the headers that need none to `router`, which
/// serves at most `connections` at a time.
///
/// # Panics
///
/// If the operating system has no random numbers.
pub fn guarded(
    router: Router,
    web_config: Option<Arc<ReloadableWebConfig>>,
    connections: usize,
) -> Router {
    let router = match web_config {
        None => router,
        Some(web_config) => {
            let guard = Arc::new(Guard::new(web_config, (connections / WAITING_SHARE).max(1)));
            router.layer(middleware::from_fn_with_state(guard, apply))
        }
    };
    // Outermost, so that it covers error responses of the guard as well.
    router.layer(middleware::map_response(nosniff))
}

struct Guard {
    web_config: Arc<ReloadableWebConfig>,
    rate_limit: Option<Mutex<TokenBucket>>,
    authenticator: Arc<Authenticator>,
}

async fn apply(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let Some(config) = guard.web_config.active().await else {
        let text = "The web configuration is invalid; see the log of the exporter.\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    };
    let connection = request.extensions().get::<ConnectionInfo>().cloned();
    let authorization = request.headers().get(AUTHORIZATION).cloned();
    let checked = guard.check(&config, connection, authorization).await;
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(rejection) => rejection.into_response(),
    };
    for (name, value) in &config.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// Why the guard answers a request itself.
enum Rejection {
    TlsSettingsChanged,
    RateLimited,
    Unauthenticated,
    TooManyLogins,
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let header = |name: HeaderName, value| [(name, HeaderValue::from_static(value))];
        match self {
            Self::TlsSettingsChanged => {
                let text = "The TLS settings have changed; open a new connection.\n";
                let close = header(CONNECTION, "close");
                (StatusCode::MISDIRECTED_REQUEST, close, text).into_response()
            }
            Self::RateLimited => {
                let text = "Too many requests; see rate_limit in the web configuration.\n";
                (StatusCode::TOO_MANY_REQUESTS, text).into_response()
            }
            Self::Unauthenticated => {
                let scheme = header(WWW_AUTHENTICATE, "Basic");
                (StatusCode::UNAUTHORIZED, scheme, "Unauthorized.\n").into_response()
            }
            Self::TooManyLogins => {
                let text = "Too many logins are waiting for a password comparison.\n";
                let retry = header(RETRY_AFTER, "1");
                (StatusCode::TOO_MANY_REQUESTS, retry, text).into_response()
            }
        }
    }
}

impl Guard {
    fn new(web_config: Arc<ReloadableWebConfig>, waiting_logins: usize) -> Self {
        let limit = web_config.rate_limit();
        Self {
            rate_limit: limit.map(|limit| Mutex::new(TokenBucket::full(limit, Instant::now()))),
            authenticator: Arc::new(Authenticator::new(waiting_logins)),
            web_config,
        }
    }

    async fn check(
        &self,
        config: &ActiveWebConfig,
        connection: Option<ConnectionInfo>,
        authorization: Option<HeaderValue>,
    ) -> Result<(), Rejection> {
        let unknown = || IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let (peer, accepted_by) = connection.map_or_else(|| (unknown(), None), |c| (c.peer, c.tls));
        // Otherwise a client could keep a connection that it could no longer open.
        if let Some(accepted_by) = accepted_by {
            let current = config.tls.as_ref();
            if current.is_none_or(|current| !Arc::ptr_eq(current, &accepted_by)) {
                return Err(Rejection::TlsSettingsChanged);
            }
        }
        if !self.takes_token() {
            return Err(Rejection::RateLimited);
        }
        if config.users.is_empty() {
            return Ok(());
        }
        let users = &config.users;
        let login = self
            .authenticator
            .authenticate(users, authorization.as_ref(), peer.into());
        match login.await {
            LoginOutcome::Accepted => Ok(()),
            LoginOutcome::Rejected => Err(Rejection::Unauthenticated),
            LoginOutcome::QueueFull => Err(Rejection::TooManyLogins),
        }
    }

    fn takes_token(&self) -> bool {
        self.rate_limit.as_ref().is_none_or(|bucket| {
            let mut bucket = lock(bucket);
            bucket.take(Instant::now())
        })
    }
}
