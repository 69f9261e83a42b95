//! What the store holds, on an interval of its own.
//!
//! One request an application that has something protected, and some for single partitions where
//! the list of their application cannot be relied on. The backup service reads its whole store for
//! each, so these lists are never read more often than they must be.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{ClusterApi, Poller, run};
use crate::gateway::Error;
use crate::model::{Collector, DecodedList, ListedBackup, Name, PartitionId, Read};
use crate::poller::tally::Tally;
use crate::snapshot::{Observations, PartitionSnapshot, Snapshot};

/// Lists that are asked for at a time: each makes the service read its store.
const AT_ONCE: usize = 4;

/// The most lists of single partitions in a round: each makes the service read one folder.
const MOST_PARTITIONS: usize = 500;

/// A round of lists.
struct Round {
    /// What was read and not published yet.
    observations: Observations,
    /// Partitions of which the list of their application does not show enough, with the moment at
    /// which they were last listed.
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

impl<S: ClusterApi> Poller<S> {
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

    /// Lists the backups of every application in which something is protected. Publishes the lists at
    /// the end, and once an interval before that.
    pub async fn list(&self) {
        let started = Instant::now();
        self.gateway.begin_lists();
        let tally = Tally::default();
        let mut round = Round::default();
        let questions = self
            .protected_applications()
            .into_iter()
            .map(|application| async {
                let listed = self.requested_now(self.backups_of(&application)).await;
                (application, listed)
            });
        let questions: Vec<_> = questions.collect();
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        while let Some((application, listed)) = answers.next().await {
            match listed {
                Ok(listed) => {
                    tally.succeed();
                    self.note_skipped(self.listing_collector(), listed.value.skipped, &tally);
                    let unsettled = self.snapshot().not_settled_by_list(
                        &application,
                        &listed.value,
                        (self.clock)(),
                    );
                    round.unsettled.extend(unsettled);
                    self.take_in(application, listed, &mut round.observations);
                }
                Err(error) => {
                    let knows_success = |known: &PartitionSnapshot| {
                        known.partition.application.as_ref() == Some(&application)
                            && known.last_success.is_some()
                    };
                    self.note_list_error(&error, knows_success, &mut round, &tally);
                    if !error.is_gone() {
                        let unsettled = self.snapshot().listable_one_by_one(&application);
                        round.unsettled.extend(unsettled);
                    }
                }
            }
            self.publish_in_time(&mut round);
        }
        self.list_partitions(&mut round, &tally).await;
        let Round {
            mut observations,
            failed,
            ..
        } = round;
        observations.runs = vec![run(self.listing_collector(), !failed, started)];
        self.publish(observations);
        let what = "lists of backups";
        tally.log(&self.cluster.name, what, started.elapsed(), false);
        self.report_lists(self.listing_collector(), &tally);
    }

    /// Asks for the newest backup of single partitions of which the lists of their applications do
    /// not show enough, first for those that were listed longest ago. A storage that cannot be listed
    /// is not asked for more of its partitions in this round: each answer may take until the deadline.
    async fn list_partitions(&self, round: &mut Round, tally: &Tally) {
        let mut unsettled = std::mem::take(&mut round.unsettled);
        unsettled.sort_unstable();
        unsettled.truncate(MOST_PARTITIONS);
        let snapshot = self.snapshot();
        let failed: Mutex<BTreeSet<u32>> = Mutex::default();
        let has_failed = |storage: &u32| failed.lock().is_ok_and(|failed| failed.contains(storage));
        let questions = unsettled.into_iter().map(|(_, id)| {
            let storage = snapshot.storage_of(id);
            async move {
                if storage.is_some_and(|storage| has_failed(&storage)) {
                    return None;
                }
                let listed = self.gateway.latest_backups_of(id);
                Some((id, storage, self.requested_now(listed).await))
            }
        });
        let questions: Vec<_> = questions.collect();
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            let Some((id, storage, listed)) = answer else {
                continue;
            };
            match listed {
                Ok(listed) => {
                    tally.succeed();
                    self.note_skipped(self.listing_collector(), listed.value.skipped, tally);
                    round.observations.partition_lists.push((id, listed));
                }
                Err(error) => {
                    let knows_success = |known: &PartitionSnapshot| {
                        known.partition.id == id && known.last_success.is_some()
                    };
                    let is_failure = self.note_list_error(&error, knows_success, round, tally);
                    if let (true, Ok(mut failed)) = (is_failure, failed.lock()) {
                        failed.extend(storage);
                    }
                }
            }
            self.publish_in_time(round);
        }
    }

    /// The answer to `request`, dated by the moment of the request: the store may have changed before
    /// the answer came.
    async fn requested_now<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<Read<T>, Error> {
        let at = (self.clock)();
        let value = request.await?;
        Ok(Read { value, at })
    }

    /// Counts a list that failed, unless there was nothing to list. Runtime 6.4 answers with an index
    /// that is out of range before the first backup, when the container or folder does not exist yet,
    /// and when the storage cannot be read (`GetRestorePointsOperation.cs`): a success that is known
    /// tells which. Returns whether it was a failure.
    fn note_list_error(
        &self,
        error: &Error,
        knows_success: impl FnMut(&PartitionSnapshot) -> bool,
        round: &mut Round,
        tally: &Tally,
    ) -> bool {
        let nothing_yet = error.is_index_out_of_range()
            && !self.snapshot().partitions.values().any(knows_success);
        if nothing_yet || error.is_backup_not_enabled() || error.is_gone() {
            tally.succeed();
            false
        } else {
            round.failed = true;
            self.record(self.listing_collector(), error, tally);
            true
        }
    }

    /// Publishes the lists so far once an interval.
    fn publish_in_time(&self, round: &mut Round) {
        if round.published.elapsed() > self.poll.interval {
            self.publish(std::mem::take(&mut round.observations));
            // The lists so far are no longer in memory.
            self.gateway.begin_lists();
            round.published = Instant::now();
        }
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

    async fn backups_of(&self, application: &Name) -> Result<DecodedList<ListedBackup>, Error> {
        if self.cluster.collectors.history {
            self.gateway.all_backups(application).await
        } else {
            self.gateway.latest_backups(application).await
        }
    }

    fn take_in(
        &self,
        application: Name,
        listed: Read<DecodedList<ListedBackup>>,
        observations: &mut Observations,
    ) {
        let list = (application, listed);
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
