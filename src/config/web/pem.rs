//! Parses certificates and private keys in PEM. Errors never show a part of a key.

use chrono::DateTime;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Version;

use crate::settings::web::{Authority, TrustedCertificate, Validity};

/// Maximum number of certificates in a chain or bundle.
const MAX_CERTIFICATES: usize = 1000;

/// The certificate chain of the server, its own certificate first.
pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = certificates(pem)?;
    if chain
        .first()
        .is_none_or(|one| ParsedCertificate::try_from(one).is_err())
    {
        let message = "the first certificate is invalid or not of X.509 version 3; issue or copy it \
                        again";
        return Err(message.to_owned());
    }
    Ok(chain)
}

/// Validity period of the first certificate of a chain.
pub(super) fn validity(chain: &[CertificateDer<'_>]) -> Result<Validity, String> {
    let dates = chain.first().and_then(|certificate| {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let dates = parsed.validity();
        Some(Validity {
            not_before: DateTime::from_timestamp(dates.not_before.timestamp(), 0)?,
            not_after: DateTime::from_timestamp(dates.not_after.timestamp(), 0)?,
        })
    });
    dates.ok_or_else(|| {
        "the first certificate has an invalid validity period; issue it again".to_owned()
    })
}

/// Authorities and client certificates that are trusted.
pub(super) fn trusted(pem: &[u8]) -> Result<Vec<TrustedCertificate>, String> {
    let certificates = certificates(pem)?.into_iter().enumerate();
    let trusted = certificates.map(|(index, certificate)| {
        trust(certificate).ok_or_else(|| {
            format!(
                "certificate {} of the bundle is invalid; issue or copy it again",
                index + 1
            )
        })
    });
    trusted.collect()
}

fn trust(certificate: CertificateDer<'static>) -> Option<TrustedCertificate> {
    let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
    let authority = if is_authority(&parsed)? {
        let mut store = RootCertStore::empty();
        store.add(certificate.clone()).ok()?;
        let validity = parsed.validity();
        Some(Authority {
            anchor: store.roots.pop()?,
            validity: validity.not_before.timestamp()..=validity.not_after.timestamp(),
        })
    } else {
        None
    };
    let hint = match &authority {
        Some(_) => parsed.subject(),
        None => parsed.issuer(),
    };
    Some(TrustedCertificate {
        hint: hint.as_raw().to_vec(),
        authority,
        certificate,
    })
}

/// Whether its basic constraints say so, or it is of version 1, which has none; `None` if they are
/// invalid. A client certificate that is mistaken for an authority would authorize every certificate
/// that its owner signs.
fn is_authority(certificate: &X509Certificate<'_>) -> Option<bool> {
    let constraints = certificate.basic_constraints().ok()?;
    Some(match constraints {
        Some(constraints) => constraints.value.ca,
        None => certificate.version() == X509Version::V1,
    })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem)
        .take(MAX_CERTIFICATES + 1)
        .collect();
    let found = found.map_err(|_| "expected PEM; the file is damaged".to_owned())?;
    if found.len() > MAX_CERTIFICATES {
        return Err(format!(
            "expected at most {MAX_CERTIFICATES} certificates, found more; remove those that are not needed"
        ));
    }
    if found.is_empty() {
        return Err(
            "expected a certificate, which starts with `-----BEGIN CERTIFICATE-----`; found none"
                .to_owned(),
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
        let message = if encrypted {
            "the private key is encrypted; decrypt it with `openssl pkey -in key.pem -out plain.pem`"
        } else {
            "expected a private key, which starts with `-----BEGIN PRIVATE KEY-----`; found none"
        };
        message.to_owned()
    })
}

/// Combines certificate chain and private key.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, String> {
    let provider = ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
        let message = match error {
            Error::InconsistentKeys(_) => {
                "the private key belongs to another certificate; write the key that the \
                 certificate was issued for"
            }
            _ => {
                "unsupported type of private key; use RSA of 2048 to 4096 bits, P-256, P-384 or \
                 Ed25519"
            }
        };
        message.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::DistinguishedName;

    use super::*;

    #[test]
    fn hint_of_an_authority_is_its_subject() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let trusted = trust(certificate.der().clone()).unwrap();
        let name = &trusted.authority.unwrap().anchor.subject;
        assert_eq!(DistinguishedName::in_sequence(name).as_ref(), trusted.hint);
    }

    #[test]
    fn too_many_certificates_are_an_error() {
        let params = CertificateParams::new(Vec::new()).unwrap();
        let key = KeyPair::generate().unwrap();
        let one = params.self_signed(&key).unwrap().pem();
        let bundle = one.repeat(MAX_CERTIFICATES);
        assert_eq!(trusted(bundle.as_bytes()).unwrap().len(), MAX_CERTIFICATES);
        let error = trusted((bundle + &one).as_bytes()).unwrap_err();
        assert!(error.contains("at most 1000 certificates"), "{error}");
    }
}
