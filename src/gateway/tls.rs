//! TLS to a cluster: which servers are trusted, and the client certificate.
//!
//! The only module that disables a check of the TLS library, and only for the two kinds of trust
//! that need no authority. The server must prove in every case that it has the private key of its
//! certificate. This holds for native-tls only: with rustls as the back end of the HTTP client, the
//! same calls would skip that proof as well.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, tls};
use url::Url;

use self::connector::CertificateCheck;
use self::pins::Pins;
use super::resolver;
use crate::settings::{HostName, Security, TlsVersion, Trust};

mod certificate;
mod connector;
mod credentials;
mod diagnosis;
mod identity;
mod pins;

pub(super) use self::connector::CertificateExpiry;
pub(super) use self::credentials::{
    ContentHash, CredentialFiles, Credentials, client_file, has_files,
};
pub(super) use self::diagnosis::{Diagnosis, causes, diagnose};
pub(super) use self::identity::ClientCertificateInfo;

/// Configures `builder` for connections to `endpoint` with `security`. Its clients write the expiry
/// of the server's certificate to `expiry`.
pub(super) fn secure(
    builder: ClientBuilder,
    security: &Security,
    credentials: &Credentials,
    endpoint: &Url,
    expiry: CertificateExpiry,
) -> ClientBuilder {
    let newest = match security.max_tls_version() {
        TlsVersion::V1_2 => tls::Version::TLS_1_2,
        TlsVersion::V1_3 => tls::Version::TLS_1_3,
    };
    let builder = builder
        .tls_backend_native()
        .tls_version_min(tls::Version::TLS_1_2)
        .tls_version_max(newest)
        .tls_info(true)
        .connector_layer(CertificateCheck::new(Pins::of(&security.trust), expiry));
    let builder = match (&security.trust, &credentials.authorities) {
        (Trust::Authorities { .. }, None) => builder,
        (Trust::Authorities { .. }, Some(authorities)) => {
            builder.tls_certs_only(authorities.clone())
        }
        (Trust::Thumbprints { .. } | Trust::Insecure, _) => without_authorities(builder),
    };
    let builder = match server_name(security) {
        Some(_) => builder.dns_resolver(EndpointResolver(endpoint.clone())),
        None => builder,
    };
    match &credentials.identity {
        Some(identity) => builder.identity(identity.native.clone()),
        None => builder,
    }
}

/// The name that replaces the host of the endpoint in requests, so that the TLS library verifies it.
pub(super) fn server_name(security: &Security) -> Option<&HostName> {
    match &security.trust {
        Trust::Authorities { server_name, .. } => server_name.as_ref(),
        Trust::Thumbprints { .. } | Trust::Insecure => None,
    }
}

/// Disables the verification of chain and name; [`CertificateCheck`] replaces it.
fn without_authorities(builder: ClientBuilder) -> ClientBuilder {
    builder
        .tls_certs_only([])
        .tls_danger_accept_invalid_certs(true)
        .tls_danger_accept_invalid_hostnames(true)
}

/// Resolves every name to the addresses of one endpoint, so that a request can carry the name in the
/// certificate instead of the host of the endpoint.
struct EndpointResolver(Url);

impl Resolve for EndpointResolver {
    fn resolve(&self, _: Name) -> Resolving {
        let endpoint = self.0.clone();
        Box::pin(async move {
            let addresses = resolver::addresses(&endpoint).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
