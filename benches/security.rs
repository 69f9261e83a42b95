//! What security costs: a cycle over TLS against one without, full handshakes for 10,000 requests,
//! and passwords on our own page.
//!
//! Both cycles read the same cluster as the bench `cycle` does, with a client certificate and a
//! pinned server where there is TLS. Keys are those of P-256.

mod cluster;
mod figures;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use servicefabric_backup_exporter::server::guard::guarded;
use servicefabric_backup_exporter::server::web_config::ReloadableWebConfig;
use servicefabric_backup_exporter::settings::{Auth, ClientCertificate, HostName, Security, Trust};
use servicefabric_backup_exporter::snapshot::Snapshot;
use tower_service::Service;

use cluster::{Cluster, GATEWAY_CERTIFICATE, GATEWAY_KEY, HANDSHAKES, READER, cpu_seconds};
use figures::Figures;
use watch::{CONCURRENCY, poller};

const PARTITIONS: usize = 10_000;
const LATENCY: Duration = Duration::from_millis(5);

/// Cycles of which the cheapest one counts.
const RUNS: usize = 3;

/// First scrapes, each after a start of the exporter.
const COLD: u32 = 20;

/// Scrapes with a password that was seen before.
const WARM: u32 = 20_000;

/// The name that the gateway's certificate carries.
const NAME: &str = "cluster.test";

/// `scraper:correct horse battery staple` as a header has it, and the password at cost 10, the
/// usual one, as `htpasswd -nB` writes it.
const AUTHORIZATION: &str = "Basic c2NyYXBlcjpjb3JyZWN0IGhvcnNlIGJhdHRlcnkgc3RhcGxl";
const PASSWORD: &str = "correct horse battery staple";
const COST: u32 = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(code) = cluster::served(&arguments) {
        return code;
    }
    if !figures::wanted() {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let figures = runtime
        .block_on(measure())
        .expect("clusters and pages are served");
    figures.verdict()
}

async fn measure() -> io::Result<Figures> {
    let mut figures = Figures::default();
    let folder = tempfile::tempdir()?;
    let security = credentials(folder.path())?;

    Figures::title("A cycle over 10,000 partitions, 16 requests in flight");
    let (plain, _) = cycle(None, &Security::default()).await?;
    let (secured, mut asked) = cycle(Some(folder.path()), &security).await?;
    Figures::row("CPU of the exporter without TLS", plain, "s");
    Figures::row(
        "CPU of the exporter with TLS and a client certificate",
        secured,
        "s",
    );
    figures.promise("with / without", secured / plain, 2.0, "");
    let handshakes = asked.remove(HANDSHAKES).unwrap_or_default();
    let requests: u32 = asked.values().sum();
    let handshakes = f64::from(handshakes) / f64::from(requests) * 10_000.0;
    Figures::row("requests", f64::from(requests), "");
    let limit = f64::from(CONCURRENCY);
    figures.promise("full handshakes for 10,000 requests", handshakes, limit, "");

    passwords(folder.path(), &mut figures).await?;
    Ok(figures)
}

/// Writes the files of a secured cluster and of its only reader.
fn credentials(folder: &Path) -> io::Result<Security> {
    let made =
        |name: &str| generate_simple_self_signed([name.to_owned()]).map_err(io::Error::other);
    let CertifiedKey { cert, signing_key } = made(NAME)?;
    fs::write(folder.join(GATEWAY_CERTIFICATE), cert.pem())?;
    fs::write(folder.join(GATEWAY_KEY), signing_key.serialize_pem())?;
    let CertifiedKey { cert, signing_key } = made("reader")?;
    fs::write(folder.join(READER), cert.der())?;
    let cert_file = folder.join("reader.pem");
    fs::write(&cert_file, cert.pem() + &signing_key.serialize_pem())?;
    Ok(Security {
        trust: Trust::Authorities {
            ca_file: Some(folder.join(GATEWAY_CERTIFICATE)),
            server_name: NAME.parse::<HostName>().ok(),
            thumbprints: Vec::new(),
        },
        auth: Auth::ClientCertificate(ClientCertificate::Pem {
            key_file: cert_file.clone(),
            cert_file,
        }),
        tls_max_version: None,
    })
}

/// CPU seconds of the cheapest first cycle, and what one of them asked.
async fn cycle(
    secured: Option<&Path>,
    security: &Security,
) -> io::Result<(f64, BTreeMap<String, u32>)> {
    let mut cpu = f64::INFINITY;
    let mut asked = BTreeMap::new();
    for _ in 0..RUNS {
        let simulated = Cluster::start(PARTITIONS, LATENCY, secured)?;
        let snapshot = Arc::new(Snapshot::empty("prod".into()));
        let (published, snapshots) = tokio::sync::watch::channel(snapshot);
        let poller = poller(&simulated.url, security.clone(), published);
        let before = cpu_seconds("self");
        poller.cycle(Duration::ZERO).await;
        cpu = cpu.min(cpu_seconds("self") - before);
        let known = snapshots.borrow().partitions.len();
        assert_eq!(known, PARTITIONS, "every partition is known");
        asked = simulated.stop()?;
    }
    Ok((cpu, asked))
}

/// What a login costs, the first one and the others.
async fn passwords(folder: &Path, figures: &mut Figures) -> io::Result<()> {
    let hash = bcrypt::hash(PASSWORD, COST).map_err(io::Error::other)?;
    let file = folder.join("web.yml");
    fs::write(&file, format!("basic_auth_users: {{scraper: {hash}}}\n"))?;
    let page = || {
        let live = Arc::new(ReloadableWebConfig::open(&file).map_err(io::Error::other)?);
        let router = Router::new().route("/", axum::routing::get(|| async {}));
        io::Result::Ok(guarded(router, Some(live), 512))
    };
    let before = cpu_seconds("self");
    for _ in 0..COLD {
        log_in(&mut page()?, 1).await;
    }
    let cold = (cpu_seconds("self") - before) / f64::from(COLD);
    let mut router = page()?;
    log_in(&mut router, 1).await;
    let before = cpu_seconds("self");
    log_in(&mut router, WARM).await;
    let warm = (cpu_seconds("self") - before) / f64::from(WARM);
    Figures::title("A scrape with a password of bcrypt cost 10");
    Figures::row("CPU of the first one", cold * 1e3, "ms");
    Figures::row("CPU of each one after that", warm * 1e3, "ms");
    figures.promise("after / first", warm / cold, 0.01, "");
    Ok(())
}

async fn log_in(router: &mut Router, times: u32) {
    for _ in 0..times {
        let request = Request::builder()
            .header("authorization", AUTHORIZATION)
            .body(axum::body::Body::empty());
        let request = request.expect("the request is well formed");
        let response = router.call(request).await.expect("a router does not fail");
        assert_eq!(response.status(), StatusCode::OK, "the password is right");
    }
}
