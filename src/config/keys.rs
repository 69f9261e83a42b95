//! The keys of the configuration file and the rules between them.
//!
//! A setting is a field and a default in [`crate::settings`], and one line here. Errors are recorded
//! in the section; the default replaces an invalid value, so that the rest is still checked.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::values::{self, format_duration};
use super::warnings::{Address, address};
use super::yaml::Section;
use crate::settings::{
    Cluster, Collectors, Config, MATCH_ALL, Metrics, Poll, Protection, Security, Selector, States,
    pattern, quoted,
};

/// A minimal configuration, as a hint.
pub(super) const MINIMAL: &str =
    "write for example `clusters: [{name: prod, endpoints: [\"http://node1:19080\"]}]`";

impl Config {
    pub(super) fn read(s: &mut Section<'_>, folder: &Path) -> Self {
        let mut previous = PreviousClusters::default();
        s.require("clusters", MINIMAL);
        Self {
            poll: s.section("poll", Poll::read),
            protection: s.section("protection", Protection::read),
            metrics: s.section("metrics", Metrics::read),
            state_file: s.value("state_file", None, |text| path(text, folder)),
            clusters: s.sections("clusters", |s| Cluster::read(s, &mut previous, folder)),
        }
    }
}

/// The clusters that have been read so far.
#[derive(Default)]
struct PreviousClusters {
    names: HashSet<Arc<str>>,
    by_address: HashMap<Address, Cluster>,
}

impl PreviousClusters {
    /// Rejects a cluster with the same gateway and selection as a previous one. With different
    /// selections, parts of one cluster can have different settings, such as `expected_interval`.
    fn check(&mut self, cluster: &Cluster, s: &mut Section<'_>) {
        let addresses: Vec<_> = cluster.endpoints.iter().map(address).collect();
        let mut previous = addresses.iter().filter_map(|one| self.by_address.get(one));
        if let Some(other) = previous.find(|other| other.has_same_selection(cluster)) {
            let message = format!(
                "cluster {} has one of these endpoints and selects the same partitions; correct the \
                 endpoints, or select other partitions",
                quoted(&other.name)
            );
            s.error("endpoints", message);
        }
        for address in addresses {
            self.by_address
                .entry(address)
                .or_insert_with(|| cluster.clone());
        }
    }
}

impl Poll {
    fn read(s: &mut Section<'_>) -> Self {
        let errors = s.error_count();
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
        if s.error_count() == errors {
            poll.compare(s);
        }
        poll
    }

    /// Rules between two settings, one of which may have its default.
    fn compare(self, s: &mut Section<'_>) {
        let interval = format_duration(self.interval);
        let of = |key: &'static str, value, s: &Section<'_>| {
            let origin = if s.has(key) { "" } else { " (the default)" };
            format!("{}{origin}", format_duration(value))
        };
        if self.timeout > self.interval {
            let timeout = of("timeout", self.timeout, s);
            let message = format!(
                "expected at most the interval of {}, found {timeout}; write {interval} or less",
                of("interval", self.interval, s)
            );
            s.error("timeout", message);
        }
        if self.staleness < self.interval {
            let staleness = of("staleness", self.staleness, s);
            let message = format!(
                "expected at least the interval of {}, found {staleness}: all data would become stale \
                 before it is read again; write {} or more",
                of("interval", self.interval, s),
                format_duration(self.interval * 2),
            );
            s.error("staleness", message);
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
            run_tolerance: s.value("run_tolerance", default.run_tolerance, values::duration),
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
        let collectors = Self {
            progress: switch("progress", default.progress),
            restore: switch("restore", default.restore),
            health: switch("health", default.health),
            configuration: switch("configuration", default.configuration),
            policies: switch("policies", default.policies),
            backups: switch("backups", default.backups),
            history: switch("history", default.history),
        };
        if !collectors.see_requested_backups() && !collectors.see_periodic_backups() {
            s.error_here(
                "no collector detects successful backups; write `progress: true`, or \
                 `configuration: true` with `health`, `backups` or `history`",
            );
        }
        collectors
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
    fn read(s: &mut Section<'_>, previous: &mut PreviousClusters, folder: &Path) -> Self {
        let errors = s.error_count();
        s.require("name", "write for example `name: prod`");
        s.require(
            "endpoints",
            "write for example `endpoints: [\"http://node1:19080\"]`",
        );
        let name = s.value("name", Arc::default(), values::name);
        if !name.is_empty() && !previous.names.insert(Arc::clone(&name)) {
            s.error(
                "name",
                "duplicate cluster name; give each cluster a unique name",
            );
        }
        let endpoints = s.list("endpoints", values::endpoint).unwrap_or_default();
        let cluster = Self {
            name,
            security: Security::read(s, &endpoints, folder),
            endpoints,
            partitions: s.list("partitions", values::partition).unwrap_or_default(),
            applications: s.section("applications", Selector::read),
            services: s.section("services", Selector::read),
            expected_interval: s.value("expected_interval", None, |text| {
                let none = text.is_empty().then_some(Ok(None));
                none.unwrap_or_else(|| values::duration(text).map(Some))
            }),
            collectors: s.section("collectors", Collectors::read),
        };
        if s.error_count() == errors {
            previous.check(&cluster, s);
        }
        cluster
    }
}

impl Selector {
    fn read(s: &mut Section<'_>) -> Self {
        s.reject_empty("include", "write [\".*\"] to select everything");
        let include = s
            .list("include", pattern)
            .unwrap_or_else(|| vec![MATCH_ALL.to_owned()]);
        let exclude = s.list("exclude", pattern).unwrap_or_default();
        Self::new(include, exclude).unwrap_or_else(|message| {
            s.error("include", message);
            Self::default()
        })
    }
}

/// A path relative to the directory of the configuration file; `None` if empty.
pub(super) fn path(text: &str, folder: &Path) -> Result<Option<PathBuf>, String> {
    let text = values::path(text)?;
    Ok((!text.is_empty()).then(|| folder.join(text)))
}
