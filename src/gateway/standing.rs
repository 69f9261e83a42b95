//! How a cluster and this exporter stand with each other: what can be told of its security.
//!
//! Nothing secret: dates, whether something is good, and warnings for people. Takes over files that
//! have changed, because that is when most of it changes; connects to nothing.

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::clock;
use crate::gateway::Gateway;
use crate::gateway::port;
use crate::gateway::rotation::Rotation;
use crate::gateway::security::Trust;
use crate::gateway::token::Tokens;

impl Gateway {
    /// Whether every server is believed; `None` where there is no TLS.
    pub fn is_insecure(&self) -> Option<bool> {
        let secured = self.endpoints.at(0).scheme() == "https";
        secured.then(|| *self.transport.trust() == Trust::Insecure)
    }

    /// When the client certificate expires, where it has one and the platform shows it.
    pub fn client_certificate_expiry(&self) -> Option<DateTime<Utc>> {
        let validity = self.transport.lines.in_use().shown?.validity?;
        Some(validity.not_after)
    }

    /// When the certificate expires that the gateway in use last showed. What one showed that was
    /// left may have been renewed since, and nobody would see it.
    pub fn gateway_certificate_expiry(&self) -> Option<DateTime<Utc>> {
        let endpoint = self.endpoints.at(self.endpoints.current());
        self.transport.lines.in_use().gateway_not_after(endpoint)
    }

    /// Whether the files of its security could be used when they were last looked at, and a token
    /// could be had when it was last asked for; `None` when it has neither.
    pub async fn has_good_credentials(&self) -> Option<bool> {
        let files = self.transport.lines.is_good().await;
        let tokens = self.tokens.as_ref().map(Tokens::are_good);
        files
            .into_iter()
            .chain(tokens)
            .reduce(|one, other| one && other)
    }

    /// Looks whether the files of its security have changed, and takes them over if they can be
    /// used; then all connections are new, as they are when they have reached their maximum age.
    /// Tells what is new since the last time.
    pub async fn refresh(&self) -> Option<Rotation> {
        let rotation = self.transport.lines.refresh().await;
        self.transport.lines.renew_old(Instant::now()).await;
        if let Some(Rotation::Renewed) = rotation {
            self.reset_gates();
        }
        rotation
    }

    /// Takes over the files as `other`, a gateway with the same options, has just read them. Returns
    /// whether they have changed.
    pub async fn adopt(&self, other: Self) -> bool {
        let changed = self.transport.lines.adopt(other.transport.lines).await;
        if changed {
            self.reset_gates();
        }
        changed
    }

    /// What failed with old connections says nothing of new ones.
    fn reset_gates(&self) {
        for gate in [&self.native, &self.health, &self.backup] {
            gate.reset();
        }
    }

    /// What somebody should know about its security, though it works: full sentences.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_insecure() == Some(true) {
            warnings.push(
                "Every server is believed, because trust.insecure is set: write trust.thumbprints \
                 or trust.ca_file instead."
                    .to_owned(),
            );
        }
        if !self.transport.lines.in_use().in_time(clock::now()) {
            warnings.push(
                "The client certificate has expired, or is not valid yet: gateways will not take \
                 it."
                .to_owned(),
            );
        }
        warnings.extend(self.endpoints.all().filter_map(port::port_warning));
        warnings.extend(self.tokens.as_ref().and_then(Tokens::warning));
        warnings.extend(self.exposures.iter().map(|warning| format!("{warning}.")));
        warnings
    }

    /// When the token that was last had ends; `None` while none was, and where tokens do not say.
    pub fn token_expiry(&self) -> Option<DateTime<Utc>> {
        self.tokens.as_ref().and_then(Tokens::expires_at)
    }
}
