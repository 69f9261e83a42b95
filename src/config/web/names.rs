//! Versions, cipher suites and curves by their names in Go → what rustls has.
//!
//! The toolkit knows them by these names. What rustls has not is told apart from what nobody
//! has; suites of Go that rustls has not are known here by name only.

use crate::settings::quoted;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite, SupportedProtocolVersion, version};

/// One of these is what HTTP/2 asks of every server that speaks TLS 1.2.
pub(super) const HTTP2_SUITES: [&str; 2] = [
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
];

/// Suites of TLS 1.3; all of them are always on, as in Go.
const SUITES_OF_TLS13: [&str; 3] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// Suites of TLS 1.2.
const SUITES: [(&str, CipherSuite); 6] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Suites that Go has and rustls, for good reasons, has not.
const SUITES_OF_GO: [&str; 8] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];

const CURVES: [(&str, NamedGroup); 3] = [
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
    ("X25519", NamedGroup::X25519),
];

/// A version of TLS.
pub(super) fn version(name: &str) -> Result<&'static SupportedProtocolVersion, String> {
    match name {
        "TLS13" => Ok(&version::TLS13),
        "TLS12" => Ok(&version::TLS12),
        "TLS10" | "TLS11" => Err(format!(
            "{name} is broken and this exporter does not speak it; write TLS12 or TLS13"
        )),
        _ => Err(format!(
            "{} is not a version of TLS; write TLS12 or TLS13",
            quoted(name)
        )),
    }
}

/// A suite that Go knows, whether rustls has it or not.
pub(super) fn suite(name: &str) -> Result<&'static str, String> {
    known_suites().find(|known| *known == name).ok_or_else(|| {
        format!(
            "{} is not a cipher suite; write for example {}",
            quoted(name),
            HTTP2_SUITES.join(" or ")
        )
    })
}

/// Whether rustls has the suite.
pub(super) fn is_usable(name: &str) -> bool {
    !SUITES_OF_GO.contains(&name)
}

fn known_suites() -> impl Iterator<Item = &'static str> {
    let suites = SUITES.iter().map(|(name, _)| *name);
    suites.chain(SUITES_OF_TLS13).chain(SUITES_OF_GO)
}

/// What is spoken when these suites are wanted: all of TLS 1.3, and of TLS 1.2 those named. All
/// that there are when none is named.
pub(super) fn suites(wanted: Option<&[&str]>) -> Vec<SupportedCipherSuite> {
    let all = ring::default_provider().cipher_suites;
    let Some(wanted) = wanted else {
        return all;
    };
    let is_tls13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
    let named = wanted.iter().filter_map(|name| {
        let (_, id) = SUITES.iter().find(|(known, _)| known == name)?;
        all.iter().find(|suite| suite.suite() == *id)
    });
    let tls13 = all.iter().filter(|suite| is_tls13(suite));
    tls13.chain(named).copied().collect()
}

/// A group of the key exchange.
pub(super) fn curve(name: &str) -> Result<&'static str, String> {
    let known = CURVES.iter().find(|(known, _)| *known == name);
    known.map(|(known, _)| *known).ok_or_else(|| {
        let fault = match name {
            "CurveP521" => "this exporter does not have CurveP521".to_owned(),
            _ => format!("{} is not a curve", quoted(name)),
        };
        format!("{fault}; write X25519, CurveP256 or CurveP384")
    })
}

/// The groups of these names, in their order; all that there are when none is named.
pub(super) fn curves(wanted: Option<&[&str]>) -> Vec<&'static dyn SupportedKxGroup> {
    let CryptoProvider { kx_groups, .. } = ring::default_provider();
    let Some(wanted) = wanted else {
        return kx_groups;
    };
    let groups = wanted.iter().filter_map(|name| {
        let (_, id) = CURVES.iter().find(|(known, _)| known == name)?;
        kx_groups.iter().find(|group| group.name() == *id).copied()
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_for_something_that_rustls_has() {
        let names: Vec<_> = SUITES.iter().map(|(name, _)| *name).collect();
        let all = ring::default_provider();
        assert_eq!(suites(Some(&names)).len(), all.cipher_suites.len());
        assert_eq!(suites(Some(&[])).len(), SUITES_OF_TLS13.len());
        let names: Vec<_> = CURVES.iter().map(|(name, _)| *name).collect();
        assert_eq!(curves(Some(&names)).len(), all.kx_groups.len());
    }
}
