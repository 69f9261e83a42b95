//! Responses of the gateway: status, headers and body, before they are encoded.
//!
//! Error responses have two forms: JSON from the gateway itself, and the same JSON declared as
//! plain text from the backup service. Sets the headers of http.sys. Must not decide which response
//! a request gets.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use hyper::http::response::{Builder, Response};
use serde_json::{Value, json};

use super::record::Progress;
use super::switches::{Never, Switches};

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Whether the gateway serves a route itself or forwards it to the backup service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteKind {
    Native,
    Backup,
}

/// A response that is not rendered yet: lists are built while the estate is locked, a backup record
/// is only copied.
#[derive(Clone, Debug)]
pub(super) struct GatewayResponse {
    status: StatusCode,
    reason: Option<&'static str>,
    content_type: Option<&'static str>,
    /// `X-ServiceFabric: ResourceNotFound`, which keeps the proxy from looking elsewhere.
    resource_not_found: bool,
    close: bool,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Empty,
    Text(&'static str),
    Json(Value),
    Progress(Box<Progress>),
}

impl GatewayResponse {
    /// A status without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            reason: None,
            content_type: None,
            resource_not_found: false,
            close: false,
            body: Body::Empty,
        }
    }

    /// 200 with a JSON body.
    pub(super) fn json(body: Value) -> Self {
        Self::with_body(StatusCode::OK, JSON, Body::Json(body))
    }

    /// 200 with the record of a partition.
    pub(super) fn progress(progress: Progress) -> Self {
        Self::with_body(StatusCode::OK, JSON, Body::Progress(Box::new(progress)))
    }

    /// A `FabricError` in the form of the gateway or of the backup service.
    pub(super) fn error(kind: RouteKind, status: StatusCode, code: &str, message: &str) -> Self {
        let content_type = match kind {
            RouteKind::Native => JSON,
            RouteKind::Backup => TEXT,
        };
        let body = json!({"Error": {"Code": code, "Message": message}});
        Self {
            resource_not_found: kind == RouteKind::Backup && status == StatusCode::NOT_FOUND,
            ..Self::with_body(status, content_type, Body::Json(body))
        }
    }

    /// The backup service could not resolve the partition: the id is invalid, or a call inside the
    /// cluster timed out.
    pub(super) fn masked() -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self::error(
            RouteKind::Backup,
            status,
            "E_INVALIDARG",
            "Invalid Arguments.",
        )
    }

    /// The same on the routes of lists and configuration: the code is the bare HRESULT of the
    /// exception (BRS `UtilityHelper.cs`, `GetFabricUriFromRequstHeader`).
    pub(super) fn masked_by_number(code: u32, message: &str) -> Self {
        let body = json!({"Error": {"Code": code, "Message": message}});
        Self::with_body(StatusCode::INTERNAL_SERVER_ERROR, TEXT, Body::Json(body))
    }

    /// 500 of Web API for an exception outside the mapping of errors, without an Error object
    /// (BRS `BaseController.cs`: a timeout below 1, local retries used up).
    pub(super) fn web_api_error() -> Self {
        let body = json!({"Message": "An error has occurred."});
        Self::with_body(StatusCode::INTERNAL_SERVER_ERROR, JSON, Body::Json(body))
    }

    /// The page at `/`. `sfctl cluster select` only requires a success here (sfctl
    /// `custom_cluster.py`).
    pub(super) fn explorer() -> Self {
        const PAGE: &str = "<!doctype html><title>Service Fabric Explorer</title>\n";
        Self::with_body(StatusCode::OK, "text/html; charset=utf-8", Body::Text(PAGE))
    }

    /// 403 of a gateway that requires a client certificate and received no authorized one.
    pub(super) fn no_certificate() -> Self {
        Self {
            reason: Some("Client certificate required"),
            ..Self::empty(StatusCode::FORBIDDEN)
        }
    }

    /// 503 of http.sys itself, before any Service Fabric code runs.
    pub(super) fn service_unavailable() -> Self {
        const PAGE: &str = concat!(
            "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\"",
            "\"http://www.w3.org/TR/html4/strict.dtd\">\r\n",
            "<HTML><HEAD><TITLE>Service Unavailable</TITLE></HEAD>\r\n",
            "<BODY><h2>Service Unavailable</h2>\r\n",
            "<hr><p>HTTP Error 503. The service is unavailable.</p>\r\n",
            "</BODY></HTML>\r\n",
        );
        Self {
            close: true,
            ..Self::with_body(
                StatusCode::SERVICE_UNAVAILABLE,
                "text/html; charset=us-ascii",
                Body::Text(PAGE),
            )
        }
    }

    /// 200 with content type JSON and a body that is not JSON.
    pub(super) fn not_json() -> Self {
        let page = "<html><body>Welcome to the load balancer</body></html>";
        Self::with_body(StatusCode::OK, JSON, Body::Text(page))
    }

    fn with_body(status: StatusCode, content_type: &'static str, body: Body) -> Self {
        Self {
            content_type: Some(content_type),
            body,
            ..Self::empty(status)
        }
    }

    /// Head and body as sent on the connection.
    pub(super) fn render(mut self, switches: &Switches) -> (Builder, Bytes) {
        let body = match &self.body {
            Body::Empty => Bytes::new(),
            Body::Text(text) => Bytes::from_static(text.as_bytes()),
            Body::Json(json) => Bytes::from(json.to_string()),
            Body::Progress(progress) => {
                let body = progress.to_json(switches);
                body.map_or_else(
                    || self.never(switches.never),
                    |body| body.to_string().into(),
                )
            }
        };
        (self.head(), body)
    }

    /// The response for a partition for which no backup was ever requested.
    fn never(&mut self, never: Never) -> Bytes {
        match never {
            Never::Null => Bytes::from_static(b"null"),
            Never::EmptyBody => Bytes::new(),
            Never::NoContent => {
                self.status = StatusCode::NO_CONTENT;
                self.content_type = None;
                Bytes::new()
            }
        }
    }

    fn head(&self) -> Builder {
        const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
        let mut head = Response::builder()
            .status(self.status)
            .header(SERVER, HeaderValue::from_static("Microsoft-HTTPAPI/2.0"))
            .header(NOSNIFF, HeaderValue::from_static("nosniff"));
        if let Some(content_type) = self.content_type {
            head = head.header(CONTENT_TYPE, content_type);
        }
        if self.resource_not_found {
            head = head.header("x-servicefabric", "ResourceNotFound");
        }
        if self.close {
            head = head.header(CONNECTION, "close");
        }
        if let Some(reason) = self.reason {
            head = head.extension(ReasonPhrase::from_static(reason.as_bytes()));
        }
        head
    }
}
