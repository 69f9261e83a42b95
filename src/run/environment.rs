//! What the platform tells this process in its environment.
//!
//! The one place that reads variables that are not flags: they hold a secret, which must not stand
//! on a command line, and they are set by Service Fabric and by nobody else.

use crate::fleet::Identity;
use crate::settings::FabricIdentity;

/// The identity of the Service Fabric application that this process belongs to; `None` elsewhere.
/// Other platforms set some of the three variables, and mean something else by them.
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
    reason = "the platform has no other way to say it, and a flag would show the secret"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
