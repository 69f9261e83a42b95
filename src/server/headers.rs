//! Headers by which browsers protect whoever looks at a page.
//!
//! They stand on every answer that needs them, with and without a web configuration, whose
//! headers replace them. Nothing here depends on what is on a page, but for its style.

use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::response::Response;

/// For pages: nothing but their own style and links. The hash is that of the style in `page`. Who
/// may frame a page is said once, so that the web configuration can say otherwise.
pub(super) const PAGE: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'sha256-4CL8K9k8DqjKSmAjLFrb3o41jb5HgYvnKX/onD8iymw='; base-uri 'none'; form-action 'none'",
    ),
    (X_FRAME_OPTIONS, "deny"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// For what is fresh at every request and no page.
pub(super) const FRESH: (HeaderName, &str) = (CACHE_CONTROL, "no-store");

/// Keeps browsers from taking any answer for something that it does not say it is.
pub(super) async fn guess_nothing(mut response: Response) -> Response {
    let value = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, value);
    response
}
