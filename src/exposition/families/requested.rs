//! Families of the last requested backup: what `GetBackupProgress` tells.

use std::fmt;

use super::{NONE, of_service, seconds};
use crate::exposition::family::{Family, Kind, Source};
use crate::exposition::samples::{Labels, Samples};
use crate::exposition::view::{ClusterAt, PartitionView};
use crate::model::{BackupState, Epoch};
use crate::snapshot::{BackupOutcome, ServiceTotals};

/// In the order of the page.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "servicefabric_backup_progress_state",
        kind: Kind::Gauge,
        labels: &[
            "cluster_name",
            "application_name",
            "service_name",
            "partition_id",
            "state",
        ],
        help: "State of the last requested backup, as of the last poll: 1 for the state it is in; periodic backups never show here",
        source: Source::State(&STATES, |p| Some(p.progress()?.state.as_str())),
    },
    Family::partition(
        "servicefabric_backup_progress_state_since_timestamp_seconds",
        "When this exporter first saw the record of the last requested backup in its state",
        |p| {
            seconds(
                p.progress()
                    .and(p.known.progress_history.as_deref())?
                    .since()?,
            )
        },
    ),
    Family::partition(
        "servicefabric_backup_progress_timestamp_seconds",
        "Time of the last requested backup (TimeStampUtc), while the cluster tells one: only in state Success",
        |p| seconds(p.progress()?.timestamp?),
    ),
    Family::age(
        "servicefabric_backup_progress_age_seconds",
        "Seconds since the time of the last requested backup (TimeStampUtc), at the scrape",
        |p| p.progress()?.timestamp,
    ),
    Family::partition(
        "servicefabric_backup_progress_lsn",
        "Log sequence number of the last record in the last requested backup, if it is a Success",
        |p| i64::try_from(p.progress()?.lsn?).ok(),
    ),
    Family::partition(
        "servicefabric_backup_progress_configuration_version",
        "Configuration version in the epoch of the last record in the last requested backup",
        |p| i64::try_from(epoch(p)?.configuration_version?).ok(),
    ),
    Family::partition(
        "servicefabric_backup_progress_data_loss_timestamp_seconds",
        "Data loss version in the epoch of the last record in the last requested backup, as the time it stands for: the last data loss or the creation of the partition",
        |p| seconds(epoch(p)?.data_loss_time()?),
    ),
    Family {
        name: "servicefabric_backup_progress_failure",
        kind: Kind::Gauge,
        labels: &[
            "cluster_name",
            "application_name",
            "service_name",
            "partition_id",
            "code",
        ],
        help: "1 while the record of the last requested backup carries a failure, by its code",
        source: Source::Labelled(|p| {
            let failure = p.progress()?.failure.as_ref()?;
            Some([("code", Some(failure.code.as_str())), NONE, NONE])
        }),
    },
    Family::partition(
        "servicefabric_backup_progress_failure_observed",
        "1 if this exporter saw the last requested backup end in Failure or Timeout, 0 if that was so when it first looked; absent in other states",
        failure_observed,
    ),
    Family {
        name: "servicefabric_backup_observed_completions_total",
        kind: Kind::Counter,
        labels: &[
            "cluster_name",
            "application_name",
            "service_name",
            "outcome",
        ],
        help: "Distinct requested backups that this exporter saw end, by outcome; those between two polls may be missed",
        source: Source::Cluster(completions),
    },
    Family {
        name: "servicefabric_backup_observed_failures_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "application_name", "service_name", "code"],
        help: "Distinct requested backups that this exporter saw fail or time out, by failure code; a new code stays at 0 for two minutes, so that increase() includes its first failure",
        source: Source::Cluster(failures),
    },
];

/// The states of a requested backup, as label values.
const STATES: [&str; BackupState::ALL.len()] = words!(BackupState);

/// A failure that was there at the first look may be years old: a page about it would be false.
fn failure_observed(partition: &PartitionView<'_>) -> Option<i64> {
    let record = partition.progress()?;
    let seen = partition.known.progress_history.as_deref()?;
    record
        .state
        .is_failure()
        .then(|| i64::from(!seen.is_baseline))
}

fn epoch(partition: &PartitionView<'_>) -> Option<Epoch> {
    partition.progress()?.epoch
}

fn completions(
    cluster: &ClusterAt<'_>,
    labels: &Labels<'_>,
    samples: &mut Samples<'_>,
) -> fmt::Result {
    for (key, totals) in &cluster.view.snapshot.totals {
        for outcome in BackupOutcome::ALL {
            let labels = of_service(labels, key).with("outcome", Some(outcome.as_str()));
            samples.write(&labels, totals.completions(outcome).into())?;
        }
    }
    Ok(())
}

fn failures(
    cluster: &ClusterAt<'_>,
    labels: &Labels<'_>,
    samples: &mut Samples<'_>,
) -> fmt::Result {
    for (key, ServiceTotals { failures, .. }) in &cluster.view.snapshot.totals {
        for (code, count) in failures {
            let labels = of_service(labels, key).with("code", Some(code.as_str()));
            samples.write(&labels, cluster.failures(key, code, *count).into())?;
        }
    }
    Ok(())
}
