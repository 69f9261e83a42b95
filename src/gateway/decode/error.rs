//! Why a response body, or a part of one, could not be decoded.

use crate::gateway::port::PORT_HINT;

/// A response that could not be decoded. Never quotes the response, which may contain secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum DecodeError {
    #[error("invalid JSON (line {line}, column {column})")]
    Syntax { line: usize, column: usize },
    #[error("incomplete JSON")]
    UnexpectedEnd,
    #[error("the JSON does not have the expected structure (line {line}, column {column})")]
    Structure { line: usize, column: usize },
    #[error(
        "the JSON does not have the expected structure (line {line}, column {column}); if all \
         calls fail like this, the server is not a Service Fabric gateway: {PORT_HINT}"
    )]
    NativeStructure { line: usize, column: usize },
    #[error(
        "it comes from an HTTP server that is not a Service Fabric gateway, or from a proxy in \
         front of it; {PORT_HINT}"
    )]
    NotGateway,
    #[error("unrequested content encoding {0}; disable compression in the proxy")]
    ContentEncoding(&'static str),
    #[error("the compressed data is corrupt or incomplete")]
    Compression,
    #[error("expected a JSON object, found nothing")]
    Empty,
    #[error(
        "invalid name: it does not start with fabric:/, is too long, or has dot segments or \
         control characters"
    )]
    Name,
    #[error("invalid version")]
    Version,
    #[error("an item is not the expected JSON object")]
    Item,
    #[error("a required member is missing or invalid")]
    Member,
    #[error("invalid policy name: it is empty, too long, a dot segment, or has control characters")]
    PolicyName,
    #[error("a partition without an id")]
    PartitionId,
    #[error("a continuation token that is too long")]
    Token,
    #[error("a continuation token that was returned before")]
    RepeatedToken,
}
