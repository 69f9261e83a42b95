//! Arguments → exit code.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use servicefabric_backup_exporter::cli::{Arguments, Command, UsageError};
use servicefabric_backup_exporter::fleet::Unwatchable;
use servicefabric_backup_exporter::server::web_config::WebConfigError;
use servicefabric_backup_exporter::state_file::Unusable;
use servicefabric_backup_exporter::{config, demo, logging, run};
use tracing::error;

/// Wrong arguments or a wrong configuration (`EX_USAGE` of sysexits).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // As in `print`, a stream that is closed or full changes no exit code.
            drop(message.print());
            return if message.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let ended = match &arguments.command {
        Some(Command::CheckConfig) => check(&arguments),
        _ => start(&arguments).inspect_err(|error| {
            for line in format!("{error:#}").lines() {
                error!("Exiting: {line}");
            }
        }),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_a_misuse(&error) => ExitCode::from(USAGE),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Whether the arguments or one of the files are wrong.
fn is_a_misuse(error: &anyhow::Error) -> bool {
    error.is::<config::ConfigErrors>()
        || error.is::<Unwatchable>()
        || error.is::<WebConfigError>()
        || error.is::<UsageError>()
        || error.is::<Unusable>()
}

/// Prints the result of `check-config`.
fn check(arguments: &Arguments) -> anyhow::Result<()> {
    let warnings = run::check(arguments).inspect_err(|error| {
        print(io::stderr(), &format!("{error:#}"));
    })?;
    for warning in warnings {
        print(io::stdout(), &format!("warning: {warning}"));
    }
    let files = [Some(&*arguments.config_file), arguments.web_config_file()];
    for file in files.into_iter().flatten() {
        print(io::stdout(), &format!("{}: no fault found", file.display()));
    }
    Ok(())
}

/// Prints a line, or nothing when the stream is closed or full: the exit code has the result.
fn print(mut stream: impl Write, line: &str) {
    drop(writeln!(stream, "{line}"));
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    logging::start(arguments.log_level, arguments.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        match &arguments.command {
            None => run::exporter(arguments, run::Source::File, run::Signals::listen()?).await,
            Some(Command::Demo(shape)) => demo::demo(arguments, shape).await,
            Some(Command::Simulate(shape)) => demo::simulate(arguments, shape).await,
            Some(Command::CheckConfig) => Ok(()),
        }
    });
    // A thread that still encodes a page must not hold the exit up.
    runtime.shutdown_background();
    ended
}
