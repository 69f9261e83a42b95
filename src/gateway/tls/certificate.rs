//! What a certificate says of itself: its dates, its key, and the digests it is known by.
//!
//! Reads DER and verifies nothing: whose word it is, others decide. A certificate that cannot be
//! read has no dates, and nobody may take that for "always valid".

use std::fmt;

use chrono::{DateTime, Utc};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use crate::gateway::security::Thumbprint;

/// From when to when a certificate is valid, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Validity {
    pub(in crate::gateway) not_before: DateTime<Utc>,
    pub(in crate::gateway) not_after: DateTime<Utc>,
}

impl Validity {
    /// Of the certificate `der`.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let certificate = parsed(der)?;
        let dates = certificate.validity();
        Some(Self {
            not_before: instant(dates.not_before)?,
            not_after: instant(dates.not_after)?,
        })
    }

    pub(in crate::gateway) fn holds(&self, now: DateTime<Utc>) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// Most names of a certificate that are repeated, and the most bytes of each: whoever made it may
/// have written anything.
const MAX_NAMES: usize = 5;
const MAX_NAME: usize = 100;

/// A certificate in a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Description {
    sha256: Thumbprint,
    names: Vec<String>,
}

impl Description {
    pub(super) fn of(der: &[u8]) -> Self {
        let mut names = parsed(der).map(|it| names(&it)).unwrap_or_default();
        names.retain(|name| !name.is_empty() && name.len() <= MAX_NAME);
        names.truncate(MAX_NAMES);
        Self {
            sha256: sha256(der),
            names,
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate has the SHA-256 {}", self.sha256)?;
        for (index, name) in self.names.iter().enumerate() {
            let before = if index == 0 { " and the names" } else { "," };
            write!(f, "{before} {name:?}")?;
        }
        Ok(())
    }
}

/// The names that count when a server is verified: the common name only where there is no other.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.map(|names| &names.value.general_names);
    let mut names: Vec<_> = alternative
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name();
        names.extend(common.filter_map(|name| Some(name.as_str().ok()?.to_owned())));
    }
    names
}

/// The bits of the public key in the certificate `der`, whatever its algorithm is called.
pub(super) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    let key = &parsed(der)?.tbs_certificate.subject_pki.subject_public_key;
    Some(key.data.to_vec())
}

/// What Windows calls the thumbprint.
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
    use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _, date_time_ymd};

    use super::*;

    #[test]
    fn dates_key_and_digests_are_read() {
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
        assert!(validity.holds(validity.not_before) && validity.holds(validity.not_after));
        assert_eq!(public_key(der).unwrap(), key.der_bytes());
        // The digests of nothing are in every table.
        let (short, long) = (sha1(b"").to_string(), sha256(b"").to_string());
        assert_eq!(short, "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709");
        assert!(
            long.starts_with("E3B0C44298FC1C149AFBF4C8996FB924"),
            "{long}"
        );
    }

    #[test]
    fn a_description_repeats_few_names_and_nothing_that_breaks_a_line() {
        let describe = |names: Vec<String>, common: &str| {
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(DnType::CommonName, common);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            Description::of(certificate.der()).to_string()
        };
        let names = (0..9).map(|number| format!("node{number}")).collect();
        let shown = describe(names, "common");
        assert!(
            shown.ends_with(r#"names "node0", "node1", "node2", "node3", "node4""#),
            "{shown}"
        );
        let shown = describe(Vec::new(), "a\nb\u{1b}[2J");
        assert!(shown.ends_with(r#"names "a\nb\u{1b}[2J""#), "{shown}");
        let shown = describe(vec!["n".repeat(101)], "common");
        assert!(!shown.contains("names"), "{shown}");
        let shown = Description::of(b"x").to_string();
        assert!(shown.ends_with("02258717921A4881"), "{shown}");
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        assert_eq!(Validity::of(b"hello"), None);
        assert_eq!(public_key(b""), None);
    }
}
