//! The HTTP clients of one cluster, made from its files at one moment.
//!
//! [`ConnectionSettings`] is fixed; each time the files change it opens new [`Connections`]. The old
//! pools are dropped, so that no connection authenticated by an old certificate stays open. The same
//! happens when connections reach their maximum age, or one of a pool is found dead. Every endpoint
//! has its own client, because certificate names and expiry dates belong to endpoints.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use native_tls::TlsConnector;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, redirect};
use tokio::time::Instant;
use url::Url;

use crate::gateway::build_error::BuildError;
use crate::gateway::file::{FileError, FileErrorKind};
use crate::gateway::peer::MAX_HEADERS;
use crate::gateway::resolver;
use crate::gateway::reuse::{Clients, TrackConnect};
use crate::gateway::tls::{
    self, CertificateExpiry, ClientCertificateInfo, ContentHash, CredentialFiles, Credentials,
};
use crate::settings::{Auth, Security};

/// How long a connection may be idle before it is closed. Shorter than the limits of http.sys
/// (120 s) and of the load balancers of Azure (4 min), nginx (75 s) and AWS (60 s).
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// For endpoints without TLS: loading the authorities of the system for each client would take time
/// and memory.
static UNUSED_TLS: LazyLock<TlsConnector> = LazyLock::new(|| {
    let builder = TlsConnector::builder().disable_built_in_roots(true).build();
    builder.expect("there is no setting that could be invalid")
});

/// The settings of connections that do not depend on the contents of files.
#[derive(Debug)]
pub(super) struct ConnectionSettings {
    pub(super) security: Security,
    pub(super) endpoints: Vec<Url>,
    pub(super) connect_timeout: Duration,
}

/// The clients of one cluster.
#[derive(Debug)]
pub(super) struct Connections {
    endpoints: Vec<EndpointClient>,
    credentials: Credentials,
    /// Digest of the files that they were made from.
    pub(super) hash: ContentHash,
    pub(super) client_certificate: Option<ClientCertificateInfo>,
    /// The earliest time at which one of them can have been established.
    pub(super) since: Instant,
}

#[derive(Debug)]
struct EndpointClient {
    endpoint: Url,
    clients: Clients,
    expiry: CertificateExpiry,
}

impl ConnectionSettings {
    pub(super) fn open(&self, files: &CredentialFiles) -> Result<Connections, BuildError> {
        let credentials = Credentials::parse(files).map_err(BuildError::Files)?;
        self.connections(credentials, files.hash(), |_| CertificateExpiry::default())
    }

    /// Clients with the same endpoints and credentials and without open connections.
    pub(super) fn reopen(&self, old: &Connections) -> Result<Connections, BuildError> {
        let expiry = |endpoint: &Url| old.endpoint(endpoint).expiry.clone();
        self.connections(old.credentials.clone(), old.hash, expiry)
    }

    fn connections(
        &self,
        credentials: Credentials,
        hash: ContentHash,
        expiry: impl Fn(&Url) -> CertificateExpiry,
    ) -> Result<Connections, BuildError> {
        let endpoints = self.endpoints.iter().map(|endpoint| {
            let client = self.endpoint_client(endpoint, &credentials, &expiry(endpoint));
            client.map_err(|error| self.build_error(&credentials, error))
        });
        Ok(Connections {
            endpoints: endpoints.collect::<Result<_, _>>()?,
            hash,
            client_certificate: credentials
                .identity
                .as_ref()
                .and_then(|identity| identity.certificate),
            credentials,
            since: Instant::now(),
        })
    }

    fn endpoint_client(
        &self,
        endpoint: &Url,
        credentials: &Credentials,
        expiry: &CertificateExpiry,
    ) -> Result<EndpointClient, reqwest::Error> {
        let builder = || {
            let builder = client_builder(self.connect_timeout);
            if endpoint.scheme() == "https" {
                tls::secure(
                    builder,
                    &self.security,
                    credentials,
                    endpoint,
                    expiry.clone(),
                )
            } else {
                builder.tls_backend_preconfigured(UNUSED_TLS.clone())
            }
        };
        let pooled = builder().pool_idle_timeout(IDLE_TIMEOUT);
        let unpooled = builder().pool_max_idle_per_host(0);
        Ok(EndpointClient {
            endpoint: endpoint.clone(),
            clients: Clients {
                pooled: pooled.connector_layer(TrackConnect).build()?,
                unpooled: unpooled.build()?,
            },
            expiry: expiry.clone(),
        })
    }

    /// The TLS library checks only at this point whether it supports a certificate and its key.
    fn build_error(&self, credentials: &Credentials, error: reqwest::Error) -> BuildError {
        match (tls::client_file(&self.security), &credentials.identity) {
            (Some(file), Some(_)) => BuildError::Identity {
                file: FileError::new(file, FileErrorKind::RejectedByTls),
                source: error,
            },
            _ => BuildError::Client(error),
        }
    }
}

impl Connections {
    pub(super) fn clients(&self, endpoint: &Url) -> &Clients {
        &self.endpoint(endpoint).clients
    }

    fn endpoint(&self, url: &Url) -> &EndpointClient {
        let found = self.endpoints.iter().find(|client| client.endpoint == *url);
        found.expect("every endpoint of the settings has a client")
    }

    /// When the last certificate seen at `endpoint` expires.
    pub(super) fn gateway_not_after(&self, endpoint: &Url) -> Option<DateTime<Utc>> {
        self.endpoint(endpoint).expiry.get()
    }

    /// Whether the client certificate is valid at `now`, as far as its dates are known.
    pub(super) fn in_time(&self, now: DateTime<Utc>) -> bool {
        let validity = self
            .client_certificate
            .and_then(|certificate| certificate.validity);
        validity.is_none_or(|validity| validity.contains(now))
    }

    /// How to fix the credentials after a gateway rejected them with `status`.
    pub(super) fn auth_hint(&self, auth: &Auth, status: u16) -> String {
        match auth {
            // Sent by a cluster with Windows security; all others send 403.
            _ if status == 401 => "the gateway requires Windows authentication, which the \
                                   exporter does not support"
                .to_owned(),
            Auth::Anonymous => "the gateway requires authentication: configure \
                             auth.client_certificate, or a token"
                .to_owned(),
            Auth::Token(_) => "the gateway does not accept the token: assign the app role `User` \
                               of the cluster application to the exporter's service principal, \
                               and check that the token is for that application"
                .to_owned(),
            Auth::ClientCertificate(_) => {
                let thumbprint = self.client_certificate;
                let thumbprint = thumbprint.map(|certificate| format!(" {}", certificate.sha1));
                format!(
                    "the gateway does not accept the client certificate{}: register it as a \
                     read-only client",
                    thumbprint.unwrap_or_default()
                )
            }
        }
    }
}

/// The settings that all requests share.
pub(super) fn client_builder(connect_timeout: Duration) -> ClientBuilder {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    Client::builder()
        .user_agent(concat!(
            "servicefabric-backup-exporter/",
            env!("CARGO_PKG_VERSION")
        ))
        .default_headers(headers)
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        // Browsers, curl and .NET accept these violations by servers and proxies, too.
        .http1_max_headers(MAX_HEADERS)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .dns_resolver(resolver::shared())
        .connect_timeout(connect_timeout)
}
