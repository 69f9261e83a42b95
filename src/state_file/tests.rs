use super::*;
use crate::inventory::Inventory;
use crate::model::{
    BackupProgress, BackupState, Epoch, Failure, FailureCode, Partition, PartitionId, PartitionKind,
};
use crate::protection::Read;
use crate::snapshot::{Observations, PartitionSnapshot, Reading};
use chrono::TimeZone;
use uuid::Uuid;

fn at(second: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_700_000_000 + second, 0).unwrap()
}

fn record(state: BackupState) -> BackupProgress {
    BackupProgress {
        state,
        timestamp: (state == BackupState::Success).then(|| at(-90)),
        backup_id: (state == BackupState::Success).then(|| Uuid::from_u128(5)),
        epoch: Some(Epoch {
            data_loss_version: Some(u64::MAX / 3),
            configuration_version: None,
        }),
        lsn: Some(42),
        failure: (state == BackupState::Failure).then(|| Failure {
            code: FailureCode::from_number(-2_146_233_088),
            message: Some("a message that is not remembered".into()),
        }),
    }
}

fn reading(second: i64, state: BackupState) -> Observations {
    let reading = Read {
        value: Reading::Progress(Some(Arc::new(record(state)))),
        at: at(second),
    };
    Observations {
        partitions: vec![(PartitionId(Uuid::from_u128(1)), reading)],
        ..Observations::default()
    }
}

fn snapshot() -> Snapshot {
    let partition = |id, name: Option<&str>| Partition {
        id: PartitionId(Uuid::from_u128(id)),
        application: name.map(|_| "fabric:/A \"quoted\" \\ name".into()),
        service: name.map(Into::into),
        kind: name.map(|_| PartitionKind::Int64Range),
        data_loss: None,
    };
    let inventory = Inventory {
        listed: vec![partition(1, Some("fabric:/A/B")), partition(2, None)],
        unread: Vec::new(),
    };
    let listed = Observations {
        inventory: Some(Read {
            value: inventory,
            at: at(0),
        }),
        ..Observations::default()
    };
    Snapshot::empty("prod".into())
        .advance(listed, at(0))
        .advance(reading(1, BackupState::Accepted), at(1))
        .advance(reading(2, BackupState::Success), at(2))
        .advance(reading(3, BackupState::Failure), at(3))
}

/// What a restart keeps of a snapshot: everything but the reading itself.
fn memory(snapshot: &Snapshot) -> Snapshot {
    let forget = |known: &PartitionSnapshot| PartitionSnapshot {
        inventoried_at: None,
        progress: None,
        applied_at: None,
        health: None,
        listed_at: None,
        listed_success: None,
        ..known.clone()
    };
    Snapshot::remembered(
        Arc::clone(&snapshot.cluster),
        snapshot.partitions.values().map(forget).collect(),
        snapshot.totals.clone(),
        snapshot.policy_marks.clone(),
    )
}

fn write(path: &Path) -> Snapshot {
    let snapshot = snapshot();
    let saved = StateFile::new(path.to_owned()).save(&[Arc::new(snapshot.clone())]);
    saved.unwrap();
    snapshot
}

#[test]
fn what_is_written_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let written = write(&path);
    let loaded = load(&path, at(9)).unwrap();
    assert!(loaded.set_aside.is_none());
    assert_eq!(loaded.clusters["prod"], memory(&written));
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("not remembered"), "{text}");
}

#[test]
fn a_restart_counts_what_ended_meanwhile_and_nothing_twice() {
    let remembered = memory(&snapshot());
    let failures = |snapshot: &Snapshot| snapshot.totals.values().map(|t| t.failed).sum::<u64>();
    let same = remembered.advance(reading(100, BackupState::Failure), at(100));
    assert_eq!(failures(&same), failures(&remembered));
    let ended = remembered.advance(reading(100, BackupState::Timeout), at(100));
    assert_eq!(ended.totals.values().map(|t| t.timed_out).sum::<u64>(), 1);
}

#[test]
fn a_missing_file_remembers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load(&folder.path().join("none.json"), at(0)).unwrap();
    assert!(loaded.clusters.is_empty() && loaded.set_aside.is_none());
}

#[test]
fn every_cut_of_a_file_is_set_aside_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    write(&path);
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(7) {
        let cut = &whole[..length];
        fs::write(&path, cut).unwrap();
        let loaded = load(&path, at(length.try_into().unwrap())).unwrap();
        let (to, damage) = loaded.set_aside.unwrap();
        assert!(matches!(damage, Damage::Decode(_)), "{damage:?}");
        assert_eq!(fs::read(to).unwrap(), cut);
        assert!(!path.exists());
    }
}

#[test]
fn a_file_of_a_later_version_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    fs::write(&path, r#"{"version":2,"new":true}"#).unwrap();
    let (to, damage) = load(&path, at(5)).unwrap().set_aside.unwrap();
    assert_eq!(
        damage.to_string(),
        "it has format version 2, this program writes version 1"
    );
    assert_eq!(to, folder.path().join("state.json.damaged-1700000005"));
}

#[test]
fn a_half_written_successor_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let written = write(&path);
    fs::write(folder.path().join("state.json.tmp"), "{\"version\":1,\"clu").unwrap();
    assert_eq!(
        load(&path, at(9)).unwrap().clusters["prod"],
        memory(&written)
    );
    let mut file = StateFile::new(path.clone());
    file.save(&[Arc::new(written)]).unwrap();
    assert!(!folder.path().join("state.json.tmp").exists());
}

#[test]
fn an_unchanged_memory_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let mut file = StateFile::new(path.clone());
    let clusters = [Arc::new(snapshot())];
    file.save(&clusters).unwrap();
    fs::remove_file(&path).unwrap();
    file.save(&clusters).unwrap();
    assert!(!path.exists());
}
