//! `/metrics`: takes what is kept, adds what is fresh, sends it as the scraper asked.
//!
//! Always 200 while the process serves: a cluster that cannot be reached is a value on the page.
//! Encoding runs off the runtime's threads; scrapes of the same snapshot share its pieces.

use std::sync::{Arc, PoisonError};

use axum::extract::State;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, VARY,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;

use super::{Served, permitted, too_many};
use crate::clock;
use crate::exposition::negotiation::{Format, accepts_gzip};
use crate::exposition::{ClusterView, KeptPieces, Page};
use crate::fleet::Watched;
use crate::telemetry::Process;

pub(super) async fn metrics(State(served): State<Arc<Served>>, headers: HeaderMap) -> Response {
    let Ok(permit) = Arc::clone(&served.free).try_acquire_owned() else {
        return too_many();
    };
    let format = Format::negotiate(&joined(&headers, &ACCEPT));
    let gzip = accepts_gzip(&joined(&headers, &ACCEPT_ENCODING));
    let encoded = tokio::task::spawn_blocking(move || {
        let page = served.page(format, clock::now());
        if gzip {
            page.gzip()
        } else {
            vec![Bytes::from(page.plain())]
        }
    });
    let Ok(chunks) = encoded.await else {
        return (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Encoding the page failed.\n",
        )
            .into_response();
    };
    respond(chunks, format, gzip, permit)
}

/// All values of a header as one list; what is no text is left out.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

fn respond(
    chunks: Vec<Bytes>,
    format: Format,
    gzip: bool,
    permit: OwnedSemaphorePermit,
) -> Response {
    let length: usize = chunks.iter().map(Bytes::len).sum();
    let headers = [
        (CONTENT_TYPE, format.content_type().to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (VARY, "Accept, Accept-Encoding".to_owned()),
    ];
    let mut response = (headers, permitted(chunks, permit)).into_response();
    if gzip {
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_ENCODING,
            axum::http::HeaderValue::from_static("gzip"),
        );
    }
    response
}

impl Served {
    fn page(&self, format: Format, now: DateTime<Utc>) -> Page {
        let web = self.app.web.as_ref();
        let process = Arc::new(Process {
            telemetry: Arc::clone(&self.app.telemetry),
            reload: *self.app.reload.borrow(),
            web_certificate_expiry: web.and_then(|web| web.certificate_expiry()),
            shard: self.app.shard,
            resources: metrics_process::collector::collect(),
        });
        let views = self.watched().iter().map(Watched::view).collect();
        Page::assemble(&self.kept_pieces(views, now), &process, format, now)
    }

    /// The pieces of each view: those kept, or new ones that are kept from now on. Scrapes that
    /// find nothing kept wait for the one that encodes.
    fn kept_pieces(&self, views: Vec<ClusterView>, now: DateTime<Utc>) -> Vec<Arc<KeptPieces>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = views.into_iter().map(|view| {
            let earlier = kept.iter().find(|kept| kept.shows(&view));
            match earlier {
                Some(held) if held.still_hold(&view, now) => Arc::clone(held),
                earlier => Arc::new(KeptPieces::encode(view, now, earlier.map(AsRef::as_ref))),
            }
        });
        *kept = pieces.collect();
        kept.clone()
    }
}
