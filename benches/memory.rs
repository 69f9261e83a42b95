//! Resident memory of the exporter process with 100,000 partitions and all collectors, without scrapes, and the
//! memory that scrapes add. The simulated cluster is a process of its own.

mod cluster;
mod figures;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};
use std::time::Duration;

use cluster::{Cluster, cpu_seconds};
use figures::Figures;

const PARTITIONS: usize = 100_000;

/// Cycles before the memory is measured.
const CYCLES: usize = 4;

/// The compressed page is always in memory: 82 MiB with collector history.
const UNSCRAPED_LIMIT: f64 = 250.0 + 82.0;

const MIB: f64 = 1024.0 * 1024.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(code) = cluster::served(&arguments) {
        return code;
    }
    if !figures::wanted() {
        return ExitCode::SUCCESS;
    }
    let figures = measure().expect("the exporter and the cluster run");
    figures.verdict()
}

fn measure() -> io::Result<Figures> {
    let mut figures = Figures::default();
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(PARTITIONS, Duration::ZERO, None)?;
    let mut exporter = Exporter::start(folder.path(), &cluster.url)?;
    unscraped(&mut exporter, &mut figures)?;
    Figures::title("What scrapes add");
    for (name, encoding) in [("gzip", "gzip"), ("no compression", "identity")] {
        scraped_once(&mut exporter, name, encoding, &mut figures)?;
    }
    scraped_each_cycle(&mut exporter)?;
    let state = fs::metadata(folder.path().join("state.json"))?.len();
    Figures::row("state file", mebibytes(state), "MiB");
    cluster.stop()?;
    Ok(figures)
}

fn unscraped(exporter: &mut Exporter, figures: &mut Figures) -> io::Result<()> {
    Figures::title("The exporter with 100,000 partitions, no scrapes");
    let mut before = 0.0;
    for cycle in 1..=CYCLES {
        before = cpu_seconds(&exporter.id());
        exporter.await_cycle()?;
        let name = format!("resident after {cycle} cycles");
        if cycle == CYCLES {
            figures.promise(&name, exporter.resident()?, UNSCRAPED_LIMIT, "MiB");
        } else {
            Figures::row(&name, exporter.resident()?, "MiB");
        }
    }
    figures.promise("peak until then", exporter.peak()?, UNSCRAPED_LIMIT, "MiB");
    let cpu = cpu_seconds(&exporter.id()) - before;
    Figures::row("CPU of a cycle", cpu, "s");
    Ok(())
}

/// The first scrape after a cycle and the one after that. Neither encodes the cycle.
fn scraped_once(
    exporter: &mut Exporter,
    name: &str,
    encoding: &str,
    figures: &mut Figures,
) -> io::Result<()> {
    exporter.await_cycle()?;
    let resident = exporter.resident()?;
    exporter.forget_peak()?;
    let cpu = cpu_seconds(&exporter.id());
    let body = exporter.scrape(encoding)?;
    let cpu = cpu_seconds(&exporter.id()) - cpu;
    let added = exporter.peak()? - resident;
    let stays = exporter.resident()? - resident;
    Figures::row(&format!("{name}: body"), body, "MiB");
    Figures::row(&format!("{name}: added at the peak"), added, "MiB");
    if encoding == "identity" {
        // The body is decompressed while it is sent.
        figures.promise("no compression: added / body", added / body, 0.25, "");
    }
    Figures::row(&format!("{name}: stays"), stays, "MiB");
    Figures::row(&format!("{name}: CPU"), cpu, "s");
    let resident = exporter.resident()?;
    exporter.forget_peak()?;
    exporter.scrape(encoding)?;
    let added = exporter.peak()? - resident;
    Figures::row(&format!("{name}: added by the next one"), added, "MiB");
    Ok(())
}

fn scraped_each_cycle(exporter: &mut Exporter) -> io::Result<()> {
    for _ in 0..2 {
        exporter.await_cycle()?;
        exporter.scrape("gzip")?;
    }
    exporter.forget_peak()?;
    exporter.await_cycle()?;
    exporter.scrape("gzip")?;
    let (resident, peak) = (exporter.resident()?, exporter.peak()?);
    Figures::row("resident, scraped each cycle with gzip", resident, "MiB");
    Figures::row("peak over a cycle, scraped with gzip", peak, "MiB");
    Ok(())
}

/// The exporter, as it is released.
struct Exporter {
    process: Child,
    log: BufReader<ChildStderr>,
    port: u16,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Exporter {
    fn start(folder: &Path, cluster: &str) -> io::Result<Self> {
        let config = folder.join("exporter.yml");
        fs::write(
            &config,
            format!(
                "poll: {{interval: 30s}}\nstate_file: state.json\n\
                 clusters: [{{name: prod, endpoints: [\"{cluster}\"], \
                 collectors: {{history: true}}}}]\n"
            ),
        )?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut process = Command::new(env!("CARGO_BIN_EXE_servicefabric-backup-exporter"))
            .arg("--config.file")
            .arg(&config)
            .arg(format!("--web.listen-address={free}"))
            .arg("--log.level=debug")
            .stderr(Stdio::piped())
            .spawn()?;
        let log = BufReader::new(process.stderr.take().expect("it is piped"));
        Ok(Self {
            process,
            log,
            port: free.port(),
        })
    }

    fn id(&self) -> String {
        self.process.id().to_string()
    }

    /// Waits for the end of the next cycle, and until what it found has been saved.
    fn await_cycle(&mut self) -> io::Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.log.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the exporter has ended"));
            }
            if line.contains(&format!("facts of {PARTITIONS} partitions")) {
                std::thread::sleep(Duration::from_secs(3));
                return Ok(());
            }
        }
    }

    /// Resident memory now, in MiB.
    fn resident(&self) -> io::Result<f64> {
        self.status("VmRSS:")
    }

    /// The most resident memory since [`Self::forget_peak`], in MiB.
    fn peak(&self) -> io::Result<f64> {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> io::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0)
            .ok_or_else(|| io::Error::other("a status without this line"))
    }

    fn forget_peak(&self) -> io::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.id()), "5")
    }

    /// Scrapes and forgets the page. Returns the size of the body, in MiB.
    fn scrape(&self, encoding: &str) -> io::Result<f64> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {encoding}\r\n\
             Connection: close\r\n\r\n"
        )?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let length = io::copy(&mut reader.by_ref(), &mut io::sink())?;
        Ok(mebibytes(length))
    }
}

fn mebibytes(bytes: u64) -> f64 {
    u32::try_from(bytes).map_or(f64::NAN, f64::from) / MIB
}
