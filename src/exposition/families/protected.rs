//! Families of protection: policies, successes, due times, verdicts and restores.

use std::fmt;

use super::common::{of_service, seconds};
use crate::cluster_view::ClusterView;
use crate::exposition::family::{Family, PARTITION, SampleSource};
use crate::exposition::samples::{Kind, Labels, Samples, Value};
use crate::model::{Collector, ConfigurationScope, PartitionKind, RestoreState, Schedule};
use crate::protection::ProtectionState;

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
        help: "A watched partition, its kind and its effective policy",
        source: SampleSource::Labelled(|p| {
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
        help: "Protection state of the partition, based on data no older than `staleness`: 1 for the current state",
        source: SampleSource::VerdictState(&STATES, |verdict| verdict.state.as_str()),
    },
    Family::verdict(
        "servicefabric_backup_protection_severity",
        "Severity of the protection state: 1 Protected, 2 Pending, 3 Failing, 4 Suspended, 5 Unprotected, 6 Stuck, 7 Overdue, 8 NeverBackedUp; absent while it is Unknown",
        |verdict| verdict.state.severity(),
    ),
    Family::partition(
        "servicefabric_backup_last_success_timestamp_seconds",
        "Time of the newest known recovery point from any source; kept across new requests, failures and restarts until a backup list contains neither it nor a newer one",
        |p| seconds(p.last_success()?.at),
    ),
    Family::partition(
        "servicefabric_backup_last_listed_timestamp_seconds",
        "Time of the newest restorable backup in the backup lists",
        |p| seconds(p.newest_listed()?.at),
    ),
    Family::cluster(
        "servicefabric_backup_unconfirmed_successes",
        "Number of partitions whose last success no backup list has confirmed",
        |cluster, labels, samples| {
            let count = cluster.snapshot.unconfirmed_successes() as u64;
            samples.write(labels, count.into())
        },
    ),
    Family {
        name: "servicefabric_backup_claims_refuted_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "application_name", "service_name", "source"],
        help: "Total successes in health reports and progress records that a backup list did not contain, by source",
        source: SampleSource::Cluster(refuted),
    },
    Family::partition(
        "servicefabric_backup_unrestorable_backups",
        "Number of backups in the last backup list that cannot be restored: the cluster reports a failure, validation failed or, with collector history, part of the chain is missing",
        |p| Some(p.unrestorable()?.into()),
    ),
    Family::age(
        "servicefabric_backup_last_success_age_seconds",
        "Age of the newest known recovery point at the scrape: the changes that a restore would lose",
        |p| Some(p.last_success()?.at),
    ),
    Family::partition(
        "servicefabric_backup_last_success_lsn",
        "Log sequence number of the last record in the newest known recovery point; absent until reported",
        |p| {
            p.last_success()?;
            i64::try_from(p.known.last_success_lsn()?).ok()
        },
    ),
    Family {
        name: "servicefabric_backup_lsn_advance_total",
        kind: Kind::Counter,
        labels: PARTITION,
        help: "Total log records newly covered by successful backups, summed within each data loss epoch",
        source: SampleSource::Partition(|p| {
            p.known.newest_with_lsn.as_ref()?;
            i64::try_from(p.known.lsn_advance).ok()
        }),
    },
    Family::verdict(
        "servicefabric_backup_due_timestamp_seconds",
        "Time at which the next success is due under the schedule, without the allowance",
        |verdict| seconds(verdict.due?),
    ),
    Family::cluster(
        "servicefabric_backup_overdue_allowance_seconds",
        "Time after the due time until a backup counts as overdue",
        |cluster, labels, samples| {
            let allowance = cluster.settings.rules.overdue_allowance.num_seconds();
            samples.write(labels, Value::Integer(allowance))
        },
    ),
    Family::partition(
        "servicefabric_backup_periodic_success",
        "1 if the last periodic backup succeeded, 0 if it failed, from the health report of the replica",
        |p| Some(p.attempt()?.succeeded.into()),
    ),
    Family::partition(
        "servicefabric_backup_periodic_attempt_timestamp_seconds",
        "Time of the last periodic backup, successful or not",
        |p| seconds(p.attempt()?.ended),
    ),
    Family::partition(
        "servicefabric_backup_suspended",
        "1 if the protection of the partition is suspended, directly or through its service or application; absent without a policy",
        |p| {
            let applied = p.configuration()?;
            applied.policy.as_ref()?;
            Some(applied.suspended.is_some().into())
        },
    ),
    Family::partition(
        "servicefabric_backup_chain_length",
        "Number of restorable backups in the newest chain, including the full backup, in the last backup list (collector history)",
        |p| i64::try_from(p.history()?.chain_length?).ok(),
    ),
    Family::partition(
        "servicefabric_backup_last_full_timestamp_seconds",
        "Time of the newest restorable full backup in the last backup list (collector history)",
        |p| seconds(p.history()?.last_full?),
    ),
    Family::partition(
        "servicefabric_backup_oldest_recovery_point_timestamp_seconds",
        "Time of the oldest restorable backup in the last backup list (collector history)",
        |p| seconds(p.history()?.oldest?),
    ),
    Family::partition(
        "servicefabric_backup_recovery_points",
        "Number of restorable backups in the last backup list (collector history)",
        |p| i64::try_from(p.history()?.recovery_points).ok(),
    ),
    Family::partition(
        "servicefabric_backup_partition_data_loss_timestamp_seconds",
        "Time of the last data loss or of the creation of the partition; a restore counts as data loss",
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
        source: SampleSource::Cluster(policies),
    },
    Family::policy(
        "servicefabric_backup_policy_interval_seconds",
        "Longest time between two backups under the schedule of the policy",
        |policy| {
            let gap = policy.schedule.as_ref()?.longest_interval()?;
            Some(Value::from(gap.as_secs()))
        },
    ),
    Family::policy(
        "servicefabric_backup_policy_max_incrementals",
        "Maximum number of incremental backups between two full backups",
        |policy| Some(Value::Integer(policy.max_incrementals?.into())),
    ),
    Family::policy(
        "servicefabric_backup_policy_retention_seconds",
        "Retention time of backups under the policy",
        |policy| Some(Value::from(policy.retention?.duration.as_secs())),
    ),
    Family::policy(
        "servicefabric_backup_policy_minimum_backups",
        "Number of backups that the policy keeps regardless of age",
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
        help: "State of the last restore in the last poll: 1 for the current state",
        source: SampleSource::State(&RESTORE_STATES, |p| Some(p.restore()?.state.as_str())),
    },
    Family::partition(
        "servicefabric_backup_restore_timestamp_seconds",
        "Time of the last restore (TimeStampUtc); absent if the cluster does not report it",
        |p| seconds(p.restore()?.timestamp?),
    ),
];

const STATES: [&str; ProtectionState::ALL.len()] = label_values!(ProtectionState);

const RESTORE_STATES: [&str; RestoreState::ALL.len()] = label_values!(RestoreState);

fn refuted(cluster: &ClusterView, labels: &Labels<'_>, samples: &mut Samples<'_>) -> fmt::Result {
    for (key, totals) in &cluster.snapshot.totals {
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

fn policies(cluster: &ClusterView, labels: &Labels<'_>, samples: &mut Samples<'_>) -> fmt::Result {
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
