//! `/metrics`: takes what is kept, adds what is fresh, sends it as the scraper asked.
//!
//! Always 200 while the process serves: a cluster that cannot be reached is a value on the page.
//! Encoding runs off the runtime's threads, one page at a time: scrapes that wait for it share the
//! next page, and scrapes of the same snapshot share its pieces.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use tokio::task::{JoinError, spawn_blocking};

use super::{Served, body};
use crate::clock;
use crate::exposition::negotiation::{Format, accepts_gzip};
use crate::exposition::{ClusterView, KeptPieces, Page};
use crate::fleet::Watched;
use crate::telemetry::Process;

/// What is kept between scrapes.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pieces: Vec<Arc<KeptPieces>>,
    /// The last page, and the moment before it was encoded.
    page: Option<(Instant, Arc<Page>)>,
}

pub(super) async fn metrics(State(served): State<Arc<Served>>, headers: HeaderMap) -> Response {
    let format = Format::negotiate(&joined(&headers, &ACCEPT));
    let gzip = accepts_gzip(&joined(&headers, &ACCEPT_ENCODING));
    let Ok(page) = served.page_since(Instant::now()).await else {
        let text = "Encoding the page failed.\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    };
    let headers = [
        (CONTENT_TYPE, format.content_type()),
        (VARY, "Accept, Accept-Encoding"),
    ];
    (headers, body(&page.in_format(format), gzip)).into_response()
}

/// All values of a header as one list; what is no text is left out.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

impl Served {
    /// A page that is encoded after `arrival`.
    async fn page_since(self: Arc<Self>, arrival: Instant) -> Result<Arc<Page>, JoinError> {
        let permit = self.permit().await;
        let mut encoded = Arc::clone(&self.encoded).lock_owned().await;
        if let Some((began, page)) = &encoded.page
            && *began >= arrival
        {
            return Ok(Arc::clone(page));
        }
        let encoding = spawn_blocking(move || {
            let (began, now) = (Instant::now(), clock::now());
            let page = Arc::new(encoded.encode(&self, now));
            encoded.page = Some((began, Arc::clone(&page)));
            drop(permit);
            page
        });
        encoding.await
    }
}

impl Encoded {
    fn encode(&mut self, served: &Served, now: DateTime<Utc>) -> Page {
        let process = Arc::new(Process {
            telemetry: Arc::clone(&served.app.telemetry),
            reload: *served.app.reload.borrow(),
            shard: served.app.shard,
            resources: metrics_process::collector::collect(),
        });
        let views = served.watched().iter().map(Watched::view).collect();
        self.keep(views, now);
        Page::assemble(&self.pieces, &process, now)
    }

    /// Keeps the pieces of each view: those of the last scrape where they still hold.
    fn keep(&mut self, views: Vec<ClusterView>, now: DateTime<Utc>) {
        let pieces = views.into_iter().map(|view| {
            let earlier = self.pieces.iter().find(|kept| kept.shows(&view));
            match earlier {
                Some(held) if held.still_hold(&view, now) => Arc::clone(held),
                earlier => Arc::new(KeptPieces::encode(view, now, earlier.map(AsRef::as_ref))),
            }
        });
        self.pieces = pieces.collect();
    }
}
