//! Families of protection: what is backed up by what, when the next backup is due, the verdict.

use std::fmt;

use super::{of_service, seconds};
use crate::exposition::family::{Family, Kind, PARTITION, Source};
use crate::exposition::samples::{Labels, Samples, Value};
use crate::exposition::view::ClusterAt;
use crate::model::{Collector, ConfigurationScope, PartitionKind, RestoreState, Schedule};
use crate::protection::ProtectionState;

/// In the order of the page.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "servicefabric_backup_partition_info",
        kind: Kind::Info,
        labels: &[
            "cluster_name",
            "application_name",
            "service_name",
            "partition_id",
            "partition_kind",
            "policy_name",
            "policy_inherited_from",
        ],
        help: "A known partition, what it is, and the policy that applies to it",
        source: Source::Labelled(|p| {
            let kind = p.known.partition.kind;
            let policy = p
                .known
                .configuration
                .as_ref()
                .and_then(|applied| applied.policy.as_ref());
            Some([
                ("partition_kind", kind.map(PartitionKind::as_str)),
                ("policy_name", policy.map(|(name, _)| &**name)),
                (
                    "policy_inherited_from",
                    policy.map(|(_, level)| ConfigurationScope::as_str(*level)),
                ),
            ])
        }),
    },
    Family {
        name: "servicefabric_backup_protection_state",
        kind: Kind::Gauge,
        labels: &[
            "cluster_name",
            "application_name",
            "service_name",
            "partition_id",
            "state",
        ],
        help: "Whether the partition is protected and its backup on time, by all that was read and is believed at the scrape: 1 for the state it is in",
        source: Source::State(&STATES, |p| Some(p.verdict().state.as_str())),
    },
    Family::partition(
        "servicefabric_backup_protection_severity",
        "How bad the verdict is: 1 Protected, 2 Pending, 3 Failing, 4 Suspended, 5 Unprotected, 6 Stuck, 7 Overdue, 8 NeverBackedUp; absent while it is Unknown",
        |p| p.verdict().state.severity(),
    ),
    Family::partition(
        "servicefabric_backup_last_success_timestamp_seconds",
        "Time of the newest backup known to be good, from whatever source; it stays through new requests, failures and restarts, until a list of the store shows neither it nor a newer one",
        |p| seconds(p.last_success()?.at),
    ),
    Family::partition(
        "servicefabric_backup_last_listed_timestamp_seconds",
        "Time of the newest restorable backup that a list of the store has shown",
        |p| seconds(p.newest_listed()?.at),
    ),
    Family::cluster(
        "servicefabric_backup_unconfirmed_successes",
        "Partitions whose last success no list of the store has confirmed",
        |cluster, labels, samples| {
            let count = cluster.view.snapshot.unconfirmed_successes() as u64;
            samples.write(labels, count.into())
        },
    ),
    Family {
        name: "servicefabric_backup_claims_refuted_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "application_name", "service_name", "source"],
        help: "Successes that health or the record of a requested backup reported and a list of the store did not hold, by source",
        source: Source::Cluster(refuted),
    },
    Family::partition(
        "servicefabric_backup_unrestorable_backups",
        "Backups in the last list of the store that cannot be restored: the cluster reports a failure for them, their validation failed or, with collector history, a part of their chain is missing",
        |p| Some(p.unrestorable()?.into()),
    ),
    Family::age(
        "servicefabric_backup_last_success_age_seconds",
        "Seconds since the newest backup known to be good, at the scrape: the data that a restore would lose",
        |p| Some(p.last_success()?.at),
    ),
    Family::partition(
        "servicefabric_backup_last_success_lsn",
        "Log sequence number of the last record in the newest backup known to be good, once it is told",
        |p| {
            p.last_success()?;
            i64::try_from(p.known.last_success_lsn()?).ok()
        },
    ),
    Family {
        name: "servicefabric_backup_lsn_advance_total",
        kind: Kind::Counter,
        labels: PARTITION,
        help: "Log records newly covered by successful backups, summed within each data loss epoch",
        source: Source::Partition(|p| {
            p.known.newest_with_lsn.as_ref()?;
            i64::try_from(p.known.lsn_advance).ok()
        }),
    },
    Family::partition(
        "servicefabric_backup_due_timestamp_seconds",
        "When the next success is due under the schedule, the allowance not included",
        |p| seconds(p.verdict().due?),
    ),
    Family::cluster(
        "servicefabric_backup_overdue_allowance_seconds",
        "Grace after the due moment before a backup counts as overdue",
        |cluster, labels, samples| {
            let allowance = cluster.view.rules.overdue_allowance.num_seconds();
            samples.write(labels, Value::Integer(allowance))
        },
    ),
    Family::partition(
        "servicefabric_backup_periodic_success",
        "1 if the last periodic backup succeeded, 0 if it failed, as the replica reported to the health store",
        |p| Some(p.attempt()?.succeeded.into()),
    ),
    Family::partition(
        "servicefabric_backup_periodic_attempt_timestamp_seconds",
        "When the last periodic backup ended, well or not",
        |p| seconds(p.attempt()?.ended),
    ),
    Family::partition(
        "servicefabric_backup_suspended",
        "1 if the protection of a protected partition is suspended, there or above",
        |p| {
            let applied = p.applied()?;
            applied.policy.as_ref()?;
            Some(applied.suspended.is_some().into())
        },
    ),
    Family::partition(
        "servicefabric_backup_chain_length",
        "Restorable backups in the newest chain, the full one included, as last listed (collector history)",
        |p| i64::try_from(p.history()?.chain_length?).ok(),
    ),
    Family::partition(
        "servicefabric_backup_last_full_timestamp_seconds",
        "Time of the newest restorable full backup, as last listed (collector history)",
        |p| seconds(p.history()?.last_full?),
    ),
    Family::partition(
        "servicefabric_backup_oldest_recovery_point_timestamp_seconds",
        "Time of the oldest restorable backup in the store, as last listed (collector history)",
        |p| seconds(p.history()?.oldest?),
    ),
    Family::partition(
        "servicefabric_backup_recovery_points",
        "Restorable backups in the store, as last listed (collector history)",
        |p| i64::try_from(p.history()?.recovery_points).ok(),
    ),
    Family::partition(
        "servicefabric_backup_partition_data_loss_timestamp_seconds",
        "When the partition last lost data, which a restore does on purpose, or was created",
        |p| seconds(p.data_loss()?),
    ),
    Family {
        name: "servicefabric_backup_policy_info",
        kind: Kind::Info,
        labels: &[
            "cluster_name",
            "policy_name",
            "schedule_kind",
            "storage_kind",
            "auto_restore",
        ],
        help: "A backup policy of the cluster",
        source: Source::Cluster(policies),
    },
    Family::policy(
        "servicefabric_backup_policy_interval_seconds",
        "Longest time between two backups that the schedule of the policy allows",
        |policy| {
            let gap = policy.schedule.as_ref()?.longest_interval()?;
            Some(Value::from(gap.as_secs()))
        },
    ),
    Family::policy(
        "servicefabric_backup_policy_max_incrementals",
        "Most incremental backups between two full ones",
        |policy| Some(Value::Integer(policy.max_incrementals?.into())),
    ),
    Family::policy(
        "servicefabric_backup_policy_retention_seconds",
        "How long the policy keeps backups",
        |policy| Some(Value::from(policy.retention?.duration.as_secs())),
    ),
    Family::policy(
        "servicefabric_backup_policy_minimum_backups",
        "How many backups the policy keeps however old they are",
        |policy| Some(Value::Integer(policy.retention?.minimum_backups?.into())),
    ),
    Family {
        name: "servicefabric_backup_restore_state",
        kind: Kind::Gauge,
        labels: &[
            "cluster_name",
            "application_name",
            "service_name",
            "partition_id",
            "state",
        ],
        help: "State of the last restore, as of the last poll: 1 for the state it is in",
        source: Source::State(&RESTORE_STATES, |p| Some(p.restore()?.state.as_str())),
    },
    Family::partition(
        "servicefabric_backup_restore_timestamp_seconds",
        "Time of the last restore (TimeStampUtc), while the cluster tells one",
        |p| seconds(p.restore()?.timestamp?),
    ),
];

/// The verdicts, as label values.
const STATES: [&str; ProtectionState::ALL.len()] = words!(ProtectionState);

/// The states of a restore, as label values.
const RESTORE_STATES: [&str; RestoreState::ALL.len()] = words!(RestoreState);

fn refuted(cluster: &ClusterAt<'_>, labels: &Labels<'_>, samples: &mut Samples<'_>) -> fmt::Result {
    for (key, totals) in &cluster.view.snapshot.totals {
        let of_sources = [
            (Collector::Health, totals.refuted_health),
            (Collector::Progress, totals.refuted_progress),
        ];
        for (source, count) in of_sources {
            let labels = of_service(labels, key).with("source", Some(source.as_str()));
            samples.write(&labels, count.into())?;
        }
    }
    Ok(())
}

fn policies(
    cluster: &ClusterAt<'_>,
    labels: &Labels<'_>,
    samples: &mut Samples<'_>,
) -> fmt::Result {
    for policy in cluster.policies() {
        let auto_restore = if policy.auto_restore { "true" } else { "false" };
        let labels = labels
            .with("policy_name", Some(&policy.name))
            .with(
                "schedule_kind",
                policy.schedule.as_ref().map(Schedule::kind),
            )
            .with("storage_kind", Some(policy.storage.as_str()))
            .with("auto_restore", Some(auto_restore));
        samples.write(&labels, Value::Integer(1))?;
    }
    Ok(())
}
