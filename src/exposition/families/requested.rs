//! Families of the last requested backup, from `GetBackupProgress`.

use std::fmt;

use super::common::{NONE, of_service, seconds};
use crate::cluster_view::{ClusterView, PartitionView};
use crate::exposition::family::{Family, SampleSource};
use crate::exposition::samples::{Kind, Labels, Samples};
use crate::model::{BackupState, Epoch};
use crate::snapshot::{BackupOutcome, ServiceTotals};

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
        help: "State of the last requested backup in the last poll: 1 for the current state; does not include periodic backups",
        source: SampleSource::State(&STATES, |p| Some(p.progress()?.state.as_str())),
    },
    Family::partition(
        "servicefabric_backup_progress_state_since_timestamp_seconds",
        "Time since which this exporter has seen the last requested backup in its current state",
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
        "Time of the last requested backup (TimeStampUtc); only in state Success",
        |p| seconds(p.progress()?.timestamp?),
    ),
    Family::age(
        "servicefabric_backup_progress_age_seconds",
        "Age of the last requested backup (TimeStampUtc) at the scrape",
        |p| p.progress()?.timestamp,
    ),
    Family::partition(
        "servicefabric_backup_progress_lsn",
        "Log sequence number of the last record in the last requested backup; only in state Success",
        |p| i64::try_from(p.progress()?.lsn?).ok(),
    ),
    Family::partition(
        "servicefabric_backup_progress_configuration_version",
        "Configuration version in the epoch of the last record in the last requested backup",
        |p| i64::try_from(epoch(p)?.configuration_version?).ok(),
    ),
    Family::partition(
        "servicefabric_backup_progress_data_loss_timestamp_seconds",
        "Time of the last data loss or of the creation of the partition, from the data loss version in the epoch of the last requested backup",
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
        help: "1 while the record of the last requested backup contains a failure, by failure code",
        source: SampleSource::Labelled(|p| {
            let failure = p.progress()?.failure.as_ref()?;
            Some([("code", Some(failure.code.as_str())), NONE, NONE])
        }),
    },
    Family::partition(
        "servicefabric_backup_progress_failure_observed",
        "1 if the last requested backup ended in Failure or Timeout while this exporter watched it, 0 if it had ended before; absent in other states",
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
        help: "Total requested backups that this exporter saw end, by outcome; can miss backups between two polls",
        source: SampleSource::Cluster(completions),
    },
    Family {
        name: "servicefabric_backup_observed_failures_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "application_name", "service_name", "code"],
        help: "Total requested backups that this exporter saw fail or time out, by failure code; a new code is 0 for two minutes, so that increase() includes its first failure",
        source: SampleSource::Cluster(failures),
    },
];

const STATES: [&str; BackupState::ALL.len()] = label_values!(BackupState);

/// A failure that precedes the first read may be years old and must not page anyone.
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
    cluster: &ClusterView,
    labels: &Labels<'_>,
    samples: &mut Samples<'_>,
) -> fmt::Result {
    for (key, totals) in &cluster.snapshot.totals {
        for outcome in BackupOutcome::ALL {
            let labels = of_service(labels, key).with("outcome", Some(outcome.as_str()));
            samples.write(&labels, totals.completions(outcome).into())?;
        }
    }
    Ok(())
}

fn failures(cluster: &ClusterView, labels: &Labels<'_>, samples: &mut Samples<'_>) -> fmt::Result {
    for (key, ServiceTotals { failures, .. }) in &cluster.snapshot.totals {
        for (code, count) in failures {
            let labels = of_service(labels, key).with("code", Some(code.as_str()));
            samples.write(&labels, cluster.failures(key, code, *count).into())?;
        }
    }
    Ok(())
}
