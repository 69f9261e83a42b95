//! Why an answer, or a part of one, could not be decoded. Never quotes it: it may hold secrets.

use crate::gateway::peer::PORT_HINT;

/// Why an answer is not understood. Never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misread {
    #[error("not JSON (line {line}, column {column})")]
    Syntax { line: usize, column: usize },
    #[error("the JSON ends too early")]
    End,
    #[error("not the JSON that this route answers (line {line}, column {column})")]
    Shape { line: usize, column: usize },
    #[error(
        "not the JSON that this route answers (line {line}, column {column}); if all calls fail \
         like this, the server is not a Service Fabric gateway: {PORT_HINT}"
    )]
    OtherObject { line: usize, column: usize },
    #[error(
        "it comes from an HTTP server that is not a Service Fabric gateway, or from a proxy in \
         front of it; {PORT_HINT}"
    )]
    Foreign,
    #[error("it is compressed with {0}, which was not asked for; remove the compression")]
    Coding(&'static str),
    #[error("its compressed data is corrupt or incomplete")]
    Compressed,
    #[error("nothing where a value was expected")]
    Nothing,
    #[error(
        "a name that does not begin with fabric:/, is too long, or has dot segments or control \
         characters"
    )]
    Name,
    #[error("a version that is none")]
    Version,
    #[error("an item is not the JSON object expected")]
    Item,
    #[error("a required member is missing or cannot be read")]
    Member,
    #[error("a name of a policy that is empty, too long, a dot segment, or has control characters")]
    PolicyName,
    #[error("a partition without an id")]
    PartitionId,
    #[error("a continuation token that is too long")]
    Token,
    #[error("a continuation token came twice")]
    RepeatedToken,
}
