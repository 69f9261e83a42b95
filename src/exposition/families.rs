//! The catalogue: every family that `/metrics` can show, one row each, in the order of the page.
//!
//! A new metric is a new row. HELP, the reference in `docs/metrics.md` and the names that
//! dashboards and rules may use are checked against these rows.

use std::fmt;

use chrono::{DateTime, Utc};

use super::ClusterView;
use super::family::{Family, Kind, PARTITION, PartitionView, Source};
use super::samples::{Labels, Samples, Value};
use crate::model::{BackupState, Epoch, PartitionKind};
use crate::snapshot::{Outcome, ServiceKey, Totals};
use crate::telemetry::BuildInfo;

/// Every family.
pub const FAMILIES: &[Family] = &[
    // === The last requested backup ===
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
        |p| seconds(p.progress().and(p.known.seen.as_deref())?.since()?),
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
        |p| i64::try_from(p.success()?.lsn?).ok(),
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
            Some(("code", Some(failure.code.as_str())))
        }),
    },
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
        help: "Distinct requested backups that this exporter saw fail or time out, by failure code",
        source: Source::Cluster(failures),
    },
    // === What is protected ===
    Family {
        name: "servicefabric_backup_partition_info",
        kind: Kind::Info,
        labels: &[
            "cluster_name",
            "application_name",
            "service_name",
            "partition_id",
            "partition_kind",
        ],
        help: "A known partition and what it is",
        source: Source::Labelled(|p| {
            let kind = p.known.partition.kind;
            Some(("partition_kind", kind.map(PartitionKind::as_str)))
        }),
    },
    Family::partition(
        "servicefabric_backup_last_success_timestamp_seconds",
        "Time of the newest backup known to be good; it stays through new requests, failures and restarts",
        |p| seconds(p.known.last_success.as_ref()?.at),
    ),
    Family::age(
        "servicefabric_backup_last_success_age_seconds",
        "Seconds since the newest backup known to be good, at the scrape: the data that a restore would lose",
        |p| Some(p.known.last_success.as_ref()?.at),
    ),
    Family::partition(
        "servicefabric_backup_last_success_lsn",
        "Log sequence number of the last record in the newest backup known to be good",
        |p| i64::try_from(p.known.last_success.as_ref()?.lsn?).ok(),
    ),
    Family {
        name: "servicefabric_backup_lsn_advance_total",
        kind: Kind::Counter,
        labels: PARTITION,
        help: "Log records newly covered by successful backups, summed within each data loss epoch",
        source: Source::Partition(|p| {
            p.known.last_success.as_ref()?.lsn?;
            i64::try_from(p.known.lsn_advance).ok()
        }),
    },
    // === The exporter and its clusters ===
    Family::cluster(
        "servicefabric_backup_cluster_up",
        "1 if the last poll reached a gateway and was let in on a native route",
        |view, labels, samples| match view.snapshot.status.up {
            Some(up) => samples.write(labels, up.into()),
            None => Ok(()),
        },
    ),
    Family::cluster(
        "servicefabric_backup_service_up",
        "1 if the backup restore service answered in the last poll, 0 if it is absent, refuses the exporter or cannot be reached behind the gateway",
        |view, labels, samples| match view.snapshot.status.service_up {
            Some(up) => samples.write(labels, up.into()),
            None => Ok(()),
        },
    ),
    Family {
        name: "servicefabric_backup_cluster_info",
        kind: Kind::Info,
        labels: &["cluster_name", "version"],
        help: "Runtime version of the cluster",
        source: Source::Cluster(
            |view, labels, samples| match &view.snapshot.status.version {
                Some(version) => samples.write(&labels.with("version", Some(version)), true.into()),
                None => Ok(()),
            },
        ),
    },
    Family::cluster(
        "servicefabric_backup_partitions",
        "Partitions that are tracked",
        |view, labels, samples| {
            let count = view.snapshot.partitions.len() as u64;
            samples.write(labels, count.into())
        },
    ),
    Family::partition(
        "servicefabric_backup_partition_poll_timestamp_seconds",
        "When the backup progress of the partition was last read successfully",
        |p| seconds(p.known.read_at?),
    ),
    Family::collector(
        "servicefabric_backup_collector_success",
        "1 if every request of the collector succeeded in its last cycle",
        |status| Some(status.success.into()),
    ),
    Family::collector(
        "servicefabric_backup_collector_success_timestamp_seconds",
        "When the collector last succeeded",
        |status| Some(Value::Integer(seconds(status.succeeded_at?)?)),
    ),
    Family::collector(
        "servicefabric_backup_collector_duration_seconds",
        "How long the last cycle of the collector took, the time over which its requests are spread included",
        |status| Some(Value::Float(status.duration.as_secs_f64())),
    ),
    Family {
        name: "servicefabric_backup_collector_errors_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "collector", "reason"],
        help: "Requests of the collector that failed for good, by reason",
        source: Source::Telemetry(|telemetry| &telemetry.collector_errors),
    },
    Family {
        name: "servicefabric_backup_gateway_requests_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "route", "status"],
        help: "Requests sent to gateways, retries included, by HTTP status; none if no answer came",
        source: Source::Telemetry(|telemetry| &telemetry.gateway_requests),
    },
    Family {
        name: "servicefabric_backup_gateway_request_duration_seconds",
        kind: Kind::Histogram,
        labels: &["cluster_name", "route"],
        help: "How long requests to gateways took, retries counted one by one",
        source: Source::Telemetry(|telemetry| &telemetry.gateway_request_duration),
    },
    Family::cluster(
        "servicefabric_backup_gateway_clock_skew_seconds",
        "Clock of the gateway minus clock of the exporter, from the Date header of the last answer",
        |view, labels, samples| match view.snapshot.status.clock_skew {
            Some(skew) => {
                // Rounded up: the header carries whole seconds, cut down.
                let seconds = -(-skew.num_milliseconds()).div_euclid(1000);
                samples.write(labels, Value::Integer(seconds))
            }
            None => Ok(()),
        },
    ),
    Family {
        name: "servicefabric_backup_exporter_build_info",
        kind: Kind::Info,
        labels: &["version", "revision", "rustc"],
        help: "What this exporter was built from",
        source: Source::Process(|_, samples| {
            let build = BuildInfo::CURRENT;
            let labels = Labels::new(&[
                ("version", Some(build.version)),
                ("revision", Some(build.revision)),
                ("rustc", Some(build.rustc)),
            ]);
            samples.write(&labels, true.into())
        }),
    },
    Family::process(
        "servicefabric_backup_exporter_config_last_reload_successful",
        Kind::Gauge,
        "1 if the configuration could be used when it was last read",
        |process| Some(process.reload.successful.into()),
    ),
    Family::process(
        "servicefabric_backup_exporter_config_last_reload_success_timestamp_seconds",
        Kind::Gauge,
        "When the configuration in use was read",
        |process| seconds(process.reload.succeeded_at).map(Value::Integer),
    ),
    Family {
        name: "servicefabric_backup_exporter_shard_info",
        kind: Kind::Info,
        labels: &["shard", "shards"],
        help: "Which part of the partitions this exporter watches, from 0, and how many parts there are",
        source: Source::Process(|process, samples| {
            let (shard, shards) = (process.shard.index(), process.shard.total());
            let (shard, shards) = (shard.to_string(), shards.to_string());
            let labels = Labels::new(&[("shard", Some(&shard)), ("shards", Some(&shards))]);
            samples.write(&labels, true.into())
        }),
    },
    // === The process ===
    Family::process(
        "process_cpu_seconds_total",
        Kind::Counter,
        "User and system CPU time of the process",
        |process| process.resources.cpu_seconds_total.map(Value::Float),
    ),
    Family::process(
        "process_open_fds",
        Kind::Gauge,
        "Open file descriptors",
        |process| process.resources.open_fds.map(Value::from),
    ),
    Family::process(
        "process_max_fds",
        Kind::Gauge,
        "Most file descriptors that may be open",
        |process| process.resources.max_fds.map(Value::from),
    ),
    Family::process(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "Virtual memory of the process",
        |process| process.resources.virtual_memory_bytes.map(Value::from),
    ),
    Family::process(
        "process_virtual_memory_max_bytes",
        Kind::Gauge,
        "Most virtual memory that the process may have, if there is a limit",
        |process| {
            let limit = process.resources.virtual_memory_max_bytes;
            limit.filter(|limit| *limit > 0).map(Value::from)
        },
    ),
    Family::process(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory of the process",
        |process| process.resources.resident_memory_bytes.map(Value::from),
    ),
    Family::process(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started",
        |process| process.resources.start_time_seconds.map(Value::from),
    ),
    Family::process(
        "process_threads",
        Kind::Gauge,
        "Threads of the process",
        |process| process.resources.threads.map(Value::from),
    ),
];

/// The states of a requested backup, as label values.
const STATES: [&str; BackupState::ALL.len()] = {
    let mut words = [""; BackupState::ALL.len()];
    let mut index = 0;
    while index < words.len() {
        words[index] = BackupState::ALL[index].as_str();
        index += 1;
    }
    words
};

#[expect(clippy::unnecessary_wraps, reason = "rows answer with an Option")]
fn seconds(instant: DateTime<Utc>) -> Option<i64> {
    Some(instant.timestamp())
}

fn epoch(partition: &PartitionView<'_>) -> Option<Epoch> {
    partition.success()?.epoch
}

fn completions(view: &ClusterView, labels: &Labels<'_>, samples: &mut Samples<'_>) -> fmt::Result {
    for (key, totals) in &view.snapshot.totals {
        for outcome in Outcome::ALL {
            let labels = of_service(labels, key).with("outcome", Some(outcome.as_str()));
            samples.write(&labels, totals.completions(outcome).into())?;
        }
    }
    Ok(())
}

fn failures(view: &ClusterView, labels: &Labels<'_>, samples: &mut Samples<'_>) -> fmt::Result {
    for (key, Totals { failures, .. }) in &view.snapshot.totals {
        for (code, count) in failures {
            let labels = of_service(labels, key).with("code", Some(code.as_str()));
            samples.write(&labels, (*count).into())?;
        }
    }
    Ok(())
}

fn of_service<'a>(labels: &Labels<'a>, key: &'a ServiceKey) -> Labels<'a> {
    labels
        .with("application_name", key.application.as_deref())
        .with("service_name", key.service.as_deref())
}
