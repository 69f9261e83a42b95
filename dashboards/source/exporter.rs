//! Exporter: whether what the other dashboards say can be believed, and why not.

mod process;
mod work;

use serde_json::{Value, json};

use super::look::{self, GREEN, GREY, ORANGE, VERMILLION, flag, flags};
use super::panel::{Next, Panel, or_else};
use super::{Dashboard, Scope, stats, variables};

const NO_EXPORTER: &str = "No exporter is scraped";

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
    let query = "count(up{@exporters} == 0) or 0 * group(up{@exporters})";
    stats::counted(
        "Targets down",
        query,
        VERMILLION,
        "Exporters that Prometheus cannot scrape. Check whether the process runs and the port is reachable.",
        &Next::Runbook("ServiceFabricBackupExporterDown"),
    )
    .empty(NO_EXPORTER)
}

fn config() -> Panel {
    let family = "servicefabric_backup_exporter_config_last_reload_successful{@exporters}";
    stats::counted(
        "Bad configurations",
        &format!("count({family} == 0) or 0 * group({family})"),
        ORANGE,
        "Exporters whose configuration could not be used when it was last read; the older one stays in use. Read the log and correct the file.",
        &Next::Runbook("ServiceFabricBackupConfigReloadFailed"),
    )
    .empty(NO_EXPORTER)
}

fn reached() -> Panel {
    Panel::stat(
        "Gateways",
        "Whether any exporter reaches a gateway of the cluster and is let in. When not, check network, certificates and tokens.",
        &Next::Runbook("ServiceFabricBackupClusterUnreachable"),
    )
    .now("max by (cluster_name) (servicefabric_backup_cluster_up{@clusters})", "{{cluster_name}}")
    .mapped(&flag(("reached", GREEN), ("not reached", VERMILLION)))
    .option("textMode", json!("value_and_name"))
    .steps(&[(None, GREY)])
    .empty(NO_EXPORTER)
    .width(4)
}

fn answering() -> Panel {
    Panel::stat(
        "Backup services",
        "Whether the backup restore service of the cluster answers. When not, check the service in the cluster and the rights of the exporter.",
        &Next::Runbook("ServiceFabricBackupServiceDown"),
    )
    .now("max by (cluster_name) (servicefabric_backup_service_up{@clusters})", "{{cluster_name}}")
    .mapped(&flag(("answers", GREEN), ("silent", VERMILLION)))
    .option("textMode", json!("value_and_name"))
    .steps(&[(None, GREY)])
    .empty("No backup service could be asked")
    .width(4)
}

fn failing() -> Panel {
    let family = "servicefabric_backup_collector_success{@clusters}";
    let failing = format!("max by (cluster_name, collector) ({family}) == 0");
    stats::counted(
        "Failing collectors",
        &format!("count({failing}) or 0 * group({family})"),
        ORANGE,
        "Collectors with a request that failed in the last cycle, on every exporter. Look at the errors by reason below.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .empty(NO_EXPORTER)
}

fn oldest_reading() -> Panel {
    let read = "max by (@id) (servicefabric_backup_partition_poll_timestamp_seconds{@partitions})";
    Panel::stat(
        "Oldest reading",
        "How long ago that partition was read which was not read for longest. When it grows beyond poll.staleness, verdicts turn Unknown: check the collectors below.",
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
    let by = "cluster_name, collector";
    let success = format!("max by ({by}) (servicefabric_backup_collector_success{{@clusters}})");
    let at = format!(
        "time() - max by ({by}) (servicefabric_backup_collector_success_timestamp_seconds{{@clusters}})"
    );
    let took =
        format!("max by ({by}) (servicefabric_backup_collector_duration_seconds{{@clusters}})");
    Panel::table(
        "Collectors",
        "How the last cycle of each collector went, on the exporter where it went best. When one fails, look at its errors by reason.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .rows(&success)
    .rows(&at)
    .rows(&took)
    .column("cluster_name", "Cluster", &[])
    .column("collector", "Collector", &[])
    .column("Value #A", "Last cycle", &flags(("succeeded", GREEN), ("failed", ORANGE), "not run"))
    .column("Value #B", "Last success", &or_else("never"))
    .column("Value #C", "Took", &[])
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
    .rows(&format!("time() - max by ({by}) (process_start_time_seconds{{@exporters}})"))
    .rows(&format!("time() - max by ({by}) (servicefabric_backup_exporter_config_last_reload_success_timestamp_seconds{{@exporters}})"))
    .rows(&format!("max by ({by}) (up{{@exporters}})"))
    .hide(&["Value #A", "Value #B"])
    .column("job", "Job", &[])
    .column("instance", "Instance", &[])
    .column("Value #E", "Scrape", &flags(("up", GREEN), ("down", VERMILLION), "not scraped"))
    .column("version", "Version", &[])
    .column("revision", "Revision", &[])
    .column("shard", "Shard", &[])
    .column("shards", "Of shards", &[])
    .column("Value #C", "Running for", &[])
    .column("Value #D", "Configuration of", &[])
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
    .column("cluster_name", "Cluster", &[])
    .column("instance", "Instance", &[])
    .column("Value #A", "Credentials", &flags(("good", GREEN), ("bad", VERMILLION), "none in use"))
    .column("Value #B", "Gateway", &flags(("not verified", ORANGE), ("verified", GREEN), "no TLS"))
    .empty("No cluster is reached by TLS")
    .width(8)
}
