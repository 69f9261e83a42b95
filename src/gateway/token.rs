//! The bearer token of one cluster: from a file, from Entra ID or of a managed identity.
//!
//! Concurrent calls that need a token cause one request; the others wait, or use the old token
//! while it is valid. Failures are cached, so that an unavailable token endpoint is not flooded.
//! Logs only the failure to renew a token while the old one is still valid, because no call fails
//! then: once per reason, and the recovery.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use tracing::{info, warn};

use self::access_token::AccessToken;
use self::cache::{Fallback, Lookup, TokenCache};
use self::entra::EntraClient;
use self::managed_identity::ManagedIdentityClient;
use self::now::Now;
use self::secret_file::SecretFile;
use crate::gateway::bearer::Bearer;
use crate::gateway::build_error::BuildError;
use crate::gateway::client::Client;
use crate::gateway::deadline::Deadline;
use crate::gateway::file;
use crate::gateway::file::FileError;
use crate::logging::chain;
use crate::settings::{FabricIdentity, FabricIdentityError, TokenSource};
use crate::sync::lock;

mod access_token;
mod cache;
mod endpoint;
mod entra;
mod error;
mod error_response;
mod managed_identity;
mod now;
mod secret_file;

pub(super) use error::{TokenError, TokenUnavailable};

/// The tokens of one cluster.
#[derive(Debug)]
pub(super) struct Tokens {
    cluster: Arc<str>,
    provider: TokenProvider,
    /// Limit for everything that belongs to one request.
    timeout: Duration,
    cache: Mutex<TokenCache>,
    /// Locked during a request.
    request: tokio::sync::Mutex<SecretFile>,
    /// Why the file of the provider could not be used at the start. It may be created later.
    file_error: Option<FileError>,
}

#[derive(Debug)]
enum TokenProvider {
    File(PathBuf),
    Entra(EntraClient),
    ManagedIdentity(ManagedIdentityClient),
}

impl Tokens {
    /// Prepares the requests and checks the file of the provider; requests nothing.
    pub(super) fn new(
        cluster: Arc<str>,
        source: &TokenSource,
        fabric: Option<Result<FabricIdentity, FabricIdentityError>>,
        timeout: Duration,
    ) -> Result<Self, BuildError> {
        let (provider, file_error) = match source {
            TokenSource::File(path) => (TokenProvider::File(path.clone()), file::token(path).err()),
            TokenSource::Entra(entra) => (
                TokenProvider::Entra(EntraClient::new(entra.clone())?),
                file::secret(&entra.client_secret_file).err(),
            ),
            TokenSource::ManagedIdentity(identity) => {
                let client = ManagedIdentityClient::new(identity, fabric)?;
                (TokenProvider::ManagedIdentity(client), None)
            }
        };
        Ok(Self {
            cluster,
            provider,
            timeout,
            cache: Mutex::default(),
            request: tokio::sync::Mutex::default(),
            file_error,
        })
    }

    /// A warning if the file of the provider could not be used at the start: full sentences.
    pub(super) fn warning(&self) -> Option<String> {
        let error = self.file_error.as_ref()?;
        Some(format!("No token is available yet. {error}."))
    }

    /// A valid token. `client` asks the cluster for the directory if it is not configured.
    pub(super) async fn bearer(&self, client: &Client) -> Result<Bearer, TokenUnavailable> {
        let mut request = match self.lookup() {
            Lookup::Cached(bearer) => return Ok(bearer),
            Lookup::Backoff(error) => return Err(TokenUnavailable::NotDue(error)),
            Lookup::Request(Some(old)) => match self.request.try_lock() {
                Ok(request) => request,
                Err(_) => return Ok(old),
            },
            Lookup::Request(None) => self.request.lock().await,
        };
        // Another call may have completed a request while this one waited for the lock.
        match self.lookup() {
            Lookup::Cached(bearer) => Ok(bearer),
            Lookup::Backoff(error) => Err(TokenUnavailable::NotDue(error)),
            Lookup::Request(_) => Box::pin(self.request(client, &mut request)).await,
        }
    }

    /// Another token after the cluster rejected `rejected`; `None` if there is no other.
    pub(super) async fn after_rejection(
        &self,
        rejected: &Bearer,
        client: &Client,
    ) -> Option<Bearer> {
        let mut request = self.request.lock().await;
        if !lock(&self.cache).reject(rejected, Now::read().instant) {
            return None;
        }
        let bearer = match self.lookup() {
            Lookup::Cached(bearer) => bearer,
            Lookup::Backoff(_) => return None,
            Lookup::Request(_) => Box::pin(self.request(client, &mut request)).await.ok()?,
        };
        (bearer != *rejected).then_some(bearer)
    }

    /// Makes the next call read a token file again, or end the backoff of another provider.
    pub(super) fn begin_cycle(&self) {
        let (mut cache, now) = (lock(&self.cache), Now::read().instant);
        match self.provider {
            TokenProvider::File(_) => cache.renew(now),
            TokenProvider::Entra(_) | TokenProvider::ManagedIdentity(_) => cache.end_backoff(now),
        }
    }

    /// Whether the last request succeeded; `true` before the first one.
    pub(super) fn are_good(&self) -> bool {
        !lock(&self.cache).has_failed()
    }

    /// The reported expiry of the last token.
    pub(super) fn expires_at(&self) -> Option<DateTime<Utc>> {
        lock(&self.cache).expires_at()
    }

    fn lookup(&self) -> Lookup {
        lock(&self.cache).lookup(Now::read().instant)
    }

    /// Requests a token. `file` proves that the caller has locked `self.request`.
    async fn request(
        &self,
        client: &Client,
        file: &mut SecretFile,
    ) -> Result<Bearer, TokenUnavailable> {
        let deadline = Deadline::after(self.timeout);
        let token = match &self.provider {
            TokenProvider::File(path) => {
                let token = file.read(file::token, path, deadline).await;
                let path = path.display().to_string();
                token.and_then(|token| {
                    AccessToken::from_file(token.expose_secret(), &path, Now::read())
                })
            }
            TokenProvider::Entra(entra) => entra.token(client, file, deadline).await,
            TokenProvider::ManagedIdentity(client) => client.token(deadline).await,
        };
        let fallback = match token {
            Ok(token) => return Ok(self.store(token)),
            Err(error) => lock(&self.cache).fail(error, Now::read().instant),
        };
        match fallback {
            Fallback::NoToken(error) => Err(TokenUnavailable::Failed(error)),
            Fallback::OldToken {
                bearer,
                expires_at,
                log,
            } => {
                if let Some(error) = log {
                    self.warn(&error, expires_at);
                }
                Ok(bearer)
            }
        }
    }

    fn store(&self, token: AccessToken) -> Bearer {
        let (bearer, recovered) = lock(&self.cache).store(token);
        if recovered {
            let cluster = &self.cluster;
            info!(%cluster, "The token for cluster {cluster} was renewed.");
        }
        bearer
    }

    fn warn(&self, error: &TokenError, expires_at: Option<DateTime<Utc>>) {
        let cluster = &self.cluster;
        let until = expires_at.map(|at| format!(" until {at}"));
        let until = until.unwrap_or_default();
        let error = chain(error);
        warn!(
            %cluster,
            error,
            "Cannot renew the token for cluster {cluster}; the old one is used{until}: {error}."
        );
    }
}
