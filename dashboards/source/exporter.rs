//! The dashboard Exporter: whether the data of the other dashboards is complete and current.

mod process;
mod work;

use serde_json::{Value, json};

use super::dashboard::Dashboard;
use super::panel::{FollowUp, Panel};
use super::scope::Scope;
use super::states::{self, GREEN, GREY, ORANGE, VERMILLION, flag_cells, flag_mapping};
use super::stats::NO_EXPORTER;
use super::{shards, stats, variables};

/// Legend of a series of a shard.
const OF_SHARD: &str = "{{cluster_name}} {{shard}}/{{shards}}";

pub(super) fn dashboard() -> Value {
    let mut variables = variables::exporters();
    variables.push(variables::clusters());
    let dashboard = Dashboard {
        uid: "sfbe-exporter",
        title: "Service Fabric Backup / Exporter",
        description: "Whether the exporters reach the clusters, and their requests, cycles and resources.",
        from: "now-6h",
        scope: Scope {
            clusters: CLUSTERS,
            services: CLUSTERS,
            partitions: CLUSTERS,
        },
        variables,
        annotations: Vec::new(),
        rows: vec![
            (
                4,
                vec![
                    targets_down(),
                    config(),
                    reached(),
                    answering(),
                    failing(),
                    oldest_reading(),
                    certificates(),
                ],
            ),
            (7, vec![collectors(), exporters()]),
            (7, vec![work::errors(), work::requests(), work::latency()]),
            (
                7,
                vec![work::durations(), work::success_age(), work::freshness()],
            ),
            (7, vec![work::partitions(), work::skew(), security()]),
            (
                7,
                vec![
                    process::samples(),
                    process::scrape(),
                    process::cpu(),
                    process::memory(),
                    process::files(),
                ],
            ),
        ],
    };
    dashboard.into_json()
}

const CLUSTERS: &str = r#"cluster_name=~"$cluster_name""#;

fn targets_down() -> Panel {
    let query = "sum((up{@exporters} @ours) == bool 0)";
    stats::counted(
        "Targets down",
        query,
        VERMILLION,
        "Exporters that Prometheus cannot scrape, in jobs with an exporter within the last day. Check whether the process is running and the port is reachable.",
        &FollowUp::Runbook("ServiceFabricBackupExporterDown"),
    )
    .empty(NO_EXPORTER)
}

fn config() -> Panel {
    let family = "servicefabric_backup_exporter_config_last_reload_successful{@exporters}";
    stats::counted(
        "Failed configuration reloads",
        &format!("sum({family} == bool 0)"),
        ORANGE,
        "Exporters whose last reload failed. They use the previous configuration. Read the log and correct the file.",
        &FollowUp::Runbook("ServiceFabricBackupConfigReloadFailed"),
    )
    .empty(NO_EXPORTER)
}

fn reached() -> Panel {
    let mut reached = flag_mapping(("reachable", GREEN), ("unreachable", VERMILLION));
    reached["options"]["-1"] = json!({ "text": "no exporter", "color": VERMILLION, "index": 2 });
    Panel::stat(
        "Gateways",
        "Whether an exporter has access to a gateway of the cluster, for each shard (counting from 0) of the total. No exporter: all exporters that watched the cluster within the last day are gone. If a cluster is unreachable, check network, certificates and tokens.",
        &FollowUp::Runbook("ServiceFabricBackupClusterUnreachable"),
    )
    .now(&shards::reached(), OF_SHARD)
    .mapped(&reached)
    .option("textMode", json!("value_and_name"))
    .steps(&[(None, GREY)])
    .empty(NO_EXPORTER)
    .width(4)
}

fn answering() -> Panel {
    Panel::stat(
        "Backup services",
        "Whether the Backup and Restore Service of the cluster answers, for each shard (counting from 0) of the total. If it does not, check the service in the cluster and the role of the exporter.",
        &FollowUp::Runbook("ServiceFabricBackupServiceDown"),
    )
    .now(&shards::best("servicefabric_backup_service_up"), OF_SHARD)
    .mapped(&flag_mapping(("available", GREEN), ("unavailable", VERMILLION)))
    .option("textMode", json!("value_and_name"))
    .steps(&[(None, GREY)])
    .empty("No reachable clusters")
    .width(4)
}

fn failing() -> Panel {
    let success = shards::best_by_collector("servicefabric_backup_collector_success");
    stats::counted(
        "Failing collectors",
        &format!("sum({success} == bool 0)"),
        ORANGE,
        "Collectors with a failed request in the last cycle, in every exporter of a shard. Check the errors by reason below.",
        &FollowUp::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .empty(NO_EXPORTER)
}

fn oldest_reading() -> Panel {
    let read = "max by (@id) (servicefabric_backup_partition_poll_timestamp_seconds{@partitions})";
    Panel::stat(
        "Oldest request data",
        "Age of the data about requested backups, for the partition with the oldest data. It does not include periodic backups and policies: check the age of each collector below.",
        &FollowUp::Runbook("ServiceFabricBackupDataStale"),
    )
    .now(&format!("time() - min({read})"), "age")
    .option("colorMode", json!("value"))
    .unit("s")
    .set("decimals", json!(0))
    .steps(&[(None, "text")])
    .empty("No request data")
    .width(3)
}

fn certificates() -> Panel {
    let ends = |family: &str| format!("min by (cluster_name) ({family}{{@clusters}}) - time()");
    Panel::stat(
        "Certificate and token expiry",
        "Time until the certificates of exporter and gateway, and the current token, expire. Renew certificates in time. The exporter renews tokens automatically, minutes before they expire.",
        &FollowUp::Runbook("ServiceFabricBackupCertificateExpiring"),
    )
    .now(&ends("servicefabric_backup_client_certificate_expiry_timestamp_seconds"), "client, {{cluster_name}}")
    .now(&ends("servicefabric_backup_gateway_certificate_expiry_timestamp_seconds"), "gateway, {{cluster_name}}")
    .now(&ends("servicefabric_backup_token_expiry_timestamp_seconds"), "token, {{cluster_name}}")
    .option("colorMode", json!("value"))
    .option("textMode", json!("value_and_name"))
    .unit("s")
    .set("decimals", json!(1))
    .mapped(&states::range_mapping(0.0, "expired", VERMILLION))
    .steps(&[(None, "text")])
    .empty("No certificates or tokens")
    .width(4)
}

fn collectors() -> Panel {
    let success = shards::best_by_collector("servicefabric_backup_collector_success");
    let took = shards::best_by_collector("servicefabric_backup_collector_duration_seconds");
    Panel::table(
        "Collectors",
        "Result of the last cycle of each collector, in the best exporter of each shard. If one fails, check its errors by reason.",
        &FollowUp::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .rows(&success)
    .rows(&work::since_success())
    .rows(&took)
    .column("cluster_name", "Cluster", "unknown", &[])
    .column("shard", "Shard", "unknown", &[])
    .column("shards", "Shards", "unknown", &[])
    .column("collector", "Collector", "unknown", &[])
    .column("Value #A", "Last cycle", "not run yet", &flag_cells(("succeeded", GREEN), ("failed", ORANGE)))
    .column("Value #B", "Last success", "never", &[])
    .column("Value #C", "Duration", "not run yet", &[])
    .unit("s")
    .set("decimals", json!(1))
    .empty(NO_EXPORTER)
    .width(12)
}

fn exporters() -> Panel {
    let by = "job, instance";
    Panel::table(
        "Exporters",
        "Exporters with their versions and shards. Check that every shard has an exporter, and that all have the same version.",
        &FollowUp::Runbook("ServiceFabricBackupClusterUnwatched"),
    )
    .rows(&format!("max by ({by}, version, revision) (servicefabric_backup_exporter_build_info{{@exporters}})"))
    .rows(&format!("max by ({by}, shard, shards) (servicefabric_backup_exporter_shard_info{{@exporters}})"))
    .rows(&format!("time() - max by ({by}) (process_start_time_seconds{{@exporters}} @ours)"))
    .rows(&format!("time() - max by ({by}) (servicefabric_backup_exporter_config_last_reload_success_timestamp_seconds{{@exporters}})"))
    .rows(&format!("max by ({by}) (up{{@exporters}} @ours)"))
    .hide(&["Value #A", "Value #B"])
    .column("job", "Job", "unknown", &[])
    .column("instance", "Instance", "unknown", &[])
    .column("Value #E", "Scrape", "not scraped", &flag_cells(("up", GREEN), ("down", VERMILLION)))
    .column("version", "Version", "unknown", &[])
    .column("revision", "Revision", "unknown", &[])
    .column("shard", "Shard", "unknown", &[])
    .column("shards", "Shards", "unknown", &[])
    .column("Value #C", "Running for", "unknown", &[])
    .column("Value #D", "Configuration age", "unknown", &[])
    .unit("s")
    .set("decimals", json!(1))
    .empty(NO_EXPORTER)
    .width(12)
}

fn security() -> Panel {
    let by = "cluster_name, instance";
    let good = format!(
        "max by ({by}) (servicefabric_backup_credentials_last_reload_successful{{@clusters}})"
    );
    let insecure = format!("max by ({by}) (servicefabric_backup_gateway_insecure{{@clusters}})");
    Panel::table(
        "Credentials and trust",
        "Whether certificates, keys and tokens were loaded, and whether gateway certificates are verified. Empty for a cluster without TLS. Correct failed credentials before the previous ones expire.",
        &FollowUp::Runbook("ServiceFabricBackupCredentialsStale"),
    )
    .rows(&good)
    .rows(&insecure)
    .column("cluster_name", "Cluster", "unknown", &[])
    .column("instance", "Instance", "unknown", &[])
    .column("Value #A", "Credentials", "none", &flag_cells(("loaded", GREEN), ("failed", VERMILLION)))
    .column("Value #B", "Gateway", "no TLS", &flag_cells(("not verified", ORANGE), ("verified", GREEN)))
    .empty("No clusters with TLS")
    .width(8)
}
