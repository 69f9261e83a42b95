//! What the answers of one cycle say about the two sides of the gateway.
//!
//! Only answers count that somebody can be told by: an empty 503 comes from the gateway, an error
//! document from the service. A page of HTML speaks for neither; and a connection that fails says
//! nothing of what is behind the gateway, but silence on one that holds does.

use crate::gateway::error::{Cause, Reason};
use crate::gateway::query::RouteKind;

/// The facts since the beginning of the cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    gateway_answered: bool,
    native_success: bool,
    /// Whether the backup service was heard (which stands) or missed.
    service: Option<bool>,
}

impl Evidence {
    /// Takes in one attempt: the status if there was an answer, and the cause if it failed.
    pub(super) fn note(&mut self, kind: RouteKind, status: Option<u16>, failure: Option<&Cause>) {
        self.gateway_answered |= status.is_some();
        let understood = failure.is_none_or(|cause| cause.reason() != Reason::Decode);
        let success = status.is_some_and(|status| (200..300).contains(&status)) && understood;
        match kind {
            RouteKind::Native => self.native_success |= success,
            // A refusal that says "not protected" is no failure, and nobody else says so.
            RouteKind::Backup if success || failure.is_none_or(is_from_the_service) => {
                self.service = Some(true);
            }
            RouteKind::Backup if failure.is_some_and(|cause| is_for_want(cause, status)) => {
                self.service = self.service.or(Some(false));
            }
            RouteKind::Backup => {}
        }
    }

    /// Whether anything was answered at all.
    pub(super) fn gateway_answered(self) -> bool {
        self.gateway_answered
    }

    pub(super) fn native_access(self) -> bool {
        self.native_success
    }

    /// A service behind a gateway that nobody reached is neither there nor missing.
    pub(super) fn backup_service(self) -> Option<bool> {
        self.service.filter(|there| *there || self.gateway_answered)
    }
}

fn is_from_the_service(cause: &Cause) -> bool {
    matches!(cause, Cause::Refusal(refusal)
        if refusal.code.is_some()
            && refusal.reason != Reason::Forbidden
            && !refusal.is_service_not_found())
}

/// Whether the service is missing where it should have answered. What is not understood may come
/// from a service that has changed; any other answer that is not its own error document is not
/// from it. Without an answer, only a gateway that was waiting for one tells anything.
fn is_for_want(cause: &Cause, status: Option<u16>) -> bool {
    match status {
        Some(_) => !matches!(cause.reason(), Reason::Decode | Reason::TooLarge),
        None => matches!(cause, Cause::Deadline { .. }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::gateway::classify::classify;
    use crate::gateway::decode::DecodeError;
    use crate::gateway::query::Subject;
    use crate::gateway::tls::Diagnosis;
    use crate::model::PartitionId;

    fn refused(status: u16, body: &str) -> Cause {
        let subject = Subject::Partition(PartitionId(Uuid::from_u128(1)));
        Cause::Refusal(classify(
            RouteKind::Backup,
            &subject,
            status,
            body.as_bytes(),
        ))
    }

    fn deadline() -> Cause {
        Cause::Deadline {
            endpoint: String::new(),
            timeout: Duration::ZERO,
        }
    }

    fn after_backup_call(status: Option<u16>, failure: Option<&Cause>) -> Option<bool> {
        let mut evidence = Evidence::default();
        evidence.note(RouteKind::Backup, status, failure);
        assert!(!evidence.native_access());
        evidence.backup_service()
    }

    #[test]
    fn an_answer_of_the_service_shows_that_it_is_there() {
        assert_eq!(after_backup_call(Some(200), None), Some(true));
        let not_protected = after_backup_call(Some(404), None);
        assert_eq!(not_protected, Some(true));
        for (status, code) in [
            (404, "FABRIC_E_PARTITION_NOT_FOUND"),
            (404, "FABRIC_E_APPLICATION_NOT_FOUND"),
            (404, "FABRIC_E_BACKUP_POLICY_DOES_NOT_EXIST"),
            (504, "FABRIC_E_TIMEOUT"),
            (500, "E_UNEXPECTED"),
        ] {
            let body = format!("{{\"Error\":{{\"Code\":\"{code}\"}}}}");
            let cause = refused(status, &body);
            assert_eq!(after_backup_call(Some(status), Some(&cause)), Some(true));
        }
    }

    #[test]
    fn an_answer_of_the_gateway_in_its_place_shows_that_it_is_not() {
        let denied = "{\"Error\":{\"Code\":\"E_ACCESSDENIED\"}}";
        for (status, body) in [
            (404, ""),
            (504, ""),
            (503, "<html>"),
            (403, ""),
            (403, denied),
        ] {
            let cause = refused(status, body);
            assert_eq!(after_backup_call(Some(status), Some(&cause)), Some(false));
        }
    }

    #[test]
    fn service_not_found_on_every_backup_route_means_absent_until_another_answer() {
        for code in [
            "\"FABRIC_E_SERVICE_DOES_NOT_EXIST\"",
            "2147949517",
            "-2147017779",
        ] {
            let not_found = refused(404, &format!("{{\"Error\":{{\"Code\":{code}}}}}"));
            let mut evidence = Evidence::default();
            for _ in 0..3 {
                evidence.note(RouteKind::Backup, Some(404), Some(&not_found));
                assert_eq!(evidence.backup_service(), Some(false), "{code}");
            }
            let vanished = r#"{"Error":{"Code":"FABRIC_E_PARTITION_NOT_FOUND"}}"#;
            evidence.note(RouteKind::Backup, Some(404), Some(&refused(404, vanished)));
            assert_eq!(evidence.backup_service(), Some(true), "{code}");
            evidence.note(RouteKind::Backup, Some(404), Some(&not_found));
            assert_eq!(evidence.backup_service(), Some(true), "{code}");
        }
    }

    #[test]
    fn silence_counts_only_behind_a_gateway_that_answers() {
        let mut evidence = Evidence::default();
        evidence.note(RouteKind::Backup, None, Some(&deadline()));
        assert_eq!(evidence.backup_service(), None);
        evidence.note(RouteKind::Native, Some(403), Some(&refused(403, "")));
        assert_eq!(evidence.backup_service(), Some(false));
        assert!(!evidence.native_access());
        evidence.note(RouteKind::Backup, Some(200), None);
        assert_eq!(evidence.backup_service(), Some(true));
    }

    #[test]
    fn a_connection_that_fails_says_nothing_of_the_service() {
        let (endpoint, source) = (String::new, || {
            let unsent = reqwest::Client::new().get("no address").build();
            unsent.unwrap_err()
        });
        for cause in [
            Cause::Connect {
                endpoint: endpoint(),
                source: source(),
            },
            Cause::Broken {
                endpoint: endpoint(),
                source: source(),
            },
            Cause::Tls {
                endpoint: endpoint(),
                diagnosis: Diagnosis::Rejected,
                source: source(),
            },
        ] {
            let mut evidence = Evidence::default();
            evidence.note(RouteKind::Native, Some(200), None);
            evidence.note(RouteKind::Backup, None, Some(&cause));
            assert_eq!(evidence.backup_service(), None, "{cause}");
            evidence.note(RouteKind::Backup, None, Some(&deadline()));
            assert_eq!(evidence.backup_service(), Some(false), "{cause}");
        }
    }

    #[test]
    fn what_is_not_understood_is_evidence_of_nothing() {
        let cause = Cause::from(DecodeError::UnexpectedEnd);
        assert_eq!(after_backup_call(Some(200), Some(&cause)), None);
        let mut evidence = Evidence::default();
        evidence.note(RouteKind::Native, Some(200), Some(&cause));
        assert!(!evidence.native_access());
        evidence.note(RouteKind::Native, Some(200), None);
        assert!(evidence.native_access());
        assert_eq!(evidence.backup_service(), None);
    }
}
