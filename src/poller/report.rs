//! The log lines about outages and selections: one when a condition begins and one when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::results::{Change, Outages, RoundResults, Subject};
use super::{ClusterApi, Poller};
use crate::gateway::Reason;
use crate::inventory::{self, Selection};
use crate::model::{Collector, Name};
use crate::sync::lock;

impl<S: ClusterApi> Poller<S> {
    /// Logs the changes of a cycle. While no call to the cluster succeeds, only that is logged.
    pub(super) fn report_cycle(&self, results: &RoundResults) {
        if !self.gateway.native_access() {
            let reasons = results.reasons(|_| true);
            if self.observe(Subject::Cluster, reasons) == Some(Change::Failing) {
                let (cluster, failures) = (&self.cluster.name, results.describe(|_| true));
                error!(%cluster, "Cluster {cluster} cannot be read: {failures}.");
            }
            return;
        }
        if let Some(Change::Recovered { lasted, rounds }) =
            self.observe(Subject::Cluster, BTreeSet::new())
        {
            let (cluster, seconds) = (&self.cluster.name, lasted.as_secs());
            info!(
                %cluster, seconds, rounds,
                "Cluster {cluster} can be read again, after {rounds} failed cycles in {seconds} s."
            );
        }
        let in_lists = [Collector::Backups, Collector::History];
        let collectors = Collector::ALL.into_iter();
        for collector in collectors.filter(|one| !in_lists.contains(one)) {
            self.report_collector(collector, results);
        }
    }

    /// Logs the changes of a list round.
    pub(super) fn report_lists(&self, collector: Collector, results: &RoundResults) {
        if !self.outages().contains(&Subject::Cluster) {
            self.report_collector(collector, results);
        }
    }

    fn report_collector(&self, collector: Collector, results: &RoundResults) {
        self.report_items(collector, results);
        let reasons = results.reasons(|one| one == collector);
        let change = self.observe(Subject::Collector(collector), reasons);
        let (cluster, name) = (&self.cluster.name, collector.as_str());
        match change {
            None => {}
            Some(Change::Failing) => {
                let failures = results.describe(|one| one == collector);
                warn!(
                    %cluster, collector = name,
                    "Cluster {cluster}: the collector {name} fails: {failures}."
                );
            }
            Some(Change::Recovered { lasted, rounds }) => {
                let seconds = lasted.as_secs();
                info!(
                    %cluster, collector = name, seconds, rounds,
                    "Cluster {cluster}: the collector {name} succeeds again, after {rounds} failed \
                     rounds in {seconds} s."
                );
            }
        }
    }

    fn report_items(&self, collector: Collector, results: &RoundResults) {
        let skipped = results.skipped(collector);
        let reasons = (skipped > 0).then_some(Reason::Decode).into_iter();
        let change = self.observe(Subject::Items(collector), reasons.collect());
        let (cluster, name) = (&self.cluster.name, collector.as_str());
        match change {
            None => {}
            Some(Change::Failing) => warn!(
                %cluster, collector = name, skipped,
                "Cluster {cluster}: the collector {name} skipped {skipped} items that cannot be decoded."
            ),
            Some(Change::Recovered { lasted, rounds }) => {
                let seconds = lasted.as_secs();
                info!(
                    %cluster, collector = name, seconds, rounds,
                    "Cluster {cluster}: the collector {name} can decode all items again, after \
                     {rounds} rounds in {seconds} s."
                );
            }
        }
    }

    /// Logs the selectors that began or ceased to match nothing since `before`, the last selection
    /// under this configuration.
    pub(super) fn report_selection(&self, before: Option<&Selection>, now: &Selection) {
        let cluster = &*self.cluster.name;
        let none = Selection::default();
        let before = before.unwrap_or(&none);
        let count = now.unmatched.len();
        let begun: Vec<_> = now.unmatched.difference(&before.unmatched).collect();
        if !begun.is_empty() {
            let settings = inventory::listed(&begun);
            warn!(
                cluster,
                count, "Cluster {cluster}: selectors match nothing: {settings}."
            );
        }
        let ended: Vec<_> = before.unmatched.difference(&now.unmatched).collect();
        if !ended.is_empty() && begun.is_empty() {
            info!(
                cluster,
                count,
                "Cluster {cluster}: selectors that matched nothing match again ({}); {count} still \
             match nothing.",
                ended.len()
            );
        }
        match (before.empty, now.empty) {
            (_, Some(reason)) if before.empty != now.empty => {
                let reason = reason.as_str();
                warn!(
                    cluster,
                    "Cluster {cluster}: no partition is watched, because {reason}."
                );
            }
            (Some(_), None) => {
                info!(
                    cluster,
                    "Cluster {cluster}: there are partitions to watch again."
                );
            }
            _ => {}
        }
    }

    /// Logs that a reload has reduced the number of partitions by more than half.
    pub(super) fn report_drop(&self, before: usize, now: usize) {
        let cluster = &*self.cluster.name;
        if now.saturating_mul(2) < before {
            warn!(
                cluster,
                before,
                now,
                "Cluster {cluster}: {now} partitions are watched since the reload, {before} were \
             before it."
            );
        }
    }

    /// Logs the applications whose backup configuration can no longer be determined by one
    /// request, and those where it can again. `answers` holds whether the answer of each is usable;
    /// `None` if the request failed.
    pub(super) fn report_configuration(&self, answers: &BTreeMap<Name, Option<bool>>) {
        let (mut failing, mut recovered) = (Vec::new(), Vec::new());
        self.outages()
            .retain_applications(&answers.keys().cloned().collect());
        for (name, usable) in answers {
            let Some(usable) = usable else { continue };
            let reasons = (!usable).then_some(Reason::Api).into_iter().collect();
            match self.observe(Subject::Configuration(Arc::clone(name)), reasons) {
                Some(Change::Failing) => failing.push(name),
                Some(Change::Recovered { .. }) => recovered.push(name),
                None => {}
            }
        }
        let cluster = &self.cluster.name;
        if !failing.is_empty() {
            let (applications, count) = (listed(&failing), failing.len());
            warn!(
                %cluster,
                count,
                "Cluster {cluster}: the backup service has no usable answer for the configuration of \
                 {applications}; their partitions are asked one by one."
            );
        }
        if !recovered.is_empty() {
            let (applications, count) = (listed(&recovered), recovered.len());
            info!(
                %cluster,
                count,
                "Cluster {cluster}: the backup service answers for the configuration of \
                 {applications} again."
            );
        }
    }

    fn observe(&self, subject: Subject, reasons: BTreeSet<Reason>) -> Option<Change> {
        self.outages().observe(subject, reasons, Instant::now())
    }

    fn outages(&self) -> MutexGuard<'_, Outages> {
        lock(&self.outages)
    }
}

/// At most ten of these names, and the number of the others.
fn listed(names: &[&Name]) -> String {
    const MAX_NAMED: usize = 10;
    let more = names.len().saturating_sub(MAX_NAMED);
    let shown = names.iter().take(MAX_NAMED).map(ToString::to_string);
    let more = (more > 0).then(|| format!("{more} more"));
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_names_are_cut() {
        let names: Vec<Name> = (0..12).map(|n| format!("fabric:/{n}").into()).collect();
        let names: Vec<&Name> = names.iter().collect();
        assert!(listed(&names).ends_with(", fabric:/9, 2 more"));
        assert_eq!(listed(&names[..1]), "fabric:/0");
    }
}
