//! The client certificate and its private key.
//!
//! native-tls accepts two formats on all platforms: PKCS#8 in PEM without surrounding text, and
//! PKCS#12. The error for any other format names the command that converts it. No error quotes a
//! key or a password.

use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::certificate::{self, Validity};
use crate::gateway::file::{FileError, FileErrorKind};
use crate::settings::Thumbprint;

/// A client certificate with its key, ready for the TLS library.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Identity {
    pub(super) native: reqwest::Identity,
    /// `None` for a PFX on a platform whose TLS library does not expose the certificate.
    pub(in crate::gateway) certificate: Option<ClientCertificateInfo>,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct ClientCertificateInfo {
    pub(in crate::gateway) sha1: Thumbprint,
    pub(in crate::gateway) validity: Option<Validity>,
}

impl ClientCertificateInfo {
    fn of(der: &[u8]) -> Self {
        Self {
            sha1: certificate::sha1(der),
            validity: Validity::of(der),
        }
    }
}

/// Reads the identity from a certificate and a key in PEM, which may be the same file.
pub(super) fn from_pem(
    (cert_file, certificates): (&Path, &[u8]),
    (key_file, key): (&Path, &[u8]),
) -> Result<Identity, Vec<FileError>> {
    let certificate = first_certificate(certificates);
    let certificate = certificate.map_err(|kind| FileError::new(cert_file, kind));
    let key_error = |kind| FileError::new(key_file, kind);
    let private = pkcs8(key).map_err(key_error);
    let (leaf, (private, key)) = match (certificate, private) {
        (Ok(certificate), Ok(private)) => (certificate, private),
        (certificate, private) => {
            return Err(certificate.err().into_iter().chain(private.err()).collect());
        }
    };
    if !belong_together(&leaf, &private) {
        return Err(vec![key_error(FileErrorKind::KeyMismatch)]);
    }
    let chain = sections(certificates, "CERTIFICATE").collect::<Vec<_>>();
    let native = reqwest::Identity::from_pkcs8_pem(&chain.join(&b'\n'), key);
    Ok(Identity {
        native: native.map_err(|_| vec![key_error(FileErrorKind::MalformedKey)])?,
        certificate: Some(ClientCertificateInfo::of(&leaf)),
    })
}

/// Reads the identity from a PFX file.
pub(super) fn from_pfx(
    (file, contents): (&Path, &[u8]),
    password: Option<&str>,
) -> Result<Identity, Vec<FileError>> {
    let error = |kind| vec![FileError::new(file, kind)];
    let certificate = pfx::open(contents, password).map_err(error)?;
    let native = reqwest::Identity::from_pkcs12_der(contents, password.unwrap_or_default());
    Ok(Identity {
        native: native.map_err(|_| error(FileErrorKind::MalformedPfx))?,
        certificate: certificate.as_deref().map(ClientCertificateInfo::of),
    })
}

fn first_certificate(pem: &[u8]) -> Result<CertificateDer<'static>, FileErrorKind> {
    let first = CertificateDer::pem_slice_iter(pem).next();
    let first = first.ok_or(FileErrorKind::NoCertificate)?;
    let der = first.map_err(|_| FileErrorKind::MalformedCertificate)?;
    match Validity::of(&der) {
        Some(_) => Ok(der),
        None => Err(FileErrorKind::MalformedCertificate),
    }
}

/// The PKCS#8 key in `pem`, and its PEM section.
fn pkcs8(pem: &[u8]) -> Result<(PrivateKeyDer<'static>, &[u8]), FileErrorKind> {
    let Some(first) = PrivateKeyDer::pem_slice_iter(pem).next() else {
        let encrypted = sections(pem, "ENCRYPTED PRIVATE KEY").next().is_some();
        return Err(if encrypted {
            FileErrorKind::EncryptedKey
        } else {
            FileErrorKind::NoKey
        });
    };
    if contains(pem, b"Proc-Type: 4,ENCRYPTED") {
        return Err(FileErrorKind::EncryptedKey);
    }
    match first.map_err(|_| FileErrorKind::MalformedKey)? {
        PrivateKeyDer::Pkcs1(_) => Err(FileErrorKind::KeyFormat("PKCS#1 (BEGIN RSA PRIVATE KEY)")),
        PrivateKeyDer::Sec1(_) => Err(FileErrorKind::KeyFormat("SEC1 (BEGIN EC PRIVATE KEY)")),
        key => {
            let section = sections(pem, "PRIVATE KEY").next();
            section
                .map(|section| (key, section))
                .ok_or(FileErrorKind::NoKey)
        }
    }
}

/// `false` if `key` belongs to another certificate; `true` for a key type that rustls does not
/// support, which the TLS library checks later.
fn belong_together(leaf: &[u8], key: &PrivateKeyDer<'_>) -> bool {
    let Ok(key) = rustls::crypto::ring::sign::any_supported_type(key) else {
        return true;
    };
    let Some(whole) = key.public_key() else {
        return true;
    };
    let of_key = SubjectPublicKeyInfo::from_der(&whole).ok();
    let of_key = of_key.map(|(_, key)| key.subject_public_key.data.to_vec());
    of_key == certificate::public_key(leaf)
}

/// The PEM sections with `label`, including their BEGIN and END lines.
fn sections<'a>(pem: &'a [u8], label: &str) -> impl Iterator<Item = &'a [u8]> {
    let begin = format!("-----BEGIN {label}-----").into_bytes();
    let end = format!("-----END {label}-----").into_bytes();
    let mut rest = pem;
    std::iter::from_fn(move || {
        let from = rest.get(position(rest, &begin)?..)?;
        let length = position(from, &end)? + end.len();
        rest = from.get(length..)?;
        from.get(..length)
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    position(text, part).is_some()
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// With OpenSSL behind native-tls, the reason why a PFX is rejected is known.
#[cfg(not(any(target_os = "windows", target_vendor = "apple")))]
mod pfx {
    use openssl::error::{Error, ErrorStack};
    use openssl::pkcs12::Pkcs12;

    use crate::gateway::file::FileErrorKind;

    // Constants of `openssl/pkcs12err.h` and `openssl/err.h` that the bindings lack.
    const LIBRARY_PKCS12: i32 = 35;
    const MAC_VERIFY_FAILURE: i32 = 113;
    const UNSUPPORTED: i32 = 524_556;

    /// The certificate in a PFX that has a key for it.
    pub(super) fn open(
        der: &[u8],
        password: Option<&str>,
    ) -> Result<Option<Vec<u8>>, FileErrorKind> {
        let file = Pkcs12::from_der(der).map_err(|_| FileErrorKind::NotPfx)?;
        let used = match password {
            Some(_) => "this password",
            None => "the empty password",
        };
        let opened = file.parse2(password.unwrap_or_default());
        let opened = opened.map_err(|errors| classify(&errors, used))?;
        let certificate = opened.cert.filter(|_| opened.pkey.is_some());
        let certificate = certificate.ok_or(FileErrorKind::IncompletePfx)?;
        let der = certificate
            .to_der()
            .map_err(|_| FileErrorKind::MalformedCertificate)?;
        Ok(Some(der))
    }

    fn classify(errors: &ErrorStack, password: &'static str) -> FileErrorKind {
        let mut errors = errors.errors().iter();
        let is_mac_failure = |error: &Error| {
            error.library_code() == LIBRARY_PKCS12 && error.reason_code() == MAC_VERIFY_FAILURE
        };
        if errors.clone().any(is_mac_failure) {
            FileErrorKind::WrongPassword(password)
        } else if errors.any(|error| error.reason_code() == UNSUPPORTED) {
            FileErrorKind::UnsupportedCipher
        } else {
            FileErrorKind::MalformedPfx
        }
    }
}

/// Other TLS libraries do not expose the contents of a PFX.
#[cfg(any(target_os = "windows", target_vendor = "apple"))]
mod pfx {
    use crate::gateway::file::FileErrorKind;

    #[expect(
        clippy::unnecessary_wraps,
        reason = "the TLS library reports errors later"
    )]
    pub(super) fn open(_: &[u8], _: Option<&str>) -> Result<Option<Vec<u8>>, FileErrorKind> {
        Ok(None)
    }
}
