//! The files that the `trust` and `auth` settings of a cluster name.
//!
//! Reading is separate from parsing, so that unchanged files are not parsed again. All errors are
//! reported, not only the first one. The contents stay secret.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Certificate;
use ring::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretSlice};

use super::identity::{self, Identity};
use crate::gateway::file::{self, FileError, FileErrorKind};
use crate::settings::{Auth, ClientCertificate, Security, Trust};

/// The contents of all files, read at one moment.
#[derive(Debug)]
pub(in crate::gateway) struct CredentialFiles {
    ca: Option<FileContents>,
    client: Option<ClientFiles>,
}

#[derive(Debug)]
enum ClientFiles {
    Pem {
        certificates: FileContents,
        key: FileContents,
    },
    Pfx {
        pfx: FileContents,
        password: Option<FileContents>,
    },
}

#[derive(Clone, Debug)]
struct FileContents {
    path: PathBuf,
    bytes: SecretSlice<u8>,
}

/// A checksum over the contents of all files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct ContentHash([u8; 32]);

impl fmt::Debug for ContentHash {
    /// The digest of secrets must not be printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentHash")
    }
}

/// The parsed files; empty by default.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct Credentials {
    /// `None` for the authorities of the system.
    pub(super) authorities: Option<Vec<Certificate>>,
    pub(in crate::gateway) identity: Option<Identity>,
}

/// Whether `security` names any file.
pub(in crate::gateway) fn has_files(security: &Security) -> bool {
    ca_file(security).is_some() || matches!(security.auth, Auth::ClientCertificate(_))
}

/// The file to name in errors about the client certificate as a whole.
pub(in crate::gateway) fn client_file(security: &Security) -> Option<&Path> {
    match &security.auth {
        Auth::ClientCertificate(ClientCertificate::Pem { cert_file, .. }) => Some(cert_file),
        Auth::ClientCertificate(ClientCertificate::Pfx { pfx_file, .. }) => Some(pfx_file),
        Auth::Anonymous | Auth::Token(_) => None,
    }
}

impl CredentialFiles {
    pub(in crate::gateway) fn read(security: &Security) -> Result<Self, Vec<FileError>> {
        let mut errors = Vec::new();
        let files = Self {
            ca: ca_file(security).and_then(|path| read_file(path, &mut errors)),
            client: client_files(&security.auth, &mut errors),
        };
        if errors.is_empty() {
            Ok(files)
        } else {
            Err(errors)
        }
    }

    pub(in crate::gateway) fn hash(&self) -> ContentHash {
        let (first, second) = match &self.client {
            Some(ClientFiles::Pem { certificates, key }) => (Some(certificates), Some(key)),
            Some(ClientFiles::Pfx { pfx, password }) => (Some(pfx), password.as_ref()),
            None => (None, None),
        };
        let mut context = Context::new(&SHA256);
        for contents in [self.ca.as_ref(), first, second] {
            let bytes = contents.map(|contents| contents.bytes.expose_secret());
            let bytes = bytes.unwrap_or_default();
            // The length keeps the end of one file from passing for the beginning of the next.
            context.update(&bytes.len().to_le_bytes());
            context.update(bytes);
        }
        let digest = context.finish();
        ContentHash(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl Credentials {
    pub(in crate::gateway) fn parse(files: &CredentialFiles) -> Result<Self, Vec<FileError>> {
        let authorities = files.ca.as_ref().map(authorities).transpose();
        let identity = files.client.as_ref().map(ClientFiles::identity).transpose();
        match (authorities, identity) {
            (Ok(authorities), Ok(identity)) => Ok(Self {
                authorities,
                identity,
            }),
            (authorities, identity) => {
                let identity = identity.err().into_iter().flatten();
                Err(authorities.err().into_iter().chain(identity).collect())
            }
        }
    }
}

impl ClientFiles {
    fn identity(&self) -> Result<Identity, Vec<FileError>> {
        match self {
            Self::Pem { certificates, key } => {
                identity::from_pem(certificates.exposed(), key.exposed())
            }
            Self::Pfx { pfx, password } => {
                let password = password.as_ref().map(|password| {
                    let (path, bytes) = password.exposed();
                    file::password(path, bytes)
                });
                let password = password.transpose().map_err(|error| vec![error])?;
                identity::from_pfx(pfx.exposed(), password)
            }
        }
    }
}

impl FileContents {
    fn exposed(&self) -> (&Path, &[u8]) {
        (&self.path, self.bytes.expose_secret())
    }
}

fn ca_file(security: &Security) -> Option<&Path> {
    match &security.trust {
        Trust::Authorities { ca_file, .. } => ca_file.as_deref(),
        Trust::Thumbprints { .. } | Trust::Insecure => None,
    }
}

fn client_files(auth: &Auth, errors: &mut Vec<FileError>) -> Option<ClientFiles> {
    match auth {
        Auth::ClientCertificate(ClientCertificate::Pem {
            cert_file,
            key_file,
        }) => {
            let certificates = read_file(cert_file, errors);
            let key = if key_file == cert_file {
                certificates.clone()
            } else {
                read_file(key_file, errors)
            };
            let (certificates, key) = (certificates?, key?);
            Some(ClientFiles::Pem { certificates, key })
        }
        Auth::ClientCertificate(ClientCertificate::Pfx {
            pfx_file,
            password_file,
        }) => {
            let pfx = read_file(pfx_file, errors);
            let password = password_file.as_ref().map(|path| read_file(path, errors));
            Some(ClientFiles::Pfx {
                pfx: pfx?,
                password: match password {
                    Some(password) => Some(password?),
                    None => None,
                },
            })
        }
        Auth::Anonymous | Auth::Token(_) => None,
    }
}

fn read_file(path: &Path, errors: &mut Vec<FileError>) -> Option<FileContents> {
    match file::read(path) {
        Ok(bytes) => Some(FileContents {
            path: path.to_owned(),
            bytes,
        }),
        Err(error) => {
            errors.push(error);
            None
        }
    }
}

fn authorities(bundle: &FileContents) -> Result<Vec<Certificate>, FileError> {
    let (path, pem) = bundle.exposed();
    let malformed = || FileError::new(path, FileErrorKind::MalformedCertificate);
    let authorities = CertificateDer::pem_slice_iter(pem)
        .map(|der| Certificate::from_der(&der.map_err(|_| malformed())?).map_err(|_| malformed()))
        .collect::<Result<Vec<_>, _>>()?;
    if authorities.is_empty() {
        return Err(FileError::new(path, FileErrorKind::NoCertificate));
    }
    Ok(authorities)
}
