//! A page of metrics as a scraper reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

/// One sample line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// The samples of one scrape.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) samples: Vec<Sample>,
}

static LABEL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"([a-z_]+)="((?:[^"\\]|\\.)*)""#).unwrap());

impl Page {
    /// Reads a page; every line must be a comment or a sample without a time.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self {
            samples: lines.map(sample).collect(),
        }
    }

    /// Every sample of `name` that has these labels among its own.
    pub(crate) fn all(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let wanted = |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).map(String::as_str) == Some(*value)
            };
            sample.name == name && labels.iter().all(has)
        };
        self.samples.iter().filter(wanted).collect()
    }

    /// The value of the one sample of `name` that has these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let all = self.all(name, labels);
        assert!(all.len() < 2, "not one sample: {all:?}");
        all.first().map(|sample| sample.value)
    }

    /// Whether there is a sample of `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }

    /// The values of a label over the whole page.
    pub(crate) fn label_values(&self, label: &str) -> BTreeSet<&str> {
        let samples = self.samples.iter();
        samples
            .filter_map(|sample| sample.labels.get(label).map(String::as_str))
            .collect()
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = LABEL.captures_iter(labels).map(|captures| {
        let (_, [key, value]) = captures.extract();
        (key.to_owned(), value.to_owned())
    });
    Sample {
        name: name.to_owned(),
        labels: labels.collect(),
        value: value.parse().unwrap(),
    }
}
