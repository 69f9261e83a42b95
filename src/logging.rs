//! The log of the process: one line an event, as logfmt or JSON, on standard error.
//!
//! Sets the subscriber up and nothing else. Libraries below warnings stay silent: what they have
//! to say at other levels is of no use to an operator.

use std::io;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `key=value`, as Prometheus itself logs.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// The least severe events that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Every request that failed.
    Debug,
    /// One line a poll cycle.
    Info,
    /// What somebody should know.
    Warn,
    /// What somebody must act on.
    Error,
}

/// Sends the events of this process to standard error from now on.
pub fn start(level: Level, format: Format) {
    tracing_subscriber::registry()
        .with(layer(level, format))
        .init();
}

fn layer<S>(level: Level, format: Format) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let level = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    };
    let ours = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("servicefabric_backup_exporter", level);
    match format {
        Format::Logfmt => tracing_logfmt::builder()
            .with_target(false)
            .layer()
            .with_writer(io::stderr)
            .with_filter(ours)
            .boxed(),
        Format::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_writer(io::stderr)
            .with_filter(ours)
            .boxed(),
    }
}
