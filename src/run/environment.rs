//! Environment variables that Service Fabric sets.
//!
//! They contain a secret, so they must not be flags.

use crate::fleet::Identity;
use crate::settings::FabricIdentity;

/// The managed identity of the Service Fabric application of this process; `None` outside of Service
/// Fabric. Requires all three variables, because other platforms set some of them.
pub(super) fn fabric_identity() -> Option<Identity> {
    let names = [
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
        "IDENTITY_SERVER_THUMBPRINT",
    ];
    let [Some(endpoint), Some(header), Some(thumbprint)] = names.map(variable) else {
        return None;
    };
    Some(FabricIdentity::new(&endpoint, &header, &thumbprint))
}

#[expect(
    clippy::disallowed_methods,
    reason = "set by Service Fabric; a flag would expose the secret"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
