//! The web configuration in force, reloaded when its files change.
//!
//! Every request and every TLS handshake asks for it, which costs the metadata of a few files.
//! While the files are invalid there is no configuration, so that requests and handshakes fail:
//! serving by an older one could keep access open that was just revoked. Some settings need a
//! restart.
//!
//! Invariant: one task at a time reads the files, and a request that is cancelled while it waits
//! leaves no task behind, so a file system that hangs blocks one thread only.

mod certificate;

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

use axum::http::{HeaderName, HeaderValue};
use chrono::{DateTime, Utc};
use rustls::ServerConfig;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use self::certificate::CertificateMonitor;
use super::tls;
use crate::clock;
use crate::config;
use crate::config::web::FileVersions;
use crate::settings::web::{RateLimit, Tls, Users, Validity, WebConfig};
use crate::sync::lock;

/// A web configuration file and its content, which is reloaded when the file changes.
#[derive(Debug)]
pub struct ReloadableWebConfig {
    path: PathBuf,
    restart_only: RestartOnly,
    initial_warnings: Vec<String>,
    certificate: std::sync::Mutex<CertificateMonitor>,
    /// Locked while the files are read.
    state: Arc<Mutex<LoadedState>>,
}

/// Settings that take effect with a restart only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RestartOnly {
    tls: bool,
    rate_limit: Option<RateLimit>,
}

#[derive(Debug)]
struct LoadedState {
    versions: FileVersions,
    /// Whether the file has ever had settings.
    had_settings: bool,
    tls: Option<CachedTls>,
    active: Option<Arc<ActiveWebConfig>>,
}

/// TLS settings and the rustls configuration built from them.
#[derive(Debug)]
struct CachedTls {
    settings: Tls,
    config: Arc<ServerConfig>,
}

/// Settings that take effect without a restart.
#[derive(Debug)]
pub(super) struct ActiveWebConfig {
    pub(super) users: Users,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    certificate: Option<Validity>,
}

impl ReloadableWebConfig {
    /// Reads the file at `path` and the files that it names.
    ///
    /// # Errors
    ///
    /// If one of them is invalid or cannot be read.
    pub fn open(path: &Path) -> Result<Self, WebConfigError> {
        let now = clock::now();
        let (config, versions) = WebConfig::load_versions(path, now.into());
        let config = config?;
        let (restart_only, had_settings) = (RestartOnly::of(&config), !config.is_empty);
        let (mut initial_warnings, mut tls) = (config.warnings(), None);
        log_warnings(&config);
        let active = ActiveWebConfig::new(config, &mut tls)?;
        let mut certificate = CertificateMonitor::default();
        certificate.update(path, active.certificate, now);
        initial_warnings.extend(certificate.warning().map(str::to_owned));
        let state = LoadedState {
            versions,
            had_settings,
            tls,
            active: Some(Arc::new(active)),
        };
        Ok(Self {
            path: path.to_owned(),
            restart_only,
            initial_warnings,
            certificate: certificate.into(),
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Warnings about the configuration at the start, without the period at the end.
    pub(crate) fn initial_warnings(&self) -> &[String] {
        &self.initial_warnings
    }

    /// When the certificate of the listener expires. `None` without TLS, and while the
    /// configuration is invalid.
    pub(crate) fn certificate_expiry(&self) -> Option<DateTime<Utc>> {
        self.certificate().expiry()
    }

    pub(crate) fn tls_enabled(&self) -> bool {
        self.restart_only.tls
    }

    pub(super) fn rate_limit(&self) -> Option<RateLimit> {
        self.restart_only.rate_limit
    }

    /// The configuration in the files as they are now; `None` if they are invalid.
    pub(super) async fn active(self: &Arc<Self>) -> Option<Arc<ActiveWebConfig>> {
        // Locked before the task is spawned, because a blocking task cannot be cancelled.
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let this = Arc::clone(self);
        // Files can be slow, and checking a key takes time.
        let reloaded = spawn_blocking(move || {
            if !state.versions.are_current() {
                this.reload(&mut state);
            }
            let active = state.active.clone();
            let validity = active.as_ref().and_then(|active| active.certificate);
            this.certificate()
                .update(&this.path, validity, clock::now());
            active
        });
        reloaded.await.ok().flatten()
    }

    fn certificate(&self) -> MutexGuard<'_, CertificateMonitor> {
        lock(&self.certificate)
    }

    fn reload(&self, state: &mut LoadedState) {
        let (config, versions) = WebConfig::load_versions(&self.path, clock::now().into());
        if !versions.has_same_contents(&state.versions) {
            let was_invalid = state.active.is_none();
            let reloaded = config.map_err(WebConfigError::from);
            let reloaded = reloaded.and_then(|config| self.activate(config, state));
            self.log_reload(&reloaded, was_invalid);
            state.active = reloaded.ok().map(Arc::new);
        }
        state.versions = versions;
    }

    fn activate(
        &self,
        config: WebConfig,
        state: &mut LoadedState,
    ) -> Result<ActiveWebConfig, WebConfigError> {
        // A file that is being overwritten is empty for a moment, which would grant access to all.
        if config.is_empty && state.had_settings {
            return Err(WebConfigError::Emptied);
        }
        state.had_settings |= !config.is_empty;
        if RestartOnly::of(&config) != self.restart_only {
            warn!(
                "The web configuration {} turns TLS on or off or changes the rate limit, which \
                 takes effect with a restart.",
                self.path.display()
            );
        }
        log_warnings(&config);
        Ok(ActiveWebConfig::new(config, &mut state.tls)?)
    }

    fn log_reload(&self, reloaded: &Result<ActiveWebConfig, WebConfigError>, was_invalid: bool) {
        let path = self.path.display();
        match reloaded {
            Ok(_) if was_invalid => info!("The web configuration {path} is valid again."),
            Ok(_) => info!("The web configuration {path} has changed."),
            Err(error) => {
                let faults = error.to_string();
                error!(
                    faults,
                    "The web configuration {path} is invalid: requests are answered 500 and TLS \
                     handshakes fail until it is fixed."
                );
            }
        }
    }
}

fn log_warnings(config: &WebConfig) {
    for warning in config.warnings() {
        warn!("The web configuration: {warning}.");
    }
}

/// Why a web configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// The errors in the file or in the files that it names.
    #[error(transparent)]
    Config(#[from] config::ConfigErrors),
    /// The file had settings before and now has none.
    #[error("the file has become empty; to turn everything off, empty it and restart")]
    Emptied,
    /// rustls rejects settings that passed all checks.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl RestartOnly {
    fn of(config: &WebConfig) -> Self {
        Self {
            tls: config.tls.is_some(),
            rate_limit: config.rate_limit,
        }
    }
}

impl ActiveWebConfig {
    fn new(config: WebConfig, cached: &mut Option<CachedTls>) -> Result<Self, rustls::Error> {
        let certificate = config.tls.as_ref().map(|settings| settings.validity);
        let tls = config.tls.map(|settings| server_config(settings, cached));
        Ok(Self {
            users: config.users,
            headers: config.headers,
            tls: tls.transpose()?,
            certificate,
        })
    }
}

/// The cached rustls configuration if the settings are unchanged: connections that another
/// configuration accepted are closed.
fn server_config(
    settings: Tls,
    cached: &mut Option<CachedTls>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    if let Some(cached) = cached.as_ref().filter(|one| one.settings == settings) {
        return Ok(Arc::clone(&cached.config));
    }
    let config = Arc::new(tls::server_config(settings.clone())?);
    *cached = Some(CachedTls {
        settings,
        config: Arc::clone(&config),
    });
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_cancelled_while_the_files_hang_leave_no_task_behind() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let file = tempfile::NamedTempFile::new().unwrap();
            let web_config = Arc::new(ReloadableWebConfig::open(file.path()).unwrap());
            let hanging = Arc::clone(&web_config.state).lock_owned().await;
            let requests: Vec<_> = (0..10)
                .map(|_| {
                    let web_config = Arc::clone(&web_config);
                    tokio::spawn(async move { web_config.active().await.is_some() })
                })
                .collect();
            tokio::task::yield_now().await;
            // The only blocking thread is free, also after the requests are cancelled.
            spawn_blocking(|| ()).await.unwrap();
            for request in requests {
                request.abort();
                assert!(request.await.unwrap_err().is_cancelled());
            }
            spawn_blocking(|| ()).await.unwrap();
            drop(hanging);
            assert!(web_config.active().await.is_some());
        });
    }
}
