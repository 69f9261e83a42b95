//! The table of disturbances: what can go wrong, how often, and for how long.
//!
//! Responsible for the rates: `trouble` lets them strike. The document on accuracy prints this
//! table.

use std::time::Duration;

/// A duration in milliseconds, drawn so that each order of magnitude is as likely as the next.
pub(crate) fn lasting(rng: &mut fastrand::Rng, low: i64, high: i64) -> i64 {
    let seconds = |time: i64| Duration::from_millis(time.unsigned_abs()).as_secs_f64();
    let (low, high) = (seconds(low), seconds(high));
    millis(low * (high / low).powf(rng.f64()))
}

/// Seconds in milliseconds.
pub(crate) fn millis(seconds: f64) -> i64 {
    i64::try_from(Duration::from_secs_f64(seconds).as_millis()).unwrap_or(i64::MAX)
}

/// A kind of disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    StorageFails,
    UploadsRefused,
    TimersDie,
    Suspension,
    SuspensionLeft,
    CleanBackup,
    PolicyChange,
    StorageMove,
    KeyRotation,
    CertificateChange,
    OwnPolicy,
    PrimaryMove,
    PrimaryCloses,
    BackupDiscarded,
    Restore,
    PartitionCreated,
    PartitionDeleted,
    ServiceCreated,
    ServiceDeleted,
    ServiceRecreated,
    Request,
    RequestFails,
    RequestTimesOut,
    RequestHangs,
    RequesterStops,
    Unrestorable,
    ServiceFailsOver,
    Malformed,
    ServiceAway,
    GatewayAway,
    GatewaySlow,
    HealthAway,
    HealthLate,
    ClockJump,
    ClockOffByHours,
    Restart,
}

/// A row of the table of disturbances.
pub(crate) struct Rate {
    pub(crate) kind: Kind,
    /// How often in ninety days, in a cluster of 125 partitions.
    pub(crate) per_quarter: f64,
    /// What happens, and for how long.
    pub(crate) what: &'static str,
}

const fn rate(kind: Kind, per_quarter: f64, what: &'static str) -> Rate {
    Rate {
        kind,
        per_quarter,
        what,
    }
}

/// All disturbances. Durations are drawn so that each order of magnitude is as likely as the next.
pub(crate) const RATES: [Rate; 36] = [
    rate(
        Kind::StorageFails,
        40.0,
        "the storage of a policy refuses backups and lists for 3 minutes to 3 days: retries are exhausted after about 6",
    ),
    rate(
        Kind::UploadsRefused,
        15.0,
        "the storage of a policy refuses uploads for 30 minutes to 2 days, and can be listed: actor services report success",
    ),
    rate(
        Kind::TimersDie,
        3.0,
        "the timers of a partition, an application or the cluster stop silently; 2 hours to 5 days later operators suspend and resume",
    ),
    rate(
        Kind::Suspension,
        27.0,
        "an application, a service or a partition is suspended for 5 minutes to 7 days, then resumed",
    ),
    rate(
        Kind::SuspensionLeft,
        6.0,
        "something is suspended, then disabled, and enabled again 2 hours to 2 days later; the suspension stays until 1 hour to 2 days after that",
    ),
    rate(
        Kind::CleanBackup,
        8.0,
        "something is disabled with `CleanBackup`, and enabled again 1 minute to 12 hours later",
    ),
    rate(
        Kind::PolicyChange,
        6.0,
        "a policy gets another schedule, or another number of increments",
    ),
    rate(
        Kind::StorageMove,
        3.0,
        "a policy moves to another container; what was listed is out of sight",
    ),
    rate(
        Kind::KeyRotation,
        1.0,
        "the key of a storage is renewed, in a quarter of the clusters: an update that no answer shows",
    ),
    rate(
        Kind::CertificateChange,
        0.5,
        "the certificate that encrypts secrets changes: all schedules restart, and no answer shows it",
    ),
    rate(
        Kind::OwnPolicy,
        12.0,
        "a service or partition gets a policy of its own, and loses it 1 hour to 10 days later",
    ),
    rate(
        Kind::PrimaryMove,
        1500.0,
        "a primary moves, mostly in the middle of a backup",
    ),
    rate(
        Kind::PrimaryCloses,
        120.0,
        "a primary closes, mostly in the middle of a backup: during the snapshot the backup is cancelled and reports success",
    ),
    rate(
        Kind::BackupDiscarded,
        30.0,
        "a partition is suspended in the middle of a backup, which is discarded, and resumed 5 minutes to 6 hours later",
    ),
    rate(
        Kind::Restore,
        18.0,
        "a partition is restored to its newest backup",
    ),
    rate(Kind::PartitionCreated, 40.0, "a partition is created"),
    rate(Kind::PartitionDeleted, 40.0, "a partition is deleted"),
    rate(
        Kind::ServiceCreated,
        5.0,
        "a service of 1 to 5 partitions is created",
    ),
    rate(Kind::ServiceDeleted, 5.0, "a service is deleted"),
    rate(
        Kind::ServiceRecreated,
        3.0,
        "a service is deleted and created again: its former settings apply again",
    ),
    rate(Kind::Request, 250.0, "a backup is requested, and succeeds"),
    rate(
        Kind::RequestFails,
        90.0,
        "a backup is requested, and fails: the record of the success before is erased",
    ),
    rate(
        Kind::RequestTimesOut,
        27.0,
        "a backup is requested, hangs, and times out after 10 minutes",
    ),
    rate(
        Kind::RequestHangs,
        9.0,
        "a backup is requested, and hangs for 20 minutes to 6 hours",
    ),
    rate(
        Kind::RequesterStops,
        3.0,
        "the source of requests where no policy applies stops for 1 hour to 5 days",
    ),
    rate(
        Kind::Unrestorable,
        18.0,
        "a damaged backup is found in the storage (`ValidationResult`)",
    ),
    rate(
        Kind::ServiceFailsOver,
        4.0,
        "the backup service fails over: with 6.4, retention stops until a policy sets it anew",
    ),
    rate(
        Kind::Malformed,
        6.0,
        "for 10 minutes to 1 day policies and lists of backups hold an item that violates their schema",
    ),
    rate(
        Kind::ServiceAway,
        9.0,
        "the backup service is unavailable for 1 minute to 4 hours: empty 404 or 504",
    ),
    rate(
        Kind::GatewayAway,
        9.0,
        "no gateway answers for 1 minute to 2 hours",
    ),
    rate(
        Kind::GatewaySlow,
        9.0,
        "for 10 minutes to 6 hours cycles take three intervals, and every fifth request fails",
    ),
    rate(
        Kind::HealthAway,
        6.0,
        "the health store alone is unavailable for 2 minutes to 3 hours",
    ),
    rate(
        Kind::HealthLate,
        13.0,
        "for 10 minutes to 12 hours the health store answers what was 1 to 10 minutes ago",
    ),
    rate(
        Kind::ClockJump,
        2.0,
        "the exporter's clock is set: its difference to the cluster's becomes another one, up to 20 minutes",
    ),
    rate(
        Kind::ClockOffByHours,
        2.0,
        "the exporter's clock is off by 2 to 11 hours for 10 minutes to 4 hours",
    ),
    rate(
        Kind::Restart,
        16.0,
        "the exporter is down for 1 to 15 minutes; in a quarter of the clusters it has no state file",
    ),
];
