//! Label matchers of the queries, and the placeholders for them.

use serde_json::Value;

use super::shards;

/// The labels that identify a partition.
pub(super) const ID: &str = "cluster_name, application_name, service_name, partition_id";

/// Restricts metrics that every target has to the jobs with an exporter within the last day.
const OURS: &str = "and on (job) group by (job) (last_over_time(servicefabric_backup_exporter_build_info{@exporters}[1d]))";

/// The series of a dashboard: label matchers without braces, for metrics of each level.
pub(super) struct Scope {
    pub(super) clusters: &'static str,
    pub(super) services: &'static str,
    pub(super) partitions: &'static str,
}

impl Scope {
    /// Replaces `@exporters`, `@clusters`, `@services` and `@partitions` by label matchers, `@id` by
    /// the labels of a partition, and `@shard` and `@ours` by joins.
    fn fill(&self, text: &str) -> String {
        let exporters = r#"job=~"$job", instance=~"$instance""#;
        let below = |matchers: &str| format!("{exporters}, {matchers}");
        text.replace("@shard", shards::JOIN)
            .replace("@ours", OURS)
            .replace("@exporters", exporters)
            .replace("@clusters", &below(self.clusters))
            .replace("@services", &below(self.services))
            .replace("@partitions", &below(self.partitions))
            .replace("@id", ID)
    }

    /// Replaces the placeholders in all strings of a value.
    pub(super) fn fill_all(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.fill(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.fill_all(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.fill_all(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}
