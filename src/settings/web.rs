//! The valid web configuration: TLS, users, headers and rate limit of the exporter's own listener.
//!
//! The files that it names have been read, the private key belongs to the certificate, and every
//! password hash can be verified.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rustls::crypto::SupportedKxGroup;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use rustls::sign::CertifiedKey;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};
use secrecy::{ExposeSecret as _, SecretString};

/// Time before expiry at which the warning starts.
const EXPIRES_SOON: TimeDelta = TimeDelta::days(7);

/// All settings of the web configuration.
#[derive(Debug)]
pub struct WebConfig {
    /// Whether the file is empty.
    pub is_empty: bool,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// Headers of every response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Users with access; empty: no authentication.
    pub users: Users,
    /// `None`: unlimited.
    pub rate_limit: Option<RateLimit>,
}

/// Password hashes by user name.
pub type Users = BTreeMap<String, PasswordHash>;

/// A valid bcrypt hash of a password.
#[derive(Clone, Debug)]
pub struct PasswordHash(SecretString);

/// A token bucket; each response takes a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Time in which one token is added; not zero.
    pub interval: Duration,
    /// Capacity of the bucket, which starts full.
    pub burst: u32,
}

/// TLS settings of the listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate chain and private key.
    pub certified: Arc<CertifiedKey>,
    /// Of the first certificate of the chain.
    pub validity: Validity,
    /// A warning, without the final period, if every local user can read the private key.
    pub key_exposure: Option<String>,
    /// Client certificates.
    pub clients: ClientCertificates,
    /// At least one.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// In the order of preference; at least one for one of the versions.
    pub suites: Vec<SupportedCipherSuite>,
    /// Whether this order takes precedence over that of the client.
    pub prefer_server_suites: bool,
    /// Key exchange groups in the order of preference; at least one.
    pub curves: Vec<&'static dyn SupportedKxGroup>,
}

/// Validity period of a certificate, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Start of the period.
    pub not_before: DateTime<Utc>,
    /// End of the period.
    pub not_after: DateTime<Utc>,
}

/// Requirements for client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Whether a certificate is requested and verified.
    pub auth: ClientAuth,
    /// Trusted certificates and authorities.
    pub trusted: Vec<TrustedCertificate>,
    /// A certificate must have one of these subject alternative names; `None`: any.
    pub allowed_sans: Option<Vec<String>>,
}

/// A certificate that is trusted as a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedCertificate {
    /// In DER.
    pub certificate: CertificateDer<'static>,
    /// The distinguished name in certificate requests, in DER.
    pub hint: Vec<u8>,
    /// `None`: not a certificate authority.
    pub authority: Option<Authority>,
}

/// A trusted certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Subject and public key.
    pub anchor: TrustAnchor<'static>,
    /// Validity period of its certificate, in Unix seconds.
    pub validity: RangeInclusive<i64>,
}

/// Whether a client certificate is requested and verified, as in Go's `tls.ClientAuthType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Not requested.
    None,
    /// Requested, neither required nor verified.
    Request,
    /// Required, not verified.
    RequireAny,
    /// Requested, verified if present.
    VerifyIfGiven,
    /// Required and verified.
    RequireAndVerify,
}

impl WebConfig {
    /// Warnings about valid settings, without the final period. [`Validity::warning`] is about the
    /// dates of the certificate.
    pub fn warnings(&self) -> Vec<String> {
        const NO_CLIENT: &str = "client certificates are verified, but client_ca_file contains \
                                 no trusted certificate: every client certificate is rejected";
        let Some(tls) = &self.tls else {
            return Vec::new();
        };
        let clients = tls.clients.cannot_verify().then(|| NO_CLIENT.to_owned());
        clients
            .into_iter()
            .chain(tls.key_exposure.clone())
            .collect()
    }
}

impl Validity {
    /// Whether the certificate is valid at `now`.
    pub fn contains(&self, now: DateTime<Utc>) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// A warning, without the final period, if the certificate is not valid at `now` or expires soon.
    /// It does not change until its reason does.
    pub fn warning(&self, now: DateTime<Utc>) -> Option<String> {
        let shown = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        if now < self.not_before {
            Some(format!(
                "the certificate of the listener is not valid before {}, so scrapers reject it: check \
                 the clock, or issue the certificate again",
                shown(self.not_before)
            ))
        } else if now > self.not_after {
            Some(format!(
                "the certificate of the listener expired at {}, so scrapers reject it: renew it",
                shown(self.not_after)
            ))
        } else if self.not_after - now < EXPIRES_SOON {
            Some(format!(
                "the certificate of the listener expires at {}: renew it",
                shown(self.not_after)
            ))
        } else {
            None
        }
    }
}

impl PartialEq for Tls {
    /// Does not compare the keys: equal certificates have equal keys.
    fn eq(&self, other: &Self) -> bool {
        let groups = |tls: &Self| {
            tls.curves
                .iter()
                .map(|group| group.name())
                .collect::<Vec<_>>()
        };
        let versions = |tls: &Self| {
            tls.versions
                .iter()
                .map(|one| one.version)
                .collect::<Vec<_>>()
        };
        self.certified.cert == other.certified.cert
            && self.clients == other.clients
            && versions(self) == versions(other)
            && self.suites == other.suites
            && self.prefer_server_suites == other.prefer_server_suites
            && groups(self) == groups(other)
    }
}

impl ClientCertificates {
    /// Whether every client certificate fails verification.
    fn cannot_verify(&self) -> bool {
        match self.auth {
            ClientAuth::None | ClientAuth::Request | ClientAuth::RequireAny => false,
            ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => self.trusted.is_empty(),
        }
    }
}

impl PasswordHash {
    /// `text` must be a valid hash.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether this is the hash of `password`. Slow by design: the cost is part of the hash.
    pub fn matches(&self, password: &[u8]) -> bool {
        // `verify` fails only for an invalid hash.
        bcrypt::verify(password, self.0.expose_secret()).unwrap_or(false)
    }

    /// The hash, to compare it with another.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}
