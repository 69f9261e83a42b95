//! The web configuration: how the exporter's own pages are secured.
//!
//! The file has the format of the Prometheus exporter toolkit, and means the same but for what
//! `docs/web-configuration.md` lists. Every default stands here, every key in `keys`. A
//! [`WebConfig`] that exists can be served with: the files that it names have been read, the key
//! belongs to the certificate, and every hash can be compared with. Reading these files is the
//! only I/O. No message repeats a key or a hash.

mod files;
mod keys;
mod names;
mod pem;
mod values;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::{HeaderName, HeaderValue};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rustls::crypto::SupportedKxGroup;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use rustls::sign::CertifiedKey;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};
use secrecy::{ExposeSecret as _, SecretString};

use self::files::Files;
pub use self::files::Stamps;
use super::document::Value;
use super::fault::{Error, Fault};
use super::{contents, document, reader};

/// How long before its end a certificate is warned about.
const EXPIRES_SOON: TimeDelta = TimeDelta::days(7);

/// Everything that the file can say.
#[derive(Debug)]
pub struct WebConfig {
    /// Whether there is nothing in the file.
    pub is_empty: bool,
    /// How connections are encrypted; not at all when `None`.
    pub tls: Option<Tls>,
    /// What is added to every response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who may see the pages; everybody when empty.
    pub users: Users,
    /// How many requests are answered; all of them when `None`.
    pub rate_limit: Option<RateLimit>,
}

/// The hash of each user's password, by name.
pub type Users = BTreeMap<String, Hash>;

/// The bcrypt hash of a password, which can be compared with.
#[derive(Clone, Debug)]
pub struct Hash(SecretString);

/// A bucket of tokens; each answer takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The time in which one token comes back; more than nothing.
    pub interval: Duration,
    /// What the bucket holds, and begins with.
    pub burst: u32,
}

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate with its chain, and its key.
    pub certified: Arc<CertifiedKey>,
    /// When the certificate is valid; those above it in the chain do not count.
    pub validity: Validity,
    /// A warning when every local user may read the key, without the period at its end.
    pub key_exposure: Option<String>,
    /// Which certificates clients must have.
    pub clients: Clients,
    /// At least one.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// At least one for one of the versions, in the order of preference.
    pub suites: Vec<SupportedCipherSuite>,
    /// Whether that order counts, or that of the client.
    pub prefer_server_suites: bool,
    /// Groups of the key exchange in the order of preference; at least one.
    pub curves: Vec<&'static dyn SupportedKxGroup>,
}

/// From when to when a certificate is valid, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first moment.
    pub not_before: DateTime<Utc>,
    /// Its last moment.
    pub not_after: DateTime<Utc>,
}

/// Which certificates clients must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// Whether one is asked for, and what is made of it.
    pub demand: Demand,
    /// Which certificates are trusted.
    pub trusted: Vec<Trusted>,
    /// Alternative names of which a certificate must have one; `None` asks for none.
    pub allowed_sans: Option<Vec<String>>,
}

/// A certificate that is trusted when a client shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// The complete name by which a client can tell that it is asked for this one.
    pub hint: Vec<u8>,
    /// What it is trusted for beyond itself; `None` when it is no authority.
    pub authority: Option<Authority>,
}

/// One that is trusted to sign certificates of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Name and key.
    pub anchor: TrustAnchor<'static>,
    /// When its certificate is valid, in seconds since 1970.
    pub validity: RangeInclusive<i64>,
}

/// Whether clients are asked for a certificate, and what is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// They are not asked.
    Nothing,
    /// They are asked; any certificate will do, and none as well.
    Request,
    /// Any certificate will do.
    RequireAny,
    /// They need none, but one that they have must be verified.
    VerifyIfGiven,
    /// They need one that is verified.
    RequireAndVerify,
}

// Every default stands from here …

const BURST: u32 = 0;
const MIN_VERSION: &SupportedProtocolVersion = &rustls::version::TLS12;
const MAX_VERSION: &SupportedProtocolVersion = &rustls::version::TLS13;
const PREFER_SERVER_SUITES: bool = true;
const DEMAND: Demand = Demand::Nothing;

// … to here.

impl WebConfig {
    /// Reads and checks the file at `path` and the files that it names.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_from(path, &mut Files::of(path))
    }

    /// The same, and by what a change of any of these files after `now` is noticed: well or not,
    /// because a faulty file can be mended.
    pub fn load_with_stamps(path: &Path, now: SystemTime) -> (Result<Self, Error>, Stamps) {
        let mut files = Files::of(path);
        let config = Self::load_from(path, &mut files);
        (config, files.into_stamps(now))
    }

    fn load_from(path: &Path, files: &mut Files) -> Result<Self, Error> {
        let text = files.regular(path).map_err(Fault::unread);
        let text = text.and_then(|()| contents(path));
        files.remember(&text.as_ref().map_err(ToString::to_string));
        let text = text.map_err(|fault| Error::new(path, vec![fault]))?;
        Self::parse_with(&text, path, files)
    }

    /// Checks `text`, which stands in the file `origin`: messages name that file, and relative
    /// paths start in its folder. Reads the files that it names.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, Error> {
        Self::parse_with(text, origin, &mut Files::of(origin))
    }

    fn parse_with(text: &str, origin: &Path, files: &mut Files) -> Result<Self, Error> {
        let (config, faults) = interpret(text, files).map_or_else(
            |fault| (None, vec![fault]),
            |(config, reader)| (Some(config), reader.faults),
        );
        config
            .filter(|_| faults.is_empty())
            .ok_or_else(|| Error::new(origin, faults))
    }
}

impl WebConfig {
    /// Warnings about valid settings, without the period at their end. The dates of the certificate
    /// are not among them: see [`Validity::warning`].
    pub fn warnings(&self) -> Vec<String> {
        const NO_CLIENT: &str = "certificates of clients are verified, and client_ca_file names \
                                 none that is trusted: whoever shows a certificate is refused";
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

    /// A warning about a certificate that is not valid at `now` or not much longer, without the
    /// period at its end. It stays the same while its reason does.
    pub fn warning(&self, now: DateTime<Utc>) -> Option<String> {
        let shown = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        if now < self.not_before {
            Some(format!(
                "the certificate of the listener is not valid before {}, so scrapers refuse it: check \
                 the clock, or issue the certificate again",
                shown(self.not_before)
            ))
        } else if now > self.not_after {
            Some(format!(
                "the certificate of the listener expired at {}, so scrapers refuse it: renew it",
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
    /// The key is that of the certificate, so that it does not have to be looked at.
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

fn interpret(text: &str, files: &mut Files) -> Result<(WebConfig, reader::Reader), Fault> {
    let root = document::parse(text)?;
    let is_empty = matches!(root.value, Value::Null);
    Ok(reader::read(&root, |s| WebConfig::read(s, is_empty, files)))
}

impl Clients {
    /// Whether no certificate is good enough.
    fn cannot_verify(&self) -> bool {
        match self.demand {
            Demand::Nothing | Demand::Request | Demand::RequireAny => false,
            Demand::VerifyIfGiven | Demand::RequireAndVerify => self.trusted.is_empty(),
        }
    }
}

impl Hash {
    /// Whether `password` has this hash: as slow as the hash wants it.
    pub fn is_of(&self, password: &[u8]) -> bool {
        // The error of a malformed hash, which this one is not.
        bcrypt::verify(password, self.0.expose_secret()).unwrap_or(false)
    }

    /// The hash itself, to tell it from another.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENTATION: &str = include_str!("../../docs/web-configuration.md");

    #[test]
    fn the_documentation_has_a_row_for_every_key_and_no_other() {
        let text = "tls_server_config: {}\nhttp_server_config: {}\nrate_limit: {}\n";
        let (_, reader) = interpret(text, &mut Files::of(Path::new("web.yml"))).unwrap();
        let holds_keys = |key: &String| {
            let below = format!("{key}.");
            reader.known.iter().any(|other| other.starts_with(&below))
        };
        let known: BTreeSet<_> = reader.known.iter().filter(|key| !holds_keys(key)).collect();
        let rows = DOCUMENTATION.lines();
        let documented: Vec<String> = rows
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(key, _)| key.to_owned())
            .collect();
        assert_eq!(documented.iter().collect::<BTreeSet<_>>(), known);
        assert_eq!(documented.len(), known.len(), "no key has two rows");
    }

    #[test]
    fn the_documentation_shows_messages_as_they_are() {
        let text =
            "tls_server_config:\n  cert_filse: server.crt\nbasic_auth_users:\n  alice: secret\n";
        let error = WebConfig::parse(text, Path::new("web.yml")).unwrap_err();
        assert!(DOCUMENTATION.contains(&format!("\n{error}\n")), "{error}");
    }
}
