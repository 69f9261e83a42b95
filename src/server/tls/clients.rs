//! Judges the certificates of clients as the exporter toolkit does.
//!
//! Whether a certificate is asked for, whether one is needed, whether an authority must stand
//! behind it, and which names it must have. Whoever shows a certificate has to prove that he has
//! its key, whatever else is asked for. It keeps nothing of a certificate.
//!
//! Invariant: what is not valid at the moment verifies nobody, itself or others.

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

/// Judges by one set of rules.
#[derive(Debug)]
pub(super) struct ClientJudge {
    rules: ClientCertificates,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientJudge {
    pub(super) fn new(rules: ClientCertificates, provider: Arc<CryptoProvider>) -> Self {
        let hints = rules.trusted.iter().map(|one| one.hint.clone().into());
        Self {
            hints: hints.collect(),
            rules,
            provider,
        }
    }

    /// Whether an authority stands behind the certificate. A certificate that is itself among
    /// the trusted ones needs none, which is how self-signed ones of clients are pinned.
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
            return verify_alone(&parsed(end_entity)?, now);
        }
        let provider = Arc::clone(&self.provider);
        WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots(now)), provider)
            .build()
            // It refuses to be built for no authorities and no fault else.
            .map_err(|_| CertificateError::UnknownIssuer)?
            .verify_client_cert(end_entity, intermediates, now)?;
        Ok(())
    }

    /// The authorities of the moment: the dates of a root are nothing that webpki looks at.
    fn roots(&self, now: UnixTime) -> RootCertStore {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let authorities = self
            .rules
            .trusted
            .iter()
            .filter_map(|one| one.authority.as_ref());
        let valid = authorities.filter(|authority| authority.validity.contains(&now));
        valid.map(|authority| authority.anchor.clone()).collect()
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

impl ClientCertVerifier for ClientJudge {
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
        let certificate = parsed(end_entity)?;
        if let Some(allowed) = &self.rules.allowed_sans
            && !names(&certificate).any(|name| allowed.contains(&name))
        {
            return Err(refused(
                "the certificate has none of the client_allowed_sans",
            ));
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

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

/// What still counts without a chain: its dates, and what it may be used for.
fn verify_alone(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
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

/// The alternative names, spelled as in the configuration: addresses as Go prints them, those of
/// IPv4 within IPv6 as the former.
fn names(certificate: &X509Certificate<'_>) -> impl Iterator<Item = String> {
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

fn refused(reason: &'static str) -> Error {
    let reason = OtherError(Arc::new(std::io::Error::other(reason)));
    CertificateError::Other(reason).into()
}
