//! What the files of a cluster's security hold: read together, compared, then understood.
//!
//! Reading is apart from understanding, so that files which stay the same are not taken in again.
//! Everything that is wrong is told, not only the first. What was read stays secret.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Certificate;
use ring::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretSlice};

use super::identity::{self, Identity, Unfit};
use crate::gateway::file::{self, FileError};
use crate::gateway::security::{Auth, ClientCertificate, Security, Trust};

/// The files as they were at one moment.
#[derive(Debug)]
pub(in crate::gateway) struct Files {
    ca: Option<Contents>,
    client: Option<Client>,
}

#[derive(Debug)]
enum Client {
    Pem {
        certificates: Contents,
        key: Contents,
    },
    Pfx {
        pfx: Contents,
        password: Option<Contents>,
    },
}

#[derive(Clone, Debug)]
struct Contents {
    path: PathBuf,
    bytes: SecretSlice<u8>,
}

/// Equal for files with equal contents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct Mark([u8; 32]);

impl fmt::Debug for Mark {
    /// A digest of secrets is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}

/// What the files hold; by default there are none.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct Credentials {
    /// `None`: the authorities of the system.
    pub(super) authorities: Option<Vec<Certificate>>,
    pub(in crate::gateway) identity: Option<Identity>,
}

/// Whether there is any file to read.
pub(in crate::gateway) fn are_in_files(security: &Security) -> bool {
    ca_file(security).is_some() || matches!(security.auth, Auth::ClientCertificate(_))
}

/// The file to be told when something is wrong with the client certificate as a whole.
pub(in crate::gateway) fn client_file(security: &Security) -> Option<&Path> {
    match &security.auth {
        Auth::ClientCertificate(ClientCertificate::Pem { cert_file, .. }) => Some(cert_file),
        Auth::ClientCertificate(ClientCertificate::Pfx { pfx_file, .. }) => Some(pfx_file),
        Auth::Nobody | Auth::Token(_) => None,
    }
}

impl Files {
    pub(in crate::gateway) fn read(security: &Security) -> Result<Self, Vec<FileError>> {
        let mut faults = Vec::new();
        let files = Self {
            ca: ca_file(security).and_then(|path| contents(path, &mut faults)),
            client: client(&security.auth, &mut faults),
        };
        if faults.is_empty() {
            Ok(files)
        } else {
            Err(faults)
        }
    }

    pub(in crate::gateway) fn mark(&self) -> Mark {
        let (first, second) = match &self.client {
            Some(Client::Pem { certificates, key }) => (Some(certificates), Some(key)),
            Some(Client::Pfx { pfx, password }) => (Some(pfx), password.as_ref()),
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
        Mark(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl Credentials {
    pub(in crate::gateway) fn understand(files: &Files) -> Result<Self, Vec<FileError>> {
        let authorities = files.ca.as_ref().map(authorities).transpose();
        let identity = files.client.as_ref().map(Client::identity).transpose();
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

impl Client {
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
                let password = password.transpose().map_err(|fault| vec![fault])?;
                identity::from_pfx(pfx.exposed(), password)
            }
        }
    }
}

impl Contents {
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

fn client(auth: &Auth, faults: &mut Vec<FileError>) -> Option<Client> {
    match auth {
        Auth::ClientCertificate(ClientCertificate::Pem {
            cert_file,
            key_file,
        }) => {
            let certificates = contents(cert_file, faults);
            let key = if key_file == cert_file {
                certificates.clone()
            } else {
                contents(key_file, faults)
            };
            let (certificates, key) = (certificates?, key?);
            Some(Client::Pem { certificates, key })
        }
        Auth::ClientCertificate(ClientCertificate::Pfx {
            pfx_file,
            password_file,
        }) => {
            let pfx = contents(pfx_file, faults);
            let password = password_file.as_ref().map(|path| contents(path, faults));
            Some(Client::Pfx {
                pfx: pfx?,
                password: match password {
                    Some(password) => Some(password?),
                    None => None,
                },
            })
        }
        Auth::Nobody | Auth::Token(_) => None,
    }
}

fn contents(path: &Path, faults: &mut Vec<FileError>) -> Option<Contents> {
    match file::read(path) {
        Ok(bytes) => Some(Contents {
            path: path.to_owned(),
            bytes,
        }),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

fn authorities(bundle: &Contents) -> Result<Vec<Certificate>, FileError> {
    let (path, pem) = bundle.exposed();
    let unfit = |unfit| FileError::unfit(path, unfit);
    let broken = || unfit(Unfit::BrokenCertificate);
    let authorities = CertificateDer::pem_slice_iter(pem)
        .map(|der| Certificate::from_der(&der.map_err(|_| broken())?).map_err(|_| broken()))
        .collect::<Result<Vec<_>, _>>()?;
    if authorities.is_empty() {
        return Err(unfit(Unfit::NoCertificate));
    }
    Ok(authorities)
}
