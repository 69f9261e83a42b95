//! When the next backup is due, from the bytes of a gateway to the verdict: jitter of runs by the
//! clock, schedules that restart, clocks that differ, and starts without memory.
//!
//! The gateway answers with canned bodies whose times are made relative to its own clock.

use std::sync::Arc;

use crate::support::canned::Canned;
use crate::support::watch::{RULES, Setup, Watch, partition};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use servicefabric_backup_exporter::clock;
use servicefabric_backup_exporter::protection::evidence::evidence;
use servicefabric_backup_exporter::protection::{Protection, Verdict, judge};
use servicefabric_backup_exporter::snapshot::Snapshot;
use servicefabric_backup_exporter::state_file::{self, StateFile};
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(0x000a_8d61_d3d8_4d4b_9d3f_0000_0000_0001);

/// `fabric:/Shop/Orders` with one partition, created ten days ago, under the policy `Policy` of its
/// application. It has never been backed up.
struct Shop(Canned);

impl Shop {
    async fn start() -> Self {
        let shop = Self(Canned::start().await);
        shop.put_json("$/GetClusterVersion", &json!({"Version": "10.1.2493.9590"}));
        let application = json!({"Id": "Shop", "Name": "fabric:/Shop", "Status": "Ready"});
        shop.put_items("Applications", &application);
        let service = json!({
            "ServiceKind": "Stateful",
            "Name": "fabric:/Shop/Orders",
            "HasPersistedState": true,
            "ServiceStatus": "Active",
        });
        shop.put_items("Applications/Shop/$/GetServices", &service);
        shop.set_data_loss(shop.ago(10 * 24 * 60));
        shop.set_policy(&json!({"ScheduleKind": "FrequencyBased", "Interval": "PT1H"}));
        shop.set_suspended(false);
        shop.put_json("Applications/Shop/$/GetBackups", &json!({"Items": []}));
        shop.put_json(&of_partition("GetBackupProgress"), &Value::Null);
        shop.put_json(&of_partition("GetRestoreProgress"), &Value::Null);
        shop.report(None);
        shop
    }

    fn put_json(&self, path: &str, body: &Value) {
        self.0.set(path, 200, body);
    }

    fn put_items(&self, path: &str, item: &Value) {
        let body = json!({"ContinuationToken": null, "Items": [item]});
        self.put_json(path, &body);
    }

    /// So many minutes ago, by the clock of the cluster.
    fn ago(&self, minutes: i64) -> DateTime<Utc> {
        self.0.now() - TimeDelta::minutes(minutes)
    }

    fn set_data_loss(&self, at: DateTime<Utc>) {
        let version = (at.timestamp() + 11_644_473_600) * 10_000_000;
        let item = json!({
            "ServiceKind": "Stateful",
            "PartitionInformation": {"ServicePartitionKind": "Singleton", "Id": ID},
            "PartitionStatus": "Ready",
            "PrimaryEpoch": {
                "ConfigurationVersion": "17179869184",
                "DataLossVersion": version.to_string(),
            },
        });
        self.put_items("Services/Shop/Orders/$/GetPartitions", &item);
    }

    fn set_policy(&self, schedule: &Value) {
        self.set_policy_with(schedule, &json!({"MaxIncrementalBackups": 3}));
    }

    /// The policy of the sample with another name, schedule and fields.
    fn set_policy_with(&self, schedule: &Value, fields: &Value) {
        let sample = include_str!("samples/daily-early.policy.json");
        let mut body: Value = serde_json::from_str(sample).unwrap();
        let policy = &mut body["Items"][0];
        policy["Name"] = "Policy".into();
        policy["Schedule"] = schedule.clone();
        for (key, value) in fields.as_object().unwrap() {
            policy[key] = value.clone();
        }
        self.put_json("BackupRestore/BackupPolicies", &body);
    }

    fn set_suspended(&self, suspended: bool) {
        let from = if suspended { "Application" } else { "Invalid" };
        let item = json!({
            "Kind": "Application",
            "PolicyName": "Policy",
            "PolicyInheritedFrom": "Application",
            "ApplicationName": "fabric:/Shop",
            "SuspensionInfo": {"IsSuspended": suspended, "SuspensionInheritedFrom": from},
        });
        self.put_items("Applications/Shop/$/GetBackupConfigurationInfo", &item);
    }

    /// The report of the last periodic attempt, with the words of the sample.
    fn report(&self, attempt: Option<(&str, DateTime<Utc>)>) {
        let sample = include_str!("samples/daily-early.health.json");
        let mut body: Value = serde_json::from_str(sample).unwrap();
        match attempt {
            None => body["HealthEvents"] = json!([]),
            Some((state, ended)) => {
                let event = &mut body["HealthEvents"][0];
                let time = ended.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
                event["HealthState"] = state.into();
                event["SourceUtcTimestamp"] = time.clone().into();
                event["LastModifiedUtcTimestamp"] = time.into();
            }
        }
        self.put_json(&of_partition("GetHealth"), &body);
    }

    fn request_succeeded(&self, at: DateTime<Utc>) {
        let body = json!({
            "BackupState": "Success",
            "TimeStampUtc": seconds(at),
            "BackupId": "8b8b9a5c-1a4f-4f4b-a6c4-9f3c7b0f4b11",
            "BackupLocation": "x.zip",
            "EpochOfLastBackupRecord": {
                "DataLossVersion": "131462452931584510",
                "ConfigurationVersion": "8589934592",
            },
            "LsnOfLastBackupRecord": 2050,
            "FailureError": null,
        });
        self.put_json(&of_partition("GetBackupProgress"), &body);
    }

    fn restored(&self, at: DateTime<Utc>) {
        let body = json!({
            "RestoreState": "Success",
            "TimeStampUtc": seconds(at),
            "RestoredEpoch": null,
            "RestoredLsn": 0,
        });
        self.put_json(&of_partition("GetRestoreProgress"), &body);
    }

    /// A process that has just started, without memory.
    fn watch(&self) -> Watch {
        Setup::default().watch_at(std::slice::from_ref(&self.0.url))
    }

    /// A process that has seen the partition protected for a day.
    async fn watch_for_a_day(&self) -> Watch {
        let mut before = (*self.watch().cycle().await).clone();
        let yesterday = clock::now() - TimeDelta::days(1);
        before.status.since = Some(yesterday);
        for known in before.partitions.values_mut() {
            known.known_since = yesterday;
            known.protected_since = Some(yesterday);
        }
        Setup::default().watch_endpoints(std::slice::from_ref(&self.0.url), &[], before)
    }
}

fn of_partition(operation: &str) -> String {
    format!("Partitions/{ID}/$/{operation}")
}

fn seconds(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn daily(run: DateTime<Utc>) -> Value {
    json!({
        "ScheduleKind": "TimeBased",
        "ScheduleFrequencyType": "Daily",
        "RunTimes": [run.format("0001-01-01T%H:%M:%SZ").to_string()],
    })
}

fn weekly(run: DateTime<Utc>) -> Value {
    let mut schedule = daily(run);
    schedule["ScheduleFrequencyType"] = "Weekly".into();
    schedule["RunDays"] = json!([run.format("%A").to_string()]);
    schedule
}

fn verdict(snapshot: &Arc<Snapshot>) -> Verdict {
    let facts = partition(snapshot, ID).facts(snapshot);
    judge(&facts, &RULES, clock::now())
}

fn state(snapshot: &Arc<Snapshot>) -> Protection {
    verdict(snapshot).state
}

/// What the evidence says about `fact`.
fn fact(snapshot: &Arc<Snapshot>, fact: &str) -> Option<String> {
    let facts = partition(snapshot, ID).facts(snapshot);
    let (now, verdict) = (clock::now(), verdict(snapshot));
    let rows = evidence(&facts, &RULES, &verdict, now);
    let row = rows.into_iter().find(|row| row.fact == fact).unwrap();
    row.value
}

#[tokio::test]
async fn a_run_that_starts_up_to_its_jitter_early_is_that_run() {
    let shop = Shop::start().await;
    let watch = shop.watch();
    let run = shop.ago(30);
    for (schedule, period) in [(daily(run), 1), (weekly(run), 7)] {
        shop.set_policy(&schedule);
        for jitter in [-60, -10, -3, -1, 0, 1, 10] {
            let ended = run + TimeDelta::seconds(jitter);
            shop.report(Some(("Ok", ended)));
            let snapshot = watch.cycle().await;
            assert_eq!(state(&snapshot), Protection::Protected, "{jitter} s");
            let due = verdict(&snapshot).due.unwrap();
            let expected = run + TimeDelta::days(period);
            assert!((due - expected).abs() < TimeDelta::seconds(1));
        }
    }
    // A new process, since a success never moves back.
    let watch = shop.watch();
    for jitter in [-10, -3, 0, 10] {
        let before = run - TimeDelta::days(7) + TimeDelta::seconds(jitter);
        shop.report(Some(("Ok", before)));
        let snapshot = watch.cycle().await;
        assert_eq!(state(&snapshot), Protection::Overdue, "the run was missed");
    }
}

#[tokio::test]
async fn a_restart_seen_shortly_before_a_run_does_not_make_that_run_late() {
    let shop = Shop::start().await;
    // The run was 20 minutes ago, and the policy was changed a minute before.
    let run = shop.ago(20);
    shop.set_policy(&daily(run));
    shop.report(Some(("Ok", run - TimeDelta::days(1))));
    let mut snapshot = shop.watch_for_a_day().await.cycle().await;
    assert_eq!(state(&snapshot), Protection::Overdue);
    for (minutes, expected) in [(1, Protection::Protected), (16, Protection::Overdue)] {
        let known = Arc::make_mut(&mut snapshot).partitions.values_mut().next();
        known.unwrap().changed_at = Some(run - TimeDelta::minutes(minutes));
        assert_eq!(state(&snapshot), expected);
    }
}

#[tokio::test]
async fn a_success_of_the_future_counts_only_within_the_clock_skew() {
    let shop = Shop::start().await;
    for minutes in [6, 50, 60, 600] {
        shop.report(Some(("Ok", shop.ago(-minutes))));
        let snapshot = shop.watch().cycle().await;
        assert_eq!(state(&snapshot), Protection::Unknown, "{minutes} min");
        assert_eq!(partition(&snapshot, ID).last_success, None);
    }
    shop.report(Some(("Ok", shop.ago(-4))));
    let snapshot = shop.watch().cycle().await;
    assert_eq!(state(&snapshot), Protection::Protected);
}

#[tokio::test]
async fn a_cluster_whose_clock_is_ahead_is_judged_right_in_the_first_cycle() {
    let shop = Shop::start().await;
    for skew in [-59, -20, 20, 59] {
        shop.0.set_skew(TimeDelta::minutes(skew));
        shop.report(Some(("Ok", shop.ago(1))));
        let snapshot = shop.watch().cycle().await;
        assert_eq!(state(&snapshot), Protection::Protected, "{skew} min");
        shop.report(Some(("Ok", shop.ago(76))));
        let snapshot = shop.watch().cycle().await;
        assert_eq!(state(&snapshot), Protection::Overdue, "{skew} min");
        // Dated ahead by its own clock, too.
        shop.report(Some(("Ok", shop.ago(-6))));
        let snapshot = shop.watch().cycle().await;
        assert_eq!(partition(&snapshot, ID).last_success, None, "{skew} min");
    }
}

#[tokio::test]
async fn a_success_of_the_future_in_the_state_file_does_not_count() {
    let shop = Shop::start().await;
    // Read while the clock of the cluster was 50 minutes ahead.
    shop.0.set_skew(TimeDelta::minutes(50));
    shop.report(Some(("Ok", shop.ago(1))));
    let before = shop.watch().cycle().await;
    assert_eq!(state(&before), Protection::Protected);
    shop.0.set_skew(TimeDelta::zero());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut file = StateFile::new(path.clone());
    file.save(&[before]).unwrap();
    let mut loaded = state_file::load(&path, clock::now()).unwrap();
    let loaded = loaded.clusters.remove("test").unwrap();
    shop.report(Some(("Ok", shop.ago(80))));
    let watch = Setup::default().watch_endpoints(std::slice::from_ref(&shop.0.url), &[], loaded);
    let snapshot = watch.cycle().await;
    assert_eq!(state(&snapshot), Protection::Overdue);
    let kept = partition(&snapshot, ID).last_success.as_ref().unwrap();
    assert!(kept.at < clock::now(), "replaced for good");
}

#[tokio::test]
async fn clocks_that_are_hours_apart_make_every_verdict_on_time_unknown() {
    let shop = Shop::start().await;
    for skew in [-180, -62, 62, 180] {
        shop.0.set_skew(TimeDelta::minutes(skew));
        for age in [1, 30, 76, 200] {
            shop.report(Some(("Ok", shop.ago(age))));
            let watch = shop.watch();
            let snapshot = watch.cycle().await;
            assert_eq!(state(&snapshot), Protection::Unknown, "{skew} {age}");
            let reason = fact(&snapshot, "clock skew").unwrap();
            assert!(reason.contains("too large"), "{reason}");
            let page = watch.page();
            let shown = page.all("servicefabric_backup_gateway_clock_skew_seconds", &[]);
            let shown = shown.first().unwrap().value;
            let minutes = f64::from(i32::try_from(skew).unwrap());
            assert!((shown - minutes * 60.0).abs() < 60.0, "{shown}");
        }
        shop.set_suspended(true);
        let snapshot = shop.watch().cycle().await;
        assert_eq!(state(&snapshot), Protection::Suspended);
        shop.set_suspended(false);
    }
}

#[tokio::test]
async fn a_report_that_vanishes_between_two_polls_restarts_the_schedule() {
    let shop = Shop::start().await;
    let ended = shop.ago(80);
    shop.report(Some(("Ok", ended)));
    let watch = shop.watch_for_a_day().await;
    assert_eq!(state(&watch.cycle().await), Protection::Overdue);
    // Suspended and resumed since: the configuration is the same again.
    shop.report(None);
    let snapshot = watch.cycle().await;
    assert_eq!(state(&snapshot), Protection::Protected);
    let changed_at = partition(&snapshot, ID).changed_at.unwrap();
    let due = verdict(&snapshot).due;
    assert_eq!(due, Some(changed_at + TimeDelta::hours(1)));
    // The same report comes back and vanishes again: that hides no breach for longer.
    shop.report(Some(("Ok", ended)));
    watch.cycle().await;
    shop.report(None);
    let snapshot = watch.cycle().await;
    assert_eq!(verdict(&snapshot).due, due);
}

#[tokio::test]
async fn a_restore_and_a_data_loss_restart_the_schedule() {
    for seen_by in ["record", "data loss version"] {
        let shop = Shop::start().await;
        shop.report(Some(("Ok", shop.ago(80))));
        let watch = shop.watch_for_a_day().await;
        assert_eq!(state(&watch.cycle().await), Protection::Overdue);
        let at = |minutes| match seen_by {
            "record" => shop.restored(shop.ago(minutes)),
            _ => shop.set_data_loss(shop.ago(minutes)),
        };
        at(10);
        let snapshot = watch.cycle().await;
        assert_eq!(state(&snapshot), Protection::Protected, "{seen_by}");
        let due = verdict(&snapshot).due.unwrap();
        assert!((due - shop.ago(-50)).abs() < TimeDelta::minutes(1));
        // Long ago, and to come.
        for minutes in [77, -30] {
            at(minutes);
            let snapshot = watch.cycle().await;
            assert_eq!(state(&snapshot), Protection::Overdue, "{seen_by}");
        }
    }
}

#[tokio::test]
async fn a_failed_attempt_of_the_schedule_before_a_restart_is_not_the_last_attempt() {
    let shop = Shop::start().await;
    let hourly = json!({"ScheduleKind": "FrequencyBased", "Interval": "PT1H"});
    shop.request_succeeded(shop.ago(30));
    shop.report(Some(("Warning", shop.ago(10))));
    let watch = shop.watch_for_a_day().await;
    assert_eq!(state(&watch.cycle().await), Protection::Failing);
    shop.set_policy_with(&hourly, &json!({"MaxIncrementalBackups": 5}));
    assert_eq!(state(&watch.cycle().await), Protection::Protected);
    shop.report(Some(("Warning", shop.ago(0))));
    assert_eq!(state(&watch.cycle().await), Protection::Failing);
}

#[tokio::test]
async fn the_failure_of_a_backup_that_a_suspension_discarded_is_not_the_last_attempt() {
    let shop = Shop::start().await;
    shop.report(Some(("Ok", shop.ago(30))));
    let watch = shop.watch_for_a_day().await;
    watch.cycle().await;
    shop.set_suspended(true);
    shop.report(None);
    assert_eq!(state(&watch.cycle().await), Protection::Suspended);
    // It was in flight, and reports when its upload has ended.
    shop.report(Some(("Warning", shop.ago(0))));
    assert_eq!(state(&watch.cycle().await), Protection::Suspended);
    shop.set_suspended(false);
    assert_eq!(state(&watch.cycle().await), Protection::Protected);
    let attempt = fact(&watch.snapshot(), "last periodic attempt").unwrap();
    assert!(
        attempt.ends_with("before the schedule restarted"),
        "{attempt}"
    );
}

#[tokio::test]
async fn a_restart_that_shows_nowhere_is_named_as_a_possible_cause() {
    let shop = Shop::start().await;
    let cause = async |state, minutes| {
        shop.report(Some((state, shop.ago(minutes))));
        fact(&shop.watch().cycle().await, "possible cause")
    };
    assert_eq!(cause("Ok", 74).await, None);
    let text = cause("Ok", 76).await.unwrap();
    assert!(text.contains("secret-encryption certificate"), "{text}");
    assert!(cause("Ok", 119).await.is_some());
    assert_eq!(cause("Ok", 121).await, None);
    assert_eq!(cause("Warning", 76).await, None);
}

#[tokio::test]
async fn restarts_of_the_exporter_keep_no_old_partition_pending() {
    let shop = Shop::start().await;
    for minutes in [76, 24 * 60, 10 * 24 * 60] {
        shop.set_data_loss(shop.ago(minutes));
        for _ in 0..3 {
            let snapshot = shop.watch().cycle().await;
            assert_eq!(state(&snapshot), Protection::Unknown, "{minutes} min");
        }
    }
    shop.set_data_loss(shop.ago(70));
    assert_eq!(state(&shop.watch().cycle().await), Protection::Pending);
    // A process that has seen all of it knows.
    shop.set_data_loss(shop.ago(24 * 60));
    let snapshot = shop.watch_for_a_day().await.cycle().await;
    assert_eq!(state(&snapshot), Protection::NeverBackedUp);
}
