//! Stands before the router: rate limit, headers and passwords of the web configuration.
//!
//! Covers every path, known or not. The order is fixed: a configuration that cannot be used is
//! answered 500, a connection that other TLS settings let in 421, then the rate limit holds, then
//! a password is asked for. Nothing of the configuration is in an answer but the headers that it
//! asks for.

mod basic_auth;
mod queue;
mod rate_limit;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use self::basic_auth::{Logins, Verdict};
use self::rate_limit::Bucket;
use super::headers::guess_nothing;
use super::live::{Admission, Current, Live};

/// The share of the connections on which logins may wait for the comparison of their password, as
/// a divisor: the others are left to clients that are known.
const WAITING_SHARE: usize = 4;

/// `router` behind the web configuration, if there is one, and behind what holds without; for at
/// most `connections` at a time.
///
/// # Panics
///
/// When the operating system has no randomness to give.
pub fn guarded(router: Router, live: Option<Arc<Live>>, connections: usize) -> Router {
    let router = match live {
        None => router,
        Some(live) => {
            let guard = Arc::new(Guard::new(live, (connections / WAITING_SHARE).max(1)));
            router.layer(middleware::from_fn_with_state(guard, enter))
        }
    };
    // Outermost, as refusals are answers, too.
    router.layer(middleware::map_response(guess_nothing))
}

struct Guard {
    live: Arc<Live>,
    bucket: Option<Mutex<Bucket>>,
    logins: Arc<Logins>,
}

async fn enter(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let Some(current) = guard.live.current().await else {
        let text = "The web configuration cannot be used; the log says why.\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    };
    let admission = request.extensions().get::<Admission>();
    let is_stale = admission.is_some_and(|admission| admission.ends_with(&current));
    let peer = admission.map_or_else(|| Ipv4Addr::UNSPECIFIED.into(), Admission::peer);
    let credentials = request.headers().get(AUTHORIZATION).cloned();
    let mut response = if is_stale {
        misdirected()
    } else {
        match guard.refuse(&current, credentials, peer).await {
            Some(refusal) => refusal,
            None => next.run(request).await,
        }
    };
    for (name, value) in &current.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// Whoever is still let in finds that out on a new connection. A client can keep one of HTTP/2
/// from closing for a while, so that no request on it may be answered any more.
fn misdirected() -> Response {
    let text = "The TLS settings have changed: connect again.\n";
    // HTTP/2 says it in another way, and hyper removes this.
    let headers = [(CONNECTION, HeaderValue::from_static("close"))];
    (StatusCode::MISDIRECTED_REQUEST, headers, text).into_response()
}

impl Guard {
    fn new(live: Arc<Live>, waiting: usize) -> Self {
        let limit = live.rate_limit();
        Self {
            bucket: limit.map(|limit| Mutex::new(Bucket::full(limit, Instant::now()))),
            logins: Arc::new(Logins::new(waiting)),
            live,
        }
    }

    async fn refuse(
        &self,
        current: &Current,
        credentials: Option<HeaderValue>,
        peer: IpAddr,
    ) -> Option<Response> {
        if !self.takes_token() {
            let text = "Too many requests: see rate_limit of the web configuration.\n";
            return Some((StatusCode::TOO_MANY_REQUESTS, text).into_response());
        }
        let users = &current.users;
        if users.is_empty() {
            return None;
        }
        let judged = self.logins.judge(users, credentials.as_ref(), peer.into());
        match judged.await {
            Verdict::LetIn => None,
            Verdict::Refused => {
                let headers = [(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"))];
                Some((StatusCode::UNAUTHORIZED, headers, "Unauthorized.\n").into_response())
            }
            Verdict::Busy => {
                let headers = [(RETRY_AFTER, HeaderValue::from_static("1"))];
                let text = "Too many passwords wait to be compared.\n";
                Some((StatusCode::TOO_MANY_REQUESTS, headers, text).into_response())
            }
        }
    }

    fn takes_token(&self) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(Instant::now())
        })
    }
}
