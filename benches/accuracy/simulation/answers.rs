//! What the client reads in the answers of the simulated cluster.
//!
//! Responsible for asking through the client's own addresses and reading, byte by byte, once for
//! each body: what was read is used again only while the cluster says that the bytes would be the
//! same. What the weather spoils is read as well, so that a failure is what the client takes for
//! one. It may not decide what to ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Uri;
use servicefabric_backup_exporter::gateway::{Error, Replay};
use servicefabric_backup_exporter::model::{
    BackupHealth, BackupProgress, Configuration, Entity, ListedBackup, ListedPartition, Name,
    PartitionId, Policy,
};
use servicefabric_backup_exporter::simulator::{
    Appearance, Options, Switches, UnconfiguredApplication,
};
use servicefabric_backup_exporter::snapshot::Reading;
use url::Url;
use uuid::Uuid;

use super::Setting;
use super::weather::{Side, Weather};
use super::world::{World, moment};

/// Spellings of a partition's health that are kept, for a health store that is late.
const KEPT: usize = 12;

/// A client, as far as it is no network.
type Client<'a> = Replay<&'a mut dyn FnMut(&Url) -> (u16, Vec<u8>)>;

/// The moment and the circumstances of a question.
pub(crate) struct Question<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) weather: &'a Weather,
    pub(crate) now: i64,
}

/// All that was read, and is still what would be read.
#[derive(Debug)]
pub(crate) struct Answers {
    wire: Wire,
    rng: fastrand::Rng,
    applications: Cache<(), Vec<Name>>,
    services: Cache<Name, Vec<Name>>,
    partitions: Cache<Name, Vec<ListedPartition>>,
    policies: Cache<(), Vec<Policy>>,
    configurations: Cache<Name, Vec<Configuration>>,
    below: Cache<Name, Vec<Configuration>>,
    entities: Cache<Name, Vec<Entity>>,
    readings: BTreeMap<PartitionId, Readings>,
}

/// What was read of one partition.
#[derive(Debug)]
struct Readings {
    appearance: Option<Appearance>,
    record: Option<Reading>,
    /// Since when the health says what; newest last.
    health: Vec<(i64, Option<BackupHealth>)>,
}

/// Answers of one kind by what they are about, each with the mark under which it was given.
#[derive(Debug)]
struct Cache<K, T>(BTreeMap<K, ((u64, u64), T)>);

impl<K, T> Default for Cache<K, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone, T: Clone> Cache<K, T> {
    fn get(
        &mut self,
        key: &K,
        mark: (u64, u64),
        read: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some((known, value)) = self.0.get(key)
            && *known == mark
        {
            return Ok(value.clone());
        }
        let value = read()?;
        self.0.insert(key.clone(), (mark, value.clone()));
        Ok(value)
    }
}

#[derive(Debug)]
struct Wire {
    options: Options,
    endpoint: Url,
}

impl Wire {
    fn ask<T>(
        &self,
        world: &mut World,
        now: i64,
        read: impl FnOnce(&mut Client<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut answer = |url: &Url| {
            let address: Uri = url.as_str().parse().expect("a URL is a URI");
            self.options
                .answer(&mut world.estate, &address, moment(now))
        };
        read(&mut Replay::new(self.endpoint.clone(), &mut answer))
    }

    /// Reads an answer that the cluster does not mean.
    fn misread<T>(
        &self,
        (status, body): (u16, &str),
        read: impl FnOnce(&mut Client<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut answer = |_: &Url| (status, body.as_bytes().to_vec());
        read(&mut Replay::new(self.endpoint.clone(), &mut answer))
    }
}

/// One method of the gateway: asked if it must be, spoilt if the weather wants it.
macro_rules! cached {
    ($name:ident, $cache:ident, $side:ident, $call:ident($($subject:ident)?), $key:ty, $value:ty, $marks:expr) => {
        pub(crate) fn $name(
            &mut self,
            it: &mut Question<'_>,
            key: &$key,
        ) -> Result<$value, Error> {
            $(let $subject = key;)?
            if let Some(bad) = it.weather.spoils(Side::$side, it.now, &mut self.rng) {
                return self.wire.misread(bad, |client| client.$call($($subject)?));
            }
            let marks: fn(&World, &$key) -> u64 = $marks;
            let mark = (it.world.generation, marks(it.world, key));
            let (wire, world, now) = (&self.wire, &mut *it.world, it.now);
            self.$cache.get(key, mark, || wire.ask(world, now, |client| client.$call($($subject)?)))
        }
    };
}

impl Answers {
    pub(crate) fn new(seed: u64, setting: &Setting) -> Self {
        let unconfigured_application = if setting.hides_services {
            UnconfiguredApplication::NotFound
        } else {
            UnconfiguredApplication::Overrides
        };
        let switches = Switches {
            unconfigured_application,
            ..Switches::default()
        };
        let options = Options {
            switches,
            ..Options::default()
        };
        let endpoint = "http://cluster:19080".parse().expect("it is a URL");
        Self {
            wire: Wire { options, endpoint },
            rng: fastrand::Rng::with_seed(seed ^ 0x0b5e),
            applications: Cache::default(),
            services: Cache::default(),
            partitions: Cache::default(),
            policies: Cache::default(),
            configurations: Cache::default(),
            below: Cache::default(),
            entities: Cache::default(),
            readings: BTreeMap::new(),
        }
    }

    cached!(
        applications,
        applications,
        Gateway,
        applications(),
        (),
        Vec<Name>,
        |_, ()| 0
    );
    cached!(
        services,
        services,
        Gateway,
        persisted_services(name),
        Name,
        Vec<Name>,
        |_, _| 0
    );
    cached!(
        partitions,
        partitions,
        Gateway,
        partitions(name),
        Name,
        Vec<ListedPartition>,
        |world, service| world.marks.get(service).copied().unwrap_or_default()
    );
    cached!(
        policies,
        policies,
        BackupService,
        policies(),
        (),
        Vec<Policy>,
        |_, ()| 0
    );
    cached!(
        configuration,
        configurations,
        BackupService,
        backup_configuration(name),
        Name,
        Vec<Configuration>,
        |_, _| 0
    );
    cached!(
        below,
        below,
        BackupService,
        service_backup_configuration(name),
        Name,
        Vec<Configuration>,
        |_, _| 0
    );
    cached!(
        entities,
        entities,
        BackupService,
        entities_of_policy(name),
        Name,
        Vec<Entity>,
        |_, _| 0
    );

    /// The newest backups of an application; `storage_is_away` where one of its storages is.
    pub(crate) fn newest(
        &mut self,
        it: &mut Question<'_>,
        application: &Name,
        storage_is_away: bool,
    ) -> Result<Vec<ListedBackup>, Error> {
        const NO_STORAGE: (u16, &str) = (
            500,
            r#"{"Error":{"Code":"E_UNEXPECTED","Message":"Unable to get recovery point details."}}"#,
        );
        let bad = it
            .weather
            .spoils(Side::BackupService, it.now, &mut self.rng);
        let bad = if storage_is_away {
            bad.or(Some(NO_STORAGE))
        } else {
            bad
        };
        match bad {
            Some(bad) => self
                .wire
                .misread(bad, |client| client.latest_backups(application)),
            None => self.wire.ask(it.world, it.now, |client| {
                client.latest_backups(application)
            }),
        }
    }

    /// What the record of a partition says; nothing when it cannot be read.
    pub(crate) fn record(&mut self, it: &mut Question<'_>, id: PartitionId) -> Option<Reading> {
        let meant = self.renew(it, id).record.clone();
        if let Some(bad) = it
            .weather
            .spoils(Side::BackupService, it.now, &mut self.rng)
        {
            return record(self.wire.misread(bad, |client| client.backup_progress(id)));
        }
        meant
    }

    /// Notes how partitions look, for nobody yet.
    pub(crate) fn watch(&mut self, it: &mut Question<'_>, ids: &[PartitionId]) {
        for id in ids {
            self.renew(it, *id);
        }
    }

    /// What the health of a partition says; nothing when it cannot be read, or says nothing.
    pub(crate) fn health(&mut self, it: &mut Question<'_>, id: PartitionId) -> Option<Reading> {
        if let Some(bad) = it.weather.spoils(Side::HealthStore, it.now, &mut self.rng) {
            return health(self.wire.misread(bad, |client| client.backup_health(id)))
                .map(Reading::Health);
        }
        let late = it.weather.late.strikes(it.now);
        let as_of = it.now - if late { it.weather.lag } else { 0 };
        let said = &self.readings.get(&id)?.health;
        let then = said.iter().rev().find(|(since, _)| *since <= as_of);
        let then = then.or_else(|| said.first());
        then?.1.map(Reading::Health)
    }

    /// Reads record and health of a partition anew, if they may have changed. Done each minute,
    /// also when nobody gets to know: a health store that is late tells of it afterwards.
    fn renew(&mut self, it: &mut Question<'_>, id: PartitionId) -> &Readings {
        let at = moment(it.now);
        let known = self.readings.entry(id).or_insert_with(|| Readings {
            appearance: None,
            record: None,
            health: Vec::new(),
        });
        let estate = &it.world.estate;
        let looks_the_same = |before: &Appearance| estate.still_looks(id.0, before, at);
        if known.appearance.as_ref().is_some_and(looks_the_same) {
            return known;
        }
        known.appearance = estate.appearance(id.0, at);
        let (wire, now) = (&self.wire, it.now);
        let world = &mut *it.world;
        known.record = record(wire.ask(world, now, |client| client.backup_progress(id)));
        let said = health(wire.ask(world, now, |client| client.backup_health(id)));
        if known.health.len() == KEPT {
            known.health.remove(0);
        }
        known.health.push((now, said));
        known
    }

    /// Forgets partitions that are gone.
    pub(crate) fn keep_only(&mut self, ids: &[Uuid]) {
        self.readings.retain(|id, _| ids.contains(&id.0));
    }
}

/// What the poller makes of an answer about a record.
fn record(answer: Result<Option<BackupProgress>, Error>) -> Option<Reading> {
    match answer {
        Ok(record) => Some(Reading::Progress(record.map(Arc::new))),
        Err(error) => error.is_partition_not_found().then_some(Reading::NotFound),
    }
}

/// What the poller makes of an answer about health.
fn health(answer: Result<BackupHealth, Error>) -> Option<BackupHealth> {
    answer.ok()
}
