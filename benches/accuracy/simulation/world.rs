//! A cluster with operators: what they set up, what they change, and their books of it.
//!
//! Responsible for keeping the books (which policy is set where, what is suspended) in step with the
//! simulated cluster. The books are the truth of the configuration: the policy that applies to a
//! partition is computed here again. It must not look at answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use servicefabric_backup_exporter::simulator::{
    Behaviour, Entity, Estate, Policy, Retention, Scheme, ServiceKind, StateProvider, Storage,
    Tempo,
};
use uuid::Uuid;

use super::Setting;
use super::calendar::{CALENDARS, Calendar, MINUTE};
use super::time::moment;
use super::truth::Terms;

/// Policies whose containers lie in one account, in clusters that have one.
const ACCOUNT_SHARED_BY: [&str; 3] = ["policy-01", "policy-04", "policy-07"];

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
    /// Whether the runtime has the faults of 6.4.
    is_old: bool,
    shares_account: bool,
    /// Services with a key-value store.
    actors: BTreeSet<Arc<str>>,
    updates: u64,
    created: usize,
    services: usize,
    /// Another number means that answers about configuration or topology may differ.
    pub(crate) generation: u64,
    /// The same for the partitions of one service.
    pub(crate) marks: BTreeMap<Arc<str>, u64>,
    /// When a restore of a partition was last requested.
    pub(crate) restored: BTreeMap<Uuid, i64>,
    /// Partitions whose schedule operators have restarted in a way that shows nowhere, and when.
    pub(crate) restarted_unseen: Vec<(Uuid, i64)>,
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
            is_old: setting.is_old,
            shares_account: setting.shares_account,
            actors: BTreeSet::new(),
            updates: 0,
            created: 0,
            services: 0,
            generation: 0,
            marks: BTreeMap::new(),
            restored: BTreeMap::new(),
            restarted_unseen: Vec::new(),
        };
        if !setting.is_old {
            world.estate.set_behaviour(Behaviour::without_faults());
        }
        world.estate.set_tempo(Tempo {
            upload: Duration::from_secs(5)..=Duration::from_secs(240),
            ..Tempo::default()
        });
        world.estate.take_log();
        if setting.shares_account {
            for policy in ACCOUNT_SHARED_BY {
                world.estate.set_account(policy, "shared", false);
            }
        }
        for (index, calendar) in CALENDARS.into_iter().enumerate() {
            let name = format!("policy-{index:02}");
            world.write_policy(&name, calendar, now);
            // The others appear with the first upload; until then the storage cannot be listed.
            if !index.is_multiple_of(4) {
                world.estate.create_container(&name);
            }
        }
        world.build(partitions, setting.has_encoded_names, now);
        world
    }

    fn build(&mut self, partitions: usize, has_encoded_names: bool, now: i64) {
        let each = partitions.div_ceil(APPLICATIONS * SERVICES);
        for application in 0..APPLICATIONS {
            let name = if has_encoded_names && application == APPLICATIONS - 1 {
                format!("fabric:/Größe {application}")
            } else {
                format!("fabric:/App{application}")
            };
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
        // A policy at an application does not reach below names that need percent-encoding.
        let service = self.estate.service_of(id).unwrap_or_default();
        let is_cut_off = self.is_old && service.contains(|c: char| c == ' ' || !c.is_ascii());
        let reach = if is_cut_off { 2 } else { 3 };
        let mut reaching = levels.iter().take(reach);
        let name = reaching.find_map(|level| self.enabled.get(level));
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

    /// Whether the list of an application leaves containers out: 6.4 takes those of one account for
    /// one storage, and reads the first.
    pub(crate) fn hides_containers(&self, application: &str) -> bool {
        let ids = self.estate.partitions_of(&Entity::application(application));
        let policies = ids.into_iter().filter_map(|id| self.terms(id).policy);
        let policies: BTreeSet<String> = policies.map(|(name, ..)| name).collect();
        let shared = ACCOUNT_SHARED_BY
            .iter()
            .filter(|name| policies.contains(**name));
        self.is_old && self.shares_account && shared.count() > 1
    }

    /// Whether failed uploads of a partition are reported as successes: those of a key-value store
    /// of 6.4.
    pub(crate) fn hides_failures(&self, id: Uuid) -> bool {
        let service = self.estate.service_of(id);
        self.is_old && service.is_some_and(|service| self.actors.contains(&service))
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

    /// Renews the key of a storage: an update that no answer shows.
    pub(crate) fn renew_key(&mut self, policy: &str, now: i64) -> Vec<Uuid> {
        let ids = self.under(policy);
        self.estate.update_policy(policy, moment(now), |_| {});
        self.restarted_unseen
            .extend(ids.iter().map(|id| (*id, now)));
        ids
    }

    /// Changes the certificate that encrypts the secrets of all policies.
    pub(crate) fn change_certificate(&mut self, now: i64) -> Vec<Uuid> {
        let ids = self.partitions();
        self.estate.change_certificate(moment(now));
        self.restarted_unseen
            .extend(ids.iter().map(|id| (*id, now)));
        ids
    }

    pub(crate) fn enable_any(&mut self, entity: Entity, now: i64) {
        let policy = self.any_policy();
        if self.estate.enable(&entity, &policy, moment(now)).is_ok() {
            self.enabled.insert(entity, policy);
            self.generation += 1;
        }
    }

    /// Something that has a policy of its own.
    pub(crate) fn any_enabled(&mut self) -> Option<Entity> {
        let enabled: Vec<&Entity> = self.enabled.keys().collect();
        self.rng.choice(&enabled).map(|entity| (*entity).clone())
    }

    pub(crate) fn disable(&mut self, entity: &Entity, cleans_up: bool, now: i64) {
        let disabled = if cleans_up {
            self.estate.disable_and_clean(entity, moment(now))
        } else {
            self.estate.disable(entity, moment(now))
        };
        if disabled.is_ok() {
            self.enabled.remove(entity);
            self.generation += 1;
        }
    }

    pub(crate) fn suspend(&mut self, entity: &Entity, now: i64) {
        if self.estate.suspend(entity, moment(now)).is_ok() {
            self.suspended.insert(entity.clone());
            self.generation += 1;
        }
    }

    /// Ends a suspension; returns whether there is none any more. It is refused while nothing in
    /// the application is enabled.
    pub(crate) fn resume(&mut self, entity: &Entity, now: i64) -> bool {
        if self.estate.resume(entity, moment(now)).is_ok() {
            self.suspended.remove(entity);
            self.generation += 1;
        }
        !self.suspended.contains(entity)
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
        let created = self
            .estate
            .add_service(application, service, kind, scheme, moment(now));
        self.services += 1;
        if self.services.is_multiple_of(3) {
            self.actors.insert(service.into());
        }
        if self.actors.contains(service) {
            let provider = StateProvider::KeyValueStore;
            self.estate.set_state_provider(service, provider);
        }
        created
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
        self.generation += 1;
    }

    /// Deletes a service and creates it again: what was set for its name applies again.
    pub(crate) fn recreate_service(&mut self, name: &str, now: i64) -> Vec<Uuid> {
        let ids = self.estate.partitions_of(&Entity::service(name));
        let application = ids.first().and_then(|id| self.estate.application_of(*id));
        let Some(application) = application else {
            return Vec::new();
        };
        self.delete_service(name);
        self.create_service(&application, name, ids.len(), now)
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

    /// Closes the primary replica, as a restart of its node does.
    pub(crate) fn close_primary(&mut self, id: Uuid, now: i64) {
        self.estate.close_primary(id, moment(now));
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
