//! Which certificates of a gateway are admitted besides, or instead of, what authorities say.
//!
//! Pure: the certificate and the moment come in. Whoever has a pinned certificate must still prove
//! that it has the key: that is the handshake's business, and is never switched off. A refusal
//! prints the digests of what was shown, so that people can compare.

use chrono::{DateTime, SecondsFormat, Utc};

use super::certificate::{Validity, sha1, sha256};
use crate::gateway::security::{Thumbprint, Trust};

/// The rule of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    /// When there are none, every certificate is admitted.
    thumbprints: Vec<Thumbprint>,
    dates: Dates,
}

#[derive(Clone, Copy, Debug)]
enum Dates {
    /// Nobody looks at them, or the handshake has.
    Ignored,
    /// They are judged here.
    Judged { accept_expired: bool },
}

impl Pins {
    pub(super) fn of(trust: &Trust) -> Self {
        let (thumbprints, dates) = match trust {
            Trust::Authorities { thumbprints, .. } => (thumbprints.clone(), Dates::Ignored),
            Trust::Thumbprints {
                thumbprints,
                accept_expired,
            } => {
                let accept_expired = *accept_expired;
                (thumbprints.clone(), Dates::Judged { accept_expired })
            }
            Trust::Insecure => (Vec::new(), Dates::Ignored),
        };
        Self { thumbprints, dates }
    }

    /// Whether the certificate `leaf` is one of those that are pinned, if any are.
    pub(super) fn recognise(&self, leaf: &[u8]) -> Result<(), Refused> {
        let (short, long) = (sha1(leaf), sha256(leaf));
        let known = |pin: &Thumbprint| *pin == short || *pin == long;
        if self.thumbprints.is_empty() || self.thumbprints.iter().any(known) {
            return Ok(());
        }
        let by_sha1 = |pin: &Thumbprint| matches!(pin, Thumbprint::Sha1(_));
        Err(Refused::NotPinned {
            sha256: long,
            sha1: self.thumbprints.iter().any(by_sha1).then_some(short),
        })
    }

    /// Whether the dates of `leaf` are right where nobody else has looked at them.
    pub(super) fn judge_dates(&self, leaf: &[u8], now: DateTime<Utc>) -> Result<(), Refused> {
        let Dates::Judged { accept_expired } = self.dates else {
            return Ok(());
        };
        let (validity, sha256) = (Validity::of(leaf), sha256(leaf));
        match validity {
            None => Err(Refused::Unreadable { sha256 }),
            Some(validity) if now < validity.not_before => Err(Refused::NotYetValid {
                sha256,
                from: validity.not_before,
            }),
            Some(validity) if now > validity.not_after && !accept_expired => {
                Err(Refused::Expired {
                    sha256,
                    since: validity.not_after,
                })
            }
            Some(_) => Ok(()),
        }
    }
}

/// Why a certificate is not admitted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the gateway shows no certificate")]
    NoCertificate,
    #[error(
        "the gateway shows a certificate that is none of trust.thumbprints: SHA-256 {sha256}{}; if \
         those who run the cluster say that it is theirs, write it there",
        also(*sha1)
    )]
    NotPinned {
        sha256: Thumbprint,
        sha1: Option<Thumbprint>,
    },
    #[error(
        "the certificate of the gateway (SHA-256 {sha256}) has expired at {}; renew it, or write \
         trust.accept_expired: true",
        text(since)
    )]
    Expired {
        sha256: Thumbprint,
        since: DateTime<Utc>,
    },
    #[error(
        "the certificate of the gateway (SHA-256 {sha256}) is valid only from {}; are the clocks \
         right?",
        text(from)
    )]
    NotYetValid {
        sha256: Thumbprint,
        from: DateTime<Utc>,
    },
    #[error("the dates of the gateway's certificate (SHA-256 {sha256}) cannot be read")]
    Unreadable { sha256: Thumbprint },
}

fn also(sha1: Option<Thumbprint>) -> String {
    sha1.map(|sha1| format!(", SHA-1 {sha1}"))
        .unwrap_or_default()
}

fn text(instant: &DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
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
    fn either_digest_of_any_pin_admits() {
        let leaf = leaf();
        for pin in [sha1(&leaf), sha256(&leaf)] {
            assert!(pinned(&[pin], false).recognise(&leaf).is_ok());
            let other = Thumbprint::Sha256([7; 32]);
            assert!(pinned(&[other, pin], false).recognise(&leaf).is_ok());
        }
    }

    #[test]
    fn a_refusal_prints_the_digests_to_compare_with() {
        let leaf = leaf();
        let (short, long) = (sha1(&leaf).to_string(), sha256(&leaf).to_string());
        let told = |pin| {
            let refused = pinned(&[pin], true).recognise(&leaf).unwrap_err();
            refused.to_string()
        };
        let by_sha1 = told(Thumbprint::Sha1([7; 20]));
        assert!(
            by_sha1.contains(&short) && by_sha1.contains(&long),
            "{by_sha1}"
        );
        let by_sha256 = told(Thumbprint::Sha256([7; 32]));
        assert!(
            !by_sha256.contains(&short) && by_sha256.contains(&long),
            "{by_sha256}"
        );
    }

    #[test]
    fn pins_beside_authorities_leave_the_dates_to_them() {
        let leaf = leaf();
        let trust = |thumbprints| Trust::Authorities {
            ca_file: None,
            server_name: None,
            thumbprints,
        };
        let other = Pins::of(&trust(vec![Thumbprint::Sha1([7; 20])]));
        assert!(other.recognise(&leaf).is_err());
        let none = Pins::of(&trust(Vec::new()));
        assert!(none.recognise(&leaf).is_ok());
        assert!(none.judge_dates(&leaf, on("2026-01-01")).is_ok());
    }

    #[test]
    fn a_pinned_certificate_counts_in_its_time_only() {
        let leaf = leaf();
        let judge = |accept_expired, date, leaf| {
            pinned(&[sha1(leaf)], accept_expired).judge_dates(leaf, on(date))
        };
        for accept_expired in [false, true] {
            assert!(judge(accept_expired, "2024-06-01", &leaf).is_ok());
            let early = judge(accept_expired, "2023-12-31", &leaf);
            assert!(matches!(early, Err(Refused::NotYetValid { .. })));
            let unreadable = judge(accept_expired, "2024-06-01", b"x");
            assert!(matches!(unreadable, Err(Refused::Unreadable { .. })));
        }
        assert!(judge(true, "2025-01-02", &leaf).is_ok());
        let late = judge(false, "2025-01-02", &leaf).unwrap_err().to_string();
        assert!(late.contains("2025-01-01T00:00:00Z"), "{late}");
    }
}
