//! What a cycle over a cluster with a usual mix observes: of a hundred partitions 88 ended their
//! last requested backup well, 4 failed, 1 timed out, 2 are at it, and 5 were never asked for one.
//! 80 are under one of 20 policies, set at the application or at the service, and of those 5 % are
//! suspended one by one; the health of 94 % of them is Ok and that of 3 % a warning.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc, Weekday};
use servicefabric_backup_exporter::inventory::Inventory;
use servicefabric_backup_exporter::model::{
    BackupConfiguration, BackupEntity, BackupHealth, BackupKind, BackupProgress, BackupState,
    Collector, ConfigurationScope, DecodedList, Epoch, Failure, FailureCode, LabelValue,
    ListedBackup, Name, Partition, PartitionId, PartitionKind, PeriodicAttempt, Policy, Read,
    RestoreProgress, RestoreState, Retention, Schedule,
};
use servicefabric_backup_exporter::protection::effective::ConfigurationSet;
use servicefabric_backup_exporter::snapshot::{
    ClusterObservation, CollectorRun, Observations, PartitionObservation, SecurityStatus,
};
use uuid::{Builder, Uuid};

/// Partitions of each service, and services of each application.
const PARTITIONS_PER_SERVICE: u32 = 20;
const SERVICES_PER_APPLICATION: u32 = 10;

const POLICIES: u32 = 20;

/// Backups of each protected partition in the store.
const RECOVERY_POINTS: u32 = 4;

/// Where the policy of an application comes from.
enum Set {
    AtApplication,
    AtServices,
    Nowhere,
}

fn set(application: u32) -> Set {
    match application % 10 {
        0..6 => Set::AtApplication,
        6..8 => Set::AtServices,
        _ => Set::Nowhere,
    }
}

/// All that a cycle finds that begins at `now`, as the poller publishes it, and after it the
/// lists of the newest backups; `round` tells one cycle from the next.
pub(crate) fn cycle(partitions: u32, round: u32, now: DateTime<Utc>) -> [Observations; 4] {
    let inventory = inventory(partitions);
    let listed = inventory.listed.iter();
    let names: Vec<(Name, Name)> = listed
        .filter_map(|one| Some((one.application.clone()?, one.service.clone()?)))
        .collect();
    let first = Observations {
        inventory: Some(read(inventory, now)),
        policies: Some(read((0..POLICIES).map(policy).collect(), now)),
        ..Observations::default()
    };
    let second = Observations {
        configurations: settings(&names, now),
        ..Observations::default()
    };
    let runs = Collector::ALL.map(|collector| CollectorRun {
        collector,
        success: true,
        duration: Duration::from_secs(40),
    });
    let third = Observations {
        partitions: readings(partitions, round, now),
        runs: runs.into(),
        clock_skew: Some(TimeDelta::zero()),
        cluster: Some(ClusterObservation {
            up: true,
            service_up: Some(true),
            version: Some("10.1.2493.9590".to_owned()),
            security: SecurityStatus::default(),
        }),
        ..Observations::default()
    };
    let fourth = Observations {
        newest: lists(&names, 1, round, now),
        ..Observations::default()
    };
    [first, second, third, fourth]
}

/// What the collector `history` finds, which is not switched on by itself.
pub(crate) fn histories(partitions: u32, round: u32, now: DateTime<Utc>) -> Observations {
    let listed = inventory(partitions).listed.into_iter();
    let names: Vec<(Name, Name)> = listed
        .filter_map(|one| one.application.zip(one.service))
        .collect();
    Observations {
        histories: lists(&names, RECOVERY_POINTS, round, now),
        ..Observations::default()
    }
}

fn read<T>(value: T, at: DateTime<Utc>) -> Read<T> {
    Read { value, at }
}

fn inventory(partitions: u32) -> Inventory {
    let mut listed = Vec::new();
    let mut names: Option<(Name, Name)> = None;
    for number in 0..partitions {
        let service = number / PARTITIONS_PER_SERVICE;
        let application = service / SERVICES_PER_APPLICATION;
        if number % PARTITIONS_PER_SERVICE == 0 {
            let application = format!("fabric:/Retail/Application{application}");
            let service = format!("{application}/Service{service}");
            names = Some((application.into(), service.into()));
        }
        let (application, service) = names.clone().unzip();
        listed.push(Partition {
            id: id(number),
            application,
            service,
            kind: Some(PartitionKind::Int64Range),
            data_loss_time: DateTime::from_timestamp(1_740_000_000 + i64::from(number), 0),
        });
    }
    Inventory {
        listed,
        unread: Vec::new(),
    }
}

fn policy(number: u32) -> Policy {
    let noon = NaiveTime::from_hms_opt(12, 0, 0).expect("it is a time");
    let schedule = match number {
        0 => Schedule::Daily(vec![noon]),
        1 => Schedule::Weekly(vec![Weekday::Mon, Weekday::Thu], vec![noon]),
        _ => Schedule::Frequency(Duration::from_secs(u64::from(number) * 3600)),
    };
    Policy {
        name: format!("Policy{number}").into(),
        schedule: Some(schedule),
        storage: LabelValue::new("AzureBlobStore"),
        auto_restore: false,
        storage_fingerprint: 0,
        max_incrementals: Some(10),
        retention: Some(Retention {
            duration: Duration::from_secs(30 * 86_400),
            minimum_backups: Some(0),
        }),
        checksum: 0,
    }
}

/// The place of a partition: its application and its service, as numbers.
fn place(number: u32) -> (u32, u32) {
    let service = number / PARTITIONS_PER_SERVICE;
    (service / SERVICES_PER_APPLICATION, service)
}

fn is_protected(number: u32) -> bool {
    !matches!(set(place(number).0), Set::Nowhere)
}

fn is_suspended(number: u32) -> bool {
    is_protected(number) && number % 20 == 7
}

/// What the cluster says of each application: its policy, or those of its services, and a line
/// for each partition that is suspended.
fn settings(names: &[(Name, Name)], now: DateTime<Utc>) -> Vec<(Name, Read<ConfigurationSet>)> {
    let mut settings = Vec::new();
    let size = PARTITIONS_PER_SERVICE * SERVICES_PER_APPLICATION;
    for (application, names) in (0..).zip(names.chunks(to_index(size))) {
        let mut lines = Vec::new();
        let mut line =
            |entity, (policy, level): (u32, ConfigurationScope), suspension_inherited_from| {
                lines.push(BackupConfiguration {
                    entity,
                    policy: Some(format!("Policy{}", policy % POLICIES).into()),
                    policy_inherited_from: Some(level),
                    suspension_inherited_from,
                });
            };
        for (number, (name, service)) in (application * size..).zip(names) {
            let from = match set(application) {
                Set::AtApplication => (application, ConfigurationScope::Application),
                Set::AtServices => (place(number).1, ConfigurationScope::Service),
                Set::Nowhere => continue,
            };
            if number % size == 0 && from.1 == ConfigurationScope::Application {
                line(BackupEntity::Application(Arc::clone(name)), from, None);
            }
            if number % PARTITIONS_PER_SERVICE == 0 && from.1 == ConfigurationScope::Service {
                line(BackupEntity::Service(Arc::clone(service)), from, None);
            }
            if is_suspended(number) {
                let entity = BackupEntity::Partition(id(number));
                line(entity, from, Some(ConfigurationScope::Partition));
            }
        }
        if let Some((name, _)) = names.first() {
            let lines: ConfigurationSet = lines.into_iter().collect();
            settings.push((Arc::clone(name), read(lines, now)));
        }
    }
    settings
}

/// What is read of each partition, in the order in which the answers come: that of the ids.
fn readings(
    partitions: u32,
    round: u32,
    now: DateTime<Utc>,
) -> Vec<(PartitionId, Read<PartitionObservation>)> {
    let mut readings = Vec::new();
    for number in 0..partitions {
        let at = now + TimeDelta::milliseconds(i64::from(number) / 2);
        let progress = PartitionObservation::Progress(record(number, round, now).map(Arc::new));
        readings.push((id(number), read(progress, at)));
        if is_protected(number) {
            let health = PartitionObservation::Health(health(number, round, now));
            readings.push((id(number), read(health, at)));
        }
        let restore = (number % 50 == 3).then(|| RestoreProgress {
            state: RestoreState::Success,
            timestamp: Some(now - TimeDelta::days(3)),
        });
        readings.push((id(number), read(PartitionObservation::Restore(restore), at)));
    }
    readings.sort_by_key(|(id, _)| *id);
    readings
}

fn health(number: u32, round: u32, now: DateTime<Utc>) -> BackupHealth {
    let attempt = match number % 33 {
        _ if is_suspended(number) => None,
        3 => None,
        _ => Some(PeriodicAttempt {
            succeeded: !is_failing(number),
            ended: periodic_at(number, round, now) + TimeDelta::seconds(20),
        }),
    };
    BackupHealth {
        attempt,
        ..BackupHealth::default()
    }
}

fn is_failing(number: u32) -> bool {
    number % 33 == 4
}

/// The last periodic attempt: a tenth of the partitions has a new one in each round.
fn periodic_at(number: u32, round: u32, now: DateTime<Utc>) -> DateTime<Utc> {
    let taken = round - (round + number) % 10;
    now - TimeDelta::minutes(i64::from(round - taken)) - TimeDelta::seconds(number.into()) / 5_000
}

/// The newest backup in the store: where attempts fail, hours old.
fn stored_at(number: u32, round: u32, now: DateTime<Utc>) -> DateTime<Utc> {
    let failing_for = if is_failing(number) {
        TimeDelta::seconds(3600 + i64::from(number) * 97 % 68_400)
    } else {
        TimeDelta::zero()
    };
    periodic_at(number, round, now) - failing_for
}

/// So many of the newest backups of each protected partition, by application.
fn lists(
    names: &[(Name, Name)],
    each: u32,
    round: u32,
    now: DateTime<Utc>,
) -> Vec<(Name, Read<DecodedList<ListedBackup>>)> {
    let size = PARTITIONS_PER_SERVICE * SERVICES_PER_APPLICATION;
    let applications = (0..).zip(names.chunks(to_index(size)));
    let lists = applications.filter_map(|(application, names)| {
        let (name, _) = names.first()?;
        let numbers = (application * size..).take(names.len());
        let listed: Vec<ListedBackup> = numbers
            .filter(|number| is_protected(*number))
            .flat_map(|number| (0..each).map(move |back| (number, back)))
            .map(|(number, back)| listed(number, back, stored_at(number, round, now)))
            .collect();
        let protected = !listed.is_empty();
        let listed = DecodedList {
            items: listed,
            skipped: 0,
        };
        protected.then(|| (Arc::clone(name), read(listed, now)))
    });
    lists.collect()
}

fn listed(number: u32, back: u32, newest: DateTime<Utc>) -> ListedBackup {
    let created = newest - TimeDelta::hours(back.into());
    let salt = created.timestamp().unsigned_abs();
    ListedBackup {
        partition: id(number),
        backup_id: Some(guid(number, salt)),
        chain_id: Some(guid(number, 1)),
        kind: match back {
            3 => BackupKind::Full,
            _ => BackupKind::Incremental,
        },
        created: Some(created),
        epoch: Some(epoch(number)),
        lsn: Some(salt),
        restorable: true,
    }
}

fn epoch(number: u32) -> Epoch {
    Epoch {
        data_loss_version: Some(132_873_018_908_156_893 + u64::from(number) * 10_000_000),
        configuration_version: Some(8_589_934_592 + u64::from(number)),
    }
}

fn to_index(number: u32) -> usize {
    usize::try_from(number).expect("it is small")
}

/// Any number, but always the same: ids do not come in the order of the services.
fn guid(number: u32, salt: u64) -> Uuid {
    let mut random = fastrand::Rng::with_seed(u64::from(number) << 32 | salt);
    Builder::from_random_bytes(random.u128(..).to_le_bytes()).into_uuid()
}

fn id(number: u32) -> PartitionId {
    PartitionId(guid(number, 0))
}

fn record(number: u32, round: u32, now: DateTime<Utc>) -> Option<BackupProgress> {
    let state = match number % 100 {
        0..88 => BackupState::Success,
        88..92 => BackupState::Failure,
        92 => BackupState::Timeout,
        93..95 => BackupState::BackupInProgress,
        _ => return None,
    };
    let success = state == BackupState::Success;
    // A tenth of the partitions has a new backup in each round.
    let backup = round - (round + number) % 10;
    let age = TimeDelta::seconds(i64::from(number) % 86_400 - i64::from(backup));
    Some(BackupProgress {
        state,
        timestamp: success.then(|| now - age),
        backup_id: success.then(|| guid(number, u64::from(backup))),
        epoch: success.then(|| epoch(number)),
        lsn: success.then(|| 1_000_000 + u64::from(number) * 37 + u64::from(backup)),
        failure: [BackupState::Failure, BackupState::Timeout]
            .contains(&state)
            .then(|| Failure {
                code: FailureCode::from_text("FABRIC_E_BACKUPCOPIER_TIMEOUT"),
                message: Some(Arc::from("The copy to the store timed out.")),
            }),
    })
}
