//! Arguments → exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use servicefabric_backup_exporter::cli::{Arguments, Command, UsageError};
use servicefabric_backup_exporter::fleet::Unwatchable;
use servicefabric_backup_exporter::server::live::OpenError;
use servicefabric_backup_exporter::state_file::Unusable;
use servicefabric_backup_exporter::{config, demo, logging, run};

/// Wrong arguments or a wrong configuration (`EX_USAGE` of sysexits).
const USAGE: u8 = 64;

#[expect(
    clippy::print_stderr,
    reason = "before and after the log there is only this"
)]
fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let printed = message.print().is_ok();
            return if printed && !message.use_stderr() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(USAGE)
            };
        }
    };
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            if is_a_misuse(&error) {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Whether the arguments or one of the files are wrong.
fn is_a_misuse(error: &anyhow::Error) -> bool {
    error.is::<config::Error>()
        || error.is::<Unwatchable>()
        || error.is::<OpenError>()
        || error.is::<UsageError>()
        || error.is::<Unusable>()
}

#[expect(clippy::print_stdout, reason = "the answer of check-config")]
fn start(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(Command::CheckConfig) = arguments.command {
        for warning in run::check(arguments)? {
            println!("warning: {warning}");
        }
        let files = [Some(&*arguments.config_file), arguments.web_config_file()];
        for file in files.into_iter().flatten() {
            println!("{}: no fault found", file.display());
        }
        return Ok(());
    }
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
