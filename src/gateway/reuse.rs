//! Sends a request on a pooled connection, and again on a new one if that one is dead.
//!
//! Load balancers and http.sys may drop an idle connection silently; the next request on it fails
//! or is never answered. Every request is a GET, so sending it twice is harmless. A new connection
//! that fails is not handled here.

use std::error::Error as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, select};
use hyper::http::Extensions;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpInfo};
use reqwest::{Client, Request, Response};
use tokio::time::{Instant, timeout};
use tower_layer::Layer;
use tower_service::Service;

/// The clients of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// Keeps connections for later requests. Built with [`TrackConnect`].
    pub(super) pooled: Client,
    /// Opens a connection for every request.
    pub(super) unpooled: Client,
}

/// The outcome of a request.
#[derive(Debug)]
pub(super) struct SendOutcome {
    pub(super) response: Result<Response, reqwest::Error>,
    /// Whether a connection of the pool was found dead.
    pub(super) found_dead: bool,
}

impl Clients {
    /// Sends `request` on a pooled connection if there is one, and again on a new connection if the
    /// pooled one closes before the response begins. If the pooled one is silent for `patience`, the
    /// request is sent on both, and the first response counts, because the gateway may just be slow.
    pub(super) async fn send(&self, request: Request, patience: Duration) -> SendOutcome {
        let again = request.try_clone().expect("a GET has no body to stream");
        let tracker = Arc::new(ConnectTracker::default());
        let first = TRACKER.scope(Arc::clone(&tracker), self.pooled.execute(request));
        let mut first = Box::pin(first);
        let resent = Instant::now() + patience;
        let (response, found_dead) = match timeout(patience, &mut first).await {
            Ok(Err(error)) if !tracker.caused(&error) => (self.unpooled.execute(again).await, true),
            Ok(response) => (response, false),
            Err(_) if tracker.started() => (first.await, false),
            Err(_) => match select(first, Box::pin(self.unpooled.execute(again))).await {
                Either::Left((Err(_), second)) => (second.await, true),
                Either::Left((response, _)) => (response, false),
                Either::Right((Err(_), first)) => (first.await, false),
                // A slow gateway is slow on a new connection, too.
                Either::Right((response, _)) => (response, resent.elapsed() < patience / 2),
            },
        };
        SendOutcome {
            response,
            found_dead,
        }
    }
}

tokio::task_local! {
    static TRACKER: Arc<ConnectTracker>;
}

/// The connection that a request opens when the pool has none. The request uses another one if that
/// becomes idle first.
#[derive(Debug, Default)]
struct ConnectTracker {
    started: AtomicBool,
    /// Identifies the connection, once it is established.
    local_address: OnceLock<SocketAddr>,
}

impl ConnectTracker {
    fn started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// Whether the request failed on this connection, or in establishing it.
    fn caused(&self, error: &reqwest::Error) -> bool {
        let links = std::iter::successors(error.source(), |link| (*link).source());
        let used = links
            .filter_map(|link| link.downcast_ref::<legacy::Error>()?.connect_info())
            .find_map(local_address);
        self.started() && used.is_none_or(|used| self.local_address.get() == Some(&used))
    }
}

fn local_address(connected: &Connected) -> Option<SocketAddr> {
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    extras.get().map(HttpInfo::local_addr)
}

/// Makes connectors record in [`TRACKER`] which connection they open.
#[derive(Clone, Debug)]
pub(super) struct TrackConnect;

impl<S> Layer<S> for TrackConnect {
    type Service = TrackedConnector<S>;

    fn layer(&self, connector: S) -> TrackedConnector<S> {
        TrackedConnector(connector)
    }
}

#[derive(Clone, Debug)]
pub(super) struct TrackedConnector<S>(S);

impl<S, Target> Service<Target> for TrackedConnector<S>
where
    S: Service<Target>,
    S::Response: Connection,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        // The connection may be completed in another task, for a later request.
        let tracker = TRACKER.try_with(Arc::clone).ok();
        if let Some(tracker) = &tracker {
            tracker.started.store(true, Ordering::Relaxed);
        }
        let connecting = self.0.call(target);
        Box::pin(async move {
            let connection = connecting.await?;
            if let (Some(tracker), Some(address)) =
                (tracker, local_address(&connection.connected()))
            {
                tracker.local_address.get_or_init(|| address);
            }
            Ok(connection)
        })
    }
}
