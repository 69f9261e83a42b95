//! Trust and authentication between the exporter and one cluster.
//!
//! A client certificate together with a token cannot be expressed. [`Security::check_endpoints`] is
//! the only place that decides to which endpoints a token may be sent.

use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::{HostName, Thumbprint, TokenSource};

/// Trust and authentication of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Which servers the exporter trusts.
    pub trust: Trust,
    /// How the exporter authenticates.
    pub auth: Auth,
    /// Maximum TLS version; `None`: see [`Self::max_tls_version`].
    pub tls_max_version: Option<TlsVersion>,
}

impl Security {
    /// The maximum TLS version to offer: 1.2 unless configured otherwise. The gateway (http.sys)
    /// requests the client certificate by renegotiation after it has read the request, which TLS 1.3
    /// does not support: it would close the connection or answer 500 where it answers 403 in 1.2.
    /// Only the 403 shows that a token was rejected or that the client has no access.
    pub fn max_tls_version(&self) -> TlsVersion {
        self.tls_max_version.unwrap_or(TlsVersion::V1_2)
    }

    /// The files that contain a key, a password or a token.
    pub(crate) fn secret_files(&self) -> Vec<&Path> {
        let files = match &self.auth {
            Auth::Anonymous | Auth::Token(TokenSource::ManagedIdentity(_)) => [None, None],
            Auth::ClientCertificate(ClientCertificate::Pem { key_file, .. }) => {
                [Some(key_file), None]
            }
            Auth::ClientCertificate(ClientCertificate::Pfx {
                pfx_file,
                password_file,
            }) => [Some(pfx_file), password_file.as_ref()],
            Auth::Token(TokenSource::File(token_file)) => [Some(token_file), None],
            Auth::Token(TokenSource::Entra(entra)) => [Some(&entra.client_secret_file), None],
        };
        files.into_iter().flatten().map(PathBuf::as_path).collect()
    }

    /// Fails if a token would be sent over plain HTTP or to a server that is not verified.
    pub(crate) fn check_endpoints(&self, endpoints: &[Url]) -> Result<(), TokenExposure> {
        if !matches!(self.auth, Auth::Token(_)) {
            return Ok(());
        }
        if self.trust == Trust::Insecure {
            return Err(TokenExposure::UnverifiedServer);
        }
        if endpoints.iter().any(|url| url.scheme() == "http") {
            return Err(TokenExposure::PlainHttp);
        }
        Ok(())
    }
}

/// A configuration that would expose a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenExposure {
    /// With `trust.insecure`.
    #[error(
        "a token would be sent to an unverified server because of trust.insecure; write \
         trust.thumbprints or trust.ca_file instead"
    )]
    UnverifiedServer,
    /// With an `http` endpoint.
    #[error("a token would be sent unencrypted; write https endpoints")]
    PlainHttp,
}

/// Whether requests to `url` stay on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Which servers the exporter trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Servers with a valid certificate from a trusted authority that contains their name.
    Authorities {
        /// PEM bundle of authorities up to a root; `None`: those of the system.
        ca_file: Option<PathBuf>,
        /// Name that the certificate must contain; `None`: the host of the endpoint.
        server_name: Option<HostName>,
        /// If not empty, the certificate must also be one of these.
        thumbprints: Vec<Thumbprint>,
    },
    /// Servers with one of these certificates, regardless of name and issuer.
    Thumbprints {
        /// At least one; two during a rollover.
        thumbprints: Vec<Thumbprint>,
        /// Whether an expired certificate is accepted.
        accept_expired: bool,
    },
    /// Every server.
    Insecure,
}

impl Default for Trust {
    fn default() -> Self {
        Self::Authorities {
            ca_file: None,
            server_name: None,
            thumbprints: Vec::new(),
        }
    }
}

/// How the exporter authenticates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Without credentials.
    #[default]
    Anonymous,
    /// With a client certificate.
    ClientCertificate(ClientCertificate),
    /// With a bearer token.
    Token(TokenSource),
}

/// Files of the client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// PEM files.
    Pem {
        /// The certificate, followed by its intermediates.
        cert_file: PathBuf,
        /// The unencrypted key in PKCS#8; may be the same file.
        key_file: PathBuf,
    },
    /// One PKCS#12 file.
    Pfx {
        /// Certificate and key.
        pfx_file: PathBuf,
        /// File with the password on its first line; `None`: the password is empty.
        password_file: Option<PathBuf>,
    },
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_sent_to_verified_servers_over_https_only() {
        let check = |trust, auth, endpoint: &str| {
            let security = Security {
                trust,
                auth,
                tls_max_version: None,
            };
            security.check_endpoints(&["https://a".parse().unwrap(), endpoint.parse().unwrap()])
        };
        let token = || Auth::Token(TokenSource::File("token".into()));
        assert_eq!(check(Trust::default(), token(), "https://b"), Ok(()));
        for endpoint in ["http://b", "http://127.0.0.1", "http://localhost"] {
            let error = check(Trust::default(), token(), endpoint);
            assert_eq!(error, Err(TokenExposure::PlainHttp), "{endpoint}");
            assert_eq!(check(Trust::default(), Auth::Anonymous, endpoint), Ok(()));
        }
        for endpoint in ["https://b", "http://b", "https://localhost"] {
            let error = check(Trust::Insecure, token(), endpoint);
            assert_eq!(error, Err(TokenExposure::UnverifiedServer), "{endpoint}");
            assert_eq!(check(Trust::Insecure, Auth::Anonymous, endpoint), Ok(()));
        }
    }
}
