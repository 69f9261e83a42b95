//! A table of figures on standard output, and the promises among them.
//!
//! A promise that is not kept makes the bench fail. Promises are sizes, CPU seconds and ratios of
//! two figures of the same run: wall time alone says more of the machine than of the program.

use std::process::ExitCode;

/// The figures of one bench.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    broken: Vec<String>,
}

/// Whether this process was started to measure: `cargo test --all-targets` starts benches, too.
pub(crate) fn wanted() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

#[expect(clippy::print_stdout, reason = "the table is what a bench is for")]
impl Figures {
    /// Starts a table.
    pub(crate) fn title(title: &str) {
        println!("\n{title}");
    }

    /// A figure that nothing is promised of.
    pub(crate) fn row(name: &str, value: f64, unit: &str) {
        println!("  {name:<68} {value:>11.3} {unit}");
    }

    /// A figure that must not exceed `limit`.
    pub(crate) fn promise(&mut self, name: &str, value: f64, limit: f64, unit: &str) {
        println!("  {name:<68} {value:>11.3} {unit} (at most {limit})");
        // A figure that is no number is no success.
        if value.is_nan() || value > limit {
            self.broken.push(format!("{name}: {value:.3} > {limit}"));
        }
    }

    /// Failure when a promise was broken.
    pub(crate) fn verdict(self) -> ExitCode {
        for broken in &self.broken {
            println!("BROKEN: {broken}");
        }
        if self.broken.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
