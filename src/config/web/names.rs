//! Maps the names of TLS versions, cipher suites and curves in Go, which the exporter toolkit uses, to
//! rustls.
//!
//! Suites that rustls does not support are known by name, to distinguish them from misspelled ones.

use crate::settings::quoted;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite, SupportedProtocolVersion, version};

/// Suites of TLS 1.2 that messages recommend.
pub(super) const EXAMPLE_SUITES: [&str; 2] = [
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
];

/// Suites of TLS 1.3, which are always enabled, as in Go.
const TLS13_SUITES: [&str; 3] = [
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

/// Suites of Go that rustls does not support, because they are insecure.
const UNSUPPORTED_SUITES: [&str; 8] = [
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
            "expected TLS12 or TLS13, found {name}, which is insecure and not supported"
        )),
        _ => Err(format!("expected TLS12 or TLS13, found {}", quoted(name))),
    }
}

/// A suite of Go, whether rustls supports it or not.
pub(super) fn suite(name: &str) -> Result<&'static str, String> {
    known_suites().find(|known| *known == name).ok_or_else(|| {
        format!(
            "expected a cipher suite such as {}, found {}",
            EXAMPLE_SUITES.join(" or "),
            quoted(name)
        )
    })
}

/// Whether rustls supports the suite.
pub(super) fn is_supported(name: &str) -> bool {
    !UNSUPPORTED_SUITES.contains(&name)
}

fn known_suites() -> impl Iterator<Item = &'static str> {
    let suites = SUITES.iter().map(|(name, _)| *name);
    suites.chain(TLS13_SUITES).chain(UNSUPPORTED_SUITES)
}

/// The suites to enable: all of TLS 1.3, and the named ones of TLS 1.2; all if `wanted` is `None`.
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

/// A key exchange group.
pub(super) fn curve(name: &str) -> Result<&'static str, String> {
    let known = CURVES.iter().find(|(known, _)| *known == name);
    known.map(|(known, _)| *known).ok_or_else(|| {
        let found = match name {
            "CurveP521" => "CurveP521, which is not supported".to_owned(),
            _ => quoted(name),
        };
        format!("expected X25519, CurveP256 or CurveP384, found {found}")
    })
}

/// The named groups in their order; all if `wanted` is `None`.
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
    fn rustls_supports_every_name() {
        let names: Vec<_> = SUITES.iter().map(|(name, _)| *name).collect();
        let all = ring::default_provider();
        assert_eq!(suites(Some(&names)).len(), all.cipher_suites.len());
        assert_eq!(suites(Some(&[])).len(), TLS13_SUITES.len());
        let names: Vec<_> = CURVES.iter().map(|(name, _)| *name).collect();
        assert_eq!(curves(Some(&names)).len(), all.kx_groups.len());
    }
}
