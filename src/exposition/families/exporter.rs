//! Families of the clusters, of the requests to them, and of the exporter.

use std::fmt;

use chrono::{DateTime, Utc};

use super::common::seconds;
use crate::exposition::family::{Family, SampleSource};
use crate::exposition::samples::{Kind, Labels, Samples, Value};
use crate::telemetry::BuildInfo;

pub(super) const FAMILIES: &[Family] = &[
    Family::cluster(
        "servicefabric_backup_cluster_up",
        "1 if a gateway authorized the exporter on a native route in the last poll",
        |cluster, labels, samples| flag(cluster.snapshot.status.up, labels, samples),
    ),
    Family::cluster(
        "servicefabric_backup_service_up",
        "1 if the Backup and Restore Service answered in the last poll, 0 if it is not installed, rejects the exporter or is unreachable behind the gateway",
        |cluster, labels, samples| flag(cluster.snapshot.status.service_up, labels, samples),
    ),
    Family {
        name: "servicefabric_backup_cluster_info",
        kind: Kind::Info,
        labels: &["cluster_name", "version"],
        help: "Runtime version of the cluster",
        source: SampleSource::Cluster(|cluster, labels, samples| {
            match &cluster.snapshot.status.version {
                Some(version) => samples.write(&labels.with("version", Some(version)), true.into()),
                None => Ok(()),
            }
        }),
    },
    Family::cluster(
        "servicefabric_backup_partitions",
        "Number of watched partitions",
        |cluster, labels, samples| {
            let count = cluster.snapshot.partitions.len() as u64;
            samples.write(labels, count.into())
        },
    ),
    Family::cluster(
        "servicefabric_backup_selectors_unmatched",
        "Number of configured patterns and partition ids that matched nothing in the last complete inventory",
        |cluster, labels, samples| match cluster.selection() {
            Some(selection) => {
                let count = selection.unmatched.len() as u64;
                samples.write(labels, count.into())
            }
            None => Ok(()),
        },
    ),
    Family::partition(
        "servicefabric_backup_partition_poll_timestamp_seconds",
        "Time of the last successful read of the backup progress of the partition",
        |p| seconds(p.known.read_at()?),
    ),
    Family::collector(
        "servicefabric_backup_collector_success",
        "1 if all requests of the collector succeeded in its last cycle",
        |status| Some(status.success.into()),
    ),
    Family::collector(
        "servicefabric_backup_collector_success_timestamp_seconds",
        "Time of the last success of the collector",
        |status| Some(Value::Integer(seconds(status.succeeded_at?)?)),
    ),
    Family::collector(
        "servicefabric_backup_collector_duration_seconds",
        "Duration of the last cycle of the collector, including the time over which its requests are spread",
        |status| Some(Value::Float(status.duration.as_secs_f64())),
    ),
    Family {
        name: "servicefabric_backup_collector_errors_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "collector", "reason"],
        help: "Total requests of the collector that failed after all retries, by reason",
        source: SampleSource::Telemetry(|telemetry| &telemetry.collector_errors.family),
    },
    Family {
        name: "servicefabric_backup_undecodable_items_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "collector"],
        help: "Total list items and health events of the collector that were skipped because they could not be decoded",
        source: SampleSource::Telemetry(|telemetry| &telemetry.undecodable_items.family),
    },
    Family {
        name: "servicefabric_backup_gateway_requests_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "route", "status"],
        help: "Total requests to gateways, including retries, by HTTP status; none without a response",
        source: SampleSource::Telemetry(|telemetry| &telemetry.gateway_requests.family),
    },
    Family {
        name: "servicefabric_backup_gateway_request_duration_seconds",
        kind: Kind::Histogram,
        labels: &["cluster_name", "route"],
        help: "Duration of requests to gateways; each retry is a request",
        source: SampleSource::Telemetry(|telemetry| &telemetry.gateway_request_duration.family),
    },
    Family::cluster(
        "servicefabric_backup_gateway_clock_skew_seconds",
        "Clock of the gateway minus clock of the exporter, from the Date header of the last response",
        |cluster, labels, samples| match cluster.snapshot.status.clock_skew {
            Some(skew) => {
                // Rounded up: the header has whole seconds, rounded down.
                let seconds = -(-skew.num_milliseconds()).div_euclid(1000);
                samples.write(labels, Value::Integer(seconds))
            }
            None => Ok(()),
        },
    ),
    Family::cluster(
        "servicefabric_backup_client_certificate_expiry_timestamp_seconds",
        "Expiry of the client certificate that the exporter presents to the gateways",
        |cluster, labels, samples| {
            let security = &cluster.snapshot.status.security;
            instant(security.client_certificate_expiry, labels, samples)
        },
    ),
    Family::cluster(
        "servicefabric_backup_gateway_certificate_expiry_timestamp_seconds",
        "Expiry of the certificate that the current gateway last presented",
        |cluster, labels, samples| {
            let security = &cluster.snapshot.status.security;
            instant(security.gateway_certificate_expiry, labels, samples)
        },
    ),
    Family::cluster(
        "servicefabric_backup_credentials_last_reload_successful",
        "1 if the last attempt to load certificates, keys and tokens succeeded, 0 if there are none or the exporter still uses older ones",
        |cluster, labels, samples| {
            flag(
                cluster.snapshot.status.security.good_credentials,
                labels,
                samples,
            )
        },
    ),
    Family::cluster(
        "servicefabric_backup_gateway_insecure",
        "1 if server certificates are not verified (trust.insecure), 0 if they are",
        |cluster, labels, samples| flag(cluster.snapshot.status.security.insecure, labels, samples),
    ),
    Family::cluster(
        "servicefabric_backup_token_expiry_timestamp_seconds",
        "Expiry of the last token for the cluster; absent if unknown",
        |cluster, labels, samples| {
            let security = &cluster.snapshot.status.security;
            instant(security.token_expiry, labels, samples)
        },
    ),
    Family {
        name: "servicefabric_backup_exporter_build_info",
        kind: Kind::Info,
        labels: &["version", "revision", "rustc"],
        help: "Version, revision and compiler of the exporter",
        source: SampleSource::Process(|_, samples| {
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
        "1 if the last configuration reload succeeded",
        |process| Some(process.reload.successful.into()),
    ),
    Family::process(
        "servicefabric_backup_exporter_config_last_reload_success_timestamp_seconds",
        Kind::Gauge,
        "Time of the last successful configuration reload",
        |process| seconds(process.reload.succeeded_at).map(Value::Integer),
    ),
    Family::process(
        "servicefabric_backup_exporter_state_file_last_write_successful",
        Kind::Gauge,
        "1 if the last write of the state file succeeded, 0 if it failed or the file is unusable; absent without a state file",
        |process| Some(process.telemetry.state_file().successful?.into()),
    ),
    Family::process(
        "servicefabric_backup_exporter_state_file_last_write_success_timestamp_seconds",
        Kind::Gauge,
        "Time of the last successful write of the state file; it is written only when its contents change",
        |process| {
            let written = process.telemetry.state_file().succeeded_at?;
            seconds(written).map(Value::Integer)
        },
    ),
    Family::process(
        "servicefabric_backup_exporter_web_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "Expiry of the server certificate of the exporter; absent without TLS",
        |process| seconds(process.web_certificate_expiry?).map(Value::Integer),
    ),
    Family {
        name: "servicefabric_backup_exporter_shard_info",
        kind: Kind::Info,
        labels: &["shard", "shards"],
        help: "Index of the shard that this exporter watches, from 0, and the number of shards",
        source: SampleSource::Process(|process, samples| {
            let (shard, shards) = (process.shard.index(), process.shard.total());
            let (shard, shards) = (shard.to_string(), shards.to_string());
            let labels = Labels::new(&[("shard", Some(&shard)), ("shards", Some(&shards))]);
            samples.write(&labels, true.into())
        }),
    },
];

fn flag(known: Option<bool>, labels: &Labels<'_>, samples: &mut Samples<'_>) -> fmt::Result {
    match known {
        Some(holds) => samples.write(labels, holds.into()),
        None => Ok(()),
    }
}

fn instant(
    known: Option<DateTime<Utc>>,
    labels: &Labels<'_>,
    samples: &mut Samples<'_>,
) -> fmt::Result {
    match known.and_then(seconds) {
        Some(seconds) => samples.write(labels, Value::Integer(seconds)),
        None => Ok(()),
    }
}
