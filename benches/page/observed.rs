//! What a cycle over a cluster with a usual mix of records observes: of a hundred partitions 88
//! ended their last requested backup well, 4 failed, 1 timed out, 2 are at it, and 5 were never
//! asked for one.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use servicefabric_backup_exporter::inventory::Inventory;
use servicefabric_backup_exporter::model::{
    BackupProgress, BackupState, Epoch, Failure, FailureCode, Name, Partition, PartitionId,
    PartitionKind,
};
use servicefabric_backup_exporter::protection::Read;
use servicefabric_backup_exporter::snapshot::{
    ClusterReading, Collector, Observations, Reading, Run,
};
use uuid::{Builder, Uuid};

/// Partitions of each service, and services of each application.
const PARTITIONS_PER_SERVICE: u32 = 20;
const SERVICES_PER_APPLICATION: u32 = 10;

/// All that a cycle finds that begins at `now`; `round` tells one cycle from the next.
pub(crate) fn cycle(partitions: u32, round: u32, now: DateTime<Utc>) -> [Observations; 2] {
    let first = Observations {
        inventory: Some(Read {
            value: inventory(partitions),
            at: now,
        }),
        ..Observations::default()
    };
    let ids = (0..partitions).map(|number| (number, id(number)));
    let progress = ids.map(|(number, id)| {
        let at = now + TimeDelta::milliseconds(i64::from(number) / 2);
        let value = Reading::Progress(record(number, round, now));
        (id, Read { value, at })
    });
    let runs = Collector::ALL.map(|collector| Run {
        collector,
        success: true,
        duration: Duration::from_secs(40),
    });
    let second = Observations {
        partitions: progress.collect(),
        runs: runs.into(),
        cluster: Some(ClusterReading {
            up: true,
            service_up: Some(true),
            version: Some("10.1.2493.9590".to_owned()),
            clock_skew: Some(TimeDelta::zero()),
        }),
        ..Observations::default()
    };
    [first, second]
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
            data_loss: None,
        });
    }
    Inventory {
        listed,
        unread: Vec::new(),
    }
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
        epoch: success.then(|| Epoch {
            data_loss_version: Some(132_873_018_908_156_893 + u64::from(number) * 10_000_000),
            configuration_version: Some(8_589_934_592 + u64::from(number)),
        }),
        lsn: success.then(|| 1_000_000 + u64::from(number) * 37 + u64::from(backup)),
        failure: [BackupState::Failure, BackupState::Timeout]
            .contains(&state)
            .then(|| Failure {
                code: FailureCode::from_text("FABRIC_E_BACKUPCOPIER_TIMEOUT"),
                message: Some(Arc::from("The copy to the store timed out.")),
            }),
    })
}
