use super::*;
use crate::inventory::TopologyScope;
use crate::model::{
    BackupConfiguration, BackupEntity, BackupHealth, BackupKind, BackupState, Collector,
    ConfigurationScope, DecodedList, Epoch, Failure, LabelValue, ListedBackup, Partition,
    PartitionKind, PeriodicAttempt, RestoreProgress, RestoreState, Schedule,
};
use crate::protection::history::BackupHistory;
use chrono::{TimeDelta, TimeZone};
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
        data_loss_time: None,
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
    take(
        snapshot,
        second,
        PartitionObservation::Progress(record.map(Arc::new)),
    )
}

fn take(snapshot: &Snapshot, second: i64, value: PartitionObservation) -> Snapshot {
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
    BackupOutcome::ALL.map(|outcome| totals.completions(outcome))
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
    let skewed = replay(&[Some(success(301, 7))]);
    assert_eq!(last_success(&skewed), Some(at(301)));
    let later = replay(&[Some(success(302, 7))]);
    assert_eq!(last_success(&later), None, "more than five minutes ahead");
}

const DAY: i64 = 86_400;

/// The same success, from each source that proves one.
fn from_each_source(snapshot: &Snapshot, now: i64, dated: i64) -> [Snapshot; 3] {
    [
        read(snapshot, now, Some(success(dated, 7))),
        healthy(snapshot, now, attempt(true, dated)),
        list(snapshot, now, vec![listed(ID, dated, 7)]),
    ]
}

fn trusted(snapshot: &Snapshot, now: i64) -> Option<DateTime<Utc>> {
    let success = one(snapshot).success_at(snapshot, at(now));
    let judged = one(snapshot).facts(snapshot).success_at(at(now));
    assert_eq!(success.map(|point| point.at), judged);
    judged
}

/// The end of a cycle by these clocks.
fn cycle(snapshot: &Snapshot, second: i64, skew: i64) -> Snapshot {
    let observations = Observations {
        clock_skew: Some(TimeDelta::seconds(skew)),
        cluster: Some(ClusterObservation {
            up: true,
            ..ClusterObservation::default()
        }),
        ..Observations::default()
    };
    snapshot.advance(observations, at(second))
}

#[test]
fn a_success_taken_by_a_wrong_clock_is_not_trusted_and_the_next_real_one_replaces_it() {
    for ahead in [3_800, DAY, 2 * DAY, 400 * DAY, 8_000 * 365 * DAY] {
        for wrong in from_each_source(&known(), ahead, ahead) {
            assert_eq!(last_success(&wrong), Some(at(ahead)), "the clock says so");
            for snapshot in [restarted(&wrong), wrong] {
                assert_eq!(trusted(&snapshot, 60), None, "{ahead}");
                assert_eq!(trusted(&snapshot, ahead), Some(at(ahead)));
                for real in from_each_source(&snapshot, 100, 90) {
                    assert_eq!(trusted(&real, 100), Some(at(90)), "{ahead}");
                    assert_eq!(trusted(&real, ahead), Some(at(90)), "for good");
                }
            }
        }
    }
}

#[test]
fn a_success_of_the_future_is_forgotten_where_the_clocks_agree() {
    for wrong in from_each_source(&known(), 400 * DAY, 400 * DAY) {
        for skew in [0, -3_600, 3_600] {
            let snapshot = cycle(&wrong, 60, skew);
            assert_eq!(last_success(&snapshot), None, "{skew}");
            assert_eq!(one(&snapshot).newest_with_lsn, None);
            assert_eq!(trusted(&restarted(&snapshot), 400 * DAY), None);
        }
    }
}

#[test]
fn a_clock_that_is_behind_for_a_moment_costs_no_success() {
    for right in from_each_source(&known(), 100, 90) {
        let snapshot = cycle(&right, -400 * DAY, 400 * DAY);
        assert_eq!(trusted(&snapshot, -400 * DAY), None);
        assert_eq!(trusted(&snapshot, 200), Some(at(90)));
        let unreachable = snapshot.advance(Observations::default(), at(-400 * DAY));
        assert_eq!(trusted(&unreachable, 200), Some(at(90)));
    }
}

#[test]
fn a_remembered_success_of_the_future_does_not_replace_a_real_one() {
    let real = read(&known(), 100, Some(success(90, 7)));
    let wrong = read(&known(), 400 * DAY, Some(success(400 * DAY, 9)));
    let both = real.merged_with(&wrong, at(110));
    assert_eq!(trusted(&both, 110), Some(at(90)));
    let both = wrong.merged_with(&real, at(110));
    assert_eq!(trusted(&both, 110), Some(at(90)));
}

#[test]
fn completions_are_counted_behind_a_record_of_the_far_future() {
    let year_9999 = 253_400_000_000 - 1_700_000_000;
    for first in [Some(success(year_9999, 7)), None] {
        let begun = first.is_none();
        let mut snapshot = replay(&[first, Some(success(year_9999, 7))]);
        let before = u64::from(begun);
        assert_eq!(completions(&snapshot), [before, 0, 0]);
        for n in 1..4 {
            let second = 100 * i64::try_from(n).unwrap();
            snapshot = read(&restarted(&snapshot), second, Some(success(second, n)));
            assert_eq!(completions(&snapshot), [before + n, 0, 0]);
        }
        let outdated = read(&snapshot, 400, Some(success(200, 2)));
        assert_eq!(completions(&outdated), [before + 3, 0, 0]);
    }
    // Counted by a clock that was ahead.
    let counted = replay(&[None]);
    let counted = read(&counted, 400 * DAY, Some(success(400 * DAY, 7)));
    let real = read(&counted, 100, Some(success(90, 8)));
    assert_eq!(completions(&real), [2, 0, 0]);
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
        known
            .progress_history
            .as_deref()
            .and_then(ProgressHistory::since)
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
    assert!(unread(TopologyScope::Cluster));
    assert!(unread(TopologyScope::Application("fabric:/Shop".into())));
    assert!(unread(TopologyScope::Service("fabric:/Shop/Orders".into())));
    assert!(!unread(TopologyScope::Service("fabric:/Shop/Cart".into())));
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
    let snapshot = take(&known, 9, PartitionObservation::NotFound);
    assert_eq!(snapshot.partitions[&ID].progress, None);
    assert_eq!(last_success(&snapshot), Some(at(-100)));

    let mut nameless = partition(ID, "");
    (nameless.application, nameless.service) = (None, None);
    let configured = Snapshot::empty("prod".into()).advance(listing(vec![nameless]), at(0));
    let lost = take(&configured, 9, PartitionObservation::NotFound);
    assert!(lost.partitions.is_empty());
}

#[test]
fn what_an_earlier_process_remembered_is_added_to_what_is_known() {
    let earlier = replay(&[None, Some(success(5, 7)), Some(success(10, 9))]);
    let failed = failed(BackupState::Failure, "E_ABORT");
    let live = read(&read(&known(), 50, None), 60, Some(failed));
    let both = live.merged_with(&earlier, at(60));
    assert_eq!(completions(&both), [2, 1, 0]);
    assert_eq!(last_success(&both), Some(at(10)));
    assert_eq!(both.partitions[&ID].lsn_advance, 2);
    let newer = read(&live, 70, Some(success(65, 11)));
    assert_eq!(
        last_success(&newer.merged_with(&earlier, at(70))),
        Some(at(65))
    );
}

#[test]
fn code_is_new_for_two_minutes_unless_an_earlier_process_counted_it() {
    let service = ServiceKey::of(&known().partitions[&ID].partition);
    let [old, new] = ["E_ABORT", "E_POINTER"].map(FailureCode::from_text);
    let fails = |code: &FailureCode| Some(failed(BackupState::Failure, code.as_str()));
    let accepted = Some(bare(BackupState::Accepted));
    let earlier = replay(&[None, fails(&old)]);
    let live = read(&read(&known(), 50, None), 60, fails(&old));
    let live = read(&read(&live, 65, accepted), 70, fails(&new));
    let until = |snapshot: &Snapshot, code| snapshot.new_codes.until(&service, code);
    assert_eq!(until(&live, &old), Some(at(180)));
    assert_eq!(until(&live, &new), Some(at(190)));
    let both = live.merged_with(&earlier, at(80));
    assert_eq!(until(&both, &old), None, "its counter existed");
    assert_eq!(until(&both, &new), Some(at(190)));
    assert_eq!(until(&read(&both, 189, None), &new), Some(at(190)));
    assert_eq!(until(&read(&both, 190, None), &new), None);
    assert_eq!(
        until(&read(&both, 69, None), &new),
        None,
        "the clock was set back"
    );
}

#[test]
fn a_request_runs_since_it_was_accepted() {
    let accepted = Some(bare(BackupState::Accepted));
    let running = Some(bare(BackupState::BackupInProgress));
    let since = |records: &[Option<BackupProgress>]| {
        let known = replay(records);
        let known = &known.partitions[&ID];
        known.progress_history.as_ref().unwrap().running_since
    };
    let both = [None, accepted.clone(), running.clone(), running.clone()];
    assert_eq!(since(&both), Some(at(2)));
    let again = [accepted.clone(), running.clone(), accepted];
    assert_eq!(since(&again), Some(at(3)), "a new request");
    assert_eq!(since(&[running, Some(success(1, 1))]), None);
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
        let reading = ClusterObservation {
            up: success,
            version: success.then(|| "10.1".to_owned()),
            ..ClusterObservation::default()
        };
        let run = CollectorRun {
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

const HOURLY: &str = "Hourly";

/// What is set at the application of [`partition`].
fn set(policy: Option<&str>, suspended: Option<ConfigurationScope>) -> ConfigurationSet {
    setting(
        BackupEntity::Application("fabric:/Shop".into()),
        policy,
        suspended,
    )
}

fn setting(
    entity: BackupEntity,
    policy: Option<&str>,
    suspended: Option<ConfigurationScope>,
) -> ConfigurationSet {
    let line = BackupConfiguration {
        entity,
        policy: policy.map(Into::into),
        policy_inherited_from: None,
        suspension_inherited_from: suspended,
    };
    [line].into_iter().collect()
}

/// The configuration of an application, read at `second`.
fn configure(
    snapshot: &Snapshot,
    application: &str,
    settings: ConfigurationSet,
    second: i64,
) -> Snapshot {
    let (at, value) = (at(second), settings);
    let observations = Observations {
        configurations: vec![(application.into(), Read { value, at })],
        ..Observations::default()
    };
    snapshot.advance(observations, at)
}

/// The policy that applies to everything in the shop, or none, read at `second`.
fn protect(snapshot: &Snapshot, policy: Option<&str>, second: i64) -> Snapshot {
    configure(snapshot, "fabric:/Shop", set(policy, None), second)
}

fn suspend(snapshot: &Snapshot, second: i64) -> Snapshot {
    let settings = set(Some(HOURLY), Some(ConfigurationScope::Application));
    configure(snapshot, "fabric:/Shop", settings, second)
}

fn policy(name: &str, minutes: u64) -> Policy {
    Policy {
        name: name.into(),
        schedule: Some(Schedule::Frequency(Duration::from_secs(minutes * 60))),
        storage: LabelValue::new("FileShare"),
        auto_restore: false,
        storage_fingerprint: 0,
        max_incrementals: Some(5),
        retention: None,
        checksum: 0,
    }
}

fn with_policies(snapshot: &Snapshot, policies: Vec<Policy>, second: i64) -> Snapshot {
    let (at, value) = (at(second), policies);
    let observations = Observations {
        policies: Some(Read { value, at }),
        ..Observations::default()
    };
    snapshot.advance(observations, at)
}

/// The snapshot of a process that starts from what this one has written.
fn restarted(snapshot: &Snapshot) -> Snapshot {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let mut file = crate::state_file::StateFile::new(path.clone());
    file.save(&[Arc::new(snapshot.clone())]).unwrap();
    let mut loaded = crate::state_file::load(&path, at(0)).unwrap();
    loaded.clusters.remove("prod").unwrap()
}

fn one(snapshot: &Snapshot) -> &PartitionSnapshot {
    &snapshot.partitions[&ID]
}

fn changed(snapshot: &Snapshot) -> Option<DateTime<Utc>> {
    one(snapshot).changed_at
}

#[test]
fn protection_that_is_there_at_the_first_look_has_not_changed() {
    let snapshot = protect(&known(), Some(HOURLY), 10);
    assert_eq!(one(&snapshot).configuration_read_at, Some(at(10)));
    assert_eq!(one(&snapshot).protected_since, Some(at(10)));
    assert!(one(&snapshot).has_policy());
    assert_eq!(changed(&snapshot), None);
    let again = protect(&snapshot, Some(HOURLY), 20);
    assert_eq!(one(&again).configuration_read_at, Some(at(20)));
    assert_eq!(one(&again).protected_since, Some(at(10)));
    assert_eq!(changed(&again), None);
    let bare = protect(&known(), None, 10);
    assert!(!one(&bare).has_policy());
    assert_eq!(one(&bare).protected_since, None);
}

#[test]
fn protection_that_begins_ends_or_gets_another_policy_is_a_change() {
    let bare = protect(&known(), None, 10);
    let begun = protect(&bare, Some(HOURLY), 20);
    assert_eq!(changed(&begun), Some(at(20)));
    assert_eq!(one(&begun).protected_since, Some(at(20)));
    let renamed = protect(&begun, Some("Daily"), 30);
    assert_eq!(changed(&renamed), Some(at(30)));
    assert_eq!(one(&renamed).protected_since, Some(at(20)));
    let ended = protect(&renamed, None, 40);
    assert_eq!(
        (changed(&ended), one(&ended).protected_since),
        (Some(at(40)), None),
        "what is expected instead has a whole interval"
    );
    let back = protect(&ended, Some("Daily"), 50);
    assert_eq!(changed(&back), Some(at(50)));
    assert_eq!(one(&back).protected_since, Some(at(50)));
}

#[test]
fn a_resumption_is_a_change_and_a_suspension_is_none() {
    let suspended = suspend(&protect(&known(), Some(HOURLY), 10), 20);
    assert_eq!(changed(&suspended), None);
    assert_eq!(one(&suspended).protected_since, Some(at(10)));
    let resumed = protect(&suspended, Some(HOURLY), 30);
    assert_eq!(changed(&resumed), Some(at(30)));
    assert_eq!(one(&resumed).protected_since, Some(at(10)));
}

#[test]
fn the_same_policy_from_another_level_is_no_change() {
    let snapshot = protect(&known(), Some(HOURLY), 10);
    let own = setting(BackupEntity::Partition(ID), Some(HOURLY), None);
    let snapshot = configure(&snapshot, "fabric:/Shop", own, 20);
    let applied = one(&snapshot).configuration.as_deref().unwrap();
    assert_eq!(
        applied.policy,
        Some((HOURLY.into(), ConfigurationScope::Partition))
    );
    assert_eq!(changed(&snapshot), None);
}

#[test]
fn a_configuration_concerns_the_partitions_of_its_application_alone() {
    let other = PartitionId(Uuid::from_u128(2));
    let mut elsewhere = partition(other, "fabric:/Shop2/Orders");
    elsewhere.application = Some("fabric:/Shop2".into());
    let both = vec![partition(ID, "fabric:/Shop/Orders"), elsewhere];
    let snapshot = Snapshot::empty("prod".into()).advance(listing(both), at(0));
    let snapshot = protect(&snapshot, Some(HOURLY), 10);
    assert_eq!(one(&snapshot).configuration_read_at, Some(at(10)));
    let untouched = &snapshot.partitions[&other];
    assert_eq!(
        (&untouched.configuration, untouched.configuration_read_at),
        (&None, None)
    );
    // What one application answers of another one is not taken from it.
    let foreign = setting(
        BackupEntity::Application("fabric:/Shop2".into()),
        Some(HOURLY),
        None,
    );
    let snapshot = configure(&snapshot, "fabric:/Shop", foreign, 20);
    assert!(!one(&snapshot).has_policy());
    assert_eq!(snapshot.partitions[&other].configuration, None);
}

#[test]
fn a_change_while_the_exporter_was_down_is_noticed_and_nothing_else_is_one() {
    let protected = protect(&known(), Some(HOURLY), 10);
    let same = protect(&restarted(&protected), Some(HOURLY), 100);
    assert_eq!(changed(&same), None);
    assert_eq!(one(&same).protected_since, Some(at(10)));
    let renamed = protect(&restarted(&protected), Some("Daily"), 100);
    assert_eq!(changed(&renamed), Some(at(100)));
    let suspended = suspend(&protected, 20);
    let resumed = protect(&restarted(&suspended), Some(HOURLY), 100);
    assert_eq!(changed(&resumed), Some(at(100)));
    let kept = protect(&restarted(&resumed), Some(HOURLY), 200);
    assert_eq!(changed(&kept), Some(at(100)));
    let begun = protect(&restarted(&protect(&known(), None, 10)), Some(HOURLY), 100);
    assert_eq!(changed(&begun), Some(at(100)));
    assert_eq!(
        one(&restarted(&protected)).configuration_read_at,
        None,
        "not read yet"
    );
}

#[test]
fn a_policy_that_is_defined_anew_is_a_change_for_what_it_applies_to() {
    let snapshot = protect(&known(), Some(HOURLY), 10);
    let first = with_policies(
        &snapshot,
        vec![policy(HOURLY, 60), policy("Daily", 1_440)],
        11,
    );
    assert_eq!(changed(&first), None, "the first reading is the baseline");
    let same = with_policies(&first, vec![policy(HOURLY, 60), policy("Daily", 1_440)], 12);
    assert_eq!(changed(&same), None);
    let other = with_policies(&same, vec![policy(HOURLY, 60), policy("Daily", 720)], 13);
    assert_eq!(changed(&other), None, "it has another policy");
    let anew = with_policies(&other, vec![policy(HOURLY, 30), policy("Daily", 720)], 14);
    assert_eq!(changed(&anew), Some(at(14)));
    let read = anew.policies.as_ref().unwrap();
    assert_eq!(read.at, at(14));
    assert_eq!(read.value[HOURLY], policy(HOURLY, 30));
    let over_a_restart = with_policies(&restarted(&same), vec![policy(HOURLY, 5)], 100);
    assert_eq!(changed(&over_a_restart), Some(at(100)));
    let unchanged = with_policies(&restarted(&same), vec![policy(HOURLY, 60)], 100);
    assert_eq!(changed(&unchanged), None);
}

#[test]
fn a_policy_that_changes_with_every_reading_does_not_restart_its_schedule_each_time() {
    let odd = |checksum| Policy {
        checksum,
        ..policy(HOURLY, 60)
    };
    let mut snapshot = protect(&known(), Some(HOURLY), 10);
    for second in 11..20_u32 {
        snapshot = with_policies(&snapshot, vec![odd(second)], second.into());
    }
    assert_eq!(changed(&snapshot), None);
    let again = with_policies(&restarted(&snapshot), vec![odd(90)], 19);
    assert_eq!(changed(&with_policies(&again, vec![odd(91)], 20)), None);
    // It settles, changes once more, and changes with every reading again.
    for (second, checksum) in (20..).zip([7, 7, 8, 9, 10, 11]) {
        snapshot = with_policies(&snapshot, vec![odd(checksum)], second);
    }
    assert_eq!(changed(&snapshot), Some(at(22)));
}

fn attempt(succeeded: bool, second: i64) -> BackupHealth {
    let ended = at(second);
    BackupHealth {
        attempt: Some(PeriodicAttempt { succeeded, ended }),
        ..BackupHealth::default()
    }
}

fn healthy(snapshot: &Snapshot, second: i64, health: BackupHealth) -> Snapshot {
    take(snapshot, second, PartitionObservation::Health(health))
}

#[test]
fn a_good_periodic_attempt_is_a_success_and_a_bad_one_takes_none_away() {
    let good = healthy(&known(), 10, attempt(true, 5));
    assert_eq!(last_success(&good), Some(at(5)));
    let bad = healthy(&good, 20, attempt(false, 15));
    assert_eq!(last_success(&bad), Some(at(5)));
    let facts = one(&bad).facts(&bad);
    assert_eq!(facts.health.unwrap().value.unwrap().ended, at(15));
    // While it is suspended, the event is gone.
    let silent = healthy(&bad, 30, BackupHealth::default());
    assert_eq!(one(&silent).health.unwrap().value, None);
    assert_eq!(last_success(&silent), Some(at(5)));
    let future = healthy(&silent, 40, attempt(true, 400_000_000));
    assert_eq!(last_success(&future), Some(at(5)));
    assert_eq!(completions(&future), [0, 0, 0], "nobody requested these");
}

#[test]
fn a_report_that_vanishes_is_a_restart_of_the_schedule() {
    let silent = BackupHealth::default;
    let reported = healthy(&known(), 10, attempt(true, 5));
    assert_eq!(changed(&reported), None);
    for between_polls in [1, 60, 300, 86_400] {
        let seen = 10 + between_polls;
        let vanished = healthy(&reported, seen, silent());
        assert_eq!(changed(&vanished), Some(at(seen)));
        let still = healthy(&vanished, seen + 60, silent());
        assert_eq!(changed(&still), Some(at(seen)), "once");
        // The same report from a replica of the health store that was behind.
        let back = healthy(&still, seen + 120, attempt(true, 5));
        let gone = healthy(&back, seen + 180, silent());
        assert_eq!(changed(&gone), Some(at(seen)), "the same report");
        let next = healthy(&gone, seen + 240, attempt(true, seen + 230));
        let again = healthy(&next, seen + 300, silent());
        assert_eq!(changed(&again), Some(at(seen + 300)));
    }
    let first = healthy(&known(), 10, silent());
    assert_eq!(changed(&first), None, "there was none");
    let unknown_reporter = BackupHealth {
        unknown_reporter: true,
        ..silent()
    };
    let other_words = healthy(&reported, 310, unknown_reporter);
    assert_eq!(changed(&other_words), None);
}

#[test]
fn a_restore_and_a_data_loss_reset_the_partition() {
    let reset = |snapshot: &Snapshot| one(snapshot).facts(snapshot).reset_at;
    assert_eq!(reset(&known()), None);
    let lost = |second| {
        let data_loss = Some(at(second));
        let partition = partition(ID, "fabric:/Shop/Orders");
        listing(vec![Partition {
            data_loss_time: data_loss,
            ..partition
        }])
    };
    let created = known().advance(lost(-1_000), at(10));
    assert_eq!(reset(&created), Some(at(-1_000)));
    let restore = |word: &str, second| {
        PartitionObservation::Restore(Some(RestoreProgress {
            state: RestoreState::from_wire(word),
            timestamp: Some(at(second)),
        }))
    };
    let running = take(&created, 20, restore("RestoreInProgress", 15));
    assert_eq!(reset(&running), Some(at(-1_000)));
    let restored = take(&running, 30, restore("Success", 25));
    assert_eq!(reset(&restored), Some(at(25)));
    let report = |snapshot, second, restored: i64| {
        let report = BackupHealth {
            restored_at: Some(at(restored)),
            ..BackupHealth::default()
        };
        healthy(snapshot, second, report)
    };
    let reported = report(&restored, 35, 32);
    assert_eq!(reset(&reported), Some(at(32)));
    let again = report(&reported, 37, 36);
    assert_eq!(reset(&again), Some(at(32)), "one that fails reports again");
    let expired = healthy(&again, 39, BackupHealth::default());
    assert_eq!(reset(&expired), Some(at(32)), "its report has expired");
    let lost_again = expired.advance(lost(40), at(50));
    assert_eq!(reset(&lost_again), Some(at(40)));
    let restored_again = report(&lost_again, 60, 55);
    assert_eq!(reset(&restored_again), Some(at(55)));
}

#[test]
fn the_clock_skew_is_known_to_the_readings_that_it_comes_with() {
    for skew in [-3_600, -1_200, 0, 1_200, 3_600] {
        for clock in [0, -60, 400 * DAY] {
            let success = success(clock + skew - 30, 7);
            let value = PartitionObservation::Progress(Some(Arc::new(success)));
            let observations = Observations {
                clock_skew: Some(TimeDelta::seconds(skew)),
                partitions: vec![(
                    ID,
                    Read {
                        value,
                        at: at(clock),
                    },
                )],
                ..Observations::default()
            };
            let first = known().advance(observations, at(clock));
            assert_eq!(trusted(&first, clock), Some(at(clock + skew - 30)));
            let unobserved = first.advance(Observations::default(), at(clock));
            assert_eq!(unobserved.status.clock_skew, first.status.clock_skew);
        }
    }
}

#[test]
fn a_skew_is_corrected_unless_it_is_noise_or_too_large() {
    let clock_skew = |seconds| {
        let snapshot = cycle(&known(), 10, seconds);
        one(&snapshot).facts(&snapshot).clock_skew
    };
    for corrected in [-3_600, -10, 10, 3_600] {
        let clock_skew = clock_skew(corrected);
        assert_eq!(clock_skew.correction().num_seconds(), corrected);
        assert_eq!(clock_skew.excessive(), None);
    }
    for noise in [-9, 0, 9] {
        assert_eq!(clock_skew(noise).correction(), TimeDelta::zero());
        assert_eq!(clock_skew(noise).excessive(), None);
    }
    for apart in [-1_000_000_000, -86_400, -3_601, 3_601] {
        assert_eq!(clock_skew(apart).correction(), TimeDelta::zero());
        assert_eq!(
            clock_skew(apart).excessive(),
            Some(TimeDelta::seconds(apart))
        );
    }
}

#[test]
fn while_the_clocks_are_apart_the_one_that_is_behind_dates_successes() {
    for skew in [-400 * DAY, -2 * 3_600, 2 * 3_600, 400 * DAY] {
        let latest = skew.min(0) + 300;
        let apart = cycle(&known(), 0, skew);
        for taken in from_each_source(&apart, 0, latest) {
            assert_eq!(last_success(&taken), Some(at(latest)));
        }
        for refused in from_each_source(&apart, 0, latest + 1) {
            assert_eq!(last_success(&refused), None);
        }
    }
}

fn listed(id: PartitionId, second: i64, lsn: u64) -> ListedBackup {
    ListedBackup {
        partition: id,
        backup_id: Some(Uuid::from_u128(u128::from(lsn) + 77)),
        chain_id: Some(Uuid::from_u128(1)),
        kind: BackupKind::Full,
        created: Some(at(second)),
        epoch: success(0, 0).epoch,
        lsn: Some(lsn),
        restorable: true,
    }
}

/// A backup of an actor service: -1 on the wire.
fn of_an_actor(second: i64) -> ListedBackup {
    ListedBackup {
        lsn: None,
        epoch: Some(Epoch {
            data_loss_version: None,
            configuration_version: None,
        }),
        ..listed(ID, second, 0)
    }
}

/// A backup that the cluster reports as broken.
fn broken(second: i64) -> ListedBackup {
    ListedBackup {
        restorable: false,
        ..listed(ID, second, 1)
    }
}

/// A list without an item that could not be decoded.
fn whole(items: Vec<ListedBackup>) -> DecodedList<ListedBackup> {
    DecodedList { items, skipped: 0 }
}

fn list(snapshot: &Snapshot, second: i64, items: Vec<ListedBackup>) -> Snapshot {
    let (at, value) = (at(second), items);
    let observations = Observations {
        newest: vec![(
            "fabric:/Shop".into(),
            Read {
                value: whole(value),
                at,
            },
        )],
        ..Observations::default()
    };
    snapshot.advance(observations, at)
}

/// A partition that is backed up every hour.
fn hourly() -> Snapshot {
    let protected = protect(&known(), Some(HOURLY), 0);
    with_policies(&protected, vec![policy(HOURLY, 60)], 0)
}

fn lsn(snapshot: &Snapshot) -> Option<u64> {
    one(snapshot).last_success_lsn()
}

#[test]
fn a_listed_backup_of_an_actor_service_is_a_success_without_a_number() {
    let snapshot = list(&known(), 100, vec![of_an_actor(50)]);
    assert_eq!(one(&snapshot).listed_at, Some(at(100)));
    assert_eq!(
        (last_success(&snapshot), lsn(&snapshot)),
        (Some(at(50)), None)
    );
    assert_eq!(one(&snapshot).unrestorable, 0);
}

#[test]
fn a_listed_backup_that_cannot_be_restored_or_has_no_time_proves_nothing() {
    let snapshot = list(&known(), 100, vec![broken(50)]);
    assert_eq!(one(&snapshot).listed_at, Some(at(100)));
    assert_eq!((last_success(&snapshot), lsn(&snapshot)), (None, None));
    assert_eq!(one(&snapshot).unrestorable, 1);
    let without_time = ListedBackup {
        created: None,
        ..listed(ID, 0, 7)
    };
    assert_eq!(last_success(&list(&known(), 100, vec![without_time])), None);
    let both = list(&known(), 100, vec![listed(ID, 40, 7), broken(50)]);
    assert_eq!(last_success(&both), Some(at(40)), "it hides no older one");
    assert_eq!(lsn(&both), Some(7));
}

#[test]
fn a_list_joins_the_partitions_that_are_known_and_no_others() {
    let other = PartitionId(Uuid::from_u128(2));
    let gone = PartitionId(Uuid::from_u128(3));
    let mut elsewhere = partition(other, "fabric:/Other/Orders");
    elsewhere.application = Some("fabric:/Other".into());
    let both = vec![partition(ID, "fabric:/Shop/Orders"), elsewhere];
    let snapshot = Snapshot::empty("prod".into()).advance(listing(both), at(0));
    let items = vec![listed(gone, 90, 9), listed(ID, 50, 7), listed(ID, 40, 6)];
    let snapshot = list(&snapshot, 100, items);
    assert_eq!(last_success(&snapshot), Some(at(50)));
    assert_eq!(snapshot.partitions.len(), 2);
    let elsewhere = &snapshot.partitions[&other];
    assert_eq!(
        (&elsewhere.last_success, elsewhere.listed_at),
        (&None, None)
    );
    assert_eq!(completions(&snapshot), [0, 0, 0]);
}

#[test]
fn the_number_of_the_last_success_is_told_only_where_it_is_its_own() {
    let requested = read(&hourly(), 1, Some(success(10, 100)));
    assert_eq!(lsn(&requested), Some(100));
    let periodic = healthy(&requested, 70, attempt(true, 60));
    assert_eq!(lsn(&periodic), None, "health tells no number");
    let outdated = list(&periodic, 80, vec![listed(ID, 5, 90)]);
    assert_eq!(lsn(&outdated), None, "the store shows an older one");
    let proved = list(&outdated, 90, vec![listed(ID, 58, 130)]);
    assert_eq!(last_success(&proved), Some(at(60)));
    assert_eq!(lsn(&proved), Some(130), "the snapshot precedes its upload");
    let next = healthy(&proved, 3_700, attempt(true, 3_660));
    assert_eq!(lsn(&next), None);
    let unnumbered = list(&next, 3_800, vec![of_an_actor(3_650)]);
    assert_eq!(lsn(&unnumbered), None, "the newest backup has no number");
}

#[test]
fn a_clock_that_lags_by_an_hour_lends_no_number_to_a_later_success() {
    // The cluster's time is 3,600 s behind that of the exporter, which lists at 3,700.
    let proved = list(
        &healthy(&hourly(), 3_690, attempt(true, 60)),
        3_700,
        vec![listed(ID, 58, 130)],
    );
    assert_eq!(lsn(&proved), Some(130));
    let next = healthy(&proved, 5_500, attempt(true, 1_860));
    assert_eq!(last_success(&next), Some(at(1_860)));
    assert_eq!(lsn(&next), None);
}

#[test]
fn log_records_count_over_lists_and_records_alike_and_never_twice() {
    let snapshot = list(&known(), 100, vec![listed(ID, 10, 100)]);
    let advance = |snapshot: &Snapshot| one(snapshot).lsn_advance;
    assert_eq!(
        advance(&snapshot),
        0,
        "the first one is where counting starts"
    );
    let snapshot = list(&snapshot, 200, vec![listed(ID, 110, 140)]);
    assert_eq!(advance(&snapshot), 40);
    let snapshot = list(&snapshot, 300, vec![listed(ID, 110, 140)]);
    let snapshot = healthy(&snapshot, 310, attempt(true, 305));
    let snapshot = read(&snapshot, 320, Some(success(110, 140)));
    assert_eq!(advance(&snapshot), 40);
    let snapshot = read(&snapshot, 400, Some(success(390, 150)));
    assert_eq!(advance(&snapshot), 50);
    let mut restored = listed(ID, 500, 20);
    restored.epoch = Some(Epoch {
        data_loss_version: Some(EPOCH + 1),
        configuration_version: None,
    });
    let snapshot = list(&snapshot, 510, vec![restored]);
    assert_eq!(advance(&snapshot), 50);
    assert_eq!(advance(&restarted(&snapshot)), 50);
}

#[test]
fn a_history_joins_the_partitions_that_are_known() {
    let gone = PartitionId(Uuid::from_u128(3));
    let value = vec![listed(ID, 10, 1), listed(ID, 20, 2), listed(gone, 30, 3)];
    let histories = |value: Vec<ListedBackup>, second| Observations {
        histories: vec![(
            "fabric:/Shop".into(),
            Read {
                value: whole(value),
                at: at(second),
            },
        )],
        ..Observations::default()
    };
    let snapshot = known().advance(histories(value, 100), at(100));
    let history = one(&snapshot).history.as_deref().unwrap();
    assert_eq!((history.at, history.value.recovery_points), (at(100), 2));
    assert_eq!(snapshot.partitions.len(), 1);
    let emptied = snapshot.advance(histories(Vec::new(), 200), at(200));
    let history = one(&emptied).history.as_deref().unwrap();
    assert_eq!(
        (history.at, history.value),
        (at(200), BackupHistory::default())
    );
}

#[test]
fn a_restore_is_kept_as_it_was_last_read_whatever_its_state_is_called() {
    let restore = |word: &str| RestoreProgress {
        state: RestoreState::from_wire(word),
        timestamp: Some(at(5)),
    };
    let mut snapshot = known();
    for word in ["RestoreInProgress", "Success", "Rewinding"] {
        snapshot = take(
            &snapshot,
            10,
            PartitionObservation::Restore(Some(restore(word))),
        );
        assert_eq!(one(&snapshot).restore.unwrap().value, Some(restore(word)));
    }
    let state = one(&snapshot).restore.unwrap().value.unwrap().state;
    assert_eq!(state, RestoreState::Unknown);
    assert_eq!(last_success(&snapshot), None, "a restore is no backup");
    let none = take(&snapshot, 20, PartitionObservation::Restore(None));
    assert_eq!(one(&none).restore.unwrap().value, None);
    assert_eq!(
        take(&none, 30, PartitionObservation::NotFound).partitions[&ID].restore,
        None
    );
}

#[test]
fn one_kind_of_reading_leaves_the_others_alone() {
    let snapshot = replay(&[Some(success(-100, 7))]);
    let snapshot = healthy(&snapshot, 10, attempt(false, 5));
    let snapshot = take(&snapshot, 11, PartitionObservation::Restore(None));
    let snapshot = list(&protect(&snapshot, Some(HOURLY), 12), 13, Vec::new());
    let known = one(&snapshot);
    assert_eq!(known.read_at(), Some(at(1)));
    assert_eq!(known.health.unwrap().at, at(10));
    assert_eq!(known.restore.unwrap().at, at(11));
    assert_eq!(
        (known.configuration_read_at, known.listed_at),
        (Some(at(12)), Some(at(13)))
    );
}

#[test]
fn a_record_is_of_the_baseline_until_another_one_is_seen_even_over_a_restart() {
    let baseline = |snapshot: &Snapshot| one(snapshot).facts(snapshot).record_is_baseline;
    let failure = Some(failed(BackupState::Failure, "E_ABORT"));
    let first = replay(&[failure.clone(), failure.clone()]);
    assert!(baseline(&first));
    assert!(baseline(&read(&restarted(&first), 100, failure.clone())));
    let other = Some(failed(BackupState::Timeout, "E_ABORT"));
    assert!(!baseline(&read(&restarted(&first), 100, other.clone())));
    assert!(!baseline(&read(&first, 9, other)));
    assert!(!baseline(&replay(&[None, failure])));
}

#[test]
fn a_backup_is_expected_since_protection_or_since_the_partition_was_known() {
    let since = |snapshot: &Snapshot| one(snapshot).facts(snapshot).expected_since;
    assert_eq!(since(&known()), Some(at(0)));
    assert_eq!(since(&protect(&known(), None, 10)), Some(at(0)));
    let protected = protect(&known(), Some(HOURLY), 10);
    assert_eq!(since(&protected), Some(at(10)));
    assert_eq!(since(&restarted(&protected)), Some(at(10)));
}

#[test]
fn a_schedule_is_known_once_the_policies_are_read() {
    let snapshot = protect(&known(), Some(HOURLY), 10);
    let schedule = |snapshot: &Snapshot| {
        let facts = one(snapshot).facts(snapshot);
        facts.schedule.map(|read| (read.value.cloned(), read.at))
    };
    assert_eq!(schedule(&snapshot), None);
    let elsewhere = with_policies(&snapshot, vec![policy("Daily", 1_440)], 20);
    assert_eq!(schedule(&elsewhere), Some((None, at(20))));
    let read = with_policies(&snapshot, vec![policy(HOURLY, 60)], 20);
    assert_eq!(schedule(&read), Some((policy(HOURLY, 60).schedule, at(20))));
}

/// Any moment that chrono has, most of them near the ends of calendars that occur: 0001, 1601,
/// 1970, 9999.
fn any_moment() -> impl Strategy<Value = DateTime<Utc>> {
    let near = |year: i32| {
        let start = Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap();
        (-400 * DAY..400 * DAY).prop_map(move |seconds| start + TimeDelta::seconds(seconds))
    };
    let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    prop_oneof![
        near(1),
        near(1601),
        near(1970),
        near(2026),
        near(9999),
        Just(first),
        Just(last),
        (first.timestamp()..=last.timestamp())
            .prop_map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap()),
    ]
}

fn any_record() -> impl Strategy<Value = Option<BackupProgress>> {
    let state = prop::sample::select(BackupState::ALL.to_vec());
    let record = (
        state,
        prop::option::of(-500_i64..300),
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
    fn no_date_of_the_cluster_is_too_extreme(
        dates in prop::collection::vec((any_moment(), any_moment(), any_moment()), 1..8),
        nows in prop::collection::vec(-500_i64..500, 8),
    ) {
        let mut snapshot = protect(&known(), Some(HOURLY), 0);
        snapshot = with_policies(&snapshot, vec![policy(HOURLY, 60)], 0);
        for ((requested, periodic, stored), now) in dates.into_iter().zip(nows) {
            let record = BackupProgress { timestamp: Some(requested), ..success(0, 7) };
            snapshot = read(&snapshot, now, Some(record));
            let ended = PeriodicAttempt { succeeded: now % 2 == 0, ended: periodic };
            let health = BackupHealth { attempt: Some(ended), ..BackupHealth::default() };
            snapshot = healthy(&snapshot, now, health);
            let backup = ListedBackup { created: Some(stored), ..listed(ID, 0, 7) };
            snapshot = list(&snapshot, now, vec![backup]);
            let latest = at(now) + TimeDelta::minutes(5);
            let newest = last_success(&snapshot);
            prop_assert!(newest.is_none_or(|newest| newest <= latest || newest <= at(500) + TimeDelta::minutes(5)));
            prop_assert_eq!(trusted(&snapshot, now), newest.filter(|newest| *newest <= latest));
        }
        prop_assert_eq!(last_success(&restarted(&snapshot)), last_success(&snapshot));
    }

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
