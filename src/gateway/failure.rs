//! Why one attempt of a call failed.
//!
//! Carries what decides about the next attempt: which system failed, and whether the request can
//! have been processed.

use std::time::Duration;

use url::Url;

use crate::gateway::decode::DecodeError;
use crate::gateway::peer::{self, ProtocolError};
use crate::gateway::port::PORT_HINT;
use crate::gateway::reason::Reason;
use crate::gateway::tls::Diagnosis;
use crate::gateway::wire::ReplyError;

/// The failure of one HTTP exchange.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect to {endpoint}")]
    Connect {
        endpoint: String,
        source: reqwest::Error,
    },
    #[error("connection to {endpoint} was closed{}", closed_hint(endpoint, source))]
    Closed {
        endpoint: String,
        source: reqwest::Error,
    },
    #[error("TLS connection to {endpoint} failed: {diagnosis}")]
    Tls {
        endpoint: String,
        diagnosis: Diagnosis,
        source: reqwest::Error,
    },
    #[error("{endpoint} {error}")]
    Protocol {
        endpoint: String,
        error: ProtocolError,
        source: reqwest::Error,
    },
    #[error("no complete response from {endpoint} within {timeout:?}")]
    Timeout { endpoint: String, timeout: Duration },
    #[error("the response is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("cannot decode the response of {endpoint}: {error}")]
    Decode {
        endpoint: String,
        error: DecodeError,
    },
    #[error(transparent)]
    Reply(ReplyError),
}

/// A hint for a connection that is closed before the first byte of an answer, as http.sys does
/// where it expects TLS, and the client port of a cluster.
fn closed_hint(endpoint: &str, source: &reqwest::Error) -> String {
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

impl Failure {
    /// The failure of a complete response from `endpoint`.
    pub(super) fn of_reply(error: ReplyError, endpoint: &Url) -> Self {
        match error {
            ReplyError::Decode(error) => Self::decode(error, endpoint),
            ReplyError::Rejected(reply) => {
                Self::Reply(ReplyError::Rejected(reply.with_endpoint(endpoint)))
            }
            error => Self::Reply(error),
        }
    }

    pub(super) fn decode(error: DecodeError, endpoint: &Url) -> Self {
        let endpoint = endpoint.to_string();
        Self::Decode { endpoint, error }
    }

    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Connect { .. } | Self::Closed { .. } => Reason::Connect,
            Self::Protocol { error, .. } => match error {
                ProtocolError::Tls | ProtocolError::NotHttp => Reason::Connect,
                ProtocolError::Malformed => Reason::Decode,
                ProtocolError::HeadTooLarge => Reason::TooLarge,
            },
            Self::Tls { .. } => Reason::Tls,
            Self::Timeout { .. } => Reason::Timeout,
            Self::BodyTooLarge { .. } => Reason::TooLarge,
            Self::Decode { .. } => Reason::Decode,
            Self::Reply(error) => error.reason(),
        }
    }

    /// Whether another endpoint may succeed: this one is unreachable, hangs, or cannot reach the
    /// service behind it.
    pub(super) fn is_of_endpoint(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Closed { .. }
            | Self::Protocol { .. }
            | Self::Timeout { .. } => true,
            Self::Reply(ReplyError::Rejected(reply)) => {
                reply.code.is_none() && matches!(reply.status, 502..=504)
            }
            _ => false,
        }
    }

    /// Whether the response comes from the node, or from a proxy in front of it, rather than from
    /// the cluster: another endpoint may get an answer from the cluster.
    pub(super) fn is_from_node(&self) -> bool {
        match self {
            Self::Protocol { .. } => true,
            Self::Reply(ReplyError::Rejected(reply)) => reply.is_from_node(),
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

    /// Whether the call may move on to another endpoint at once: this one sent no answer of the
    /// cluster, and the cluster did no work. A TLS failure counts even when the gateway requests
    /// the certificate by renegotiation: it has read the request by then, but processes nothing.
    pub(super) fn allows_another_endpoint(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Tls { .. }) || self.is_from_node()
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Closed { .. } => true,
            Self::Reply(ReplyError::Rejected(reply)) => reply.transient,
            _ => false,
        }
    }

    /// Whether the cluster may have done the requested work although the response is of no use.
    pub(super) fn is_after_work(&self) -> bool {
        match self {
            Self::Decode { .. } => true,
            Self::Reply(ReplyError::Rejected(reply)) => reply.status >= 500,
            _ => false,
        }
    }

    /// Whether the gateway itself rejected our credentials.
    pub(super) fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Reply(ReplyError::Rejected(reply)) if reply.is_unauthenticated())
    }
}
