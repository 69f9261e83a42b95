//! The configuration: what is written in the file → settings that are valid.
//!
//! Every key, every default and every rule stands in this file: a setting is one field, one
//! default and the one line that reads it. A [`Config`] that exists is valid; when something is
//! wrong there is none, and the [`Error`] lists everything that is wrong, with its place, and not
//! only the first. Reading the file is the only I/O.

mod document;
mod fault;
mod reader;
mod selector;
mod unknown_key;
mod values;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use self::document::Value;
pub use self::fault::Error;
use self::fault::{Fault, Position};
use self::reader::{Reader, Section};
pub use self::selector::Selector;
use self::values::spelled;
use crate::model::PartitionId;

/// Largest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What to write when there is nothing yet.
const SMALLEST: &str =
    "write for example `clusters: [{name: prod, endpoints: [\"http://node1:19080\"]}]`";

/// Everything that the file can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How the clusters are asked.
    pub poll: Poll,
    /// By what partitions are judged.
    pub protection: Protection,
    /// What is exposed.
    pub metrics: Metrics,
    /// Where the last successes are kept over restarts; nowhere when `None`.
    pub state_file: Option<PathBuf>,
    /// At least one, each with a name of its own.
    pub clusters: Vec<Cluster>,
}

/// How the clusters are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// From the start of one cycle to the start of the next.
    pub interval: Duration,
    /// From one reading of the lists of backups to the next.
    pub backups_interval: Duration,
    /// What one request may take; at most the interval.
    pub timeout: Duration,
    /// Requests in flight per cluster.
    pub concurrency: usize,
    /// Observations older than this are no longer believed; at least the interval.
    pub staleness: Duration,
}

/// By what partitions are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Grace after the due moment before a backup counts as overdue.
    pub overdue_allowance: Duration,
    /// The longest that a requested backup may take before it counts as stuck.
    pub stuck_after: Duration,
}

/// What is exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Which samples a state metric has.
    pub states: States,
}

/// Which samples a state metric has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum States {
    /// One for each state: 1 for the current one, 0 for the others.
    All,
    /// Only the one of the current state.
    Current,
}

/// One Service Fabric cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The value of the label `cluster`.
    pub name: Arc<str>,
    /// Gateways of its nodes: scheme, host and port; at least one.
    pub endpoints: Vec<Url>,
    /// Exactly these are watched; when empty, what is discovered and selected.
    pub partitions: Vec<PartitionId>,
    /// Which applications are discovered.
    pub applications: Selector,
    /// Which services are discovered.
    pub services: Selector,
    /// How often a backup is expected where no policy applies; `None` expects none.
    pub expected_interval: Option<Duration>,
    /// What is read.
    pub collectors: Collectors,
}

/// What is read of a cluster, besides its inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one switch for each collector"
)]
pub struct Collectors {
    /// The last requested backup of every partition.
    pub progress: bool,
    /// The last restore of every partition.
    pub restore: bool,
    /// The last periodic backup of every partition, from the health store.
    pub health: bool,
    /// What is protected by which policy, and what is suspended.
    pub configuration: bool,
    /// All policies.
    pub policies: bool,
    /// The newest backup of every partition in the store.
    pub backups: bool,
    /// All backups in the store.
    pub history: bool,
}

// Every default stands from here …

impl Default for Poll {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            backups_interval: Duration::from_secs(15 * 60),
            timeout: Duration::from_secs(10),
            concurrency: 16,
            staleness: Duration::from_secs(5 * 60),
        }
    }
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            overdue_allowance: Duration::from_secs(15 * 60),
            stuck_after: Duration::from_secs(15 * 60),
        }
    }
}

impl Default for Collectors {
    fn default() -> Self {
        Self {
            progress: true,
            restore: true,
            health: true,
            configuration: true,
            policies: true,
            backups: true,
            history: false,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            states: States::All,
        }
    }
}

const STATE_FILE: Option<PathBuf> = None;

const PARTITIONS: Vec<PartitionId> = Vec::new();

const EXPECTED_INTERVAL: Option<Duration> = None;

const INCLUDE: &str = ".*";

impl Default for Selector {
    fn default() -> Self {
        Self::new(&[INCLUDE.to_owned()], &[]).expect("the default selector is a valid one")
    }
}

// … to here.

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = contents(path).map_err(|fault| Error::new(path, vec![fault]))?;
        Self::parse(&text, path)
    }

    /// Checks `text`, which stands in the file `origin`: messages name that file, and relative
    /// paths start in its folder. Nothing is read.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, Error> {
        let folder = origin.parent().unwrap_or_else(|| Path::new(""));
        let (config, reader) =
            interpret(text, folder).map_err(|fault| Error::new(origin, vec![fault]))?;
        if reader.faults.is_empty() {
            Ok(config)
        } else {
            Err(Error::new(origin, reader.faults))
        }
    }
}

fn contents(path: &Path) -> Result<String, Fault> {
    let bytes = bytes(path).map_err(|error| {
        Fault::unread(format!(
            "the file cannot be read: {error}; check the path and that the exporter may read it"
        ))
    })?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(Fault::unread(
            "the file is larger than 1 MiB; is it a configuration?",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to());
        let message = "the file is not UTF-8 from here on; save it as UTF-8";
        Fault::new(Position::after(valid.unwrap_or_default()), "", message)
    })
}

/// The file, or as much of it as proves that it is too large.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn interpret(text: &str, folder: &Path) -> Result<(Config, Reader), Fault> {
    let root = document::parse(text)?;
    if matches!(root.value, Value::Null) {
        let message = format!("the file is empty; {SMALLEST}");
        return Err(Fault::new(Position::START, "", message));
    }
    Ok(reader::read(&root, |s| Config::read(s, folder)))
}

impl Config {
    fn read(s: &mut Section<'_>, folder: &Path) -> Self {
        let mut names = HashSet::new();
        s.require("clusters", SMALLEST);
        Self {
            poll: s.section("poll", Poll::read),
            protection: s.section("protection", Protection::read),
            metrics: s.section("metrics", Metrics::read),
            state_file: s.value("state_file", STATE_FILE, |text| Ok(path(text, folder))),
            clusters: s.sections("clusters", |s| Cluster::read(s, &mut names)),
        }
    }
}

impl Poll {
    fn read(s: &mut Section<'_>) -> Self {
        let faults = s.fault_count();
        let default = Self::default();
        let poll = Self {
            interval: s.value("interval", default.interval, values::duration),
            backups_interval: s.value(
                "backups_interval",
                default.backups_interval,
                values::duration,
            ),
            timeout: s.value("timeout", default.timeout, values::duration),
            concurrency: s.value("concurrency", default.concurrency, |text| {
                values::number(text, &(1..=1024))
            }),
            staleness: s.value("staleness", default.staleness, values::duration),
        };
        if s.fault_count() == faults {
            poll.compare(s);
        }
        poll
    }

    /// Rules about two settings at once; a default may be one of the two.
    fn compare(self, s: &mut Section<'_>) {
        let interval = spelled(self.interval);
        let of = |key: &'static str, value, s: &Section<'_>| {
            let origin = if s.has(key) { "" } else { " (the default)" };
            format!("{}{origin}", spelled(value))
        };
        if self.timeout > self.interval {
            let timeout = of("timeout", self.timeout, s);
            let message = format!(
                "{timeout} is longer than the interval of {}; write {interval} or less",
                of("interval", self.interval, s)
            );
            s.fault("timeout", message);
        }
        if self.staleness < self.interval {
            let staleness = of("staleness", self.staleness, s);
            let message = format!(
                "{staleness} is shorter than the interval of {}, so everything would be stale \
                 before it is asked again; write {} or more",
                of("interval", self.interval, s),
                spelled(self.interval * 2),
            );
            s.fault("staleness", message);
        }
    }
}

impl Protection {
    fn read(s: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self {
            overdue_allowance: s.value(
                "overdue_allowance",
                default.overdue_allowance,
                values::duration,
            ),
            stuck_after: s.value("stuck_after", default.stuck_after, values::duration),
        }
    }
}

impl Collectors {
    fn read(s: &mut Section<'_>) -> Self {
        let default = Self::default();
        let mut switch = |key, default| {
            let words = [("true", true), ("false", false)];
            s.value(key, default, |text| values::word(text, &words))
        };
        Self {
            progress: switch("progress", default.progress),
            restore: switch("restore", default.restore),
            health: switch("health", default.health),
            configuration: switch("configuration", default.configuration),
            policies: switch("policies", default.policies),
            backups: switch("backups", default.backups),
            history: switch("history", default.history),
        }
    }
}

impl Metrics {
    fn read(s: &mut Section<'_>) -> Self {
        let default = Self::default();
        let states = [("all", States::All), ("current", States::Current)];
        Self {
            states: s.value("states", default.states, |text| values::word(text, &states)),
        }
    }
}

impl Cluster {
    fn read(s: &mut Section<'_>, names: &mut HashSet<Arc<str>>) -> Self {
        s.require("name", "write for example `name: prod`");
        s.require(
            "endpoints",
            "write for example `endpoints: [\"http://node1:19080\"]`",
        );
        let name = s.value("name", Arc::default(), values::name);
        if !name.is_empty() && !names.insert(Arc::clone(&name)) {
            s.fault(
                "name",
                "an earlier cluster has this name; give each cluster its own",
            );
        }
        Self {
            name,
            endpoints: s.list("endpoints", values::endpoint).unwrap_or_default(),
            partitions: s
                .list("partitions", values::partition)
                .unwrap_or(PARTITIONS),
            applications: s.section("applications", Selector::read),
            services: s.section("services", Selector::read),
            expected_interval: s.value("expected_interval", EXPECTED_INTERVAL, |text| {
                let none = text.is_empty().then_some(Ok(None));
                none.unwrap_or_else(|| values::duration(text).map(Some))
            }),
            collectors: s.section("collectors", Collectors::read),
        }
    }
}

impl Selector {
    fn read(s: &mut Section<'_>) -> Self {
        s.refuse_empty(
            "include",
            "it would select nothing: write [\".*\"] to select everything",
        );
        let include = s
            .list("include", selector::pattern)
            .unwrap_or_else(|| vec![INCLUDE.to_owned()]);
        let exclude = s.list("exclude", selector::pattern).unwrap_or_default();
        Self::new(&include, &exclude).unwrap_or_else(|message| {
            s.fault("include", message);
            Self::default()
        })
    }
}

/// A path as it is meant: relative to the folder of the file; `None` when empty.
fn path(text: &str, folder: &Path) -> Option<PathBuf> {
    (!text.is_empty()).then(|| folder.join(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EXAMPLE: &str = include_str!("../deploy/exporter.example.yml");
    const DOCUMENTATION: &str = include_str!("../docs/configuration.md");

    /// Every key that the code asks for and that holds no further keys.
    fn known() -> BTreeSet<String> {
        let (_, reader) = interpret(EXAMPLE, Path::new("")).unwrap();
        let holds_keys = |key: &String| {
            let (keys, list) = (format!("{key}."), format!("{key}[]."));
            reader
                .known
                .iter()
                .any(|other| other.starts_with(&keys) || other.starts_with(&list))
        };
        let known = reader.known.iter();
        known.filter(|key| !holds_keys(key)).cloned().collect()
    }

    /// Every key of a document whose value is no mapping and no list of mappings.
    fn written(node: &document::Node, path: &str) -> BTreeSet<String> {
        use Value::{List, Mapping};
        match &node.value {
            Mapping(entries) => entries
                .iter()
                .flat_map(|(key, value)| {
                    let Value::Text(key) = &key.value else {
                        panic!("a key is text");
                    };
                    let dot = if path.is_empty() { "" } else { "." };
                    written(value, &format!("{path}{dot}{key}"))
                })
                .collect(),
            List(items) if items.iter().any(|item| matches!(item.value, Mapping(_))) => items
                .iter()
                .flat_map(|item| written(item, &format!("{path}[]")))
                .collect(),
            _ => BTreeSet::from([path.to_owned()]),
        }
    }

    #[test]
    fn the_example_has_every_key() {
        let root = document::parse(EXAMPLE).unwrap();
        assert_eq!(written(&root, ""), known());
    }

    #[test]
    fn the_documentation_has_a_row_for_every_key_and_no_other() {
        let documented: BTreeSet<_> = DOCUMENTATION
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(key, _)| key.to_owned())
            .collect();
        assert_eq!(documented, known());
    }

    #[test]
    fn the_example_is_the_defaults_and_one_cluster() {
        let config = Config::parse(EXAMPLE, Path::new("deploy/exporter.example.yml")).unwrap();
        let defaults = Config {
            protection: Protection::default(),
            poll: Poll::default(),
            metrics: Metrics::default(),
            state_file: STATE_FILE,
            clusters: vec![Cluster {
                name: "prod".into(),
                endpoints: vec![Url::parse("http://localhost:19080").unwrap()],
                partitions: PARTITIONS,
                applications: Selector::default(),
                services: Selector::default(),
                expected_interval: EXPECTED_INTERVAL,
                collectors: Collectors::default(),
            }],
        };
        assert_eq!(config, defaults);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let text = "clusters: [{name: prod, endpoints: ['http://localhost:19080']}]";
        assert_eq!(
            Config::parse(text, Path::new("exporter.yml")).unwrap(),
            Config::parse(EXAMPLE, Path::new("exporter.yml")).unwrap()
        );
    }

    /// What the documentation gives as the default of `key`.
    fn documented(key: &str) -> &'static str {
        let row = DOCUMENTATION
            .lines()
            .find(|line| line.starts_with(&format!("| `{key}`")))
            .unwrap();
        row.split('|').nth(3).unwrap().trim().trim_matches('`')
    }

    #[test]
    fn the_documentation_tells_every_default() {
        let poll = Poll::default();
        for (key, default) in [
            ("poll.interval", poll.interval),
            ("poll.timeout", poll.timeout),
            ("poll.staleness", poll.staleness),
        ] {
            assert_eq!(values::duration(documented(key)), Ok(default), "{key}");
        }
        let everything = format!("[\"{INCLUDE}\"]");
        for (key, default) in [
            ("poll.concurrency", poll.concurrency.to_string().as_str()),
            ("metrics.states", "all"),
            ("state_file", "empty"),
            ("clusters[].partitions", "[]"),
            ("clusters[].applications.include", &everything),
            ("clusters[].applications.exclude", "[]"),
            ("clusters[].services.include", &everything),
            ("clusters[].services.exclude", "[]"),
        ] {
            assert_eq!(documented(key), default, "{key}");
        }
    }

    #[test]
    fn the_documentation_shows_messages_as_they_are() {
        let text =
            "poll:\n  interval: 60\n  timout: 5s\nclusters: [{name: a, endpoints: ['http://a']}]";
        let error = Config::parse(text, Path::new("exporter.yml")).unwrap_err();
        assert!(DOCUMENTATION.contains(&format!("\n{error}\n")), "{error}");
    }
}
