use super::*;
use crate::inventory::Inventory;
use crate::model::{
    BackupProgress, BackupState, Epoch, Failure, FailureCode, Partition, PartitionId,
    PartitionKind, Read,
};
use crate::snapshot::{
    Claim, ClaimStatus, Observations, PartitionObservation, PartitionSnapshot, ServiceTotals,
    SuccessSource, Successes,
};
use chrono::TimeZone;
use proptest::prelude::*;
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
        value: PartitionObservation::Progress(Some(Arc::new(record(state)))),
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
        data_loss_time: None,
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
        configuration_read_at: None,
        health: None,
        listed_at: None,
        ..known.clone()
    };
    Snapshot::restored(
        Arc::clone(&snapshot.cluster),
        snapshot.partitions.values().map(forget).collect(),
        snapshot.totals.clone(),
        snapshot.policy_fingerprints.clone(),
    )
}

fn write(path: &Path) -> Snapshot {
    let snapshot = snapshot();
    let saved = StateFile::new(path.to_owned()).save(&[Arc::new(snapshot.clone())]);
    saved.unwrap();
    snapshot
}

fn in_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    (folder, path)
}

fn save(path: &Path) -> io::Result<()> {
    StateFile::new(path.to_owned()).save(&[Arc::new(snapshot())])
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn written_contents_are_restored() {
    let (_folder, path) = in_folder();
    let written = write(&path);
    let loaded = load(&path, at(9)).unwrap();
    assert!(loaded.damage.is_none());
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
fn a_missing_or_empty_file_remembers_nothing() {
    let (_folder, path) = in_folder();
    let loaded = load(&path, at(0)).unwrap();
    assert!(loaded.clusters.is_empty() && loaded.damage.is_none());
    fs::write(&path, "").unwrap();
    let loaded = load(&path, at(0)).unwrap();
    assert!(loaded.clusters.is_empty() && loaded.damage.is_none());
}

/// A cluster with this many partitions, each with a success of its own.
fn large(partitions: u128) -> Arc<Snapshot> {
    let remembered = (1..=partitions).map(|id| {
        let partition = Partition {
            id: PartitionId(Uuid::from_u128(id)),
            application: Some("fabric:/Shop".into()),
            service: Some(format!("fabric:/Shop/Orders{}", id % 7).into()),
            kind: Some(PartitionKind::Named),
            data_loss_time: None,
        };
        let second = i64::try_from(id).unwrap();
        let point = |source| crate::snapshot::RecoveryPoint {
            source,
            at: at(second * 61),
            backup_id: Some(Uuid::from_u128(id * 3)),
            lsn: Some(second.cast_unsigned() * 1_001),
            data_loss_version: None,
            storage: (id % 2 == 0).then_some(7),
        };
        let claim = |source| Claim {
            status: match id % 5 {
                0 => ClaimStatus::Confirmed,
                1 => ClaimStatus::Doubted,
                2 => ClaimStatus::Refuted(at(second)),
                3 => ClaimStatus::Deleted(at(second)),
                _ => ClaimStatus::Open,
            },
            after: (id % 3 == 0).then(|| at(second * 60)),
            is_next: id % 3 == 0,
            ..Claim::new(point(source), at(second * 62))
        };
        let successes = Successes {
            listed: (id % 2 == 0).then(|| Arc::new(point(SuccessSource::List))),
            periodic: (id % 3 != 0).then(|| Arc::new(claim(SuccessSource::Periodic))),
            requested: (id % 4 != 0).then(|| Arc::new(claim(SuccessSource::Requested))),
        };
        PartitionSnapshot {
            lsn_advance: second.cast_unsigned(),
            newest_with_lsn: successes.listed.clone(),
            ..PartitionSnapshot::restored(partition, at(second), successes)
        }
    });
    let marks = [("Hourly".into(), 7), ("Daily".into(), 8)];
    let partitions = remembered.collect();
    let (cluster, totals) = ("prod".into(), BTreeMap::new());
    Arc::new(Snapshot::restored(
        cluster,
        partitions,
        totals,
        marks.into(),
    ))
}

fn encoded(snapshot: &Arc<Snapshot>) -> Vec<u8> {
    let mut bytes = Vec::new();
    format::write(std::slice::from_ref(snapshot), &mut bytes).unwrap();
    bytes
}

/// The damaged file is reported as such, and nothing in it is accepted with another value.
fn assert_noticed(damaged: &[u8], original: &Snapshot, most_lost: usize, what: &str) {
    let Ok((clusters, damage)) = format::read(damaged) else {
        return;
    };
    assert!(damage.is_some(), "{what} is not noticed");
    let mut found = 0;
    for (name, snapshot) in &clusters {
        assert_eq!(**name, *original.cluster, "{what}");
        for (id, known) in &snapshot.partitions {
            assert_eq!(Some(known), original.partitions.get(id), "{what}");
            found += 1;
        }
        for (key, totals) in &snapshot.totals {
            let is_lost = *totals == ServiceTotals::default();
            assert!(
                is_lost || Some(totals) == original.totals.get(key),
                "{what}"
            );
        }
        for (name, mark) in &snapshot.policy_fingerprints {
            assert_eq!(Some(mark), original.policy_fingerprints.get(name), "{what}");
        }
    }
    assert!(
        found + most_lost >= original.partitions.len(),
        "{what} costs too much"
    );
}

#[test]
fn every_flipped_bit_of_a_file_is_noticed() {
    for snapshot in [Arc::new(memory(&snapshot())), large(3)] {
        let mut bytes = encoded(&snapshot);
        for position in 0..bytes.len() {
            for bit in 0..8 {
                bytes[position] ^= 1 << bit;
                let what = format!("bit {bit} of byte {position}");
                assert_noticed(&bytes, &snapshot, 2, &what);
                bytes[position] ^= 1 << bit;
            }
        }
        assert_eq!(format::read(&*bytes).unwrap().0["prod"], *snapshot);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damage_of_a_large_file_is_noticed_and_costs_only_its_lines(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        static LARGE: std::sync::LazyLock<(Arc<Snapshot>, Vec<u8>)> = std::sync::LazyLock::new(|| {
            let snapshot = large(400);
            let bytes = encoded(&snapshot);
            (snapshot, bytes)
        });
        let (snapshot, bytes) = &*LARGE;
        let mut damaged = bytes.clone();
        for (position, bit) in &flips {
            damaged[position.index(bytes.len())] ^= 1 << bit;
        }
        if damaged != *bytes {
            assert_noticed(&damaged, snapshot, 2 * flips.len(), &format!("{flips:?}"));
        }
        if let Some(cut) = cut {
            let cut = &bytes[..=cut.index(bytes.len() - 1)];
            assert_noticed(cut, snapshot, snapshot.partitions.len(), "a cut");
        }
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(format::read(&*bytes));
        let json = [b"{\"version\":1,\"clusters\":".as_slice(), &bytes].concat();
        drop(format::read(&*json));
    }
}

#[test]
fn a_damaged_entry_is_dropped_and_the_file_is_kept() {
    let (folder, path) = in_folder();
    let snapshot = large(20);
    StateFile::new(path.clone())
        .save(std::slice::from_ref(&snapshot))
        .unwrap();
    let damaged = fs::read_to_string(&path)
        .unwrap()
        .replacen("Orders5", "Orders6", 1);
    fs::write(&path, &damaged).unwrap();
    let loaded = load(&path, at(5)).unwrap();
    assert_eq!(loaded.clusters["prod"].partitions.len(), 19);
    let Some((damage, Quarantine::Kept(to))) = loaded.damage else {
        panic!("it is damaged");
    };
    assert_eq!(
        damage.to_string(),
        "it is damaged or cut short; 28 undamaged entries are used"
    );
    assert_eq!(to, folder.path().join("state.json.damaged-1700000005"));
    assert_eq!(fs::read_to_string(to).unwrap(), damaged);
    // It stays until it is replaced, so that a crash before the next write costs nothing.
    assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    let Some((_, Quarantine::NotCopied(_))) = load(&path, at(5)).unwrap().damage else {
        panic!("no file is overwritten");
    };
}

#[test]
fn every_cut_of_a_file_is_noticed_and_kept() {
    let (_folder, path) = in_folder();
    write(&path);
    let whole = fs::read(&path).unwrap();
    for length in (1..whole.len()).step_by(7) {
        let cut = &whole[..length];
        fs::write(&path, cut).unwrap();
        let loaded = load(&path, at(length.try_into().unwrap())).unwrap();
        let Some((ReadError::Header | ReadError::Entries { .. }, Quarantine::Kept(to))) =
            loaded.damage
        else {
            panic!("a cut at {length} is noticed");
        };
        assert_eq!(fs::read(to).unwrap(), cut);
    }
}

#[test]
fn lines_behind_the_end_are_of_an_interrupted_write_and_the_newer_ones_count() {
    let (old, new) = (large(9), Arc::new(memory(&snapshot())));
    let new_bytes = encoded(&new);
    let mut torn = encoded(&old);
    torn[..new_bytes.len()].copy_from_slice(&new_bytes);
    let (clusters, damage) = format::read(&*torn).unwrap();
    assert!(damage.is_some());
    assert_eq!(clusters["prod"], *new);
    // Interrupted earlier: both have partition 1.
    let half = new_bytes.iter().position(|byte| *byte == b'\n').unwrap() + 400;
    let mut torn = encoded(&old);
    torn[..half].copy_from_slice(&new_bytes[..half]);
    let (clusters, damage) = format::read(&*torn).unwrap();
    assert!(damage.is_some());
    assert!(clusters["prod"].partitions.len() >= 5);
}

/// As version 0.1.0 of the exporter wrote it until the format had checksums.
const VERSION_1: &str = r#"{"version":1,"clusters":{"prod":{"partitions":[{"id":"00000000-0000-0000-0000-000000000001","application":"fabric:/A \"quoted\" \\ name","service":"fabric:/A/B","kind":"Int64Range","seen":{"record":{"state":"Success","since":"2023-11-14T22:13:22Z","backup_id":"00000000-0000-0000-0000-000000000005","timestamp":"2023-11-14T22:11:50Z"},"newest_success":["2023-11-14T22:11:50Z","00000000-0000-0000-0000-000000000005"],"is_baseline":true},"last_success":{"at":"2023-11-14T22:11:50Z","backup_id":"00000000-0000-0000-0000-000000000005","lsn":42,"data_loss_version":6148914691236517205},"lsn_advance":17,"known_since":"2023-11-14T22:13:20Z","applied":{"policy":["Hourly","Application"]},"protected_since":"2023-11-14T22:13:21Z"},{"id":"00000000-0000-0000-0000-000000000002","known_since":"2023-11-14T22:13:20Z","last_success":{"at":"9999-12-31T23:59:59Z"}}],"services":[{"application":"fabric:/A \"quoted\" \\ name","service":"fabric:/A/B","successes":3,"failed":2,"timed_out":1,"failures":{"FABRIC_E_TIMEOUT":2}}],"policy_checksums":{"Hourly":77}}}}"#;

#[test]
fn a_file_of_the_version_before_is_read_and_written_with_checksums() {
    let (folder, path) = in_folder();
    fs::write(&path, VERSION_1).unwrap();
    let loaded = load(&path, at(0)).unwrap();
    assert!(loaded.damage.is_none());
    let snapshot = &loaded.clusters["prod"];
    let known = &snapshot.partitions[&PartitionId(Uuid::from_u128(1))];
    let success = known.success_at(snapshot, at(0)).unwrap();
    assert_eq!((success.at, success.lsn), (at(-90), Some(42)));
    assert_eq!(known.lsn_advance, 17);
    assert_eq!(
        known
            .progress_history
            .as_ref()
            .unwrap()
            .newest_success
            .unwrap()
            .0,
        at(-90)
    );
    assert!(
        snapshot.policy_fingerprints.is_empty(),
        "computed from other parts"
    );
    let totals = snapshot.totals.values().find(|totals| totals.failed == 2);
    assert_eq!(
        (totals.unwrap().successes, totals.unwrap().timed_out),
        (3, 1)
    );
    let wrong = &snapshot.partitions[&PartitionId(Uuid::from_u128(2))];
    assert_eq!(wrong.success_at(snapshot, at(0)), None, "checked on use");
    let again = Arc::new(snapshot.clone());
    StateFile::new(path.clone()).save(&[again]).unwrap();
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .contains(r#" {"state":{"version":3}}"#)
    );
    assert_eq!(load(&path, at(0)).unwrap().clusters, loaded.clusters);
    assert_eq!(names(folder.path()), ["state.json"]);
}

/// As version 0.1.0 of the exporter wrote it before successes had a source.
const VERSION_2: &str = include_str!("../../tests/samples/state-file.version-2.json");

#[test]
fn a_success_of_version_2_is_a_claim_that_no_list_has_confirmed() {
    let (_folder, path) = in_folder();
    fs::write(&path, VERSION_2).unwrap();
    let loaded = load(&path, at(0)).unwrap();
    assert!(loaded.damage.is_none());
    let snapshot = &loaded.clusters["prod"];
    let known = &snapshot.partitions[&PartitionId(Uuid::from_u128(1))];
    let success = known.last_success.as_ref().unwrap();
    assert_eq!(
        (success.at, success.source),
        (at(3_600), SuccessSource::Periodic)
    );
    assert!(!known.successes.is_confirmed(success));
    assert_eq!(snapshot.unconfirmed_successes(), 1);
    assert_eq!(known.newest_with_lsn.as_ref().unwrap().lsn, Some(42));
    StateFile::new(path.clone())
        .save(&[Arc::new(snapshot.clone())])
        .unwrap();
    assert_eq!(load(&path, at(0)).unwrap().clusters, loaded.clusters);
}

#[test]
fn listed_state_of_a_success_is_restored() {
    let (_folder, path) = in_folder();
    let written = large(60);
    StateFile::new(path.clone())
        .save(&[Arc::clone(&written)])
        .unwrap();
    let loaded = load(&path, at(0)).unwrap();
    assert_eq!(loaded.clusters["prod"], *written);
}

#[test]
fn an_unreadable_file_is_renamed() {
    let json = r#"{"state":{"version":4}}"#;
    let version_4 = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
    let cut: String = VERSION_1.chars().take(400).collect();
    let version = "it has format version 4, this program reads versions 1 to 3";
    for (content, told) in [
        (&*version_4, version),
        (r#"{"version":4,"new":true}"#, version),
        (&cut, "it is damaged"),
        ("not ours at all", "it is damaged, or not a state file"),
        ("\n", "it is damaged, or not a state file"),
    ] {
        let (folder, path) = in_folder();
        fs::write(&path, content).unwrap();
        let loaded = load(&path, at(5)).unwrap();
        assert!(loaded.clusters.is_empty());
        let Some((damage, Quarantine::Kept(to))) = loaded.damage else {
            panic!("{content} is understood");
        };
        assert_eq!(damage.to_string(), told);
        assert_eq!(to, folder.path().join("state.json.damaged-1700000005"));
        assert_eq!(fs::read_to_string(to).unwrap(), content);
        assert!(!path.exists());
    }
}

#[test]
fn a_file_that_is_too_large_is_renamed_unread() {
    let (_folder, path) = in_folder();
    // It has holes and takes no space.
    File::create(&path).unwrap().set_len(2 * MAX_FILE).unwrap();
    let Some((damage, Quarantine::Kept(to))) = load(&path, at(5)).unwrap().damage else {
        panic!("it is read");
    };
    assert!(matches!(damage, ReadError::TooLarge(length) if length == 2 * MAX_FILE));
    assert!(to.exists() && !path.exists());
}

#[test]
fn an_overlong_line_is_skipped_without_buffering() {
    let snapshot = large(2);
    let bytes = encoded(&snapshot);
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let long = vec![b'x'; 300_000];
    let damaged = [&bytes[..end], &long, b"\n", &bytes[end..]].concat();
    let (clusters, damage) = format::read(&*damaged).unwrap();
    assert_eq!(clusters["prod"], *snapshot);
    assert!(damage.is_some());
}

#[test]
fn a_half_written_successor_is_replaced() {
    let (folder, path) = in_folder();
    let written = write(&path);
    fs::write(folder.path().join("state.json.tmp"), "0123").unwrap();
    let remembered = &load(&path, at(9)).unwrap().clusters["prod"];
    assert_eq!(*remembered, memory(&written));
    save(&path).unwrap();
    assert_eq!(names(folder.path()), ["state.json"]);
}

#[test]
fn unchanged_contents_are_not_written_again() {
    let (_folder, path) = in_folder();
    let mut file = StateFile::new(path.clone());
    let clusters = [Arc::new(snapshot())];
    file.save(&clusters).unwrap();
    fs::remove_file(&path).unwrap();
    file.save(&clusters).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_failed_write_leaves_nothing_behind_and_the_old_file_untouched() {
    let (folder, path) = in_folder();
    write(&path);
    let before = fs::read(&path).unwrap();
    let existing = fs::metadata(&path).unwrap();
    let failed = replace(&path, Some(&existing), |file| {
        file.write_all(b"a half")?;
        Err(io::ErrorKind::StorageFull.into())
    });
    assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names(folder.path()), ["state.json"]);
}

#[test]
fn writing_in_place_leaves_no_old_lines() {
    let (folder, path) = in_folder();
    let long = large(50);
    StateFile::new(path.clone()).save(&[long]).unwrap();
    let mut file = StateFile {
        in_place: true,
        ..StateFile::new(path.clone())
    };
    file.save(&[Arc::new(snapshot())]).unwrap();
    let loaded = load(&path, at(9)).unwrap();
    assert!(loaded.damage.is_none());
    assert_eq!(loaded.clusters["prod"], memory(&snapshot()));
    assert_eq!(names(folder.path()), ["state.json"]);
}

#[test]
fn only_one_process_holds_the_lock_and_a_left_lock_file_does_not_matter() {
    let (folder, path) = in_folder();
    fs::write(folder.path().join("state.json.lock"), "").unwrap();
    let first = StateFileLock::acquire(&path).unwrap();
    let Err(error @ LockError::InUse { .. }) = StateFileLock::acquire(&path) else {
        panic!("locked twice");
    };
    assert!(error.to_string().contains("in use by another exporter"));
    let file = StateFile::new(path.clone()).locked(first);
    StateFileLock::acquire(&path).unwrap_err();
    drop(file);
    StateFileLock::acquire(&path).unwrap();
}

#[test]
fn a_location_is_checked_without_a_trace() {
    let (folder, path) = in_folder();
    check(&path).unwrap();
    assert!(names(folder.path()).is_empty());
    write(&path);
    check(&path).unwrap();
    assert_eq!(names(folder.path()), ["state.json"]);
    let missing = check(&folder.path().join("no/such/state.json")).unwrap_err();
    assert!(
        matches!(missing, LocationError::NoFolder { .. }),
        "{missing}"
    );
    assert!(missing.to_string().contains("create it"), "{missing}");
    let folder = check(folder.path()).unwrap_err();
    assert!(
        folder
            .to_string()
            .contains("is a folder, not a regular file: name a file")
    );
}

#[cfg(unix)]
mod on_unix {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
    use std::process::Command;

    use super::*;

    #[test]
    fn a_symbolic_link_stays_one() {
        let (folder, path) = in_folder();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("target.json");
        symlink(&target, folder.path().join("middle")).unwrap();
        symlink("middle", &path).unwrap();
        for _ in 0..2 {
            // First the target does not exist.
            check(&path).unwrap();
            save(&path).unwrap();
            assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
            assert!(fs::symlink_metadata(&target).unwrap().is_file());
            assert_eq!(
                load(&path, at(9)).unwrap().clusters["prod"],
                memory(&snapshot())
            );
        }
        assert_eq!(names(folder.path()), ["middle", "state.json"]);
        let _lock = StateFileLock::acquire(&path).unwrap();
        StateFileLock::acquire(&target).unwrap_err();
        fs::remove_file(&target).unwrap();
        symlink(&path, &target).unwrap();
        save(&path).unwrap_err();
        load(&path, at(9)).unwrap_err();
        check(&path).unwrap_err();
    }

    #[test]
    fn a_symbolic_link_at_the_temporary_path_is_not_followed() {
        let (folder, path) = in_folder();
        let victim = folder.path().join("victim");
        for name in ["state.json.tmp", "state.json.damaged-1700000005"] {
            fs::write(&victim, "as it was").unwrap();
            symlink(&victim, folder.path().join(name)).unwrap();
        }
        write(&path);
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let Some((_, Quarantine::NotCopied(_))) = load(&path, at(5)).unwrap().damage else {
            panic!("it was copied");
        };
        assert_eq!(fs::read_to_string(&victim).unwrap(), "as it was");
    }

    #[test]
    fn owner_group_and_permissions_stay_as_they_are() {
        let (_folder, path) = in_folder();
        write(&path);
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path) & 0o137, 0, "not for others");
        // Only root can give files away.
        let is_root = chown(&path, Some(12_345), Some(54_321)).is_ok();
        for permissions in [0o600, 0o644, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(permissions)).unwrap();
            save(&path).unwrap();
            assert_eq!(mode(&path), permissions);
            let metadata = fs::metadata(&path).unwrap();
            if is_root {
                assert_eq!((metadata.uid(), metadata.gid()), (12_345, 54_321));
            }
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (_folder, path) = in_folder();
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        // Opening the pipe would wait for ever.
        for (path, kind) in [
            (&*path, "a named pipe"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let told = format!("it is {kind}, not a regular file");
            assert_eq!(load(path, at(9)).unwrap_err().to_string(), told);
            assert_eq!(save(path).unwrap_err().to_string(), told);
            assert!(check(path).unwrap_err().to_string().contains(&told));
        }
    }
}

#[test]
fn a_checksum_of_a_policy_that_covered_fewer_members_is_read_and_not_used() {
    let mut lines = encoded(&large(3));
    let marks = [("Hourly".into(), 7), ("Daily".into(), 8)];
    assert_eq!(
        format::read(&*lines).unwrap().0["prod"].policy_fingerprints,
        marks.into()
    );
    let text = String::from_utf8(std::mem::take(&mut lines)).unwrap();
    for line in text.lines() {
        let (_, json) = line.split_once(' ').unwrap();
        let json = json.replace("policy_content_checksum", "policy_checksum");
        let checksum = crc32fast::hash(json.as_bytes());
        lines.extend(format!("{checksum:08x} {json}\n").bytes());
    }
    let (clusters, damage) = format::read(&*lines).unwrap();
    assert!(damage.is_none());
    assert!(clusters["prod"].policy_fingerprints.is_empty());
}
