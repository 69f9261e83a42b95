//! What applies to each partition, read from the simulated cluster while policies and suspensions
//! come and go at all levels.
//!
//! The expectation is kept by the test: the policy of the nearest level, and a suspension at any
//! level. It is not asked of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::simulate;
use crate::support::watch::{Setup, partition, requests, succeeded};
use chrono::TimeDelta;
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::model::Level;
use servicefabric_backup_exporter::protection::applied::Applied;
use servicefabric_backup_exporter::simulator::{
    Entity, Estate, Operation, Options, Policy, Schedule, Scheme, ServiceKind, Simulator, Storage,
};
use servicefabric_backup_exporter::snapshot::Collector;
use uuid::Uuid;

const POLICIES: [&str; 3] = ["Hourly", "Daily", "Weekly"];

/// Everything that was set so far, and where.
#[derive(Default)]
struct Model {
    /// Each partition with its service and application, nearest first.
    lines: BTreeMap<Uuid, [Entity; 3]>,
    mappings: BTreeMap<Entity, &'static str>,
    suspensions: BTreeSet<Entity>,
}

impl Model {
    fn entities(&self) -> Vec<Entity> {
        let all: BTreeSet<&Entity> = self.lines.values().flatten().collect();
        all.into_iter().cloned().collect()
    }

    /// Does something at random, as far as the cluster does not refuse it.
    fn change(&mut self, estate: &mut Estate, rng: &mut fastrand::Rng) {
        let entity = rng.choice(self.entities()).unwrap();
        let now = clock::now();
        match rng.u8(0..8) {
            0..3 => {
                let policy = *rng.choice(&POLICIES).unwrap();
                estate.enable(&entity, policy, now).unwrap();
                self.mappings.insert(entity, policy);
            }
            3..5 => {
                if estate.disable(&entity, now).is_ok() {
                    self.mappings.remove(&entity);
                }
            }
            5..7 => {
                estate.suspend(&entity, now).unwrap();
                self.suspensions.insert(entity);
            }
            _ => {
                if estate.resume(&entity, now).is_ok() {
                    self.suspensions.remove(&entity);
                }
            }
        }
    }

    fn applied_to(&self, id: Uuid) -> Applied {
        let line = &self.lines[&id];
        let policy = line
            .iter()
            .find_map(|it| Some((it, self.mappings.get(it)?)));
        let suspended = line.iter().find(|it| self.suspensions.contains(*it));
        match policy {
            None => Applied::default(),
            Some((entity, policy)) => Applied {
                policy: Some(((*policy).into(), level(entity))),
                suspended: suspended.map(level),
            },
        }
    }
}

fn level(entity: &Entity) -> Level {
    match entity {
        Entity::Application(_) => Level::Application,
        Entity::Service(_) => Level::Service,
        Entity::Partition(_) => Level::Partition,
    }
}

/// Applications with two services each, and three partitions in each of those.
fn model(estate: &mut Estate, applications: &[&str]) -> Model {
    let born = clock::now() - TimeDelta::days(1);
    let mut model = Model::default();
    for application in applications {
        for service in ["Orders", "Orders2"] {
            let service = format!("{application}/{service}");
            let (kind, scheme) = (ServiceKind::Persisted, Scheme::Ranges(3));
            for id in estate.add_service(application, &service, kind, scheme, born) {
                let above = [Entity::service(&service), Entity::application(application)];
                let [service, application] = above;
                let line = [Entity::Partition(id), service, application];
                model.lines.insert(id, line);
            }
        }
    }
    for name in POLICIES {
        let policy = Policy {
            name: name.to_owned(),
            auto_restore_on_data_loss: false,
            max_incremental_backups: 3,
            schedule: Schedule::Every(std::time::Duration::from_secs(3600)),
            storage: Storage::FileShare {
                friendly_name: "share".to_owned(),
                path: format!(r"\\storage\{name}"),
                user: None,
            },
            retention: None,
        };
        estate.add_policy(policy, born);
    }
    model
}

async fn cluster(applications: &[&str]) -> (Simulator, Model) {
    let mut estate = Estate::empty(7, clock::now() - TimeDelta::days(1));
    let model = model(&mut estate, applications);
    (simulate(estate, Options::default()).await, model)
}

/// Asks every partition in every cycle, where they are asked at all.
fn without_turns() -> Setup {
    let mut setup = Setup::default();
    setup.poll.staleness = setup.poll.interval;
    setup
}

#[tokio::test]
async fn every_partition_is_read_as_it_was_set_whatever_is_suspended() {
    let applications = ["fabric:/App1", "fabric:/App10", "fabric:/Retail/Shop"];
    let mut was_asked = 0;
    for seed in 0..4 {
        let (simulator, mut model) = cluster(&applications).await;
        let watch = without_turns().watch(&simulator);
        let mut rng = fastrand::Rng::with_seed(seed);
        for cycle in 0..12 {
            simulator.with_estate(|estate| {
                (0..rng.u8(1..4)).for_each(|_| model.change(estate, &mut rng));
            });
            let snapshot = watch.cycle().await;
            for id in model.lines.keys() {
                let applied = partition(&snapshot, *id).applied.as_deref();
                let expected = model.applied_to(*id);
                assert_eq!(applied, Some(&expected), "seed {seed}, cycle {cycle}, {id}");
            }
            assert!(succeeded(&snapshot, Collector::Configuration));
        }
        assert_eq!(watch.errors(), BTreeMap::new(), "seed {seed}");
        let asked = requests(&simulator, Operation::GetApplicationBackupConfigurationInfo);
        assert_eq!(asked, 12 * 3, "once per application and cycle");
        was_asked += requests(&simulator, Operation::GetPartitionBackupConfigurationInfo);
    }
    assert!(was_asked > 0, "no application was unable to answer");
}

#[tokio::test]
async fn below_a_name_that_is_encoded_the_policy_of_the_application_is_not_believed() {
    let applications = ["fabric:/My Shop", "fabric:/Plain"];
    for seed in 0..3 {
        let (simulator, mut model) = cluster(&applications).await;
        let watch = without_turns().watch(&simulator);
        let mut rng = fastrand::Rng::with_seed(seed);
        for cycle in 0..12 {
            simulator.with_estate(|estate| model.change(estate, &mut rng));
            let snapshot = watch.cycle().await;
            for (id, [.., application]) in &model.lines {
                let mut expected = model.applied_to(*id);
                let mut applied = partition(&snapshot, *id)
                    .applied
                    .as_deref()
                    .unwrap()
                    .clone();
                if *application == Entity::application("fabric:/My Shop") {
                    let reaches = |(_, level): &_| *level != Level::Application;
                    expected.policy = expected.policy.filter(reaches);
                    // No answer shows a suspension above the partition.
                    (applied.suspended, expected.suspended) = (None, None);
                }
                assert_eq!(applied, expected, "seed {seed}, cycle {cycle}, {id}");
            }
            assert!(succeeded(&snapshot, Collector::Configuration));
        }
        assert_eq!(watch.errors(), BTreeMap::new(), "seed {seed}");
    }
}
