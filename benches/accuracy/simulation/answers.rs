//! The answers of the simulated cluster, as the client decodes them.
//!
//! Responsible for asking through the client's own addresses and decoding, byte by byte, once for
//! each body: a decoded answer is used again only while the cluster says that the bytes would be the
//! same. Answers that the weather spoils are decoded as well, so that a failure is what the client
//! takes for one. It must not decide what to ask.

use std::collections::BTreeMap;

use servicefabric_backup_exporter::gateway::Error;
use servicefabric_backup_exporter::gateway::wire::{self, Subject};
use servicefabric_backup_exporter::model::{
    BackupConfiguration, BackupEntity, BackupHealth, BackupProgress, DecodedList, ListedBackup,
    ListedPartition, Name, PartitionId, Policy, RestoreProgress,
};
use servicefabric_backup_exporter::simulator::Appearance;

use super::calendar::HOUR;
use super::time::moment;
use super::weather::{Side, Weather};
use super::wire::{Client, Wire};
use super::world::World;

/// Past answers about the health of a partition that are kept, for a health store that is late.
const KEPT: usize = 12;

/// The moment and the circumstances of a question.
pub(crate) struct Question<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) weather: &'a Weather,
    pub(crate) now: i64,
}

/// All that was decoded, and would be decoded again.
#[derive(Debug)]
pub(crate) struct Answers {
    wire: Wire,
    rng: fastrand::Rng,
    version: Cache<(), String>,
    applications: Cache<(), DecodedList<Name>>,
    services: Cache<Name, DecodedList<Name>>,
    partitions: Cache<Name, DecodedList<ListedPartition>>,
    service_names: Cache<PartitionId, Name>,
    application_names: Cache<Name, Name>,
    policies: Cache<(), DecodedList<Policy>>,
    configurations: Cache<Name, DecodedList<BackupConfiguration>>,
    settings: Cache<PartitionId, Option<BackupConfiguration>>,
    entities: Cache<Name, DecodedList<BackupEntity>>,
    restores: Cache<PartitionId, Option<RestoreProgress>>,
    readings: BTreeMap<PartitionId, Readings>,
}

/// What was decoded of one partition.
#[derive(Debug)]
struct Readings {
    appearance: Appearance,
    record: Option<BackupProgress>,
    /// Each state of the health with the moment from which it was seen; newest last.
    health: Vec<(i64, BackupHealth)>,
}

/// Answers of one kind by their subject, each with the mark under which it was given.
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

/// How one method of the gateway is asked; twice, because an answer may be spoilt.
type Call<'a, T> = &'a dyn Fn(&mut Client<'_>) -> Result<T, Error>;

impl Answers {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            wire: Wire::new(),
            rng: fastrand::Rng::with_seed(seed ^ 0x0b5e),
            version: Cache::default(),
            applications: Cache::default(),
            services: Cache::default(),
            partitions: Cache::default(),
            service_names: Cache::default(),
            application_names: Cache::default(),
            policies: Cache::default(),
            configurations: Cache::default(),
            settings: Cache::default(),
            entities: Cache::default(),
            restores: Cache::default(),
            readings: BTreeMap::new(),
        }
    }

    /// What the client decodes: from the cache where it holds an answer with the same `mark`.
    fn cached<K: Ord + Clone, T: Clone>(
        &mut self,
        it: &mut Question<'_>,
        side: Side,
        cache: fn(&mut Self) -> &mut Cache<K, T>,
        (key, mark): (&K, u64),
        call: Call<'_, T>,
    ) -> Result<T, Error> {
        if let Some(bad) = it.weather.spoils(side, it.now, &mut self.rng) {
            return self.wire.misread(bad, call);
        }
        let malforms = it.weather.malformed.strikes(it.now);
        let mark = (it.world.generation << 1 | u64::from(malforms), mark);
        let mut answers = std::mem::take(cache(self));
        let answer = answers.get(key, mark, || self.wire.ask(it, call));
        *cache(self) = answers;
        answer
    }

    pub(crate) fn version(&mut self, it: &mut Question<'_>) -> Result<String, Error> {
        let call: Call<'_, _> = &|client| client.get(&wire::CLUSTER_VERSION, Subject::Cluster);
        self.cached(it, Side::Gateway, |its| &mut its.version, (&(), 0), call)
    }

    pub(crate) fn applications(
        &mut self,
        it: &mut Question<'_>,
    ) -> Result<DecodedList<Name>, Error> {
        let call: Call<'_, _> = &|client| client.get_all(&wire::APPLICATIONS, Subject::Cluster);
        let cache: fn(&mut Self) -> &mut Cache<_, _> = |its| &mut its.applications;
        self.cached(it, Side::Gateway, cache, (&(), 0), call)
    }

    pub(crate) fn services(
        &mut self,
        it: &mut Question<'_>,
        application: &Name,
    ) -> Result<DecodedList<Name>, Error> {
        let call: Call<'_, _> =
            &|client| client.get_all(&wire::SERVICES, Subject::Application(application));
        let cache: fn(&mut Self) -> &mut Cache<_, _> = |its| &mut its.services;
        self.cached(it, Side::Gateway, cache, (application, 0), call)
    }

    pub(crate) fn partitions(
        &mut self,
        it: &mut Question<'_>,
        service: &Name,
    ) -> Result<DecodedList<ListedPartition>, Error> {
        let mark = it.world.marks.get(service).copied().unwrap_or_default();
        let call: Call<'_, _> =
            &|client| client.get_all(&wire::PARTITIONS, Subject::Service(service));
        let cache: fn(&mut Self) -> &mut Cache<_, _> = |its| &mut its.partitions;
        self.cached(it, Side::Gateway, cache, (service, mark), call)
    }

    pub(crate) fn service_name(
        &mut self,
        it: &mut Question<'_>,
        id: PartitionId,
    ) -> Result<Name, Error> {
        let call: Call<'_, _> = &|client| client.get(&wire::SERVICE_NAME, Subject::Partition(id));
        let cache: fn(&mut Self) -> &mut Cache<_, _> = |its| &mut its.service_names;
        self.cached(it, Side::Gateway, cache, (&id, 0), call)
    }

    pub(crate) fn application_name(
        &mut self,
        it: &mut Question<'_>,
        service: &Name,
    ) -> Result<Name, Error> {
        let call: Call<'_, _> =
            &|client| client.get(&wire::APPLICATION_NAME, Subject::Service(service));
        let cache: fn(&mut Self) -> &mut Cache<_, _> = |its| &mut its.application_names;
        self.cached(it, Side::Gateway, cache, (service, 0), call)
    }

    pub(crate) fn policies(&mut self, it: &mut Question<'_>) -> Result<DecodedList<Policy>, Error> {
        let call: Call<'_, _> = &|client| client.get_all(&wire::POLICIES, Subject::Cluster);
        let cache: fn(&mut Self) -> &mut Cache<_, _> = |its| &mut its.policies;
        self.cached(it, Side::BackupService, cache, (&(), 0), call)
    }

    pub(crate) fn configuration(
        &mut self,
        it: &mut Question<'_>,
        application: &Name,
    ) -> Result<DecodedList<BackupConfiguration>, Error> {
        let call: Call<'_, _> = &|client| {
            client.get_all(
                &wire::APPLICATION_CONFIGURATIONS,
                Subject::Application(application),
            )
        };
        let cache: fn(&mut Self) -> &mut Cache<_, _> = |its| &mut its.configurations;
        self.cached(it, Side::BackupService, cache, (application, 0), call)
    }

    pub(crate) fn setting(
        &mut self,
        it: &mut Question<'_>,
        id: PartitionId,
    ) -> Result<Option<BackupConfiguration>, Error> {
        let call: Call<'_, _> =
            &|client| client.get(&wire::PARTITION_CONFIGURATION, Subject::Partition(id));
        let cache: fn(&mut Self) -> &mut Cache<_, _> = |its| &mut its.settings;
        self.cached(it, Side::BackupService, cache, (&id, 0), call)
    }

    pub(crate) fn entities(
        &mut self,
        it: &mut Question<'_>,
        policy: &Name,
    ) -> Result<DecodedList<BackupEntity>, Error> {
        let call: Call<'_, _> =
            &|client| client.get_all(&wire::ENTITIES_OF_POLICY, Subject::Policy(policy));
        let cache: fn(&mut Self) -> &mut Cache<_, _> = |its| &mut its.entities;
        self.cached(it, Side::BackupService, cache, (policy, 0), call)
    }

    pub(crate) fn restore(
        &mut self,
        it: &mut Question<'_>,
        id: PartitionId,
    ) -> Result<Option<RestoreProgress>, Error> {
        // A restore moves along for a while after its request.
        let requested = it.world.restored.get(&id.0).copied();
        let settled = requested.map_or(0, |at| at.max(it.now - HOUR));
        let call: Call<'_, _> =
            &|client| client.get(&wire::RESTORE_PROGRESS, Subject::Partition(id));
        let cache: fn(&mut Self) -> &mut Cache<_, _> = |its| &mut its.restores;
        let mark = settled.unsigned_abs();
        self.cached(it, Side::BackupService, cache, (&id, mark), call)
    }

    /// The newest backups of an application.
    pub(crate) fn newest(
        &mut self,
        it: &mut Question<'_>,
        application: &Name,
    ) -> Result<DecodedList<ListedBackup>, Error> {
        self.listed(it, &|client| {
            client.get_all(&wire::LATEST_BACKUPS, Subject::Application(application))
        })
    }

    /// All backups of an application.
    pub(crate) fn all(
        &mut self,
        it: &mut Question<'_>,
        application: &Name,
    ) -> Result<DecodedList<ListedBackup>, Error> {
        self.listed(it, &|client| {
            client.get_all(&wire::ALL_BACKUPS, Subject::Application(application))
        })
    }

    /// The newest backup of a partition.
    pub(crate) fn newest_of(
        &mut self,
        it: &mut Question<'_>,
        id: PartitionId,
    ) -> Result<DecodedList<ListedBackup>, Error> {
        self.listed(it, &|client| {
            client.get_all(&wire::PARTITION_BACKUPS, Subject::Partition(id))
        })
    }

    /// Whether the newest backup of a partition could be listed now.
    pub(crate) fn can_list(&self, it: &mut Question<'_>, id: PartitionId) -> bool {
        let is_reached =
            !(it.weather.gateway.strikes(it.now) || it.weather.service.strikes(it.now));
        let listed = self.wire.ask(it, |client| {
            client.get_all(&wire::PARTITION_BACKUPS, Subject::Partition(id))
        });
        is_reached && listed.is_ok_and(|listed| listed.skipped == 0)
    }

    fn listed(
        &mut self,
        it: &mut Question<'_>,
        call: Call<'_, DecodedList<ListedBackup>>,
    ) -> Result<DecodedList<ListedBackup>, Error> {
        match it
            .weather
            .spoils(Side::BackupService, it.now, &mut self.rng)
        {
            Some(bad) => self.wire.misread(bad, call),
            None => self.wire.ask(it, call),
        }
    }

    /// The record of the last requested backup of a partition.
    pub(crate) fn record(
        &mut self,
        it: &mut Question<'_>,
        id: PartitionId,
    ) -> Result<Option<BackupProgress>, Error> {
        let meant = self.renew(it, id).map(|known| known.record.clone());
        match it
            .weather
            .spoils(Side::BackupService, it.now, &mut self.rng)
        {
            Some(bad) => self.wire.misread(bad, |client| {
                client.get(&wire::BACKUP_PROGRESS, Subject::Partition(id))
            }),
            None => meant,
        }
    }

    /// The health of a partition.
    pub(crate) fn health(
        &mut self,
        it: &mut Question<'_>,
        id: PartitionId,
    ) -> Result<BackupHealth, Error> {
        if let Some(bad) = it.weather.spoils(Side::HealthStore, it.now, &mut self.rng) {
            return self.wire.misread(bad, |client| {
                client.get(&wire::PARTITION_HEALTH, Subject::Partition(id))
            });
        }
        let late = it.weather.late.strikes(it.now);
        let as_of = it.now - if late { it.weather.lag } else { 0 };
        let states = &self.renew(it, id)?.health;
        let then = states.iter().rev().find(|(since, _)| *since <= as_of);
        let state = then.or_else(|| states.first());
        Ok(state.map_or_else(BackupHealth::default, |(_, health)| *health))
    }

    /// Decodes how partitions look, for a health store that shows it later.
    pub(crate) fn watch(&mut self, it: &mut Question<'_>, ids: impl Iterator<Item = PartitionId>) {
        for id in ids {
            drop(self.renew(it, id));
        }
    }

    /// Decodes record and health of a partition anew, if they may have changed.
    fn renew(&mut self, it: &mut Question<'_>, id: PartitionId) -> Result<&Readings, Error> {
        let at = moment(it.now);
        let estate = &it.world.estate;
        let looks_the_same =
            |before: &&mut Readings| estate.still_looks(id.0, &before.appearance, at);
        if self
            .readings
            .get_mut(&id)
            .as_ref()
            .is_none_or(|it| !looks_the_same(it))
        {
            let appearance = estate.appearance(id.0, at);
            let record = self.wire.ask(it, |client| {
                client.get(&wire::BACKUP_PROGRESS, Subject::Partition(id))
            })?;
            let health = self.wire.ask(it, |client| {
                client.get(&wire::PARTITION_HEALTH, Subject::Partition(id))
            })?;
            let appearance = appearance.expect("what has a record exists");
            let known = self.readings.entry(id).or_insert_with(|| Readings {
                appearance: appearance.clone(),
                record: None,
                health: Vec::new(),
            });
            (known.appearance, known.record) = (appearance, record);
            if known.health.len() == KEPT {
                known.health.remove(0);
            }
            known.health.push((it.now, health));
        }
        Ok(self.readings.get(&id).expect("it was decoded"))
    }

    /// Forgets a partition that is gone.
    pub(crate) fn forget(&mut self, id: PartitionId) {
        self.readings.remove(&id);
    }
}
