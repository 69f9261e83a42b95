//! Certificate pinning: which certificates of a gateway are accepted in addition to, or instead of,
//! the verification by the TLS library.
//!
//! Pure: certificate and time are arguments. The handshake proves in every case that the peer has
//! the private key of its certificate. An error contains the digests of the presented certificate,
//! so that an operator can compare them.

use chrono::{DateTime, Utc};

use super::certificate::{Validity, sha1, sha256};
use crate::settings::{Thumbprint, Trust};

/// The accepted certificates of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    /// `None` accepts every certificate that the handshake has accepted.
    thumbprints: Option<Vec<Thumbprint>>,
    dates: Dates,
}

#[derive(Clone, Copy, Debug)]
enum Dates {
    /// Verified by the handshake, or not at all.
    Ignored,
    Checked {
        accept_expired: bool,
    },
}

impl Pins {
    pub(super) fn of(trust: &Trust) -> Self {
        match trust {
            Trust::Authorities { thumbprints, .. } => Self {
                thumbprints: (!thumbprints.is_empty()).then(|| thumbprints.clone()),
                dates: Dates::Ignored,
            },
            Trust::Insecure => Self {
                thumbprints: None,
                dates: Dates::Ignored,
            },
            Trust::Thumbprints {
                thumbprints,
                accept_expired,
            } => Self {
                thumbprints: Some(thumbprints.clone()),
                dates: Dates::Checked {
                    accept_expired: *accept_expired,
                },
            },
        }
    }

    /// Whether the certificate `leaf` is pinned, or no certificate is.
    pub(super) fn check_thumbprint(&self, leaf: &[u8]) -> Result<(), CertificateError> {
        let Some(thumbprints) = &self.thumbprints else {
            return Ok(());
        };
        let (short, long) = (sha1(leaf), sha256(leaf));
        if thumbprints.contains(&short) || thumbprints.contains(&long) {
            return Ok(());
        }
        let is_sha1 = |pin: &Thumbprint| matches!(pin, Thumbprint::Sha1(_));
        Err(CertificateError::NotPinned {
            sha256: long,
            sha1: thumbprints.iter().any(is_sha1).then_some(short),
        })
    }

    /// Whether `leaf` is valid at `now`, unless the handshake checks that.
    pub(super) fn check_dates(
        &self,
        leaf: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), CertificateError> {
        let Dates::Checked { accept_expired } = self.dates else {
            return Ok(());
        };
        let (validity, sha256) = (Validity::of(leaf), sha256(leaf));
        match validity {
            None => Err(CertificateError::UnreadableDates { sha256 }),
            Some(Validity { not_before, .. }) if now < not_before => {
                Err(CertificateError::NotYetValid { sha256, not_before })
            }
            Some(Validity { not_after, .. }) if now > not_after && !accept_expired => {
                Err(CertificateError::Expired { sha256, not_after })
            }
            Some(_) => Ok(()),
        }
    }
}

/// Why the certificate of a gateway is rejected.
// The `Debug` format of a date is RFC 3339.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    #[error("the gateway presents no certificate")]
    NoCertificate,
    #[error(
        "the certificate of the gateway is not in trust.thumbprints: SHA-256 {sha256}{}; add it \
         if the administrator of the cluster confirms the value",
        also(*sha1)
    )]
    NotPinned {
        sha256: Thumbprint,
        sha1: Option<Thumbprint>,
    },
    #[error(
        "the certificate of the gateway (SHA-256 {sha256}) expired at {not_after:?}; renew it, or \
         set trust.accept_expired to true"
    )]
    Expired {
        sha256: Thumbprint,
        not_after: DateTime<Utc>,
    },
    #[error(
        "the certificate of the gateway (SHA-256 {sha256}) is not valid before {not_before:?}; \
         check the clocks"
    )]
    NotYetValid {
        sha256: Thumbprint,
        not_before: DateTime<Utc>,
    },
    #[error("the dates of the gateway's certificate (SHA-256 {sha256}) cannot be read")]
    UnreadableDates { sha256: Thumbprint },
}

fn also(sha1: Option<Thumbprint>) -> String {
    sha1.map(|sha1| format!(", SHA-1 {sha1}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn leaf() -> Vec<u8> {
        let mut params = CertificateParams::new(["node".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2025, 1, 1);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn pinned(thumbprints: &[Thumbprint], accept_expired: bool) -> Pins {
        Pins::of(&Trust::Thumbprints {
            thumbprints: thumbprints.to_vec(),
            accept_expired,
        })
    }

    fn on(date: &str) -> DateTime<Utc> {
        format!("{date}T12:00:00Z").parse().unwrap()
    }

    #[test]
    fn either_digest_of_any_pin_is_accepted() {
        let leaf = leaf();
        for pin in [sha1(&leaf), sha256(&leaf)] {
            assert!(pinned(&[pin], false).check_thumbprint(&leaf).is_ok());
            let other = Thumbprint::Sha256([7; 32]);
            assert!(pinned(&[other, pin], false).check_thumbprint(&leaf).is_ok());
        }
    }

    #[test]
    fn error_contains_the_digests_to_compare() {
        let leaf = leaf();
        let (short, long) = (sha1(&leaf).to_string(), sha256(&leaf).to_string());
        let message = |pin| {
            let error = pinned(&[pin], true).check_thumbprint(&leaf).unwrap_err();
            error.to_string()
        };
        let by_sha1 = message(Thumbprint::Sha1([7; 20]));
        assert!(
            by_sha1.contains(&short) && by_sha1.contains(&long),
            "{by_sha1}"
        );
        let by_sha256 = message(Thumbprint::Sha256([7; 32]));
        assert!(
            !by_sha256.contains(&short) && by_sha256.contains(&long),
            "{by_sha256}"
        );
    }

    #[test]
    fn dates_are_left_to_the_handshake_if_there_are_authorities() {
        let leaf = leaf();
        let trust = |thumbprints| Trust::Authorities {
            ca_file: None,
            server_name: None,
            thumbprints,
        };
        let other = Pins::of(&trust(vec![Thumbprint::Sha1([7; 20])]));
        assert!(other.check_thumbprint(&leaf).is_err());
        let none = Pins::of(&trust(Vec::new()));
        assert!(none.check_thumbprint(&leaf).is_ok());
        assert!(none.check_dates(&leaf, on("2026-01-01")).is_ok());
    }

    #[test]
    fn pinned_certificate_is_accepted_only_while_it_is_valid() {
        let leaf = leaf();
        let check = |accept_expired, date, leaf| {
            pinned(&[sha1(leaf)], accept_expired).check_dates(leaf, on(date))
        };
        for accept_expired in [false, true] {
            assert!(check(accept_expired, "2024-06-01", &leaf).is_ok());
            let early = check(accept_expired, "2023-12-31", &leaf);
            assert!(matches!(early, Err(CertificateError::NotYetValid { .. })));
            let unreadable = check(accept_expired, "2024-06-01", b"x");
            let unreadable = unreadable.unwrap_err();
            assert!(matches!(
                unreadable,
                CertificateError::UnreadableDates { .. }
            ));
        }
        assert!(check(true, "2025-01-02", &leaf).is_ok());
        let late = check(false, "2025-01-02", &leaf).unwrap_err().to_string();
        assert!(late.contains("2025-01-01T00:00:00Z"), "{late}");
    }
}
