//! What can go wrong in a call to the gateway.
//!
//! An [`Error`] says which route was asked about what, and carries its cause as `source`. Of the
//! texts of the cluster, only its error code and the beginning of its error message get into a
//! message, bounded and without secrets. Every cause maps to one [`Reason`], which is fit to be a label value.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::gateway::classify::Refusal;
use crate::gateway::decode::DecodeError;
use crate::gateway::file::FileError;
use crate::gateway::peer::{self, HttpFault};
use crate::gateway::port::PORT_HINT;
use crate::gateway::query::{Route, Subject};
pub use crate::gateway::reason::Reason;
use crate::gateway::security::FabricIdentityError;
use crate::gateway::tls::Diagnosis;
use crate::gateway::token::TokenError;

/// A call that failed: which route, about what, and why.
#[derive(Debug, thiserror::Error)]
#[error("{route} about {subject} {}", if self.was_sent() { "failed" } else { "was not sent" })]
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

    /// The kind of failure; of a call that was not sent, the failure that closed the way.
    pub fn reason(&self) -> Reason {
        self.cause.reason()
    }

    /// Whether anything was attempted; `false` when the breaker was open, or when it is known from
    /// an earlier call that no token can be had, or that the cycle has read too much.
    pub fn was_sent(&self) -> bool {
        !matches!(
            self.cause,
            Cause::BreakerOpen(_) | Cause::TokenNotDue(_) | Cause::QuotaSpent
        )
    }

    /// Whether the cluster says that it has no such partition (any more).
    pub fn is_partition_not_found(&self) -> bool {
        match &self.cause {
            Cause::PartitionNotFound => true,
            Cause::Refusal(refusal) => refusal.is_partition_not_found(),
            _ => false,
        }
    }

    /// Whether the cluster says that what was asked about does not exist (any more): an application,
    /// a service or a partition that was deleted. It may still be in lists while it is deleted.
    pub fn is_gone(&self) -> bool {
        match &self.cause {
            Cause::PartitionNotFound => true,
            Cause::Refusal(refusal) => refusal.is_gone(),
            _ => false,
        }
    }

    /// Whether a list of backups failed with an index that is out of range. Runtime 6.4 answers so
    /// before the first backup, while the container or folder of the storage does not exist, and
    /// when the storage cannot be read (`GetRestorePointsOperation.cs`).
    pub fn is_index_out_of_range(&self) -> bool {
        matches!(&self.cause, Cause::Refusal(refusal) if refusal.is_index_out_of_range())
    }

    /// Whether a configuration route failed with `E_UNEXPECTED`. Runtime 6.4 answers so at
    /// application and service scope when an entity below is suspended and has no policy of its
    /// own: a null reference (`GetBackupMappingInfoOperation.cs`). Partition scope is not affected.
    pub fn is_null_reference(&self) -> bool {
        matches!(&self.cause, Cause::Refusal(refusal) if refusal.is_null_reference())
    }

    /// Whether the backup service says that no policy applies, so that there is no storage to list.
    pub fn is_backup_not_enabled(&self) -> bool {
        matches!(&self.cause, Cause::Refusal(refusal) if refusal.is_backup_not_enabled())
    }

    /// Whether the health store has nothing on what was asked about.
    pub fn is_unknown_to_health(&self) -> bool {
        matches!(&self.cause, Cause::Refusal(refusal) if refusal.is_unknown_to_health())
    }
}

/// Why a [`Gateway`](super::Gateway) cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The list of endpoints is empty.
    #[error("a cluster needs at least one endpoint")]
    NoEndpoint,
    /// An endpoint that is not `http[s]://host[:port][/path]`. Shown without what may be secret.
    #[error("{scheme}://{host} is no endpoint: expected http[s]://host[:port][/path]")]
    Endpoint {
        /// The scheme given.
        scheme: String,
        /// The host given.
        host: String,
    },
    /// A token beside a trust that checks nobody.
    #[error("a token would go to whoever answers, because no server is checked")]
    TokenForAnybody,
    /// A token beside an endpoint that is another machine, by http.
    #[error("a token would be sent to {host} in the clear")]
    TokenInTheClear {
        /// The host of the endpoint.
        host: String,
    },
    /// The managed identity of the Service Fabric application cannot be used.
    #[error("the environment has a managed identity that cannot be used")]
    FabricIdentity(#[source] FabricIdentityError),
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// Files that security lives in cannot be used.
    #[error("{}", listed(.0))]
    Files(Vec<FileError>),
    /// The TLS library takes the client certificate in this file and its key not.
    #[error("{file}")]
    Identity {
        /// The file with the certificate.
        file: FileError,
        /// What the library says.
        source: reqwest::Error,
    },
    /// The same files did not come in time.
    #[error("the files of trust and auth could not be read within {0:?}")]
    Late(Duration),
}

fn listed(faults: &[FileError]) -> String {
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}

/// What happened, with all that a log should tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("no connection to {endpoint}")]
    Connect {
        endpoint: String,
        source: reqwest::Error,
    },
    #[error(
        "the connection to {endpoint} broke off{}",
        unanswered(endpoint, source)
    )]
    Broken {
        endpoint: String,
        source: reqwest::Error,
    },
    #[error("no secure connection to {endpoint}: {diagnosis}")]
    Tls {
        endpoint: String,
        diagnosis: Diagnosis,
        source: reqwest::Error,
    },
    #[error("{endpoint} {fault}")]
    NoHttp {
        endpoint: String,
        fault: HttpFault,
        source: reqwest::Error,
    },
    #[error("no complete answer from {endpoint} within {timeout:?}")]
    Deadline { endpoint: String, timeout: Duration },
    #[error("the answer was {0}")]
    Refusal(Refusal),
    #[error("the answer{} could not be decoded: {error}", of(endpoint.as_deref()))]
    Decode {
        /// The endpoint that answered, where that is known.
        endpoint: Option<String>,
        error: DecodeError,
    },
    #[error("the answer has more than {limit} bytes")]
    TooManyBytes { limit: usize },
    #[error("the list has more than {limit} pages")]
    TooManyPages { limit: usize },
    #[error("the list has more than {limit} items")]
    TooManyItems { limit: usize },
    #[error(
        "the lists of this cycle have more than {items} items, or take more than {bytes} bytes"
    )]
    QuotaExceeded { items: usize, bytes: usize },
    #[error("the lists of this cycle were too large before this one was read")]
    QuotaSpent,
    #[error("the cluster has no such partition")]
    PartitionNotFound,
    #[error("earlier calls failed ({}), the next probe is not due", .0.as_str())]
    BreakerOpen(Reason),
    #[error("no token could be had")]
    Token(#[source] Arc<TokenError>),
    #[error("no token could be had a moment ago, and the next attempt is not due")]
    TokenNotDue(#[source] Arc<TokenError>),
}

/// A hint for a connection that ends before the first byte of an answer: so does http.sys where it
/// expects TLS, and the client port of a cluster.
fn unanswered(endpoint: &str, source: &reqwest::Error) -> String {
    if !peer::closed_without_answer(source) {
        return String::new();
    }
    let scheme = if endpoint.starts_with("http:") {
        ", and write https if the cluster is secured"
    } else {
        ""
    };
    format!(" before it answered; if that persists, {PORT_HINT}{scheme}")
}

fn of(endpoint: Option<&str>) -> String {
    endpoint
        .map(|endpoint| format!(" of {endpoint}"))
        .unwrap_or_default()
}

impl From<DecodeError> for Cause {
    fn from(error: DecodeError) -> Self {
        Self::Decode {
            endpoint: None,
            error,
        }
    }
}

impl Cause {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Connect { .. } | Self::Broken { .. } => Reason::Connect,
            Self::NoHttp { fault, .. } => match fault {
                HttpFault::Tls | HttpFault::OtherProtocol => Reason::Connect,
                HttpFault::Malformed => Reason::Decode,
                HttpFault::LargeHead => Reason::TooLarge,
            },
            Self::Tls { .. } => Reason::Tls,
            Self::Deadline { .. } => Reason::Timeout,
            Self::Refusal(refusal) => refusal.reason,
            Self::Decode { .. } => Reason::Decode,
            Self::TooManyBytes { .. }
            | Self::TooManyPages { .. }
            | Self::TooManyItems { .. }
            | Self::QuotaExceeded { .. }
            | Self::QuotaSpent => Reason::TooLarge,
            Self::PartitionNotFound => Reason::Api,
            Self::BreakerOpen(reason) => *reason,
            Self::Token(error) | Self::TokenNotDue(error) => error.reason(),
        }
    }

    /// Whether another endpoint may do better: this one is dead, hangs, or answers for what is
    /// behind it that it cannot.
    pub(super) fn is_of_the_endpoint(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Broken { .. }
            | Self::NoHttp { .. }
            | Self::Deadline { .. } => true,
            Self::Refusal(refusal) => refusal.code.is_none() && matches!(refusal.status, 502..=504),
            _ => false,
        }
    }

    /// Whether the answer comes from the node, or from something in front of it, instead of the
    /// cluster: another endpoint may answer for the cluster.
    pub(super) fn is_of_the_node(&self) -> bool {
        match self {
            Self::NoHttp { .. } => true,
            Self::Refusal(refusal) => refusal.is_of_the_node(),
            Self::Decode { error, .. } => matches!(
                error,
                DecodeError::Syntax { .. }
                    | DecodeError::UnexpectedEnd
                    | DecodeError::Structure { .. }
                    | DecodeError::NativeStructure { .. }
                    | DecodeError::NotGateway
                    | DecodeError::ContentEncoding(_)
                    | DecodeError::Compression
                    | DecodeError::Empty
                    | DecodeError::Member
            ),
            _ => false,
        }
    }

    /// Whether the call may go on to another endpoint at once: this one has not answered for the
    /// cluster, and has done no work for it.
    pub(super) fn may_work_elsewhere(&self) -> bool {
        self.is_before_the_request() || self.is_of_the_node()
    }

    /// The same cause, which names the endpoint that answered.
    pub(super) fn answered_by(self, endpoint: &Url) -> Self {
        match self {
            Self::Refusal(refusal) => Self::Refusal(refusal.answered_by(endpoint)),
            Self::Decode { error, .. } => Self::Decode {
                endpoint: Some(endpoint.to_string()),
                error,
            },
            cause => cause,
        }
    }

    /// Whether no request was taken in, so that asking another endpoint costs this one nothing. That
    /// goes for TLS that fails when the gateway asks for the certificate, too: it has read the
    /// request by then, but does nothing for a stranger.
    pub(super) fn is_before_the_request(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Tls { .. })
    }

    /// Whether the same request may well succeed a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } => true,
            Self::Refusal(refusal) => refusal.transient,
            _ => false,
        }
    }
}
