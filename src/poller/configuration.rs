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
use super::{Poller, Source, run};
use crate::gateway::Error;
use crate::model::{Configuration, Name, PartitionId};
use crate::poller::tally::Tally;
use crate::protection::applied::{Applied, Settings, inherits_by_name, is_unaltered};
use crate::snapshot::{Collector, Observations, PartitionSnapshot, Policies, Snapshot};

/// Requests that wait at a time. The gateway bounds how many of them are in flight.
const AT_ONCE: usize = 64;

/// Partitions whose own answer determines what applies to them.
#[derive(Debug)]
pub(super) struct PartitionQuestions {
    /// When the collector began its run.
    pub(super) started: Instant,
    /// Whether all requests of the collector have succeeded so far.
    pub(super) success: bool,
    /// The partitions to ask in this cycle, and what applies to each if its answer is that nothing
    /// does.
    pub(super) partitions: BTreeMap<PartitionId, Arc<Applied>>,
}

/// The answers for applications.
#[derive(Debug)]
struct Answers {
    success: bool,
    usable: BTreeMap<Name, Settings>,
    /// Applications that exist and whose answer cannot be used.
    unusable: BTreeSet<Name>,
}

impl<S: Source> Poller<S> {
    /// Reads what is set in every application with a known partition. Returns which partitions
    /// remain to be asked; `None` if there are none, or if the collector is off.
    pub(super) async fn configuration(&self, tally: &Tally) -> Option<PartitionQuestions> {
        if !self.cluster.collectors.configuration {
            return None;
        }
        let started = Instant::now();
        let snapshot = self.snapshot();
        let mut answers = self.ask_applications(tally).await;
        let explicit = self.explicit_settings(&snapshot, &answers).await;
        let explicit = explicit.unwrap_or_else(|error| {
            answers.success = false;
            self.record(Collector::Configuration, &error, tally);
            None
        });
        answers.contradict(explicit.as_ref(), &snapshot);
        self.report_unusable(&answers);
        let questions = PartitionQuestions {
            started,
            success: answers.success,
            partitions: self.partitions_to_ask(&snapshot, &answers, explicit.as_ref()),
        };
        let remain = !questions.partitions.is_empty();
        let run = (!remain).then(|| run(Collector::Configuration, answers.success, started));
        let settings = answers.usable.into_iter();
        self.publish(Observations {
            settings: settings
                .map(|(name, read)| (name, self.now(read)))
                .collect(),
            runs: run.into_iter().collect(),
            ..Observations::default()
        });
        remain.then_some(questions)
    }

    /// Applications with a known partition.
    pub(super) fn applications(&self) -> BTreeSet<Name> {
        let snapshot = self.snapshot();
        let partitions = snapshot.partitions.values();
        let names = partitions.filter_map(|known| known.partition.application.clone());
        names.collect()
    }

    /// Asks each application whose name the backup service does not alter: the answer for another
    /// one has its own line only, or none.
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
                Ok(read) if read.skipped == 0 => {
                    let settings = read.items.into_iter().collect();
                    answers.usable.insert(application, settings);
                }
                Ok(_) => drop(answers.unusable.insert(application)),
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

    /// What was set explicitly anywhere, as the policies list it; `None` while the policies are not
    /// known. Asked only where it makes a difference.
    async fn explicit_settings(
        &self,
        snapshot: &Snapshot,
        answers: &Answers,
    ) -> Result<Option<Settings>, Error> {
        let mut known = snapshot.partitions.values();
        let is_needed = answers.usable.values().any(Settings::is_empty)
            || known.any(|known| !inherits_by_name(&known.partition));
        let policies = self.believed_policies(snapshot).filter(|_| is_needed);
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
        while let Some((policy, answer)) = answers.next().await {
            lines.extend(answer?.items.into_iter().map(|entity| Configuration {
                policy: Some(Arc::clone(&policy)),
                policy_from: None,
                suspended_at: None,
                entity,
            }));
        }
        Ok(Some(lines.into_iter().collect()))
    }

    /// The policies, if they were read so lately that they are believed.
    fn believed_policies<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Policies> {
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
        explicit: Option<&Settings>,
    ) -> BTreeMap<PartitionId, Arc<Applied>> {
        let turns = self.poll.staleness.as_millis() / 2 / self.poll.interval.as_millis().max(1);
        let turns = usize::try_from(turns).unwrap_or(usize::MAX).max(1);
        let turn = self.configuration_turn.fetch_add(1, Ordering::Relaxed) % turns;
        let nothing = Arc::default();
        let known = snapshot.partitions.values();
        let open = known.filter_map(|known| {
            let otherwise = answers.if_unprotected(known, explicit)?;
            Some((
                known,
                otherwise.map_or_else(|| Arc::clone(&nothing), Arc::new),
            ))
        });
        open.enumerate()
            .filter(|(number, (known, _))| {
                let is_known = known.applied_at.is_some_and(|at| self.is_fresh(at));
                number % turns == turn || !is_known
            })
            .map(|(_, (known, otherwise))| (known.partition.id, otherwise))
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
    /// Compares what applications deny with what the policies list. Service Fabric 6.4 denies that
    /// an application is protected only if nothing below it is, either; should another runtime deny
    /// it for the application alone, its partitions are asked. While the policies are not known,
    /// such an answer is not believed.
    fn contradict(&mut self, explicit: Option<&Settings>, snapshot: &Snapshot) {
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

    /// Whether a partition is to be asked, and what applies to it if its answer is that nothing
    /// does: `Some(None)` for nothing.
    fn if_unprotected(
        &self,
        known: &PartitionSnapshot,
        explicit: Option<&Settings>,
    ) -> Option<Option<Applied>> {
        let (partition, application) = (&known.partition, known.partition.application.as_ref()?);
        if inherits_by_name(partition) {
            return self.unusable.contains(application).then_some(None);
        }
        let settings = self.usable.get(application).or(explicit)?;
        Some(Some(settings.set_at_service(partition)))
    }
}
