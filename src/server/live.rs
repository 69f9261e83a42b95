//! The web configuration in force: looked at again whenever somebody comes in.
//!
//! Every request and every TLS handshake asks for it, and a look costs the metadata of a few
//! files. A configuration that cannot be used closes: there is none until it is mended, whatever
//! it was before. What cannot change while the exporter runs stays as it began.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderName, HeaderValue};
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::tls;
use crate::config;
use crate::config::web::{RateLimit, Stamps, Tls, Users, WebConfig};

/// The web configuration in a file, as it changes.
#[derive(Debug)]
pub struct Live {
    path: PathBuf,
    fixed: Fixed,
    state: Mutex<State>,
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
    stamps: Stamps,
    /// Whether there has been anything in the file.
    was_filled: bool,
    current: Option<Arc<Current>>,
}

/// What may change at any time.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) users: Users,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// By which TLS settings a connection was let in; by none without TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission {
    by: Option<Arc<ServerConfig>>,
    ended: CancellationToken,
}

impl Admission {
    pub(super) fn by(config: Arc<ServerConfig>) -> Self {
        Self {
            by: Some(config),
            ended: CancellationToken::new(),
        }
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
        let (config, stamps) = WebConfig::load_with_stamps(path);
        let config = config?;
        let (fixed, was_filled) = (Fixed::of(&config), !config.is_empty);
        warn_of(&config);
        let current = Current::of(config, fixed.http2)?;
        Ok(Self {
            path: path.to_owned(),
            fixed,
            state: Mutex::new(State {
                stamps,
                was_filled,
                current: Some(Arc::new(current)),
            }),
        })
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
        let live = Arc::clone(self);
        // Files may be slow, and a key takes some time to be checked.
        let looked = tokio::task::spawn_blocking(move || live.look());
        looked.await.ok().flatten()
    }

    fn look(&self) -> Option<Arc<Current>> {
        let mut state = self.lock();
        if !state.stamps.still_hold() {
            self.look_again(&mut state);
        }
        state.current.clone()
    }

    fn look_again(&self, state: &mut State) {
        let (config, stamps) = WebConfig::load_with_stamps(&self.path);
        let new = config.map_err(OpenError::from).and_then(|config| {
            // A file that is written over is empty for a moment, and would open everything.
            if config.is_empty && state.was_filled {
                return Err(OpenError::Emptied);
            }
            state.was_filled |= !config.is_empty;
            self.adopt(config)
        });
        state.current = self.report(new, state.current.is_none()).map(Arc::new);
        state.stamps = stamps;
    }

    fn adopt(&self, config: WebConfig) -> Result<Current, OpenError> {
        if Fixed::of(&config) != self.fixed {
            warn!(
                "The web configuration {} switches TLS or HTTP/2 on or off, or has another rate \
                 limit: that takes effect with a restart.",
                self.path.display()
            );
        }
        warn_of(&config);
        Ok(Current::of(config, self.fixed.http2)?)
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
                     TLS handshakes fail until it is mended."
                );
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A look that panicked has left the state before it; what it read is read again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of what is allowed and can hardly be meant.
fn warn_of(config: &WebConfig) {
    let Some(Tls { clients, .. }) = &config.tls else {
        return;
    };
    if clients.cannot_verify() {
        warn!(
            "The web configuration verifies certificates of clients and names no authorities \
             (client_ca_file): whoever shows a certificate is refused."
        );
    }
}

/// Why a web configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The files are faulty.
    #[error(transparent)]
    Faulty(#[from] config::Error),
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
    fn of(config: WebConfig, http2: bool) -> Result<Self, rustls::Error> {
        let tls = config.tls.map(|tls| tls::server_config(tls, http2));
        Ok(Self {
            users: config.users,
            headers: config.headers,
            tls: tls.transpose()?.map(Arc::new),
        })
    }
}
