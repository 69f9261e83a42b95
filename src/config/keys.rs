//! The keys: which ones a section has, how their values are read, and the rules between them.
//!
//! A setting is one field and one default in the module above, and the one line here that reads
//! it. What is wrong is told to the section and replaced by its default, so that everything else
//! is still checked.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SMALLEST;
use super::reader::Section;
use super::values::{self, spelled};
use super::warnings::{Address, address};
use crate::settings::{
    Cluster, Collectors, Config, MATCH_ALL, Metrics, Poll, Protection, Security, Selector, States,
    pattern, quoted,
};

impl Config {
    pub(super) fn read(s: &mut Section<'_>, folder: &Path) -> Self {
        let mut earlier = Earlier::default();
        s.require("clusters", SMALLEST);
        Self {
            poll: s.section("poll", Poll::read),
            protection: s.section("protection", Protection::read),
            metrics: s.section("metrics", Metrics::read),
            state_file: s.value("state_file", None, |text| path(text, folder)),
            clusters: s.sections("clusters", |s| Cluster::read(s, &mut earlier, folder)),
        }
    }
}

/// Names and endpoints of the clusters that were read so far.
#[derive(Default)]
struct Earlier {
    names: HashSet<Arc<str>>,
    clusters: HashMap<Address, Cluster>,
}

impl Earlier {
    /// A fault when an earlier cluster has the same gateway and the same selection. With different
    /// selections, parts of one cluster can have different settings, such as `expected_interval`.
    fn compare(&mut self, cluster: &Cluster, s: &mut Section<'_>) {
        let addresses: Vec<_> = cluster.endpoints.iter().map(address).collect();
        let mut earlier = addresses.iter().filter_map(|one| self.clusters.get(one));
        if let Some(other) = earlier.find(|other| other.has_same_selection(cluster)) {
            let message = format!(
                "cluster {} has one of these endpoints and selects the same partitions; write \
                 this cluster's endpoints, or select other partitions",
                quoted(&other.name)
            );
            s.fault("endpoints", message);
        }
        for address in addresses {
            self.clusters
                .entry(address)
                .or_insert_with(|| cluster.clone());
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
            s.fault_here(
                "no successful backup can be seen; write `progress: true`, or `configuration: \
                 true` with `health`, `backups` or `history`",
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
    fn read(s: &mut Section<'_>, earlier: &mut Earlier, folder: &Path) -> Self {
        let faults = s.fault_count();
        s.require("name", "write for example `name: prod`");
        s.require(
            "endpoints",
            "write for example `endpoints: [\"http://node1:19080\"]`",
        );
        let name = s.value("name", Arc::default(), values::name);
        if !name.is_empty() && !earlier.names.insert(Arc::clone(&name)) {
            s.fault(
                "name",
                "an earlier cluster has this name; give each cluster its own",
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
        if s.fault_count() == faults {
            earlier.compare(&cluster, s);
        }
        cluster
    }
}

impl Selector {
    fn read(s: &mut Section<'_>) -> Self {
        s.refuse_empty(
            "include",
            "it would select nothing: write [\".*\"] to select everything",
        );
        let include = s
            .list("include", pattern)
            .unwrap_or_else(|| vec![MATCH_ALL.to_owned()]);
        let exclude = s.list("exclude", pattern).unwrap_or_default();
        Self::new(include, exclude).unwrap_or_else(|message| {
            s.fault("include", message);
            Self::default()
        })
    }
}

/// A path relative to the folder of the configuration file; `None` when empty.
pub(super) fn path(text: &str, folder: &Path) -> Result<Option<PathBuf>, String> {
    let text = values::path(text)?;
    Ok((!text.is_empty()).then(|| folder.join(text)))
}
