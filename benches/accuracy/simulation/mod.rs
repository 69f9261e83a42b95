//! Months of simulated clusters, watched by the exporter and by those who know the truth.
//!
//! Responsible for the course of a minute: what happens in the cluster, when the exporter reads
//! what, and when a scrape compares what it says with what is true. Every cluster has its own
//! seed, so that the same plan gives the same figures on any number of threads.

mod answers;
pub(crate) mod calendar;
mod observer;
pub(crate) mod promises;
pub(crate) mod rates;
pub(crate) mod tally;
mod trouble;
pub(crate) mod truth;
mod weather;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use servicefabric_backup_exporter::model::PartitionId;
use servicefabric_backup_exporter::protection::Protection;
use uuid::Uuid;

use answers::Question;
use calendar::{DAY, MINUTE, SECOND};
use observer::Observer;
use tally::{Follower, Look, Tally};
use trouble::Trouble;
use truth::Truth;
use weather::Weather;
use world::{World, moment};

/// Errors of one kind that are explained for each cluster.
const NOTES: u64 = 6;

/// 2026-01-05, a Monday.
const BEGIN: i64 = 1_767_571_200_000;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Number of the first cluster, which decides on its setting and its chance.
    pub(crate) first: usize,
    pub(crate) clusters: usize,
    /// Of each cluster at its beginning.
    pub(crate) partitions: usize,
    pub(crate) days: i64,
    pub(crate) threads: usize,
    /// How many times more often things go wrong than the rates say.
    pub(crate) unrest: f64,
    /// Whether what went wrong is noted with its evidence.
    pub(crate) explains: bool,
}

/// In what clusters differ from each other.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own, in every combination"
)]
pub(crate) struct Setting {
    /// Clock of the cluster minus that of the exporter at the beginning.
    skew: i64,
    /// When a scrape comes, after the beginning of a minute.
    scrape: i64,
    /// `expected_interval: 24h`, and something that requests backups where no policy applies.
    pub(crate) requests_expected: bool,
    /// Whether storages have keys that are renewed.
    pub(crate) has_keys: bool,
    pub(crate) has_state_file: bool,
    /// Whether an application without a policy hides the policies of its services.
    pub(crate) hides_services: bool,
}

/// Differences of clocks at the beginning, in milliseconds.
const SKEWS: [i64; 16] = [
    0, 400, -1_700, 3_000, -5_000, 45_000, -90_000, 0, 180_000, -240_000, 0, 900_000, -1_200_000,
    1_500, -2_500, 0,
];

impl Setting {
    fn of(index: usize) -> Self {
        let number = i64::try_from(index).unwrap_or_default();
        Self {
            skew: SKEWS.get(index % SKEWS.len()).copied().unwrap_or_default(),
            scrape: (number * 13 + 7) % 58 * SECOND + 2 * SECOND,
            requests_expected: index % 8 == 3,
            has_keys: index % 4 == 1,
            has_state_file: index % 4 != 2,
            hides_services: index % 2 == 1,
        }
    }
}

/// Runs the whole plan.
pub(crate) fn run(plan: &Plan) -> Tally {
    let next = AtomicUsize::new(0);
    let sum = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..plan.threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= plan.clusters {
                        return;
                    }
                    let tally = Cluster::new(plan, plan.first + index).live();
                    sum.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add(tally);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A cluster, its exporter and the truth about it.
struct Cluster {
    index: usize,
    plan: Plan,
    setting: Setting,
    world: World,
    trouble: Trouble,
    weather: Weather,
    observer: Observer,
    truths: BTreeMap<Uuid, (Truth, Follower)>,
    /// The generation of the world's books that the truths know.
    known: Option<u64>,
    cycles: i64,
    tally: Tally,
    /// How often each kind of error was noted.
    noted: BTreeMap<&'static str, u64>,
}

impl Cluster {
    fn new(plan: &Plan, index: usize) -> Self {
        let setting = Setting::of(index);
        let seed = plan
            .seed
            .wrapping_mul(0x9e37_79b9)
            .wrapping_add(index as u64);
        let world = World::new(seed, plan.partitions, &setting, BEGIN);
        let weather = Weather::with_skew(setting.skew);
        Self {
            index,
            plan: *plan,
            setting,
            trouble: Trouble::new(seed, &setting, plan.unrest, BEGIN, &world),
            world,
            weather,
            observer: Observer::new(seed, &setting),
            truths: BTreeMap::new(),
            known: None,
            cycles: 0,
            tally: Tally::default(),
            noted: BTreeMap::new(),
        }
    }

    fn live(mut self) -> Tally {
        let end = BEGIN + self.plan.days * DAY;
        let mut minute = BEGIN;
        while minute < end {
            self.minute(minute);
            minute += MINUTE;
        }
        for (_, follower) in std::mem::take(&mut self.truths).into_values() {
            follower.end(&mut self.tally);
        }
        self.tally
    }

    fn minute(&mut self, start: i64) {
        self.advance(start);
        self.start_or_stop(start);
        let scrape = start + self.setting.scrape;
        let is_slow = self.weather.slow.strikes(start);
        self.cycles += 1;
        let begins_cycle = !is_slow || self.cycles % 3 == 0;
        if !self.observer.runs || !begins_cycle {
            self.ask(start, Observer::look_away);
            return self.scrape(scrape);
        }
        self.ask(start, Observer::look_around);
        self.ask(start + SECOND, Observer::read_configuration);
        let ids = self.observer.known();
        let count = i64::try_from(ids.len()).unwrap_or(i64::MAX).max(1);
        // The first cycle of a process does not spread its requests.
        let (step, end) = if self.observer.is_new {
            (0, start + 5 * SECOND)
        } else {
            (48 * SECOND / count, start + 50 * SECOND)
        };
        let mut scraped = false;
        let mut at = start + SECOND;
        for id in ids {
            if !scraped && scrape <= at {
                self.scrape(scrape);
                scraped = true;
            }
            self.ask(at, |observer, it| observer.look_at(it, id));
            at += step;
        }
        if !scraped && scrape <= end {
            self.scrape(scrape);
            scraped = true;
        }
        self.ask(end, |observer, it| {
            observer.end_cycle(it);
            observer.list(it);
        });
        if !scraped {
            self.scrape(scrape);
        }
    }

    fn start_or_stop(&mut self, now: i64) {
        match (self.weather.down.strikes(now), self.observer.runs) {
            (true, true) => self.observer.stop(),
            (false, false) => self.observer.start(now - self.weather.skew),
            _ => {}
        }
    }

    fn ask<R>(&mut self, now: i64, ask: impl FnOnce(&mut Observer, &mut Question<'_>) -> R) -> R {
        self.advance(now);
        let mut question = Question {
            world: &mut self.world,
            weather: &self.weather,
            now,
        };
        ask(&mut self.observer, &mut question)
    }

    /// Lets the world go on, and writes down what happened.
    fn advance(&mut self, now: i64) {
        self.trouble
            .advance(&mut self.world, &mut self.weather, now);
        if self.known != Some(self.world.generation) {
            self.known = Some(self.world.generation);
            self.reread_books(now);
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
            let (mut truth, follower) =
                known.unwrap_or_else(|| (Truth::new(now), Follower::default()));
            truth.agree(self.world.terms(id), now);
            self.truths.insert(id, (truth, follower));
        }
        for (_, follower) in before.into_values() {
            follower.end(&mut self.tally);
        }
    }

    /// Compares what a scrape would show with what is true.
    fn scrape(&mut self, now: i64) {
        self.advance(now);
        let own = moment(now - self.weather.skew);
        for (id, (truth, follower)) in &mut self.truths {
            let sight = self.observer.sight(*id);
            let instant = truth.at(now, &sight);
            let known = self.observer.snapshot.partitions.get(&PartitionId(*id));
            let Some(known) = known.filter(|_| self.observer.runs) else {
                follower.look_away(now, instant, &mut self.tally);
                continue;
            };
            let verdict = self.observer.verdict(known, own);
            let is_fine = matches!(verdict, Protection::Protected | Protection::Unknown);
            let excuse = if is_fine {
                ""
            } else {
                excuse(&self.weather, &self.observer, truth, *id, now)
            };
            let look = Look {
                now,
                truth: instant,
                verdict,
                naive: self.observer.naive(known, now, own),
                excuse,
            };
            let wrong = follower.look(&look, &mut self.tally);
            let known_kind = |wrong: &&'static str| {
                self.plan.explains && self.noted.get(wrong).is_none_or(|count| *count < NOTES)
            };
            if let Some(wrong) = wrong.filter(known_kind) {
                *self.noted.entry(wrong).or_default() += 1;
                let evidence = self.observer.evidence(known, own);
                self.tally.notes.push(format!(
                    "{wrong}: cluster {}, {id}, {}, {look:?}\n    {truth:?}\n    {evidence}",
                    self.index,
                    moment(now),
                ));
            }
        }
    }
}

/// What may have led to an alarm that should not be.
fn excuse(
    weather: &Weather,
    observer: &Observer,
    truth: &Truth,
    id: Uuid,
    now: i64,
) -> &'static str {
    let lately = |at: Option<i64>, limit: i64| at.is_some_and(|at| now - at < limit);
    if lately(weather.rotated.get(&id).copied(), 4 * DAY) {
        "a key was renewed"
    } else if weather.late.strikes(now) {
        "the health store is late"
    } else if lately(truth.last_success(), 5 * MINUTE) {
        "a backup had ended just before, or between the same polls"
    } else if lately(observer.forgot, 4 * DAY) {
        "a start without memory"
    } else if lately(weather.clock_set, 4 * DAY) {
        "the exporter's clock was set"
    } else {
        "other"
    }
}
