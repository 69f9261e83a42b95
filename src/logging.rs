//! Logging: one line per event on standard error, as logfmt or JSON.
//!
//! Both formats have the keys of Prometheus' own logs: `ts`, `level`, `component`, `msg`, then the
//! fields of the event. Control characters are escaped. If standard error is closed or full, lines are
//! lost. Events of libraries are logged from `warn`.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::panic::{self, PanicHookInfo};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber, error};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock;

/// Prefix of the targets of this crate.
const CRATE: &str = "servicefabric_backup_exporter";

/// Log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `key=value`.
    Logfmt,
    /// One JSON object per line.
    Json,
}

/// Minimum severity to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Poll cycles and failed requests.
    Debug,
    /// Start, reloads, recoveries.
    Info,
    /// Problems that need attention.
    Warn,
    /// Problems that need action.
    Error,
}

/// Installs the logger and the panic hook of this process.
pub fn start(level: Level, format: Format) {
    let level = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    };
    let targets = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target(CRATE, level);
    tracing_subscriber::registry()
        .with(Lines(format).with_filter(targets))
        .init();
    panic::set_hook(Box::new(log_panic));
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic_message(panic.payload());
    let location = panic.location().map(ToString::to_string);
    let location = location.as_deref().unwrap_or("an unknown location");
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    error!(
        location,
        backtrace = captured.then(|| display(&backtrace)),
        "Panicked at {location}: {text}"
    );
}

/// Writes each event as one line.
struct Lines(Format);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = line(self.0, &entries(event, clock::now()));
        // There is nowhere to report that the log cannot be written.
        drop(io::stderr().write_all(line.as_bytes()));
    }
}

fn entries(event: &Event<'_>, now: DateTime<Utc>) -> Vec<(&'static str, Value)> {
    let metadata = event.metadata();
    let mut fields = Fields::default();
    event.record(&mut fields);
    let mut entries = vec![
        (
            "ts",
            now.to_rfc3339_opts(SecondsFormat::Millis, true).into(),
        ),
        ("level", metadata.level().as_str().to_lowercase().into()),
        ("component", component(metadata.target()).into()),
        ("msg", fields.message.into()),
    ];
    entries.extend(fields.others);
    entries
}

/// The component of the exporter that has this target.
fn component(target: &str) -> &str {
    let Some(path) = target.strip_prefix(CRATE) else {
        return target.split("::").next().unwrap_or(target);
    };
    match path.trim_start_matches("::") {
        "" | "run" => "main",
        "run::memory" => "state",
        path => path.split("::").next().unwrap_or(path),
    }
}

/// The fields of one event in order.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.push((field.name(), value.into()));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.push(field, chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.push(field, text);
        }
    }
}

/// A line with its line feed.
fn line(format: Format, entries: &[(&str, Value)]) -> String {
    let line = match format {
        Format::Json => {
            let members = entries
                .iter()
                .map(|(key, value)| format!("{}:{value}", Value::from(*key)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Format::Logfmt => {
            let pairs = entries
                .iter()
                .map(|(key, value)| format!("{key}={}", logfmt(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
    };
    escaped(&line) + "\n"
}

/// Quotes the value as a JSON string where needed, as go-logfmt does.
fn logfmt(value: &Value) -> String {
    let special = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '=' | '"');
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(special) => text.clone(),
        value => value.to_string(),
    }
}

/// Escapes DEL, C1 controls and Unicode line separators, which JSON allows, but terminals and log
/// collectors interpret. They occur in quoted values only.
fn escaped(line: &str) -> String {
    let mut text = String::with_capacity(line.len() + 1);
    for c in line.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            write!(text, "\\u{:04x}", u32::from(c)).expect("writing to a String cannot fail");
        } else {
            text.push(c);
        }
    }
    text
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
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Self>>);

    #[test]
    fn chain_contains_each_cause_once() {
        let last = Link("the end", None);
        let quoted = Link("unknown", Some(Box::new(last)));
        let quoting = Link("failed: unknown (18)", Some(Box::new(quoted)));
        assert_eq!(chain(&quoting), "failed: unknown (18): the end");
    }

    #[test]
    fn components_are_named_after_modules() {
        for (target, expected) in [
            ("servicefabric_backup_exporter", "main"),
            ("servicefabric_backup_exporter::run", "main"),
            ("servicefabric_backup_exporter::run::memory", "state"),
            ("servicefabric_backup_exporter::gateway::token", "gateway"),
            ("servicefabric_backup_exporter::fleet", "fleet"),
            ("hyper::proto::h1", "hyper"),
            ("", ""),
        ] {
            assert_eq!(component(target), expected, "{target}");
        }
    }

    #[test]
    fn logfmt_quotes_only_where_needed() {
        let entries = [
            ("plain", Value::from(r"C:\temp")),
            ("empty", Value::from("")),
            ("text", Value::from("a \"b\"\n=\u{9b}31m")),
            ("number", Value::from(5)),
            ("float", Value::from(0.5)),
            ("flag", Value::from(true)),
        ];
        let expected = "plain=C:\\temp empty=\"\" text=\"a \\\"b\\\"\\n=\\u009b31m\" number=5 \
                        float=0.5 flag=true\n";
        assert_eq!(line(Format::Logfmt, &entries), expected);
    }

    /// Reads a line of logfmt as its specification says, with quoted values in the syntax of JSON.
    fn parsed(line: &str) -> Vec<(String, String)> {
        let mut rest = line.strip_suffix('\n').unwrap();
        let mut pairs = Vec::new();
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=').unwrap();
            let (value, after) = if after.starts_with('"') {
                let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
                let value = values.next().unwrap().unwrap();
                (value, after.split_at(values.byte_offset()).1)
            } else {
                let end = after.find(' ').unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                (value.to_owned(), after)
            };
            pairs.push((key.to_owned(), value));
            rest = after.strip_prefix(' ').unwrap_or(after);
        }
        pairs
    }

    proptest! {
        #[test]
        fn a_line_is_one_line_and_gives_back_every_value(
            values in prop::collection::vec("(\\PC|\\p{C}|[ =\"\\\\\n\r\t\u{1b}\u{7f}\u{85}\u{2028}]){0,20}", 1..5),
        ) {
            let entries: Vec<_> = values.iter().map(|text| ("key", Value::from(&**text))).collect();
            for format in [Format::Json, Format::Logfmt] {
                let line = line(format, &entries);
                let body = line.strip_suffix('\n').unwrap();
                prop_assert!(!body.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line:?}");
            }
            let expected: Vec<_> = values.iter().map(|text| ("key".to_owned(), text.clone())).collect();
            prop_assert_eq!(parsed(&line(Format::Logfmt, &entries)), expected);
            let object = line(Format::Json, &entries[..1]);
            let object: Value = serde_json::from_str(&object).unwrap();
            prop_assert_eq!(object, serde_json::json!({"key": values[0]}));
        }
    }
}
