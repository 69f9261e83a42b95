//! What goes wrong, how often and for how long: every disturbance with its rate.
//!
//! Responsible for the agenda of a cluster: it draws when each kind of disturbance strikes next,
//! lets it strike the world or the weather between cluster and exporter, and ends it. All chance
//! comes from the seed. It must not look at the exporter.

use std::collections::BTreeMap;
use std::time::Duration;

use servicefabric_backup_exporter::simulator::{
    BackupPlan, Code, Entity, Outcome, RestorePlan, Storage,
};
use uuid::Uuid;

use super::Setting;
use super::calendar::{CALENDARS, DAY, HOUR, MINUTE, SECOND};
use super::rates::{Kind, RATES, lasting, millis};
use super::time::moment;
use super::weather::Weather;
use super::world::World;

/// What comes next in a cluster.
#[derive(Clone, Debug)]
enum Turn {
    Strike(Kind),
    /// Operators repair dead timers: they suspend, and resume a moment later.
    Repair(Entity),
    Suspend(Entity, i64),
    Resume(Entity),
    Enable(Entity),
    Disable(Entity),
    Move(Uuid),
    Close(Uuid),
    /// The exporter's clock is corrected.
    SetClock(i64),
    Mark(Uuid),
    /// The regular request where no policy applies.
    Routine(Uuid),
}

/// The agenda of a cluster.
#[derive(Debug)]
pub(crate) struct Trouble {
    agenda: BTreeMap<(i64, u64), Turn>,
    turns: u64,
    rng: fastrand::Rng,
    unrest: f64,
    has_keys: bool,
    routine: bool,
}

impl Trouble {
    pub(crate) fn new(seed: u64, setting: &Setting, unrest: f64, now: i64, world: &World) -> Self {
        let mut trouble = Self {
            agenda: BTreeMap::new(),
            turns: 0,
            rng: fastrand::Rng::with_seed(seed ^ 0x007e_0b1e),
            unrest,
            has_keys: setting.has_keys,
            routine: setting.requests_expected,
        };
        for rate in &RATES {
            trouble.expect_next(rate.kind, now);
        }
        if trouble.routine {
            for id in world.partitions() {
                let first = now + trouble.rng.i64(MINUTE..20 * HOUR);
                trouble.plan(first, Turn::Routine(id));
            }
        }
        trouble
    }

    /// Lets everything happen until `now`.
    pub(crate) fn advance(&mut self, world: &mut World, weather: &mut Weather, now: i64) {
        while let Some(entry) = self.agenda.first_entry().filter(|it| it.key().0 <= now) {
            let at = entry.key().0;
            let turn = entry.remove();
            world.estate.tick(moment(at));
            self.take(turn, world, weather, at);
        }
        world.estate.tick(moment(now));
    }

    fn plan(&mut self, at: i64, turn: Turn) {
        self.turns += 1;
        self.agenda.insert((at, self.turns), turn);
    }

    fn expect_next(&mut self, kind: Kind, now: i64) {
        let quarter = 90.0 * 24.0 * 60.0;
        let rate = RATES.iter().find(|rate| rate.kind == kind);
        let often = rate.map_or(1.0, |rate| rate.per_quarter) * self.unrest;
        let mean = quarter / often;
        let minutes = -mean * (1.0 - self.rng.f64()).ln();
        self.plan(now + millis(minutes * 60.0), Turn::Strike(kind));
    }

    fn last(&mut self, low: i64, high: i64) -> i64 {
        lasting(&mut self.rng, low, high)
    }

    fn take(&mut self, turn: Turn, world: &mut World, weather: &mut Weather, at: i64) {
        match turn {
            Turn::Strike(kind) => {
                self.expect_next(kind, at);
                self.strike(kind, world, weather, at);
            }
            Turn::Repair(entity) => {
                world.suspend(&entity, at);
                self.plan(at + 3 * MINUTE, Turn::Resume(entity));
            }
            Turn::Suspend(entity, until) => {
                world.suspend(&entity, at);
                self.plan(until, Turn::Resume(entity));
            }
            Turn::Resume(entity) => {
                if !world.resume(&entity, at) {
                    self.plan(at + 6 * HOUR, Turn::Resume(entity));
                }
            }
            Turn::Enable(entity) => world.enable_any(entity, at),
            Turn::Disable(entity) => world.disable(&entity, false, at),
            Turn::Move(id) => world.move_primary(id, at),
            Turn::Close(id) => world.close_primary(id, at),
            Turn::SetClock(skew) => weather.set_clock(skew, at),
            Turn::Mark(id) => world.mark(id),
            Turn::Routine(id) => self.request_routinely(id, world, weather, at),
        }
    }

    fn strike(&mut self, kind: Kind, world: &mut World, weather: &mut Weather, at: i64) {
        if weather.disturb(kind, &mut self.rng, at) {
            return;
        }
        match kind {
            Kind::ClockOffByHours => {
                let corrected = at + self.last(10 * MINUTE, 4 * HOUR);
                self.plan(corrected, Turn::SetClock(weather.skew));
                let hours = self.rng.i64(2..=11) * HOUR;
                let skew = if self.rng.bool() { hours } else { -hours };
                weather.set_clock(weather.skew + skew, at);
            }
            Kind::StorageFails => {
                let until = at + self.last(3 * MINUTE, 3 * DAY);
                let policy = world.any_policy();
                let window = moment(at)..moment(until);
                world.estate.fail_storage(&policy, window.clone());
                world.estate.fail_listing(&policy, window);
            }
            Kind::UploadsRefused => {
                let until = at + self.last(30 * MINUTE, 2 * DAY);
                let policy = world.any_policy();
                let window = moment(at)..moment(until);
                world.estate.fail_storage(&policy, window);
            }
            Kind::TimersDie => self.kill_timers(world, at),
            Kind::Suspension | Kind::SuspensionLeft | Kind::CleanBackup | Kind::OwnPolicy => {
                self.strike_protection(kind, world, at);
            }
            Kind::PolicyChange | Kind::StorageMove | Kind::KeyRotation => {
                self.update_policy(kind, world, weather, at);
            }
            Kind::CertificateChange => {
                let ids = world.change_certificate(at).into_iter();
                weather.restarted_unseen.extend(ids.map(|id| (id, at)));
            }
            Kind::ServiceFailsOver => world.estate.fail_over_backup_service(moment(at)),
            _ => self.strike_partition(kind, world, at),
        }
    }

    fn strike_protection(&mut self, kind: Kind, world: &mut World, at: i64) {
        match kind {
            Kind::Suspension => {
                if let Some(entity) = world.any_entity() {
                    world.suspend(&entity, at);
                    let until = at + self.last(5 * MINUTE, 7 * DAY);
                    self.plan(until, Turn::Resume(entity));
                }
            }
            Kind::SuspensionLeft => {
                if let Some(entity) = world.any_enabled() {
                    world.suspend(&entity, at);
                    let enabled = at + self.last(2 * HOUR, 2 * DAY);
                    self.plan(at + HOUR, Turn::Disable(entity.clone()));
                    self.plan(enabled, Turn::Enable(entity.clone()));
                    let resumed = enabled + self.last(HOUR, 2 * DAY);
                    self.plan(resumed, Turn::Resume(entity));
                }
            }
            Kind::CleanBackup => {
                if let Some(entity) = world.any_enabled() {
                    world.disable(&entity, true, at);
                    let enabled = at + self.last(MINUTE, 12 * HOUR);
                    self.plan(enabled, Turn::Enable(entity));
                }
            }
            Kind::OwnPolicy => {
                let entity = world.any_entity();
                let entity = entity.filter(|it| !matches!(it, Entity::Application(_)));
                if let Some(entity) = entity {
                    world.enable_any(entity.clone(), at);
                    let until = at + self.last(HOUR, 10 * DAY);
                    self.plan(until, Turn::Disable(entity));
                }
            }
            _ => {}
        }
    }

    fn update_policy(&mut self, kind: Kind, world: &mut World, weather: &mut Weather, at: i64) {
        let policy = world.any_policy();
        match kind {
            Kind::PolicyChange if self.rng.bool() => {
                let calendar = self.rng.choice(CALENDARS);
                world.update_policy(&policy, calendar, at, |_| {});
            }
            Kind::PolicyChange => world.update_policy(&policy, None, at, |policy| {
                policy.max_incremental_backups += 1;
            }),
            Kind::StorageMove => {
                let number = self.turns;
                world.update_policy(&policy, None, at, |policy| {
                    policy.storage = Storage::AzureBlob {
                        friendly_name: "blobs".to_owned(),
                        container: format!("moved-{number}"),
                    };
                });
            }
            _ if self.has_keys => {
                let ids = world.renew_key(&policy, at).into_iter();
                weather.restarted_unseen.extend(ids.map(|id| (id, at)));
            }
            _ => {}
        }
    }

    fn kill_timers(&mut self, world: &mut World, at: i64) {
        let until = at + self.last(2 * HOUR, 5 * DAY);
        let entities: Vec<Entity> = match self.rng.u8(..4) {
            0 => {
                let names = world.estate.application_names().into_iter();
                names.map(Entity::Application).collect()
            }
            1 => world
                .any_partition()
                .map(Entity::Partition)
                .into_iter()
                .collect(),
            _ => vec![world.any_application()],
        };
        for entity in entities {
            let ids = world.estate.partitions_of(&entity);
            world.estate.stop_silently(ids, moment(at));
            self.plan(until, Turn::Repair(entity));
        }
    }

    fn strike_partition(&mut self, kind: Kind, world: &mut World, at: i64) {
        let Some(id) = world.any_partition() else {
            return;
        };
        match kind {
            Kind::PrimaryMove => {
                // Mostly in the middle of a backup, where it hurts.
                let start = world.next_backup(id, at).unwrap_or(at);
                let within = self.rng.i64(SECOND..90 * SECOND);
                self.plan(start + within, Turn::Move(id));
            }
            Kind::PrimaryCloses => {
                let start = world.next_backup(id, at).unwrap_or(at);
                let within = self.rng.i64(SECOND..90 * SECOND);
                self.plan(start + within, Turn::Close(id));
            }
            Kind::BackupDiscarded => {
                let start = world.next_backup(id, at).unwrap_or(at);
                let within = self.rng.i64(SECOND..90 * SECOND);
                let until = start + self.last(5 * MINUTE, 6 * HOUR);
                let entity = Entity::Partition(id);
                self.plan(start + within, Turn::Suspend(entity, until));
            }
            Kind::Restore => {
                let plan = RestorePlan::default();
                let restored = world.estate.request_restore(id, None, plan, moment(at));
                if restored.is_ok() {
                    world.restored.insert(id, at);
                    self.plan(at + 2 * MINUTE, Turn::Mark(id));
                }
            }
            Kind::PartitionCreated => {
                let created = world.create_any_partition(at);
                self.request_from_now_on(created, at);
            }
            Kind::ServiceCreated => {
                let created = world.create_any_service(at);
                self.request_from_now_on(created, at);
            }
            Kind::ServiceRecreated => {
                if let Some(service) = world.any_service() {
                    let created = world.recreate_service(&service, at);
                    self.request_from_now_on(created, at);
                }
            }
            Kind::PartitionDeleted => world.delete_partition(id),
            Kind::ServiceDeleted => {
                if let Some(service) = world.any_service() {
                    world.delete_service(&service);
                }
            }
            Kind::Unrestorable => world.estate.list_unrestorable(id, moment(at)),
            _ => self.strike_request(kind, id, world, at),
        }
    }

    fn strike_request(&mut self, kind: Kind, id: Uuid, world: &mut World, at: i64) {
        match kind {
            Kind::Request => self.request(world, id, Outcome::Success, None, at),
            Kind::RequestFails => {
                let code = Code::Name("FABRIC_E_BACKUPCOPIER_ACCESS_DENIED".to_owned());
                let outcome = Outcome::Failure(code, "Access denied.".to_owned());
                self.request(world, id, outcome, None, at);
            }
            Kind::RequestTimesOut => {
                self.request(world, id, Outcome::Never, Some(10 * MINUTE), at);
            }
            Kind::RequestHangs => {
                let limit = self.last(20 * MINUTE, 6 * HOUR);
                self.request(world, id, Outcome::Never, Some(limit), at);
            }
            _ => {}
        }
    }

    fn request(
        &mut self,
        world: &mut World,
        id: Uuid,
        outcome: Outcome,
        limit: Option<i64>,
        at: i64,
    ) {
        let mut seconds = |range| Duration::from_secs(self.rng.u64(range));
        let plan = BackupPlan {
            accepted_for: seconds(2..40),
            running_for: seconds(10..240),
            outcome,
            timeout: limit.map(|limit| Duration::from_millis(limit.unsigned_abs())),
        };
        // A refusal means that a backup or a restore runs already: then there is none more.
        let requested = world.estate.request_backup(id, plan, moment(at));
        requested.unwrap_or_default();
    }

    fn request_from_now_on(&mut self, created: Vec<Uuid>, at: i64) {
        if !self.routine {
            return;
        }
        for id in created {
            let first = at + self.last(MINUTE, HOUR);
            self.plan(first, Turn::Routine(id));
        }
    }

    /// The daily request of a partition that has no policy.
    fn request_routinely(&mut self, id: Uuid, world: &mut World, weather: &Weather, at: i64) {
        if world.estate.service_of(id).is_none() {
            return;
        }
        let is_alone = world.terms(id).policy.is_none();
        if is_alone && !weather.requester.strikes(at) {
            self.request(world, id, Outcome::Success, None, at);
        }
        let next = at + self.rng.i64(21 * HOUR..23 * HOUR);
        self.plan(next, Turn::Routine(id));
    }
}
