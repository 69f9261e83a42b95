//! The keys and defaults of the web configuration, and the rules between them.
//!
//! Empty text counts as missing, as in the exporter toolkit.

use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, SupportedProtocolVersion};
use secrecy::zeroize::Zeroizing;

use super::super::values::number;
use super::super::yaml::Section;
use super::files::FileReader;
use super::values::{boolean, client_auth, hash, header, interval};
use super::{names, pem};
use crate::settings::web::{ClientAuth, ClientCertificates, RateLimit, Tls, WebConfig};

const BURST: u32 = 0;
const MIN_VERSION: &SupportedProtocolVersion = &rustls::version::TLS12;
const MAX_VERSION: &SupportedProtocolVersion = &rustls::version::TLS13;
const PREFER_SERVER_SUITES: bool = true;

const MAX_BURST: usize = 1_000_000_000;

impl WebConfig {
    pub(super) fn read(s: &mut Section<'_>, is_empty: bool, files: &mut FileReader) -> Self {
        let headers = s.section("http_server_config", |s| {
            // Accepted for files of the toolkit; the listener speaks HTTP/1.1 only.
            s.value("http2", true, boolean);
            s.entries("headers", header)
        });
        let users = s.entries("basic_auth_users", |_, text| hash(text));
        Self {
            is_empty,
            tls: s.section("tls_server_config", |s| Tls::read(s, files)),
            headers: headers.into_iter().map(|(_, header)| header).collect(),
            users: users.into_iter().collect(),
            rate_limit: s.section("rate_limit", RateLimit::read),
        }
    }
}

impl RateLimit {
    /// `None` if the interval is 0, the default.
    fn read(s: &mut Section<'_>) -> Option<Self> {
        let interval = s.value("interval", Duration::ZERO, interval);
        let burst = s.value("burst", BURST, |text| {
            let burst = number(text, &(0..=MAX_BURST))?;
            Ok(u32::try_from(burst).unwrap_or(u32::MAX))
        });
        (!interval.is_zero()).then_some(Self { interval, burst })
    }
}

impl Tls {
    /// `None` if there is no certificate and no setting that requires one.
    fn read(s: &mut Section<'_>, files: &mut FileReader) -> Option<Self> {
        let certificate = Pem::read(s, ["cert_file", "cert"], files);
        let key = Pem::read(s, ["key_file", "key"], files);
        let (clients, has_clients) = ClientCertificates::read(s, files);
        let versions = versions(s);
        let suites = suites(s);
        let prefer_server_suites =
            s.value("prefer_server_cipher_suites", PREFER_SERVER_SUITES, boolean);
        let curves = some(s.list("curve_preferences", names::curve));
        if !(certificate.given || key.given || has_clients) {
            return None;
        }
        certificate.require(s, "write for example `cert_file: exporter.crt`");
        key.require(s, "write for example `key_file: exporter.key`");
        if let Some(suites) = &suites {
            check_suites(s, suites, &versions);
        }
        let certified = certified(s, &certificate, &key)?;
        let validity =
            pem::validity(&certified.cert).map_err(|message| s.error(certificate.key, message));
        Some(Self {
            certified: Arc::new(certified),
            validity: validity.ok()?,
            key_exposure: key.exposure,
            clients,
            versions,
            suites: names::suites(suites.as_deref()),
            prefer_server_suites,
            curves: names::curves(curves.as_deref()),
        })
    }
}

impl ClientCertificates {
    /// The settings, and whether any is configured.
    fn read(s: &mut Section<'_>, files: &mut FileReader) -> (Self, bool) {
        let authorities = Pem::read(s, ["client_ca_file", "client_ca"], files);
        let mut is_configured = authorities.given;
        let errors = s.error_count();
        let auth = s.value("client_auth_type", ClientAuth::None, |text| {
            is_configured |= !text.is_empty();
            client_auth(text)
        });
        s.reject_empty(
            "client_allowed_sans",
            "every client certificate would be rejected",
        );
        let allowed_sans = s.list("client_allowed_sans", |text| Ok(text.to_owned()));
        if auth == ClientAuth::None && s.error_count() == errors {
            let without_effect = if authorities.given {
                Some(authorities.key)
            } else {
                allowed_sans.as_ref().map(|_| "client_allowed_sans")
            };
            if let Some(key) = without_effect {
                let message = "has no effect without client_auth_type; write `client_auth_type: \
                               RequireAndVerifyClientCert`";
                s.error(key, message);
            }
        }
        let clients = Self {
            auth,
            trusted: authorities.parsed(s, pem::trusted).unwrap_or_default(),
            allowed_sans,
        };
        (clients, is_configured)
    }
}

/// PEM text, inline or in a file. With both, the file is used.
struct Pem {
    /// The key that it is read from; the first one if it is missing.
    key: &'static str,
    given: bool,
    /// Also `None` if the file cannot be read.
    bytes: Option<Zeroizing<Vec<u8>>>,
    /// A warning if every local user can read the text.
    exposure: Option<String>,
}

impl Pem {
    fn read(s: &mut Section<'_>, keys: [&'static str; 2], files: &mut FileReader) -> Self {
        let [file_key, inline_key] = keys;
        let mut has_file = false;
        let file = s.value(file_key, None, |name| {
            has_file = !name.is_empty();
            files.read(name)
        });
        let exposure = if has_file {
            files.exposure()
        } else {
            files.own_exposure()
        };
        let text = s.value(inline_key, None, |text| {
            Ok((!text.is_empty()).then(|| text.as_bytes().to_vec()))
        });
        let given = has_file || text.is_some();
        let key = if given && !has_file {
            inline_key
        } else {
            file_key
        };
        let bytes = if has_file { file } else { text };
        Self {
            key,
            given,
            bytes: bytes.map(Zeroizing::new),
            exposure,
        }
    }

    fn require(&self, s: &mut Section<'_>, advice: &str) {
        if !self.given {
            s.error(self.key, format!("missing; {advice}"));
        }
    }

    /// Parses the text; records an error if that fails.
    fn parsed<T>(
        &self,
        s: &mut Section<'_>,
        parse: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = parse(self.bytes.as_ref()?);
        parsed.map_err(|message| s.error(self.key, message)).ok()
    }
}

fn certified(s: &mut Section<'_>, certificate: &Pem, key: &Pem) -> Option<CertifiedKey> {
    let chain = certificate.parsed(s, pem::chain);
    let (chain, private) = chain.zip(key.parsed(s, pem::key))?;
    pem::certified(chain, private)
        .map_err(|message| s.error(key.key, message))
        .ok()
}

/// The versions from `min_version` to `max_version`, newest first.
fn versions(s: &mut Section<'_>) -> Vec<&'static SupportedProtocolVersion> {
    let min = s.value("min_version", MIN_VERSION, names::version);
    let max = s.value("max_version", MAX_VERSION, names::version);
    let number = |version: &SupportedProtocolVersion| u16::from(version.version);
    let range = number(min)..=number(max);
    let mut versions = rustls::ALL_VERSIONS.to_vec();
    versions.retain(|version| range.contains(&number(version)));
    if versions.is_empty() {
        s.error("max_version", "expected at least min_version");
    }
    versions
}

/// The listed suites that are supported; `None` if none is listed.
fn suites(s: &mut Section<'_>) -> Option<Vec<&'static str>> {
    let mut listed = some(s.list("cipher_suites", names::suite))?;
    listed.retain(|name| names::is_supported(name));
    if listed.is_empty() {
        let message = format!(
            "none of these suites is supported, because they are insecure (CBC, or RSA without \
             ECDHE); write for example {}",
            names::EXAMPLE_SUITES.join(" and ")
        );
        s.error("cipher_suites", message);
    }
    Some(listed)
}

/// Reports TLS 1.2 without a suite for it.
fn check_suites(
    s: &mut Section<'_>,
    listed: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) {
    let supports = |version| versions.iter().any(|one| one.version == version);
    if listed.is_empty() || !supports(ProtocolVersion::TLSv1_2) {
        return;
    }
    if names::suites(Some(listed))
        .iter()
        .all(|suite| suite.tls13().is_some())
        && !supports(ProtocolVersion::TLSv1_3)
    {
        s.error(
            "cipher_suites",
            format!(
                "expected a suite for TLS12; add {}",
                names::EXAMPLE_SUITES.join(" or ")
            ),
        );
    }
}

/// An empty list counts as missing.
fn some<T>(list: Option<Vec<T>>) -> Option<Vec<T>> {
    list.filter(|list| !list.is_empty())
}
