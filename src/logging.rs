//! The log of the process: one line an event, as logfmt or JSON, on standard error.
//!
//! Sets the subscriber up, and says how an error stands in a line. Libraries below warnings stay
//! silent: what they have to say at other levels is of no use to an operator.

use std::error::Error;
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

/// An error with all its causes. One whose words stand there already is not repeated: errors of
/// TLS libraries quote what they carry.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Self>>);

    #[test]
    fn an_error_is_told_with_its_causes_and_nothing_twice() {
        let last = Link("the end", None);
        let quoted = Link("unknown", Some(Box::new(last)));
        let quoting = Link("failed: unknown (18)", Some(Box::new(quoted)));
        assert_eq!(chain(&quoting), "failed: unknown (18): the end");
    }
}
