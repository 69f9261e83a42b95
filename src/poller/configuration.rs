//! Reads the backup configurations once a cycle.
//!
//! One call reads all that is set in an application. If its answer is not usable, the
//! configurations of its partitions are read one by one, spread over the cycle with the other calls
//! for partitions. A partition is read at most once a cycle and at least twice before its last
//! answer is stale.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::cluster_api::ask_each;
use super::results::RoundResults;
use super::{ClusterApi, Poller, run};
use crate::gateway::Error;
use crate::model::{BackupConfiguration, Collector, Name, PartitionId, Policies};
use crate::protection::effective::{
    ConfigurationSet, EffectiveConfiguration, inherits_by_name, is_unaltered,
};
use crate::snapshot::{Observations, PartitionSnapshot, Snapshot};

/// Number of calls that wait for the gateway, which limits the number in flight.
const AT_ONCE: usize = 64;

/// The partitions whose configurations are read one by one in this cycle.
#[derive(Debug)]
pub(super) struct PartitionRequests {
    /// When the run of the collector began.
    pub(super) started: Instant,
    /// Whether all calls of the run have succeeded so far.
    pub(super) success: bool,
    /// The partitions, with the configuration to use if the answer is that the partition has none.
    pub(super) partitions: BTreeMap<PartitionId, Arc<EffectiveConfiguration>>,
}

/// The answers for the configurations of applications.
#[derive(Debug)]
struct ApplicationAnswers {
    success: bool,
    usable: BTreeMap<Name, ConfigurationSet>,
    /// Existing applications whose answer is not usable.
    unusable: BTreeSet<Name>,
}

impl<S: ClusterApi> Poller<S> {
    /// Reads the configurations of every application with a known partition. Returns the partitions
    /// whose own configurations must be read, if there are any.
    pub(super) async fn configuration(&self, results: &RoundResults) -> Option<PartitionRequests> {
        if !self.cluster.collectors.configuration {
            return None;
        }
        let started = Instant::now();
        let snapshot = self.snapshot();
        let mut answers = self.ask_applications(results).await;
        let explicit = self.explicit_settings(&snapshot, &answers, results).await;
        let explicit = explicit.unwrap_or_else(|error| {
            answers.success = false;
            self.record(Collector::Configuration, &error, results);
            None
        });
        answers.discard_contradicted(explicit.as_ref(), &snapshot);
        let usable = self.applications().into_iter().map(|name| {
            let usable = answers.is_usable(&name);
            (name, usable)
        });
        self.report_configuration(&usable.collect());
        let requests = PartitionRequests {
            started,
            success: answers.success,
            partitions: self.partition_requests(&snapshot, &answers, explicit.as_ref()),
        };
        let remain = !requests.partitions.is_empty();
        let run = (!remain).then(|| run(Collector::Configuration, answers.success, started));
        let settings = answers.usable.into_iter();
        self.publish(Observations {
            configurations: settings
                .map(|(name, read)| (name, self.now(read)))
                .collect(),
            runs: run.into_iter().collect(),
            ..Observations::default()
        });
        remain.then_some(requests)
    }

    /// Applications with a known partition.
    pub(super) fn applications(&self) -> BTreeSet<Name> {
        let snapshot = self.snapshot();
        let partitions = snapshot.partitions.values();
        let names = partitions.filter_map(|known| known.partition.application.clone());
        names.collect()
    }

    /// Reads the configuration of each application whose name the backup service does not alter.
    /// The answer for any other name contains at most the entry of the application itself.
    async fn ask_applications(&self, results: &RoundResults) -> ApplicationAnswers {
        let mut answers = ApplicationAnswers {
            success: true,
            usable: BTreeMap::new(),
            unusable: BTreeSet::new(),
        };
        let applications = self.applications().into_iter();
        let applications = applications.filter(|name| is_unaltered(name)).collect();
        let calls = ask_each(&self.gateway, applications, |gateway, name| async move {
            gateway.backup_configuration(&name).await
        });
        let mut answered = stream::iter(calls).buffer_unordered(AT_ONCE);
        while let Some((application, answer)) = answered.next().await {
            match answer {
                Ok(read) => {
                    let is_complete = read.skipped == 0;
                    let lines = self.items(Collector::Configuration, read, results);
                    if is_complete {
                        let settings = lines.into_iter().collect();
                        answers.usable.insert(application, settings);
                    } else {
                        // The missing entry may be an override.
                        answers.unusable.insert(application);
                    }
                }
                Err(error) if error.is_null_reference() => {
                    answers.unusable.insert(application);
                }
                Err(error) if error.is_gone() => {}
                Err(error) => {
                    answers.success = false;
                    self.record(Collector::Configuration, &error, results);
                }
            }
        }
        answers
    }

    /// The entities for which each policy is enabled; `None` while the policies are unknown, or if
    /// no answer depends on them.
    async fn explicit_settings(
        &self,
        snapshot: &Snapshot,
        answers: &ApplicationAnswers,
        results: &RoundResults,
    ) -> Result<Option<ConfigurationSet>, Error> {
        let mut known = snapshot.partitions.values();
        let is_needed = answers.usable.values().any(ConfigurationSet::is_empty)
            || known.any(|known| !inherits_by_name(&known.partition));
        let policies = self.fresh_policies(snapshot).filter(|_| is_needed);
        let Some(policies) = policies else {
            return Ok(None);
        };
        let policies: Vec<Name> = policies.keys().cloned().collect();
        let calls = ask_each(&self.gateway, policies, |gateway, name| async move {
            gateway.entities_of_policy(&name).await
        });
        let mut answers = stream::iter(calls).buffer_unordered(AT_ONCE);
        let mut lines = Vec::new();
        let mut is_complete = true;
        while let Some((policy, answer)) = answers.next().await {
            let answer = answer?;
            is_complete &= answer.skipped == 0;
            let entities = self.items(Collector::Configuration, answer, results);
            lines.extend(entities.into_iter().map(|entity| BackupConfiguration {
                policy: Some(Arc::clone(&policy)),
                policy_inherited_from: None,
                suspension_inherited_from: None,
                entity,
            }));
        }
        // An entity that could not be decoded may be the one that an answer depends on.
        Ok(is_complete.then(|| lines.into_iter().collect()))
    }

    /// The policies, if they are fresh.
    fn fresh_policies<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Policies> {
        let read = snapshot.policies.as_ref()?;
        self.is_fresh(read.at).then_some(&read.value)
    }

    fn is_fresh(&self, read_at: DateTime<Utc>) -> bool {
        let age = ((self.clock)() - read_at).to_std().unwrap_or_default();
        age < self.poll.staleness
    }

    /// The partitions to read in this cycle: an equal share per cycle, and those whose last answer is
    /// stale or missing.
    fn partition_requests(
        &self,
        snapshot: &Snapshot,
        answers: &ApplicationAnswers,
        explicit: Option<&ConfigurationSet>,
    ) -> BTreeMap<PartitionId, Arc<EffectiveConfiguration>> {
        let turns = self.poll.staleness.as_millis() / 2 / self.poll.interval.as_millis().max(1);
        let turns = usize::try_from(turns).unwrap_or(usize::MAX).max(1);
        let turn = self.configuration_cycles.fetch_add(1, Ordering::Relaxed) % turns;
        let known = snapshot.partitions.values();
        let open = known.filter_map(|known| {
            let fallback = answers.fallback(known, explicit)?;
            Some((known, fallback))
        });
        open.enumerate()
            .filter(|(number, (known, _))| {
                let is_known = known
                    .configuration_read_at
                    .is_some_and(|at| self.is_fresh(at));
                number % turns == turn || !is_known
            })
            .map(|(_, (known, fallback))| (known.partition.id, Arc::new(fallback)))
            .collect()
    }
}

impl ApplicationAnswers {
    /// Discards answers that an application is not protected if a policy contradicts them. Service
    /// Fabric 6.4 answers so only if nothing below the application is protected either; another
    /// runtime may mean the application alone. While the policies are unknown, such an answer is
    /// not used.
    fn discard_contradicted(&mut self, explicit: Option<&ConfigurationSet>, snapshot: &Snapshot) {
        let Some(explicit) = explicit else {
            self.usable.retain(|_, settings| !settings.is_empty());
            return;
        };
        for known in snapshot.partitions.values() {
            let application = known.partition.application.as_ref();
            let denied = application.and_then(|name| Some((name, self.usable.get(name)?)));
            let Some((name, _)) = denied.filter(|(_, settings)| settings.is_empty()) else {
                continue;
            };
            let set = explicit.applied_to(&known.partition);
            if set.is_some_and(|set| set.policy.is_some()) {
                self.usable.remove(name);
                self.unusable.insert(Arc::clone(name));
            }
        }
    }

    /// Whether the answer for an application is usable; `None` if the call failed.
    fn is_usable(&self, application: &Name) -> Option<bool> {
        if self.unusable.contains(application) {
            Some(false)
        } else {
            self.usable.contains_key(application).then_some(true)
        }
    }

    /// The configuration of a partition if its own answer is that it has none; `None` if the
    /// partition need not be read.
    fn fallback(
        &self,
        known: &PartitionSnapshot,
        explicit: Option<&ConfigurationSet>,
    ) -> Option<EffectiveConfiguration> {
        let (partition, application) = (&known.partition, known.partition.application.as_ref()?);
        if inherits_by_name(partition) {
            let is_open = self.unusable.contains(application);
            return is_open.then(EffectiveConfiguration::default);
        }
        let settings = self.usable.get(application).or(explicit)?;
        Some(settings.set_at_service(partition))
    }
}
