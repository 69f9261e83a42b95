//! Families of the exporter's own work: its clusters, its requests, itself.

use std::fmt;

use chrono::{DateTime, Utc};

use super::seconds;
use crate::exposition::family::{Family, Kind, Source};
use crate::exposition::samples::{Labels, Samples, Value};
use crate::telemetry::BuildInfo;

/// In the order of the page.
pub(super) const FAMILIES: &[Family] = &[
    Family::cluster(
        "servicefabric_backup_cluster_up",
        "1 if the last poll reached a gateway and was let in on a native route",
        |cluster, labels, samples| flag(cluster.view.snapshot.status.up, labels, samples),
    ),
    Family::cluster(
        "servicefabric_backup_service_up",
        "1 if the backup restore service answered in the last poll, 0 if it is absent, refuses the exporter or cannot be reached behind the gateway",
        |cluster, labels, samples| flag(cluster.view.snapshot.status.service_up, labels, samples),
    ),
    Family {
        name: "servicefabric_backup_cluster_info",
        kind: Kind::Info,
        labels: &["cluster_name", "version"],
        help: "Runtime version of the cluster",
        source: Source::Cluster(|cluster, labels, samples| {
            match &cluster.view.snapshot.status.version {
                Some(version) => samples.write(&labels.with("version", Some(version)), true.into()),
                None => Ok(()),
            }
        }),
    },
    Family::cluster(
        "servicefabric_backup_partitions",
        "Partitions that are tracked",
        |cluster, labels, samples| {
            let count = cluster.view.snapshot.partitions.len() as u64;
            samples.write(labels, count.into())
        },
    ),
    Family::cluster(
        "servicefabric_backup_selectors_unmatched",
        "Configured patterns and partition ids that matched nothing in the last complete inventory",
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
        "When the backup progress of the partition was last read successfully",
        |p| seconds(p.known.read_at()?),
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
        source: Source::Telemetry(|telemetry| &telemetry.collector_errors.family),
    },
    Family {
        name: "servicefabric_backup_undecodable_items_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "collector"],
        help: "Items in lists and health events read by the collector that could not be decoded and were skipped",
        source: Source::Telemetry(|telemetry| &telemetry.undecodable_items.family),
    },
    Family {
        name: "servicefabric_backup_gateway_requests_total",
        kind: Kind::Counter,
        labels: &["cluster_name", "route", "status"],
        help: "Requests sent to gateways, retries included, by HTTP status; none if no answer came",
        source: Source::Telemetry(|telemetry| &telemetry.gateway_requests.family),
    },
    Family {
        name: "servicefabric_backup_gateway_request_duration_seconds",
        kind: Kind::Histogram,
        labels: &["cluster_name", "route"],
        help: "How long requests to gateways took, retries counted one by one",
        source: Source::Telemetry(|telemetry| &telemetry.gateway_request_duration.family),
    },
    Family::cluster(
        "servicefabric_backup_gateway_clock_skew_seconds",
        "Clock of the gateway minus clock of the exporter, from the Date header of the last answer",
        |cluster, labels, samples| match cluster.view.snapshot.status.clock_skew {
            Some(skew) => {
                // Rounded up: the header carries whole seconds, cut down.
                let seconds = -(-skew.num_milliseconds()).div_euclid(1000);
                samples.write(labels, Value::Integer(seconds))
            }
            None => Ok(()),
        },
    ),
    Family::cluster(
        "servicefabric_backup_client_certificate_expiry_timestamp_seconds",
        "When the client certificate expires that the exporter shows to the gateways",
        |cluster, labels, samples| {
            let security = &cluster.view.snapshot.status.security;
            instant(security.client_certificate_expiry, labels, samples)
        },
    ),
    Family::cluster(
        "servicefabric_backup_gateway_certificate_expiry_timestamp_seconds",
        "When the certificate expires that the gateway in use last showed",
        |cluster, labels, samples| {
            let security = &cluster.view.snapshot.status.security;
            instant(security.gateway_certificate_expiry, labels, samples)
        },
    ),
    Family::cluster(
        "servicefabric_backup_credentials_last_reload_successful",
        "1 if certificates, keys and tokens were good when they were last read or asked for, 0 if there are none or older ones stay in use",
        |cluster, labels, samples| {
            flag(
                cluster.view.snapshot.status.security.good_credentials,
                labels,
                samples,
            )
        },
    ),
    Family::cluster(
        "servicefabric_backup_gateway_insecure",
        "1 if every server is believed (trust.insecure), 0 if gateways are verified",
        |cluster, labels, samples| {
            flag(
                cluster.view.snapshot.status.security.insecure,
                labels,
                samples,
            )
        },
    ),
    Family::cluster(
        "servicefabric_backup_token_expiry_timestamp_seconds",
        "When the token last had for the cluster ends, where that is known",
        |cluster, labels, samples| {
            let security = &cluster.view.snapshot.status.security;
            instant(security.token_expiry, labels, samples)
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
    Family::process(
        "servicefabric_backup_exporter_state_file_last_write_successful",
        Kind::Gauge,
        "1 if the state file was written when it last had to be, 0 if that failed or the file cannot be used; absent without a state file",
        |process| Some(process.telemetry.state_file().successful?.into()),
    ),
    Family::process(
        "servicefabric_backup_exporter_state_file_last_write_success_timestamp_seconds",
        Kind::Gauge,
        "When the state file was last written; it is written only when its contents change",
        |process| {
            let written = process.telemetry.state_file().succeeded_at?;
            seconds(written).map(Value::Integer)
        },
    ),
    Family::process(
        "servicefabric_backup_exporter_web_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the certificate of the exporter's own listener expires; absent without TLS",
        |process| seconds(process.web_certificate_expiry?).map(Value::Integer),
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
