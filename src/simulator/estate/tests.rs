//! The engine against the published source of Service Fabric, rule by rule, on small worlds.
//!
//! Every figure comes from the source file that the rule under test names, none from the code
//! under test or from the exporter.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use uuid::Uuid;

use super::*;
use crate::simulator::record::{BackupPlan, Code, Outcome};

mod actors;
mod configuration;
mod deletion;
mod in_flight;
mod primaries;
mod requests;
mod restores;
mod schedule;
mod storages;
mod world;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// From the start of a backup to its snapshot, and from there to the end of its upload.
const SNAPSHOT: Duration = Duration::from_secs(2);
const UPLOAD: Duration = Duration::from_secs(20);

/// 2025-06-15, a Sunday, at 15:06:40.
fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 0).unwrap()
}

fn hourly() -> Policy {
    Policy {
        name: "Hourly".to_owned(),
        auto_restore_on_data_loss: false,
        max_incremental_backups: 3,
        schedule: Schedule::Every(HOUR),
        storage: blob("one"),
        retention: None,
    }
}

fn named(name: &str) -> Policy {
    Policy {
        name: name.to_owned(),
        ..hourly()
    }
}

fn daily(hours: &[u32]) -> Policy {
    let times = hours.iter().map(|it| NaiveTime::from_hms_opt(*it, 0, 0));
    Policy {
        schedule: Schedule::Daily(times.map(Option::unwrap).collect()),
        ..hourly()
    }
}

fn blob(container: &str) -> Storage {
    Storage::AzureBlob {
        friendly_name: String::new(),
        container: container.to_owned(),
    }
}

fn app() -> Entity {
    Entity::application("fabric:/App")
}

fn orders() -> Entity {
    Entity::service("fabric:/App/Orders")
}

fn carts_service() -> Entity {
    Entity::service("fabric:/App/Carts")
}

/// `fabric:/App/Orders`, protected since the start by a policy at the application.
struct GatewayState {
    estate: Estate,
    ids: Vec<Uuid>,
    /// The first of them.
    id: Uuid,
    log: Vec<EstateEvent>,
}

impl GatewayState {
    fn with(partitions: usize, policy: Policy) -> Self {
        let mut estate = Estate::empty(7, start());
        estate.set_tempo(Tempo {
            snapshot: SNAPSHOT..=SNAPSHOT,
            upload: UPLOAD..=UPLOAD,
            ..Tempo::default()
        });
        let kind = ServiceKind::Persisted;
        let scheme = Scheme::Ranges(partitions);
        let ids = estate.add_service("fabric:/App", "fabric:/App/Orders", kind, scheme, start());
        let name = policy.name.clone();
        estate.add_policy(policy, start());
        estate.enable(&app(), &name, start()).unwrap();
        estate.take_log();
        let id = ids[0];
        Self {
            estate,
            ids,
            id,
            log: Vec::new(),
        }
    }

    /// One partition, every hour.
    fn hourly() -> Self {
        Self::with(1, hourly())
    }

    fn of_actors(policy: Policy) -> Self {
        let mut world = Self::with(1, policy);
        let provider = StateProvider::KeyValueStore;
        world
            .estate
            .set_state_provider("fabric:/App/Orders", provider);
        world
    }

    /// Actors whose uploads take a minute.
    fn of_slow_actors() -> Self {
        let mut world = Self::of_actors(hourly());
        world.estate.set_tempo(Tempo {
            upload: MINUTE..=MINUTE,
            ..Tempo::default()
        });
        world
    }

    /// Requests a backup of the first partition.
    fn request(&mut self, plan: BackupPlan, now: DateTime<Utc>) {
        self.estate.request_backup(self.id, plan, now).unwrap();
    }

    /// Adds `fabric:/App/Carts` at the start, with a policy of its own that has another container.
    fn add_carts_to_container_two(&mut self) -> Uuid {
        let other = Policy {
            storage: blob("two"),
            ..named("Other")
        };
        self.estate.add_policy(other, start());
        let carts = self.add("fabric:/App/Carts", start());
        self.estate
            .enable(&carts_service(), "Other", start())
            .unwrap();
        carts
    }

    fn add(&mut self, service: &str, now: DateTime<Utc>) -> Uuid {
        let (application, _) = service.rsplit_once('/').unwrap();
        let kind = ServiceKind::Persisted;
        self.estate
            .add_service(application, service, kind, Scheme::Singleton, now)[0]
    }

    fn now(&self) -> DateTime<Utc> {
        self.estate.backup_service.present(start())
    }

    fn tick(&mut self, now: DateTime<Utc>) {
        self.estate.tick(now);
        self.log.extend(self.estate.take_log());
    }

    /// Lets time pass until something happens to a partition, in small steps; the moment of it.
    fn until(&mut self, id: Uuid, is_it: impl Fn(EstateEventKind) -> bool) -> DateTime<Utc> {
        let mut now = self.now();
        self.tick(now);
        let seen = self.log.len();
        for _ in 0..400_000 {
            now += SECOND;
            self.tick(now);
            let new = self.log[seen..].iter();
            let found = new
                .filter(|it| it.partition == id)
                .find(|it| is_it(it.what));
            if let Some(happened) = found {
                return happened.at;
            }
        }
        panic!("it does not happen within four days");
    }

    /// The end of the next periodic backup that counts.
    fn until_backup(&mut self) -> DateTime<Utc> {
        self.until(self.id, |it| matches!(it, EstateEventKind::BackedUp { .. }))
    }

    fn until_failure(&mut self) -> DateTime<Utc> {
        self.until(self.id, |it| it == EstateEventKind::Failed)
    }

    /// Everything of one kind that has happened to a partition.
    fn all<T>(&self, id: Uuid, of: impl Fn(&EstateEvent) -> Option<T>) -> Vec<T> {
        let log = self.log.iter();
        log.filter(|it| it.partition == id).filter_map(of).collect()
    }

    fn armed(&self, id: Uuid) -> Vec<DateTime<Utc>> {
        self.all(id, |it| match it.what {
            EstateEventKind::Armed { due } => Some(due),
            _ => None,
        })
    }

    /// Moments of the snapshots of all uploads that finished.
    fn stored(&self, id: Uuid) -> Vec<DateTime<Utc>> {
        self.all(id, |it| match it.what {
            EstateEventKind::Stored { taken, .. } => Some(taken),
            _ => None,
        })
    }

    fn counted(&self, id: Uuid) -> usize {
        let counted = |it: &EstateEvent| matches!(it.what, EstateEventKind::BackedUp { .. });
        self.all(id, |it| counted(it).then_some(())).len()
    }

    /// The periodic backup that is due next has begun: its snapshot, or its upload, is under way.
    fn in_flight(&mut self, uploading: bool) -> DateTime<Utc> {
        let due = self.estate.next_backup(self.id).unwrap();
        let now = due + if uploading { 5 * SECOND } else { SECOND };
        self.tick(now);
        now
    }

    fn backups(&self) -> Vec<Backup> {
        self.estate.backups(self.id, self.now())
    }

    fn next(&self) -> Option<DateTime<Utc>> {
        self.estate.next_backup(self.id)
    }

    /// What the health event `Backup` says as soon as it can be seen.
    fn kind(&mut self, at: DateTime<Utc>) -> Option<HealthReportKind> {
        let seen = at + 31 * SECOND;
        self.tick(seen);
        let [backup, _] = self.estate.backup_service.shown_reports(self.id, seen);
        Some(backup?.kind)
    }

    fn state(&self) -> String {
        let record = self.estate.record(self.id).unwrap();
        record["BackupState"].as_str().unwrap_or("null").to_owned()
    }
}

/// Something is due `jitter` around a moment.
#[track_caller]
fn assert_around(due: Option<DateTime<Utc>>, expected: DateTime<Utc>) {
    let off = due.unwrap() - expected;
    let bound = TimeDelta::seconds(10);
    assert!(off >= -bound && off <= bound, "{off} off {expected}");
}

/// Something is due one hour of the schedule after the end of a backup: jitter, and up to 11 s
/// of shift.
#[track_caller]
fn assert_scheduled(due: Option<DateTime<Utc>>, ended: DateTime<Utc>) {
    let off = (due.unwrap() - ended).num_seconds() - 3600;
    assert!((-10..=21).contains(&off), "{off} s off");
}

/// Something is due at once: 0 to 10 s later.
#[track_caller]
fn assert_at_once(due: Option<DateTime<Utc>>, now: DateTime<Utc>) {
    let wait = due.unwrap() - now;
    assert!(
        wait >= TimeDelta::zero() && wait <= TimeDelta::seconds(10),
        "{wait}"
    );
}
