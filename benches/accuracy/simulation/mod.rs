//! Months of simulated clusters, watched by the exporter and compared with the truth.
//!
//! Responsible for the lifetime of a cluster: the exporter's process runs, stops and starts, and
//! each minute a scrape compares its verdicts with what is true. Every cluster has its own seed,
//! so the same plan gives the same figures on any number of threads.

mod answers;
pub(crate) mod calendar;
mod exporter;
mod follower;
pub(crate) mod promises;
pub(crate) mod rates;
mod sight;
mod site;
mod source;
pub(crate) mod tally;
mod time;
mod trouble;
pub(crate) mod truth;
mod weather;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use servicefabric_backup_exporter::model::PartitionId;
use servicefabric_backup_exporter::protection::ProtectionState;
use servicefabric_backup_exporter::snapshot::Snapshot;
use uuid::Uuid;

use calendar::{DAY, MINUTE, SECOND};
use exporter::{Exporter, baselines};
use site::{Site, State};
use tally::{Look, Tally};
use truth::Truth;

/// Errors of one kind that are explained for each cluster.
const NOTES: u64 = 6;

/// 2026-01-05 at 01:07 UTC, a Monday: no run time of a policy.
const BEGIN: i64 = 1_767_571_200_000 + 67 * MINUTE;

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
    /// Whether the runtime has the faults of 6.4.
    pub(crate) is_old: bool,
    /// Whether the containers of some policies lie in one account.
    pub(crate) shares_account: bool,
    /// Whether the name of an application needs percent-encoding.
    pub(crate) has_encoded_names: bool,
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
            is_old: index.is_multiple_of(2),
            shares_account: index % 8 < 2,
            has_encoded_names: index % 8 > 5,
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
                    let tally = simulate(plan, plan.first + index);
                    sum.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add(tally);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Simulates one cluster in a runtime whose clock is paused: it goes on when all tasks wait.
fn simulate(plan: &Plan, index: usize) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be built");
    runtime.block_on(async { Cluster::new(plan, index).live().await })
}

/// A cluster, its exporter and the comparison of both.
struct Cluster {
    index: usize,
    plan: Plan,
    setting: Setting,
    site: Arc<Site>,
    exporter: Exporter,
    tally: Tally,
    /// How often each kind of error was noted.
    noted: BTreeMap<&'static str, u64>,
}

impl Cluster {
    fn new(plan: &Plan, index: usize) -> Self {
        time::begin(BEGIN);
        let setting = Setting::of(index);
        let seed = plan
            .seed
            .wrapping_mul(0x9e37_79b9)
            .wrapping_add(index as u64);
        let site = Arc::new(Site::new(seed, plan.partitions, plan.unrest, &setting));
        Self {
            index,
            plan: *plan,
            setting,
            exporter: Exporter::start(Arc::clone(&site), &setting),
            site,
            tally: Tally::default(),
            noted: BTreeMap::new(),
        }
    }

    async fn live(mut self) -> Tally {
        let end = BEGIN + self.plan.days * DAY;
        let mut minute = BEGIN;
        while minute < end {
            time::wait_until(minute).await;
            self.start_or_stop(minute).await;
            time::wait_until(minute + self.setting.scrape).await;
            self.scrape();
            minute += MINUTE;
        }
        self.exporter.stop().await;
        let mut state = self.site.lock();
        self.tally.add(std::mem::take(&mut state.tally));
        for (_, follower) in std::mem::take(&mut state.truths).into_values() {
            follower.end(&mut self.tally);
        }
        self.tally
    }

    async fn start_or_stop(&mut self, now: i64) {
        let is_down = {
            let mut state = self.site.lock();
            state.advance(now);
            state.weather.down.strikes(now)
        };
        match (is_down, self.exporter.runs()) {
            (true, true) => self.exporter.stop().await,
            (true, false) => self.site.lock().watch(now),
            (false, false) => self.exporter.restart(),
            (false, true) => {}
        }
    }

    /// Compares what a scrape shows with what is true.
    fn scrape(&mut self) {
        let now = time::now();
        let site = Arc::clone(&self.site);
        let mut state = site.lock();
        state.advance(now);
        let snapshot = self.exporter.snapshot();
        let mut truths = std::mem::take(&mut state.truths);
        for (id, (truth, follower)) in &mut truths {
            let sight = state.sight_of(*id);
            let instant = truth.at(now, &sight);
            let known = snapshot.partitions.get(&PartitionId(*id));
            let Some(known) = known.filter(|_| self.exporter.runs()) else {
                follower.look_away(now, instant, &mut self.tally);
                continue;
            };
            let verdict = self.exporter.verdict(&snapshot, known);
            let is_fine = matches!(
                verdict,
                ProtectionState::Protected | ProtectionState::Unknown
            );
            let excuse = if is_fine {
                ""
            } else {
                excuse(&state, &self.exporter, truth, *id, now)
            };
            let needs_list = instant
                .breach
                .is_some_and(|breach| breach.needs_list_since.is_some());
            let is_unanswered = sight.list_asked > sight.complete_list;
            let lists_fail = needs_list && (is_unanswered || !state.can_list(*id, now));
            let look = Look {
                now,
                truth: instant,
                verdict,
                naive: baselines(known, state.listed(*id)),
                lists_fail,
                excuse,
            };
            if let Some(wrong) = follower.look(&look, &mut self.tally) {
                self.explain(wrong, *id, &look, truth, &snapshot);
            }
        }
        state.truths = truths;
    }

    fn explain(
        &mut self,
        wrong: &'static str,
        id: Uuid,
        look: &Look,
        truth: &Truth,
        snapshot: &Snapshot,
    ) {
        let noted = self.noted.entry(wrong).or_default();
        if !self.plan.explains || *noted >= NOTES {
            return;
        }
        *noted += 1;
        let known = snapshot.partitions.get(&PartitionId(id));
        let evidence = known.map(|known| self.exporter.evidence(snapshot, known));
        self.tally.notes.push(format!(
            "{wrong}: cluster {}, {id}, {}, {look:?}\n    {truth:?}\n    {}\n    {:?}",
            self.index,
            time::moment(look.now),
            evidence.unwrap_or_default(),
            known.map(|known| &known.successes),
        ));
    }
}

/// What may have led to an alarm that should not be.
fn excuse(state: &State, exporter: &Exporter, truth: &Truth, id: Uuid, now: i64) -> &'static str {
    let lately = |at: Option<i64>, limit: i64| at.is_some_and(|at| now - at < limit);
    let weather = &state.weather;
    if weather.late.strikes(now) {
        "the health store is late"
    } else if lately(truth.last_success(), 5 * MINUTE) {
        "a backup had ended just before, or between the same polls"
    } else if lately(exporter.forgot, 4 * DAY) {
        "a start without a state file"
    } else if lately(weather.clock_set, 4 * DAY) {
        "the exporter's clock was set"
    } else if lately(weather.restarted_unseen.get(&id).copied(), 4 * DAY) {
        "a restart that shows nowhere"
    } else {
        "other"
    }
}
