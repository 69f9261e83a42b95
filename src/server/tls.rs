//! Builds the rustls configuration of the listener from the TLS settings.
//!
//! Always uses the ring provider; the process default of rustls is neither read nor set.

mod client_certificates;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::{Error, ServerConfig};

use self::client_certificates::ClientCertificateVerifier;
use crate::settings::web::{ClientAuth, Tls};

pub(super) fn server_config(tls: Tls) -> Result<ServerConfig, Error> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: tls.suites,
        kx_groups: tls.curves,
        ..ring::default_provider()
    });
    let requests_certificates = tls.clients.auth != ClientAuth::None;
    let verifier = ClientCertificateVerifier::new(tls.clients, Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&tls.versions)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(tls.certified)));
    config.ignore_client_order = tls.prefer_server_suites;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if requests_certificates {
        // A resumed session would skip the verification of the client certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}
