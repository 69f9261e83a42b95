//! What is set in each application, once a cycle.
//!
//! One request for each application. Where its answer cannot be used, its partitions are asked one
//! by one, spread over the cycle with the other requests for partitions; never more than once per
//! cycle each, and in turns, so that each is read twice before its last answer is stale.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::unusable::Usability;
use super::{ClusterApi, Poller, run};
use crate::gateway::Error;
use crate::model::{BackupConfiguration, Collector, Name, PartitionId, Policies};
use crate::poller::tally::Tally;
use crate::protection::effective::{
    ConfigurationSet, EffectiveConfiguration, inherits_by_name, is_unaltered,
};
use crate::snapshot::{Observations, PartitionSnapshot, Snapshot};

/// Requests that wait at a time. The gateway bounds how many of them are in flight.
const AT_ONCE: usize = 64;

/// The partitions to ask for their configuration.
#[derive(Debug)]
pub(super) struct PartitionRequests {
    /// When the collector began its run.
    pub(super) started: Instant,
    /// Whether all requests of the collector have succeeded so far.
    pub(super) success: bool,
    /// The partitions to ask in this cycle, and what applies to each if its answer is that nothing
    /// does.
    pub(super) partitions: BTreeMap<PartitionId, Arc<EffectiveConfiguration>>,
}

/// The configurations of applications.
#[derive(Debug)]
struct Answers {
    success: bool,
    usable: BTreeMap<Name, ConfigurationSet>,
    /// Applications that exist and whose answer cannot be used.
    unusable: BTreeSet<Name>,
}

impl<S: ClusterApi> Poller<S> {
    /// Reads what is set in every application with a known partition. Returns the partitions that
    /// must be asked themselves; `None` if there are none, or if the collector is off.
    pub(super) async fn configuration(&self, tally: &Tally) -> Option<PartitionRequests> {
        if !self.cluster.collectors.configuration {
            return None;
        }
        let started = Instant::now();
        let snapshot = self.snapshot();
        let mut answers = self.ask_applications(tally).await;
        let explicit = self.explicit_settings(&snapshot, &answers, tally).await;
        let explicit = explicit.unwrap_or_else(|error| {
            answers.success = false;
            self.record(Collector::Configuration, &error, tally);
            None
        });
        answers.contradict(explicit.as_ref(), &snapshot);
        self.report_unusable(&answers);
        let requests = PartitionRequests {
            started,
            success: answers.success,
            partitions: self.partitions_to_ask(&snapshot, &answers, explicit.as_ref()),
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

    /// Asks for each application whose name the backup service does not alter. The answer for any
    /// other name holds at most the line of the application itself.
    async fn ask_applications(&self, tally: &Tally) -> Answers {
        let mut answers = Answers {
            success: true,
            usable: BTreeMap::new(),
            unusable: BTreeSet::new(),
        };
        let applications = self.applications().into_iter();
        let questions = applications
            .filter(|name| is_unaltered(name))
            .map(|application| {
                let gateway = Arc::clone(&self.gateway);
                async move {
                    let answer = gateway.backup_configuration(&application).await;
                    (application, answer)
                }
            });
        let mut answered = stream::iter(questions).buffer_unordered(AT_ONCE);
        while let Some((application, answer)) = answered.next().await {
            match answer {
                Ok(read) => {
                    let is_complete = read.skipped == 0;
                    let lines = self.items(Collector::Configuration, read, tally);
                    if is_complete {
                        let settings = lines.into_iter().collect();
                        answers.usable.insert(application, settings);
                    } else {
                        // The missing line may be an override.
                        answers.unusable.insert(application);
                    }
                }
                Err(error) if error.is_null_reference() => {
                    answers.unusable.insert(application);
                }
                Err(error) if error.is_gone() => {}
                Err(error) => {
                    answers.success = false;
                    self.record(Collector::Configuration, &error, tally);
                }
            }
        }
        answers
    }

    /// The entities that each policy is enabled for; `None` while the policies are not known, and
    /// where no answer depends on it.
    async fn explicit_settings(
        &self,
        snapshot: &Snapshot,
        answers: &Answers,
        tally: &Tally,
    ) -> Result<Option<ConfigurationSet>, Error> {
        let mut known = snapshot.partitions.values();
        let is_needed = answers.usable.values().any(ConfigurationSet::is_empty)
            || known.any(|known| !inherits_by_name(&known.partition));
        let policies = self.fresh_policies(snapshot).filter(|_| is_needed);
        let Some(policies) = policies else {
            return Ok(None);
        };
        let questions: Vec<_> = policies
            .keys()
            .map(|name| {
                let (gateway, name) = (Arc::clone(&self.gateway), Arc::clone(name));
                async move {
                    let answer = gateway.entities_of_policy(&name).await;
                    (name, answer)
                }
            })
            .collect();
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        let mut lines = Vec::new();
        let mut is_complete = true;
        while let Some((policy, answer)) = answers.next().await {
            let answer = answer?;
            is_complete &= answer.skipped == 0;
            let entities = self.items(Collector::Configuration, answer, tally);
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

    /// The policies, if they were read so lately that they are believed.
    fn fresh_policies<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Policies> {
        let read = snapshot.policies.as_ref()?;
        self.is_fresh(read.at).then_some(&read.value)
    }

    fn is_fresh(&self, read_at: DateTime<Utc>) -> bool {
        let age = ((self.clock)() - read_at).to_std().unwrap_or_default();
        age < self.poll.staleness
    }

    /// The partitions to ask in this cycle: those whose turn it is, and those whose last answer is
    /// stale or missing.
    fn partitions_to_ask(
        &self,
        snapshot: &Snapshot,
        answers: &Answers,
        explicit: Option<&ConfigurationSet>,
    ) -> BTreeMap<PartitionId, Arc<EffectiveConfiguration>> {
        let turns = self.poll.staleness.as_millis() / 2 / self.poll.interval.as_millis().max(1);
        let turns = usize::try_from(turns).unwrap_or(usize::MAX).max(1);
        let turn = self.configuration_turn.fetch_add(1, Ordering::Relaxed) % turns;
        let known = snapshot.partitions.values();
        let open = known.filter_map(|known| {
            let otherwise = answers.if_unprotected(known, explicit)?;
            Some((known, otherwise))
        });
        open.enumerate()
            .filter(|(number, (known, _))| {
                let is_known = known
                    .configuration_read_at
                    .is_some_and(|at| self.is_fresh(at));
                number % turns == turn || !is_known
            })
            .map(|(_, (known, otherwise))| (known.partition.id, Arc::new(otherwise)))
            .collect()
    }

    fn report_unusable(&self, answers: &Answers) {
        let applications = self.applications().into_iter();
        let usability = applications.map(|name| (Arc::clone(&name), answers.usability(&name)));
        let mut unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        unusable.report(&self.cluster.name, &usability.collect());
    }
}

impl Answers {
    /// Checks every application that is "not protected" against the entities of the policies.
    /// Service Fabric 6.4 answers so only if nothing below is protected, either; should another
    /// runtime mean the application alone, its partitions are asked. While the policies are not
    /// known, such an answer is not used.
    fn contradict(&mut self, explicit: Option<&ConfigurationSet>, snapshot: &Snapshot) {
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

    fn usability(&self, application: &Name) -> Usability {
        if self.unusable.contains(application) {
            Usability::Unusable
        } else if self.usable.contains_key(application) {
            Usability::Usable
        } else {
            Usability::Unknown
        }
    }

    /// What applies to a partition if its own answer is that nothing does; `None` if it need not be
    /// asked.
    fn if_unprotected(
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
