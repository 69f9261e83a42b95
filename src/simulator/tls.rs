//! TLS of the simulated gateway.
//!
//! TLS 1.2 or 1.3 with an optional client certificate. Authorizes no client: any certificate passes
//! whose key the client has proved to hold. It cannot request a certificate later by renegotiation,
//! as http.sys does by default, because rustls does not support it.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, HandshakeKind, ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::access::Fingerprint;

/// Certificate and key of a gateway.
#[derive(Clone)]
pub struct ServerIdentity(Arc<ServerConfig>);

/// Error of [`ServerIdentity`].
#[derive(Debug, thiserror::Error)]
pub enum UnusableIdentity {
    /// The PEM text contains no certificate.
    #[error("no certificate of the simulated gateway in PEM")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    /// The PEM text contains no private key.
    #[error("no private key of the simulated gateway in PEM")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// The certificate or key is malformed, or they do not match.
    #[error("the simulated gateway cannot use its certificate with its key")]
    Pair(#[source] Error),
}

impl ServerIdentity {
    /// Reads the certificate chain and the private key from PEM.
    ///
    /// # Errors
    ///
    /// When the certificate or the key is missing or malformed, or when they do not match.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, UnusableIdentity> {
        let chain = CertificateDer::pem_slice_iter(certificates.as_bytes());
        let chain: Vec<_> = chain
            .collect::<Result<_, _>>()
            .map_err(UnusableIdentity::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(UnusableIdentity::Key)?;
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS12, &TLS13])
            .map_err(UnusableIdentity::Pair)?;
        let config = builder
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(UnusableIdentity::Pair)?;
        Ok(Self(Arc::new(config)))
    }

    /// The handshake of a new connection.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(Arc::clone(&self.0)).accept(stream).await
    }
}

/// Omits the key and the session state.
impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").finish_non_exhaustive()
    }
}

/// The client certificate of a connection.
pub(super) fn certificate_of<S>(stream: &TlsStream<S>) -> Option<Fingerprint> {
    let chain = stream.get_ref().1.peer_certificates()?;
    chain.first().map(|leaf| Fingerprint::of(leaf))
}

/// Whether the handshake was full, not the resumption of a session.
pub(super) fn is_full<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.handshake_kind() != Some(HandshakeKind::Resumed)
}

/// Accepts any certificate whose key the client holds.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
