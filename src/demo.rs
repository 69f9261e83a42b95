//! The commands `demo` and `simulate`: the simulated cluster with the exporter, or alone.
//!
//! The exporter of the demo is the real one and polls over HTTP; only its configuration is created here.

mod secure;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::TimeDelta;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use self::secure::Secured;
use crate::cli::{Arguments, Demo, Simulate, Simulated, UsageError};
use crate::clock;
use crate::run::{self, ConfigSource, Signals};
use crate::settings::{Cluster, Collectors, Config, Metrics, Poll, Protection, Security, Selector};
use crate::simulator::{Access, Activity, Estate, EstateSize, Options, Simulator, run_activity};

/// Poll interval of the demo, which is as short as its simulated time is fast.
const INTERVAL: Duration = Duration::from_secs(5);

/// Notice on the landing page.
const NOTICE: &str = "This is a simulated cluster in which time runs fast: backups are due every 30 \
                      to 120 seconds, and overdue 45 seconds later.";

/// Shape of the simulated applications.
const PARTITIONS_PER_SERVICE: u32 = 8;
const SERVICES_PER_APPLICATION: u32 = 3;

/// Runs a simulated cluster and the exporter until a signal to stop.
///
/// # Errors
///
/// If an address is in use, and those of the exporter.
pub async fn demo(arguments: &Arguments, demo: &Demo) -> anyhow::Result<()> {
    // Before the demo creates files, which the default signal handler would not remove.
    let signals = Signals::listen()?;
    // Dropping this value removes the files of a secured demo.
    let secured = secured(arguments, demo)?;
    let options = secured.as_ref().map(Secured::options).unwrap_or_default();
    let security = secured.as_ref().map(Secured::security).unwrap_or_default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.context("cannot open a port for the simulated gateway")?;
    let simulator = start(listener, &demo.simulated, options)?;
    let endpoint = simulator.url();
    info!(
        endpoint,
        "The simulated cluster `demo` listens on {endpoint}. Its time runs fast: every state of \
         requested and periodic backups occurs within two minutes."
    );
    let endpoint = endpoint.parse();
    let endpoint = endpoint.context("the simulator has an invalid address")?;
    let source = ConfigSource::Fixed {
        config: Box::new(config(endpoint, security)),
        web_config: secured.as_ref().map(Secured::web_config),
        notice: NOTICE,
    };
    run::exporter(arguments, source, signals).await
}

/// Creates the credentials of a secured demo, and logs how to use them.
fn secured(arguments: &Arguments, demo: &Demo) -> anyhow::Result<Option<Secured>> {
    if !demo.secure {
        return Ok(None);
    }
    if arguments.web_config_file().is_some() {
        let message = "--secure has its own web configuration: remove --web.config.file";
        return Err(UsageError(message.to_owned()).into());
    }
    let secured = Secured::generate(clock::now())?;
    let address = arguments.listen_addresses.first();
    let port = address.and_then(|address| address.rsplit(':').next());
    let path = &arguments.telemetry_path;
    let url = format!("https://localhost:{}{path}", port.unwrap_or_default());
    let (folder, command) = (secured.folder().display(), secured.curl(&url));
    info!(
        %folder, command,
        "TLS is enabled. Certificates, keys and the web configuration are in {folder} until the demo \
         ends. To get the metrics: {command}"
    );
    Ok(Some(secured))
}

/// Runs a simulated gateway on the listen addresses until a signal to stop.
///
/// # Errors
///
/// If an address is in use, or with a web configuration.
pub async fn simulate(arguments: &Arguments, simulate: &Simulate) -> anyhow::Result<()> {
    if arguments.web_config_file().is_some() {
        let message = "a simulated gateway has no web configuration: remove --web.config.file";
        return Err(UsageError(message.to_owned()).into());
    }
    let options = Options {
        access: access(simulate.behind_proxy),
        ..Options::default()
    };
    let mut simulators = Vec::new();
    for listener in run::bind(&arguments.listen_addresses)? {
        let address = listener.local_addr()?;
        if simulate.behind_proxy && !address.ip().is_loopback() {
            warn!(
                %address,
                "Clients that connect to {address} without the proxy can choose any role: listen on \
                 127.0.0.1, or restrict access to the proxy."
            );
        }
        let simulator = start(listener, &simulate.simulated, options.clone())?;
        let url = simulator.url();
        info!(url, "A simulated gateway listens on {url}.");
        simulators.push(simulator);
    }
    Signals::listen()?.stop().await;
    Ok(())
}

/// The configuration of the exporter, with intervals that fit the fast time of the cluster.
fn config(endpoint: Url, security: Security) -> Config {
    Config {
        poll: Poll {
            interval: INTERVAL,
            backups_interval: INTERVAL * 2,
            timeout: INTERVAL,
            staleness: INTERVAL * 5,
            ..Poll::default()
        },
        protection: Protection {
            overdue_allowance: INTERVAL * 9,
            stuck_after: INTERVAL * 9,
            ..Protection::default()
        },
        metrics: Metrics::default(),
        state_file: None,
        clusters: vec![Cluster {
            name: "demo".into(),
            endpoints: vec![endpoint],
            partitions: Vec::new(),
            applications: Selector::default(),
            services: Selector::default(),
            expected_interval: None,
            collectors: Collectors {
                history: true,
                ..Collectors::default()
            },
            security,
        }],
    }
}

/// Access for everyone, or with the role that the proxy sends.
fn access(behind_proxy: bool) -> Access {
    if !behind_proxy {
        return Access::default();
    }
    let mut access = Access::secured();
    access.trust_front();
    access
}

/// Starts a gateway whose cluster was created before its first backup, and in which backups are requested
/// continuously.
fn start(
    listener: TcpListener,
    simulated: &Simulated,
    options: Options,
) -> anyhow::Result<Arc<Simulator>> {
    let now = clock::now();
    let per_application = SERVICES_PER_APPLICATION * PARTITIONS_PER_SERVICE;
    let shape = EstateSize {
        seed: simulated.seed,
        applications: simulated.partitions.div_ceil(per_application) as usize,
        services_per_application: SERVICES_PER_APPLICATION as usize,
        partitions_per_service: PARTITIONS_PER_SERVICE as usize,
    };
    let mut estate = Estate::generate(&shape, now - TimeDelta::days(30));
    let activity = Activity::begin(simulated.seed, 1.0, &mut estate, now);
    let simulator = Simulator::start(listener, estate, options);
    let simulator = Arc::new(simulator.context("cannot start the simulated gateway")?);
    tokio::spawn(run_activity(
        Arc::clone(&simulator),
        activity,
        CancellationToken::new(),
    ));
    Ok(simulator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gateway_behind_a_proxy_requires_the_role_of_the_proxy() {
        let simulated = Simulated {
            seed: 1,
            partitions: 8,
        };
        for (behind_proxy, expected) in [(false, [200, 200]), (true, [403, 200])] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let options = Options {
                access: access(behind_proxy),
                ..Options::default()
            };
            let simulator = start(listener, &simulated, options).unwrap();
            let url = format!("{}/Applications?api-version=6.1", simulator.url());
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let request = || client.get(&url);
            let unnamed = request().send().await.unwrap();
            let named = request().header("X-Role", "User").send().await.unwrap();
            let statuses = [unnamed.status(), named.status()].map(|it| it.as_u16());
            assert_eq!(statuses, expected);
        }
    }
}
