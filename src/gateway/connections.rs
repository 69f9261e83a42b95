//! The connections to one cluster, made from its files as they were at one moment.
//!
//! A [`Plan`] is what stays; each time the files change it opens new [`Connections`], and with the
//! old ones go their pools, so that what an old certificate had let in does not live on. Every
//! endpoint has a client of its own: names and expiry dates belong to endpoints.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, redirect};
use url::Url;

use crate::gateway::error::BuildError;
use crate::gateway::file::FileError;
use crate::gateway::peer::MAX_HEADERS;
use crate::gateway::resolver;
use crate::gateway::security::{Auth, Security, Trust};
use crate::gateway::tls::{self, Credentials, Files, LastSeen, Mark, Shown, Unfit};

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
    /// Of the files that they were made from.
    pub(super) mark: Mark,
    /// What is known of the client certificate.
    pub(super) shown: Option<Shown>,
}

/// The connections to one endpoint.
#[derive(Debug)]
struct Line {
    endpoint: Url,
    client: Client,
    seen: LastSeen,
    /// Looks at the certificate and sends nothing; where authorities judge, who say not of what.
    describing: Option<Client>,
}

impl Plan {
    pub(super) fn open(&self, files: &Files) -> Result<Connections, BuildError> {
        let credentials = Credentials::understand(files).map_err(BuildError::Files)?;
        let lines = self.endpoints.iter().map(|endpoint| {
            let line = self.line(endpoint, &credentials);
            line.map_err(|error| self.fault(&credentials, error))
        });
        Ok(Connections {
            lines: lines.collect::<Result<_, _>>()?,
            mark: files.mark(),
            shown: credentials
                .identity
                .and_then(|identity| identity.certificate),
        })
    }

    fn line(&self, endpoint: &Url, credentials: &Credentials) -> Result<Line, reqwest::Error> {
        let seen = LastSeen::default();
        let builder = plain(self.connect_timeout);
        let builder = if endpoint.scheme() == "https" {
            tls::secure(builder, &self.security, credentials, endpoint, seen.clone())
        } else {
            // Authorities take memory, and here nobody asks them.
            builder.tls_certs_only([])
        };
        Ok(Line {
            endpoint: endpoint.clone(),
            client: builder.build()?,
            seen,
            describing: self.describing(endpoint).transpose()?,
        })
    }

    fn describing(&self, endpoint: &Url) -> Option<Result<Client, reqwest::Error>> {
        let judged = matches!(self.security.trust, Trust::Authorities { .. });
        (judged && endpoint.scheme() == "https").then(|| {
            let builder = plain(self.connect_timeout);
            tls::describe(builder, &self.security, endpoint).build()
        })
    }

    /// The TLS library looks only now whether it can do anything with a certificate and its key.
    fn fault(&self, credentials: &Credentials, error: reqwest::Error) -> BuildError {
        match (tls::client_file(&self.security), &credentials.identity) {
            (Some(file), Some(_)) => BuildError::Identity {
                file: FileError::unfit(file, Unfit::Refused),
                source: error,
            },
            _ => BuildError::Client(error),
        }
    }
}

impl Connections {
    pub(super) fn client(&self, endpoint: &Url) -> Client {
        self.line(endpoint).client.clone()
    }

    /// A client that looks at the certificate of an endpoint and sends nothing.
    pub(super) fn describing(&self, endpoint: &Url) -> Option<Client> {
        self.line(endpoint).describing.clone()
    }

    fn line(&self, endpoint: &Url) -> &Line {
        let line = self.lines.iter().find(|line| line.endpoint == *endpoint);
        line.expect("every endpoint has a line since the plan was made")
    }

    /// When the certificate expires that was last seen at `endpoint`.
    pub(super) fn gateway_not_after(&self, endpoint: &Url) -> Option<DateTime<Utc>> {
        self.line(endpoint).seen.not_after()
    }

    /// Whether the client certificate is in its time, as far as it is known.
    pub(super) fn in_time(&self, now: DateTime<Utc>) -> bool {
        let validity = self.shown.and_then(|shown| shown.validity);
        validity.is_none_or(|validity| validity.holds(now))
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
