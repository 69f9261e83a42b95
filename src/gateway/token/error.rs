//! Errors of token requests.
//!
//! Each error names the file or the endpoint, and a solution. Addresses are without their query; no
//! text contains a secret or a token, and the text of a token endpoint only as [`ErrorResponse`]
//! sanitizes it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::error_response::ErrorResponse;
use crate::gateway::bearer::BearerError;
use crate::gateway::decode::DecodeError;
use crate::gateway::failure::Failure;
use crate::gateway::file::FileError;
use crate::gateway::reason::Reason;

/// A failed attempt to obtain a token.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum TokenError {
    #[error("a file cannot be used")]
    File(#[from] FileError),
    #[error("{path} could not be read within {timeout:?}")]
    SlowFile { path: String, timeout: Duration },
    #[error("the token in {path} expired at {expired_at}; check the process that writes the file")]
    Expired {
        path: String,
        expired_at: DateTime<Utc>,
    },
    #[error(transparent)]
    Bearer(#[from] BearerError),
    #[error(
        "the cluster did not report which directory issues its tokens; set tenant_id and authority \
         in auth.entra if it cannot be queried"
    )]
    Discovery(#[source] Failure),
    #[error(
        "the cluster accepts no Entra ID tokens; enable Entra ID in the cluster, or use a client \
         certificate"
    )]
    NoDirectory,
    #[error("the cluster reports no valid {setting}; set auth.entra.{setting}")]
    Undiscovered { setting: &'static str },
    #[error(
        "the cluster reports {host} as its sign-in service, which is not a known Microsoft \
         service, so the secret is not sent to it; set auth.entra.authority if it is correct"
    )]
    UnknownAuthority { host: String },
    #[error("no connection to {address}, or it was closed early; {hint}")]
    Unreachable {
        address: String,
        hint: &'static str,
        source: reqwest::Error,
    },
    #[error("no complete response from {address} within {timeout:?}; {hint}")]
    Timeout {
        address: String,
        timeout: Duration,
        hint: &'static str,
    },
    #[error("the response of {address} is larger than {limit} bytes")]
    TooLarge { address: String, limit: usize },
    #[error("{address} responded with HTTP status {status}: {response}")]
    Rejected {
        address: String,
        status: u16,
        response: ErrorResponse,
    },
    #[error(
        "{address} responded with HTTP status {status} without a valid error; check that it is a \
         token endpoint and that there is no proxy in front of it"
    )]
    InvalidError { address: String, status: u16 },
    #[error("the response of {address} is not that of a token endpoint: {error}")]
    Decode { address: String, error: DecodeError },
    #[error("the response of {address} has no access_token")]
    NoToken { address: String },
}

impl TokenError {
    /// The kind of failure; that of the call to the cluster if the discovery failed.
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
