//! The bearer token of one cluster: where it comes from, and that there is one when it is needed.
//!
//! However many calls need a token, one asks for it and the others wait, or go on with the old one
//! while that is good. A failure is remembered, so that a source that is down is left in peace.
//! Logs one thing, which no caller is told: that an old token is used because there is no new one,
//! when the reason changes and when it ends.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use tracing::{info, warn};

use self::entra::Application;
use self::issued::{Issued, Moment};
use self::kept::{Fallback, Kept, Step};
use self::managed_identity::IdentityService;
use crate::clock;
use crate::gateway::bearer::Bearer;
use crate::gateway::blocking_read::BlockingRead;
use crate::gateway::build_error::BuildError;
use crate::gateway::client::Client;
use crate::gateway::deadline::Deadline;
use crate::gateway::file;
use crate::gateway::file::FileError;
use crate::logging::chain;
use crate::settings::{FabricIdentity, FabricIdentityError, TokenSource};
use crate::sync::lock;

mod endpoint;
mod entra;
mod error;
mod issued;
mod kept;
mod managed_identity;
mod refusal;

pub(super) use error::{TokenError, TokenUnavailable};

/// The tokens of one cluster.
#[derive(Debug)]
pub(super) struct Tokens {
    cluster: Arc<str>,
    source: Source,
    /// How long the source may take in all.
    patience: Duration,
    kept: Mutex<Kept>,
    /// Held by the one who asks.
    turn: tokio::sync::Mutex<SecretFile>,
    /// What was wrong with the file of the source at the beginning. It may still come.
    doubt: Option<FileError>,
}

/// The file of the source, which may take its time.
type SecretFile = BlockingRead<Result<SecretString, FileError>>;

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Entra(Application),
    ManagedIdentity(IdentityService),
}

impl Tokens {
    /// Prepares the source: looks at the file that it names, asks for nothing.
    pub(super) fn new(
        cluster: Arc<str>,
        source: &TokenSource,
        fabric: Option<Result<FabricIdentity, FabricIdentityError>>,
        patience: Duration,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            cluster,
            source: match source {
                TokenSource::File(path) => Source::File(path.clone()),
                TokenSource::Entra(entra) => Source::Entra(Application::new(entra.clone())?),
                TokenSource::ManagedIdentity(identity) => {
                    Source::ManagedIdentity(IdentityService::new(identity, fabric)?)
                }
            },
            patience,
            kept: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            doubt: doubt(source),
        })
    }

    /// What somebody should know before the first token is needed: a full sentence.
    pub(super) fn warning(&self) -> Option<String> {
        let doubt = self.doubt.as_ref()?;
        Some(format!("No token can be had yet. {doubt}."))
    }

    /// A token. `client` asks the cluster for the directory if it is not configured.
    pub(super) async fn bearer(&self, client: &Client) -> Result<Bearer, TokenUnavailable> {
        let mut turn = match self.step() {
            Step::Use(bearer) => return Ok(bearer),
            Step::Wait(error) => return Err(TokenUnavailable::NotDue(error)),
            Step::Ask(Some(old)) => match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(old),
            },
            Step::Ask(None) => self.turn.lock().await,
        };
        // Whoever had the turn before may have got one, or found that there is none.
        match self.step() {
            Step::Use(bearer) => Ok(bearer),
            Step::Wait(error) => Err(TokenUnavailable::NotDue(error)),
            Step::Ask(_) => Box::pin(self.ask(client, &mut turn)).await,
        }
    }

    /// Another token after the cluster refused `refused`; `None` when there is none that may be
    /// any better.
    pub(super) async fn after_refusal(&self, refused: &Bearer, client: &Client) -> Option<Bearer> {
        let mut turn = self.turn.lock().await;
        if !lock(&self.kept).refuse(refused, now().instant) {
            return None;
        }
        let bearer = match self.step() {
            Step::Use(bearer) => bearer,
            Step::Wait(_) => return None,
            Step::Ask(_) => Box::pin(self.ask(client, &mut turn)).await.ok()?,
        };
        (bearer != *refused).then_some(bearer)
    }

    /// Has a file read again, because whatever writes it does not tell us; and any source asked
    /// again that failed.
    pub(super) fn begin_cycle(&self) {
        let (mut kept, now) = (lock(&self.kept), now().instant);
        match self.source {
            Source::File(_) => kept.look_again(now),
            Source::Entra(_) | Source::ManagedIdentity(_) => kept.end_pause(now),
        }
    }

    /// Whether the last attempt to get a token did not fail.
    pub(super) fn are_good(&self) -> bool {
        !lock(&self.kept).has_failed()
    }

    /// When the token that was last had ends, if that is known.
    pub(super) fn expires_at(&self) -> Option<DateTime<Utc>> {
        lock(&self.kept).expires_at()
    }

    fn step(&self) -> Step {
        lock(&self.kept).step(now().instant)
    }

    /// Asks the source. Whoever calls this has the turn.
    async fn ask(
        &self,
        client: &Client,
        file: &mut SecretFile,
    ) -> Result<Bearer, TokenUnavailable> {
        let deadline = Deadline::after(self.patience);
        let issued = match &self.source {
            Source::File(path) => written(path, file, deadline).await,
            Source::Entra(application) => application.token(client, file, deadline).await,
            Source::ManagedIdentity(service) => service.token(deadline).await,
        };
        let fallback = match issued {
            Ok(issued) => return Ok(self.take(issued)),
            Err(error) => lock(&self.kept).fail(error, now().instant),
        };
        match fallback {
            Fallback::Nothing(error) => Err(TokenUnavailable::Failed(error)),
            Fallback::Old {
                bearer,
                until,
                news,
            } => {
                if let Some(error) = news {
                    self.warn(&error, until);
                }
                Ok(bearer)
            }
        }
    }

    fn take(&self, issued: Issued) -> Bearer {
        let (bearer, ended) = lock(&self.kept).succeed(issued);
        if ended {
            let cluster = &self.cluster;
            info!(%cluster, "There are new tokens for cluster {cluster} again.");
        }
        bearer
    }

    fn warn(&self, error: &TokenError, until: Option<DateTime<Utc>>) {
        let cluster = &self.cluster;
        let until = until
            .map(|until| format!(" until {until}"))
            .unwrap_or_default();
        let error = chain(error);
        warn!(
            %cluster,
            error,
            "There is no new token for cluster {cluster}; the old one is used{until}: {error}."
        );
    }
}

/// Why the file that the source needs cannot be used.
fn doubt(source: &TokenSource) -> Option<FileError> {
    match source {
        TokenSource::File(path) => file::token(path).err(),
        TokenSource::Entra(entra) => file::secret(&entra.client_secret_file).err(),
        TokenSource::ManagedIdentity(_) => None,
    }
}

/// Both clocks, of which the one that only goes on may be stopped by a test.
fn now() -> Moment {
    Moment {
        instant: Instant::now().into_std(),
        time: clock::now(),
    }
}

async fn written(
    path: &Path,
    file: &mut SecretFile,
    deadline: Deadline,
) -> Result<Issued, TokenError> {
    let token = read_by(file::token, path, file, deadline).await?;
    Issued::written(token.expose_secret(), &path.display().to_string(), now())
}

/// The secret in the file at `path`.
async fn secret_in(
    path: &Path,
    file: &mut SecretFile,
    deadline: Deadline,
) -> Result<SecretString, TokenError> {
    read_by(file::secret, path, file, deadline).await
}

async fn read_by(
    read: fn(&Path) -> Result<SecretString, FileError>,
    path: &Path,
    file: &mut SecretFile,
    deadline: Deadline,
) -> Result<SecretString, TokenError> {
    let owned = path.to_owned();
    let read = file.within(deadline.remaining(), move || read(&owned));
    match read.await {
        Some(read) => Ok(read?),
        None => Err(TokenError::SlowFile {
            path: path.display().to_string(),
            timeout: deadline.timeout,
        }),
    }
}
