//! The lifecycle of the exporter: start, reload, graceful shutdown.
//!
//! If the listener or a poller ends unexpectedly, the process ends: an exporter that runs in part would
//! look healthy.

mod descriptors;
mod environment;
mod memory;
mod reloads;
mod signals;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::memory::Memory;
use self::reloads::Reloads;
use self::signals::Signal;
pub use self::signals::Signals;
use crate::cli::{Arguments, UsageError};
use crate::clock;
use crate::config;
use crate::fleet::{self, Fleet};
use crate::server::guard::guarded;
use crate::server::web_config::{ReloadableWebConfig, WebConfigError};
use crate::server::{self, App, ReloadRequest, listener};
use crate::settings::Config;
use crate::state_file;
use crate::telemetry::{BuildInfo, Reload, Telemetry};

/// Interval at which new snapshots are written to the state file.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of queued reload requests; more wait in their connections.
const MAX_WAITING_RELOADS: usize = 64;

/// Timeout of the last write of the state file.
const LAST_SAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Source of the configuration.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// The configuration file; a reload reads it again.
    File,
    /// The program itself, for the demo.
    Fixed {
        /// The same after each reload.
        config: Box<Config>,
        /// Web configuration file, instead of that of the command line.
        web_config: Option<PathBuf>,
        /// Notice on the landing page.
        notice: &'static str,
    },
}

impl ConfigSource {
    fn load(&self, arguments: &Arguments) -> Result<Config, config::ConfigErrors> {
        match self {
            Self::File => {
                let inputs = [Some(&*arguments.config_file), arguments.web_config_file()];
                let inputs: Vec<_> = inputs.into_iter().flatten().collect();
                let config = Config::load(&arguments.config_file)?;
                config.with_own_state_file(&arguments.config_file, &inputs)
            }
            Self::Fixed { config, .. } => Ok(Config::clone(config)),
        }
    }

    fn web_config<'a>(&'a self, arguments: &'a Arguments) -> Option<&'a Path> {
        match self {
            Self::Fixed {
                web_config: Some(file),
                ..
            } => Some(file),
            _ => arguments.web_config_file(),
        }
    }

    const fn notice(&self) -> Option<&'static str> {
        match self {
            Self::File => None,
            Self::Fixed { notice, .. } => Some(notice),
        }
    }
}

/// Checks the flags and reads the configuration and the optional web configuration. Used by
/// `check-config` and the start, so that both accept the same files.
///
/// # Errors
///
/// If one of them is invalid, with the errors of both files.
fn read(
    arguments: &Arguments,
    source: &ConfigSource,
) -> anyhow::Result<(Config, Option<Arc<ReloadableWebConfig>>)> {
    arguments.shard()?;
    listener::check(&arguments.listen_addresses).map_err(listen_error)?;
    let config = source.load(arguments);
    let web = source
        .web_config(arguments)
        .map(ReloadableWebConfig::open)
        .transpose();
    match (config, web) {
        (Ok(config), Ok(web)) => Ok((config, web.map(Arc::new))),
        (Err(errors), Err(WebConfigError::Config(more))) => Err(errors.and(more).into()),
        (Err(errors), _) => Err(errors.into()),
        (_, Err(error)) => Err(error.into()),
    }
}

/// Checks that the exporter could start with its configuration and in its environment, and write its
/// state file. Opens no connection. Returns warnings about a valid configuration.
///
/// # Errors
///
/// If it could not start.
pub fn check(arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let (config, web) = read(arguments, &ConfigSource::File)?;
    let identity = environment::fabric_identity();
    let mut warnings = fleet::check(&config, identity.as_ref())?;
    if let Some(path) = &config.state_file {
        let result = state_file::check(path);
        result.with_context(|| format!("state_file: cannot use {}", path.display()))?;
    }
    let web = web.iter().flat_map(|web| web.initial_warnings());
    warnings.extend(web.map(|warning| format!("{}: {warning}", arguments.web_config_file)));
    Ok(warnings)
}

/// Runs the exporter until it receives a signal to stop.
///
/// # Errors
///
/// If it cannot start, or if a part of it fails.
pub async fn exporter(
    arguments: &Arguments,
    source: ConfigSource,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let (config, web) = read(arguments, &source)?;
    let listeners = bind(&arguments.listen_addresses)?;
    let (reload_requests, requests) = mpsc::channel(MAX_WAITING_RELOADS);
    let mut reloads = Reloads::new(requests);
    let mut exporter = tokio::select! {
        started = Exporter::start(arguments, source, &config) => started?,
        () = signals.stop() => return Ok(()),
    };
    log_start(&config, &listeners, web.as_deref());
    let limits = descriptors::limits(&config);
    let router = server::router(exporter.app(web.clone(), reload_requests));
    let router = guarded(router, web.clone(), limits.connections);
    let shutdown = CancellationToken::new();
    let serving = listener::serve(listeners, router, web, limits, shutdown.clone());
    let mut serving = tokio::spawn(serving);

    let mut save = interval(SAVE_INTERVAL);
    save.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let result = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => reloads.request(),
                Signal::Stop => break Ok(()),
            },
            requests = reloads.next() => tokio::select! {
                () = exporter.reload(requests) => reloads.done(Instant::now()),
                // A reload can wait for a disk that hangs.
                () = signals.stop() => break Ok(()),
            },
            _ = save.tick() => exporter.memory.save(exporter.fleet.snapshots()).await,
            panic = exporter.fleet.next_panic() => {
                break Err(anyhow::Error::new(panic).context("a poller panicked"));
            }
            _ = &mut serving => return Err(anyhow!("the listener ended unexpectedly")),
        }
    };
    info!("Stopping.");
    shutdown.cancel();
    tokio::select! {
        () = exporter.stop(serving) => info!("Stopped."),
        () = signals.stop() => warn!("Stopped at once, by a second signal."),
    }
    result
}

/// Binds every address.
///
/// # Errors
///
/// If one is invalid or in use.
pub(crate) fn bind(addresses: &[String]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        match listener::bind(address) {
            Ok(bound) => listeners.extend(bound),
            Err(error) => return Err(listen_error(error)),
        }
    }
    Ok(listeners)
}

fn listen_error(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::InvalidInput => UsageError(format!("--web.listen-address: {error}")).into(),
        _ => error.into(),
    }
}

fn log_start(config: &Config, listeners: &[TcpListener], web: Option<&ReloadableWebConfig>) {
    let (clusters, version) = (config.clusters.len(), BuildInfo::CURRENT.version);
    let revision = BuildInfo::CURRENT.revision;
    info!(
        clusters,
        version, revision, "Version {version} is watching {clusters} clusters."
    );
    // Port 0 was replaced by the operating system.
    for address in listeners.iter().filter_map(|one| one.local_addr().ok()) {
        info!(%address, "Serving on {address}.");
    }
    if web.is_some_and(ReloadableWebConfig::tls_enabled) {
        info!("TLS is on.");
    } else {
        info!("TLS is off.");
    }
}

/// The parts that a reload changes.
struct Exporter<'a> {
    arguments: &'a Arguments,
    source: ConfigSource,
    telemetry: Arc<Telemetry>,
    fleet: Fleet,
    memory: Memory,
    reload: watch::Sender<Reload>,
}

impl<'a> Exporter<'a> {
    /// Reads the state file and starts the pollers.
    async fn start(
        arguments: &'a Arguments,
        source: ConfigSource,
        config: &Config,
    ) -> anyhow::Result<Self> {
        let telemetry = Arc::new(Telemetry::default());
        let (memory, remembered) = Memory::open(config.state_file.clone(), &telemetry).await?;
        let identity = environment::fabric_identity();
        let mut fleet = Fleet::new(Arc::clone(&telemetry), arguments.shard()?, identity);
        fleet.watch(config, remembered).await?;
        Ok(Self {
            arguments,
            source,
            telemetry,
            fleet,
            memory,
            reload: watch::Sender::new(Reload {
                successful: true,
                succeeded_at: clock::now(),
            }),
        })
    }

    fn app(
        &self,
        web: Option<Arc<ReloadableWebConfig>>,
        reload_requests: mpsc::Sender<ReloadRequest>,
    ) -> App {
        App {
            clusters: self.fleet.subscribe(),
            telemetry: Arc::clone(&self.telemetry),
            reload: self.reload.subscribe(),
            web_config: web,
            shard: self.fleet.shard(),
            telemetry_path: self.arguments.telemetry_path.clone(),
            notice: self.source.notice(),
            encoding_permits: Arc::new(Semaphore::new(self.arguments.max_requests.get())),
            reload_requests: self.arguments.enable_lifecycle.then_some(reload_requests),
        }
    }

    /// Reloads the configuration and reports the result in the log, the metrics, and to all
    /// `requests`.
    async fn reload(&mut self, requests: Vec<ReloadRequest>) {
        let result = self.try_reload().await;
        match &result {
            Ok(()) => {
                info!("Reloaded the configuration.");
                self.reload.send_replace(Reload {
                    successful: true,
                    succeeded_at: clock::now(),
                });
            }
            Err(errors) => {
                error!(
                    errors,
                    "Cannot reload the configuration; the current one stays in use."
                );
                self.reload.send_modify(|reload| reload.successful = false);
            }
        }
        for request in requests {
            // The client may have disconnected.
            drop(request.send(result.clone()));
        }
    }

    /// An invalid configuration changes nothing.
    async fn try_reload(&mut self) -> Result<(), String> {
        let config = self
            .source
            .load(self.arguments)
            .map_err(|error| error.to_string())?;
        let moved = self.memory.moved(config.state_file.clone()).await;
        let (memory, remembered) = moved.map_err(|error| error.to_string())?.unzip();
        let watching = self.fleet.watch(&config, remembered.unwrap_or_default());
        watching.await.map_err(|error| error.to_string())?;
        if let Some(memory) = memory {
            self.memory = memory;
        }
        Ok(())
    }

    /// Stops polling, writes the state file, and waits for open responses.
    async fn stop(&mut self, serving: JoinHandle<bool>) {
        self.fleet.stop().await;
        let snapshots = self.fleet.snapshots();
        self.memory.save_at_last(snapshots, LAST_SAVE_TIMEOUT).await;
        // The listener has logged whether it ended gracefully.
        drop(serving.await);
    }
}
