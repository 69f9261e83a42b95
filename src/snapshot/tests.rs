use super::*;
use crate::inventory::Scope;
use crate::model::{BackupState, Epoch, Failure, Partition, PartitionKind};
use chrono::TimeZone;
use proptest::prelude::*;
use std::time::Duration;
use uuid::Uuid;

const ID: PartitionId = PartitionId(Uuid::from_u128(1));
const EPOCH: u64 = 131_873_018_908_156_893;

fn at(second: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_700_000_000 + second, 0).unwrap()
}

fn partition(id: PartitionId, service: &str) -> Partition {
    Partition {
        id,
        application: Some("fabric:/Shop".into()),
        service: Some(service.into()),
        kind: Some(PartitionKind::Singleton),
        data_loss: None,
    }
}

fn listing(partitions: Vec<Partition>) -> Observations {
    Observations {
        inventory: Some(Read {
            value: Inventory {
                listed: partitions,
                unread: Vec::new(),
            },
            at: at(0),
        }),
        ..Observations::default()
    }
}

fn known() -> Snapshot {
    Snapshot::empty("prod".into())
        .advance(listing(vec![partition(ID, "fabric:/Shop/Orders")]), at(0))
}

fn bare(state: BackupState) -> BackupProgress {
    BackupProgress {
        state,
        timestamp: None,
        backup_id: None,
        epoch: None,
        lsn: None,
        failure: None,
    }
}

fn success(second: i64, lsn: u64) -> BackupProgress {
    BackupProgress {
        timestamp: Some(at(second)),
        backup_id: Some(Uuid::from_u128(u128::from(lsn) + 77)),
        epoch: Some(Epoch {
            data_loss_version: Some(EPOCH),
            configuration_version: Some(8_589_934_592),
        }),
        lsn: Some(lsn),
        ..bare(BackupState::Success)
    }
}

fn failed(state: BackupState, code: &str) -> BackupProgress {
    BackupProgress {
        failure: Some(Failure {
            code: FailureCode::from_text(code),
            message: None,
        }),
        ..bare(state)
    }
}

fn read(snapshot: &Snapshot, second: i64, record: Option<BackupProgress>) -> Snapshot {
    take(snapshot, second, Reading::Progress(record.map(Arc::new)))
}

fn take(snapshot: &Snapshot, second: i64, value: Reading) -> Snapshot {
    let at = at(second);
    let observations = Observations {
        partitions: vec![(ID, Read { value, at })],
        ..Observations::default()
    };
    snapshot.advance(observations, at)
}

fn replay(records: &[Option<BackupProgress>]) -> Snapshot {
    let mut snapshot = known();
    for (second, record) in (1..).zip(records) {
        snapshot = read(&snapshot, second, record.clone());
    }
    snapshot
}

fn completions(snapshot: &Snapshot) -> [u64; 3] {
    let totals = &snapshot.totals[&ServiceKey::of(&snapshot.partitions[&ID].partition)];
    Outcome::ALL.map(|outcome| totals.completions(outcome))
}

fn last_success(snapshot: &Snapshot) -> Option<DateTime<Utc>> {
    let point = snapshot.partitions[&ID].last_success.as_ref()?;
    Some(point.at)
}

#[test]
fn the_first_reading_is_the_baseline_and_counts_nothing() {
    assert_eq!(completions(&known()), [0, 0, 0]);
    assert_eq!(completions(&replay(&[Some(success(-50, 7))])), [0, 0, 0]);
    let timeout = failed(BackupState::Timeout, "FABRIC_E_TIMEOUT");
    assert_eq!(completions(&replay(&[Some(timeout)])), [0, 0, 0]);
}

#[test]
fn a_success_after_a_null_baseline_counts() {
    assert_eq!(
        completions(&replay(&[None, Some(success(1, 7))])),
        [1, 0, 0]
    );
}

#[test]
fn the_same_record_read_again_counts_once() {
    let record = Some(success(1, 7));
    let snapshot = replay(&[None, record.clone(), record.clone(), record]);
    assert_eq!(completions(&snapshot), [1, 0, 0]);
}

#[test]
fn a_failure_after_a_new_request_is_another_failure() {
    let failure = Some(failed(BackupState::Failure, "FABRIC_E_TIMEOUT"));
    let accepted = Some(bare(BackupState::Accepted));
    let snapshot = replay(&[None, failure.clone(), failure.clone(), accepted, failure]);
    assert_eq!(completions(&snapshot), [0, 2, 0]);
    let totals = snapshot.totals.values().next().unwrap();
    let code = FailureCode::from_text("FABRIC_E_TIMEOUT");
    assert_eq!(totals.failures.get(&code), Some(&2));
}

#[test]
fn a_record_that_goes_back_behind_a_counted_success_counts_nothing() {
    let (old, new) = (Some(success(1, 7)), Some(success(5, 9)));
    let snapshot = replay(&[None, old.clone(), new.clone(), old.clone(), None, old, new]);
    assert_eq!(completions(&snapshot), [2, 0, 0]);
    assert_eq!(last_success(&snapshot), Some(at(5)));
}

#[test]
fn a_new_request_and_its_failure_keep_the_last_success() {
    let snapshot = replay(&[
        Some(success(-100, 7)),
        Some(bare(BackupState::Accepted)),
        Some(bare(BackupState::BackupInProgress)),
        Some(failed(BackupState::Failure, "E_ABORT")),
        None,
    ]);
    assert_eq!(last_success(&snapshot), Some(at(-100)));
}

#[test]
fn a_success_of_the_far_future_proves_nothing() {
    let snapshot = replay(&[Some(success(400_000_000, 7))]);
    assert_eq!(last_success(&snapshot), None);
    let skewed = replay(&[Some(success(3_600, 7))]);
    assert_eq!(last_success(&skewed), Some(at(3_600)));
}

#[test]
fn a_failed_poll_keeps_everything() {
    let before = replay(&[Some(success(-100, 7))]);
    let after = before.advance(Observations::default(), at(60));
    assert_eq!(after, before);
}

#[test]
fn a_state_lasts_since_its_record_was_first_seen_in_it() {
    let accepted = Some(bare(BackupState::Accepted));
    let snapshot = replay(&[None, accepted.clone(), accepted.clone()]);
    let since = |snapshot: &Snapshot| {
        let known = &snapshot.partitions[&ID];
        known.seen.as_deref().and_then(Seen::since)
    };
    assert_eq!(since(&snapshot), Some(at(2)));
    let moved = read(&snapshot, 9, Some(bare(BackupState::BackupInProgress)));
    assert_eq!(since(&moved), Some(at(9)));
    assert_eq!(since(&read(&moved, 10, None)), None);
}

#[test]
fn log_records_count_only_within_one_data_loss_epoch() {
    let restored = BackupProgress {
        epoch: Some(Epoch {
            data_loss_version: Some(EPOCH + 1),
            configuration_version: None,
        }),
        ..success(30, 50)
    };
    let snapshot = replay(&[
        Some(success(10, 100)),
        Some(success(20, 130)),
        Some(restored),
    ]);
    assert_eq!(snapshot.partitions[&ID].lsn_advance, 30);
}

#[test]
fn only_an_inventory_that_was_read_makes_a_partition_disappear() {
    let other = PartitionId(Uuid::from_u128(2));
    let both = vec![
        partition(ID, "fabric:/Shop/Orders"),
        partition(other, "fabric:/Shop/Cart"),
    ];
    let snapshot = known().advance(listing(both), at(1));
    let unread = |scope| {
        let mut observations = listing(vec![partition(other, "fabric:/Shop/Cart")]);
        observations.inventory.as_mut().unwrap().value.unread = vec![scope];
        let next = snapshot.advance(observations, at(2));
        next.partitions.contains_key(&ID)
    };
    assert!(unread(Scope::Cluster));
    assert!(unread(Scope::Application("fabric:/Shop".into())));
    assert!(unread(Scope::Service("fabric:/Shop/Orders".into())));
    assert!(!unread(Scope::Service("fabric:/Shop/Cart".into())));
    let gone = snapshot.advance(listing(vec![partition(other, "fabric:/Shop/Cart")]), at(2));
    assert_eq!(gone.partitions.keys().collect::<Vec<_>>(), [&other]);
    assert_eq!(
        gone.totals.len(),
        1,
        "the counters of a vanished service go with it"
    );
}

#[test]
fn a_partition_unknown_to_the_backup_service_stays_while_the_inventory_lists_it() {
    let known = replay(&[Some(success(-100, 7))]);
    let snapshot = take(&known, 9, Reading::NotFound);
    assert_eq!(snapshot.partitions[&ID].progress, None);
    assert_eq!(last_success(&snapshot), Some(at(-100)));

    let mut nameless = partition(ID, "");
    (nameless.application, nameless.service) = (None, None);
    let configured = Snapshot::empty("prod".into()).advance(listing(vec![nameless]), at(0));
    let lost = take(&configured, 9, Reading::NotFound);
    assert!(lost.partitions.is_empty());
}

#[test]
fn a_name_that_cannot_be_read_again_stays_known() {
    let mut nameless = partition(ID, "");
    (nameless.application, nameless.service, nameless.kind) = (None, None, None);
    let snapshot = known().advance(listing(vec![nameless]), at(1));
    assert_eq!(
        snapshot.partitions[&ID].partition,
        partition(ID, "fabric:/Shop/Orders")
    );
}

#[test]
fn the_sixty_fifth_failure_code_is_other() {
    let mut snapshot = read(&known(), 1, None);
    for number in 0..70 {
        let record = failed(BackupState::Failure, &format!("FABRIC_E_{number}"));
        snapshot = read(&snapshot, 2 + number, Some(record));
    }
    let totals = snapshot.totals.values().next().unwrap();
    assert_eq!(totals.failures.len(), 65);
    let other = totals.failures.get(&FailureCode::other()).copied();
    assert_eq!(other, Some(6));
    let again = read(
        &snapshot,
        100,
        Some(failed(BackupState::Failure, "FABRIC_E_3")),
    );
    let kept = again.partitions[&ID].record().unwrap().clone();
    assert_eq!(kept.failure.as_ref().unwrap().code.as_str(), "FABRIC_E_3");
}

#[test]
fn a_collector_that_fails_keeps_the_time_of_its_last_success() {
    let end = |snapshot: &Snapshot, second, success| {
        let reading = ClusterReading {
            up: success,
            version: success.then(|| "10.1".to_owned()),
            ..ClusterReading::default()
        };
        let run = Run {
            collector: Collector::Progress,
            success,
            duration: Duration::from_secs(2),
        };
        let observations = Observations {
            runs: vec![run],
            cluster: Some(reading),
            ..Observations::default()
        };
        snapshot.advance(observations, at(second))
    };
    assert!(!known().is_ready());
    let failed = end(&end(&known(), 1, true), 61, false);
    assert!(failed.is_ready());
    let status = failed.status.collectors[&Collector::Progress];
    assert!(!status.success);
    assert_eq!(status.succeeded_at, Some(at(1)));
    assert_eq!(failed.status.version.as_deref(), Some("10.1"));
}

fn any_record() -> impl Strategy<Value = Option<BackupProgress>> {
    let state = prop::sample::select(BackupState::ALL.to_vec());
    let record = (
        state,
        prop::option::of(-500_i64..500),
        0_u64..50,
        any::<bool>(),
    );
    prop::option::of(
        record.prop_map(|(state, second, lsn, fails)| BackupProgress {
            state,
            timestamp: second.map(at),
            failure: fails.then(|| Failure {
                code: FailureCode::from_number(lsn.cast_signed()),
                message: None,
            }),
            ..success(0, lsn)
        }),
    )
}

proptest! {
    #[test]
    fn a_last_success_never_moves_back_and_counters_never_go_down(
        records in prop::collection::vec(any_record(), 1..40)
    ) {
        let mut snapshot = known();
        for (second, record) in (1..).zip(records) {
            let next = read(&snapshot, second, record);
            prop_assert!(last_success(&next) >= last_success(&snapshot));
            for (after, before) in completions(&next).iter().zip(completions(&snapshot)) {
                prop_assert!(*after >= before && *after <= before + 1);
            }
            let advance = |snapshot: &Snapshot| snapshot.partitions[&ID].lsn_advance;
            prop_assert!(advance(&next) >= advance(&snapshot));
            snapshot = next;
        }
    }

    #[test]
    fn the_same_reading_twice_changes_nothing_but_its_time(
        records in prop::collection::vec(any_record(), 1..20)
    ) {
        let once = replay(&records);
        let again = read(&once, 1_000, records.last().cloned().flatten());
        prop_assert_eq!(&again.totals, &once.totals);
        let strip = |snapshot: &Snapshot| PartitionSnapshot {
            progress: None,
            ..snapshot.partitions[&ID].clone()
        };
        prop_assert_eq!(strip(&again), strip(&once));
    }
}
