//! Responses with an error status: which system sent them, and the reason of the failure.
//!
//! The error code of the service decides, whatever the content type is; the status decides only
//! without a code. An empty 404 on a backup route comes from the gateway's reverse proxy and means
//! that the cluster has no backup service.

use std::fmt;

use serde::Deserialize;
use url::Url;

use super::route::{RouteKind, Subject};
use crate::gateway::decode::{self, Code, Field, Object};
use crate::gateway::reason::Reason;
use crate::gateway::redact;
use crate::model::FailureCode;

/// A response with an error status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct ErrorReply {
    pub(in crate::gateway) status: u16,
    /// `Error.Code`; `None` when there was no error document.
    pub(in crate::gateway) code: Option<FailureCode>,
    /// The beginning of `Error.Message`, or of `Message` from Web API.
    message: Option<Box<str>>,
    /// Whether the message is the one of `ArgumentOutOfRangeException`, which has no code.
    is_index_out_of_range: bool,
    pub(in crate::gateway) reason: Reason,
    pub(in crate::gateway) transient: bool,
    endpoint: Option<String>,
    /// How to fix the problem.
    hint: Option<Box<str>>,
}

impl ErrorReply {
    /// Whether the gateway itself rejected our credentials: the services behind it send error codes.
    pub(in crate::gateway) fn is_unauthenticated(&self) -> bool {
        self.reason == Reason::Forbidden && self.code.is_none()
    }

    pub(in crate::gateway) fn with_hint(self, hint: String) -> Self {
        let hint = Some(hint.into());
        Self { hint, ..self }
    }

    pub(in crate::gateway) fn with_endpoint(self, endpoint: &Url) -> Self {
        let endpoint = Some(endpoint.to_string());
        Self { endpoint, ..self }
    }

    /// Whether the response comes from the node, or from a proxy in front of it, rather than from
    /// the cluster. An empty 404 and an empty 504 on a backup route are about the backup service,
    /// so every node sends them. A 500 can come from the web server of either.
    pub(in crate::gateway) fn is_from_node(&self) -> bool {
        let is_of_web_server = self.status == 500 || self.reason == Reason::Api;
        self.code.is_none() && (is_of_web_server || self.reason == Reason::Forbidden)
    }

    /// Whether a service does not exist: the one that implements the route, or, in a response of
    /// the backup service, one of a user.
    pub(in crate::gateway) fn is_service_not_found(&self) -> bool {
        self.has_code(SERVICE_NOT_FOUND)
    }

    pub(in crate::gateway) fn is_partition_not_found(&self) -> bool {
        self.has_code(&["FABRIC_E_PARTITION_NOT_FOUND", "0x80071BE7"])
    }

    /// Whether the application, service or partition of the request does not exist. `false` where
    /// the code is about the backup service itself.
    pub(in crate::gateway) fn is_gone(&self) -> bool {
        self.reason != Reason::ServiceAbsent
            && (self.has_code(&["FABRIC_E_APPLICATION_NOT_FOUND", "0x80071BDD"])
                || self.is_service_not_found()
                || self.is_partition_not_found())
    }

    pub(in crate::gateway) fn is_index_out_of_range(&self) -> bool {
        self.is_index_out_of_range
    }

    pub(in crate::gateway) fn is_null_reference(&self) -> bool {
        self.status == 500 && self.has_code(&["E_UNEXPECTED", "0x8000FFFF"])
    }

    pub(in crate::gateway) fn is_unknown_to_health(&self) -> bool {
        self.has_code(&["FABRIC_E_HEALTH_ENTITY_NOT_FOUND"])
    }

    /// Whether the backup service reports that no policy applies.
    pub(in crate::gateway) fn is_backup_not_enabled(&self) -> bool {
        self.has_code(&["FABRIC_E_BACKUP_NOT_ENABLED"])
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        let code = self.code.as_ref().map(FailureCode::as_str);
        code.is_some_and(|code| codes.contains(&code))
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP status {}", self.status)?;
        if let Some(endpoint) = &self.endpoint {
            write!(f, " from {endpoint}")?;
        }
        match &self.code {
            Some(code) => write!(f, " with code {}", code.as_str()),
            None => f.write_str(" without an error code"),
        }?;
        if let Some(message) = &self.message {
            write!(f, " ({message:?})")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Classifies a response by its status and body.
pub(in crate::gateway) fn classify(
    kind: RouteKind,
    subject: &Subject<'_>,
    status: u16,
    body: &[u8],
) -> ErrorReply {
    let error = ErrorBody::read(body);
    let code = error.code.as_ref().map(FailureCode::as_str);
    let masked = matches!((kind, subject), (RouteKind::Backup, Subject::Partition(_)))
        && error.is_masked_timeout();
    // Requests about policies involve no other service that could be missing.
    let about_policies = matches!(subject, Subject::Cluster | Subject::Policy(_));
    let reason = match code {
        _ if masked => Reason::Timeout,
        Some(code)
            if kind == RouteKind::Backup && about_policies && SERVICE_NOT_FOUND.contains(&code) =>
        {
            Reason::ServiceAbsent
        }
        Some(code) => by_code(code).unwrap_or(match status {
            401 | 403 => Reason::Forbidden,
            429 => Reason::Throttled,
            _ => Reason::Api,
        }),
        // Thrown outside of the service's error mapping, for instance while its store has no
        // primary (`BaseController.cs`, `BaseStore.cs`).
        None if kind == RouteKind::Backup && status == 500 && error.is_of_web_api => {
            Reason::ServiceUnavailable
        }
        None => by_status(kind, status, decode::without_padding(body).is_empty()),
    };
    let transient = matches!(
        reason,
        Reason::Timeout | Reason::ServiceUnavailable | Reason::Throttled
    ) || (matches!(status, 502..=504) && reason != Reason::Forbidden);
    ErrorReply {
        status,
        message: summary(&error.message),
        is_index_out_of_range: error.message.contains("Index was out of range"),
        code: error.code,
        reason,
        transient,
        endpoint: None,
        hint: None,
    }
}

/// Longest part of a message that is kept, in characters.
const MAX_MESSAGE: usize = 200;

/// The beginning of a message, without secrets. It ends before a JSON document, which may be the
/// storage of a policy: validation errors quote the rejected value.
fn summary(message: &str) -> Option<Box<str>> {
    let text = redact::presentable(message);
    let text = text
        .split(['\r', '\n', '{', '['])
        .next()
        .unwrap_or_default();
    let text: String = text.trim().chars().take(MAX_MESSAGE).collect();
    (!text.is_empty()).then(|| text.into())
}

/// The codes with a reason of their own. A code outside the service's enumeration is sent as a
/// number; the documented numbers are listed here.
fn by_code(code: &str) -> Option<Reason> {
    Some(match code {
        "E_ACCESSDENIED" | "0x80070005" => Reason::Forbidden,
        // The last two are `TimeoutException` and `OperationCanceledException` of .NET: lists and
        // configuration routes pass them through (`UtilityHelper.cs`).
        "FABRIC_E_TIMEOUT"
        | "0x80071BFF"
        | "FABRIC_E_OPERATION_NOT_COMPLETE"
        | "0x80131505"
        | "0x8013153B" => Reason::Timeout,
        "FABRIC_E_COMMUNICATION_ERROR"
        | "FABRIC_E_FIRST_RESERVED_ERROR_CODE" // the same number under its other name
        | "0x80071BBC"
        | "FABRIC_E_NOT_PRIMARY"
        | "0x80071BC6"
        | "FABRIC_E_NOT_READY"
        | "FABRIC_E_OBJECT_CLOSED"
        | "0x80071BFE"
        | "FABRIC_E_SERVICE_OFFLINE"
        | "FABRIC_E_NO_WRITE_QUORUM"
        | "FABRIC_E_RECONFIGURATION_PENDING"
        | "FABRIC_E_GATEWAY_NOT_REACHABLE" => Reason::ServiceUnavailable,
        "FABRIC_E_SERVICE_TOO_BUSY" => Reason::Throttled,
        _ => return None,
    })
}

const SERVICE_NOT_FOUND: &[&str] = &["FABRIC_E_SERVICE_DOES_NOT_EXIST", "0x80071BCD"];

fn by_status(kind: RouteKind, status: u16, empty: bool) -> Reason {
    match status {
        401 | 403 => Reason::Forbidden,
        404 if empty && kind == RouteKind::Backup => Reason::ServiceAbsent,
        429 => Reason::Throttled,
        502..=504 => Reason::ServiceUnavailable,
        _ => Reason::Api,
    }
}

/// `{"Error":{"Code":…,"Message":…}}` from the gateway and from the backup service, or
/// `{"Message":…}` from the Web API framework that the backup service is built on.
#[derive(Default)]
struct ErrorBody {
    code: Option<FailureCode>,
    message: String,
    is_of_web_api: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ErrorDocument {
    error: Field<Object<ErrorMembers>>,
    message: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ErrorMembers {
    code: Field<Code>,
    message: Field<String>,
}

impl ErrorBody {
    fn read(body: &[u8]) -> Self {
        let reply: Option<ErrorDocument> = decode::document(body).unwrap_or_default();
        let reply = reply.unwrap_or_default();
        if let Some(Object(error)) = reply.error.value() {
            return Self {
                code: error.code.value().map(|code| code.0),
                message: error.message.value().unwrap_or_default(),
                is_of_web_api: false,
            };
        }
        let message = reply.message.value();
        Self {
            code: None,
            is_of_web_api: message.is_some(),
            message: message.unwrap_or_default(),
        }
    }

    /// The backup service rethrows a timeout of its partition lookup as an argument error. Our ids
    /// are well-formed, so the literal meaning never applies.
    fn is_masked_timeout(&self) -> bool {
        let code = self.code.as_ref().map(FailureCode::as_str);
        matches!(code, Some("E_INVALIDARG" | "0x80070057")) && self.message == "Invalid Arguments."
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::gateway::decode::tests::sample;
    use crate::model::PartitionId;

    const PARTITION: Subject<'static> = Subject::Partition(PartitionId(Uuid::from_u128(1)));

    /// The samples of errors: status, reason, and whether they are transient.
    const SAMPLES: [(&str, u16, Reason, bool); 19] = [
        (
            "error.400.api-version-newer-than-cluster.gateway.json",
            400,
            Reason::Api,
            false,
        ),
        (
            "error.400.invalid-api-version.brs.json",
            400,
            Reason::Api,
            false,
        ),
        (
            "error.400.list-index-out-of-range.brs.json",
            400,
            Reason::Api,
            false,
        ),
        (
            "error.400.masked-timeout.brs.json",
            400,
            Reason::Timeout,
            true,
        ),
        ("error.400.validation.brs.json", 400, Reason::Api, false),
        (
            "error.403.access-denied.brs.json",
            403,
            Reason::Forbidden,
            false,
        ),
        (
            "error.403.client-certificate-required.gateway.txt",
            403,
            Reason::Forbidden,
            false,
        ),
        ("error.404.backup-not-enabled.json", 404, Reason::Api, false),
        (
            "error.404.brs-not-installed-empty.txt",
            404,
            Reason::ServiceAbsent,
            false,
        ),
        (
            "error.404.partition-not-found.json",
            404,
            Reason::Api,
            false,
        ),
        (
            "error.404.policy-does-not-exist.json",
            404,
            Reason::Api,
            false,
        ),
        ("error.409.backup-in-progress.json", 409, Reason::Api, false),
        (
            "error.409.restore-in-progress.json",
            409,
            Reason::Api,
            false,
        ),
        (
            "error.500.masked-timeout.numeric-code.brs.json",
            500,
            Reason::Timeout,
            true,
        ),
        ("error.500.null-reference.brs.json", 500, Reason::Api, false),
        (
            "error.500.recovery-point-details.brs.json",
            500,
            Reason::Api,
            false,
        ),
        (
            "error.500.web-api-message.brs.json",
            500,
            Reason::ServiceUnavailable,
            true,
        ),
        (
            "error.504.gateway-empty.txt",
            504,
            Reason::ServiceUnavailable,
            true,
        ),
        ("error.504.timeout.brs.json", 504, Reason::Timeout, true),
    ];

    #[test]
    fn every_error_sample_has_its_reason() {
        let mut listed: Vec<_> = SAMPLES
            .iter()
            .map(|(file, ..)| (*file).to_owned())
            .collect();
        listed.sort();
        assert_eq!(decode::tests::samples("error."), listed);
        for (file, status, reason, transient) in SAMPLES {
            let reply = classify(RouteKind::Backup, &PARTITION, status, &sample(file));
            assert_eq!(
                (reply.reason, reply.transient),
                (reason, transient),
                "{file}"
            );
            let not_enabled = file == "error.404.backup-not-enabled.json";
            assert_eq!(reply.is_backup_not_enabled(), not_enabled, "{file}");
            let not_found = file == "error.404.partition-not-found.json";
            assert_eq!(reply.is_partition_not_found(), not_found, "{file}");
            assert_eq!(reply.is_gone(), not_found, "{file}");
            let index = file == "error.400.list-index-out-of-range.brs.json";
            assert_eq!(reply.is_index_out_of_range(), index, "{file}");
            let unexpected = [
                "error.500.null-reference.brs.json",
                "error.500.recovery-point-details.brs.json",
            ];
            assert_eq!(
                reply.is_null_reference(),
                unexpected.contains(&file),
                "{file}"
            );
        }
    }

    #[test]
    fn an_unreadable_storage_is_not_transient() {
        for (status, file) in [
            (400, "error.400.list-index-out-of-range.brs.json"),
            (500, "error.500.recovery-point-details.brs.json"),
        ] {
            let subject = Subject::Application("fabric:/A");
            let reply = classify(RouteKind::Backup, &subject, status, &sample(file));
            assert_eq!((reply.reason, reply.transient), (Reason::Api, false));
        }
    }

    #[test]
    fn the_code_decides_before_the_status() {
        use Reason::{Api, Forbidden, ServiceUnavailable, Throttled, Timeout};
        for (code, status, reason, transient) in [
            ("\"FABRIC_E_TIMEOUT\"", 500, Timeout, true),
            ("-2147017729", 500, Timeout, true),
            ("2147949567", 500, Timeout, true),
            ("\"FABRIC_E_OPERATION_NOT_COMPLETE\"", 504, Timeout, true),
            ("2148734213", 500, Timeout, true),
            ("-2146233083", 500, Timeout, true),
            ("\"2148734213\"", 500, Timeout, true),
            ("2148734267", 500, Timeout, true),
            ("2148734208", 500, Api, false),
            ("\"FABRIC_E_NOT_PRIMARY\"", 503, ServiceUnavailable, true),
            (
                "\"FABRIC_E_GATEWAY_NOT_REACHABLE\"",
                502,
                ServiceUnavailable,
                true,
            ),
            ("\"FABRIC_E_SERVICE_TOO_BUSY\"", 503, Throttled, true),
            ("\"E_ACCESSDENIED\"", 400, Forbidden, false),
            ("\"E_ABORT\"", 503, Api, true),
            ("\"SOMETHING_NEW\"", 403, Forbidden, false),
            ("\"SOMETHING_NEW\"", 500, Api, false),
        ] {
            let body = format!("\u{feff}{{\"Error\":{{\"Code\":{code}}}}}");
            let reply = classify(RouteKind::Native, &PARTITION, status, body.as_bytes());
            assert_eq!(
                (reply.reason, reply.transient),
                (reason, transient),
                "{code} {status}"
            );
        }
    }

    #[test]
    fn missing_entities_are_gone_regardless_of_status() {
        for code in [
            "\"FABRIC_E_SERVICE_DOES_NOT_EXIST\"",
            "\"FABRIC_E_APPLICATION_NOT_FOUND\"",
            "\"FABRIC_E_PARTITION_NOT_FOUND\"",
            "2147949517",
            "-2147017779",
            "2147949533",
            "2147949543",
        ] {
            for (kind, status) in [(RouteKind::Native, 404), (RouteKind::Backup, 500)] {
                let body = format!("{{\"Error\":{{\"Code\":{code}}}}}");
                let subject = Subject::Service("fabric:/A/S");
                let reply = classify(kind, &subject, status, body.as_bytes());
                assert!(reply.is_gone(), "{code} {kind:?}");
                assert_eq!(
                    (reply.reason, reply.transient),
                    (Reason::Api, false),
                    "{code}"
                );
            }
        }
        // Here it is the backup service that does not exist.
        let body = b"{\"Error\":{\"Code\":\"FABRIC_E_SERVICE_DOES_NOT_EXIST\"}}";
        let reply = classify(RouteKind::Backup, &Subject::Cluster, 404, body);
        assert!(!reply.is_gone());
        let body = b"{\"Error\":{\"Code\":\"FABRIC_E_BACKUP_NOT_ENABLED\"}}";
        assert!(!classify(RouteKind::Backup, &PARTITION, 404, body).is_gone());
    }

    #[test]
    fn a_web_api_error_is_about_the_backup_service() {
        use Reason::{Api, ServiceUnavailable};
        let body = sample("error.500.web-api-message.brs.json");
        for (kind, status, reason) in [
            (RouteKind::Backup, 500, ServiceUnavailable),
            (RouteKind::Backup, 404, Api),
            (RouteKind::Native, 500, Api),
        ] {
            let reply = classify(kind, &PARTITION, status, &body);
            assert_eq!(reply.reason, reason, "{kind:?} {status}");
            assert_eq!(reply.transient, reason == ServiceUnavailable);
        }
        for body in ["{}", "{\"Message\":5}", "{\"Error\":{\"Message\":\"x\"}}"] {
            let reply = classify(RouteKind::Backup, &PARTITION, 500, body.as_bytes());
            assert_eq!(reply.reason, Api, "{body}");
        }
    }

    #[test]
    fn display_has_the_code_and_the_beginning_of_the_message() {
        let (long, cut) = ("x".repeat(5_000), "x".repeat(200));
        for (message, shown) in [
            ("Operation timed out.", Some("Operation timed out.")),
            ("first\\r\\nsecond", Some("first")),
            ("AccountKey=geheim;x", Some("AccountKey=***;x")),
            (
                "https://svc:hun{ter2@host is down",
                Some("https://***@host is down"),
            ),
            ("Refused: {FriendlyName: canary}", Some("Refused:")),
            ("{Storage: canary}", None),
            ("", None),
            ("half of \\ud83d", Some("half of \u{fffd}")),
            (&long, Some(&*cut)),
        ] {
            let body = format!("{{\"Error\":{{\"Code\":2148734208,\"Message\":\"{message}\"}}}}");
            let reply = classify(RouteKind::Backup, &PARTITION, 500, body.as_bytes());
            let shown = shown.map(|text| format!(" ({text:?})")).unwrap_or_default();
            let expected = format!("HTTP status 500 with code 0x80131500{shown}");
            assert_eq!(reply.to_string(), expected);
        }
    }

    #[test]
    fn without_a_code_the_status_decides() {
        use Reason::{Api, Forbidden, ServiceAbsent, ServiceUnavailable, Throttled};
        use RouteKind::{Backup, Native};
        for (kind, status, body, reason) in [
            (Backup, 404, "", ServiceAbsent),
            (Backup, 404, " \r\n", ServiceAbsent),
            (Backup, 404, "<html>", Api),
            (Native, 404, "", Api),
            (Native, 401, "", Forbidden),
            (
                Native,
                503,
                "<html>Service Unavailable</html>",
                ServiceUnavailable,
            ),
            (Backup, 502, "", ServiceUnavailable),
            (Native, 429, "", Throttled),
            (Native, 302, "", Api),
            (Native, 500, "{\"Error\":null}", Api),
            (Native, 500, "{\"Error\":{\"Code\":1.5}}", Api),
        ] {
            let reply = classify(kind, &PARTITION, status, body.as_bytes());
            assert_eq!(reply.reason, reason, "{kind:?} {status} {body:?}");
            assert_eq!(reply.code, None, "{kind:?} {status} {body:?}");
        }
    }

    #[test]
    fn service_not_found_means_the_backup_service_only_where_no_other_is_involved() {
        for code in ["\"FABRIC_E_SERVICE_DOES_NOT_EXIST\"", "2147949517"] {
            let body = format!("{{\"Error\":{{\"Code\":{code}}}}}");
            for (kind, subject, reason) in [
                (RouteKind::Backup, Subject::Cluster, Reason::ServiceAbsent),
                (
                    RouteKind::Backup,
                    Subject::Policy("P"),
                    Reason::ServiceAbsent,
                ),
                (
                    RouteKind::Backup,
                    Subject::Service("fabric:/A/S"),
                    Reason::Api,
                ),
                (RouteKind::Backup, PARTITION, Reason::Api),
                (RouteKind::Native, Subject::Cluster, Reason::Api),
            ] {
                let reply = classify(kind, &subject, 404, body.as_bytes());
                assert_eq!(reply.reason, reason, "{kind:?} {subject} {code}");
                assert!(!reply.transient && reply.is_service_not_found());
            }
        }
    }

    #[test]
    fn responses_without_a_code_come_from_the_node_unless_they_are_about_the_service_behind_it() {
        use RouteKind::{Backup, Native};
        let coded = "{\"Error\":{\"Code\":\"SOMETHING_NEW\"}}";
        for (kind, status, body, expected) in [
            (Native, 401, "", true),
            (Native, 403, "", true),
            (Backup, 403, "", true),
            (Native, 302, "", true),
            (Native, 404, "", true),
            (Backup, 404, "<html>", true),
            (Native, 500, "<html>", true),
            (Backup, 500, "", true),
            (Backup, 404, "", false),
            (Backup, 504, "", false),
            (Native, 503, "<html>", false),
            (Native, 429, "", false),
            (Native, 403, coded, false),
            (Backup, 500, coded, false),
        ] {
            let reply = classify(kind, &PARTITION, status, body.as_bytes());
            let from_node = reply.is_from_node();
            assert_eq!(from_node, expected, "{kind:?} {status} {body}");
        }
    }

    #[test]
    fn invalid_arguments_are_a_masked_timeout_only_for_partitions_on_backup_routes() {
        let body = sample("error.400.masked-timeout.brs.json");
        let literal = [
            classify(RouteKind::Native, &PARTITION, 400, &body),
            classify(RouteKind::Backup, &Subject::Cluster, 400, &body),
            classify(RouteKind::Backup, &Subject::Application("A"), 400, &body),
        ];
        for reply in literal {
            assert_eq!((reply.reason, reply.transient), (Reason::Api, false));
        }
    }

    proptest! {
        #[test]
        fn any_body_can_be_classified(status: u16, body: Vec<u8>) {
            let reply = classify(RouteKind::Backup, &PARTITION, status, &body);
            prop_assert_eq!(reply.status, status);
            prop_assert!(!reply.is_partition_not_found());
        }
    }
}
