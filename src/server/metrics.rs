//! `/metrics`: takes what is kept, adds what is fresh, sends it as the scraper asked.
//!
//! Always 200 while the process serves: a cluster that cannot be reached is a value on the page.
//! Scrapes that wait for a page share the next one, and scrapes of the same snapshot its pieces.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use super::app::App;
use super::body::text_body;
use super::shared::Shared;
use crate::clock;
use crate::exposition::negotiation::{Format, accepts_gzip};
use crate::exposition::{ClusterView, KeptPieces, Page};
use crate::telemetry::Process;

/// A page, and the pieces in it that later pages can share.
#[derive(Debug)]
pub(super) struct Encoded {
    pieces: Vec<Arc<KeptPieces>>,
    page: Page,
}

#[derive(Debug)]
pub(super) struct MetricsPage {
    app: Arc<App>,
    encoded: Shared<Encoded>,
}

pub(super) async fn metrics(State(page): State<Arc<MetricsPage>>, headers: HeaderMap) -> Response {
    let format = Format::negotiate(&joined(&headers, &ACCEPT));
    let gzip = accepts_gzip(&joined(&headers, &ACCEPT_ENCODING));
    let encoding = Arc::clone(&page);
    let encode = move |last: Option<&_>| encoding.encode(last, clock::now());
    let Ok(encoded) = page.encoded.next(&page.app.encoding_permits, encode).await else {
        let text = "Encoding the page failed.\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    };
    let headers = [
        (CONTENT_TYPE, format.content_type()),
        (VARY, "Accept, Accept-Encoding"),
    ];
    (headers, text_body(&encoded.page.in_format(format), gzip)).into_response()
}

/// All values of a header as one list; what is no text is left out.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

impl MetricsPage {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self {
            app: Arc::clone(app),
            encoded: Shared::default(),
        }
    }

    fn encode(&self, last: Option<&Encoded>, now: DateTime<Utc>) -> Encoded {
        let web = self.app.web_config.as_ref();
        let process = Arc::new(Process {
            telemetry: Arc::clone(&self.app.telemetry),
            reload: *self.app.reload.borrow(),
            web_certificate_expiry: web.and_then(|web| web.certificate_expiry()),
            shard: self.app.shard,
            resources: metrics_process::collector::collect(),
        });
        let last = last.map_or(&[][..], |last| &last.pieces);
        let watched = self.app.clusters();
        let pieces = watched
            .iter()
            .map(|watched| pieces(watched.view(), last, now));
        let pieces: Vec<_> = pieces.collect();
        let page = Page::assemble(&pieces, &process, now);
        Encoded { pieces, page }
    }
}

/// The pieces of `view`: those of the last page where they still hold.
fn pieces(view: ClusterView, last: &[Arc<KeptPieces>], now: DateTime<Utc>) -> Arc<KeptPieces> {
    let earlier = last.iter().find(|kept| kept.shows(&view));
    match earlier {
        Some(held) if held.still_hold(&view, now) => Arc::clone(held),
        earlier => Arc::new(KeptPieces::encode(view, now, earlier.map(AsRef::as_ref))),
    }
}
