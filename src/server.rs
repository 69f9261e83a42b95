//! What is served over HTTP: routes and their answers.
//!
//! Reads snapshots and never waits for a cluster: an answer costs memory and CPU, no request to a
//! gateway. The listener below knows connections, the guard who may come in, the modules beside
//! know one page each.

mod api;
pub mod guard;
mod headers;
pub mod listener;
pub mod live;
mod metrics;
mod page;
mod tls;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::exposition::KeptPieces;
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
    /// Answers that may be under way at a time; more are refused with 503.
    pub max_requests: usize,
    /// Where `POST /-/reload` goes; `None` refuses it.
    pub reload_requests: Option<mpsc::Sender<ReloadRequest>>,
}

/// The application and what it keeps between requests.
#[derive(Debug)]
struct Served {
    app: App,
    kept: Mutex<Vec<Arc<KeptPieces>>>,
    free: Arc<Semaphore>,
}

impl Served {
    fn watched(&self) -> Arc<[Watched]> {
        Arc::clone(&self.app.watched.borrow())
    }
}

/// The routes of `app`.
pub fn router(app: App) -> Router {
    let path = app.telemetry_path.clone();
    let free = Arc::new(Semaphore::new(app.max_requests));
    let served = Arc::new(Served {
        app,
        kept: Mutex::default(),
        free,
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

fn too_many() -> Response {
    let text = "Too many requests at a time: see --web.max-requests.\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// A body with which its permit goes: an answer is under way until its last byte is sent.
fn permitted(chunks: Vec<Bytes>, permit: OwnedSemaphorePermit) -> Body {
    let chunks = chunks.into_iter().map(move |chunk| {
        let _under_way = &permit;
        Ok::<_, Infallible>(chunk)
    });
    Body::from_stream(stream::iter(chunks))
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
async fn reload(State(served): State<Arc<Served>>) -> Response {
    let Some(requests) = &served.app.reload_requests else {
        let text = "Reloading over HTTP is not enabled: start with --web.enable-lifecycle.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    };
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
