//! What makes a connection to a cluster secure: whom we believe, and who we say we are.
//!
//! The settings as they are meant, made by the configuration; nothing here reads a file or opens
//! a connection. A certificate next to a token cannot be written down; a token that others would
//! get hold of is refused by [`Security::check`], however the settings were made.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use secrecy::SecretString;
use url::{Host, Url};

use crate::gateway::build_error::BuildError;

/// How one cluster and this exporter prove to each other who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Which servers are believed.
    pub trust: Trust,
    /// How we show who we are.
    pub auth: Auth,
    /// The newest version of TLS to use; `None`: the one that every gateway can be asked in, see
    /// [`Self::newest_tls`].
    pub tls_max_version: Option<TlsVersion>,
}

impl Security {
    /// The newest version of TLS that is offered: 1.2 unless something else was said. The gateway
    /// asks whoever shows no good token for a certificate after it has read the request, by
    /// renegotiation, which newer versions do not have. There it would break off, or answer 500,
    /// where it answers 403 in 1.2; and the 403 is how we learn that a token has to be renewed, or
    /// that somebody has to be let in at all.
    pub fn newest_tls(&self) -> TlsVersion {
        self.tls_max_version.unwrap_or(TlsVersion::V1_2)
    }

    /// The files that hold a key, a password or a token.
    pub(super) fn secret_files(&self) -> Vec<&Path> {
        let files = match &self.auth {
            Auth::Nobody | Auth::Token(TokenSource::ManagedIdentity(_)) => [None, None],
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

    /// Refuses a token that would go to whoever answers at one of `endpoints`, or to whoever
    /// listens on the way; on loopback nobody does.
    pub(super) fn check(&self, endpoints: &[Url]) -> Result<(), BuildError> {
        if !matches!(self.auth, Auth::Token(_)) {
            return Ok(());
        }
        if self.trust == Trust::Insecure {
            return Err(BuildError::TokenForAnybody);
        }
        let overheard = |url: &&Url| url.scheme() == "http" && !is_loopback(url);
        match endpoints.iter().find(overheard) {
            None => Ok(()),
            Some(url) => Err(BuildError::TokenInTheClear {
                host: url.host_str().unwrap_or_default().to_owned(),
            }),
        }
    }
}

/// Whether requests to `url` do not leave the machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Which servers are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those with a certificate that an authority vouches for, in time, and with the right name.
    Authorities {
        /// Bundle of authorities in PEM, up to a root; `None`: those of the system.
        ca_file: Option<PathBuf>,
        /// The name that the certificate must carry; `None`: the host of the endpoint.
        server_name: Option<HostName>,
        /// If there are any, the certificate must be one of these besides.
        thumbprints: Vec<Thumbprint>,
    },
    /// Those with one of these certificates, whatever it says.
    Thumbprints {
        /// At least one; two during a rollover.
        thumbprints: Vec<Thumbprint>,
        /// Whether the certificate may be past its date.
        accept_expired: bool,
    },
    /// All.
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

/// How we show who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    #[default]
    Nobody,
    /// By a certificate.
    ClientCertificate(ClientCertificate),
    /// By a bearer token.
    Token(TokenSource),
}

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// In PEM.
    Pem {
        /// The certificate, and those between it and its root.
        cert_file: PathBuf,
        /// The key in PKCS#8, not encrypted; often the same file.
        key_file: PathBuf,
    },
    /// In one PKCS#12 file.
    Pfx {
        /// The file.
        pfx_file: PathBuf,
        /// File with its password on the first line; `None` when the password is empty.
        password_file: Option<PathBuf>,
    },
}

/// Where bearer tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// A file that something else keeps up to date.
    File(PathBuf),
    /// Entra ID, for an application with a secret.
    Entra(Entra),
    /// The managed identity of the virtual machine, or of the Service Fabric application.
    ManagedIdentity(ManagedIdentity),
}

/// An application with a secret in Entra ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entra {
    /// Directory; `None`: the one the cluster names.
    pub tenant_id: Option<String>,
    /// The application that we are.
    pub client_id: String,
    /// File with the secret of the application on its first line.
    pub client_secret_file: PathBuf,
    /// The application that stands for the cluster, and for which tokens are. Nothing that the
    /// cluster may name: it would be given a token for another one.
    pub cluster_application_id: String,
    /// Base address of the sign-in service; `None`: the one the cluster names.
    pub authority: Option<Url>,
    /// Which of its two protocols is spoken.
    pub protocol: EntraProtocol,
}

impl Entra {
    /// Whether `text` can be a tenant: it becomes part of a path, so nothing that leads elsewhere.
    pub fn is_tenant(text: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let begun = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        begun && text.chars().all(plain) && text.len() <= 253
    }

    /// Whether `text` can be the id of an application, as GUID or as URI (`api://…`).
    pub fn is_application(text: &str) -> bool {
        let plain = |c: char| c.is_ascii_graphic();
        !text.is_empty() && text.chars().all(plain) && text.len() <= 256
    }
}

/// Protocol of the sign-in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntraProtocol {
    /// `/oauth2/token` with `resource`: what clusters verify.
    V1,
    /// `/oauth2/v2.0/token` with `scope`; the token may be one that the cluster does not take.
    V2,
}

/// A managed identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedIdentity {
    /// The application that stands for the cluster.
    pub cluster_application_id: String,
    /// Which of several identities; `None`: the only one.
    pub client_id: Option<String>,
    /// Address of the metadata service; `None`: where the platform has it.
    pub endpoint: Option<Url>,
}

/// What Service Fabric tells a process that belongs to an application with a managed identity.
#[derive(Clone, Debug)]
pub struct FabricIdentity {
    /// Address of the token service of this node.
    pub(super) endpoint: Url,
    /// By what the token service knows the process.
    pub(super) header: SecretString,
    /// By what the process knows the token service.
    pub(super) thumbprint: Thumbprint,
}

/// A [`FabricIdentity`] that cannot be used: which of its three parts. The header is not shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FabricIdentityError {
    /// The endpoint is not reached by https.
    #[error("IDENTITY_ENDPOINT is no https address, but {0:?}")]
    Endpoint(String),
    /// The header cannot be sent.
    #[error("IDENTITY_HEADER is empty or has characters that cannot stand in a header")]
    Header,
    /// The thumbprint is none.
    #[error("IDENTITY_SERVER_THUMBPRINT is no thumbprint, but {0:?}")]
    Thumbprint(String),
}

impl FabricIdentity {
    /// From the variables `IDENTITY_ENDPOINT`, `IDENTITY_HEADER` and `IDENTITY_SERVER_THUMBPRINT`.
    pub fn new(
        endpoint: &str,
        header: &str,
        thumbprint: &str,
    ) -> Result<Self, FabricIdentityError> {
        let url = Url::parse(endpoint).ok();
        if header.is_empty() || !header.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(FabricIdentityError::Header);
        }
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

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Digest of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thumbprint {
    /// SHA-1: what Windows and Service Fabric call the thumbprint.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

impl FromStr for Thumbprint {
    type Err = ();

    /// Hexadecimal digits, with what people and dialogs put between and before them: colons,
    /// white space, and the left-to-right mark of the Windows certificate dialog.
    fn from_str(text: &str) -> Result<Self, ()> {
        let noise =
            |c: &char| *c == ':' || c.is_whitespace() || ('\u{200e}'..='\u{200f}').contains(c);
        let digits = text.chars().filter(|c| !noise(c));
        let digits: Vec<u8> = digits
            .map(|c| {
                c.to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
                    .ok_or(())
            })
            .collect::<Result<_, _>>()?;
        let bytes = |pair: &[u8]| pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        let bytes: Vec<u8> = digits.chunks(2).map(bytes).collect();
        match digits.len() {
            40 => bytes.try_into().map(Self::Sha1).map_err(drop),
            64 => bytes.try_into().map(Self::Sha256).map_err(drop),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sha1(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        };
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name that a certificate can carry and that is no address: an address in a request would be
/// connected to, whatever the endpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// The name, in the spelling of a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match Host::parse(text) {
            Ok(Host::Domain(name)) => Ok(Self(name)),
            Ok(Host::Ipv4(_) | Host::Ipv6(_)) | Err(_) => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: &str = "150112AA0F5BBEE52C3F59A4F0E3A1D95E58C0DE";

    #[test]
    fn a_thumbprint_is_read_as_dialogs_and_tools_print_it() {
        let expected: Thumbprint = SHA1.parse().unwrap();
        let pairs: Vec<_> = SHA1
            .as_bytes()
            .chunks(2)
            .map(|pair| str::from_utf8(pair).unwrap())
            .collect();
        for text in [
            SHA1.to_lowercase(),
            pairs.join(":"),
            pairs.join(" "),
            format!("\u{200e}{}", pairs.join(" ").to_lowercase()),
            format!(" {SHA1}\n"),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text:?}");
        }
        assert_eq!(expected.to_string(), SHA1);
        let long: Thumbprint = "ab".repeat(32).parse().unwrap();
        assert_eq!(long, Thumbprint::Sha256([0xab; 32]));
    }

    #[test]
    fn what_is_no_thumbprint_is_refused() {
        for text in [
            "",
            "15",
            SHA1.trim_start_matches("15"),
            &format!("{SHA1}00"),
            &SHA1.replace('1', "G"),
            &"é".repeat(40),
        ] {
            assert_eq!(text.parse::<Thumbprint>(), Err(()), "{text:?}");
        }
    }

    #[test]
    fn an_identity_of_service_fabric_is_checked_without_showing_its_header() {
        let told = |endpoint, header, thumbprint| {
            let read = FabricIdentity::new(endpoint, header, thumbprint);
            read.map_err(|error| error.to_string())
        };
        assert!(told("https://localhost:2377/token", "hunter2", SHA1).is_ok());
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
            let error = told(endpoint, header, thumbprint).unwrap_err();
            assert!(error.starts_with(variable), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_token_goes_to_a_server_that_is_checked_by_https_or_to_this_machine() {
        let told = |trust, auth, endpoint: &str| {
            let security = Security {
                trust,
                auth,
                tls_max_version: None,
            };
            let endpoint = endpoint.parse().unwrap();
            security
                .check(&[endpoint])
                .err()
                .map(|fault| fault.to_string())
        };
        let token = || Auth::Token(TokenSource::File("token".into()));
        for endpoint in [
            "https://a",
            "http://127.0.0.1:1",
            "http://[::1]",
            "http://localhost",
        ] {
            assert_eq!(told(Trust::default(), token(), endpoint), None);
            let fault = told(Trust::Insecure, token(), endpoint).unwrap();
            assert!(fault.contains("whoever answers"), "{fault}");
            assert_eq!(told(Trust::Insecure, Auth::Nobody, endpoint), None);
        }
        for endpoint in [
            "http://a",
            "http://10.0.0.1",
            "http://localhost.example.com",
        ] {
            let fault = told(Trust::default(), token(), endpoint).unwrap();
            assert!(fault.contains("in the clear"), "{fault}");
            assert_eq!(told(Trust::default(), Auth::Nobody, endpoint), None);
        }
    }

    #[test]
    fn a_server_name_is_one_name() {
        for text in ["cluster.example.com", "cluster"] {
            assert_eq!(text.parse::<HostName>().unwrap().as_str(), text);
        }
        for text in ["", "a b", "a:1", "a/b", "user@a", "10.0.0.4", "[::1]"] {
            assert!(text.parse::<HostName>().is_err(), "{text:?}");
        }
    }
}
