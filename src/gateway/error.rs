//! The failure of a call to the gateway.
//!
//! An [`Error`] names the route and the subject of the call and carries its cause as `source`. From
//! the texts of the cluster, a message contains only the error code and the beginning of the error
//! message, bounded and without secrets. Every cause maps to one [`Reason`], which is a label value.

use crate::gateway::decode::DecodeError;
use crate::gateway::failure::Failure;
use crate::gateway::quota::QuotaError;
use crate::gateway::reason::Reason;
use crate::gateway::token::TokenUnavailable;
use crate::gateway::wire::{ErrorReply, ReplyError, Route, Subject};

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[error("{route} for {subject} {}", if self.was_sent() { "failed" } else { "was not sent" })]
pub struct Error {
    route: &'static str,
    subject: String,
    #[source]
    cause: Cause,
}

impl Error {
    pub(super) fn new(route: &Route, subject: &Subject<'_>, cause: Cause) -> Self {
        Self {
            route: route.name,
            subject: subject.to_string(),
            cause,
        }
    }

    /// The reason of the failure; for a call that was not sent, the reason of the failure that
    /// prevents it.
    pub fn reason(&self) -> Reason {
        self.cause.reason()
    }

    /// Whether a request was attempted; `false` when the circuit breaker is open, no token is due,
    /// or the item quota of the cycle is exhausted.
    pub fn was_sent(&self) -> bool {
        !matches!(
            self.cause,
            Cause::BreakerOpen(_)
                | Cause::Token(TokenUnavailable::NotDue(_))
                | Cause::Quota(QuotaError::Exhausted)
        )
    }

    /// Whether the cluster reports that the partition does not exist.
    pub fn is_partition_not_found(&self) -> bool {
        match self.cause.reply_error() {
            Some(ReplyError::PartitionNotFound) => true,
            Some(ReplyError::Rejected(reply)) => reply.is_partition_not_found(),
            _ => false,
        }
    }

    /// Whether the cluster reports that the application, service or partition of the call does not
    /// exist. It can still be listed while it is being deleted.
    pub fn is_gone(&self) -> bool {
        match self.cause.reply_error() {
            Some(ReplyError::PartitionNotFound) => true,
            Some(ReplyError::Rejected(reply)) => reply.is_gone(),
            _ => false,
        }
    }

    /// Whether a backup list failed with an index that is out of range. Runtime 6.4 answers so
    /// before the first backup, while the container or folder of the storage does not exist, and
    /// when the storage cannot be read (`GetRestorePointsOperation.cs`).
    pub fn is_index_out_of_range(&self) -> bool {
        self.is_rejected(ErrorReply::is_index_out_of_range)
    }

    /// Whether a configuration route failed with `E_UNEXPECTED`. Runtime 6.4 answers so at
    /// application and service scope when an entity below is suspended and has no policy of its
    /// own: a null reference (`GetBackupMappingInfoOperation.cs`). Partition scope is not affected.
    pub fn is_null_reference(&self) -> bool {
        self.is_rejected(ErrorReply::is_null_reference)
    }

    /// Whether the backup service reports that no policy applies, so that there is no storage to
    /// list.
    pub fn is_backup_not_enabled(&self) -> bool {
        self.is_rejected(ErrorReply::is_backup_not_enabled)
    }

    /// Whether the health store has no entity for the subject.
    pub(crate) fn is_unknown_to_health(&self) -> bool {
        self.is_rejected(ErrorReply::is_unknown_to_health)
    }

    fn is_rejected(&self, as_expected: impl Fn(&ErrorReply) -> bool) -> bool {
        matches!(self.cause.reply_error(), Some(ReplyError::Rejected(reply)) if as_expected(reply))
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error("invalid list: {0}")]
    Page(DecodeError),
    #[error("the list has more than {limit} pages")]
    TooManyPages { limit: usize },
    #[error(transparent)]
    Quota(#[from] QuotaError),
    #[error("the circuit breaker is open after earlier failures ({}), and no probe is due", .0.as_str())]
    BreakerOpen(Reason),
    #[error(transparent)]
    Token(#[from] TokenUnavailable),
}

impl Cause {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Failure(failure) => failure.reason(),
            Self::Page(_) => Reason::Decode,
            Self::TooManyPages { .. } | Self::Quota(_) => Reason::TooLarge,
            Self::BreakerOpen(reason) => *reason,
            Self::Token(error) => error.reason(),
        }
    }

    fn reply_error(&self) -> Option<&ReplyError> {
        match self {
            Self::Failure(Failure::Reply(error)) => Some(error),
            _ => None,
        }
    }
}
