//! The timers that primary replicas carry: periodic backups, one event after the other.
//!
//! Responsible for when a backup starts and ends and what it leaves behind: a health event, an
//! entry in a list, a longer chain. It may not touch the record of requested backups. Whatever
//! is due is kept in order of time and every partition draws its own chance, so many small steps
//! and one large one come to the same.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::health::{Report, Said};
use super::log::{Happened, Happening};
use super::policy::{InForce, Policies};
use super::protection::Mappings;
use super::replica::{Replica, Running, Tempo, draw};
use super::restore::Restore;
use super::store::{Backup, Stores};
use super::{Entity, Estate, later};

/// Everything that moves without being asked, and what it moves by.
#[derive(Debug, Default)]
pub(in crate::simulator) struct Periodic {
    pub(in crate::simulator) policies: Policies,
    pub(super) mappings: Mappings,
    pub(super) suspensions: BTreeSet<Entity>,
    pub(super) tempo: Tempo,
    pub(super) stores: Stores,
    pub(super) replicas: HashMap<Uuid, Replica>,
    pub(super) restores: HashMap<Uuid, Restore>,
    /// What happens next, in order.
    pub(super) agenda: BTreeSet<(DateTime<Utc>, Uuid, Step)>,
    attempts: u64,
    /// What happened since it was last taken out; `None` while nobody wants to know.
    pub(super) log: Option<Vec<Happened>>,
}

/// Something that happens to one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// It hears what applies to it now.
    Configure,
    /// Its timer dies, and nobody notices.
    Silence,
    /// A backup starts.
    Start,
    /// The backup that runs has ended.
    End,
    /// A restore moves along.
    Restore,
}

impl Estate {
    /// Sets how long things take from now on.
    pub fn set_tempo(&mut self, tempo: Tempo) {
        self.periodic.tempo = tempo;
    }

    /// Does everything that was due until `now`, in order of time.
    pub fn tick(&mut self, now: DateTime<Utc>) {
        loop {
            let requested = self.next_request().filter(|(at, _)| *at <= now);
            let step = self.periodic.agenda.first().copied();
            let step = step.filter(|(at, _, _)| *at <= now);
            match (requested, step) {
                (Some((at, id)), None) => self.advance_request(id, at),
                (Some((at, id)), Some(step)) if at <= step.0 => self.advance_request(id, at),
                (_, Some(step)) => {
                    self.periodic.agenda.remove(&step);
                    self.take(step);
                }
                (None, None) => return,
            }
        }
    }

    /// How many periodic backups were tried.
    pub fn attempts(&self) -> u64 {
        self.periodic.attempts
    }

    /// When the timer of a partition fires next; `None` when it has none that runs.
    pub fn next_backup(&self, id: Uuid) -> Option<DateTime<Utc>> {
        let (at, step) = self.periodic.replicas.get(&id)?.timer?;
        (step == Step::Start).then_some(at)
    }

    /// Lets the timers of these partitions die at a moment, as an upgrade once did: nothing but
    /// the age of the last event tells. A new configuration brings a timer back.
    pub fn stop_silently(&mut self, ids: impl IntoIterator<Item = Uuid>, at: DateTime<Utc>) {
        let steps = ids.into_iter().map(|id| (at, id, Step::Silence));
        self.periodic.agenda.extend(steps);
    }

    /// Moves the primary of a partition: a backup under way is lost without a word and taken
    /// anew at once, in full, unless it would have been the first.
    pub fn move_primary(&mut self, id: Uuid, now: DateTime<Utc>) {
        self.tick(now);
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        partition.epoch.configuration += 1 << 32;
        let Some(replica) = self.periodic.replicas.get_mut(&id) else {
            return;
        };
        replica.chain = None;
        if replica.running.take().is_some() {
            let next = if replica.has_recovery_point {
                Some(now)
            } else {
                replica.next_turn(now, &self.periodic.tempo)
            };
            self.periodic
                .set_timer(id, next.map(|at| (at, Step::Start)));
        }
    }

    /// A requested backup has reached the storage of the policy: it is listed, and the chain of
    /// the periodic ones ends.
    pub(super) fn list_requested(&mut self, id: Uuid, backup: Backup) {
        self.keep(id, backup);
        if let Some(replica) = self.periodic.replicas.get_mut(&id) {
            replica.chain = None;
        }
    }

    /// When a periodic backup that runs now will have ended: a requested one waits for it.
    pub(super) fn busy_until(&self, id: Uuid) -> Option<DateTime<Utc>> {
        let replica = self.periodic.replicas.get(&id)?;
        replica.running.as_ref()?;
        Some(replica.timer?.0)
    }

    fn take(&mut self, (at, id, step): (DateTime<Utc>, Uuid, Step)) {
        match step {
            Step::Configure => self.configure(id, at),
            Step::Silence => self.periodic.silence(id),
            Step::Start => self.start_backup(id, at),
            Step::End => self.end_backup(id, at),
            Step::Restore => self.advance_restore(id, at),
        }
    }

    fn configure(&mut self, id: Uuid, at: DateTime<Utc>) {
        if !self.partitions.contains_key(&id) {
            return;
        }
        let entity = Entity::Partition(id);
        let protection = self.protection(&entity);
        let wanted = protection.filter(|it| it.suspended_from.is_none());
        let wanted = wanted.and_then(|_| self.policy_of(&entity).cloned());
        let replicas = &mut self.periodic.replicas;
        let replica = replicas.entry(id).or_insert_with(|| Replica::new(id));
        let version = |policy: &Option<Arc<InForce>>| policy.as_ref().map(|it| it.version);
        if version(&wanted) == version(&replica.active) {
            return;
        }
        let is_active = wanted.is_some();
        if wanted.is_none() {
            replica.backup = Some(Report::after(replica.backup, Said::Disabled, at));
        }
        replica.restart(wanted);
        let next = replica.next_turn(at, &self.periodic.tempo);
        self.periodic
            .set_timer(id, next.map(|at| (at, Step::Start)));
        let configured = Happening::Configured { active: is_active };
        self.periodic.note(at, id, configured);
    }

    fn start_backup(&mut self, id: Uuid, at: DateTime<Utc>) {
        if let Some(free) = self.request_runs_until(id).filter(|free| *free > at) {
            return self.periodic.set_timer(id, Some((free, Step::Start)));
        }
        let periodic = &mut self.periodic;
        let (Some(partition), Some(replica)) =
            (self.partitions.get_mut(&id), periodic.replicas.get_mut(&id))
        else {
            return;
        };
        let Some(active) = &replica.active else {
            return;
        };
        let increments = active.policy.max_incremental_backups;
        // The schedule is kept in the partition itself, so even an idle one writes a little.
        partition.lsn += replica.rng.u64(1..500);
        let taken = later(at, draw(&mut replica.rng, &periodic.tempo.snapshot));
        let ended = later(taken, draw(&mut replica.rng, &periodic.tempo.upload));
        let full = replica.chain.is_none_or(|it| it.increments >= increments);
        replica.running = Some(Running {
            taken,
            full,
            lsn: partition.lsn,
        });
        periodic.attempts += 1;
        periodic.set_timer(id, Some((ended, Step::End)));
    }

    fn end_backup(&mut self, id: Uuid, at: DateTime<Utc>) {
        let periodic = &mut self.periodic;
        let Some(replica) = periodic.replicas.get_mut(&id) else {
            return;
        };
        let (Some(running), Some(active)) = (replica.running.take(), &replica.active) else {
            return;
        };
        if periodic.policies.storage_fails(&active.policy.name, at) {
            replica.backup = Some(Report::after(replica.backup, Said::Failed, at));
            let next = replica.next_try(at, &periodic.tempo);
            periodic.set_timer(id, next.map(|at| (at, Step::Start)));
            return periodic.note(at, id, Happening::Failed);
        }
        replica.backup = Some(Report::after(replica.backup, Said::BackedUp, at));
        replica.has_recovery_point = true;
        replica.failures = 0;
        let (backup, chain) = replica.lengthen_chain(running.full);
        let next = replica.next_turn(at, &periodic.tempo);
        periodic.set_timer(id, next.map(|at| (at, Step::Start)));
        let taken = running.taken;
        periodic.note(at, id, Happening::BackedUp { taken });
        let Some(partition) = self.partitions.get(&id) else {
            return;
        };
        let epoch = partition.epoch;
        self.keep(
            id,
            Backup {
                id: backup,
                chain,
                full: running.full,
                taken: running.taken,
                lsn: Some(running.lsn),
                epoch,
            },
        );
    }
}

impl Periodic {
    /// Replaces the timer of a replica.
    fn set_timer(&mut self, id: Uuid, next: Option<(DateTime<Utc>, Step)>) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut replica.timer, next);
        if let Some((at, step)) = before {
            self.agenda.remove(&(at, id, step));
        }
        self.agenda.extend(next.map(|(at, step)| (at, id, step)));
    }

    fn silence(&mut self, id: Uuid) {
        self.set_timer(id, None);
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.running = None;
        }
    }

    pub(super) fn report_restore(&mut self, id: Uuid, at: DateTime<Utc>) {
        let replica = self.replicas.entry(id).or_insert_with(|| Replica::new(id));
        replica.restore = Some(Report::after(replica.restore, Said::Restored, at));
    }

    /// The state of a partition is another one now: what runs is lost, and so is the chain.
    pub(super) fn lose_chain(&mut self, id: Uuid, at: DateTime<Utc>) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        replica.chain = None;
        if replica.running.take().is_some() {
            let next = replica.next_turn(at, &self.tempo);
            self.set_timer(id, next.map(|at| (at, Step::Start)));
        }
    }

    /// Forgets a partition that is gone; its backups stay where they are.
    pub(super) fn forget_partition(&mut self, id: Uuid) {
        self.set_timer(id, None);
        self.replicas.remove(&id);
        self.restores.remove(&id);
        self.forget(&Entity::Partition(id));
    }
}

#[cfg(test)]
mod tests;
