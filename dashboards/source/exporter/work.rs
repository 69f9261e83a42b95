//! How the exporters poll: requests, errors, cycles, and how fresh what they know is.

use serde_json::json;

use super::super::panel::{Next, Panel};
use super::super::shards;
use super::NO_EXPORTER;

pub(super) fn errors() -> Panel {
    let query = "sum by (collector, reason) (rate(servicefabric_backup_collector_errors_total{@clusters}[$__rate_interval])) > 0";
    Panel::lines(
        "Errors by reason",
        "Requests of the collectors that failed for good, per second. Only reasons that occur are drawn. Look up what a reason means in docs/operation.md.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time(query, "{{collector}}, {{reason}}")
    .unit("cps")
    .set("min", json!(0))
    .empty("No errors, or no exporter is scraped")
    .width(8)
}

pub(super) fn requests() -> Panel {
    let query = "sum by (status) (rate(servicefabric_backup_gateway_requests_total{@clusters}[$__rate_interval]))";
    Panel::lines(
        "Requests by status",
        "Requests sent to gateways per second, retries included, by HTTP status; none where no answer came. When other than 200 and 404 grow, look at the errors by reason.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time(query, "{{status}}")
    .unit("reqps")
    .set("min", json!(0))
    .empty("No request was sent")
    .width(8)
}

pub(super) fn latency() -> Panel {
    let query = |quantile: &str| {
        format!(
            "histogram_quantile({quantile}, sum by (le) (rate(servicefabric_backup_gateway_request_duration_seconds_bucket{{@clusters}}[$__rate_interval])))"
        )
    };
    Panel::lines(
        "Time of an answer",
        "How long requests to gateways take: half, nine of ten, and 99 of 100 are faster. When it grows, check the load of the cluster's gateway.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time(&query("0.5"), "50 %")
    .over_time(&query("0.9"), "90 %")
    .over_time(&query("0.99"), "99 %")
    .unit("s")
    .set("min", json!(0))
    .empty("No request was answered")
    .width(8)
}

const OF_COLLECTOR: &str = "{{cluster_name}} {{shard}}/{{shards}}, {{collector}}";

pub(super) fn durations() -> Panel {
    Panel::lines(
        "Time of a cycle",
        "How long the last cycle of each collector took, the time over which its requests are spread included. When it comes near poll.interval, check requests and latency.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time(&shards::best_by_collector("servicefabric_backup_collector_duration_seconds"), OF_COLLECTOR)
    .unit("s")
    .set("min", json!(0))
    .empty(NO_EXPORTER)
    .width(8)
}

/// A query for how long ago each collector succeeded in each shard.
pub(super) fn since_success() -> String {
    let last =
        shards::best_by_collector("servicefabric_backup_collector_success_timestamp_seconds");
    format!("time() - {last}")
}

pub(super) fn success_age() -> Panel {
    Panel::lines(
        "Age of the last success, by collector",
        "How long ago each collector last succeeded, in each shard of so many. A saw tooth is healthy; a straight climb is a collector that fails: look at its errors.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time(&since_success(), OF_COLLECTOR)
    .unit("s")
    .set("min", json!(0))
    .empty("No collector has succeeded")
    .width(8)
}

pub(super) fn freshness() -> Panel {
    let age = "time() - max by (@id) (servicefabric_backup_partition_poll_timestamp_seconds{@partitions})";
    Panel::lines(
        "Age of readings of requests",
        "How long ago it was last read what became of requested backups: for the partition where that is longest, and on average. When both climb, check the collectors and the gateways.",
        &Next::Runbook("ServiceFabricBackupDataStale"),
    )
    .over_time(&format!("max({age})"), "oldest")
    .over_time(&format!("avg({age})"), "average")
    .unit("s")
    .set("min", json!(0))
    .coarse()
    .empty("No partition was read")
    .width(8)
}

pub(super) fn partitions() -> Panel {
    let query = format!(
        "sum by (cluster_name) ({})",
        shards::best("servicefabric_backup_partitions")
    );
    Panel::lines(
        "Partitions watched",
        "Partitions that are tracked, all shards together. A step down without a change in the cluster means that a shard or an exporter is missing: check the table of exporters.",
        &Next::Runbook("ServiceFabricBackupClusterUnwatched"),
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
        "Clock of the gateway against the exporter's",
        "By how much the gateway's clock is ahead. When it is far from 0, correct the clock that is wrong: due moments follow the cluster's.",
        &Next::Runbook("ServiceFabricBackupClockSkewed"),
    )
    .over_time("max by (cluster_name, instance) (servicefabric_backup_gateway_clock_skew_seconds{@clusters})", "{{cluster_name}}, {{instance}}")
    .unit("s")
    .empty("No gateway has told its time")
    .width(8)
}
