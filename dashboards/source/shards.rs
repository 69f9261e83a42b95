//! Queries about clusters by shard.
//!
//! Shards watch different partitions, so each of them needs an exporter with data. Replicas of a shard
//! are interchangeable.

/// The labels that identify a shard.
pub(super) const SHARD: &str = "cluster_name, shard, shards";

/// The join that adds the labels of the shard to the series of an exporter. Its placeholder is `@shard`.
pub(super) const JOIN: &str = "on (job, instance) group_left (shard, shards) max by (job, instance, shard, shards) (servicefabric_backup_exporter_shard_info{@exporters})";

/// A query for the maximum of the replicas of each shard, for a metric with one series per cluster.
pub(super) fn best(family: &str) -> String {
    format!("max by ({SHARD}) ({family}{{@clusters}} * @shard)")
}

/// The same for a metric with one series per collector.
pub(super) fn best_by_collector(family: &str) -> String {
    format!("max by ({SHARD}, collector) ({family}{{@clusters}} * @shard)")
}

/// A query with one series per shard: 1 if an exporter reaches a gateway, 0 if none does, and -1 if all
/// exporters that watched the shard within the last day are gone. A cluster that was removed from a
/// running exporter, and the shards of a former number of shards, are excluded.
pub(super) fn reached() -> String {
    let now = best("servicefabric_backup_cluster_up");
    let seen = "last_over_time(servicefabric_backup_cluster_up{@clusters}[1d])";
    let there = "servicefabric_backup_exporter_shard_info{@exporters}";
    let shard = format!("topk by (job, instance) (1, last_over_time({there}[1d]))");
    let gone = format!(
        "group by ({SHARD}) (\n  ({seen} unless on (job, instance) {there})\n  * on (job, instance) group_left (shard, shards) {shard}\n)"
    );
    format!(
        "{now}\nor -(\n{gone}\nand on (cluster_name, shards) {now}\n)\nor -(\n{gone}\nunless on (cluster_name) {now}\n)"
    )
}
