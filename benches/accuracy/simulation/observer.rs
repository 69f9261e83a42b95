//! The exporter under test: reads as its poller does, in the order of its cycle, on its own clock.
//!
//! Responsible for what is known, what a restart forgets, and what a scrape shows; `cycle` reads. All
//! goes through the client's decoding into `Snapshot::advance`; the verdict is the exporter's. It may
//! not look at the truth; it notes only when it has read what.

mod cycle;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use servicefabric_backup_exporter::model::{BackupState, PartitionId};
use servicefabric_backup_exporter::protection::{Protection, Read, Rules, judge};
use servicefabric_backup_exporter::snapshot::{Observations, PartitionSnapshot, Reading, Snapshot};
use servicefabric_backup_exporter::state_file::{self, StateFile};
use tempfile::TempDir;
use uuid::Uuid;

use super::Setting;
use super::answers::{Answers, Question};
use super::calendar::DAY;
use super::truth::{ALLOWANCE, LIST_STALENESS, STALENESS, STUCK_AFTER, Sight};
use super::world::moment;

const CLUSTER: &str = "simulated";

/// What a partition was last read to be, on the clock of the cluster.
#[derive(Clone, Copy, Debug)]
enum Looked {
    Record,
    Health,
}

/// An exporter that watches one cluster.
#[derive(Debug)]
pub(crate) struct Observer {
    answers: Answers,
    rules: Rules,
    pub(crate) snapshot: Snapshot,
    remembers: Option<TempDir>,
    read: Vec<(PartitionId, Read<Reading>)>,
    looked: Vec<(Uuid, Looked, i64)>,
    sights: BTreeMap<Uuid, Sight>,
    policies_read: Option<i64>,
    next_list: i64,
    /// When the newest listed backup of a partition was taken, whatever it is worth.
    listed: BTreeMap<Uuid, i64>,
    pub(crate) runs: bool,
    /// Whether the next cycle is the first of its process.
    pub(crate) is_new: bool,
    /// When a process last began without memory.
    pub(crate) forgot: Option<i64>,
}

impl Observer {
    pub(crate) fn new(seed: u64, setting: &Setting) -> Self {
        let delta = TimeDelta::milliseconds;
        let expected = setting.requests_expected.then(|| delta(DAY));
        Self {
            answers: Answers::new(seed, setting),
            rules: Rules {
                staleness: delta(STALENESS),
                list_staleness: delta(LIST_STALENESS),
                overdue_allowance: delta(ALLOWANCE),
                run_tolerance: TimeDelta::minutes(1),
                stuck_after: delta(STUCK_AFTER),
                expected_interval: expected,
                reads_configuration: true,
                reads_lists: true,
            },
            snapshot: Snapshot::empty(CLUSTER.into()),
            remembers: setting
                .has_state_file
                .then(|| TempDir::new().expect("there is a folder for temporary files")),
            read: Vec::new(),
            looked: Vec::new(),
            sights: BTreeMap::new(),
            policies_read: None,
            next_list: i64::MIN,
            listed: BTreeMap::new(),
            runs: true,
            is_new: true,
            forgot: None,
        }
    }

    /// Ends the process.
    pub(crate) fn stop(&mut self) {
        self.runs = false;
    }

    /// Begins another one, with what the state file remembers, if there is one.
    pub(crate) fn start(&mut self, now: i64) {
        let stopped = std::mem::replace(&mut self.snapshot, Snapshot::empty(CLUSTER.into()));
        match &self.remembers {
            Some(folder) => self.snapshot = remembered(folder, stopped, moment(now)),
            None => self.forgot = Some(now),
        }
        self.read.clear();
        self.looked.clear();
        self.sights.clear();
        self.policies_read = None;
        self.next_list = i64::MIN;
        (self.runs, self.is_new) = (true, true);
    }

    /// When what is needed for the verdict on a partition was last published.
    pub(crate) fn sight(&self, id: Uuid) -> Sight {
        let sight = self.sights.get(&id).copied().unwrap_or_default();
        Sight {
            policies: self.policies_read,
            ..sight
        }
    }

    /// The verdict that a scrape shows.
    pub(crate) fn verdict(&self, known: &PartitionSnapshot, now: DateTime<Utc>) -> Protection {
        judge(&known.facts(&self.snapshot), &self.rules, now).state
    }

    pub(crate) fn evidence(&self, known: &PartitionSnapshot, now: DateTime<Utc>) -> String {
        let facts = known.facts(&self.snapshot);
        let verdict = judge(&facts, &self.rules, now);
        let rows = servicefabric_backup_exporter::protection::evidence::evidence(
            &facts,
            &self.rules,
            &verdict,
            now,
        );
        let rows = rows.iter().filter_map(|row| {
            let age = row
                .age_seconds
                .map_or_else(String::new, |age| format!(" ({age} s)"));
            Some(format!("{}: {}{age}", row.fact, row.value.as_ref()?))
        });
        rows.collect::<Vec<_>>().join("; ")
    }

    /// Whether the two baselines ring: on a record of a request that failed or is older than a
    /// day; on a newest listed backup that is older than a day.
    pub(crate) fn naive(
        &self,
        known: &PartitionSnapshot,
        now: i64,
        own: DateTime<Utc>,
    ) -> [bool; 2] {
        let is_old = |taken: DateTime<Utc>| own - taken > TimeDelta::milliseconds(DAY);
        let record = known.record();
        let by_record = record.is_some_and(|record| match record.state {
            BackupState::Failure | BackupState::Timeout => true,
            _ => record.timestamp.is_some_and(is_old),
        });
        let listed = self.listed.get(&known.partition.id.0);
        [by_record, listed.is_some_and(|taken| now - taken > DAY)]
    }

    /// Takes observations in, at a moment of the cluster.
    fn publish(&mut self, observations: Observations, it: &Question<'_>) {
        self.snapshot = self.snapshot.advance(observations, own(it));
    }
}

/// What was read, at the moment that the exporter's clock shows.
fn read<T>(value: T, it: &Question<'_>) -> Read<T> {
    Read { value, at: own(it) }
}

/// The exporter's clock.
fn own(it: &Question<'_>) -> DateTime<Utc> {
    moment(it.now - it.weather.skew)
}

fn remembered(folder: &TempDir, stopped: Snapshot, now: DateTime<Utc>) -> Snapshot {
    let path = folder.path().join("state.json");
    let saved = StateFile::new(path.clone()).save(&[Arc::new(stopped)]);
    saved.expect("the state file can be written");
    let loaded = state_file::load(&path, now).expect("the state file is none but ours");
    let mut clusters = loaded.clusters;
    clusters.remove(CLUSTER).expect("the state file remembers")
}
