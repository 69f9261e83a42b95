//! From what a cycle observed to the bytes of `/metrics` and of the state file, for 100,000
//! partitions: CPU seconds of one thread, and the encoder against a loop written by hand.
//!
//! The encoder compresses as it writes, and most of its time is that. So the loop by hand is
//! followed by the same compression before the two are compared: a difference of the two would be
//! smaller than its error.

mod by_hand;
#[path = "../figures/mod.rs"]
mod figures;
mod observed;

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use servicefabric_backup_exporter::cluster_view::{ClusterView, ViewSettings};
use servicefabric_backup_exporter::exposition::negotiation::Format;
use servicefabric_backup_exporter::exposition::{EncodedCluster, Page, Text};
use servicefabric_backup_exporter::inventory::Shard;
use servicefabric_backup_exporter::protection::Rules;
use servicefabric_backup_exporter::settings::States;
use servicefabric_backup_exporter::snapshot::{Observations, Snapshot};
use servicefabric_backup_exporter::state_file::{self, StateFile};
use servicefabric_backup_exporter::telemetry::{Process, Reload, Telemetry};

use figures::Figures;

const PARTITIONS: u32 = 100_000;

/// Runs of which the best one counts: whatever else the machine does only makes them longer.
const RUNS: u32 = 5;

const MB: f64 = 1e6;

fn main() -> ExitCode {
    if !figures::wanted() {
        return ExitCode::SUCCESS;
    }
    let mut figures = Figures::default();
    let (snapshot, parts) = advance();
    Figures::title("A cycle: what was observed is taken in");
    for (name, time) in PARTS.into_iter().zip(parts) {
        Figures::row(name, time, "CPU s");
    }
    let advance = parts.iter().sum();
    figures.promise("advance, all of it", advance, 0.5, "CPU s");
    let histories = observed::histories(PARTITIONS, 11 + RUNS, now());
    let complete = Arc::new(snapshot.advance(histories, now()));
    let encode = page(&complete, &mut figures);
    Figures::title("A cycle, from what was observed to the page");
    figures.promise(
        "advance, encode and compress",
        advance + encode,
        4.0,
        "CPU s",
    );
    states(&snapshot, "the default collectors");
    states(&complete, "history as well");
    state_file(&snapshot);
    figures.verdict()
}

/// CPU seconds of this thread so far.
fn cpu() -> f64 {
    let times = fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
    let nanoseconds = times
        .split(' ')
        .next()
        .and_then(|field| field.parse::<f64>().ok());
    nanoseconds.expect("the first field is the time on the CPU") / 1e9
}

/// The best CPU time of several runs, and what the last one returned.
fn best_of<T>(mut run: impl FnMut() -> T) -> (f64, T) {
    let mut best = f64::INFINITY;
    let mut timed = || {
        let start = cpu();
        let result = run();
        best = best.min(cpu() - start);
        result
    };
    for _ in 1..RUNS {
        drop(timed());
    }
    let result = timed();
    (best, result)
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 0).expect("it is a time")
}

/// What a cycle publishes, in that order.
const PARTS: [&str; 4] = [
    "inventory and policies",
    "settings of every application",
    "progress, health and restores",
    "lists of the newest backups",
];

/// Runs cycles as the poller does. Returns the last snapshot and the CPU time of the best cycle
/// after the first, by part.
fn advance() -> (Arc<Snapshot>, [f64; PARTS.len()]) {
    let mut snapshot = Arc::new(Snapshot::empty("prod".into()));
    let mut best = [f64::INFINITY; PARTS.len()];
    for round in 10..12 + RUNS {
        let now = start() + TimeDelta::minutes(i64::from(round));
        let parts: [Observations; PARTS.len()] = observed::cycle(PARTITIONS, round, now);
        let end = now + TimeDelta::seconds(50);
        let mut times = [0.0; PARTS.len()];
        for (part, time) in parts.into_iter().zip(&mut times) {
            let before = cpu();
            snapshot = Arc::new(snapshot.advance(part, end));
            *time = cpu() - before;
        }
        if round > 10 && times.iter().sum::<f64>() < best.iter().sum() {
            best = times;
        }
    }
    (snapshot, best)
}

fn now() -> DateTime<Utc> {
    start() + TimeDelta::minutes(i64::from(12 + RUNS))
}

const RULES: Rules = Rules {
    staleness: TimeDelta::minutes(5),
    list_staleness: TimeDelta::minutes(30),
    overdue_allowance: TimeDelta::minutes(15),
    run_tolerance: TimeDelta::minutes(1),
    stuck_after: TimeDelta::minutes(15),
    expected_interval: None,
    reads_configuration: true,
    reads_lists: true,
};

fn view(snapshot: &Arc<Snapshot>, states: States, now: DateTime<Utc>) -> ClusterView {
    let settings = ViewSettings {
        rules: RULES,
        states,
    };
    ClusterView::new(Arc::clone(snapshot), settings, now)
}

fn process() -> Arc<Process> {
    let telemetry = Arc::new(Telemetry::default());
    telemetry.watch_cluster(&"prod".into(), &["timeout"]);
    Arc::new(Process {
        telemetry,
        reload: Reload {
            successful: true,
            succeeded_at: start(),
        },
        web_certificate_expiry: None,
        shard: Shard::default(),
        resources: metrics_process::collector::collect(),
    })
}

/// The page as one text.
fn plain(page: &Text) -> Vec<u8> {
    let portions: Vec<bytes::Bytes> = page.plain().collect();
    portions.concat()
}

/// Measures the page and compares it with the one written by hand. Returns the CPU time of
/// encoding and compressing.
fn page(snapshot: &Arc<Snapshot>, figures: &mut Figures) -> f64 {
    let format = Format::negotiate("application/openmetrics-text;version=1.0.0");
    let (now, process) = (now(), process());
    let encode = || {
        let view = view(snapshot, States::All, now);
        [Arc::new(EncodedCluster::encode(view, None))]
    };
    let (encoding, clusters) = best_of(encode);
    let scrape = |clusters: &[Arc<EncodedCluster>]| {
        let page = Page::assemble(clusters, &process, now).in_format(format);
        page.gzip()
    };
    let (first, (repeated, _)) = (first_scrape(encode, scrape), best_of(|| scrape(&clusters)));
    let (fresh, page) = best_of(|| Page::assemble(&clusters, &process, now));
    let page = page.in_format(format);
    let (inflating, _) = best_of(|| page.plain().map(|portion| portion.len()).sum::<usize>());
    let text = plain(&page);
    let (joining, chunks) = best_of(|| page.gzip());
    let compressed: usize = chunks.iter().map(bytes::Bytes::len).sum();
    let (compressing, _) = best_of(|| compress(&text));

    let blocks = by_hand::label_blocks(snapshot);
    let (by_hand, written) = best_of(|| by_hand::write(snapshot, &blocks, &RULES, now));
    let same = compared(&written, &text);

    Figures::title("The page of 100,000 partitions, metrics.states: all");
    Figures::row("body", megabytes(text.len()), "MB");
    Figures::row("body, gzip", megabytes(compressed), "MB");
    Figures::row(
        "part of the body that the loop by hand writes, same bytes",
        megabytes(same) / megabytes(text.len()),
        "",
    );
    Figures::row(
        "once per snapshot, in the background: evaluate, encode, compress",
        encoding,
        "CPU s",
    );
    Figures::row(
        "each scrape: encode and compress ages and process metrics",
        fresh,
        "CPU s",
    );
    Figures::row("first scrape after a cycle, gzip", first, "CPU s");
    Figures::row("repeated scrape, gzip", repeated, "CPU s");
    figures.promise("first scrape / repeated scrape", first / repeated, 1.5, "");
    let turning = changed_verdicts(snapshot, &clusters);
    Figures::row(
        "in the background, when a verdict changes with time",
        turning,
        "CPU s",
    );
    Figures::row("each scrape with gzip: join the segments", joining, "CPU s");
    Figures::row(
        "each scrape without: decompress the segments",
        inflating,
        "CPU s",
    );
    Figures::row("of it compressing, measured alone", compressing, "CPU s");
    Figures::row("the same lines by hand", by_hand, "CPU s");
    compare_by_hand(encoding + fresh, by_hand, compressing, figures);
    encoding + fresh
}

/// Compares the CPU times of the page with those of the loop by hand and of the compression alone.
fn compare_by_hand(page: f64, by_hand: f64, compressing: f64, figures: &mut Figures) {
    let compressed = "encode and compress / by hand, then compress";
    figures.promise(compressed, page / (by_hand + compressing), 2.0, "");
    let bare = "encode and compress / by hand, no compression";
    figures.promise(bare, page / by_hand, 5.0, "");
}

/// Compares the families written by hand with those of the page. Returns how long they are.
fn compared(written: &by_hand::Written, text: &[u8]) -> usize {
    let mut same = 0;
    for (name, range) in &written.families {
        let expected = written.text.get(range.clone());
        let expected = expected.expect("it lies in the text");
        // The last line break was cut off with the next header.
        let same_bytes = expected.strip_suffix(b"\n") == Some(samples(text, name));
        assert!(same_bytes, "{name} is written differently");
        same += expected.len();
    }
    same
}

/// The best CPU time of the first scrape of several encodings.
fn first_scrape<C, T>(encode: impl Fn() -> C, scrape: impl Fn(&[Arc<EncodedCluster>]) -> T) -> f64
where
    C: AsRef<[Arc<EncodedCluster>]>,
{
    let first = (0..RUNS).map(|_| {
        let encoded = encode();
        let start = cpu();
        drop(scrape(encoded.as_ref()));
        cpu() - start
    });
    first.fold(f64::INFINITY, f64::min)
}

/// CPU time of the encoding when the first verdict changes.
fn changed_verdicts(snapshot: &Arc<Snapshot>, clusters: &[Arc<EncodedCluster>]) -> f64 {
    let turn = view(snapshot, States::All, now()).valid_until();
    let turn = turn.expect("no verdict is valid for ever");
    let previous = clusters.first().expect("there is one cluster");
    let (encoding, _) = best_of(|| {
        let view = view(snapshot, States::All, turn);
        EncodedCluster::encode(view, Some(previous))
    });
    encoding
}

/// Compresses as the exporter does: at its level, in runs.
fn compress(text: &[u8]) -> usize {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(2));
    let mut checksum = crc32fast::Hasher::new();
    for run in text.chunks(64 * 1024) {
        checksum.update(run);
        encoder.write_all(run).expect("a Vec takes everything");
    }
    let deflate = encoder.finish().expect("a Vec takes everything");
    deflate.len()
}

/// The sample lines of one family of a page in OpenMetrics.
fn samples<'a>(text: &'a [u8], name: &str) -> &'a [u8] {
    let text = std::str::from_utf8(text).expect("a page is text");
    let mut suffixes = ["_total", "_info"].into_iter();
    let family = suffixes.find_map(|suffix| name.strip_suffix(suffix));
    let header = format!("# HELP {} ", family.unwrap_or(name));
    let (_, block) = text
        .split_once(&*header)
        .expect("the family is on the page");
    let block = block
        .split_once("\n# HELP ")
        .map_or(block, |(block, _)| block);
    let start = block
        .find(&*format!("\n{name}{{"))
        .map_or(block.len(), |at| at + 1);
    let samples = block.get(start..).unwrap_or_default();
    samples.as_bytes()
}

/// What `metrics.states` makes of the page.
fn states(snapshot: &Arc<Snapshot>, collectors: &str) {
    let format = Format::negotiate("");
    let thousands = f64::from(PARTITIONS) / 1000.0;
    for (mode, states) in [("all", States::All), ("current", States::Current)] {
        let encoded = EncodedCluster::encode(view(snapshot, states, now()), None);
        let page = Page::assemble(&[Arc::new(encoded)], &process(), now()).in_format(format);
        let text = plain(&page);
        let lines = text.split(|byte| *byte == b'\n');
        let samples = lines
            .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
            .count();
        let compressed: usize = page.gzip().iter().map(bytes::Bytes::len).sum();
        Figures::title(&format!(
            "For 1,000 partitions, {collectors}, metrics.states: {mode}"
        ));
        Figures::row("samples", number(samples) / thousands, "");
        Figures::row("body", megabytes(text.len()) / thousands, "MB");
        Figures::row("body, gzip", megabytes(compressed) / thousands, "MB");
    }
}

/// What the state file costs.
fn state_file(snapshot: &Arc<Snapshot>) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("state.json");
    let clusters = [Arc::clone(snapshot)];
    let (write, ()) = best_of(|| {
        let mut file = StateFile::new(path.clone());
        file.save(&clusters).expect("the state file can be written");
    });
    let length = fs::metadata(&path).expect("it is there").len();
    let (load, loaded) = best_of(|| state_file::load(&path, now()).expect("it can be read"));
    assert_eq!(loaded.clusters.len(), 1, "the state file is understood");
    Figures::title("The state file of 100,000 partitions");
    Figures::row(
        "size",
        megabytes(usize::try_from(length).expect("it fits")),
        "MB",
    );
    Figures::row("write", write, "CPU s");
    Figures::row("read", load, "CPU s");
}

fn megabytes(bytes: usize) -> f64 {
    number(bytes) / MB
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}
