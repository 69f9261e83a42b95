//! A route with the function that translates its answer into the model.

use serde::de::DeserializeOwned;

use super::error::ReplyError;
use super::error_reply::classify;
use super::route::{Route, RouteKind, Subject};
use crate::gateway::decode::{self, DecodeError};
use crate::gateway::reason::Reason;

/// A call that the gateway answers with a `T`.
#[derive(Debug)]
pub struct Query<T> {
    pub(in crate::gateway) route: Route,
    /// Translates the body of a successful response.
    pub(super) answer: fn(Reply<'_>) -> Result<T, ReplyError>,
    /// The answer where the backup service reports that no policy applies. `None`: an error.
    pub(super) not_enabled: Option<fn() -> T>,
}

impl<T> Query<T> {
    /// Reads a response of any status.
    pub(in crate::gateway) fn read(
        &self,
        subject: &Subject<'_>,
        status: u16,
        body: &[u8],
    ) -> Result<T, ReplyError> {
        let kind = self.route.kind;
        if (200..300).contains(&status) {
            return (self.answer)(Reply { kind, status, body });
        }
        let mut reply = classify(kind, subject, status, body);
        if reply.code.is_none()
            && reply.reason == Reason::Api
            && matches!(status, 300..=399 | 404 | 405 | 501)
        {
            reply = reply.with_hint(DecodeError::NotGateway.to_string());
        }
        match self.not_enabled {
            Some(answer) if reply.is_backup_not_enabled() => Ok(answer()),
            _ => Err(ReplyError::Rejected(reply)),
        }
    }
}

/// A successful response.
#[derive(Clone, Copy)]
pub(super) struct Reply<'a> {
    kind: RouteKind,
    pub(super) status: u16,
    body: &'a [u8],
}

impl Reply<'_> {
    /// The JSON object in the body; `None` for an empty body and for `null`.
    pub(super) fn optional<R: DeserializeOwned>(self) -> Result<Option<R>, DecodeError> {
        decode::document(self.body).map_err(|error| self.foreign(error))
    }

    /// The JSON object in the body.
    pub(super) fn required<R: DeserializeOwned>(self) -> Result<R, DecodeError> {
        self.optional()?.ok_or(DecodeError::Empty)
    }

    /// `error`, or what it reveals about the server: all routes of a gateway answer JSON objects.
    fn foreign(self, error: DecodeError) -> DecodeError {
        match error {
            DecodeError::Structure { .. } | DecodeError::Syntax { .. }
                if !decode::without_padding(self.body).starts_with(b"{") =>
            {
                DecodeError::NotGateway
            }
            DecodeError::Structure { line, column } if self.kind == RouteKind::Native => {
                DecodeError::NativeStructure { line, column }
            }
            error => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::decode::tests::sample;
    use crate::gateway::wire::{
        APPLICATION_CONFIGURATIONS, APPLICATIONS, LATEST_BACKUPS, RESTORE_PROGRESS,
    };

    #[test]
    fn backup_not_enabled_is_an_empty_answer_only_where_protection_is_asked_for() {
        let body = sample("error.404.backup-not-enabled.json");
        let subject = Subject::Cluster;
        let configurations = APPLICATION_CONFIGURATIONS.read(&subject, 404, &body);
        let configurations = configurations.unwrap();
        assert_eq!((configurations.items.len(), configurations.next), (0, None));
        let backups = LATEST_BACKUPS.read(&subject, 404, &body);
        assert!(backups.is_err(), "no storage, so no list");
        let restore = RESTORE_PROGRESS.read(&subject, 404, &body);
        assert_eq!(restore.unwrap(), None);
        for (status, reply) in [
            (404, "error.404.partition-not-found.json"),
            (404, "error.404.policy-does-not-exist.json"),
            (404, "error.404.brs-not-installed-empty.txt"),
            (500, "error.500.recovery-point-details.brs.json"),
        ] {
            let read = LATEST_BACKUPS.read(&subject, status, &sample(reply));
            assert!(matches!(read, Err(ReplyError::Rejected(_))), "{reply}");
        }
        assert!(APPLICATIONS.read(&subject, 404, &body).is_err());
    }
}
