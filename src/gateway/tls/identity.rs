//! The certificate that the exporter shows, and the key that goes with it.
//!
//! Turns what files hold into the one form that all platforms take: PKCS#8 in PEM without anything
//! around it, or PKCS#12. What does not have that form gets an error with the command that makes
//! it so. Nothing of a key or a password ever gets into an error.

use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::certificate::{self, Validity};
use crate::gateway::file::FileError;
use crate::gateway::security::Thumbprint;

/// Who the exporter is to a cluster.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Identity {
    pub(super) native: reqwest::Identity,
    /// `None` where the platform does not show what is in a PFX.
    pub(in crate::gateway) certificate: Option<Shown>,
}

/// What a gateway sees of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct Shown {
    pub(in crate::gateway) sha1: Thumbprint,
    pub(in crate::gateway) validity: Option<Validity>,
}

impl Shown {
    fn of(der: &[u8]) -> Self {
        Self {
            sha1: certificate::sha1(der),
            validity: Validity::of(der),
        }
    }
}

/// Why the contents of a file are of no use.
#[cfg_attr(
    any(target_os = "windows", target_vendor = "apple"),
    expect(dead_code, reason = "the system does not say what is wrong with a PFX")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum Unfit {
    #[error(
        "holds no certificate in PEM; if it is in DER, mend it with `openssl x509 -inform der -in old.cer -out new.pem`"
    )]
    NoCertificate,
    #[error("holds a certificate that cannot be read")]
    BrokenCertificate,
    #[error(
        "holds no private key in PEM; write the key of the certificate there, or name its file in key_file"
    )]
    NoKey,
    #[error("holds a private key that cannot be read")]
    BrokenKey,
    #[error(
        "holds a key in the form {0}; mend it with `openssl pkcs8 -topk8 -nodes -in old.key -out new.key`"
    )]
    KeyForm(&'static str),
    #[error(
        "holds an encrypted key; mend it with `openssl pkcs8 -topk8 -nodes -in old.key -out new.key`, and keep it readable for the exporter alone"
    )]
    EncryptedKey,
    #[error(
        "holds the key of another certificate; the first certificate of cert_file must be the one of the key"
    )]
    OtherKey,
    #[error(
        "is not a PFX (PKCS#12) file; certificates and keys in PEM go into cert_file and key_file"
    )]
    NoPfx,
    #[error("cannot be opened with {0}; write the right one on the first line of password_file")]
    WrongPassword(&'static str),
    #[error(
        "is encrypted by RC2 or another way of old that is no longer read; turn it into PEM with `openssl pkcs12 -legacy -in old.pfx -nodes -out new.pem`, and name that file in cert_file instead"
    )]
    OldCipher,
    #[error("holds no private key together with its certificate; export it once more with the key")]
    IncompletePfx,
    #[error("cannot be opened as PFX (PKCS#12); is it whole, and its password right?")]
    BrokenPfx,
    #[error("holds a certificate that is not valid now, while the one in use is")]
    OutOfTime,
    #[error(
        "is not accepted by the TLS library together with its key; do they belong together, and has an RSA key at least 2048 bits?"
    )]
    Refused,
}

/// The identity in two files in PEM, or twice in the same.
pub(super) fn from_pem(
    (cert_file, certificates): (&Path, &[u8]),
    (key_file, key): (&Path, &[u8]),
) -> Result<Identity, Vec<FileError>> {
    let certificate = first_certificate(certificates);
    let certificate = certificate.map_err(|unfit| FileError::unfit(cert_file, unfit));
    let private = pkcs8(key).map_err(|unfit| FileError::unfit(key_file, unfit));
    let (leaf, (private, key)) = match (certificate, private) {
        (Ok(certificate), Ok(private)) => (certificate, private),
        (certificate, private) => return Err(faults(certificate, private)),
    };
    let other_key = || vec![FileError::unfit(key_file, Unfit::OtherKey)];
    if !belong_together(&leaf, &private) {
        return Err(other_key());
    }
    let chain = sections(certificates, "CERTIFICATE").collect::<Vec<_>>();
    let native = reqwest::Identity::from_pkcs8_pem(&chain.join(&b'\n'), key);
    let native = native.map_err(|_| vec![FileError::unfit(key_file, Unfit::BrokenKey)])?;
    Ok(Identity {
        native,
        certificate: Some(Shown::of(&leaf)),
    })
}

/// The identity in a PFX file.
pub(super) fn from_pfx(
    (file, contents): (&Path, &[u8]),
    password: Option<&str>,
) -> Result<Identity, Vec<FileError>> {
    let unfit = |unfit| vec![FileError::unfit(file, unfit)];
    let certificate = pfx::open(contents, password).map_err(unfit)?;
    let native = reqwest::Identity::from_pkcs12_der(contents, password.unwrap_or_default());
    Ok(Identity {
        native: native.map_err(|_| unfit(Unfit::BrokenPfx))?,
        certificate: certificate.as_deref().map(Shown::of),
    })
}

/// Whatever is wrong with either.
fn faults<A, B>(a: Result<A, FileError>, b: Result<B, FileError>) -> Vec<FileError> {
    a.err().into_iter().chain(b.err()).collect()
}

fn first_certificate(pem: &[u8]) -> Result<CertificateDer<'static>, Unfit> {
    let first = CertificateDer::pem_slice_iter(pem).next();
    let first = first.ok_or(Unfit::NoCertificate)?;
    let der = first.map_err(|_| Unfit::BrokenCertificate)?;
    match Validity::of(&der) {
        Some(_) => Ok(der),
        None => Err(Unfit::BrokenCertificate),
    }
}

/// The key in PKCS#8, and its section of the text.
fn pkcs8(pem: &[u8]) -> Result<(PrivateKeyDer<'static>, &[u8]), Unfit> {
    let Some(first) = PrivateKeyDer::pem_slice_iter(pem).next() else {
        let encrypted = sections(pem, "ENCRYPTED PRIVATE KEY").next().is_some();
        return Err(if encrypted {
            Unfit::EncryptedKey
        } else {
            Unfit::NoKey
        });
    };
    if contains(pem, b"Proc-Type: 4,ENCRYPTED") {
        return Err(Unfit::EncryptedKey);
    }
    match first.map_err(|_| Unfit::BrokenKey)? {
        PrivateKeyDer::Pkcs1(_) => Err(Unfit::KeyForm("PKCS#1 (BEGIN RSA PRIVATE KEY)")),
        PrivateKeyDer::Sec1(_) => Err(Unfit::KeyForm("SEC1 (BEGIN EC PRIVATE KEY)")),
        key => {
            let section = sections(pem, "PRIVATE KEY").next();
            section.map(|section| (key, section)).ok_or(Unfit::NoKey)
        }
    }
}

/// `false` when the key is known to be another one's. Of a kind of key that is not known here the
/// TLS library is the judge.
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

/// The sections with this label, from their first dash to their last.
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

/// Where native-tls is OpenSSL, what is wrong with a PFX can be told.
#[cfg(not(any(target_os = "windows", target_vendor = "apple")))]
mod pfx {
    use openssl::error::ErrorStack;
    use openssl::pkcs12::Pkcs12;

    use super::Unfit;

    /// Numbers of `openssl/pkcs12err.h` and `openssl/err.h`, which the bindings do not name.
    const LIBRARY_PKCS12: i32 = 35;
    const MAC_VERIFY_FAILURE: i32 = 113;
    const UNSUPPORTED: i32 = 524_556;

    /// The certificate in a PFX that can be used.
    pub(super) fn open(der: &[u8], password: Option<&str>) -> Result<Option<Vec<u8>>, Unfit> {
        let file = Pkcs12::from_der(der).map_err(|_| Unfit::NoPfx)?;
        let used = match password {
            Some(_) => "this password",
            None => "the empty password",
        };
        let opened = file.parse2(password.unwrap_or_default());
        let opened = opened.map_err(|errors| told(&errors, used))?;
        let certificate = opened.cert.filter(|_| opened.pkey.is_some());
        let certificate = certificate.ok_or(Unfit::IncompletePfx)?;
        let der = certificate.to_der().map_err(|_| Unfit::BrokenCertificate)?;
        Ok(Some(der))
    }

    fn told(errors: &ErrorStack, password: &'static str) -> Unfit {
        let is = |library: Option<i32>, reason| {
            errors.errors().iter().any(|error| {
                let here = library.is_none_or(|library| error.library_code() == library);
                here && error.reason_code() == reason
            })
        };
        if is(Some(LIBRARY_PKCS12), MAC_VERIFY_FAILURE) {
            Unfit::WrongPassword(password)
        } else if is(None, UNSUPPORTED) {
            Unfit::OldCipher
        } else {
            Unfit::BrokenPfx
        }
    }
}

/// Elsewhere the system keeps to itself what is in a PFX.
#[cfg(any(target_os = "windows", target_vendor = "apple"))]
mod pfx {
    use super::Unfit;

    #[expect(clippy::unnecessary_wraps, reason = "the platform looks later")]
    pub(super) fn open(_: &[u8], _: Option<&str>) -> Result<Option<Vec<u8>>, Unfit> {
        Ok(None)
    }
}
