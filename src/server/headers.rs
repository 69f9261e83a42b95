//! Response headers that protect the users of browsers.
//!
//! They do not need a web configuration, whose headers replace them.

use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::response::Response;

/// Allows an HTML page its own style and links only. The hash is that of the style of the landing
/// page. The policy has no `frame-ancestors`, so that the web configuration can replace
/// `X-Frame-Options`.
pub(super) const HTML_PAGE: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'sha256-4CL8K9k8DqjKSmAjLFrb3o41jb5HgYvnKX/onD8iymw='; base-uri 'none'; form-action 'none'",
    ),
    (X_FRAME_OPTIONS, "deny"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

pub(super) const NO_STORE: (HeaderName, &str) = (CACHE_CONTROL, "no-store");

/// Disables MIME sniffing for any response.
pub(super) async fn nosniff(mut response: Response) -> Response {
    let value = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, value);
    response
}
