//! The managed identity of a Service Fabric application.

use secrecy::SecretString;
use url::Url;

use super::Thumbprint;

/// Access to the token service of the node, which Service Fabric passes to the processes of an
/// application with a managed identity in environment variables.
#[derive(Clone, Debug)]
pub struct FabricIdentity {
    /// URL of the token service; always `https`.
    pub(crate) endpoint: Url,
    /// Authenticates the process to the token service.
    pub(crate) header: SecretString,
    /// Of the certificate of the token service.
    pub(crate) thumbprint: Thumbprint,
}

/// An environment variable that does not hold a valid part of a [`FabricIdentity`]. Does not show
/// the header, which is a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FabricIdentityError {
    /// `IDENTITY_ENDPOINT` is not an `https` URL.
    #[error("IDENTITY_ENDPOINT is not an https URL: {0:?}")]
    Endpoint(String),
    /// `IDENTITY_HEADER` is not a valid header value.
    #[error("IDENTITY_HEADER is empty or not a valid header value")]
    Header,
    /// `IDENTITY_SERVER_THUMBPRINT` is not a thumbprint.
    #[error("IDENTITY_SERVER_THUMBPRINT is not a thumbprint: {0:?}")]
    Thumbprint(String),
}

impl FabricIdentity {
    /// Parses the values of `IDENTITY_ENDPOINT`, `IDENTITY_HEADER` and `IDENTITY_SERVER_THUMBPRINT`.
    pub fn new(
        endpoint: &str,
        header: &str,
        thumbprint: &str,
    ) -> Result<Self, FabricIdentityError> {
        if header.is_empty() || !header.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(FabricIdentityError::Header);
        }
        let url = Url::parse(endpoint).ok();
        Ok(Self {
            endpoint: url
                .filter(|url| url.scheme() == "https")
                .ok_or_else(|| FabricIdentityError::Endpoint(endpoint.to_owned()))?,
            header: header.into(),
            thumbprint: thumbprint
                .parse()
                .map_err(|()| FabricIdentityError::Thumbprint(thumbprint.to_owned()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: &str = "150112AA0F5BBEE52C3F59A4F0E3A1D95E58C0DE";

    #[test]
    fn errors_name_the_variable_and_hide_the_header() {
        let parse = |endpoint, header, thumbprint| {
            let parsed = FabricIdentity::new(endpoint, header, thumbprint);
            parsed.map_err(|error| error.to_string())
        };
        assert!(parse("https://localhost:2377/token", "hunter2", SHA1).is_ok());
        for (endpoint, header, thumbprint, variable) in [
            (
                "http://localhost:2377",
                "hunter2",
                SHA1,
                "IDENTITY_ENDPOINT",
            ),
            ("localhost", "hunter2", SHA1, "IDENTITY_ENDPOINT"),
            ("https://localhost", "", SHA1, "IDENTITY_HEADER"),
            ("https://localhost", "hunter2\n", SHA1, "IDENTITY_HEADER"),
            (
                "https://localhost",
                "hunter2",
                "15",
                "IDENTITY_SERVER_THUMBPRINT",
            ),
        ] {
            let error = parse(endpoint, header, thumbprint).unwrap_err();
            assert!(error.starts_with(variable), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
