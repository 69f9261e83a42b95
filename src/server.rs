//! What is served over HTTP: routes and their answers.
//!
//! Reads snapshots and never waits for a cluster: an answer costs memory and CPU, no request to a
//! gateway. The listener below knows connections, the guard who may come in, the modules beside
//! know one page each.

mod api;
mod cross_site;
pub mod guard;
mod headers;
pub mod listener;
pub mod live;
mod metrics;
mod network;
mod page;
mod shared;
mod tls;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::listener::Held;
use self::shared::Shared;
use crate::exposition::{INFLATING, Text};
use crate::fleet::Watched;
use crate::inventory::Shard;
use crate::server::live::Live;
use crate::telemetry::{Reload, Telemetry};

/// A request to read the configuration again; the answer says what was wrong with it.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// What the routes need.
#[derive(Debug)]
pub struct App {
    /// The clusters, as they are replaced.
    pub watched: watch::Receiver<Arc<[Watched]>>,
    /// The exporter's own counters.
    pub telemetry: Arc<Telemetry>,
    /// The last reading of the configuration.
    pub reload: watch::Receiver<Reload>,
    /// The web configuration, if there is one.
    pub web: Option<Arc<Live>>,
    /// The part of the partitions that this process watches.
    pub shard: Shard,
    /// Where metrics are served, for instance `/metrics`.
    pub telemetry_path: String,
    /// A sentence on the landing page about what is watched.
    pub notice: Option<&'static str>,
    /// Pages that may be encoded at a time; further requests wait.
    pub max_requests: usize,
    /// Where `POST /-/reload` goes; `None` refuses it.
    pub reload_requests: Option<mpsc::Sender<ReloadRequest>>,
}

/// The application and what it keeps between requests.
#[derive(Debug)]
struct Served {
    app: App,
    /// A slow client holds none: sending needs no permit.
    permits: Arc<Semaphore>,
    metrics: Shared<metrics::Encoded>,
    partitions: Shared<Result<Text, serde_json::Error>>,
    landing: Shared<String>,
}

impl Served {
    fn watched(&self) -> Arc<[Watched]> {
        Arc::clone(&self.app.watched.borrow())
    }
}

/// The routes of `app`.
pub fn router(app: App) -> Router {
    let path = app.telemetry_path.clone();
    let permits = Arc::new(Semaphore::new(app.max_requests));
    let served = Arc::new(Served {
        app,
        permits,
        metrics: Shared::default(),
        partitions: Shared::default(),
        landing: Shared::default(),
    });
    let router = Router::new()
        .route(&path, get(metrics::metrics))
        .route("/api/v1/partitions", get(api::partitions))
        .route("/api/v1/partitions/{id}", get(api::partition))
        .route("/-/healthy", get(|| async { "Healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload).put(reload));
    // Whoever serves metrics at the root has no landing page.
    let router = match &*path {
        "/" => router,
        _ => router.route("/", get(page::landing)),
    };
    router.with_state(served)
}

/// `text` as a response body, compressed or inflated while it is sent, with the headers and the
/// memory that it takes.
fn body(text: &Text, gzip: bool) -> Response {
    let shared = text.gzip();
    if !gzip {
        let length = [(CONTENT_LENGTH, text.plain_length().to_string())];
        let portions = stream::iter(text.plain().map(Ok::<_, Infallible>));
        let held = Held {
            shared,
            own: INFLATING,
        };
        return (length, Extension(held), Body::from_stream(portions)).into_response();
    }
    let length: usize = shared.iter().map(Bytes::len).sum();
    let headers = [
        (CONTENT_ENCODING, "gzip".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
    ];
    let chunks = stream::iter(shared.clone().into_iter().map(Ok::<_, Infallible>));
    let held = Held { shared, own: 0 };
    (headers, Extension(held), Body::from_stream(chunks)).into_response()
}

/// 200 once every cluster has been through a cycle, well or not.
async fn ready(State(served): State<Arc<Served>>) -> Response {
    let watched = served.watched();
    let snapshots = watched.iter().map(Watched::snapshot);
    let waiting: Vec<_> = snapshots
        .filter(|snapshot| !snapshot.is_ready())
        .map(|snapshot| snapshot.cluster.to_string())
        .collect();
    if waiting.is_empty() {
        return "Ready.\n".into_response();
    }
    let text = format!(
        "Not ready: the first cycle of {} has not ended.\n",
        waiting.join(", ")
    );
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// Reads the configuration again; 500 with every fault when it cannot be used.
async fn reload(State(served): State<Arc<Served>>, request: Request) -> Response {
    let Some(requests) = &served.app.reload_requests else {
        let text = "Reloading over HTTP is not enabled: start with --web.enable-lifecycle.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    };
    if cross_site::is_cross_site(&request) {
        let text = "A page of another site sent this request: reload from the exporter's own origin, \
                    or with a client that is not a browser.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let (answer, answered) = oneshot::channel();
    if requests.send(answer).await.is_err() {
        return stopping();
    }
    match answered.await {
        Ok(Ok(())) => "Reloaded.\n".into_response(),
        Ok(Err(faults)) => (StatusCode::INTERNAL_SERVER_ERROR, faults + "\n").into_response(),
        Err(_) => stopping(),
    }
}

fn stopping() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "The exporter is stopping.\n",
    )
        .into_response()
}
