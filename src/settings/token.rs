//! Sources of bearer tokens, and the ids in Entra ID.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

/// Source of bearer tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// A file that another process keeps up to date.
    File(PathBuf),
    /// Entra ID, for an application with a client secret.
    Entra(Entra),
    /// A managed identity of the virtual machine, or of the Service Fabric application.
    ManagedIdentity(ManagedIdentity),
}

/// An application in Entra ID with a client secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entra {
    /// `None`: the tenant that the cluster names.
    pub tenant_id: Option<TenantId>,
    /// The application of the exporter.
    pub client_id: ApplicationId,
    /// File with the client secret on its first line.
    pub client_secret_file: PathBuf,
    /// The application of the cluster: the audience of the tokens. Always configured, because a
    /// cluster could name the application of another one, and would receive its tokens.
    pub cluster_application_id: ApplicationId,
    /// Base URL of the sign-in service; `None`: the one that the cluster names.
    pub authority: Option<Url>,
    /// Version of its protocol.
    pub protocol: EntraProtocol,
}

/// Version of the protocol of the sign-in service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntraProtocol {
    /// `/oauth2/token` with `resource`. Clusters verify these tokens.
    #[default]
    V1,
    /// `/oauth2/v2.0/token` with `scope`. Clusters may reject these tokens.
    V2,
}

/// A managed identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedIdentity {
    /// The application of the cluster: the audience of the tokens.
    pub cluster_application_id: ApplicationId,
    /// Which of several identities; `None`: the only one.
    pub client_id: Option<ApplicationId>,
    /// URL of the metadata service; `None`: the platform's default.
    pub endpoint: Option<Url>,
}

/// A tenant (directory) of Entra ID: GUID or domain. It becomes a path segment of token requests,
/// so it cannot contain a separator or be `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantId(String);

impl TenantId {
    /// The id as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let is_valid = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(is_allowed)
            && text.len() <= 253;
        is_valid.then(|| Self(text.to_owned())).ok_or(())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An application in Entra ID: GUID or URI (`api://…`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationId(String);

impl ApplicationId {
    /// The id as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ApplicationId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_valid =
            !text.is_empty() && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic());
        is_valid.then(|| Self(text.to_owned())).ok_or(())
    }
}

impl fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_id_is_one_path_segment() {
        for text in ["contoso.com", "72f988bf-86f1-41af-91ab-2d7cd011db47"] {
            assert!(text.parse::<TenantId>().is_ok(), "{text}");
        }
        for text in ["", "..", ".", "a/b", "a%2fb", "a?b", "a b"] {
            assert!(text.parse::<TenantId>().is_err(), "{text}");
        }
    }

    #[test]
    fn application_id_has_no_spaces_or_control_characters() {
        for text in ["api://cluster", "b9a5f3a4-0d3f-4a06-8f6c-1b3a3f6a7a11"] {
            assert!(text.parse::<ApplicationId>().is_ok(), "{text}");
        }
        for text in ["", "a b", "a\n", "ä", &"a".repeat(257)] {
            assert!(text.parse::<ApplicationId>().is_err(), "{text:?}");
        }
    }
}
