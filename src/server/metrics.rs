//! `/metrics`: joins the encoded clusters with the samples that depend on the time of the scrape.
//!
//! 200 unless encoding failed or is late: an unreachable cluster is a value on the page. Scrapes
//! that wait share the next page.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use super::app::{App, NotEncoded};
use super::body::text_body;
use super::shared::Shared;
use crate::clock;
use crate::exposition::Page;
use crate::exposition::negotiation::{Format, accepts_gzip};
use crate::telemetry::Process;

#[derive(Debug)]
pub(super) struct MetricsPage {
    app: Arc<App>,
    page: Shared<Result<Page, NotEncoded>>,
}

pub(super) async fn metrics(
    State(metrics): State<Arc<MetricsPage>>,
    headers: HeaderMap,
) -> Response {
    let format = Format::negotiate(&joined(&headers, &ACCEPT));
    let gzip = accepts_gzip(&joined(&headers, &ACCEPT_ENCODING));
    let assembling = Arc::clone(&metrics);
    let assemble = move || assembling.assemble(clock::now());
    let page = metrics.page.next(&metrics.app.encoding_permits, assemble);
    let Ok(page) = page.await else {
        return failed("Encoding the page failed.");
    };
    match &*page {
        Ok(page) => {
            let headers = [
                (CONTENT_TYPE, format.content_type()),
                (VARY, "Accept, Accept-Encoding"),
            ];
            (headers, text_body(&page.in_format(format), gzip)).into_response()
        }
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(text: &str) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{text}\n")).into_response()
}

/// All values of a header as one list, without those that are not text.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

impl MetricsPage {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self {
            app: Arc::clone(app),
            page: Shared::default(),
        }
    }

    fn assemble(&self, now: DateTime<Utc>) -> Result<Page, NotEncoded> {
        let clusters = self.app.encoded(now)?;
        let web_config = self.app.web_config.as_ref();
        let process = Arc::new(Process {
            telemetry: Arc::clone(&self.app.telemetry),
            reload: *self.app.reload.borrow(),
            web_certificate_expiry: web_config.and_then(|it| it.certificate_expiry()),
            shard: self.app.shard,
            resources: metrics_process::collector::collect(),
        });
        Ok(Page::assemble(&clusters, &process, now))
    }
}
