//! Why a [`Gateway`](super::Gateway) cannot be created.

use std::time::Duration;

use crate::gateway::file::FileError;
use crate::settings::{FabricIdentityError, TokenExposure};

/// Why a [`Gateway`](super::Gateway) cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The list of endpoints is empty.
    #[error("a cluster needs at least one endpoint")]
    NoEndpoint,
    /// An endpoint that is not `http[s]://host[:port][/path]`, without the parts that may be secret.
    #[error("invalid endpoint {scheme}://{host}: expected http[s]://host[:port][/path]")]
    Endpoint {
        /// The scheme given.
        scheme: String,
        /// The host given.
        host: String,
    },
    /// A token would be sent over plain HTTP or to an unverified server.
    #[error(transparent)]
    TokenExposure(#[from] TokenExposure),
    /// The managed identity of the Service Fabric application cannot be used.
    #[error("invalid managed identity in the environment")]
    FabricIdentity(#[source] FabricIdentityError),
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// Credential files that cannot be used.
    #[error("{}", joined(.0))]
    Files(Vec<FileError>),
    /// The TLS library rejects the client certificate with its key.
    #[error("{file}")]
    Identity {
        /// The file with the certificate.
        file: FileError,
        /// The error of the library.
        source: reqwest::Error,
    },
    /// The credential files could not be read in time.
    #[error("the files of trust and auth could not be read within {0:?}")]
    ReadTimeout(Duration),
}

fn joined(errors: &[FileError]) -> String {
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    errors.join("; ")
}
