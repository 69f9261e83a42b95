//! TLS towards a cluster: whom the client believes, and what it shows of itself.
//!
//! The only place that switches off a check of the TLS library, and it does so only for the two
//! kinds of trust that are not about authorities; whoever answers must prove in every case that
//! it has the key of its certificate. That holds for native-tls alone: with the other back end of
//! the HTTP client the same calls would let in whoever repeats a certificate.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, tls};
use tokio::net::lookup_host;
use url::Url;

use self::connector::CheckPeer;
use self::pins::Pins;
use super::security::{HostName, Security, TlsVersion, Trust};

mod certificate;
mod connector;
mod credentials;
mod diagnosis;
mod identity;
mod pins;

pub(super) use self::connector::LastSeen;
pub(super) use self::credentials::{Credentials, Files, Mark, are_in_files, client_file};
pub(super) use self::diagnosis::{Diagnosis, diagnose, is_no_http};
pub(super) use self::identity::{Shown, Unfit};

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
    let builder = match server_name(security) {
        Some(_) => builder.dns_resolver(HostOf(endpoint.clone())),
        None => builder,
    };
    match &credentials.identity {
        Some(identity) => builder.identity(identity.native.clone()),
        None => builder,
    }
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

/// Finds the addresses of an endpoint whatever name is asked for, so that the name can be the one
/// of the certificate.
struct HostOf(Url);

impl Resolve for HostOf {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.host_str().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_owned();
        Box::pin(async move {
            // The port is the one of the URL.
            let addresses = lookup_host((host, 0)).await?;
            let addresses: Vec<SocketAddr> = addresses.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
