//! Faults that tests inject, and the requests they apply to.
//!
//! Selects the fault of a request, newest first, and builds the response of faults that replace
//! one. Must not touch sockets: the server applies faults of the connection. A fault with a count
//! ends after that many requests.

use std::time::Duration;

use hyper::StatusCode;
use uuid::Uuid;

use super::malformed::Malformation;
use super::request::{Operation, Request};
use super::response::{GatewayResponse, RouteKind};

/// HRESULT of .NET's `TimeoutException`, 0x80131505.
const TIMEOUT_EXCEPTION: u32 = 2_148_734_213;

/// A fault of the simulated gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The cluster has no backup service: 404 without a body on the backup routes, and the service
    /// is missing from the services of `fabric:/System`.
    ServiceAbsent,
    /// The backup service fails over: no response for this time, then 504 without a body.
    HangThen504(Duration),
    /// No response until the client gives up.
    Hang,
    /// 400 `E_INVALIDARG` of the backup service after a timeout inside the cluster, on the routes
    /// of requested backups and restores.
    Masked400,
    /// The same timeout on the other backup routes that name an entity, and only on those: 500 with
    /// the numeric code 2148734213.
    Masked500,
    /// 403 without a body, reason "Client certificate required".
    Forbidden,
    /// 503 of http.sys, an HTML page.
    Html503,
    /// 500 `E_UNEXPECTED` with the Error object.
    InternalError,
    /// 500 with a `Message` and without the Error object, from Web API inside the backup service.
    WebApi500,
    /// Backup lists only: the storage cannot be read, 500 `E_UNEXPECTED`.
    StorageError500,
    /// Backup lists only: the storage cannot be read, reported as index out of range, 400
    /// `E_INVALIDARG`.
    IndexOutOfRange400,
    /// 200 with content type JSON and a body that is not JSON.
    NotJson,
    /// The connection is reset (TCP RST) once the request has been read.
    Reset,
    /// The connection is closed (TCP FIN) after the request has been read, as when the backup
    /// service stops during a request.
    Closed,
    /// The correct response with one malformed item.
    Malformed(Malformation),
    /// The correct response, its body spread over this time.
    SlowBody(Duration),
    /// The correct head and half of the body, then the connection closes.
    TruncatedBody,
    /// 200 with a JSON string of at least this many bytes, chunked, without a declared length.
    TooLarge(u64),
    /// Lists never end: every page is the first page with a new continuation token.
    EndlessPaging,
    /// Lists never end: every page is the first page with the same continuation token.
    RepeatedToken,
}

/// Requests that a fault applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All requests.
    All,
    /// Requests that the gateway serves itself.
    Native,
    /// Requests that are forwarded to the backup service.
    Backup,
    /// One operation.
    Operation(Operation),
    /// Requests with this partition in the path.
    Partition(Uuid),
    /// Backup routes with this application, or a service of it, in the path.
    Application(&'static str),
}

/// The active faults.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Active>);

#[derive(Debug)]
struct Active {
    fault: Fault,
    filter: Filter,
    /// Requests left; `None` until the faults are cleared.
    left: Option<u64>,
}

impl Faults {
    pub(super) fn inject(&mut self, fault: Fault, filter: Filter, left: Option<u64>) {
        self.0.push(Active {
            fault,
            filter,
            left,
        });
    }

    pub(super) fn heal(&mut self) {
        self.0.clear();
    }

    /// The fault that applies to this request, if any.
    pub(super) fn strike(&mut self, request: &Request) -> Option<Fault> {
        self.0.retain(|active| active.left != Some(0));
        let mut newest_first = self.0.iter_mut().rev();
        let struck = newest_first.find(|active| active.matches(request))?;
        struck.left = struck.left.map(|left| left - 1);
        Some(struck.fault)
    }

    /// Whether the backup service is absent.
    pub(super) fn service_absent(&self) -> bool {
        let mut faults = self.0.iter();
        faults.any(|active| active.fault == Fault::ServiceAbsent && active.left != Some(0))
    }
}

impl Active {
    fn matches(&self, request: &Request) -> bool {
        let kind = request.operation.kind();
        let strikes = match self.fault {
            Fault::ServiceAbsent => kind == RouteKind::Backup,
            Fault::StorageError500 | Fault::IndexOutOfRange400 => request.lists_backups(),
            Fault::Masked500 => request.names_an_entity() && !request.is_on_demand(),
            _ => true,
        };
        if !strikes {
            return false;
        }
        match self.filter {
            Filter::All => true,
            Filter::Native => kind == RouteKind::Native,
            Filter::Backup => kind == RouteKind::Backup,
            Filter::Operation(operation) => operation == request.operation,
            Filter::Partition(id) => request.partition() == Some(id),
            Filter::Application(name) => kind == RouteKind::Backup && request.is_within(name),
        }
    }
}

impl Fault {
    /// The response that replaces the correct one; `None` if the correct one is looked up and then
    /// modified. A fault without a response has a replacement too, so that the request does not
    /// start a backup.
    pub(super) fn answer(self, kind: RouteKind) -> Option<GatewayResponse> {
        match self {
            Self::ServiceAbsent => Some(GatewayResponse::empty(StatusCode::NOT_FOUND)),
            Self::HangThen504(_) | Self::Hang | Self::Reset | Self::Closed => {
                Some(GatewayResponse::empty(StatusCode::GATEWAY_TIMEOUT))
            }
            Self::Masked400 => Some(GatewayResponse::masked()),
            Self::Masked500 => Some(GatewayResponse::masked_by_number(
                TIMEOUT_EXCEPTION,
                "Operation timed out.",
            )),
            Self::WebApi500 => Some(GatewayResponse::web_api_error()),
            Self::Forbidden => Some(GatewayResponse::no_certificate()),
            Self::Html503 => Some(GatewayResponse::service_unavailable()),
            Self::InternalError | Self::StorageError500 => Some(GatewayResponse::error(
                kind,
                StatusCode::INTERNAL_SERVER_ERROR,
                "E_UNEXPECTED",
                "Unable to get recovery point details.",
            )),
            Self::IndexOutOfRange400 => Some(GatewayResponse::error(
                kind,
                StatusCode::BAD_REQUEST,
                "E_INVALIDARG",
                "Index was out of range. Must be non-negative and less than the size of the \
                 collection.\r\nParameter name: index",
            )),
            Self::NotJson => Some(GatewayResponse::not_json()),
            Self::TooLarge(_) => Some(GatewayResponse::json(serde_json::Value::Null)),
            Self::SlowBody(_)
            | Self::TruncatedBody
            | Self::EndlessPaging
            | Self::RepeatedToken
            | Self::Malformed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::{Method, Uri};

    use super::*;

    fn get(path: &'static str) -> Request {
        Request::parse(&Method::GET, &Uri::from_static(path))
    }

    #[test]
    fn the_newest_matching_fault_strikes_and_a_counted_one_wears_off() {
        let mut faults = Faults::default();
        faults.inject(Fault::Html503, Filter::Native, None);
        faults.inject(Fault::Hang, Filter::All, Some(2));
        let list = get("/Applications");
        let struck: Vec<_> = (0..4).map(|_| faults.strike(&list)).collect();
        let (hang, html) = (Some(Fault::Hang), Some(Fault::Html503));
        assert_eq!(struck, [hang, hang, html, html]);
        faults.heal();
        assert_eq!(faults.strike(&list), None);
    }

    #[test]
    fn a_filter_strikes_what_it_names_only() {
        let id = "0d6c4b8e-5f0a-4c1e-9d2b-7a3f6e8c1b05".parse().unwrap();
        let progress = get("/Partitions/0d6c4b8e-5f0a-4c1e-9d2b-7a3f6e8c1b05/$/GetBackupProgress");
        let other = get("/Partitions/1d6c4b8e-5f0a-4c1e-9d2b-7a3f6e8c1b05/$/GetBackupProgress");
        let list = get("/Applications");
        let cases = [
            (Filter::All, [true, true, true]),
            (Filter::Native, [false, false, true]),
            (Filter::Backup, [true, true, false]),
            (Filter::Partition(id), [true, false, false]),
            (
                Filter::Operation(Operation::GetApplicationInfoList),
                [false, false, true],
            ),
        ];
        for (filter, expected) in cases {
            let mut faults = Faults::default();
            faults.inject(Fault::Reset, filter, None);
            let struck = [&progress, &other, &list].map(|it| faults.strike(it).is_some());
            assert_eq!(struck, expected, "{filter:?}");
        }
    }
}
