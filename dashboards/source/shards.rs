//! What is seen of a cluster, shard by shard.
//!
//! Each shard watches other partitions, so one that is blind or gone is not made good by another.
//! Exporters of the same shard stand in for each other.

/// The labels of a shard of a cluster.
pub(super) const SHARD: &str = "cluster_name, shard, shards";

/// Gives series of an exporter the labels of its shard; `@shard` stands for it.
pub(super) const JOIN: &str = "on (job, instance) group_left (shard, shards) max by (job, instance, shard, shards) (servicefabric_backup_exporter_shard_info{@exporters})";

/// A query for a family that has one series per cluster: for each shard the best of its exporters.
pub(super) fn best(family: &str) -> String {
    format!("max by ({SHARD}) ({family}{{@clusters}} * @shard)")
}

/// The same for a family that has one series per collector.
pub(super) fn best_by_collector(family: &str) -> String {
    format!("max by ({SHARD}, collector) ({family}{{@clusters}} * @shard)")
}

/// A query for each shard of a cluster: 1 if an exporter reaches a gateway, 0 if none does, and -1 if
/// all that saw it within a day are gone. An exporter that is still there and no longer names the
/// cluster was told so; after another number of shards, the old ones are not missed.
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
