//! The table of disturbances: what can go wrong, how often, and for how long.
//!
//! Responsible for the rates, and for nothing else: `trouble` lets them strike. The document on
//! accuracy prints this table.

/// A kind of disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    StorageFails,
    TimersDie,
    Suspension,
    PolicyChange,
    StorageMove,
    KeyRotation,
    OwnPolicy,
    PrimaryMove,
    Restore,
    PartitionCreated,
    PartitionDeleted,
    ServiceCreated,
    ServiceDeleted,
    Request,
    RequestFails,
    RequestTimesOut,
    RequestHangs,
    RequesterStops,
    Unrestorable,
    ServiceAway,
    GatewayAway,
    GatewaySlow,
    HealthAway,
    HealthLate,
    ClockJump,
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
pub(crate) const RATES: [Rate; 26] = [
    rate(
        Kind::StorageFails,
        40.0,
        "the storage of a policy refuses backups and lists for 3 minutes to 3 days: retries are exhausted after about 6",
    ),
    rate(
        Kind::TimersDie,
        3.0,
        "the timers of a partition, an application or all die without a word; 2 hours to 5 days later somebody suspends and resumes",
    ),
    rate(
        Kind::Suspension,
        27.0,
        "an application, a service or a partition is suspended for 5 minutes to 7 days, then resumed",
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
        "whatever requests backups where no policy applies stops for 1 hour to 5 days",
    ),
    rate(
        Kind::Unrestorable,
        18.0,
        "a backup with -1 for its numbers shows up in a list",
    ),
    rate(
        Kind::ServiceAway,
        9.0,
        "the backup service is away for 1 minute to 4 hours: empty 404 or 504",
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
        "the health store alone is away for 2 minutes to 3 hours",
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
        Kind::Restart,
        16.0,
        "the exporter is down for 1 to 15 minutes; in a quarter of the clusters it has no state file",
    ),
];
