//! The life of the exporter: start, reload, drain, end.
//!
//! Puts the parts together and waits. A part that ends unasked ends the process, because half an
//! exporter looks like a healthy one.

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

/// How often the exporter looks whether there is something new to remember.
const REMEMBER_INTERVAL: Duration = Duration::from_secs(1);

/// Requests to reload that wait at a time; more wait in their connections.
const MAX_WAITING_RELOADS: usize = 64;

/// The longest that the end of the process waits for the state file.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The file of the command line; a reload reads it again.
    File,
    /// The program itself.
    Fixed {
        /// The configuration.
        config: Box<Config>,
        /// The web configuration, in place of the one of the command line.
        web_config: Option<PathBuf>,
        /// What those are told who look at the landing page.
        notice: &'static str,
    },
}

impl Source {
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

/// Checks the flags and reads the configuration and the web configuration, if there is one.
/// `check-config` and the start both go through here, so that neither accepts what the other
/// rejects.
///
/// # Errors
///
/// When one of them is faulty; the faults of both files are listed.
pub fn read(
    arguments: &Arguments,
    source: &Source,
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
        (Err(faults), Err(WebConfigError::Config(more))) => Err(faults.and(more).into()),
        (Err(faults), _) => Err(faults.into()),
        (_, Err(fault)) => Err(fault.into()),
    }
}

/// Looks whether the exporter could start as it is configured, here and in this environment, and
/// write its state file; connects to nothing. Returns warnings about a valid configuration.
///
/// # Errors
///
/// When it could not.
pub fn check(arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let (config, web) = read(arguments, &Source::File)?;
    let identity = environment::fabric_identity();
    let mut warnings = fleet::check(&config, identity.as_ref())?;
    if let Some(path) = &config.state_file {
        let checked = state_file::check(path);
        checked.with_context(|| format!("state_file: cannot use {}", path.display()))?;
    }
    let web = web.iter().flat_map(|web| web.initial_warnings());
    warnings.extend(web.map(|warning| format!("{}: {warning}", arguments.web_config_file)));
    Ok(warnings)
}

/// Runs the exporter until one of `signals` ends it.
///
/// # Errors
///
/// When it cannot start, or when a part of it has broken.
pub async fn exporter(
    arguments: &Arguments,
    source: Source,
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
    announce(&config, &listeners, web.as_deref());
    let limits = descriptors::limits(&config);
    let router = server::router(exporter.app(web.clone(), reload_requests));
    let router = guarded(router, web.clone(), limits.connections);
    let shutdown = CancellationToken::new();
    let serving = listener::serve(listeners, router, web, limits, shutdown.clone());
    let mut serving = tokio::spawn(serving);

    let mut remember = interval(REMEMBER_INTERVAL);
    remember.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => reloads.want(),
                Signal::Stop => break Ok(()),
            },
            requests = reloads.due() => tokio::select! {
                () = exporter.reload(requests) => reloads.done(Instant::now()),
                // A reload may wait for a disk that hangs.
                () = signals.stop() => break Ok(()),
            },
            _ = remember.tick() => exporter.memory.save(exporter.fleet.snapshots()).await,
            broken = exporter.fleet.broken() => {
                break Err(anyhow::Error::new(broken).context("a poller has broken"));
            }
            _ = &mut serving => return Err(anyhow!("the listener has ended")),
        }
    };
    info!("Stopping.");
    shutdown.cancel();
    tokio::select! {
        () = exporter.stop(serving) => info!("Stopped."),
        () = signals.stop() => warn!("Stopped at once, by a second signal."),
    }
    ended
}

/// Opens every address.
///
/// # Errors
///
/// When one is malformed or not free.
pub fn bind(addresses: &[String]) -> anyhow::Result<Vec<TcpListener>> {
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

fn announce(config: &Config, listeners: &[TcpListener], web: Option<&ReloadableWebConfig>) {
    let (clusters, version) = (config.clusters.len(), BuildInfo::CURRENT.version);
    let revision = BuildInfo::CURRENT.revision;
    info!(
        clusters,
        version, revision, "Version {version} is watching {clusters} clusters."
    );
    // Which port it is nobody knows but the operating system when port 0 was asked for.
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
    source: Source,
    telemetry: Arc<Telemetry>,
    fleet: Fleet,
    memory: Memory,
    reload: watch::Sender<Reload>,
}

impl<'a> Exporter<'a> {
    /// Reads what is remembered and starts to poll.
    async fn start(
        arguments: &'a Arguments,
        source: Source,
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

    /// Reads the configuration again and reports the result in the log, in the metrics, and to all
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
            Err(faults) => {
                error!(
                    faults,
                    "The new configuration cannot be used; the old one stays."
                );
                self.reload.send_modify(|reload| reload.successful = false);
            }
        }
        for request in requests {
            // The client may be gone.
            drop(request.send(result.clone()));
        }
    }

    /// All or nothing: a configuration that cannot be used changes nothing.
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

    /// Ends in order: no more polls, what is known is written, answers under way are finished.
    async fn stop(&mut self, serving: JoinHandle<bool>) {
        self.fleet.stop().await;
        let snapshots = self.fleet.snapshots();
        self.memory.save_at_last(snapshots, LAST_WRITE).await;
        // How gracefully it ended is in the log already.
        drop(serving.await);
    }
}
