//! The log lines about faults: one when a fault begins, one for a new reason, one when it ends.
//!
//! Words only; what counts as a change is decided in [`super::faults`].

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::faults::{Change, Faults, Subject};
use super::tally::Tally;
use super::{ClusterApi, Poller};
use crate::gateway::Reason;
use crate::model::Collector;

impl<S: ClusterApi> Poller<S> {
    /// Logs what changed with a whole cycle. While the cluster cannot be read at all, that is the
    /// only fault.
    pub(super) fn report_cycle(&self, tally: &Tally) {
        if !self.gateway.native_access() {
            let reasons = tally.reasons(|_| true);
            if self.observe(Subject::Cluster, reasons) == Some(Change::Failing) {
                let (cluster, failures) = (&self.cluster.name, tally.describe(|_| true));
                error!(%cluster, "Cluster {cluster} cannot be read: {failures}.");
            }
            return;
        }
        if let Some(Change::Ended { lasted, rounds }) =
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
            self.report_collector(collector, tally);
        }
    }

    /// Logs what changed with a round of lists.
    pub(super) fn report_lists(&self, collector: Collector, tally: &Tally) {
        if !self.faults().contains(Subject::Cluster) {
            self.report_collector(collector, tally);
        }
    }

    fn report_collector(&self, collector: Collector, tally: &Tally) {
        self.report_items(collector, tally);
        let reasons = tally.reasons(|one| one == collector);
        let change = self.observe(Subject::Collector(collector), reasons);
        let (cluster, name) = (&self.cluster.name, collector.as_str());
        match change {
            None => {}
            Some(Change::Failing) => {
                let failures = tally.describe(|one| one == collector);
                warn!(
                    %cluster, collector = name,
                    "Cluster {cluster}: the collector {name} fails: {failures}."
                );
            }
            Some(Change::Ended { lasted, rounds }) => {
                let seconds = lasted.as_secs();
                info!(
                    %cluster, collector = name, seconds, rounds,
                    "Cluster {cluster}: the collector {name} succeeds again, after {rounds} failed \
                     rounds in {seconds} s."
                );
            }
        }
    }

    /// Logs what changed with the items that could not be decoded.
    fn report_items(&self, collector: Collector, tally: &Tally) {
        let skipped = tally.skipped(collector);
        let reasons = (skipped > 0).then_some(Reason::Decode).into_iter();
        let change = self.observe(Subject::Items(collector), reasons.collect());
        let (cluster, name) = (&self.cluster.name, collector.as_str());
        match change {
            None => {}
            Some(Change::Failing) => warn!(
                %cluster, collector = name, skipped,
                "Cluster {cluster}: the collector {name} skipped {skipped} items that cannot be decoded."
            ),
            Some(Change::Ended { lasted, rounds }) => {
                let seconds = lasted.as_secs();
                info!(
                    %cluster, collector = name, seconds, rounds,
                    "Cluster {cluster}: the collector {name} can decode all items again, after \
                     {rounds} rounds in {seconds} s."
                );
            }
        }
    }

    fn observe(&self, subject: Subject, reasons: BTreeSet<Reason>) -> Option<Change> {
        self.faults().observe(subject, reasons, Instant::now())
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
