//! What the answers of one cycle show about the gateway and the backup service.
//!
//! Counts only what identifies its sender: an empty 503 comes from the gateway, an error document
//! from the service. An HTML page is from neither. A failed connection shows nothing about the
//! systems behind the gateway; a timeout on an established one does.

use crate::gateway::failure::Failure;
use crate::gateway::reason::Reason;
use crate::gateway::wire::{ReplyError, RouteKind};

/// The outcomes since the beginning of the cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reachability {
    gateway_answered: bool,
    native_success: bool,
    /// Whether the backup service answered (final for the cycle) or did not.
    service: Option<bool>,
}

impl Reachability {
    /// Takes one attempt into account: the status if there was a response, and its failure.
    pub(super) fn record(
        &mut self,
        kind: RouteKind,
        status: Option<u16>,
        failure: Option<&Failure>,
    ) {
        self.gateway_answered |= status.is_some();
        let decoded = failure.is_none_or(|failure| failure.reason() != Reason::Decode);
        let success = status.is_some_and(|status| (200..300).contains(&status)) && decoded;
        match kind {
            RouteKind::Native => self.native_success |= success,
            // "Backup not enabled" is no failure, and only the backup service reports it.
            RouteKind::Backup if success || failure.is_none_or(is_from_service) => {
                self.service = Some(true);
            }
            RouteKind::Backup
                if failure.is_some_and(|failure| implies_service_down(failure, status)) =>
            {
                self.service = self.service.or(Some(false));
            }
            RouteKind::Backup => {}
        }
    }

    /// Whether any response arrived.
    pub(super) fn gateway_answered(self) -> bool {
        self.gateway_answered
    }

    /// Whether a native route answered with a success.
    pub(super) fn native_access(self) -> bool {
        self.native_success
    }

    /// Whether the backup service answers; `None` when no gateway was reached or no backup route
    /// was called.
    pub(super) fn backup_service(self) -> Option<bool> {
        self.service.filter(|up| *up || self.gateway_answered)
    }
}

fn is_from_service(failure: &Failure) -> bool {
    matches!(failure, Failure::Reply(ReplyError::Rejected(reply))
        if reply.code.is_some()
            && reply.reason != Reason::Forbidden
            && !reply.is_service_not_found())
}

/// Whether the service is missing where it should have answered. A response that cannot be decoded
/// may come from a service that has changed; any other response without the service's error
/// document is not from it. Without a response, only a timeout behind a gateway is a sign.
fn implies_service_down(failure: &Failure, status: Option<u16>) -> bool {
    match status {
        Some(_) => !matches!(failure.reason(), Reason::Decode | Reason::TooLarge),
        None => matches!(failure, Failure::Timeout { .. }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::gateway::decode::DecodeError;
    use crate::gateway::tls::Diagnosis;
    use crate::gateway::wire::{Subject, classify};
    use crate::model::PartitionId;

    fn rejected(status: u16, body: &str) -> Failure {
        let subject = Subject::Partition(PartitionId(Uuid::from_u128(1)));
        let reply = classify(RouteKind::Backup, &subject, status, body.as_bytes());
        Failure::Reply(ReplyError::Rejected(reply))
    }

    fn timeout() -> Failure {
        Failure::Timeout {
            endpoint: String::new(),
            timeout: Duration::ZERO,
        }
    }

    fn after_backup_call(status: Option<u16>, failure: Option<&Failure>) -> Option<bool> {
        let mut reachability = Reachability::default();
        reachability.record(RouteKind::Backup, status, failure);
        assert!(!reachability.native_access());
        reachability.backup_service()
    }

    #[test]
    fn an_answer_of_the_service_shows_that_it_is_up() {
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
            let failure = rejected(status, &body);
            assert_eq!(after_backup_call(Some(status), Some(&failure)), Some(true));
        }
    }

    #[test]
    fn an_answer_of_the_gateway_instead_of_the_service_shows_that_it_is_down() {
        let denied = "{\"Error\":{\"Code\":\"E_ACCESSDENIED\"}}";
        for (status, body) in [
            (404, ""),
            (504, ""),
            (503, "<html>"),
            (403, ""),
            (403, denied),
        ] {
            let failure = rejected(status, body);
            assert_eq!(after_backup_call(Some(status), Some(&failure)), Some(false));
        }
    }

    #[test]
    fn service_not_found_on_every_backup_route_means_absent_until_another_answer() {
        for code in [
            "\"FABRIC_E_SERVICE_DOES_NOT_EXIST\"",
            "2147949517",
            "-2147017779",
        ] {
            let not_found = rejected(404, &format!("{{\"Error\":{{\"Code\":{code}}}}}"));
            let mut reachability = Reachability::default();
            for _ in 0..3 {
                reachability.record(RouteKind::Backup, Some(404), Some(&not_found));
                assert_eq!(reachability.backup_service(), Some(false), "{code}");
            }
            let vanished = r#"{"Error":{"Code":"FABRIC_E_PARTITION_NOT_FOUND"}}"#;
            reachability.record(RouteKind::Backup, Some(404), Some(&rejected(404, vanished)));
            assert_eq!(reachability.backup_service(), Some(true), "{code}");
            reachability.record(RouteKind::Backup, Some(404), Some(&not_found));
            assert_eq!(reachability.backup_service(), Some(true), "{code}");
        }
    }

    #[test]
    fn a_timeout_counts_only_behind_a_gateway_that_answers() {
        let mut reachability = Reachability::default();
        reachability.record(RouteKind::Backup, None, Some(&timeout()));
        assert_eq!(reachability.backup_service(), None);
        reachability.record(RouteKind::Native, Some(403), Some(&rejected(403, "")));
        assert_eq!(reachability.backup_service(), Some(false));
        assert!(!reachability.native_access());
        reachability.record(RouteKind::Backup, Some(200), None);
        assert_eq!(reachability.backup_service(), Some(true));
    }

    #[test]
    fn a_failed_connection_shows_nothing_about_the_service() {
        let (endpoint, source) = (String::new, || {
            let unsent = reqwest::Client::new().get("no address").build();
            unsent.unwrap_err()
        });
        for failure in [
            Failure::Connect {
                endpoint: endpoint(),
                source: source(),
            },
            Failure::Closed {
                endpoint: endpoint(),
                source: source(),
            },
            Failure::Tls {
                endpoint: endpoint(),
                diagnosis: Diagnosis::Rejected,
                source: source(),
            },
        ] {
            let mut reachability = Reachability::default();
            reachability.record(RouteKind::Native, Some(200), None);
            reachability.record(RouteKind::Backup, None, Some(&failure));
            assert_eq!(reachability.backup_service(), None, "{failure}");
            reachability.record(RouteKind::Backup, None, Some(&timeout()));
            assert_eq!(reachability.backup_service(), Some(false), "{failure}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_decoded_shows_nothing() {
        let failure = Failure::Reply(DecodeError::UnexpectedEnd.into());
        assert_eq!(after_backup_call(Some(200), Some(&failure)), None);
        let mut reachability = Reachability::default();
        reachability.record(RouteKind::Native, Some(200), Some(&failure));
        assert!(!reachability.native_access());
        reachability.record(RouteKind::Native, Some(200), None);
        assert!(reachability.native_access());
        assert_eq!(reachability.backup_service(), None);
    }
}
