//! The calls for each partition in a cycle: progress, health and restore, and the configuration if
//! it cannot be determined for the whole application.
//!
//! The calls are spread over the cycle. Each kind is a collector of its own, which fails
//! independently of the others.

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
use super::results::RoundResults;
use super::{ClusterApi, Poller, run};
use crate::gateway::Error;
use crate::model::{Collector, PartitionId, Read};
use crate::snapshot::{Observations, PartitionObservation, PartitionSnapshot};

/// The answer to a call for a partition; `None` if it contains no information.
type Answer = (
    Collector,
    PartitionId,
    Result<Option<PartitionObservation>, Error>,
);

/// The answers of one collector, in the order of their arrival.
type Answers = Pin<Box<dyn Stream<Item = Answer> + Send>>;

impl<S: ClusterApi> Poller<S> {
    /// Makes the calls for every known partition, started over `spread`. If they take long, it
    /// publishes the observations once per interval, before they become stale; the rest is
    /// returned.
    pub(super) async fn partitions(
        &self,
        spread: Duration,
        requests: Option<PartitionRequests>,
        results: &RoundResults,
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
                            Ok(Some(observation)) => read.push((id, self.observed(id, observation, results))),
                            Ok(None) => results.succeed(),
                            Err(error) => self.record(collector, &error, results),
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

    /// The enabled collectors of single partitions.
    fn collectors(&self) -> impl Iterator<Item = Collector> + use<S> {
        let on = self.cluster.collectors;
        let collectors = [Collector::Progress, Collector::Health, Collector::Restore];
        collectors
            .into_iter()
            .filter(move |collector| on.runs(*collector))
    }

    /// Makes the calls of `collector`, spread evenly in the order of the partition ids, so that
    /// each partition is read at the same time of every cycle.
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

    /// Reads the configurations of these partitions, spread in the same way.
    fn configurations(&self, requests: PartitionRequests, spread: Duration) -> Answers {
        let gateway = Arc::clone(&self.gateway);
        let requests = requests.partitions.into_iter().collect();
        self.spaced(requests, spread, move |(id, fallback)| {
            let gateway = Arc::clone(&gateway);
            async move {
                let answer = gateway.partition_backup_configuration(id).await;
                let answer = answer.map(|line| line.map_or(fallback, |line| Arc::new(line.into())));
                let observation = or_not_found(answer.map(PartitionObservation::Configuration));
                (Collector::Configuration, id, observation)
            }
        })
    }

    /// Sends these requests in order, started evenly over `spread`.
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

    /// The equal value in the snapshot, if there is one: few of 100,000 records change in a cycle,
    /// and only those need memory of their own until its end.
    fn shared(
        &self,
        id: PartitionId,
        observation: &PartitionObservation,
    ) -> Option<PartitionObservation> {
        let published = self.published.borrow();
        let known = published.partitions.get(&id)?;
        match observation {
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

    fn observed(
        &self,
        id: PartitionId,
        observation: PartitionObservation,
        results: &RoundResults,
    ) -> Read<PartitionObservation> {
        results.succeed();
        if let Some(known) = self.shared(id, &observation) {
            return self.now(known);
        }
        if let PartitionObservation::Health(health) = &observation {
            self.record_skipped(Collector::Health, health.skipped, results);
        }
        if let PartitionObservation::Health(health) = &observation
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
        self.now(observation)
    }
}

/// Health is read only where a policy applies or may apply: there are no other periodic backups.
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
    or_not_found(answer)
}

fn or_not_found(
    answer: Result<PartitionObservation, Error>,
) -> Result<Option<PartitionObservation>, Error> {
    match answer {
        Err(error) if error.is_gone() => Ok(Some(PartitionObservation::NotFound)),
        // The partition was deleted, or the health store has no entry of it yet. Inventory and
        // progress determine which.
        Err(error) if error.is_unknown_to_health() => Ok(None),
        answer => answer.map(Some),
    }
}
