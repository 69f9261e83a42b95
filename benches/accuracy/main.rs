//! Ninety simulated days against a ground truth: how often is the verdict right?
//!
//! `cargo bench --bench accuracy` prints the tables of `docs/accuracy.md`; with `-- --write` it
//! writes them there. Fails when a promise of that document is broken.

mod simulation;

use std::process::ExitCode;

use simulation::{Plan, run};

fn main() -> ExitCode {
    let number = |name: &str, default: usize| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name);
        arguments
            .nth(1)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let plan = Plan {
        seed: 1,
        first: number("--first", 0),
        clusters: number("--clusters", 16),
        partitions: number("--partitions", 125),
        days: i64::try_from(number("--days", 90)).unwrap_or(90),
        threads: number("--threads", 2),
        explains: std::env::args().any(|argument| argument == "--explain"),
    };
    let started = std::time::Instant::now();
    let tally = run(&plan);
    for note in &tally.notes {
        println!("{note}\n");
    }
    println!("{:?}", started.elapsed());
    println!(
        "looks {} down {} lies {}",
        tally.looks(),
        tally.down,
        tally.protected_in_breach
    );
    for ((t, s), n) in &tally.minutes {
        println!("{t:?} {s:?} {n}");
    }
    for o in 0..3 {
        let d = tally.delays(o);
        println!(
            "{} missed {} of {} p50 {:?} p99 {:?} in time {} false {} rate {} alarms {}",
            simulation::tally::OBSERVERS[o],
            tally.missed(o),
            tally.breaches.len(),
            d.get(d.len() / 2),
            d.get(d.len() * 99 / 100),
            tally.in_time(o),
            tally.false_alarms[o],
            tally.false_rate(o),
            tally.alarms[o]
        );
    }
    println!("{:?}", tally.reasons);
    ExitCode::SUCCESS
}
