//! PEM text → certificates and keys that can be used, or a sentence that says what to do.
//!
//! Pure functions. No sentence repeats anything of a key.

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

use super::{Authority, Trusted, Validity};

/// More certificates than any chain or bundle for clients has.
const MAX_CERTIFICATES: usize = 1000;

/// The chain of the server: its own certificate first.
pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = certificates(pem)?;
    if chain
        .first()
        .is_none_or(|one| ParsedCertificate::try_from(one).is_err())
    {
        let sentence = "the first certificate is damaged, or not of X.509 version 3; issue or copy \
                        it again";
        return Err(sentence.to_owned());
    }
    Ok(chain)
}

/// When the first certificate of a chain is valid.
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
        "the dates of the first certificate cannot be read; issue it again".to_owned()
    })
}

/// Authorities, and certificates of clients.
pub(super) fn trusted(pem: &[u8]) -> Result<Vec<Trusted>, String> {
    let certificates = certificates(pem)?.into_iter().enumerate();
    let trusted = certificates.map(|(index, certificate)| {
        trust(certificate).ok_or_else(|| {
            format!(
                "certificate {} of this bundle cannot be used; issue or copy it again",
                index + 1
            )
        })
    });
    trusted.collect()
}

fn trust(certificate: CertificateDer<'static>) -> Option<Trusted> {
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
    Some(Trusted {
        hint: hint.as_raw().to_vec(),
        authority,
        certificate,
    })
}

/// Whether it says so, or is too old to be able to; `None` when it says it in no right way. What
/// is none would else let in whatever its owner signs.
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
    let found = found.map_err(|_| "this is no PEM; the file is damaged".to_owned())?;
    if found.len() > MAX_CERTIFICATES {
        return Err(format!(
            "there are more than {MAX_CERTIFICATES} certificates here; name those that are needed"
        ));
    }
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
                "this kind of key is not supported; use RSA of 2048 to 4096 bits, P-256, P-384 or \
                 Ed25519"
            }
        };
        sentence.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::DistinguishedName;

    use super::*;

    #[test]
    fn the_hint_of_an_authority_is_its_name() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let trusted = trust(certificate.der().clone()).unwrap();
        let name = &trusted.authority.unwrap().anchor.subject;
        assert_eq!(DistinguishedName::in_sequence(name).as_ref(), trusted.hint);
    }

    #[test]
    fn more_certificates_than_the_bound_are_a_fault() {
        let params = CertificateParams::new(Vec::new()).unwrap();
        let key = KeyPair::generate().unwrap();
        let one = params.self_signed(&key).unwrap().pem();
        let bundle = one.repeat(MAX_CERTIFICATES);
        assert_eq!(trusted(bundle.as_bytes()).unwrap().len(), MAX_CERTIFICATES);
        let told = trusted((bundle + &one).as_bytes()).unwrap_err();
        assert!(told.contains("more than 1000 certificates"), "{told}");
    }
}
