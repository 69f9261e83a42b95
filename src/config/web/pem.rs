//! PEM text → certificates and keys that can be used, or a sentence that says what to do.
//!
//! Pure functions. No sentence repeats anything of a key.

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};

/// More certificates than any chain or bundle for clients has.
const MAX_CERTIFICATES: usize = 1000;

/// The chain of the server: its own certificate first.
pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = certificates(pem)?;
    let first = chain.first().map(AsRef::as_ref).unwrap_or_default();
    if x509_parser::parse_x509_certificate(first).is_err() {
        return Err("the first certificate is damaged; issue or copy it again".to_owned());
    }
    Ok(chain)
}

/// Authorities whose certificates are trusted.
pub(super) fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let authorities = certificates(pem)?;
    let mut store = RootCertStore::empty();
    for (index, authority) in authorities.iter().enumerate() {
        store.add(authority.clone()).map_err(|_| {
            format!(
                "certificate {} of this bundle cannot be used as an authority; issue or copy it \
                 again",
                index + 1
            )
        })?;
    }
    Ok(authorities)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem)
        .take(MAX_CERTIFICATES)
        .collect();
    let found = found.map_err(|_| "this is no PEM; the file is damaged".to_owned())?;
    if found.is_empty() {
        return Err(
            "there is no certificate here; it begins with `-----BEGIN CERTIFICATE-----`".to_owned(),
        );
    }
    Ok(found)
}

/// The first private key.
pub(super) fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let text = String::from_utf8_lossy(pem);
        let encrypted =
            text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
        let sentence = if encrypted {
            "the key is encrypted; decrypt it with `openssl pkey -in key.pem -out plain.pem`"
        } else {
            "there is no private key here; it begins with `-----BEGIN PRIVATE KEY-----`"
        };
        sentence.to_owned()
    })
}

/// Puts key and certificate together.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, String> {
    let provider = ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
        let sentence = match error {
            Error::InconsistentKeys(_) => {
                "this key belongs to another certificate; name the key that the certificate was \
                 issued for"
            }
            _ => {
                "this kind of key is not supported; use RSA of 2048 to 8192 bits, P-256, P-384 or \
                 Ed25519"
            }
        };
        sentence.to_owned()
    })
}
