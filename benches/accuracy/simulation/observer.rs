//! The exporter under test: reads as its poller does, in the order of its cycle, on its own clock.
//!
//! Responsible for what is read when, what is published together, and what a restart forgets. What
//! it reads goes through the client's decoding into `Snapshot::advance`; the verdict is the
//! exporter's. It may not look at the truth; it notes only when it has read what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use servicefabric_backup_exporter::inventory::{Inventory, Scope};
use servicefabric_backup_exporter::model::{
    BackupState, Configuration, Entity, Name, Partition, PartitionId,
};
use servicefabric_backup_exporter::protection::applied::Settings;
use servicefabric_backup_exporter::protection::{Protection, Read, Rules, judge};
use servicefabric_backup_exporter::snapshot::{
    ClusterReading, Observations, PartitionSnapshot, Reading, Snapshot,
};
use servicefabric_backup_exporter::state_file::{self, StateFile};
use tempfile::TempDir;
use uuid::Uuid;

use super::Setting;
use super::answers::{Answers, Question};
use super::calendar::{DAY, MINUTE, SECOND};
use super::truth::{ALLOWANCE, LIST_STALENESS, STALENESS, STUCK_AFTER, Sight};
use super::world::moment;

const CLUSTER: &str = "simulated";

/// `poll.backups_interval`.
const LISTS_EVERY: i64 = 15 * MINUTE;

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

/// A cycle, in the order of the poller.
impl Observer {
    /// Inventory and policies.
    pub(crate) fn look_around(&mut self, it: &mut Question<'_>) {
        let inventory = self.inventory(it);
        let policies = self.answers.policies(it, &()).ok();
        if policies.is_some() {
            self.policies_read = Some(it.now);
        }
        let observations = Observations {
            inventory: Some(read(inventory, it)),
            policies: policies.map(|policies| read(policies, it)),
            ..Observations::default()
        };
        self.publish(observations, it);
        let ids: Vec<Uuid> = self.snapshot.partitions.keys().map(|id| id.0).collect();
        if ids.len() != self.sights.len() {
            self.sights.retain(|id, _| ids.contains(id));
            self.answers.keep_only(&ids);
        }
        for id in ids {
            self.sights.entry(id).or_default();
        }
    }

    fn inventory(&mut self, it: &mut Question<'_>) -> Inventory {
        let mut inventory = Inventory::default();
        let Ok(applications) = self.answers.applications(it, &()) else {
            inventory.unread.push(Scope::Cluster);
            return inventory;
        };
        for application in applications {
            let Ok(services) = self.answers.services(it, &application) else {
                inventory.unread.push(Scope::Application(application));
                continue;
            };
            for service in services {
                let Ok(partitions) = self.answers.partitions(it, &service) else {
                    inventory.unread.push(Scope::Service(service));
                    continue;
                };
                inventory
                    .listed
                    .extend(partitions.into_iter().map(|listed| Partition {
                        id: listed.id,
                        application: Some(Arc::clone(&application)),
                        service: Some(Arc::clone(&service)),
                        kind: Some(listed.kind),
                        data_loss: listed.data_loss_time,
                    }));
            }
        }
        inventory
    }

    /// What is set in each application, and below those that say they have nothing.
    pub(crate) fn read_configuration(&mut self, it: &mut Question<'_>) {
        let mut lines = BTreeMap::new();
        for application in self.applications(|_| true) {
            if let Ok(read) = self.answers.configuration(it, &application) {
                lines.insert(application, read);
            }
        }
        let bare = lines.iter().filter(|(_, lines)| lines.is_empty());
        let bare: BTreeSet<Name> = bare.map(|(name, _)| Arc::clone(name)).collect();
        match self.look_below(it, &bare) {
            Some(below) => lines.extend(below),
            None => lines.retain(|application, _| !bare.contains(application)),
        }
        for known in self.snapshot.partitions.values() {
            let application = known.partition.application.as_ref();
            if application.is_some_and(|name| lines.contains_key(name))
                && let Some(sight) = self.sights.get_mut(&known.partition.id.0)
            {
                sight.configuration = Some(it.now);
            }
        }
        let settings = lines.into_iter().map(|(application, lines)| {
            let settings: Settings = lines.into_iter().collect();
            (application, read(settings, it))
        });
        let observations = Observations {
            settings: settings.collect(),
            ..Observations::default()
        };
        self.publish(observations, it);
    }

    /// `None` when it cannot be told.
    fn look_below(
        &mut self,
        it: &mut Question<'_>,
        bare: &BTreeSet<Name>,
    ) -> Option<BTreeMap<Name, Vec<Configuration>>> {
        let mut found: BTreeMap<Name, Vec<Configuration>> = BTreeMap::new();
        if bare.is_empty() {
            return Some(found);
        }
        let policies = self.snapshot.policies.as_ref();
        let policies = policies.filter(|policies| own(it) - policies.at < self.rules.staleness)?;
        let names: Vec<Name> = policies.value.keys().cloned().collect();
        let mut places = BTreeMap::new();
        for known in self.snapshot.partitions.values() {
            if let (Some(service), Some(application)) =
                (&known.partition.service, &known.partition.application)
            {
                places.insert(Arc::clone(service), Arc::clone(application));
            }
        }
        let mut services = BTreeSet::new();
        for policy in names {
            for entity in self.answers.entities(it, &policy).ok()? {
                let service = self.service_of(&entity);
                let place = service.and_then(|service| places.get_key_value(&service));
                let Some((service, application)) = place.filter(|place| bare.contains(place.1))
                else {
                    continue;
                };
                services.insert((Arc::clone(service), Arc::clone(application)));
                let line = Configuration {
                    policy: Some(Arc::clone(&policy)),
                    policy_from: None,
                    suspended_at: None,
                    entity,
                };
                found.entry(Arc::clone(application)).or_default().push(line);
            }
        }
        for (service, application) in services {
            let below = self.answers.below(it, &service).ok()?;
            found.entry(application).or_default().extend(below);
        }
        Some(found)
    }

    fn service_of(&self, entity: &Entity) -> Option<Name> {
        match entity {
            Entity::Application(_) => None,
            Entity::Service(name) => Some(Arc::clone(name)),
            Entity::Partition(id) => self.snapshot.partitions.get(id)?.partition.service.clone(),
        }
    }

    /// Applications with a known partition that is as wanted.
    fn applications(&self, wanted: impl Fn(&PartitionSnapshot) -> bool) -> BTreeSet<Name> {
        let known = self.snapshot.partitions.values();
        let known = known.filter(|known| wanted(known));
        known
            .filter_map(|known| known.partition.application.clone())
            .collect()
    }

    /// The partitions that a cycle reads, in its order.
    pub(crate) fn known(&self) -> Vec<PartitionId> {
        self.snapshot.partitions.keys().copied().collect()
    }

    /// A minute in which nothing is read.
    pub(crate) fn look_away(&mut self, it: &mut Question<'_>) {
        let known = self.known();
        self.answers.watch(it, &known);
    }

    /// Record and health of one partition.
    pub(crate) fn look_at(&mut self, it: &mut Question<'_>, id: PartitionId) {
        if let Some(reading) = self.answers.record(it, id) {
            if reading != Reading::NotFound {
                self.looked.push((id.0, Looked::Record, it.now));
            }
            self.read.push((id, read(reading, it)));
        }
        // Periodic backups exist only where a policy applies; where that is not known, it may.
        let known = self.snapshot.partitions.get(&id);
        if known.is_some_and(|known| known.applied_at.is_some() && !known.has_policy()) {
            return;
        }
        if let Some(reading) = self.answers.health(it, id) {
            self.looked.push((id.0, Looked::Health, it.now));
            self.read.push((id, read(reading, it)));
        }
    }

    /// The end of a cycle: all that was read of partitions is known from now on.
    pub(crate) fn end_cycle(&mut self, it: &Question<'_>) {
        // The header has whole seconds, and took its time.
        let header = it.now - it.now.rem_euclid(SECOND);
        let skew = TimeDelta::milliseconds(header - (it.now - it.weather.skew));
        let observations = Observations {
            partitions: std::mem::take(&mut self.read),
            cluster: Some(ClusterReading {
                up: !it.weather.gateway.strikes(it.now),
                service_up: None,
                version: None,
                clock_skew: Some(skew),
            }),
            ..Observations::default()
        };
        self.publish(observations, it);
        for (id, looked, at) in std::mem::take(&mut self.looked) {
            if let Some(sight) = self.sights.get_mut(&id) {
                match looked {
                    Looked::Record => sight.progress = Some(at),
                    Looked::Health => sight.health = Some(at),
                }
            }
        }
        self.is_new = false;
    }

    /// Lists backups, if it is time.
    pub(crate) fn list(&mut self, it: &mut Question<'_>) {
        let applications = self.applications(PartitionSnapshot::has_policy);
        if it.now < self.next_list || applications.is_empty() {
            return;
        }
        self.next_list = it.now + LISTS_EVERY;
        let mut newest = Vec::new();
        for application in applications {
            let away = self.storage_is_away(&application, it);
            let Ok(listed) = self.answers.newest(it, &application, away) else {
                continue;
            };
            for known in self.snapshot.partitions.values() {
                let id = known.partition.id.0;
                if known.partition.application.as_ref() == Some(&application)
                    && let Some(sight) = self.sights.get_mut(&id)
                {
                    sight.list = Some(it.now);
                    self.listed.remove(&id);
                }
            }
            let times = listed.iter().filter_map(|backup| {
                Some((backup.partition.0, backup.created?.timestamp_millis()))
            });
            self.listed.extend(times);
            newest.push((application, read(listed, it)));
        }
        let observations = Observations {
            newest,
            ..Observations::default()
        };
        self.publish(observations, it);
    }

    fn storage_is_away(&self, application: &Name, it: &Question<'_>) -> bool {
        let known = self.snapshot.partitions.values();
        let applied = known
            .filter(|known| known.partition.application.as_ref() == Some(application))
            .filter_map(|known| known.applied.as_deref()?.policy_name());
        applied
            .into_iter()
            .any(|policy| it.weather.storage_is_away(policy, it.now))
    }
}
