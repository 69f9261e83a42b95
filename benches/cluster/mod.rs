//! A simulated cluster in a process of its own, so that what it costs is not taken for the cost
//! of the exporter. The process is the bench itself, started again with other arguments.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::simulator::{
    Access, Code, Entity, Estate, EstateSize, Latency, Options, Outcome, Policy, Role, Schedule,
    ServerIdentity, Simulator, Storage,
};
use tokio::net::TcpListener;

/// The argument that makes a bench a simulated cluster.
const ROLE: &str = "simulated-cluster";

/// Partitions of each service, and services of each application.
const PARTITIONS_PER_SERVICE: usize = 20;
const SERVICES_PER_APPLICATION: usize = 10;

const POLICIES: usize = 20;

/// Files of a secured cluster in its folder: certificate and key of the gateway, and the
/// certificate, in DER, of the client that may read.
pub(crate) const GATEWAY_CERTIFICATE: &str = "gateway.pem";
pub(crate) const GATEWAY_KEY: &str = "gateway.key";
pub(crate) const READER: &str = "reader.der";

/// What full TLS handshakes are called among the counts of a secured cluster.
pub(crate) const HANDSHAKES: &str = "handshakes";

/// A simulated cluster that runs.
#[derive(Debug)]
pub(crate) struct Cluster {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<std::process::ChildStdout>,
    /// Address of its gateway.
    pub(crate) url: String,
}

impl Cluster {
    /// Starts a cluster whose gateway takes `latency` for each answer; a secured one when there
    /// is a folder with its files.
    pub(crate) fn start(
        partitions: usize,
        latency: Duration,
        secured: Option<&Path>,
    ) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .arg(partitions.to_string())
            .arg(latency.as_millis().to_string())
            .args(secured)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().expect("it is piped");
        let mut stdout = BufReader::new(stdout);
        let mut url = String::new();
        stdout.read_line(&mut url)?;
        Ok(Self {
            process,
            stdin,
            stdout,
            url: url.trim().to_owned(),
        })
    }

    /// Ends it and tells how many requests it answered, by operation; of a secured one also how
    /// many full handshakes it made.
    pub(crate) fn stop(mut self) -> io::Result<BTreeMap<String, u32>> {
        drop(self.stdin.take());
        let mut counts = String::new();
        self.stdout.read_to_string(&mut counts)?;
        self.process.wait()?;
        let counts = counts.lines().filter_map(|line| line.split_once(' '));
        let counts = counts.map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
        counts
            .collect::<Option<_>>()
            .ok_or_else(|| io::Error::other("the simulated cluster ended without its counts"))
    }
}

/// Serves a cluster when this process was started for that.
pub(crate) fn served(arguments: &[String]) -> Option<ExitCode> {
    let [_, role, partitions, latency, secured @ ..] = arguments else {
        return None;
    };
    if role != ROLE {
        return None;
    }
    let partitions = partitions.parse().ok()?;
    let latency = Duration::from_millis(latency.parse().ok()?);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let secured = secured.first().map(Path::new);
    let served = runtime.block_on(serve(partitions, latency, secured));
    Some(served.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

async fn serve(partitions: usize, latency: Duration, secured: Option<&Path>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let latency = match latency {
        Duration::ZERO => Latency::None,
        latency => Latency::Fixed(latency),
    };
    let (access, identity) = secured.map(security).transpose()?.unzip();
    let options = Options {
        latency,
        access: access.unwrap_or_default(),
        identity,
        ..Options::default()
    };
    let simulator = Simulator::start(listener, estate(partitions, clock::now()), options)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", simulator.url())?;
    tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
    for (name, count) in simulator.requests() {
        writeln!(stdout, "{name} {count}")?;
    }
    if secured.is_some() {
        writeln!(stdout, "{HANDSHAKES} {}", simulator.full_handshakes())?;
    }
    Ok(())
}

/// Who may read in a secured cluster, and who its gateway is.
fn security(folder: &Path) -> io::Result<(Access, ServerIdentity)> {
    let mut access = Access::secured();
    access.admit_certificate(&fs::read(folder.join(READER))?, Role::User);
    let certificate = fs::read_to_string(folder.join(GATEWAY_CERTIFICATE))?;
    let key = fs::read_to_string(folder.join(GATEWAY_KEY))?;
    let identity = ServerIdentity::from_pem(&certificate, &key).map_err(io::Error::other)?;
    Ok((access, identity))
}

/// A cluster with a past: of a hundred partitions 88 end their last requested backup well, 4
/// fail, 1 times out, 2 are at it, and 5 were never asked for one. Of ten applications six have a
/// policy, the services of two have one each, two have none; a twentieth is suspended.
fn estate(partitions: usize, now: DateTime<Utc>) -> Estate {
    let shape = EstateSize {
        seed: 1,
        applications: partitions.div_ceil(PARTITIONS_PER_SERVICE * SERVICES_PER_APPLICATION),
        services_per_application: SERVICES_PER_APPLICATION,
        partitions_per_service: PARTITIONS_PER_SERVICE,
    };
    let mut estate = Estate::generate(&shape, now - TimeDelta::days(30));
    let failure = || {
        let code = Code::Name("FABRIC_E_BACKUPCOPIER_TIMEOUT".to_owned());
        Outcome::Failure(code, "The copy to the store timed out.".to_owned())
    };
    for (number, id) in (0_u32..).zip(estate.partition_ids()) {
        let outcome = match number % 100 {
            0..88 => Outcome::Success,
            88..92 => failure(),
            92 => Outcome::Timeout,
            93..95 => Outcome::Never,
            _ => continue,
        };
        let at = now - TimeDelta::seconds(i64::from(number) % 86_400);
        estate.conclude(id, outcome, at);
    }
    protect(&mut estate, now);
    estate
}

fn protect(estate: &mut Estate, now: DateTime<Utc>) {
    for number in 0..POLICIES {
        estate.add_policy(policy(number), now - TimeDelta::days(8));
    }
    let services = estate.service_names();
    for (number, application) in estate.application_names().into_iter().enumerate() {
        let below = format!("{application}/");
        let entities = match number % 10 {
            0..6 => vec![Entity::Application(application)],
            6..8 => {
                let services = services.iter().filter(|name| name.starts_with(&below));
                services.cloned().map(Entity::Service).collect()
            }
            _ => continue,
        };
        for (place, entity) in entities.iter().enumerate() {
            let policy = policy((number + place) % POLICIES).name;
            // Services without state have nothing to protect and are refused.
            if estate
                .enable(entity, &policy, now - TimeDelta::hours(50))
                .is_err()
            {
                continue;
            }
            for id in estate.partitions_of(entity).into_iter().step_by(20) {
                let suspended = estate.suspend(&Entity::Partition(id), now - TimeDelta::hours(1));
                suspended.expect("a protected partition can be suspended");
            }
        }
    }
    estate.tick(now);
}

/// Each has a storage of its own and takes a backup every 10 to 29 hours.
fn policy(number: usize) -> Policy {
    Policy {
        name: format!("Policy{number}"),
        auto_restore_on_data_loss: false,
        max_incremental_backups: 4,
        schedule: Schedule::Every(Duration::from_secs((10 + number as u64) * 3600)),
        storage: Storage::AzureBlob {
            friendly_name: String::new(),
            container: format!("container{number}"),
        },
        retention: None,
    }
}

/// User and system time that a process has used, in seconds.
pub(crate) fn cpu_seconds(process: &str) -> f64 {
    // Ticks of a hundredth, by the ABI of Linux. The name before the fields may hold anything
    // but ends with the last parenthesis.
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    times
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}
