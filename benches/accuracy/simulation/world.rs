//! A cluster with operators: what they set up, what they change, and their books of it.
//!
//! Responsible for keeping the books (who has which policy, what is suspended) in step with the
//! simulated cluster, and for telling what changed. The books are the truth of the configuration:
//! what comes down to a partition is computed here once more. It may not observe.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use servicefabric_backup_exporter::simulator::{
    Entity, Estate, Policy, Retention, Scheme, ServiceKind, Storage, Tempo,
};
use uuid::Uuid;

use super::Setting;
use super::calendar::{CALENDARS, Calendar, MINUTE};
use super::time::moment;
use super::truth::Terms;

/// Applications of a cluster, and services of each.
const APPLICATIONS: usize = 6;
const SERVICES: usize = 4;

/// What the operators know of a policy.
#[derive(Clone, Copy, Debug)]
struct Entry {
    calendar: Calendar,
    /// Rises with each update, also with those that no answer shows.
    version: u64,
}

/// A cluster and the books of its operators.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) estate: Estate,
    pub(crate) rng: fastrand::Rng,
    policies: BTreeMap<String, Entry>,
    enabled: BTreeMap<Entity, String>,
    suspended: BTreeSet<Entity>,
    requests_expected: bool,
    updates: u64,
    created: usize,
    /// Another number means that answers about configuration or topology may differ.
    pub(crate) generation: u64,
    /// The same for the partitions of one service.
    pub(crate) marks: BTreeMap<Arc<str>, u64>,
    /// When a restore of a partition was last requested.
    pub(crate) restored: BTreeMap<Uuid, i64>,
}

impl World {
    /// A cluster with about so many partitions.
    pub(crate) fn new(seed: u64, partitions: usize, setting: &Setting, now: i64) -> Self {
        let mut world = Self {
            estate: Estate::empty(seed, moment(now)),
            rng: fastrand::Rng::with_seed(seed ^ 0x5eed),
            policies: BTreeMap::new(),
            enabled: BTreeMap::new(),
            suspended: BTreeSet::new(),
            requests_expected: setting.requests_expected,
            updates: 0,
            created: 0,
            generation: 0,
            marks: BTreeMap::new(),
            restored: BTreeMap::new(),
        };
        world.estate.set_tempo(Tempo {
            propagation: Duration::from_secs(20),
            upload: Duration::from_secs(5)..=Duration::from_secs(240),
            ..Tempo::default()
        });
        world.estate.take_log();
        for (index, calendar) in CALENDARS.into_iter().enumerate() {
            world.write_policy(&format!("policy-{index:02}"), calendar, now);
        }
        world.build(partitions, now);
        world
    }

    fn build(&mut self, partitions: usize, now: i64) {
        let each = partitions.div_ceil(APPLICATIONS * SERVICES);
        for application in 0..APPLICATIONS {
            let name = format!("fabric:/App{application}");
            for service in 0..SERVICES {
                let service = format!("{name}/Service{service}");
                self.create_service(&name, &service, each, now);
                // In one application only some of the services are protected.
                if application == 1 && service.ends_with('0') || self.rng.u8(..) < 50 {
                    self.enable_any(Entity::service(&service), now);
                }
            }
            if application > 1 {
                self.enable_any(Entity::application(&name), now);
            }
        }
    }

    /// Every partition that can be backed up.
    pub(crate) fn partitions(&self) -> Vec<Uuid> {
        self.estate.partition_ids()
    }

    pub(crate) fn any_partition(&mut self) -> Option<Uuid> {
        let ids = self.partitions();
        self.rng.choice(&ids).copied()
    }

    pub(crate) fn any_policy(&mut self) -> String {
        let names: Vec<&String> = self.policies.keys().collect();
        let name = self.rng.choice(&names).map(|name| (*name).clone());
        name.unwrap_or_default()
    }

    pub(crate) fn any_application(&mut self) -> Entity {
        let names = self.estate.application_names();
        let name = self.rng.choice(&names).cloned();
        Entity::Application(name.unwrap_or_else(|| "fabric:/".into()))
    }

    pub(crate) fn any_service(&mut self) -> Option<Arc<str>> {
        let names = self.estate.service_names();
        self.rng.choice(&names).cloned()
    }

    /// An application, a service or a partition.
    pub(crate) fn any_entity(&mut self) -> Option<Entity> {
        match self.rng.u8(..3) {
            0 => Some(self.any_application()),
            1 => self.any_service().map(Entity::Service),
            _ => self.any_partition().map(Entity::Partition),
        }
    }

    /// What applies to a partition, by the books: the policy of the nearest level, suspended by any.
    pub(crate) fn terms(&self, id: Uuid) -> Terms {
        let levels = self.levels(id);
        let name = levels.iter().find_map(|level| self.enabled.get(level));
        let policy = name.and_then(|name| {
            let entry = self.policies.get(name)?;
            Some((name.clone(), entry.version, entry.calendar))
        });
        let suspended = levels.iter().any(|level| self.suspended.contains(level));
        Terms {
            suspended: suspended && policy.is_some(),
            policy,
            requests_expected: self.requests_expected,
        }
    }

    fn levels(&self, id: Uuid) -> Vec<Entity> {
        let service = self.estate.service_of(id).map(Entity::Service);
        let application = self.estate.application_of(id).map(Entity::Application);
        let own = Some(Entity::Partition(id));
        [own, service, application].into_iter().flatten().collect()
    }

    /// Policies that apply in an application.
    pub(crate) fn policies_of(&self, application: &str) -> BTreeSet<String> {
        let entity = Entity::application(application);
        let ids = self.estate.partitions_of(&entity).into_iter();
        let policies = ids.filter_map(|id| self.terms(id).policy);
        policies.map(|(name, ..)| name).collect()
    }

    /// Partitions to which a policy applies now.
    pub(crate) fn under(&self, policy: &str) -> Vec<Uuid> {
        let ids = self.partitions().into_iter();
        let applies = |id: &Uuid| {
            let terms = self.terms(*id);
            terms.policy.is_some_and(|(name, ..)| name == policy)
        };
        ids.filter(applies).collect()
    }
}

/// What operators do.
impl World {
    fn write_policy(&mut self, name: &str, calendar: Calendar, now: i64) {
        let days = 1 + self.rng.u64(..4);
        let policy = Policy {
            name: name.to_owned(),
            auto_restore_on_data_loss: false,
            max_incremental_backups: self.rng.u32(2..12),
            schedule: calendar.as_schedule(),
            storage: Storage::AzureBlob {
                friendly_name: format!("{name} to blobs"),
                container: format!("{name}-0"),
            },
            retention: Some(Retention {
                duration: Duration::from_secs(days * 24 * 60 * 60),
                minimum: 2,
            }),
        };
        self.estate.add_policy(policy, moment(now));
        self.note_update(name, calendar);
    }

    fn note_update(&mut self, name: &str, calendar: Calendar) {
        self.updates += 1;
        self.generation += 1;
        let version = self.updates;
        let entry = Entry { calendar, version };
        self.policies.insert(name.to_owned(), entry);
    }

    /// Updates a policy, possibly with another calendar.
    pub(crate) fn update_policy(
        &mut self,
        name: &str,
        calendar: Option<Calendar>,
        now: i64,
        change: impl FnOnce(&mut Policy),
    ) {
        let Some(entry) = self.policies.get(name).copied() else {
            return;
        };
        let calendar = calendar.unwrap_or(entry.calendar);
        self.estate.update_policy(name, moment(now), |policy| {
            policy.schedule = calendar.as_schedule();
            change(policy);
        });
        self.note_update(name, calendar);
    }

    pub(crate) fn enable_any(&mut self, entity: Entity, now: i64) {
        let policy = self.any_policy();
        if self.estate.enable(&entity, &policy, moment(now)).is_ok() {
            self.enabled.insert(entity, policy);
            self.generation += 1;
        }
    }

    pub(crate) fn disable(&mut self, entity: &Entity, now: i64) {
        if self.estate.disable(entity, moment(now)).is_ok() {
            self.enabled.remove(entity);
            self.suspended.remove(entity);
            self.generation += 1;
        }
    }

    pub(crate) fn suspend(&mut self, entity: &Entity, now: i64) {
        if self.estate.suspend(entity, moment(now)).is_ok() {
            self.suspended.insert(entity.clone());
            self.generation += 1;
        }
    }

    pub(crate) fn resume(&mut self, entity: &Entity, now: i64) {
        if self.estate.resume(entity, moment(now)).is_ok() {
            self.suspended.remove(entity);
            self.generation += 1;
        }
    }

    fn create_service(
        &mut self,
        application: &str,
        service: &str,
        partitions: usize,
        now: i64,
    ) -> Vec<Uuid> {
        let names = (0..partitions).map(|index| format!("part-{index}"));
        let scheme = Scheme::Named(names.collect());
        let kind = ServiceKind::Persisted;
        self.generation += 1;
        self.estate
            .add_service(application, service, kind, scheme, moment(now))
    }

    /// A new service in one of the applications.
    pub(crate) fn create_any_service(&mut self, now: i64) -> Vec<Uuid> {
        self.created += 1;
        let Entity::Application(application) = self.any_application() else {
            return Vec::new();
        };
        let service = format!("{application}/Guest{}", self.created);
        let partitions = self.rng.usize(1..6);
        self.create_service(&application, &service, partitions, now)
    }

    pub(crate) fn create_any_partition(&mut self, now: i64) -> Vec<Uuid> {
        self.created += 1;
        self.generation += 1;
        let name = format!("guest-{}", self.created);
        let service = self.any_service();
        let created =
            service.and_then(|service| self.estate.add_partition(&service, &name, moment(now)));
        created.into_iter().collect()
    }

    pub(crate) fn delete_partition(&mut self, id: Uuid) {
        self.estate.remove_partition(id);
        self.forget(&Entity::Partition(id));
    }

    pub(crate) fn delete_service(&mut self, name: &str) {
        for id in self.estate.partitions_of(&Entity::service(name)) {
            self.forget(&Entity::Partition(id));
        }
        self.estate.remove_service(name);
        self.forget(&Entity::service(name));
    }

    fn forget(&mut self, entity: &Entity) {
        self.enabled.remove(entity);
        self.suspended.remove(entity);
        self.generation += 1;
    }

    /// Moves the primary; the list of partitions tells another epoch then.
    pub(crate) fn move_primary(&mut self, id: Uuid, now: i64) {
        self.estate.move_primary(id, moment(now));
        self.mark(id);
    }

    /// What the list of partitions says of this one may be another thing now.
    pub(crate) fn mark(&mut self, id: Uuid) {
        if let Some(service) = self.estate.service_of(id) {
            *self.marks.entry(service).or_default() += 1;
        }
    }

    /// When the next periodic backup of a partition will be about half done, if that is within
    /// the next hour.
    pub(crate) fn next_backup(&self, id: Uuid, now: i64) -> Option<i64> {
        let next = self.estate.next_backup(id)?.timestamp_millis();
        (now..now + 60 * MINUTE).contains(&next).then_some(next)
    }
}
