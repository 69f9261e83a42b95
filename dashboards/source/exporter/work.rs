//! Polling of the exporters: requests, errors, cycles, and age of the data.

use serde_json::json;

use super::super::panel::{FollowUp, Panel};
use super::super::shards;
use super::super::stats::NO_EXPORTER;

pub(super) fn errors() -> Panel {
    let query = "sum by (collector, reason) (rate(servicefabric_backup_collector_errors_total{@clusters}[$__rate_interval])) > 0";
    Panel::lines(
        "Errors by reason",
        "Failed requests of the collectors per second, after all retries. Only reasons that occur are shown. Look up a reason in docs/operation.md.",
        &FollowUp::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time(query, "{{collector}}, {{reason}}")
    .unit("cps")
    .set("min", json!(0))
    .empty("No errors, or no exporters")
    .width(8)
}

pub(super) fn requests() -> Panel {
    let query = "sum by (status) (rate(servicefabric_backup_gateway_requests_total{@clusters}[$__rate_interval]))";
    Panel::lines(
        "Requests by status",
        "Requests to gateways per second, including retries, by HTTP status. The status none is a request without a response. If statuses other than 200 and 404 increase, check the errors by reason.",
        &FollowUp::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time(query, "{{status}}")
    .unit("reqps")
    .set("min", json!(0))
    .empty("No requests")
    .width(8)
}

pub(super) fn latency() -> Panel {
    let query = |quantile: &str| {
        format!(
            "histogram_quantile({quantile}, sum by (le) (rate(servicefabric_backup_gateway_request_duration_seconds_bucket{{@clusters}}[$__rate_interval])))"
        )
    };
    Panel::lines(
        "Request latency",
        "Latency of requests to gateways: 50th, 90th and 99th percentile. If it grows, check the load of the gateway.",
        &FollowUp::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time(&query("0.5"), "50 %")
    .over_time(&query("0.9"), "90 %")
    .over_time(&query("0.99"), "99 %")
    .unit("s")
    .set("min", json!(0))
    .empty("No answered requests")
    .width(8)
}

const OF_COLLECTOR: &str = "{{cluster_name}} {{shard}}/{{shards}}, {{collector}}";

pub(super) fn durations() -> Panel {
    Panel::lines(
        "Cycle duration",
        "Duration of the last cycle of each collector, including the time over which its requests are spread. If it approaches poll.interval, check requests and latency.",
        &FollowUp::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time(&shards::best_by_collector("servicefabric_backup_collector_duration_seconds"), OF_COLLECTOR)
    .unit("s")
    .set("min", json!(0))
    .empty(NO_EXPORTER)
    .width(8)
}

/// A query for the time since the last success of each collector in each shard.
pub(super) fn since_success() -> String {
    let last =
        shards::best_by_collector("servicefabric_backup_collector_success_timestamp_seconds");
    format!("time() - {last}")
}

pub(super) fn success_age() -> Panel {
    Panel::lines(
        "Age of the last success by collector",
        "Time since the last success of each collector, in each shard of the total. A sawtooth is healthy. A steady rise is a failing collector: check its errors.",
        &FollowUp::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time(&since_success(), OF_COLLECTOR)
    .unit("s")
    .set("min", json!(0))
    .empty("No successful collectors")
    .width(8)
}

pub(super) fn freshness() -> Panel {
    let age = "time() - max by (@id) (servicefabric_backup_partition_poll_timestamp_seconds{@partitions})";
    Panel::lines(
        "Age of request data",
        "Age of the data about requested backups: the oldest and the average of all partitions. If both rise, check the collectors and the gateways.",
        &FollowUp::Runbook("ServiceFabricBackupDataStale"),
    )
    .over_time(&format!("max({age})"), "oldest")
    .over_time(&format!("avg({age})"), "average")
    .unit("s")
    .set("min", json!(0))
    .coarse()
    .empty("No request data")
    .width(8)
}

pub(super) fn partitions() -> Panel {
    let query = format!(
        "sum by (cluster_name) ({})",
        shards::best("servicefabric_backup_partitions")
    );
    Panel::lines(
        "Partitions watched",
        "Watched partitions of all shards. A drop without a change in the cluster means that a shard or an exporter is missing: check the table of exporters.",
        &FollowUp::Runbook("ServiceFabricBackupClusterUnwatched"),
    )
    .over_time(&query, "{{cluster_name}}")
    .unit("locale")
    .set("min", json!(0))
    .set("decimals", json!(0))
    .empty(NO_EXPORTER)
    .width(8)
}

pub(super) fn skew() -> Panel {
    Panel::lines(
        "Gateway clock skew",
        "Clock of the gateway minus clock of the exporter. If it is far from 0, correct the wrong clock: due times follow the clock of the cluster.",
        &FollowUp::Runbook("ServiceFabricBackupClockSkewed"),
    )
    .over_time("max by (cluster_name, instance) (servicefabric_backup_gateway_clock_skew_seconds{@clusters})", "{{cluster_name}}, {{instance}}")
    .unit("s")
    .empty("No clock data")
    .width(8)
}
