//! Exporter: whether what the other dashboards say can be believed, and why not.

mod process;
mod work;

use serde_json::{Value, json};

use super::look::{self, GREEN, GREY, ORANGE, VERMILLION, flag, flags};
use super::panel::{Next, Panel};
use super::{Dashboard, Scope, shards, stats, variables};

const NO_EXPORTER: &str = "No exporter is scraped";

/// The name of a series of one shard of a cluster.
const OF_SHARD: &str = "{{cluster_name}} {{shard}}/{{shards}}";

pub(super) fn dashboard() -> Value {
    let mut variables = variables::exporters();
    variables.push(variables::clusters());
    let dashboard = Dashboard {
        uid: "sfbe-exporter",
        title: "Service Fabric Backup / Exporter",
        description: "Whether the exporters see the clusters, and how they work.",
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
    dashboard.laid_out()
}

const CLUSTERS: &str = r#"cluster_name=~"$cluster_name""#;

fn targets_down() -> Panel {
    let query = "sum((up{@exporters} @ours) == bool 0)";
    stats::counted(
        "Targets down",
        query,
        VERMILLION,
        "Exporters that Prometheus cannot scrape, in the jobs that had one within a day. Check whether the process runs and the port is reachable.",
        &Next::Runbook("ServiceFabricBackupExporterDown"),
    )
    .empty(NO_EXPORTER)
}

fn config() -> Panel {
    let family = "servicefabric_backup_exporter_config_last_reload_successful{@exporters}";
    stats::counted(
        "Bad configurations",
        &format!("sum({family} == bool 0)"),
        ORANGE,
        "Exporters whose configuration could not be used when it was last read; the older one stays in use. Read the log and correct the file.",
        &Next::Runbook("ServiceFabricBackupConfigReloadFailed"),
    )
    .empty(NO_EXPORTER)
}

fn reached() -> Panel {
    let mut reached = flag(("reached", GREEN), ("not reached", VERMILLION));
    reached["options"]["-1"] = json!({ "text": "no exporter", "color": VERMILLION, "index": 2 });
    Panel::stat(
        "Gateways",
        "Whether an exporter reaches a gateway of the cluster and is let in, for each shard (counted from 0) of so many. No exporter: all that saw it within a day are gone. When not reached, check network, certificates and tokens.",
        &Next::Runbook("ServiceFabricBackupClusterUnreachable"),
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
        "Whether the backup restore service of the cluster answers, for each shard (counted from 0) of so many. When not, check the service in the cluster and the rights of the exporter.",
        &Next::Runbook("ServiceFabricBackupServiceDown"),
    )
    .now(&shards::best("servicefabric_backup_service_up"), OF_SHARD)
    .mapped(&flag(("answers", GREEN), ("silent", VERMILLION)))
    .option("textMode", json!("value_and_name"))
    .steps(&[(None, GREY)])
    .empty("No backup service could be asked")
    .width(4)
}

fn failing() -> Panel {
    let success = shards::best_by_collector("servicefabric_backup_collector_success");
    stats::counted(
        "Failing collectors",
        &format!("sum({success} == bool 0)"),
        ORANGE,
        "Collectors with a request that failed in the last cycle, on every exporter of a shard. Look at the errors by reason below.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .empty(NO_EXPORTER)
}

fn oldest_reading() -> Panel {
    let read = "max by (@id) (servicefabric_backup_partition_poll_timestamp_seconds{@partitions})";
    Panel::stat(
        "Oldest reading of requests",
        "How long ago it was last read what became of requested backups, for the partition where that is longest. It tells nothing of periodic backups and policies: check the age of each collector below.",
        &Next::Runbook("ServiceFabricBackupDataStale"),
    )
    .now(&format!("time() - min({read})"), "age")
    .option("colorMode", json!("value"))
    .unit("s")
    .set("decimals", json!(0))
    .steps(&[(None, "text")])
    .empty("No partition was read")
    .width(3)
}

fn certificates() -> Panel {
    let ends = |family: &str| format!("min by (cluster_name) ({family}{{@clusters}}) - time()");
    Panel::stat(
        "Certificates and tokens end in",
        "How long certificates of exporter and gateway are good, and the token last had. Renew a certificate before it ends; a token is renewed by itself, minutes before.",
        &Next::Runbook("ServiceFabricBackupCertificateExpiring"),
    )
    .now(&ends("servicefabric_backup_client_certificate_expiry_timestamp_seconds"), "client, {{cluster_name}}")
    .now(&ends("servicefabric_backup_gateway_certificate_expiry_timestamp_seconds"), "gateway, {{cluster_name}}")
    .now(&ends("servicefabric_backup_token_expiry_timestamp_seconds"), "token, {{cluster_name}}")
    .option("colorMode", json!("value"))
    .option("textMode", json!("value_and_name"))
    .unit("s")
    .set("decimals", json!(1))
    .mapped(&look::up_to(0.0, "ended", VERMILLION))
    .steps(&[(None, "text")])
    .empty("No certificate and no token is in use")
    .width(4)
}

fn collectors() -> Panel {
    let success = shards::best_by_collector("servicefabric_backup_collector_success");
    let took = shards::best_by_collector("servicefabric_backup_collector_duration_seconds");
    Panel::table(
        "Collectors",
        "How the last cycle of each collector went, on the exporter of the shard where it went best. When one fails, look at its errors by reason.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .rows(&success)
    .rows(&work::since_success())
    .rows(&took)
    .column("cluster_name", "Cluster", "not told", &[])
    .column("shard", "Shard", "not told", &[])
    .column("shards", "Of shards", "not told", &[])
    .column("collector", "Collector", "not told", &[])
    .column("Value #A", "Last cycle", "not run", &flags(("succeeded", GREEN), ("failed", ORANGE)))
    .column("Value #B", "Last success", "never", &[])
    .column("Value #C", "Took", "not run", &[])
    .unit("s")
    .set("decimals", json!(1))
    .empty(NO_EXPORTER)
    .width(12)
}

fn exporters() -> Panel {
    let by = "job, instance";
    Panel::table(
        "Exporters",
        "What runs where, and which part of the partitions it watches. Look whether every shard has an exporter, and all the same version.",
        &Next::Runbook("ServiceFabricBackupClusterUnwatched"),
    )
    .rows(&format!("max by ({by}, version, revision) (servicefabric_backup_exporter_build_info{{@exporters}})"))
    .rows(&format!("max by ({by}, shard, shards) (servicefabric_backup_exporter_shard_info{{@exporters}})"))
    .rows(&format!("time() - max by ({by}) (process_start_time_seconds{{@exporters}} @ours)"))
    .rows(&format!("time() - max by ({by}) (servicefabric_backup_exporter_config_last_reload_success_timestamp_seconds{{@exporters}})"))
    .rows(&format!("max by ({by}) (up{{@exporters}} @ours)"))
    .hide(&["Value #A", "Value #B"])
    .column("job", "Job", "not told", &[])
    .column("instance", "Instance", "not told", &[])
    .column("Value #E", "Scrape", "not scraped", &flags(("up", GREEN), ("down", VERMILLION)))
    .column("version", "Version", "not told", &[])
    .column("revision", "Revision", "not told", &[])
    .column("shard", "Shard", "not told", &[])
    .column("shards", "Of shards", "not told", &[])
    .column("Value #C", "Running for", "not told", &[])
    .column("Value #D", "Configuration of", "not told", &[])
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
        "Whether certificates, keys and tokens were good when last read, and whether gateways are verified. Both are empty for a cluster without TLS. Correct what is bad: older ones end.",
        &Next::Runbook("ServiceFabricBackupCredentialsStale"),
    )
    .rows(&good)
    .rows(&insecure)
    .column("cluster_name", "Cluster", "not told", &[])
    .column("instance", "Instance", "not told", &[])
    .column("Value #A", "Credentials", "none in use", &flags(("good", GREEN), ("bad", VERMILLION)))
    .column("Value #B", "Gateway", "no TLS", &flags(("not verified", ORANGE), ("verified", GREEN)))
    .empty("No cluster is reached by TLS")
    .width(8)
}
