//! The connections to one cluster, made from its files as they were at one moment.
//!
//! A [`Plan`] is fixed; each time the files change it opens new [`Connections`]. The old pools are
//! dropped, so that no connection authenticated by an old certificate stays open. The same happens
//! when connections reach their maximum age, or one of a pool is found dead. Every endpoint has
//! clients of its own: names and expiry dates belong to endpoints.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use native_tls::TlsConnector;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, redirect};
use tokio::time::Instant;
use url::Url;

use crate::gateway::error::BuildError;
use crate::gateway::file::{FileError, FileErrorKind};
use crate::gateway::peer::MAX_HEADERS;
use crate::gateway::resolver;
use crate::gateway::reuse::{Clients, NoteOpening};
use crate::gateway::security::{Auth, Security};
use crate::gateway::tls::{
    self, CertificateExpiry, ClientCertificateInfo, ContentHash, CredentialFiles, Credentials,
};

/// How long a connection may be idle and still be used. Shorter than the limits of http.sys (120 s)
/// and of the load balancers of Azure (4 min), nginx (75 s) and AWS (60 s).
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// For endpoints without TLS: loading the authorities of the system for each client would take time
/// and memory.
static UNUSED_TLS: LazyLock<TlsConnector> = LazyLock::new(|| {
    let builder = TlsConnector::builder().disable_built_in_roots(true).build();
    builder.expect("there is no setting that could be invalid")
});

/// How to connect, whatever the files hold.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) security: Security,
    pub(super) endpoints: Vec<Url>,
    pub(super) connect_timeout: Duration,
}

/// The clients of one cluster.
#[derive(Debug)]
pub(super) struct Connections {
    lines: Vec<Line>,
    credentials: Credentials,
    /// Of the files that they were made from.
    pub(super) mark: ContentHash,
    /// What is known of the client certificate.
    pub(super) shown: Option<ClientCertificateInfo>,
    /// The earliest time at which one of them can have been established.
    pub(super) since: Instant,
}

/// The connections to one endpoint.
#[derive(Debug)]
struct Line {
    endpoint: Url,
    clients: Clients,
    seen: CertificateExpiry,
}

impl Plan {
    pub(super) fn open(&self, files: &CredentialFiles) -> Result<Connections, BuildError> {
        let credentials = Credentials::parse(files).map_err(BuildError::Files)?;
        self.connections(credentials, files.hash(), |_| CertificateExpiry::default())
    }

    /// Connections to the same endpoints with the same credentials, all of them still to be
    /// established.
    pub(super) fn renew(&self, old: &Connections) -> Result<Connections, BuildError> {
        let seen = |endpoint: &Url| old.line(endpoint).seen.clone();
        self.connections(old.credentials.clone(), old.mark, seen)
    }

    fn connections(
        &self,
        credentials: Credentials,
        mark: ContentHash,
        seen: impl Fn(&Url) -> CertificateExpiry,
    ) -> Result<Connections, BuildError> {
        let lines = self.endpoints.iter().map(|endpoint| {
            let line = self.line(endpoint, &credentials, &seen(endpoint));
            line.map_err(|error| self.fault(&credentials, error))
        });
        Ok(Connections {
            lines: lines.collect::<Result<_, _>>()?,
            mark,
            shown: credentials
                .identity
                .as_ref()
                .and_then(|identity| identity.certificate),
            credentials,
            since: Instant::now(),
        })
    }

    fn line(
        &self,
        endpoint: &Url,
        credentials: &Credentials,
        seen: &CertificateExpiry,
    ) -> Result<Line, reqwest::Error> {
        let builder = || {
            let builder = plain(self.connect_timeout);
            if endpoint.scheme() == "https" {
                tls::secure(builder, &self.security, credentials, endpoint, seen.clone())
            } else {
                builder.tls_backend_preconfigured(UNUSED_TLS.clone())
            }
        };
        let pooled = builder().pool_idle_timeout(IDLE_TIMEOUT);
        let unpooled = builder().pool_max_idle_per_host(0);
        Ok(Line {
            endpoint: endpoint.clone(),
            clients: Clients {
                pooled: pooled.connector_layer(NoteOpening).build()?,
                unpooled: unpooled.build()?,
            },
            seen: seen.clone(),
        })
    }

    /// The TLS library looks only now whether it can do anything with a certificate and its key.
    fn fault(&self, credentials: &Credentials, error: reqwest::Error) -> BuildError {
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
        &self.line(endpoint).clients
    }

    fn line(&self, endpoint: &Url) -> &Line {
        let line = self.lines.iter().find(|line| line.endpoint == *endpoint);
        line.expect("every endpoint has a line since the plan was made")
    }

    /// When the certificate expires that was last seen at `endpoint`.
    pub(super) fn gateway_not_after(&self, endpoint: &Url) -> Option<DateTime<Utc>> {
        self.line(endpoint).seen.get()
    }

    /// Whether the client certificate is in its time, as far as it is known.
    pub(super) fn in_time(&self, now: DateTime<Utc>) -> bool {
        let validity = self.shown.and_then(|shown| shown.validity);
        validity.is_none_or(|validity| validity.contains(now))
    }

    /// What to do when a gateway answers with `status` that it does not know who asks.
    pub(super) fn advice_of_the_locked_out(&self, auth: &Auth, status: u16) -> String {
        match auth {
            // Of a cluster with Windows security; all others answer 403.
            _ if status == 401 => "the gateway asks for Windows authentication, which the \
                                   exporter does not have"
                .to_owned(),
            Auth::Nobody => {
                "the gateway wants to know who asks: write auth.client_certificate, or \
                             a token"
                    .to_owned()
            }
            Auth::Token(_) => "the gateway does not take the token: assign the app role `User` of \
                               the cluster application to the exporter's service principal, and \
                               see that the token is for that application"
                .to_owned(),
            Auth::ClientCertificate(_) => {
                let thumbprint = self.shown.map(|shown| format!(" {}", shown.sha1));
                format!(
                    "the gateway does not know the client certificate{}: register it as a \
                     read-only client",
                    thumbprint.unwrap_or_default()
                )
            }
        }
    }
}

/// Everything that is the same for all requests.
pub(super) fn plain(connect_timeout: Duration) -> ClientBuilder {
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
        // What browsers, curl and .NET take from servers and proxies that bend the rules, too.
        .http1_max_headers(MAX_HEADERS)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .dns_resolver(resolver::shared())
        .connect_timeout(connect_timeout)
}
