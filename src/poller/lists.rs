//! What the store holds, on an interval of its own.
//!
//! One request an application that has something protected. The backup service reads its whole
//! store for each, so these lists are never read more often than they must be.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Poller, Source, run};
use crate::gateway::Error;
use crate::model::{Listed, ListedBackup, Name};
use crate::poller::tally::Tally;
use crate::snapshot::{Collector, Observations, PartitionSnapshot, Snapshot};

/// Lists that are asked for at a time: each makes the service read its store.
const AT_ONCE: usize = 4;

impl<S: Source> Poller<S> {
    /// Lists backups once an interval, from the first cycle on that has found something protected:
    /// before, there is nothing to list. Ends at once where no list is wanted.
    pub(super) async fn lists(&self) {
        let on = self.cluster.collectors;
        if !(on.backups || on.history) {
            return;
        }
        let mut snapshots = self.published.subscribe();
        let protects = |snapshot: &Arc<Snapshot>| {
            snapshot.is_ready()
                && snapshot
                    .partitions
                    .values()
                    .any(PartitionSnapshot::has_policy)
        };
        if snapshots.wait_for(protects).await.is_err() {
            return;
        }
        let mut due = interval_at(self.next_list(), self.poll.backups_interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            self.list().await;
        }
    }

    /// When the lists are read next: an interval after the last time that they could be, which
    /// may have been before a reload; at once where they were never read.
    fn next_list(&self) -> Instant {
        let snapshot = self.snapshot();
        let status = snapshot.status.collectors.get(&self.listing_collector());
        let age = status.and_then(|status| ((self.clock)() - status.succeeded_at?).to_std().ok());
        let wait = age.map(|age| self.poll.backups_interval.saturating_sub(age));
        Instant::now() + wait.unwrap_or_default()
    }

    /// Lists the backups of every application in which something is protected. Publishes at the end, and once an interval.
    pub async fn list(&self) {
        let started = Instant::now();
        self.gateway.begin_lists();
        let tally = Tally::default();
        let mut published = started;
        let mut success = true;
        let mut observations = Observations::default();
        let questions = self
            .protected_applications()
            .into_iter()
            .map(|application| async {
                let listed = self.backups_of(&application).await;
                (application, listed)
            });
        let questions: Vec<_> = questions.collect();
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        while let Some((application, listed)) = answers.next().await {
            match listed {
                Ok(listed) => {
                    tally.succeed();
                    self.take_in(application, listed.items, &mut observations);
                }
                // Deleted since the inventory was read.
                Err(error) if error.is_gone() => {}
                Err(error) => {
                    success = false;
                    self.record(self.listing_collector(), &error, &tally);
                }
            }
            if published.elapsed() > self.poll.interval {
                self.publish(std::mem::take(&mut observations));
                // The lists so far are no longer in memory.
                self.gateway.begin_lists();
                published = Instant::now();
            }
        }
        observations.runs = vec![run(self.listing_collector(), success, started)];
        self.publish(observations);
        let what = "lists of backups";
        tally.log(&self.cluster.name, what, started.elapsed(), false);
        self.report_lists(self.listing_collector(), &tally);
    }

    /// All backups tell which ones are the newest, too: where the history is wanted, it is all
    /// that is asked for.
    fn listing_collector(&self) -> Collector {
        if self.cluster.collectors.history {
            Collector::History
        } else {
            Collector::Backups
        }
    }

    async fn backups_of(&self, application: &Name) -> Result<Listed<ListedBackup>, Error> {
        if self.cluster.collectors.history {
            self.gateway.all_backups(application).await
        } else {
            self.gateway.latest_backups(application).await
        }
    }

    fn take_in(
        &self,
        application: Name,
        listed: Vec<ListedBackup>,
        observations: &mut Observations,
    ) {
        let list = (application, self.now(listed));
        if self.cluster.collectors.history {
            observations.histories.push(list);
        } else {
            observations.newest.push(list);
        }
    }

    fn protected_applications(&self) -> BTreeSet<Name> {
        let snapshot = self.snapshot();
        let partitions = snapshot.partitions.values();
        let protected = partitions.filter(|known| known.has_policy());
        let names = protected.filter_map(|known| known.partition.application.clone());
        names.collect()
    }
}
