//! The web configuration in force: looked at again whenever somebody comes in.
//!
//! Every request and every TLS handshake asks for it, and a look costs the metadata of a few
//! files. A configuration that cannot be used closes: there is none until it is fixed, whatever
//! it was before. What cannot change while the exporter runs stays as it began.
//!
//! Invariant: one look is under way at a time, and who has given up waiting leaves none behind, so
//! that a file system that hangs costs one thread.

mod certificate;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

use axum::http::{HeaderName, HeaderValue};
use chrono::{DateTime, Utc};
use rustls::ServerConfig;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::certificate::Certificate;
use super::tls;
use crate::clock;
use crate::config;
use crate::config::web::FileVersions;
use crate::settings::web::{RateLimit, Tls, Users, Validity, WebConfig};

/// The web configuration in a file, as it changes.
#[derive(Debug)]
pub struct Live {
    path: PathBuf,
    fixed: Fixed,
    /// Of the configuration that it began with.
    warnings: Vec<String>,
    certificate: std::sync::Mutex<Certificate>,
    /// Held over every look at the files.
    state: Arc<Mutex<State>>,
}

/// What needs a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fixed {
    tls: bool,
    http2: bool,
    rate_limit: Option<RateLimit>,
}

#[derive(Debug)]
struct State {
    stamps: FileVersions,
    /// Whether there has been anything in the file.
    was_filled: bool,
    tls: Option<Kept>,
    current: Option<Arc<Current>>,
}

/// TLS settings as they stand in the files, and what was made of them.
#[derive(Debug)]
struct Kept {
    settings: Tls,
    config: Arc<ServerConfig>,
}

/// What may change at any time.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) users: Users,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    certificate: Option<Validity>,
}

/// From where a connection comes, and by which TLS settings it was accepted; by none without TLS.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    peer: IpAddr,
    by: Option<Arc<ServerConfig>>,
    ended: CancellationToken,
}

impl Admission {
    /// Without TLS.
    pub(super) fn plain(peer: IpAddr) -> Self {
        Self {
            peer,
            by: None,
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn by(config: Arc<ServerConfig>, peer: IpAddr) -> Self {
        Self {
            by: Some(config),
            ..Self::plain(peer)
        }
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Ends the admission when other settings are in force, and tells whether it has ended: else
    /// a client could keep a connection that would not be let in any more.
    pub(super) fn ends_with(&self, current: &Current) -> bool {
        let in_force = current.tls.as_ref();
        if let Some(by) = &self.by
            && in_force.is_none_or(|config| !Arc::ptr_eq(config, by))
        {
            self.ended.cancel();
        }
        self.ended.is_cancelled()
    }

    /// Completes when it has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Live {
    /// Reads the file at `path` and the files that it names.
    ///
    /// # Errors
    ///
    /// When any of it cannot be used.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let now = clock::now();
        let (config, stamps) = WebConfig::load_versions(path, now.into());
        let config = config?;
        let (fixed, was_filled) = (Fixed::of(&config), !config.is_empty);
        let (mut warnings, mut tls) = (config.warnings(), None);
        warn_of(&config);
        let current = Current::of(config, fixed.http2, &mut tls)?;
        let mut certificate = Certificate::default();
        certificate.update(path, current.certificate, now);
        warnings.extend(certificate.warning().map(str::to_owned));
        let state = State {
            stamps,
            was_filled,
            tls,
            current: Some(Arc::new(current)),
        };
        Ok(Self {
            path: path.to_owned(),
            fixed,
            warnings,
            certificate: certificate.into(),
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Warnings about the configuration as it was at the start, without the period at their end.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// When the certificate of the listener expires; `None` without TLS, and while the configuration
    /// cannot be used.
    pub fn certificate_expiry(&self) -> Option<DateTime<Utc>> {
        self.certificate().expiry()
    }

    /// Whether connections are encrypted.
    pub fn began_with_tls(&self) -> bool {
        self.fixed.tls
    }

    /// Whether encrypted connections may speak HTTP/2.
    pub fn began_with_http2(&self) -> bool {
        self.fixed.http2
    }

    /// How many requests are answered.
    pub(super) fn rate_limit(&self) -> Option<RateLimit> {
        self.fixed.rate_limit
    }

    /// The configuration as it stands in its files now; `None` when it cannot be used.
    pub(super) async fn current(self: &Arc<Self>) -> Option<Arc<Current>> {
        // Before there is a task: nothing could end that one.
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let live = Arc::clone(self);
        // Files may be slow, and a key takes some time to be checked.
        let looked = spawn_blocking(move || {
            if !state.stamps.are_current() {
                live.look_again(&mut state);
            }
            let current = state.current.clone();
            let validity = current.as_ref().and_then(|current| current.certificate);
            live.certificate()
                .update(&live.path, validity, clock::now());
            current
        });
        looked.await.ok().flatten()
    }

    fn certificate(&self) -> MutexGuard<'_, Certificate> {
        self.certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn look_again(&self, state: &mut State) {
        let (config, stamps) = WebConfig::load_versions(&self.path, clock::now().into());
        if !stamps.has_same_contents(&state.stamps) {
            let was_closed = state.current.is_none();
            let new = config.map_err(OpenError::from);
            let new = new.and_then(|config| self.adopt(config, state));
            state.current = self.report(new, was_closed).map(Arc::new);
        }
        state.stamps = stamps;
    }

    fn adopt(&self, config: WebConfig, state: &mut State) -> Result<Current, OpenError> {
        // A file that is written over is empty for a moment, and would open everything.
        if config.is_empty && state.was_filled {
            return Err(OpenError::Emptied);
        }
        state.was_filled |= !config.is_empty;
        if Fixed::of(&config) != self.fixed {
            warn!(
                "The web configuration {} switches TLS or HTTP/2 on or off, or has another rate \
                 limit: that takes effect with a restart.",
                self.path.display()
            );
        }
        warn_of(&config);
        Ok(Current::of(config, self.fixed.http2, &mut state.tls)?)
    }

    /// Tells the log of a change, once.
    fn report(&self, new: Result<Current, OpenError>, was_closed: bool) -> Option<Current> {
        let path = self.path.display();
        match new {
            Ok(current) => {
                let again = if was_closed {
                    "can be used again"
                } else {
                    "has changed"
                };
                info!("The web configuration {path} {again}.");
                Some(current)
            }
            Err(fault) => {
                let faults = fault.to_string();
                error!(
                    faults,
                    "The web configuration {path} cannot be used: requests are answered 500 and \
                     TLS handshakes fail until it is fixed."
                );
                None
            }
        }
    }
}

fn warn_of(config: &WebConfig) {
    for warning in config.warnings() {
        warn!("The web configuration: {warning}.");
    }
}

/// Why a web configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The files are faulty.
    #[error(transparent)]
    Faulty(#[from] config::ConfigErrors),
    /// There was something in the file before.
    #[error("the file has become empty; to switch everything off, empty it and restart")]
    Emptied,
    /// rustls refuses settings that look good.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Fixed {
    fn of(config: &WebConfig) -> Self {
        Self {
            tls: config.tls.is_some(),
            http2: config.http2,
            rate_limit: config.rate_limit,
        }
    }
}

impl Current {
    fn of(config: WebConfig, http2: bool, kept: &mut Option<Kept>) -> Result<Self, rustls::Error> {
        let certificate = config.tls.as_ref().map(|settings| settings.validity);
        let tls = config.tls.map(|settings| in_force(settings, http2, kept));
        Ok(Self {
            users: config.users,
            headers: config.headers,
            tls: tls.transpose()?,
            certificate,
        })
    }
}

/// What is made of these settings: the same as before when they are, because connections that
/// others let in are closed.
fn in_force(
    settings: Tls,
    http2: bool,
    kept: &mut Option<Kept>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    if let Some(kept) = kept.as_ref().filter(|kept| kept.settings == settings) {
        return Ok(Arc::clone(&kept.config));
    }
    let config = Arc::new(tls::server_config(settings.clone(), http2)?);
    *kept = Some(Kept {
        settings,
        config: Arc::clone(&config),
    });
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_during_a_look_that_hangs_leaves_nothing_behind() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let file = tempfile::NamedTempFile::new().unwrap();
            let live = Arc::new(Live::open(file.path()).unwrap());
            let hanging = Arc::clone(&live.state).lock_owned().await;
            let waiting: Vec<_> = (0..10)
                .map(|_| {
                    let live = Arc::clone(&live);
                    tokio::spawn(async move { live.current().await.is_some() })
                })
                .collect();
            tokio::task::yield_now().await;
            // The only thread is free, and stays so when they give up.
            spawn_blocking(|| ()).await.unwrap();
            for one in waiting {
                one.abort();
                assert!(one.await.unwrap_err().is_cancelled());
            }
            spawn_blocking(|| ()).await.unwrap();
            drop(hanging);
            assert!(live.current().await.is_some());
        });
    }
}
