//! TLS towards a cluster: whom the client believes, and what it shows of itself.
//!
//! The only place that switches off a check of the TLS library, and it does so only for the two
//! kinds of trust that are not about authorities; whoever answers must prove in every case that
//! it has the key of its certificate. That holds for native-tls alone: with the other back end of
//! the HTTP client the same calls would let in whoever repeats a certificate.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, tls};
use url::Url;

use self::connector::CheckPeer;
use self::pins::Pins;
use super::resolver;
use super::security::{HostName, Security, TlsVersion, Trust};

mod certificate;
mod connector;
mod credentials;
mod diagnosis;
mod identity;
mod pins;

pub(super) use self::certificate::Description;
pub(super) use self::connector::LastSeen;
pub(super) use self::credentials::{
    ContentHash, CredentialFiles, Credentials, client_file, has_files,
};
pub(super) use self::diagnosis::{Diagnosis, described, diagnose, links};
pub(super) use self::identity::ClientCertificateInfo;

/// Makes clients that `builder` builds believe and show what `security` says, on connections to
/// the host of `endpoint`. What they see of its certificate is noted in `seen`.
pub(super) fn secure(
    builder: ClientBuilder,
    security: &Security,
    credentials: &Credentials,
    endpoint: &Url,
    seen: LastSeen,
) -> ClientBuilder {
    let newest = match security.newest_tls() {
        TlsVersion::V1_2 => tls::Version::TLS_1_2,
        TlsVersion::V1_3 => tls::Version::TLS_1_3,
    };
    let builder = builder
        .tls_backend_native()
        .tls_version_min(tls::Version::TLS_1_2)
        .tls_version_max(newest)
        .tls_info(true)
        .connector_layer(CheckPeer::new(Pins::of(&security.trust), seen));
    let builder = match (&security.trust, &credentials.authorities) {
        (Trust::Authorities { .. }, None) => builder,
        (Trust::Authorities { .. }, Some(authorities)) => {
            builder.tls_certs_only(authorities.clone())
        }
        (Trust::Thumbprints { .. } | Trust::Insecure, _) => without_authorities(builder),
    };
    let builder = directed(builder, security, endpoint);
    match &credentials.identity {
        Some(identity) => builder.identity(identity.native.clone()),
        None => builder,
    }
}

/// Makes clients that `builder` builds connect as those of [`secure`] do, to see what certificate
/// the other side shows; they tell by [`described`] and never send a request.
pub(super) fn describe(
    builder: ClientBuilder,
    security: &Security,
    endpoint: &Url,
) -> ClientBuilder {
    let layer = CheckPeer::new(Pins::describing(), LastSeen::default());
    let builder = without_authorities(builder.tls_backend_native());
    directed(builder, security, endpoint)
        .tls_info(true)
        .connector_layer(layer)
}

/// The name that stands in requests instead of the host of the endpoint.
pub(super) fn server_name(security: &Security) -> Option<&HostName> {
    match &security.trust {
        Trust::Authorities { server_name, .. } => server_name.as_ref(),
        Trust::Thumbprints { .. } | Trust::Insecure => None,
    }
}

/// Leaves it to the connector to say which certificates are good.
fn without_authorities(builder: ClientBuilder) -> ClientBuilder {
    builder
        .tls_certs_only([])
        .tls_danger_accept_invalid_certs(true)
        .tls_danger_accept_invalid_hostnames(true)
}

/// Leads to the endpoint also where another name stands in its place.
fn directed(builder: ClientBuilder, security: &Security, endpoint: &Url) -> ClientBuilder {
    match server_name(security) {
        Some(_) => builder.dns_resolver(HostOf(endpoint.clone())),
        None => builder,
    }
}

/// Finds the addresses of an endpoint whatever name is asked for, so that the name can be the one
/// of the certificate.
struct HostOf(Url);

impl Resolve for HostOf {
    fn resolve(&self, _: Name) -> Resolving {
        let endpoint = self.0.clone();
        Box::pin(async move {
            let addresses = resolver::addresses(&endpoint).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
