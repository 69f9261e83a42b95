//! Verifies client certificates with the rules of the Prometheus exporter toolkit.
//!
//! The rules determine whether a certificate is requested or required, whether it must chain to a
//! trusted authority, and which names it must have. A client always has to prove that it holds the
//! private key.
//!
//! Invariant: an expired or not yet valid certificate verifies neither itself nor others.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use crate::settings::web::{ClientAuth, ClientCertificates};

#[derive(Debug)]
pub(super) struct ClientCertificateVerifier {
    rules: ClientCertificates,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertificateVerifier {
    pub(super) fn new(rules: ClientCertificates, provider: Arc<CryptoProvider>) -> Self {
        let hints = rules.trusted.iter().map(|one| one.hint.clone().into());
        Self {
            hints: hints.collect(),
            rules,
            provider,
        }
    }

    /// Verifies that the certificate chains to an authority. A certificate that is itself trusted
    /// needs none, so that a self-signed client certificate can be pinned.
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let trusted = &self.rules.trusted;
        if trusted
            .iter()
            .any(|one| one.certificate.as_ref() == end_entity.as_ref())
        {
            return verify_without_chain(&parse(end_entity)?, now);
        }
        let provider = Arc::clone(&self.provider);
        WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots(now)), provider)
            .build()
            // The only error is an empty list of authorities.
            .map_err(|_| CertificateError::UnknownIssuer)?
            .verify_client_cert(end_entity, intermediates, now)?;
        Ok(())
    }

    /// The authorities that are valid at `now`, because webpki ignores the dates of a root.
    fn roots(&self, now: UnixTime) -> RootCertStore {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let authorities = self
            .rules
            .trusted
            .iter()
            .filter_map(|trusted| trusted.authority.as_ref());
        let valid = authorities.filter(|authority| authority.validity.contains(&now));
        valid.map(|authority| authority.anchor.clone()).collect()
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

impl ClientCertVerifier for ClientCertificateVerifier {
    fn offer_client_auth(&self) -> bool {
        self.rules.auth != ClientAuth::None
    }

    fn client_auth_mandatory(&self) -> bool {
        match self.rules.auth {
            ClientAuth::None | ClientAuth::Request | ClientAuth::VerifyIfGiven => false,
            ClientAuth::RequireAny | ClientAuth::RequireAndVerify => true,
        }
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.rules.auth {
            ClientAuth::None | ClientAuth::Request | ClientAuth::RequireAny => {}
            ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
                self.verify_chain(end_entity, intermediates, now)?;
            }
        }
        let certificate = parse(end_entity)?;
        if let Some(allowed) = &self.rules.allowed_sans
            && !alternative_names(&certificate).any(|name| allowed.contains(&name))
        {
            let error = io::Error::other("the certificate has none of the client_allowed_sans");
            return Err(CertificateError::Other(OtherError(Arc::new(error))).into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

/// Verifies the dates and the extended key usage.
fn verify_without_chain(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).ok();
    let now = now.and_then(|now| ASN1Time::from_timestamp(now).ok());
    let validity = certificate.validity();
    if now.is_none_or(|now| now < validity.not_before) {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.is_none_or(|now| now > validity.not_after) {
        return Err(CertificateError::Expired.into());
    }
    match certificate.extended_key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.client_auth || usage.value.any => Ok(()),
        Ok(Some(_)) => Err(CertificateError::InvalidPurpose.into()),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

/// The subject alternative names as strings. Addresses have the format of Go, which prints an
/// IPv4-mapped IPv6 address as IPv4.
fn alternative_names(certificate: &X509Certificate<'_>) -> impl Iterator<Item = String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    names.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => {
            address(bytes).map(|address| address.to_canonical().to_string())
        }
        _ => None,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
