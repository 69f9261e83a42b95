//! Months of simulated time against a ground truth: how often is the verdict right?
//!
//! `cargo bench --bench accuracy` prints the tables of `docs/accuracy.md`; with `-- --write` it
//! writes them there. Fails when a promise of that document is broken. `--seed`, `--first`,
//! `--clusters`, `--partitions`, `--days`, `--threads` and `--unrest` take numbers for another run,
//! and `--explain` shows the evidence of each kind of error.

mod report;
mod simulation;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use simulation::promises::{Limits, broken};
use simulation::{Plan, run};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/accuracy.md");

/// What `docs/accuracy.md` promises.
const PROMISED: Limits = Limits {
    in_time: 0.99,
    false_alarms: 1.0,
};

#[expect(clippy::print_stdout, reason = "the tables are what a bench is for")]
fn main() -> ExitCode {
    // `cargo test --all-targets` starts benches, too.
    if !has("--bench") {
        return ExitCode::SUCCESS;
    }
    let plan = Plan {
        seed: number("--seed", 1),
        first: number("--first", 0),
        clusters: number("--clusters", 16),
        partitions: number("--partitions", 125),
        days: number("--days", 35),
        threads: number("--threads", 2),
        unrest: number("--unrest", 1.0),
        explains: has("--explain"),
    };
    let started = Instant::now();
    let tally = run(&plan);
    for note in &tally.notes {
        println!("{note}\n");
    }
    println!("{}", report::figures(&plan, &tally));
    println!("It took {:.0} s.", started.elapsed().as_secs_f64());
    if has("--write") {
        report::write(Path::new(DOCUMENT), &plan, &tally).expect("the document can be written");
    }
    let broken = broken(&tally, PROMISED);
    for promise in &broken {
        println!("BROKEN: {promise}");
    }
    if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn has(flag: &str) -> bool {
    std::env::args().any(|argument| argument == flag)
}

fn number<T: std::str::FromStr>(flag: &str, default: T) -> T {
    let mut arguments = std::env::args().skip_while(|argument| argument != flag);
    let number = arguments.nth(1).and_then(|text| text.parse().ok());
    number.unwrap_or(default)
}
