//! The state of the credentials and certificates of a cluster.
//!
//! Exposes no secrets: dates, validity, and warnings for operators. Reloads changed files, because
//! most of this state changes with them; opens no connection.

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::clock;
use crate::gateway::Gateway;
use crate::gateway::port;
use crate::gateway::rotation::{RotatingConnections, Rotation};
use crate::gateway::token::Tokens;
use crate::settings::Trust;

impl Gateway {
    fn connections(&self) -> &RotatingConnections {
        &self.calls.client.transport.connections
    }

    /// Whether server certificates are not verified; `None` without TLS.
    pub fn is_insecure(&self) -> Option<bool> {
        let client = &self.calls.client;
        let secured = client.endpoints.at(0).scheme() == "https";
        secured.then(|| *client.transport.trust() == Trust::Insecure)
    }

    /// When the client certificate expires, if there is one and the platform exposes it.
    pub fn client_certificate_expiry(&self) -> Option<DateTime<Utc>> {
        let validity = self.connections().current().client_certificate?.validity?;
        Some(validity.not_after)
    }

    /// When the last certificate seen at the endpoint in use expires. The certificate of an endpoint
    /// that is not in use may have been renewed unnoticed.
    pub fn gateway_certificate_expiry(&self) -> Option<DateTime<Utc>> {
        let endpoints = &self.calls.client.endpoints;
        let endpoint = endpoints.at(endpoints.current());
        self.connections().current().gateway_not_after(endpoint)
    }

    /// Whether the credential files were valid at the last read, and the last attempt to obtain a
    /// token succeeded; `None` when there are neither.
    pub async fn has_good_credentials(&self) -> Option<bool> {
        let files = self.connections().is_valid().await;
        let tokens = self.calls.tokens.as_ref().map(Tokens::are_good);
        files
            .into_iter()
            .chain(tokens)
            .reduce(|one, other| one && other)
    }

    /// Reloads the credential files if they have changed and are valid; all connections are then
    /// opened anew, as they are at their maximum age. Returns a change since the last call.
    pub async fn refresh(&self) -> Option<Rotation> {
        let rotation = self.connections().refresh().await;
        self.connections().replace_old(Instant::now()).await;
        if let Some(Rotation::Reloaded) = rotation {
            self.calls.reset_breakers();
        }
        rotation
    }

    /// Takes over the files as `other`, a gateway with the same options, has just read them. Returns
    /// whether they have changed.
    pub(crate) async fn adopt(&self, other: Self) -> bool {
        let other = other.calls.client.transport.connections;
        let changed = self.connections().adopt(other).await;
        if changed {
            self.calls.reset_breakers();
        }
        changed
    }

    /// Warnings about the security settings and credentials, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_insecure() == Some(true) {
            warnings.push(
                "Server certificates are not verified, because trust.insecure is set: configure \
                 trust.thumbprints or trust.ca_file instead."
                    .to_owned(),
            );
        }
        if !self.connections().current().in_time(clock::now()) {
            warnings.push(
                "The client certificate has expired or is not valid yet: gateways will reject it."
                    .to_owned(),
            );
        }
        let endpoints = self.calls.client.endpoints.all();
        warnings.extend(endpoints.filter_map(port::port_warning));
        warnings.extend(self.calls.tokens.as_ref().and_then(Tokens::warning));
        warnings.extend(self.exposures.iter().map(|warning| format!("{warning}.")));
        warnings
    }

    /// When the last token expires; `None` before the first one, and if the token has no expiry.
    pub fn token_expiry(&self) -> Option<DateTime<Utc>> {
        self.calls.tokens.as_ref().and_then(Tokens::expires_at)
    }
}
