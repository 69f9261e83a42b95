//! Reads the backup lists, on an interval of their own.
//!
//! One call for each application with a protected partition, and more for single partitions if
//! the list of their application is incomplete. For each call the backup service reads the whole
//! storage, so lists are read as rarely as possible.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::cluster_api::ask_each;
use super::results::RoundResults;
use super::{ClusterApi, Poller, run};
use crate::gateway::Error;
use crate::model::{Collector, DecodedList, ListedBackup, Name, PartitionId, Read};
use crate::snapshot::{Observations, PartitionSnapshot, Snapshot};
use crate::sync::lock;

/// Number of concurrent calls: each makes the backup service read the storage.
const AT_ONCE: usize = 4;

/// Maximum number of lists of single partitions in a round: each makes the service read a folder.
const MAX_PARTITION_LISTS: usize = 500;

/// The state of a list round.
struct Round {
    /// Observations that were not published yet.
    observations: Observations,
    /// Partitions whose claims the list of their application does not settle, with the time of their
    /// last list.
    unsettled: Vec<(Option<DateTime<Utc>>, PartitionId)>,
    failed: bool,
    published: Instant,
}

impl Default for Round {
    fn default() -> Self {
        Self {
            observations: Observations::default(),
            unsettled: Vec::new(),
            failed: false,
            published: Instant::now(),
        }
    }
}

impl Round {
    fn add(&mut self, application: Name, list: Read<DecodedList<ListedBackup>>, is_history: bool) {
        let lists = if is_history {
            &mut self.observations.histories
        } else {
            &mut self.observations.newest
        };
        lists.push((application, list));
    }
}

impl<S: ClusterApi> Poller<S> {
    /// Reads backup lists once an interval, after the first cycle that found a protected partition.
    /// Returns at once if no collector needs lists.
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

    /// When the first round starts: an interval after the last successful one, which may have been
    /// before a reload; at once if there was none.
    fn next_list(&self) -> Instant {
        let snapshot = self.snapshot();
        let status = snapshot.status.collectors.get(&self.listing_collector());
        let age = status.and_then(|status| ((self.clock)() - status.succeeded_at?).to_std().ok());
        let wait = age.map(|age| self.poll.backups_interval.saturating_sub(age));
        Instant::now() + wait.unwrap_or_default()
    }

    /// Reads the backup list of every application with a protected partition. Publishes the lists at
    /// the end, and once an interval before that.
    pub async fn list(&self) {
        let started = Instant::now();
        self.gateway.begin_lists();
        let results = RoundResults::default();
        let mut round = Round::default();
        let (clock, history) = (self.clock, self.cluster.collectors.history);
        let applications = self.protected_applications().into_iter().collect();
        let calls = ask_each(
            &self.gateway,
            applications,
            move |gateway, name| async move {
                let requested_at = clock();
                let list = if history {
                    gateway.all_backups(&name).await
                } else {
                    gateway.latest_backups(&name).await
                };
                dated(list, requested_at)
            },
        );
        let mut answers = stream::iter(calls).buffer_unordered(AT_ONCE);
        while let Some((application, list)) = answers.next().await {
            match list {
                Ok(list) => {
                    results.succeed();
                    self.record_skipped(self.listing_collector(), list.value.skipped, &results);
                    let snapshot = self.snapshot();
                    let unsettled =
                        snapshot.not_settled_by_list(&application, &list.value, clock());
                    round.unsettled.extend(unsettled);
                    round.add(application, list, history);
                }
                Err(error) => {
                    let has_success = |known: &PartitionSnapshot| {
                        known.partition.application.as_ref() == Some(&application)
                            && known.last_success.is_some()
                    };
                    self.record_list_error(&error, has_success, &mut round, &results);
                    if !error.is_gone() {
                        let unsettled = self.snapshot().listable_one_by_one(&application);
                        round.unsettled.extend(unsettled);
                    }
                }
            }
            self.publish_in_time(&mut round);
        }
        self.list_partitions(&mut round, &results).await;
        let Round {
            mut observations,
            failed,
            ..
        } = round;
        observations.runs = vec![run(self.listing_collector(), !failed, started)];
        self.publish(observations);
        let what = "lists of backups";
        results.log(&self.cluster.name, what, started.elapsed(), false);
        self.report_lists(self.listing_collector(), &results);
    }

    /// Reads the newest backup of partitions that the lists of their applications do not settle,
    /// those with the oldest list first. A storage that cannot be listed is skipped for the rest of
    /// the round: each call may take until its deadline.
    async fn list_partitions(&self, round: &mut Round, results: &RoundResults) {
        let mut unsettled = std::mem::take(&mut round.unsettled);
        unsettled.sort_unstable();
        unsettled.truncate(MAX_PARTITION_LISTS);
        let (clock, snapshot) = (self.clock, self.snapshot());
        let failed: Arc<Mutex<BTreeSet<u32>>> = Arc::default();
        let unsettled = unsettled.into_iter().map(|(_, id)| {
            let storage = snapshot.storage_of(id);
            (id, storage)
        });
        let unsettled = unsettled.collect();
        let failed_storages = Arc::clone(&failed);
        let calls = ask_each(&self.gateway, unsettled, move |gateway, (id, storage)| {
            let failed = Arc::clone(&failed_storages);
            async move {
                if storage.is_some_and(|storage| lock(&failed).contains(&storage)) {
                    return None;
                }
                let requested_at = clock();
                Some(dated(gateway.latest_backups_of(id).await, requested_at))
            }
        });
        let mut answers = stream::iter(calls).buffer_unordered(AT_ONCE);
        while let Some(((id, storage), answer)) = answers.next().await {
            let Some(list) = answer else {
                continue;
            };
            match list {
                Ok(list) => {
                    results.succeed();
                    self.record_skipped(self.listing_collector(), list.value.skipped, results);
                    round.observations.partition_lists.push((id, list));
                }
                Err(error) => {
                    let has_success = |known: &PartitionSnapshot| {
                        known.partition.id == id && known.last_success.is_some()
                    };
                    if self.record_list_error(&error, has_success, round, results) {
                        lock(&failed).extend(storage);
                    }
                }
            }
            self.publish_in_time(round);
        }
    }

    /// Counts a failed list, unless there is nothing to list; returns whether it counts. Runtime 6.4
    /// answers with an out-of-range index both before the first backup, while the container or folder
    /// does not exist, and if the storage cannot be read (`GetRestorePointsOperation.cs`). With a
    /// known success it is the latter.
    fn record_list_error(
        &self,
        error: &Error,
        has_success: impl FnMut(&PartitionSnapshot) -> bool,
        round: &mut Round,
        results: &RoundResults,
    ) -> bool {
        let nothing_yet =
            error.is_index_out_of_range() && !self.snapshot().partitions.values().any(has_success);
        if nothing_yet || error.is_backup_not_enabled() || error.is_gone() {
            results.succeed();
            false
        } else {
            round.failed = true;
            self.record(self.listing_collector(), error, results);
            true
        }
    }

    /// Publishes the observations so far once an interval.
    fn publish_in_time(&self, round: &mut Round) {
        if round.published.elapsed() > self.poll.interval {
            self.publish(std::mem::take(&mut round.observations));
            // The published lists are no longer in memory.
            self.gateway.begin_lists();
            round.published = Instant::now();
        }
    }

    /// The collector that reads lists: lists of all backups include the newest ones.
    fn listing_collector(&self) -> Collector {
        if self.cluster.collectors.history {
            Collector::History
        } else {
            Collector::Backups
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

/// A list with the time of its request: the store may have changed before the answer arrived.
fn dated(
    list: Result<DecodedList<ListedBackup>, Error>,
    at: DateTime<Utc>,
) -> Result<Read<DecodedList<ListedBackup>>, Error> {
    list.map(|value| Read { value, at })
}
