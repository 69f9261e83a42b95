//! Why a [`Gateway`](super::Gateway) cannot be created.

use std::time::Duration;

use crate::gateway::file::FileError;
use crate::gateway::security::FabricIdentityError;

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
    /// The same files could not be read in time.
    #[error("the files of trust and auth could not be read within {0:?}")]
    ReadTimeout(Duration),
}

fn listed(faults: &[FileError]) -> String {
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}
