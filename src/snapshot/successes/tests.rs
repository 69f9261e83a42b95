use super::*;
use crate::inventory::Inventory;
use crate::model::{
    BackupConfiguration, BackupEntity, BackupHealth, BackupKind, BackupProgress, BackupState,
    ConfigurationScope, DecodedList, LabelValue, ListedBackup, Name, Partition, PartitionId,
    PeriodicAttempt, Policy, Read, Schedule,
};
use crate::protection::effective::EffectiveConfiguration;
use crate::snapshot::{
    ClusterObservation, Observations, PartitionObservation, ServiceTotals, Snapshot,
};
use chrono::{NaiveTime, TimeDelta, TimeZone};
use proptest::prelude::*;
use std::time::Duration;
use uuid::Uuid;

const ID: PartitionId = PartitionId(Uuid::from_u128(1));
const SHOP: &str = "fabric:/Shop";
const HOUR: i64 = 3_600;

fn at(second: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_700_000_000 + second, 0).unwrap()
}

fn backup(created: i64) -> ListedBackup {
    ListedBackup {
        partition: ID,
        backup_id: Some(Uuid::from_u128(u128::from(created.cast_unsigned()))),
        chain_id: None,
        kind: BackupKind::Full,
        created: Some(at(created)),
        epoch: None,
        lsn: None,
        restorable: true,
    }
}

fn broken(created: i64) -> ListedBackup {
    ListedBackup {
        restorable: false,
        ..backup(created)
    }
}

fn policy(name: &str, kind: &str, storage_fingerprint: u32, schedule: Schedule) -> Policy {
    Policy {
        name: name.into(),
        schedule: Some(schedule),
        storage: LabelValue::new(kind),
        storage_fingerprint,
        auto_restore: false,
        max_incrementals: None,
        retention: None,
        checksum: storage_fingerprint,
    }
}

fn hourly() -> Schedule {
    Schedule::Frequency(Duration::from_secs(3_600))
}

fn configuration(entity: BackupEntity, policy: &str) -> BackupConfiguration {
    BackupConfiguration {
        entity,
        policy: Some(policy.into()),
        policy_inherited_from: None,
        suspension_inherited_from: None,
    }
}

/// A list that was requested at that second.
fn requested(
    second: i64,
    items: Vec<ListedBackup>,
    skipped: usize,
) -> Read<DecodedList<ListedBackup>> {
    Read {
        value: DecodedList { items, skipped },
        at: at(second),
    }
}

/// One partition that is backed up every hour, and what an exporter knows of it. Seconds are of the
/// exporter's clock in readings, of the cluster's in backups.
#[derive(Clone)]
struct Known(Snapshot);

impl Known {
    fn new() -> Self {
        Self::with(vec![policy("Hourly", "FileShare", 1, hourly())])
    }

    /// The first policy is set at the application, the second, if there is one, at another service.
    fn with(policies: Vec<Policy>) -> Self {
        let other: Name = "fabric:/Shop/Other".into();
        let lines = policies.iter().zip([
            BackupEntity::Application(SHOP.into()),
            BackupEntity::Service(Name::clone(&other)),
        ]);
        let lines: Vec<_> = lines
            .map(|(policy, entity)| configuration(entity, &policy.name))
            .collect();
        let partition = |id, service| Partition {
            id,
            application: Some(SHOP.into()),
            service: Some(service),
            kind: None,
            data_loss_time: None,
        };
        let listed = vec![
            partition(ID, "fabric:/Shop/Orders".into()),
            partition(PartitionId(Uuid::from_u128(2)), other),
        ];
        let unread = Vec::new();
        let observations = Observations {
            inventory: Some(Read {
                value: Inventory { listed, unread },
                at: at(0),
            }),
            configurations: vec![(
                SHOP.into(),
                Read {
                    value: lines.into_iter().collect(),
                    at: at(0),
                },
            )],
            ..Observations::default()
        };
        let empty = Self(Snapshot::empty("prod".into()));
        empty.take(0, observations).policies(0, policies)
    }

    fn take(&self, second: i64, observations: Observations) -> Self {
        Self(self.0.advance(observations, at(second)))
    }

    fn policies(&self, second: i64, value: Vec<Policy>) -> Self {
        let policies = Some(Read {
            value,
            at: at(second),
        });
        self.take(
            second,
            Observations {
                policies,
                ..Observations::default()
            },
        )
    }

    /// Its policy has this storage from now on.
    fn moved_to(&self, second: i64, place: u32) -> Self {
        self.policies(second, vec![policy("Hourly", "FileShare", place, hourly())])
    }

    fn reading(&self, second: i64, value: PartitionObservation) -> Self {
        let at = at(second);
        self.take(
            second,
            Observations {
                partitions: vec![(ID, Read { value, at })],
                ..Observations::default()
            },
        )
    }

    fn attempt(&self, second: i64, ended: i64, succeeded: bool) -> Self {
        let ended = at(ended);
        let health = BackupHealth {
            attempt: Some(PeriodicAttempt { succeeded, ended }),
            ..BackupHealth::default()
        };
        self.reading(second, PartitionObservation::Health(health))
    }

    /// A health report `Ok` of an attempt that ended at `ended`.
    fn ok(&self, second: i64, ended: i64) -> Self {
        self.attempt(second, ended, true)
    }

    /// A record in `Success` of a backup taken at `taken`.
    fn record(&self, second: i64, taken: i64) -> Self {
        let record = BackupProgress {
            state: BackupState::Success,
            timestamp: Some(at(taken)),
            backup_id: backup(taken).backup_id,
            epoch: None,
            lsn: None,
            failure: None,
        };
        self.reading(
            second,
            PartitionObservation::Progress(Some(Arc::new(record))),
        )
    }

    fn accepted(&self, second: i64) -> Self {
        let record = BackupProgress {
            state: BackupState::Accepted,
            timestamp: None,
            backup_id: None,
            epoch: None,
            lsn: None,
            failure: None,
        };
        self.reading(
            second,
            PartitionObservation::Progress(Some(Arc::new(record))),
        )
    }

    /// The list of the newest backups that was requested at that second.
    fn list(&self, second: i64, items: Vec<ListedBackup>) -> Self {
        self.skipping_list(second, items, 0)
    }

    fn skipping_list(&self, second: i64, items: Vec<ListedBackup>, skipped: usize) -> Self {
        let newest = vec![(SHOP.into(), requested(second, items, skipped))];
        self.take(
            second,
            Observations {
                newest,
                ..Observations::default()
            },
        )
    }

    fn history(&self, second: i64, items: Vec<ListedBackup>) -> Self {
        let histories = vec![(SHOP.into(), requested(second, items, 0))];
        self.take(
            second,
            Observations {
                histories,
                ..Observations::default()
            },
        )
    }

    fn partition_list(&self, second: i64, items: Vec<ListedBackup>) -> Self {
        let partition_lists = vec![(ID, requested(second, items, 0))];
        self.take(
            second,
            Observations {
                partition_lists,
                ..Observations::default()
            },
        )
    }

    /// The cluster's clock is ahead by that much.
    fn skewed(&self, second: i64, skew: i64) -> Self {
        self.take(
            second,
            Observations {
                clock_skew: Some(TimeDelta::seconds(skew)),
                ..Observations::default()
            },
        )
    }

    /// The same in a process that starts from the state file of this one, and has read what is set.
    fn restarted(&self, second: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut file = crate::state_file::StateFile::new(path.clone());
        file.save(&[Arc::new(self.0.clone())]).unwrap();
        let mut loaded = crate::state_file::load(&path, at(0)).unwrap();
        let policies = self.0.policies.clone().unwrap().value;
        Self(loaded.clusters.remove("prod").unwrap())
            .policies(second, policies.into_values().collect())
    }

    fn successes(&self) -> &Successes {
        &self.0.partitions[&ID].successes
    }

    /// Seconds of the last success.
    fn last(&self) -> Option<i64> {
        let success = self.0.partitions[&ID].last_success.as_ref()?;
        Some((success.at - at(0)).num_seconds())
    }

    fn is_confirmed(&self) -> bool {
        let success = self.0.partitions[&ID].last_success.as_ref().unwrap();
        self.successes().is_confirmed(success)
    }

    /// Claims that lists have refuted: of health, of progress.
    fn refuted(&self) -> [u64; 2] {
        let of = |count: fn(&ServiceTotals) -> u64| self.0.totals.values().map(count).sum();
        [of(|it| it.refuted_health), of(|it| it.refuted_progress)]
    }
}

#[test]
fn a_claim_counts_until_a_list_confirms_it() {
    let claimed = Known::new().ok(60, 30);
    assert_eq!((claimed.last(), claimed.is_confirmed()), (Some(30), false));
    assert_eq!(claimed.0.unconfirmed_successes(), 1);
    let listed = claimed.list(300, vec![backup(10)]);
    assert_eq!((listed.last(), listed.is_confirmed()), (Some(30), true));
    assert_eq!(listed.0.unconfirmed_successes(), 0);
    assert_eq!(listed.refuted(), [0, 0]);
    let before = Known::new().list(40, vec![backup(10)]).ok(60, 30);
    assert_eq!((before.last(), before.is_confirmed()), (Some(30), true));
}

#[test]
fn a_claim_ends_where_the_store_holds_neither_it_nor_a_newer_backup() {
    let before = Known::new().ok(60, 30).list(300, vec![backup(10)]);
    let claimed = before.ok(HOUR + 60, HOUR + 30);
    assert_eq!(claimed.last(), Some(HOUR + 30));
    let mut refuted = claimed.list(HOUR + 300, vec![backup(10)]);
    for minute in 6..20 {
        // The proof has the time of its snapshot.
        assert_eq!((refuted.last(), refuted.is_confirmed()), (Some(10), true));
        assert_eq!(refuted.refuted(), [1, 0], "once");
        refuted = refuted.ok(HOUR + 60 * minute, HOUR + 30);
    }
    assert_eq!(refuted.restarted(2 * HOUR).last(), Some(10));
    let never = Known::new().ok(60, 30).list(300, Vec::new());
    assert_eq!((never.last(), never.refuted()), (None, [1, 0]));
    assert_eq!(never.ok(360, 30).last(), None);
}

#[test]
fn a_list_that_was_requested_too_early_ends_nothing() {
    let claimed = Known::new().ok(100, 90);
    for requested in [60, 99, 100, 159] {
        let listed = claimed.list(requested, Vec::new());
        assert_eq!(listed.last(), Some(90), "{requested}");
    }
    assert_eq!(claimed.list(160, Vec::new()).last(), None);
    // First seen a moment ago, but long ended by a clock that can be trusted.
    let old = Known::new().skewed(1_000, 30).ok(1_000, 700);
    assert_eq!(old.list(970, Vec::new()).last(), None);
    assert_eq!(old.list(969, Vec::new()).last(), Some(700));
    let apart = Known::new().skewed(1_000, 3 * HOUR).ok(1_000, 700);
    assert_eq!(apart.list(1_050, Vec::new()).last(), Some(700));
}

#[test]
fn reports_that_follow_each_other_quickly_do_not_escape_the_lists() {
    let mut known = Known::new().ok(60, 30).list(300, vec![backup(10)]);
    for round in 1..5 {
        for poll in 0..15 {
            // A new report each time, never a minute old.
            let now = round * HOUR + 60 * poll;
            known = known.ok(now, now - 6);
        }
        let now = round * HOUR + 15 * 60;
        known = known.list(now, vec![backup(10)]);
        assert_eq!(known.last(), Some(10), "round {round}");
        known = known.ok(now + 60, now + 50);
        assert_eq!(known.last(), Some(10), "not believed any more");
    }
    // An upload succeeds at last.
    let now = 6 * HOUR;
    let claimed = known.ok(now + 60, now + 30);
    let listed = claimed.list(now + 300, vec![backup(now + 10)]);
    assert_eq!(
        (listed.last(), listed.is_confirmed()),
        (Some(now + 30), true)
    );
    let next = listed.ok(now + HOUR + 60, now + HOUR + 40);
    assert_eq!(next.last(), Some(now + HOUR + 40), "believed again");
}

#[test]
fn a_success_after_a_refuted_one_counts_once_a_list_holds_it() {
    let refuted = Known::new().ok(60, 30).list(300, Vec::new());
    let claimed = refuted.ok(HOUR + 60, HOUR + 30);
    assert_eq!(claimed.last(), None);
    let restarted = claimed.restarted(HOUR + 80).ok(HOUR + 90, HOUR + 30);
    assert_eq!(restarted.last(), None);
    let early = claimed.list(HOUR + 70, vec![backup(HOUR + 5)]);
    assert_eq!(early.last(), Some(HOUR + 30), "a proof needs no patience");
}

#[test]
fn a_refuted_claim_that_a_later_list_holds_counts_again() {
    let refuted = Known::new().ok(60, 30).list(300, Vec::new());
    let shown = refuted.list(600, vec![backup(10)]);
    assert_eq!((shown.last(), shown.is_confirmed()), (Some(30), true));
}

#[test]
fn another_storage_proves_nothing_of_a_claim_and_its_own_one_does() {
    let proved = Known::new().ok(60, 30).list(300, vec![backup(10)]);
    let claimed = proved.ok(HOUR + 60, HOUR + 30);
    for before in [proved, claimed] {
        let (success, moved) = (before.last(), before.moved_to(HOUR + 100, 2));
        let listed = moved.list(2 * HOUR, Vec::new());
        assert_eq!((listed.last(), listed.refuted()), (success, [0, 0]));
        assert_eq!(listed.restarted(2 * HOUR).last(), success);
        let back = listed.moved_to(2 * HOUR + 60, 1);
        let gone = back.list(2 * HOUR + 200, Vec::new());
        assert_eq!(gone.last(), None);
        let newer = listed.list(3 * HOUR, vec![backup(3 * HOUR - 60)]);
        assert_eq!(newer.last(), Some(3 * HOUR - 60));
        let older = listed.list(3 * HOUR, vec![backup(5)]);
        assert_eq!(older.last(), success, "an old backup in the other storage");
    }
}

#[test]
fn a_report_from_another_storage_is_believed_again() {
    let refuted = Known::new().ok(60, 30).list(300, Vec::new());
    let moved = refuted.moved_to(400, 2).ok(HOUR + 60, HOUR + 30);
    assert_eq!(moved.last(), Some(HOUR + 30));
}

#[test]
fn absence_proves_nothing_where_a_storage_may_not_have_been_read() {
    let other = policy("Other", "AzureBlobStore", 2, hourly());
    let blob = |place| policy("Hourly", "AzureBlobStore", place, hourly());
    for (own, may_lack) in [(blob(1), true), (blob(2), false)] {
        let known = Known::with(vec![own, other.clone()]).ok(60, 30);
        let listed = known.list(300, Vec::new());
        assert_eq!(listed.last().is_some(), may_lack);
        let list = |items| DecodedList { items, skipped: 0 };
        let unsettled = |items| {
            known
                .0
                .not_settled_by_list(&SHOP.into(), &list(items), at(300))
        };
        let ids = |items| unsettled(items).iter().any(|(_, id)| *id == ID);
        assert_eq!(ids(Vec::new()), may_lack);
        assert!(!ids(vec![backup(10)]), "it holds the claim");
        assert_eq!(listed.0.partitions[&ID].listed_at.is_none(), may_lack);
        let asked = listed.partition_list(320, Vec::new());
        assert_eq!((asked.last(), asked.refuted()), (None, [1, 0]));
        assert!(asked.0.partitions[&ID].listed_at.is_some());
        let held = listed.partition_list(320, vec![backup(10)]);
        assert_eq!((held.last(), held.is_confirmed()), (Some(30), true));
    }
    let share = policy("Hourly", "FileShare", 1, hourly());
    let known = Known::with(vec![share, other]).ok(60, 30);
    assert_eq!(
        known.list(300, Vec::new()).last(),
        None,
        "told apart by path"
    );
}

#[test]
fn a_list_with_an_item_that_is_not_understood_proves_what_it_shows_and_no_more() {
    let known = Known::new().ok(60, 30);
    let incomplete = known.skipping_list(300, Vec::new(), 1);
    assert_eq!(
        (incomplete.last(), incomplete.is_confirmed()),
        (Some(30), false)
    );
    assert_eq!(incomplete.0.partitions[&ID].listed_at, None);
    let list = DecodedList {
        items: Vec::new(),
        skipped: 1,
    };
    assert_eq!(
        known
            .0
            .not_settled_by_list(&SHOP.into(), &list, at(300))
            .len(),
        2
    );
    let shown = known.skipping_list(300, vec![backup(10)], 1);
    assert!(shown.is_confirmed());
    let older = shown.skipping_list(600, vec![backup(1)], 1);
    assert!(older.is_confirmed(), "the newer one may be the odd item");
}

#[test]
fn backups_that_are_deleted_end_the_success_and_the_next_report_counts() {
    let proved = Known::new().ok(60, 30).list(300, vec![backup(10)]);
    let cleaned = proved.list(1_200, Vec::new());
    assert_eq!((cleaned.last(), cleaned.refuted()), (None, [0, 0]));
    assert_eq!(cleaned.successes().listed, None);
    assert_eq!(cleaned.ok(1_260, 30).last(), None);
    let next = cleaned.ok(HOUR + 60, HOUR + 30);
    assert_eq!(next.last(), Some(HOUR + 30));
    let partly = proved.list(1_200, vec![backup(5)]);
    assert_eq!(partly.last(), Some(5), "an older one is left");
}

#[test]
fn retention_of_older_backups_changes_nothing() {
    let items = vec![backup(10), backup(HOUR + 10)];
    let known = Known::new().ok(HOUR + 60, HOUR + 30);
    let before = known.history(HOUR + 300, items);
    let after = before.history(2 * HOUR, vec![backup(HOUR + 10)]);
    assert_eq!((after.last(), after.is_confirmed()), (before.last(), true));
}

#[test]
fn a_backup_that_a_suspension_discarded_is_listed_and_counts() {
    let known = Known::new().attempt(60, 30, false);
    assert_eq!(known.last(), None);
    let listed = known.list(300, vec![backup(10)]);
    assert_eq!((listed.last(), listed.is_confirmed()), (Some(10), true));
}

#[test]
fn a_requested_backup_is_confirmed_by_its_id_or_by_a_newer_one() {
    let known = Known::new().record(60, 30);
    for (newest, expected) in [(30, Some(30)), (40, Some(40)), (29, Some(29))] {
        let listed = known.list(300, vec![backup(newest)]);
        assert_eq!(listed.last(), expected, "{newest}");
        assert_eq!(listed.refuted(), [0, u64::from(newest == 29)]);
    }
    // Of a node whose clock is behind.
    let mut same = backup(30);
    same.created = Some(at(25));
    let listed = known.list(300, vec![same]);
    assert_eq!((listed.last(), listed.is_confirmed()), (Some(30), true));
}

#[test]
fn a_request_to_another_storage_ends_at_the_list_of_the_policy() {
    let proved = Known::new().ok(60, 30).list(300, vec![backup(10)]);
    let requested = proved.record(900, 850);
    assert_eq!(requested.last(), Some(850));
    let listed = requested.list(1_200, vec![backup(10)]);
    assert_eq!(listed.last(), Some(30));
    assert_eq!(listed.refuted(), [0, 1]);
    assert_eq!(listed.record(1_260, 850).last(), Some(30));
}

#[test]
fn a_record_of_an_actor_service_that_shows_the_backup_before_proves_nothing_newer() {
    let first = Known::new().record(60, 30).list(300, vec![backup(30)]);
    let completed = |known: &Known| known.0.totals.values().map(|it| it.successes).sum::<u64>();
    let before = completed(&first);
    // Its upload failed, and the store took that for a success.
    let again = first.accepted(HOUR).record(HOUR + 60, 30);
    assert_eq!((again.last(), completed(&again)), (Some(30), before));
    let deleted = again.list(HOUR + 300, Vec::new());
    assert_eq!(deleted.last(), None);
}

#[test]
fn requested_and_periodic_backups_do_not_pass_for_each_other() {
    let periodic = Known::new().ok(60, 30).list(300, vec![backup(10)]);
    let requested = periodic.record(1_900, 1_800);
    // The report that follows is false: the newest backup is the requested one.
    for claimed in [
        requested.ok(HOUR + 60, HOUR + 30),
        periodic.ok(HOUR + 60, HOUR + 30).record(HOUR + 60, 1_800),
    ] {
        let listed = claimed.list(HOUR + 300, vec![backup(1_800)]);
        assert_eq!((listed.last(), listed.refuted()), (Some(1_800), [1, 0]));
    }
    let claimed = requested.ok(HOUR + 60, HOUR + 30);
    let listed = claimed.list(HOUR + 300, vec![backup(HOUR + 10)]);
    assert_eq!((listed.last(), listed.refuted()), (Some(HOUR + 30), [0, 0]));
}

#[test]
fn a_claim_whose_predecessor_was_missed_is_judged_by_the_schedule() {
    let daily = |times: &[&str]| {
        let times = times.iter().map(|it| it.parse::<NaiveTime>().unwrap());
        Schedule::Daily(times.collect())
    };
    let minute = 60;
    // at(0) is 22:13:20.
    let to_23 = 46 * minute + 40;
    let cases = [
        (hourly(), HOUR, HOUR - 58 * minute, true),
        (hourly(), HOUR, HOUR - 59 * minute, false),
        (hourly(), HOUR, HOUR - 61 * minute, false),
        // Ten seconds early, and the run before.
        (
            daily(&["22:30:00", "23:00:00"]),
            to_23 + 50,
            to_23 - 10,
            true,
        ),
        (
            daily(&["22:30:00", "23:00:00"]),
            to_23 + 50,
            to_23 - 29 * minute,
            false,
        ),
        // It ended, false, before its run time.
        (
            daily(&["22:30:00", "23:00:00"]),
            to_23 - 5,
            to_23 - 29 * minute,
            false,
        ),
    ];
    for (schedule, ended, created, is_same) in cases {
        let known = Known::with(vec![policy("Hourly", "FileShare", 1, schedule)]);
        let known = known.ok(ended + 60, ended);
        let listed = known.list(ended + 600, vec![backup(created)]);
        let expected = if is_same { ended } else { created };
        assert_eq!(listed.last(), Some(expected), "{ended} {created}");
    }
    let mut unknown = policy("Hourly", "FileShare", 1, hourly());
    unknown.schedule = None;
    let known = Known::with(vec![unknown]).ok(HOUR + 60, HOUR);
    let listed = known.list(HOUR + 600, vec![backup(10)]);
    assert_eq!(listed.last(), Some(HOUR), "no schedule, no judgement");
}

#[test]
fn uploads_longer_than_the_interval_are_no_false_claims() {
    let known = Known::new().ok(60, 30).list(300, vec![backup(10)]);
    let mut known = known;
    for poll in 2..=115 {
        known = known.ok(60 * poll, 30);
    }
    // Created an interval after the one before, and uploaded for 65 minutes.
    let claimed = known.ok(116 * 60, 115 * 60 + 50);
    let listed = claimed.list(130 * 60, vec![backup(50 * 60)]);
    assert_eq!(
        (listed.last(), listed.is_confirmed()),
        (Some(115 * 60 + 50), true)
    );
}

#[test]
fn a_newest_backup_that_cannot_be_restored_ends_its_claim_and_keeps_older_proofs() {
    let proved = Known::new().ok(60, 30).list(300, vec![backup(10)]);
    let claimed = proved.ok(HOUR + 60, HOUR + 30);
    let failed = claimed.list(HOUR + 300, vec![broken(HOUR + 10)]);
    assert_eq!((failed.last(), failed.refuted()), (Some(10), [1, 0]));
    assert_eq!(failed.0.partitions[&ID].unrestorable, 1);
    // A broken one that is newer hides what was claimed before it.
    let hidden = claimed.list(HOUR + 300, vec![broken(HOUR + 200)]);
    assert_eq!((hidden.last(), hidden.refuted()), (Some(HOUR + 30), [0, 0]));
    // Validation fails after the first list.
    let later = proved.list(600, vec![broken(10)]);
    assert_eq!(later.last(), None);
    assert_eq!(later.successes().listed, None);
}

#[test]
fn a_claim_needs_a_list_until_a_backup_with_a_number_is_listed() {
    let needs_list = |known: &Known| {
        let partition = &known.0.partitions[&ID];
        partition
            .facts(&known.0)
            .confirmation
            .needs_list_since
            .is_some()
    };
    let numbered = |created| ListedBackup {
        lsn: Some(7),
        ..backup(created)
    };
    assert!(!needs_list(&Known::new()), "nothing is claimed");
    let claimed = Known::new().ok(60, 30);
    assert!(needs_list(&claimed));
    let confirmed = claimed.list(300, vec![backup(10)]);
    assert!(!needs_list(&confirmed));
    let next = confirmed.ok(HOUR + 60, HOUR + 30);
    assert!(needs_list(&next));
    assert!(needs_list(&next.restarted(HOUR + 100)));
    assert!(needs_list(&confirmed.record(HOUR + 60, HOUR + 10)));
    let reliable = claimed.list(300, vec![numbered(10)]);
    let next = reliable.ok(HOUR + 60, HOUR + 30);
    assert!(!needs_list(&next));
    assert!(!needs_list(&next.restarted(HOUR + 100)));
}

#[test]
fn a_claim_needs_a_list_since_the_first_one_that_none_has_judged() {
    let since = |known: &Known| {
        let partition = &known.0.partitions[&ID];
        let since = partition.facts(&known.0).confirmation.needs_list_since;
        since.map(|since| (since - at(0)).num_seconds())
    };
    let mut known = Known::new();
    for run in 0..10 {
        known = known.ok(run * 600 + 60, run * 600 + 30);
        if run == 5 {
            known = known.restarted(run * 600 + 100);
        }
        assert_eq!(since(&known), Some(60), "{run}");
    }
    // The list judges the older ones, and comes too early for the newest one.
    let listed = known.list(5_480, vec![backup(4_810)]);
    assert_eq!(since(&listed), Some(5_460));
    assert_eq!(since(&listed.list(5_700, vec![backup(5_410)])), None);
}

#[test]
fn a_list_of_the_newest_backup_does_not_hide_broken_chains() {
    let orphan = ListedBackup {
        kind: BackupKind::Incremental,
        chain_id: Some(Uuid::from_u128(99)),
        ..backup(20)
    };
    let all = Known::new().history(300, vec![backup(10), orphan]);
    let unrestorable = |known: &Known| known.0.partitions[&ID].unrestorable;
    assert_eq!(unrestorable(&all), 1);
    let mut after = all.partition_list(400, vec![backup(10)]);
    assert_eq!(unrestorable(&after), 1);
    let whole = Known::new().history(300, vec![backup(10)]);
    let damaged = whole.partition_list(400, vec![broken(350)]);
    assert_eq!((unrestorable(&whole), unrestorable(&damaged)), (0, 1));
    after.0.forget_history();
    assert_eq!(unrestorable(&after.list(500, vec![backup(10)])), 0);
}

#[test]
fn reports_that_follow_each_other_quickly_do_not_hide_that_no_backup_can_be_restored() {
    for (spacing, with_proof, with_history) in [
        (5, true, false),
        (5, false, false),
        (30, true, true),
        (60, false, true),
        (90, true, false),
    ] {
        let mut known = Known::new();
        if with_proof {
            known = known.ok(30, 20).list(100, vec![backup(10)]);
        }
        let items = |ended: i64| {
            let good = with_history.then(|| backup(10));
            good.into_iter().chain([broken(ended - 2)]).collect()
        };
        for run in 0..200 {
            let ended = 200 + run * spacing;
            known = known.ok(ended + 2, ended);
            if run % (600 / spacing) == 3 {
                known = if with_history {
                    known.history(ended + 3, items(ended))
                } else {
                    known.list(ended + 3, items(ended))
                };
            }
        }
        let proof = (with_proof || with_history).then_some(10);
        assert_eq!(known.last(), proof, "{spacing} {with_proof} {with_history}");
    }
}

#[test]
fn an_older_backup_does_not_confirm_a_claim_whose_own_backup_cannot_be_restored() {
    // A start without memory, and a list of all backups.
    let claimed = Known::new().ok(HOUR, HOUR - 4);
    let items = vec![backup(HOUR - 80), broken(HOUR - 5)];
    let judged = claimed.history(HOUR + 70, items);
    assert_eq!((judged.last(), judged.refuted()), (Some(HOUR - 80), [1, 0]));
    // One that is newer than the report does not concern it.
    let items = vec![backup(HOUR - 80), broken(HOUR + 5)];
    assert!(claimed.history(HOUR + 70, items).is_confirmed());
}

#[test]
fn a_list_that_was_read_while_the_clock_of_the_cluster_was_behind_ends_nothing() {
    let proved = Known::new().ok(60, 30).list(300, vec![backup(10)]);
    for hours in [1, 2, 48] {
        let behind = proved.skewed(HOUR, -hours * HOUR);
        let listed = behind.list(HOUR + 10, vec![broken(HOUR - 100)]);
        let after = listed.skewed(HOUR + 20, 0);
        let after = after.list(HOUR + 30, vec![broken(HOUR - 100)]);
        assert_eq!(after.successes().listed, proved.successes().listed);
        assert_eq!(after.last(), Some(30), "{hours} h");
    }
}

#[test]
fn a_list_of_all_backups_judges_claims_alike() {
    let claimed = Known::new().ok(60, 30);
    let confirmed = claimed.history(300, vec![backup(10)]);
    assert!(confirmed.is_confirmed());
    let refuted = claimed.history(300, Vec::new());
    assert_eq!((refuted.last(), refuted.refuted()), (None, [1, 0]));
    let next = confirmed.ok(HOUR + 60, HOUR + 30);
    let items = vec![backup(10), broken(HOUR + 10), broken(HOUR + 200)];
    let failed = next.history(HOUR + 300, items);
    assert_eq!((failed.last(), failed.refuted()), (Some(10), [1, 0]));
    let orphan = ListedBackup {
        kind: BackupKind::Incremental,
        chain_id: Some(Uuid::from_u128(99)),
        ..backup(HOUR + 10)
    };
    let chainless = next.history(HOUR + 300, vec![backup(10), orphan]);
    assert_eq!((chainless.last(), chainless.refuted()), (Some(10), [1, 0]));
    let history = chainless.0.partitions[&ID].history.as_ref().unwrap().value;
    assert_eq!(history.recovery_points, 1);
    assert_eq!(chainless.0.partitions[&ID].unrestorable, 1);
}

#[test]
fn without_lists_nothing_is_confirmed_and_what_they_ended_is_forgotten() {
    let mut known = Known::new().ok(60, 30);
    assert_eq!(known.0.unconfirmed_successes(), 1);
    known = known.list(300, Vec::new());
    known.0.forget_lists();
    let again = known.ok(360, 30);
    assert_eq!((again.last(), again.is_confirmed()), (Some(30), false));
}

#[test]
fn a_restart_between_claim_and_list_changes_nothing() {
    for restart in [false, true] {
        let claimed = Known::new().ok(60, 30);
        let known = if restart {
            claimed.restarted(100).ok(110, 30)
        } else {
            claimed
        };
        assert_eq!(known.last(), Some(30));
        assert_eq!(known.list(119, Vec::new()).last(), Some(30));
        assert_eq!(known.list(120, Vec::new()).last(), None);
        assert!(known.list(120, vec![backup(10)]).is_confirmed());
    }
    // Without a state file, the claim is new.
    let fresh = Known::new().ok(110, 30);
    assert_eq!(fresh.list(120, Vec::new()).last(), Some(30));
    assert_eq!(fresh.list(170, Vec::new()).last(), None);
}

#[test]
fn what_an_earlier_process_knew_of_a_claim_is_recalled() {
    let refuted = Known::new().ok(60, 30).list(300, Vec::new());
    let live = Known::new().ok(600, 30);
    assert_eq!(live.last(), Some(30));
    let recalled = Known(live.0.merged_with(&refuted.0, at(610)));
    assert_eq!(recalled.last(), None);
    let newer = Known::new().ok(HOUR + 60, HOUR + 30);
    let doubted = Known(newer.0.merged_with(&refuted.0, at(HOUR + 70)));
    assert_eq!(doubted.last(), None);
    let proved = Known::new().ok(60, 30).list(300, vec![backup(10)]);
    let recalled = Known(Known::new().0.merged_with(&proved.0, at(610)));
    assert_eq!((recalled.last(), recalled.is_confirmed()), (Some(30), true));
}

#[test]
fn a_clock_that_was_set_back_does_not_put_off_the_judgement() {
    let claimed = Known::new().ok(90_000, 30);
    let set_back = claimed.ok(60, 30);
    assert_eq!(set_back.list(120, Vec::new()).last(), None);
}

/// A backup in a store.
#[derive(Clone, Debug)]
struct Held {
    created: i64,
    ended: i64,
    place: usize,
}

/// What happens in a minute before the exporter polls.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// Nothing.
    Quiet,
    /// A requested backup: to the storage of the policy, to another one, or an upload of an actor
    /// service that failed.
    Requested(Outcome),
    /// `CleanBackup` of the storage.
    Clean,
    /// The newest backup is deleted.
    LoseNewest,
    /// The policy moves to this storage.
    Move(usize),
    /// The exporter restarts.
    Restart,
    /// The exporter does not read health for so many minutes.
    Blind(u8),
    /// A list is requested, and answered after so many polls.
    List(u8),
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    StoredBackups,
    Elsewhere,
    Lost,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::StoredBackups),
        1 => Just(Outcome::Elsewhere),
        2 => Just(Outcome::Lost),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        40 => Just(Happening::Quiet),
        3 => outcome().prop_map(Happening::Requested),
        1 => Just(Happening::Clean),
        1 => Just(Happening::LoseNewest),
        1 => (0..2_usize).prop_map(Happening::Move),
        1 => Just(Happening::Restart),
        1 => (1..90_u8).prop_map(Happening::Blind),
        5 => (0..3_u8).prop_map(Happening::List),
    ]
}

/// The oracle: it knows the store, and computes nothing of what the exporter does.
#[derive(Default)]
struct World {
    store: Vec<Held>,
    place: usize,
    next_run: i64,
    /// The last health report.
    report: Option<i64>,
    record: Option<i64>,
    blind_until: i64,
    is_polled: bool,
    /// When the exporter first read each claim: of health, of progress.
    first_read: [std::collections::BTreeMap<i64, i64>; 2],
    /// A list on its way: moment of the request, place, contents, polls until its answer.
    pending: Option<(i64, usize, Vec<Held>, u8)>,
    /// The last list answered.
    answered: Option<(i64, usize, Vec<Held>)>,
}

impl World {
    fn newest(&self, place: usize) -> Option<&Held> {
        let here = self.store.iter().filter(|held| held.place == place);
        here.max_by_key(|held| held.created)
    }

    fn run(&mut self, now: i64, outcome: Outcome) {
        if now < self.next_run {
            return;
        }
        let (created, ended) = (now - 50, now - 10);
        if let Outcome::StoredBackups = outcome {
            let place = self.place;
            self.store.push(Held {
                created,
                ended,
                place,
            });
        }
        self.report = Some(ended);
        self.next_run = ended + HOUR;
        self.is_polled = false;
    }

    fn happen(&mut self, now: i64, happening: Happening, known: &mut Known) {
        match happening {
            Happening::Quiet => {}
            // A requested backup that nobody reads of can pass for a periodic one of the same run.
            Happening::Requested(_) if now < self.blind_until => {}
            Happening::Requested(outcome) => {
                let created = now - 8;
                let place = match outcome {
                    Outcome::StoredBackups => Some(self.place),
                    Outcome::Elsewhere => Some(9),
                    // The record shows the one before.
                    Outcome::Lost => None,
                };
                if let Some(place) = place {
                    self.store.push(Held {
                        created,
                        ended: now - 4,
                        place,
                    });
                    self.record = Some(created);
                    self.is_polled = false;
                }
            }
            Happening::Clean => {
                let place = self.place;
                self.store.retain(|held| held.place != place);
            }
            Happening::LoseNewest => {
                let newest = self.newest(self.place).map(|held| held.created);
                self.store.retain(|held| Some(held.created) != newest);
            }
            Happening::Move(place) => {
                // A report that was not read before the policy moved counts for the new storage.
                if place != self.place && self.is_polled && now >= self.blind_until {
                    self.place = place;
                    self.next_run = now + HOUR;
                    self.pending = None;
                }
            }
            Happening::Restart => *known = known.restarted(now),
            Happening::Blind(minutes) => self.blind_until = now + 60 * i64::from(minutes),
            Happening::List(polls) => {
                let contents = self.store.iter().filter(|held| held.place == self.place);
                let contents = contents.cloned().collect();
                self.pending = Some((now, self.place, contents, polls));
            }
        }
    }

    fn poll(&mut self, now: i64, known: &mut Known) {
        *known = known.moved_to(now, u32::try_from(self.place).unwrap() + 1);
        if now >= self.blind_until {
            if let Some(taken) = self.record {
                self.first_read[1].entry(taken).or_insert(now);
                *known = known.record(now, taken);
            }
            if let Some(ended) = self.report {
                self.first_read[0].entry(ended).or_insert(now);
                *known = known.ok(now, ended);
            }
            self.is_polled = true;
        }
        match self.pending.take() {
            Some((at, place, contents, 0)) => {
                let newest = contents.iter().max_by_key(|held| held.created);
                let items = newest.map(|held| backup(held.created));
                *known = known.list(at, items.into_iter().collect());
                self.answered = Some((at, place, contents));
            }
            Some((at, place, contents, polls)) => {
                self.pending = Some((at, place, contents, polls - 1));
            }
            None => {}
        }
    }

    /// Whether the last list, which was read long enough after this success was first seen, held it
    /// or a newer one.
    fn allows(&self, success: &RecoveryPoint) -> bool {
        let Some((requested, place, contents)) = &self.answered else {
            return true;
        };
        let second = (success.at - at(0)).num_seconds();
        let place = u32::try_from(*place).unwrap() + 1;
        if success.storage != Some(place) {
            return true;
        }
        let (first_read, holds): (_, &dyn Fn(&Held) -> bool) = match success.source {
            SuccessSource::List => (None, &|held| held.created >= second),
            SuccessSource::Periodic => (Some(&self.first_read[0]), &|held| held.ended >= second),
            SuccessSource::Requested => (Some(&self.first_read[1]), &|held| held.created >= second),
        };
        let is_late = first_read.is_none_or(|read| read[&second] + 60 <= *requested);
        !is_late || contents.iter().any(holds)
    }

    /// Whether what the last list showed counts.
    fn is_believed(&self, known: &Known) -> bool {
        let Some((_, _, contents)) = &self.answered else {
            return true;
        };
        let newest = contents.iter().map(|held| held.created).max();
        newest.is_none_or(|newest| known.last() >= Some(newest))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_success_is_believed_that_a_list_did_not_hold_and_none_that_it_held_is_refuted(
        minutes in prop::collection::vec((happening(), outcome()), 60..300),
    ) {
        let mut known = Known::new();
        let mut world = World::default();
        for (minute, (happening, of_run)) in (1..).zip(minutes) {
            let now = 60 * minute;
            world.run(now, of_run);
            world.happen(now, happening, &mut known);
            let was_answered = world.answered.as_ref().map(|(requested, ..)| *requested);
            world.poll(now, &mut known);
            if let Some(success) = &known.0.partitions[&ID].last_success {
                prop_assert!(world.allows(success), "{now}: {success:?}");
            }
            let answered = world.answered.as_ref().map(|(requested, ..)| *requested);
            if answered != was_answered {
                prop_assert!(world.is_believed(&known), "{now}: {:?}", known.last());
            }
            // A periodic backup that lies in the store of its policy is not doubted once listed.
            let claim = known.successes().periodic.as_ref();
            if let (Some(claim), true) = (claim, answered != was_answered) {
                let (_, place, contents) = world.answered.as_ref().unwrap();
                let ended = (claim.point.at - at(0)).num_seconds();
                let is_here = claim.point.storage == Some(u32::try_from(*place).unwrap() + 1);
                if is_here && contents.iter().any(|held| held.ended == ended) {
                    prop_assert_eq!(claim.status, ClaimStatus::Confirmed);
                }
            }
        }
    }
}

/// What [`Known::with`] knows of two blob policies, read from the answers of single partitions: the
/// application cannot answer.
fn read_partition_by_partition() -> Known {
    let names = ["Hourly", "Other"];
    let policies = [1, 2].map(|place| {
        let name = names[usize::from(place == 2)];
        policy(name, "AzureBlobStore", place, hourly())
    });
    let partition = |id, service: &str| Partition {
        id,
        application: Some(SHOP.into()),
        service: Some(service.into()),
        kind: None,
        data_loss_time: None,
    };
    let second = PartitionId(Uuid::from_u128(2));
    let applied = |id, name: &str| {
        let policy = Some((name.into(), ConfigurationScope::Service));
        let value = PartitionObservation::Configuration(Arc::new(EffectiveConfiguration {
            policy,
            suspended: None,
        }));
        (id, Read { value, at: at(0) })
    };
    let listed = vec![
        partition(ID, "fabric:/Shop/Orders"),
        partition(second, "fabric:/Shop/Other"),
    ];
    let unread = Vec::new();
    let observations = Observations {
        inventory: Some(Read {
            value: Inventory { listed, unread },
            at: at(0),
        }),
        partitions: vec![applied(ID, names[0]), applied(second, names[1])],
        ..Observations::default()
    };
    let empty = Known(Snapshot::empty("prod".into()));
    empty
        .take(0, observations)
        .policies(0, policies.into_iter().collect())
}

#[test]
fn a_list_read_while_one_node_is_behind_ends_nothing() {
    let open = Known::new().skewed(50, 0).ok(60, 30);
    let confirmed = open.list(300, vec![backup(10)]);
    for known in [open, confirmed] {
        let behind = known.skewed(600, -1_200).list(600, vec![backup(10)]);
        let agreed = behind.skewed(660, 0).ok(660, 30);
        assert_eq!(agreed.last(), Some(30));
        assert_eq!(agreed.refuted(), [0, 0]);
    }
}

#[test]
fn a_listed_backup_without_a_time_ends_nothing() {
    let undated = ListedBackup {
        created: None,
        ..backup(10)
    };
    let known = Known::new().ok(60, 30).list(300, vec![undated]);
    assert_eq!(known.last(), Some(30));
    assert_eq!(known.refuted(), [0, 0]);
}

#[test]
fn two_blob_policies_that_only_partitions_show_may_lack_a_storage() {
    let known = read_partition_by_partition().ok(60, 30);
    assert_eq!(known.list(300, Vec::new()).last(), Some(30));
    assert_eq!(known.0.listable_one_by_one(&SHOP.into()).len(), 2);
}

#[test]
fn a_policy_that_cannot_be_decoded_may_have_another_storage() {
    let own = policy("Hourly", "AzureBlobStore", 1, hourly());
    let other = policy("Other", "AzureBlobStore", 2, hourly());
    let known = Known::with(vec![own.clone(), other]).policies(10, vec![own]);
    assert_eq!(known.ok(60, 30).list(300, Vec::new()).last(), Some(30));
}

#[test]
fn one_answer_of_a_node_that_is_behind_forgets_nothing() {
    let known = Known::new()
        .skewed(50, 0)
        .list(300, vec![backup(10)])
        .record(400, 20);
    let cycle = |known: &Known, second: i64, skew: i64| {
        let cluster = ClusterObservation {
            up: true,
            ..ClusterObservation::default()
        };
        let observations = Observations {
            clock_skew: Some(TimeDelta::seconds(skew)),
            cluster: Some(cluster),
            ..Observations::default()
        };
        known.take(second, observations)
    };
    let agreed = cycle(&cycle(&known, 600, -1_200), 660, 0);
    assert_eq!(agreed.last(), known.last());
}

#[test]
fn a_refuted_record_does_not_count_again_after_a_wrong_clock() {
    let known = Known::new()
        .ok(60, 30)
        .list(300, vec![backup(10)])
        .record(7_200, 7_190)
        .list(7_300, vec![backup(10)]);
    assert_eq!(known.last(), Some(30));
    let behind = known.skewed(7_400, -7_200).ok(7_400, 30);
    let agreed = behind.skewed(7_460, 0).record(7_460, 7_190);
    assert_eq!(agreed.last(), Some(30));
}

#[test]
fn a_claim_at_the_end_of_the_calendar_is_judged() {
    let daily = Schedule::Daily(vec!["02:00:00".parse().unwrap()]);
    let mut known = Known::with(vec![policy("Hourly", "FileShare", 1, daily)]);
    let point = RecoveryPoint {
        source: SuccessSource::Periodic,
        at: DateTime::<Utc>::MAX_UTC,
        backup_id: None,
        lsn: None,
        data_loss_version: None,
        storage: None,
    };
    let partition = known.0.partitions.get_mut(&ID).unwrap();
    partition.successes.periodic = Some(Arc::new(Claim::new(point, at(0))));
    assert_eq!(known.list(300, vec![backup(10)]).last(), Some(10));
}

#[test]
fn the_first_attempt_since_the_schedule_restarted_is_kept() {
    let first = |known: &Known| known.0.partitions[&ID].first_attempt;
    let known = Known::new().attempt(600, 500, false).ok(4_200, 4_100);
    assert_eq!(first(&known), Some(at(500)));
    let without_report = PartitionObservation::Health(BackupHealth::default());
    let known = known.reading(5_000, without_report);
    let known = known.ok(9_000, 8_900).ok(12_600, 12_500);
    assert_eq!(first(&known), Some(at(8_900)));
}
