//! The life of a restore: Accepted, `RestoreInProgress`, `SecondariesInProgress`, then an end.
//!
//! Responsible for the one record of restores each partition has, and for what a restore does to
//! its partition: the state of an old backup, a new data loss version, a broken chain. It may
//! not answer requests. While it runs, neither backups nor other restores are accepted.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::periodic::Step;
use super::{Entity, Estate, Refusal, later};
use crate::simulator::record::Epoch;

/// How a restore will go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    /// How long the request stays Accepted.
    pub accepted_for: Duration,
    /// How long the primary takes.
    pub running_for: Duration,
    /// How long the secondaries take after it, a state that only newer runtimes show; nothing at
    /// all skips it.
    pub secondaries_for: Duration,
    /// How it ends.
    pub outcome: RestoreOutcome,
}

/// What a restore comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// The partition has the state of the backup.
    Success,
    /// It fails, and the partition keeps its state.
    Failure,
    /// It does not end in time, and the partition keeps its state.
    Timeout,
}

impl Default for RestorePlan {
    fn default() -> Self {
        Self {
            accepted_for: Duration::from_secs(5),
            running_for: Duration::from_secs(30),
            secondaries_for: Duration::from_secs(10),
            outcome: RestoreOutcome::Success,
        }
    }
}

/// `RestoreState`, by the words of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum RestoreState {
    Accepted,
    RestoreInProgress,
    SecondariesInProgress,
    Success,
    Failure,
    Timeout,
}

/// What the service remembers of the last restore of a partition.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Restore {
    pub(in crate::simulator) state: RestoreState,
    /// When it succeeded.
    pub(in crate::simulator) ended: Option<DateTime<Utc>>,
    /// Epoch and LSN of the backup, for as long as it has not failed.
    pub(in crate::simulator) target: Option<(Epoch, u64)>,
    plan: RestorePlan,
}

impl RestoreState {
    pub(in crate::simulator) fn word(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::RestoreInProgress => "RestoreInProgress",
            Self::SecondariesInProgress => "SecondariesInProgress",
            Self::Success => "Success",
            Self::Failure => "Failure",
            Self::Timeout => "Timeout",
        }
    }

    fn is_end(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Timeout)
    }
}

impl Estate {
    /// Requests a restore of a listed backup: the one of this id, or the newest.
    pub fn request_restore(
        &mut self,
        id: Uuid,
        backup: Option<Uuid>,
        plan: RestorePlan,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        self.tick(now);
        let listed = self.listed(&Entity::Partition(id), now)?;
        if self.restore_runs(id) {
            return Err(Refusal::RestoreInProgress);
        }
        if self.request_runs(id) {
            return Err(Refusal::InProgress);
        }
        let wanted = |it: Uuid| backup.is_none_or(|wanted| wanted == it);
        let mut newest_first = listed.iter().rev().map(|it| &it.backup);
        let target = newest_first
            .find_map(|it| Some((it.epoch, it.lsn?)).filter(|_| wanted(it.id)))
            .ok_or(Refusal::NoSuchBackup)?;
        let next = later(now, plan.accepted_for);
        self.periodic.agenda.insert((next, id, Step::Restore));
        let restore = Restore {
            state: RestoreState::Accepted,
            ended: None,
            target: Some(target),
            plan,
        };
        self.periodic.restores.insert(id, restore);
        Ok(())
    }

    /// The last restore of a partition.
    pub(in crate::simulator) fn restore_of(&self, id: Uuid) -> Option<&Restore> {
        self.periodic.restores.get(&id)
    }

    pub(super) fn restore_runs(&self, id: Uuid) -> bool {
        self.restore_of(id).is_some_and(|it| !it.state.is_end())
    }

    pub(super) fn advance_restore(&mut self, id: Uuid, at: DateTime<Utc>) {
        let Some(restore) = self.periodic.restores.get_mut(&id) else {
            return;
        };
        let next = match (restore.state, restore.plan.outcome) {
            (RestoreState::Accepted, _) => {
                restore.state = RestoreState::RestoreInProgress;
                Some(restore.plan.running_for)
            }
            (RestoreState::RestoreInProgress, RestoreOutcome::Success) => {
                restore.state = RestoreState::SecondariesInProgress;
                let target = restore.target;
                let secondaries = restore.plan.secondaries_for;
                self.lose_data(id, target, at);
                if secondaries.is_zero() {
                    return self.advance_restore(id, at);
                }
                Some(secondaries)
            }
            (RestoreState::RestoreInProgress, outcome) => {
                restore.target = None;
                restore.state = match outcome {
                    RestoreOutcome::Timeout => RestoreState::Timeout,
                    _ => RestoreState::Failure,
                };
                None
            }
            (RestoreState::SecondariesInProgress, _) => {
                restore.state = RestoreState::Success;
                restore.ended = Some(at);
                self.periodic.report_restore(id, at);
                None
            }
            _ => None,
        };
        let next = next.map(|delay| (later(at, delay), id, Step::Restore));
        self.periodic.agenda.extend(next);
    }

    /// A restore makes a data loss on purpose; the log goes on from where the backup ends.
    fn lose_data(&mut self, id: Uuid, target: Option<(Epoch, u64)>, at: DateTime<Utc>) {
        let (Some(partition), Some((_, lsn))) = (self.partitions.get_mut(&id), target) else {
            return;
        };
        partition.lsn = lsn;
        partition.epoch.data_loss = super::filetime(at).max(partition.epoch.data_loss + 1);
        self.periodic.lose_chain(id, at);
    }
}
