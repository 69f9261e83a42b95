//! The keys of the web configuration: how their values are read, and the rules between them.
//!
//! What is wrong is told to the section, so that everything else is still checked. An empty text
//! counts as left out, as in the toolkit.

use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, SupportedProtocolVersion};
use secrecy::zeroize::Zeroizing;

use super::super::reader::Section;
use super::super::values::number;
use super::files::Files;
use super::values::{boolean, demand, hash, header, interval};
use super::{
    BURST, Clients, DEMAND, Demand, MAX_VERSION, MIN_VERSION, PREFER_SERVER_SUITES, RateLimit, Tls,
    WebConfig, names, pem,
};

const MAX_BURST: usize = 1_000_000_000;

impl WebConfig {
    pub(super) fn read(s: &mut Section<'_>, is_empty: bool, files: &mut Files) -> Self {
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
    /// `None` with an interval of nothing, which is also the default.
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
    /// `None` when there is neither a certificate nor anything that needs one.
    fn read(s: &mut Section<'_>, files: &mut Files) -> Option<Self> {
        let certificate = Pem::read(s, ["cert_file", "cert"], files);
        let key = Pem::read(s, ["key_file", "key"], files);
        let (clients, asks) = Clients::read(s, files);
        let versions = versions(s);
        let suites = suites(s);
        let prefer_server_suites =
            s.value("prefer_server_cipher_suites", PREFER_SERVER_SUITES, boolean);
        let curves = some(s.list("curve_preferences", names::curve));
        if !(certificate.given || key.given || asks) {
            return None;
        }
        certificate.require(s, "write for example `cert_file: exporter.crt`");
        key.require(s, "write for example `key_file: exporter.key`");
        if let Some(suites) = &suites {
            check_suites(s, suites, &versions);
        }
        let certified = certified(s, &certificate, &key)?;
        let validity =
            pem::validity(&certified.cert).map_err(|message| s.fault(certificate.key, message));
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

impl Clients {
    /// The settings, and whether there are any.
    fn read(s: &mut Section<'_>, files: &mut Files) -> (Self, bool) {
        let authorities = Pem::read(s, ["client_ca_file", "client_ca"], files);
        let mut asks = authorities.given;
        let faults = s.fault_count();
        let demand = s.value("client_auth_type", DEMAND, |text| {
            asks |= !text.is_empty();
            demand(text)
        });
        s.refuse_empty("client_allowed_sans", "it would let nobody in");
        let allowed_sans = s.list("client_allowed_sans", |text| Ok(text.to_owned()));
        if demand == Demand::Nothing && s.fault_count() == faults {
            let useless = if authorities.given {
                Some(authorities.key)
            } else {
                allowed_sans.as_ref().map(|_| "client_allowed_sans")
            };
            if let Some(key) = useless {
                let message = "has no effect, because clients are not asked for a certificate; \
                               write `client_auth_type: RequireAndVerifyClientCert`, too";
                s.fault(key, message);
            }
        }
        let clients = Self {
            demand,
            trusted: authorities.parsed(s, pem::trusted).unwrap_or_default(),
            allowed_sans,
        };
        (clients, asks)
    }
}

/// PEM text that stands in a file or in the configuration; with both, the file counts.
struct Pem {
    /// Where it comes from; the first of the keys when it was left out.
    key: &'static str,
    given: bool,
    /// `None` as well when the file could not be read.
    bytes: Option<Zeroizing<Vec<u8>>>,
    /// A warning when every local user may read the text.
    exposure: Option<String>,
}

impl Pem {
    fn read(s: &mut Section<'_>, keys: [&'static str; 2], files: &mut Files) -> Self {
        let [in_file, here] = keys;
        let mut named = false;
        let file = s.value(in_file, None, |name| {
            named = !name.is_empty();
            files.named(name)
        });
        let exposure = if named {
            files.exposure()
        } else {
            files.own_exposure()
        };
        let text = s.value(here, None, |text| {
            Ok((!text.is_empty()).then(|| text.as_bytes().to_vec()))
        });
        let given = named || text.is_some();
        let key = if given && !named { here } else { in_file };
        let bytes = if named { file } else { text };
        Self {
            key,
            given,
            bytes: bytes.map(Zeroizing::new),
            exposure,
        }
    }

    fn require(&self, s: &mut Section<'_>, advice: &str) {
        if !self.given {
            s.fault(self.key, format!("is missing; {advice}"));
        }
    }

    /// What `parse` makes of the text; a fault when it cannot.
    fn parsed<T>(
        &self,
        s: &mut Section<'_>,
        parse: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = parse(self.bytes.as_ref()?);
        parsed.map_err(|message| s.fault(self.key, message)).ok()
    }
}

fn certified(s: &mut Section<'_>, certificate: &Pem, key: &Pem) -> Option<CertifiedKey> {
    let chain = certificate.parsed(s, pem::chain);
    let (chain, private) = chain.zip(key.parsed(s, pem::key))?;
    pem::certified(chain, private)
        .map_err(|message| s.fault(key.key, message))
        .ok()
}

/// Those from the least to the greatest, the greatest first.
fn versions(s: &mut Section<'_>) -> Vec<&'static SupportedProtocolVersion> {
    let least = s.value("min_version", MIN_VERSION, names::version);
    let greatest = s.value("max_version", MAX_VERSION, names::version);
    let number = |version: &SupportedProtocolVersion| u16::from(version.version);
    let range = number(least)..=number(greatest);
    let mut versions = rustls::ALL_VERSIONS.to_vec();
    versions.retain(|version| range.contains(&number(version)));
    if versions.is_empty() {
        s.fault("max_version", "is less than min_version; raise it");
    }
    versions
}

/// The suites that are listed, as far as they can be used; `None` when none is listed.
fn suites(s: &mut Section<'_>) -> Option<Vec<&'static str>> {
    let mut listed = some(s.list("cipher_suites", names::suite))?;
    listed.retain(|name| names::is_usable(name));
    if listed.is_empty() {
        let message = format!(
            "this exporter has none of these suites, as they are outdated (CBC, or RSA without \
             ECDHE); write for example {}",
            names::EXAMPLE_SUITES.join(" and ")
        );
        s.fault("cipher_suites", message);
    }
    Some(listed)
}

/// Reports TLS 1.2 without a suite for it.
fn check_suites(
    s: &mut Section<'_>,
    listed: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) {
    let speaks = |version| versions.iter().any(|one| one.version == version);
    if listed.is_empty() || !speaks(ProtocolVersion::TLSv1_2) {
        return;
    }
    if names::suites(Some(listed))
        .iter()
        .all(|suite| suite.tls13().is_some())
        && !speaks(ProtocolVersion::TLSv1_3)
    {
        let wanted = names::EXAMPLE_SUITES.join(" or ");
        let message = format!("no suite for TLS12 is listed; add {wanted}");
        s.fault("cipher_suites", message);
    }
}

/// An empty list counts as left out.
fn some<T>(list: Option<Vec<T>>) -> Option<Vec<T>> {
    list.filter(|list| !list.is_empty())
}
