//! Why no token could be had.
//!
//! Every error says where the token was asked for and what to do about it. Addresses stand here
//! without their query; no secret and no token is ever part of a text, and what a token endpoint
//! says of its reasons only as [`Refusal`] lets it through.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::refusal::Refusal;
use crate::gateway::bearer::BearerError;
use crate::gateway::decode::DecodeError;
use crate::gateway::failure::Failure;
use crate::gateway::file::FileError;
use crate::gateway::reason::Reason;

/// An attempt to get a token that failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum TokenError {
    #[error("a file cannot be used")]
    File(#[from] FileError),
    #[error("{path} could not be read within {timeout:?}")]
    SlowFile { path: String, timeout: Duration },
    #[error(
        "the token in {path} expired at {expired_at}; see that what writes this file still runs"
    )]
    Expired {
        path: String,
        expired_at: DateTime<Utc>,
    },
    #[error(transparent)]
    Bearer(#[from] BearerError),
    #[error(
        "the cluster did not say which directory issues its tokens; write tenant_id and authority \
         in auth.entra if it cannot be asked"
    )]
    Discovery(#[source] Failure),
    #[error(
        "the cluster says that it takes no tokens of Entra ID; switch Entra ID on in the cluster, \
         or use a client certificate"
    )]
    NoDirectory,
    #[error("the cluster names no {what}, or none that can be used; write auth.entra.{what}")]
    Unnamed { what: &'static str },
    #[error(
        "the cluster names {host} as its sign-in service, which is not known as one of \
         Microsoft's, so it gets no secret; write auth.entra.authority if that is right"
    )]
    ForeignAuthority { host: String },
    #[error("no connection to {address}, or it broke off; {advice}")]
    Unreachable {
        address: String,
        advice: &'static str,
        source: reqwest::Error,
    },
    #[error("no complete answer from {address} within {timeout:?}; {advice}")]
    Late {
        address: String,
        timeout: Duration,
        advice: &'static str,
    },
    #[error("the answer of {address} has more than {limit} bytes")]
    TooLarge { address: String, limit: usize },
    #[error("{address} answered HTTP status {status}: {refusal}")]
    Refused {
        address: String,
        status: u16,
        refusal: Refusal,
    },
    #[error(
        "{address} answered HTTP status {status} without an error that is understood; is it a \
         token endpoint, and does nothing stand in between?"
    )]
    Unexplained { address: String, status: u16 },
    #[error("the answer of {address} is no answer of a token endpoint: {fault}")]
    Decode { address: String, fault: DecodeError },
    #[error("the answer of {address} has no access_token")]
    NoToken { address: String },
}

impl TokenError {
    /// The kind of failure. A cluster that cannot be asked fails as it does without tokens.
    pub(in crate::gateway) fn reason(&self) -> Reason {
        match self {
            Self::Discovery(failure) => failure.reason(),
            _ => Reason::Token,
        }
    }
}

/// Why there is no token for a call.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum TokenUnavailable {
    #[error("could not obtain a token")]
    Failed(#[source] Arc<TokenError>),
    #[error("could not obtain a token at the last attempt, and the next one is not due")]
    NotDue(#[source] Arc<TokenError>),
}

impl TokenUnavailable {
    pub(in crate::gateway) fn reason(&self) -> Reason {
        match self {
            Self::Failed(error) | Self::NotDue(error) => error.reason(),
        }
    }
}
