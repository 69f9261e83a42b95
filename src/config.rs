//! Reads the configuration file: text → [`Config`].
//!
//! The keys are in `keys`, the types and defaults in [`crate::settings`]. All errors in a file are
//! reported together, each with its position.

mod keys;
mod security;
mod values;
mod warnings;
pub mod web;
mod yaml;

use std::path::Path;

pub use self::yaml::ConfigErrors;
use self::yaml::{ConfigError, Position, Reader, Value};
use crate::settings::Config;

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = yaml::load(path).map_err(|error| ConfigErrors::new(path, vec![error]))?;
        Self::parse(&text, path)
    }

    /// Rejects a state file that is one of `inputs`: the exporter would rename or overwrite its own
    /// configuration.
    pub fn with_own_state_file(self, file: &Path, inputs: &[&Path]) -> Result<Self, ConfigErrors> {
        let resolved = |path: &Path| path.canonicalize().ok();
        let state_file = self.state_file.as_deref().and_then(resolved);
        if state_file.is_none() || inputs.iter().all(|input| resolved(input) != state_file) {
            return Ok(self);
        }
        let message = "state_file: this is a configuration file, which the exporter would \
                       overwrite; write the path of another file";
        Err(ConfigErrors::new(
            file,
            vec![ConfigError::unreadable(message)],
        ))
    }

    /// Checks `text`, the contents of `file`. Errors name that file, and relative paths start in its
    /// directory. No file is read.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigErrors> {
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        let (config, reader) =
            interpret(text, folder).map_err(|error| ConfigErrors::new(file, vec![error]))?;
        if reader.errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors::new(file, reader.errors))
        }
    }
}

fn interpret(text: &str, folder: &Path) -> Result<(Config, Reader), ConfigError> {
    let root = yaml::parse(text)?;
    if matches!(root.value, Value::Null) {
        let message = format!("the file is empty; {}", keys::MINIMAL);
        return Err(ConfigError::new(Position::START, "", message));
    }
    Ok(yaml::read(&root, |s| Config::read(s, folder)))
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

    /// Every key that the code reads and that is not a section.
    fn read_keys() -> BTreeSet<String> {
        let (_, reader) = interpret(EXAMPLE, Path::new("")).unwrap();
        let is_section = |key: &String| {
            let (section, list) = (format!("{key}."), format!("{key}[]."));
            reader
                .known
                .iter()
                .any(|other| other.starts_with(&section) || other.starts_with(&list))
        };
        let known = reader.known.iter();
        known.filter(|key| !is_section(key)).cloned().collect()
    }

    /// Every key of a document that is not a section.
    fn keys_of(node: &yaml::Node, path: &str) -> BTreeSet<String> {
        use Value::{List, Mapping};
        match &node.value {
            Mapping(entries) => entries
                .iter()
                .flat_map(|(key, value)| {
                    let Value::Text(key) = &key.value else {
                        panic!("a key is text");
                    };
                    let dot = if path.is_empty() { "" } else { "." };
                    keys_of(value, &format!("{path}{dot}{key}"))
                })
                .collect(),
            List(items) if items.iter().any(|item| matches!(item.value, Mapping(_))) => items
                .iter()
                .flat_map(|item| keys_of(item, &format!("{path}[]")))
                .collect(),
            _ => BTreeSet::from([path.to_owned()]),
        }
    }

    #[test]
    fn example_contains_every_key() {
        let root = yaml::parse(EXAMPLE).unwrap();
        assert_eq!(keys_of(&root, ""), read_keys());
    }

    #[test]
    fn documentation_has_one_row_per_key() {
        let documented: BTreeSet<_> = DOCUMENTATION
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(key, _)| key.to_owned())
            .collect();
        assert_eq!(documented, read_keys());
    }

    #[test]
    fn example_has_the_defaults() {
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
    fn missing_keys_have_their_defaults() {
        let text = "clusters: [{name: prod, endpoints: ['http://localhost:19080']}]";
        assert_eq!(
            Config::parse(text, Path::new("exporter.yml")).unwrap(),
            Config::parse(EXAMPLE, Path::new("exporter.yml")).unwrap()
        );
    }

    /// The documented default of `key`.
    fn documented(key: &str) -> &'static str {
        let row = DOCUMENTATION
            .lines()
            .find(|line| line.starts_with(&format!("| `{key}`")))
            .unwrap();
        row.split('|').nth(3).unwrap().trim().trim_matches('`')
    }

    #[test]
    fn documented_defaults_are_correct() {
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
    fn documented_errors_are_correct() {
        let text =
            "poll:\n  interval: 60\n  timout: 5s\nclusters: [{name: a, endpoints: ['http://a']}]";
        let error = Config::parse(text, Path::new("exporter.yml")).unwrap_err();
        assert!(DOCUMENTATION.contains(&format!("\n{error}\n")), "{error}");
    }
}
