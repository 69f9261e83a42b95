//! Every partition, once a cycle: its progress, its health, its last restore; and its configuration,
//! where the answer for its application cannot be used.
//!
//! Spreads the requests over the cycle and publishes what they found. Each kind of reading is a
//! collector of its own: one that fails leaves the others alone.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, SelectAll};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, interval_at, sleep_until};
use tracing::warn;

use super::configuration::PartitionRequests;
use super::{ClusterApi, Poller, run};
use crate::gateway::Error;
use crate::model::{Collector, PartitionId, Read};
use crate::poller::tally::Tally;
use crate::snapshot::{Observations, PartitionObservation, PartitionSnapshot};

/// An answer to a question about a partition; `None` when it says nothing.
type Answer = (
    Collector,
    PartitionId,
    Result<Option<PartitionObservation>, Error>,
);

/// Answers of one collector, as they come.
type Answers = Pin<Box<dyn Stream<Item = Answer> + Send>>;

impl<S: ClusterApi> Poller<S> {
    /// Reads what is to be read of every known partition, the starts spread over `spread`. A cycle
    /// that takes long publishes once an interval, so that a slow gateway does not make fresh
    /// readings wait until they are stale; the rest is returned.
    pub(super) async fn readings(
        &self,
        spread: Duration,
        requests: Option<PartitionRequests>,
        tally: &Tally,
    ) -> Observations {
        let started = Instant::now();
        let mut answers: SelectAll<Answers> = SelectAll::new();
        let mut runs = BTreeMap::new();
        for collector in self.collectors() {
            answers.push(self.answers(collector, spread));
            runs.insert(collector, run(collector, true, started));
        }
        let mut configuration_began = started;
        if let Some(requests) = requests {
            let collector = Collector::Configuration;
            configuration_began = requests.started;
            runs.insert(
                collector,
                run(collector, requests.success, configuration_began),
            );
            answers.push(self.configurations(requests, spread));
        }
        let mut overdue = interval_at(started + self.poll.interval, self.poll.interval);
        let mut read: Vec<(PartitionId, Read<PartitionObservation>)> = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = overdue.tick() => self.publish(Observations {
                    partitions: std::mem::take(&mut read),
                    ..Observations::default()
                }),
                answer = answers.next() => match answer {
                    Some((collector, id, answer)) => {
                        let earlier = runs.get(&collector).is_none_or(|run| run.success);
                        let success = earlier && answer.is_ok();
                        let began = if collector == Collector::Configuration {
                            configuration_began
                        } else {
                            started
                        };
                        runs.insert(collector, run(collector, success, began));
                        match answer {
                            Ok(Some(reading)) => read.push((id, self.note(id, reading, tally))),
                            Ok(None) => tally.succeed(),
                            Err(error) => self.record(collector, &error, tally),
                        }
                    }
                    None => break,
                },
            }
        }
        Observations {
            partitions: read,
            runs: runs.into_values().collect(),
            ..Observations::default()
        }
    }

    /// The collectors of single partitions that are switched on.
    fn collectors(&self) -> impl Iterator<Item = Collector> + use<S> {
        let on = self.cluster.collectors;
        let collectors = [Collector::Progress, Collector::Health, Collector::Restore];
        collectors
            .into_iter()
            .filter(move |collector| on.runs(*collector))
    }

    /// Asks about every partition that concerns `collector`, the starts spread evenly and in the
    /// order of their ids, so that each partition is asked at the same time of every cycle.
    fn answers(&self, collector: Collector, spread: Duration) -> Answers {
        let snapshot = self.snapshot();
        let partitions = snapshot.partitions.values();
        let concerned = partitions.filter(|known| concerns(collector, known));
        let ids = concerned.map(|known| known.partition.id).collect();
        let gateway = Arc::clone(&self.gateway);
        self.spaced(ids, spread, move |id| {
            let gateway = Arc::clone(&gateway);
            async move { (collector, id, ask(&*gateway, collector, id).await) }
        })
    }

    /// Reads the configuration of these partitions, spread in the same way.
    fn configurations(&self, requests: PartitionRequests, spread: Duration) -> Answers {
        let gateway = Arc::clone(&self.gateway);
        let requests = requests.partitions.into_iter().collect();
        self.spaced(requests, spread, move |(id, otherwise)| {
            let gateway = Arc::clone(&gateway);
            async move {
                let answer = gateway.partition_backup_configuration(id).await;
                let answer =
                    answer.map(|line| line.map_or(otherwise, |line| Arc::new(line.into())));
                let reading = if_it_exists(answer.map(PartitionObservation::Configuration));
                (Collector::Configuration, id, reading)
            }
        })
    }

    /// Sends these requests in order, the starts spread evenly over `spread`.
    fn spaced<Q, F>(
        &self,
        requests: Vec<Q>,
        spread: Duration,
        send: impl Fn(Q) -> F + Send + 'static,
    ) -> Answers
    where
        Q: Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let started = Instant::now();
        let step = spread.checked_div(u32::try_from(requests.len()).unwrap_or(u32::MAX));
        let step = step.unwrap_or_default();
        let answers = stream::iter((0..).zip(requests)).map(move |(number, request)| {
            let answer = send(request);
            async move {
                if !step.is_zero() {
                    sleep_until(started + step * number).await;
                }
                answer.await
            }
        });
        answers.buffer_unordered(self.poll.concurrency).boxed()
    }

    /// The value that is known already, where it is the one that was read: of 100,000 records
    /// read over a cycle, few are new, and only those need memory of their own until its end.
    fn as_known(
        &self,
        id: PartitionId,
        reading: &PartitionObservation,
    ) -> Option<PartitionObservation> {
        let published = self.published.borrow();
        let known = published.partitions.get(&id)?;
        match reading {
            PartitionObservation::Progress(Some(record)) => {
                let known = known.progress.as_ref()?.value.as_ref();
                let known = known.filter(|known| *known == record)?;
                Some(PartitionObservation::Progress(Some(Arc::clone(known))))
            }
            PartitionObservation::Configuration(applied) => {
                let known = known
                    .configuration
                    .as_ref()
                    .filter(|known| *known == applied)?;
                Some(PartitionObservation::Configuration(Arc::clone(known)))
            }
            _ => None,
        }
    }

    fn note(
        &self,
        id: PartitionId,
        reading: PartitionObservation,
        tally: &Tally,
    ) -> Read<PartitionObservation> {
        tally.succeed();
        if let Some(known) = self.as_known(id, &reading) {
            return self.now(known);
        }
        if let PartitionObservation::Health(health) = &reading {
            self.note_skipped(Collector::Health, health.skipped, tally);
        }
        if let PartitionObservation::Health(health) = &reading
            && health.unknown_reporter
            && !self.warned_of_reporter.swap(true, Ordering::Relaxed)
        {
            let cluster = &self.cluster.name;
            warn!(
                %cluster,
                "Unknown source of backup health events in cluster {cluster}: its runtime may be \
                 newer than this exporter, which then sees periodic backups only in the lists."
            );
        }
        self.now(reading)
    }
}

/// Periodic backups exist only where a policy applies; where that is not known, it may.
fn concerns(collector: Collector, known: &PartitionSnapshot) -> bool {
    collector != Collector::Health || known.configuration_read_at.is_none() || known.has_policy()
}

async fn ask(
    gateway: &impl ClusterApi,
    collector: Collector,
    id: PartitionId,
) -> Result<Option<PartitionObservation>, Error> {
    let answer = match collector {
        Collector::Health => gateway
            .backup_health(id)
            .await
            .map(PartitionObservation::Health),
        Collector::Restore => gateway
            .restore_progress(id)
            .await
            .map(PartitionObservation::Restore),
        _ => {
            let record = gateway.backup_progress(id).await;
            record.map(|record| PartitionObservation::Progress(record.map(Arc::new)))
        }
    };
    if_it_exists(answer)
}

fn if_it_exists(
    answer: Result<PartitionObservation, Error>,
) -> Result<Option<PartitionObservation>, Error> {
    match answer {
        Err(error) if error.is_gone() => Ok(Some(PartitionObservation::NotFound)),
        // It is gone, or the health store does not have it yet, or not again: who else knows it
        // has the say.
        Err(error) if error.is_unknown_to_health() => Ok(None),
        answer => answer.map(Some),
    }
}
