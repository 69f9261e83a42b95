//! Reads an answer that is not a success: who refused, and what that means for us.
//!
//! The service's own error code decides, whatever the content type says; the status only when
//! there is no code. An empty 404 on a backup route comes from the gateway's inner proxy and
//! means that the cluster has no backup service.

use std::fmt;

use serde_json::Value;
use url::Url;

use crate::gateway::decode;
use crate::gateway::error::Reason;
use crate::gateway::query::{RouteKind, Subject};
use crate::gateway::redact;
use crate::model::FailureCode;

/// An answer other than a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// `Error.Code`; `None` when there was no error document.
    pub(super) code: Option<FailureCode>,
    /// `Error.Message`, or the `Message` of Web API: without secrets, at most 1,024 characters.
    message: Option<String>,
    pub(super) reason: Reason,
    pub(super) transient: bool,
    /// The endpoint that answered, where that is known.
    endpoint: Option<String>,
    /// What to do about it, where that is known.
    advice: Option<String>,
}

impl Refusal {
    /// Whether the gateway itself does not know who asks; its services have error documents.
    pub(super) fn is_of_a_stranger(&self) -> bool {
        self.reason == Reason::Forbidden && self.code.is_none()
    }

    pub(super) fn advised(self, advice: String) -> Self {
        let advice = Some(advice);
        Self { advice, ..self }
    }

    pub(super) fn answered_by(self, endpoint: &Url) -> Self {
        let endpoint = Some(endpoint.to_string());
        Self { endpoint, ..self }
    }

    /// Whether the cluster has not answered: the node, or something in front of it, did. An empty
    /// 404 and an empty 504 on a backup route concern the backup service, so every node answers
    /// them.
    pub(super) fn is_of_the_node(&self) -> bool {
        self.code.is_none() && matches!(self.reason, Reason::Api | Reason::Forbidden)
    }

    /// Whether the service that was to answer does not exist. The backup service answers the same
    /// about a service of a user.
    pub(super) fn is_service_not_found(&self) -> bool {
        let code = self.code.as_ref().map(FailureCode::as_str);
        code.is_some_and(is_service_not_found)
    }

    pub(super) fn is_partition_not_found(&self) -> bool {
        self.code.as_ref().is_some_and(|code| {
            matches!(code.as_str(), "FABRIC_E_PARTITION_NOT_FOUND" | "0x80071BE7")
        })
    }

    /// Whether what was asked about does not exist (any more). Not so where the code is about the
    /// backup service itself.
    pub(super) fn is_gone(&self) -> bool {
        let is_application_not_found = self.code.as_ref().is_some_and(|code| {
            matches!(
                code.as_str(),
                "FABRIC_E_APPLICATION_NOT_FOUND" | "0x80071BDD"
            )
        });
        self.reason != Reason::ServiceAbsent
            && (is_application_not_found
                || self.is_service_not_found()
                || self.is_partition_not_found())
    }

    /// The message of `ArgumentOutOfRangeException`: no code of its own tells it apart.
    pub(super) fn is_index_out_of_range(&self) -> bool {
        self.message
            .as_deref()
            .is_some_and(|message| message.contains("Index was out of range"))
    }

    pub(super) fn is_null_reference(&self) -> bool {
        self.status == 500
            && self
                .code
                .as_ref()
                .is_some_and(|code| matches!(code.as_str(), "E_UNEXPECTED" | "0x8000FFFF"))
    }

    pub(super) fn is_unknown_to_health(&self) -> bool {
        let code = self.code.as_ref().map(FailureCode::as_str);
        code == Some("FABRIC_E_HEALTH_ENTITY_NOT_FOUND")
    }

    /// Whether the backup service says that no policy applies.
    pub(super) fn is_backup_not_enabled(&self) -> bool {
        let code = self.code.as_ref().map(FailureCode::as_str);
        code == Some("FABRIC_E_BACKUP_NOT_ENABLED")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP status {}", self.status)?;
        if let Some(endpoint) = &self.endpoint {
            write!(f, " from {endpoint}")?;
        }
        match &self.code {
            Some(code) => write!(f, " with code {}", code.as_str()),
            None => f.write_str(" without an error code"),
        }?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// Judges an answer by its status and body.
pub(super) fn classify(
    kind: RouteKind,
    subject: &Subject<'_>,
    status: u16,
    body: &[u8],
) -> Refusal {
    let body = decode::without_padding(body);
    let error = ErrorBody::read(body);
    let masked = matches!((kind, subject), (RouteKind::Backup, Subject::Partition(_)))
        && error.as_ref().is_some_and(ErrorBody::is_masked_timeout);
    // About policies there is no other service that could be missing.
    let about_policies = matches!(subject, Subject::Cluster | Subject::Policy(_));
    let reason = match &error {
        _ if masked => Reason::Timeout,
        Some(error)
            if kind == RouteKind::Backup
                && about_policies
                && is_service_not_found(error.code.as_str()) =>
        {
            Reason::ServiceAbsent
        }
        Some(error) => by_code(error.code.as_str()).unwrap_or(match status {
            401 | 403 => Reason::Forbidden,
            429 => Reason::Throttled,
            _ => Reason::Api,
        }),
        None => by_status(kind, status, body.is_empty()),
    };
    let transient = matches!(
        reason,
        Reason::Timeout | Reason::ServiceUnavailable | Reason::Throttled
    ) || (matches!(status, 502..=504) && reason != Reason::Forbidden);
    Refusal {
        status,
        message: error
            .as_ref()
            .filter(|error| !error.message.is_empty())
            .map(|error| redact::presentable(&error.message)),
        code: error.map(|error| error.code),
        reason,
        transient,
        endpoint: None,
        advice: None,
    }
}

/// The codes that mean more to us than "an error". A code outside the service's own enumeration
/// is written as a number; those numbers stand here that are documented.
fn by_code(code: &str) -> Option<Reason> {
    Some(match code {
        "E_ACCESSDENIED" | "0x80070005" => Reason::Forbidden,
        "FABRIC_E_TIMEOUT" | "0x80071BFF" | "FABRIC_E_OPERATION_NOT_COMPLETE" => Reason::Timeout,
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

fn is_service_not_found(code: &str) -> bool {
    matches!(code, "FABRIC_E_SERVICE_DOES_NOT_EXIST" | "0x80071BCD")
}

fn by_status(kind: RouteKind, status: u16, empty: bool) -> Reason {
    match status {
        401 | 403 => Reason::Forbidden,
        404 if empty && kind == RouteKind::Backup => Reason::ServiceAbsent,
        429 => Reason::Throttled,
        502..=504 => Reason::ServiceUnavailable,
        _ => Reason::Api,
    }
}

/// `{"Error":{"Code":…,"Message":…}}`, from the gateway and from the backup service alike.
struct ErrorBody {
    code: FailureCode,
    message: String,
}

impl ErrorBody {
    fn read(body: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(body).ok()?;
        let error = document.get("Error")?;
        let code = match error.get("Code")? {
            Value::String(code) => FailureCode::from_text(code),
            Value::Number(code) => FailureCode::from_number(code.as_i64()?),
            _ => return None,
        };
        let message = error.get("Message").and_then(Value::as_str);
        Some(Self {
            code,
            message: message.unwrap_or_default().to_owned(),
        })
    }

    /// The backup service rethrows a time-out of its partition look-up as an argument error. Our
    /// ids are well-formed, so the literal reading of this answer is never the true one.
    fn is_masked_timeout(&self) -> bool {
        matches!(self.code.as_str(), "E_INVALIDARG" | "0x80070057")
            && self.message == "Invalid Arguments."
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

    #[test]
    fn every_error_sample_has_its_reason() {
        use Reason::{Api, Forbidden, ServiceAbsent, ServiceUnavailable, Timeout};
        let samples = [
            (
                "error.400.api-version-newer-than-cluster.gateway.json",
                400,
                Api,
                false,
            ),
            ("error.400.invalid-api-version.brs.json", 400, Api, false),
            (
                "error.400.list-index-out-of-range.brs.json",
                400,
                Api,
                false,
            ),
            ("error.400.masked-timeout.brs.json", 400, Timeout, true),
            ("error.400.validation.brs.json", 400, Api, false),
            ("error.403.access-denied.brs.json", 403, Forbidden, false),
            (
                "error.403.client-certificate-required.gateway.txt",
                403,
                Forbidden,
                false,
            ),
            ("error.404.backup-not-enabled.json", 404, Api, false),
            (
                "error.404.brs-not-installed-empty.txt",
                404,
                ServiceAbsent,
                false,
            ),
            ("error.404.partition-not-found.json", 404, Api, false),
            ("error.404.policy-does-not-exist.json", 404, Api, false),
            ("error.409.backup-in-progress.json", 409, Api, false),
            ("error.409.restore-in-progress.json", 409, Api, false),
            ("error.500.recovery-point-details.brs.json", 500, Api, false),
            ("error.504.gateway-empty.txt", 504, ServiceUnavailable, true),
            ("error.504.timeout.brs.json", 504, Timeout, true),
        ];
        let mut listed: Vec<_> = samples
            .iter()
            .map(|(file, ..)| (*file).to_owned())
            .collect();
        listed.sort();
        assert_eq!(decode::tests::samples("error."), listed);
        for (file, status, reason, transient) in samples {
            let refusal = classify(RouteKind::Backup, &PARTITION, status, &sample(file));
            assert_eq!(
                (refusal.reason, refusal.transient),
                (reason, transient),
                "{file}"
            );
            let unprotected = file == "error.404.backup-not-enabled.json";
            assert_eq!(refusal.is_backup_not_enabled(), unprotected, "{file}");
            let vanished = file == "error.404.partition-not-found.json";
            assert_eq!(refusal.is_partition_not_found(), vanished, "{file}");
        }
    }

    #[test]
    fn a_storage_that_cannot_be_read_is_an_error_to_stay() {
        for (status, file) in [
            (400, "error.400.list-index-out-of-range.brs.json"),
            (500, "error.500.recovery-point-details.brs.json"),
        ] {
            let subject = Subject::Application("fabric:/A");
            let refusal = classify(RouteKind::Backup, &subject, status, &sample(file));
            assert_eq!((refusal.reason, refusal.transient), (Reason::Api, false));
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
            let refusal = classify(RouteKind::Native, &PARTITION, status, body.as_bytes());
            assert_eq!(
                (refusal.reason, refusal.transient),
                (reason, transient),
                "{code} {status}"
            );
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
            let refusal = classify(kind, &PARTITION, status, body.as_bytes());
            assert_eq!(refusal.reason, reason, "{kind:?} {status} {body:?}");
            assert_eq!(refusal.code, None, "{kind:?} {status} {body:?}");
        }
    }

    #[test]
    fn a_service_that_does_not_exist_is_the_backup_service_only_where_no_other_can_be_meant() {
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
                let refusal = classify(kind, &subject, 404, body.as_bytes());
                assert_eq!(refusal.reason, reason, "{kind:?} {subject} {code}");
                assert!(!refusal.transient && refusal.is_service_not_found());
            }
        }
    }

    #[test]
    fn answers_without_a_code_are_of_the_node_unless_they_are_about_what_is_behind_it() {
        use RouteKind::{Backup, Native};
        let coded = "{\"Error\":{\"Code\":\"SOMETHING_NEW\"}}";
        for (kind, status, body, of_the_node) in [
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
            let refusal = classify(kind, &PARTITION, status, body.as_bytes());
            let judged = refusal.is_of_the_node();
            assert_eq!(judged, of_the_node, "{kind:?} {status} {body}");
        }
    }

    #[test]
    fn invalid_arguments_are_meant_literally_outside_of_partitions_and_backup_routes() {
        let body = sample("error.400.masked-timeout.brs.json");
        let literal = [
            classify(RouteKind::Native, &PARTITION, 400, &body),
            classify(RouteKind::Backup, &Subject::Cluster, 400, &body),
            classify(RouteKind::Backup, &Subject::Application("A"), 400, &body),
        ];
        for refusal in literal {
            assert_eq!((refusal.reason, refusal.transient), (Reason::Api, false));
        }
    }

    proptest! {
        #[test]
        fn any_body_can_be_judged(status: u16, body: Vec<u8>) {
            let refusal = classify(RouteKind::Backup, &PARTITION, status, &body);
            prop_assert_eq!(refusal.status, status);
            prop_assert!(!refusal.is_partition_not_found());
        }
    }
}
