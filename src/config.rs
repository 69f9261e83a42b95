//! The configuration: what is written in the file → settings that are valid.
//!
//! Every default stands in this file, every key and every rule in `keys`: a setting is one field, one
//! default and the one line that reads it. A [`Config`] that exists is valid; when something is
//! wrong there is none, and the [`Error`] lists everything that is wrong, with its place, and not
//! only the first. Reading the file is the only I/O.

mod document;
mod fault;
mod keys;
mod reader;
mod security;
mod unknown_key;
mod values;
mod warnings;
pub mod web;

use std::path::Path;

use self::document::Value;
pub use self::fault::Error;
use self::fault::{Fault, Position};
use self::reader::Reader;
use crate::settings::Config;
use crate::small_file;

/// What to write when there is nothing yet.
const SMALLEST: &str =
    "write for example `clusters: [{name: prod, endpoints: [\"http://node1:19080\"]}]`";

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = contents(path).map_err(|fault| Error::new(path, vec![fault]))?;
        Self::parse(&text, path)
    }

    /// Rejects a state file that is one of `inputs`, because the exporter would rename or overwrite
    /// its own configuration.
    pub fn with_own_state_file(self, origin: &Path, inputs: &[&Path]) -> Result<Self, Error> {
        let resolved = |path: &Path| path.canonicalize().ok();
        let state_file = self.state_file.as_deref().and_then(resolved);
        if state_file.is_none() || inputs.iter().all(|input| resolved(input) != state_file) {
            return Ok(self);
        }
        let message = "state_file: the exporter would overwrite this file, which it reads its \
                       configuration from; write the path of another file";
        Err(Error::new(origin, vec![Fault::unread(message)]))
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
    let bytes = small_file::read(path).map_err(|error| {
        Fault::unread(format!(
            "the file cannot be read: {error}; check the path and that the exporter may read it"
        ))
    })?;
    let bytes = bytes
        .ok_or_else(|| Fault::unread("the file is larger than 1 MiB; is it a configuration?"))?;
    if bytes.contains(&0) {
        let message = "the file is binary, or UTF-16 without a byte order mark; save it as UTF-8";
        return Err(Fault::new(Position::START, "", message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to());
        let message = "the file is not UTF-8 from here on; save it as UTF-8";
        Fault::new(Position::after(valid.unwrap_or_default()), "", message)
    })
}

fn interpret(text: &str, folder: &Path) -> Result<(Config, Reader), Fault> {
    let root = document::parse(text)?;
    if matches!(root.value, Value::Null) {
        let message = format!("the file is empty; {SMALLEST}");
        return Err(Fault::new(Position::START, "", message));
    }
    Ok(reader::read(&root, |s| Config::read(s, folder)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use url::Url;

    use super::*;
    use crate::settings::{
        Cluster, Collectors, MATCH_ALL, Metrics, Poll, Protection, Security, Selector,
    };

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
            state_file: None,
            clusters: vec![Cluster {
                name: "prod".into(),
                endpoints: vec![Url::parse("http://localhost:19080").unwrap()],
                partitions: Vec::new(),
                applications: Selector::default(),
                services: Selector::default(),
                expected_interval: None,
                collectors: Collectors::default(),
                security: Security::default(),
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
        let everything = format!("[\"{MATCH_ALL}\"]");
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
