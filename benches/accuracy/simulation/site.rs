//! A simulated cluster with all that disturbs it, shared by the exporter and the judge.
//!
//! Responsible for moving the cluster along, for the truths about its partitions, and for when
//! each question about a partition was last answered. It must not look at a snapshot.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use servicefabric_backup_exporter::gateway::Error;
use servicefabric_backup_exporter::model::{DecodedList, ListedBackup, Name, PartitionId};
use servicefabric_backup_exporter::simulator::Entity;
use uuid::Uuid;

use super::answers::{Answers, Question};
use super::calendar::SECOND;
use super::follower::Follower;
use super::sight::Sight;
use super::tally::Tally;
use super::trouble::Trouble;
use super::truth::{COMPARABLE, Truth};
use super::weather::{Side, Weather};
use super::world::World;
use super::{Setting, time};

/// How long a slow gateway takes for an answer, in milliseconds: a cycle takes about three
/// intervals then.
const SLOW: std::ops::Range<u64> = 8_000..16_000;

/// A simulated cluster. The lock is never contended: a simulation has one thread.
pub(crate) struct Site(Mutex<State>);

/// All of a simulated cluster.
pub(crate) struct State {
    pub(crate) world: World,
    trouble: Trouble,
    pub(crate) weather: Weather,
    answers: Answers,
    rng: fastrand::Rng,
    pub(crate) truths: BTreeMap<Uuid, (Truth, Follower)>,
    /// The generation of the world's books that the truths know.
    known: Option<u64>,
    sights: BTreeMap<Uuid, Sight>,
    pub(crate) policies_read: Option<i64>,
    forgot: Option<i64>,
    pub(crate) heard: Heard,
    /// When the newest listed backup of a partition was taken, whatever it is worth.
    listed: BTreeMap<Uuid, i64>,
    /// Figures of partitions that are gone.
    pub(crate) tally: Tally,
}

/// What the exporter has heard of the cluster since its cycle began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) native: bool,
    pub(crate) service: Option<bool>,
    pub(crate) skew: Option<TimeDelta>,
}

impl Site {
    pub(crate) fn new(seed: u64, partitions: usize, unrest: f64, setting: &Setting) -> Self {
        let now = time::now();
        let world = World::new(seed, partitions, setting, now);
        let weather = Weather::with_skew(setting.skew);
        time::set_skew(weather.skew);
        Self(Mutex::new(State {
            trouble: Trouble::new(seed, setting, unrest, now, &world),
            world,
            weather,
            answers: Answers::new(seed),
            rng: fastrand::Rng::with_seed(seed ^ 0x510e),
            truths: BTreeMap::new(),
            known: None,
            sights: BTreeMap::new(),
            policies_read: None,
            forgot: None,
            heard: Heard::default(),
            listed: BTreeMap::new(),
            tally: Tally::default(),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets everything happen until `now`, and takes down what happened.
    pub(crate) fn advance(&mut self, now: i64) {
        self.trouble
            .advance(&mut self.world, &mut self.weather, now);
        time::set_skew(self.weather.skew);
        if self.known != Some(self.world.generation) {
            self.known = Some(self.world.generation);
            self.reread_books(now);
        }
        for (id, at) in std::mem::take(&mut self.world.restarted_unseen) {
            if let Some((truth, _)) = self.truths.get_mut(&id) {
                truth.restart_unseen(at);
            }
        }
        for happened in self.world.estate.take_log() {
            if let Some((truth, _)) = self.truths.get_mut(&happened.partition) {
                truth.note(happened.what, happened.at.timestamp_millis());
            }
        }
    }

    fn reread_books(&mut self, now: i64) {
        let mut before = std::mem::take(&mut self.truths);
        for id in self.world.partitions() {
            let known = before.remove(&id);
            let (mut truth, follower) = known.unwrap_or_else(|| {
                let hides_failures = self.world.hides_failures(id);
                (Truth::new(now, hides_failures), Follower::default())
            });
            truth.agree(self.world.terms(id), now);
            self.truths.insert(id, (truth, follower));
        }
        for (id, (_, follower)) in before {
            follower.end(&mut self.tally);
            self.sights.remove(&id);
            self.listed.remove(&id);
            self.answers.forget(PartitionId(id));
        }
    }

    /// Has a question answered at `now`.
    pub(crate) fn ask<T>(
        &mut self,
        side: Side,
        now: i64,
        question: impl FnOnce(&mut Answers, &mut Question<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut it = Question {
            world: &mut self.world,
            weather: &self.weather,
            now,
        };
        let answer = question(&mut self.answers, &mut it);
        if !self.weather.gateway.strikes(now) {
            self.heard.native |= side == Side::Gateway;
            // The header has whole seconds.
            let header = now - now.rem_euclid(SECOND);
            let skew = TimeDelta::milliseconds(header - (now - self.weather.skew));
            self.heard.skew = Some(skew);
        }
        if side == Side::BackupService {
            let service = !self.weather.service.strikes(now);
            self.heard.service = Some(self.heard.service.unwrap_or_default() || service);
        }
        answer
    }

    /// How long an answer to a question of this moment takes.
    pub(crate) fn delay(&mut self, now: i64) -> Option<Duration> {
        let is_slow = self.weather.slow.strikes(now);
        is_slow.then(|| Duration::from_millis(self.rng.u64(SLOW)))
    }

    pub(crate) fn begin_cycle(&mut self) {
        self.heard.native = false;
        self.heard.service = None;
    }

    /// A process begins that has seen nothing yet, and that remembers nothing since `forgot`.
    pub(crate) fn begin_process(&mut self, forgot: Option<i64>) {
        let remembers = self.forgot == forgot;
        self.forgot = forgot;
        for sight in self.sights.values_mut() {
            *sight = if remembers {
                sight.remembered()
            } else {
                Sight::default()
            };
        }
        self.policies_read = None;
        self.heard = Heard::default();
    }

    /// A minute in which nobody asks: a health store that is late shows it afterwards.
    pub(crate) fn watch(&mut self, now: i64) {
        let ids: Vec<Uuid> = self.truths.keys().copied().collect();
        let mut it = Question {
            world: &mut self.world,
            weather: &self.weather,
            now,
        };
        self.answers
            .watch(&mut it, ids.into_iter().map(PartitionId));
    }

    /// Whether the newest backup of a partition could be listed at `now`.
    pub(crate) fn can_list(&mut self, id: Uuid, now: i64) -> bool {
        let mut it = Question {
            world: &mut self.world,
            weather: &self.weather,
            now,
        };
        self.answers.can_list(&mut it, PartitionId(id))
    }

    pub(crate) fn sight(&mut self, id: PartitionId) -> &mut Sight {
        self.sights.entry(id.0).or_default()
    }

    /// An answer other than a list has reported a success.
    pub(crate) fn note_claim(
        &mut self,
        id: PartitionId,
        success: Option<DateTime<Utc>>,
        is_periodic: bool,
    ) {
        if let Some(success) = success {
            let success = success.timestamp_millis();
            self.sight(id).note_claim(success, is_periodic, time::now());
        }
    }

    /// When each question that matters for a partition was last answered.
    pub(crate) fn sight_of(&self, id: Uuid) -> Sight {
        Sight {
            policies: self.policies_read,
            forgot: self.forgot,
            clocks_disagree: self.clocks_disagree(),
            ..self.sights.get(&id).copied().unwrap_or_default()
        }
    }

    fn clocks_disagree(&self) -> bool {
        self.weather.skew.abs() > COMPARABLE
    }

    /// When the newest listed backup of a partition was taken.
    pub(crate) fn listed(&self, id: Uuid) -> Option<i64> {
        self.listed.get(&id).copied()
    }

    pub(crate) fn note_configuration(&mut self, application: &Name, at: i64) {
        for id in self.partitions_of(application) {
            self.sight(PartitionId(id)).configuration = Some(at);
        }
    }

    pub(crate) fn note_list(
        &mut self,
        application: &Name,
        at: i64,
        listed: &DecodedList<ListedBackup>,
    ) {
        let is_complete = listed.skipped == 0 && !self.world.hides_containers(application);
        self.note_list_about(self.partitions_of(application), at, is_complete, listed);
    }

    pub(crate) fn note_list_of(
        &mut self,
        id: PartitionId,
        at: i64,
        listed: &DecodedList<ListedBackup>,
    ) {
        self.note_list_about(vec![id.0], at, listed.skipped == 0, listed);
    }

    fn note_list_about(
        &mut self,
        ids: Vec<Uuid>,
        at: i64,
        is_complete: bool,
        listed: &DecodedList<ListedBackup>,
    ) {
        for id in &ids {
            self.listed.remove(id);
        }
        self.note_listed(listed);
        for id in &ids {
            let listed = self.listed(*id);
            let sight = self.sight(PartitionId(*id));
            sight.shown = sight.shown.max(listed);
        }
        // What was listed by a clock that is hours off is of no use once that clock is set.
        if self.clocks_disagree() {
            return;
        }
        for id in ids {
            let newest = self.truths.get(&id).and_then(|(truth, _)| truth.newest());
            let listed = self.listed(id);
            let sight = self.sight(PartitionId(id));
            sight.note_list(at, is_complete, listed, newest);
        }
    }

    /// A list of an application is asked for.
    pub(crate) fn note_list_asked(&mut self, application: &Name, at: i64) {
        for id in self.partitions_of(application) {
            self.sight(PartitionId(id)).list_asked = Some(at);
        }
    }

    fn note_listed(&mut self, listed: &DecodedList<ListedBackup>) {
        for backup in &listed.items {
            if let Some(created) = backup.created {
                let newest = self.listed.entry(backup.partition.0).or_insert(i64::MIN);
                *newest = (*newest).max(created.timestamp_millis());
            }
        }
    }

    fn partitions_of(&self, application: &Name) -> Vec<Uuid> {
        let application = Entity::Application(application.as_ref().into());
        self.world.estate.partitions_of(&application)
    }
}
