//! Why a complete response is not the answer to its request.

use super::error_reply::ErrorReply;
use crate::gateway::decode::DecodeError;
use crate::gateway::reason::Reason;

/// A response that arrived and is not the expected answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum ReplyError {
    #[error("{0}")]
    Rejected(ErrorReply),
    #[error("cannot decode the response: {0}")]
    Decode(DecodeError),
    #[error("the list has more than {limit} items")]
    TooManyItems { limit: usize },
    #[error("the cluster has no such partition")]
    PartitionNotFound,
}

impl From<DecodeError> for ReplyError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl ReplyError {
    pub(in crate::gateway) fn reason(&self) -> Reason {
        match self {
            Self::Rejected(reply) => reply.reason,
            Self::Decode(_) => Reason::Decode,
            Self::TooManyItems { .. } => Reason::TooLarge,
            Self::PartitionNotFound => Reason::Api,
        }
    }
}
