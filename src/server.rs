//! The exporter's own HTTP server: routes and responses.
//!
//! Handlers read snapshots and never send requests to a gateway. The [`listener`] handles
//! connections, the [`guard`] authorizes requests, and each page has a module of its own.

mod api;
mod app;
mod body;
mod connection_info;
mod cross_site;
pub mod guard;
mod headers;
mod landing_page;
pub mod listener;
mod metrics;
mod network;
mod shared;
mod tls;
pub mod web_config;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::oneshot;

use self::api::Api;
pub(crate) use self::app::{App, ReloadRequest};
use self::landing_page::LandingPage;
use self::metrics::MetricsPage;
use crate::fleet::Watched;

pub(crate) fn router(app: App) -> Router {
    let app = Arc::new(app);
    let metrics = get(metrics::metrics).with_state(Arc::new(MetricsPage::new(&app)));
    let api = Arc::new(Api::new(&app));
    let router = Router::new()
        .route(&app.telemetry_path, metrics)
        .route(
            "/api/v1/partitions",
            get(api::list).with_state(Arc::clone(&api)),
        )
        .route(
            "/api/v1/partitions/{id}",
            get(api::partition).with_state(api),
        )
        .route("/-/healthy", get(|| async { "Healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload).put(reload));
    // With the metrics at the root, there is no landing page.
    let router = if app.telemetry_path == "/" {
        router
    } else {
        let page = Arc::new(LandingPage::new(&app));
        router.route("/", get(landing_page::landing_page).with_state(page))
    };
    router.with_state(app)
}

/// 200 after the first cycle of every cluster, successful or not.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let clusters = app.clusters();
    let snapshots = clusters.iter().map(Watched::snapshot);
    let waiting: Vec<_> = snapshots
        .filter(|snapshot| !snapshot.is_ready())
        .map(|snapshot| snapshot.cluster.to_string())
        .collect();
    if waiting.is_empty() {
        return "Ready.\n".into_response();
    }
    let text = format!(
        "Not ready: waiting for the first cycle of {}.\n",
        waiting.join(", ")
    );
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// Reloads the configuration; 500 with all errors if it is invalid.
async fn reload(State(app): State<Arc<App>>, request: Request) -> Response {
    let Some(requests) = &app.reload_requests else {
        let text = "Reloading over HTTP is disabled; start with --web.enable-lifecycle.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    };
    if cross_site::is_cross_site(&request) {
        let text = "Cross-site request rejected; reload from the origin of the exporter, or with a \
                    client that is not a browser.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let (reply, result) = oneshot::channel();
    if requests.send(reply).await.is_err() {
        return stopping();
    }
    match result.await {
        Ok(Ok(())) => "Reloaded.\n".into_response(),
        Ok(Err(errors)) => (StatusCode::INTERNAL_SERVER_ERROR, errors + "\n").into_response(),
        Err(_) => stopping(),
    }
}

fn stopping() -> Response {
    let text = "The exporter is shutting down.\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
