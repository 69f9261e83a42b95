//! Fields and digests of a DER-encoded certificate. Verifies nothing.

use chrono::{DateTime, Utc};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;

use crate::settings::Thumbprint;

/// The validity period of a certificate; both ends are inclusive (RFC 5280, section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Validity {
    pub(in crate::gateway) not_before: DateTime<Utc>,
    pub(in crate::gateway) not_after: DateTime<Utc>,
}

impl Validity {
    /// `None` if `der` cannot be parsed, which must not be treated as "always valid".
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let certificate = parsed(der)?;
        let dates = certificate.validity();
        Some(Self {
            not_before: instant(dates.not_before)?,
            not_after: instant(dates.not_after)?,
        })
    }

    pub(in crate::gateway) fn contains(&self, now: DateTime<Utc>) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// The bits of the public key in the certificate `der`, without the algorithm identifier.
pub(super) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    let key = &parsed(der)?.tbs_certificate.subject_pki.subject_public_key;
    Some(key.data.to_vec())
}

/// The digest that Windows and Service Fabric call the thumbprint.
pub(super) fn sha1(der: &[u8]) -> Thumbprint {
    let bytes = digest(&SHA1_FOR_LEGACY_USE_ONLY, der);
    Thumbprint::Sha1(bytes.as_ref().try_into().expect("SHA-1 has 20 bytes"))
}

pub(super) fn sha256(der: &[u8]) -> Thumbprint {
    let bytes = digest(&SHA256, der);
    Thumbprint::Sha256(bytes.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn parsed(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(certificate)
}

fn instant(time: ASN1Time) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.timestamp(), 0)
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, date_time_ymd};

    use super::*;

    #[test]
    fn reads_dates_key_and_digests() {
        let mut params = CertificateParams::new(["node".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2024, 1, 2);
        params.not_after = date_time_ymd(2051, 3, 4);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der();
        let validity = Validity::of(der).unwrap();
        let midnight = |year, month, day| Utc.with_ymd_and_hms(year, month, day, 0, 0, 0).unwrap();
        assert_eq!(validity.not_before, midnight(2024, 1, 2));
        assert_eq!(validity.not_after, midnight(2051, 3, 4));
        assert!(validity.contains(validity.not_before) && validity.contains(validity.not_after));
        assert_eq!(public_key(der).unwrap(), key.der_bytes());
        // The well-known digests of empty input.
        let (short, long) = (sha1(b"").to_string(), sha256(b"").to_string());
        assert_eq!(short, "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709");
        assert!(
            long.starts_with("E3B0C44298FC1C149AFBF4C8996FB924"),
            "{long}"
        );
    }

    #[test]
    fn malformed_certificate_has_no_dates() {
        assert_eq!(Validity::of(b"hello"), None);
        assert_eq!(public_key(b""), None);
    }
}
