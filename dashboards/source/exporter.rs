//! Exporter: whether what the other dashboards say can be believed, and why not.

use serde_json::{Value, json};

use super::look::{self, GREEN, GREY, ORANGE, VERMILLION, flag};
use super::panel::{Next, Panel};
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
            (7, vec![errors(), requests(), latency()]),
            (7, vec![durations(), success_age(), freshness()]),
            (7, vec![partitions(), skew(), security()]),
            (7, vec![samples(), scrape(), cpu(), memory(), files()]),
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
    .columns(
        &[
            ("cluster_name", "Cluster"),
            ("collector", "Collector"),
            ("Value #A", "Last cycle"),
            ("Value #B", "Last success"),
            ("Value #C", "Took"),
        ],
        &[],
    )
    .unit("s")
    .set("decimals", json!(1))
    .only("Last cycle", &[
        ("mappings", json!([flag(("succeeded", GREEN), ("failed", ORANGE))])),
        ("custom.cellOptions", json!({ "type": "color-background", "mode": "basic" })),
    ])
    .only("Last success", &[("noValue", json!("never"))])
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
    .columns(
        &[
            ("job", "Job"),
            ("instance", "Instance"),
            ("Value #E", "Scrape"),
            ("version", "Version"),
            ("revision", "Revision"),
            ("shard", "Shard"),
            ("shards", "Of shards"),
            ("Value #C", "Running for"),
            ("Value #D", "Configuration of"),
        ],
        &["Value #A", "Value #B"],
    )
    .unit("s")
    .set("decimals", json!(1))
    .only("Scrape", &[
        ("mappings", json!([flag(("up", GREEN), ("down", VERMILLION))])),
        ("custom.cellOptions", json!({ "type": "color-background", "mode": "basic" })),
    ])
    .empty(NO_EXPORTER)
    .width(12)
}

fn errors() -> Panel {
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

fn requests() -> Panel {
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

fn latency() -> Panel {
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

fn durations() -> Panel {
    Panel::lines(
        "Time of a cycle",
        "How long the last cycle of each collector took, the time over which its requests are spread included. When it comes near poll.interval, check requests and latency.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time("max by (cluster_name, collector) (servicefabric_backup_collector_duration_seconds{@clusters})", "{{cluster_name}}, {{collector}}")
    .unit("s")
    .set("min", json!(0))
    .empty(NO_EXPORTER)
    .width(8)
}

fn success_age() -> Panel {
    Panel::lines(
        "Age of the last success, by collector",
        "How long ago each collector last succeeded. A saw tooth is healthy; a straight climb is a collector that fails: look at its errors.",
        &Next::Runbook("ServiceFabricBackupCollectorFailing"),
    )
    .over_time("time() - max by (cluster_name, collector) (servicefabric_backup_collector_success_timestamp_seconds{@clusters})", "{{cluster_name}}, {{collector}}")
    .unit("s")
    .set("min", json!(0))
    .empty("No collector has succeeded")
    .width(8)
}

fn freshness() -> Panel {
    let age = "time() - max by (@id) (servicefabric_backup_partition_poll_timestamp_seconds{@partitions})";
    Panel::lines(
        "Freshness of readings",
        "How long ago partitions were read: the one read longest ago, and the average. When both climb, the exporter is blind: check the gateways.",
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

fn partitions() -> Panel {
    let shards = "on (job, instance) group_left (shard) servicefabric_backup_exporter_shard_info{@exporters}";
    let query = format!(
        "sum by (cluster_name) (max by (cluster_name, shard) (servicefabric_backup_partitions{{@clusters}} * {shards}))"
    );
    Panel::lines(
        "Partitions watched",
        "Partitions that are tracked, all shards together. A step down without a change in the cluster means that a shard or an exporter is missing: check the table of exporters.",
        &Next::Runbook("ServiceFabricBackupClusterUnwatched"),
    )
    .over_time(&query, "{{cluster_name}}")
    .unit("short")
    .set("min", json!(0))
    .set("decimals", json!(0))
    .empty(NO_EXPORTER)
    .width(8)
}

fn skew() -> Panel {
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
    .columns(
        &[
            ("cluster_name", "Cluster"),
            ("instance", "Instance"),
            ("Value #A", "Credentials"),
            ("Value #B", "Gateway"),
        ],
        &[],
    )
    .only("Credentials", &[
        ("mappings", json!([flag(("good", GREEN), ("bad", VERMILLION))])),
        ("custom.cellOptions", json!({ "type": "color-background", "mode": "basic" })),
        ("noValue", json!("none in use")),
    ])
    .only("Gateway", &[
        ("mappings", json!([flag(("not verified", ORANGE), ("verified", GREEN))])),
        ("custom.cellOptions", json!({ "type": "color-background", "mode": "basic" })),
    ])
    .empty("No cluster is reached by TLS")
    .width(8)
}

/// A line per exporter.
fn by_instance(title: &str, description: &str, query: &str, unit: &str) -> Panel {
    Panel::lines(
        title,
        description,
        &Next::Runbook("ServiceFabricBackupExporterDown"),
    )
    .over_time(query, "{{instance}}")
    .unit(unit)
    .set("min", json!(0))
    .empty(NO_EXPORTER)
}

fn samples() -> Panel {
    by_instance(
        "Series scraped",
        "Samples of one scrape. It grows with partitions; metrics.states: current makes it much smaller. When it jumps, check which partitions were added.",
        "max by (instance) (scrape_samples_scraped{@exporters})",
        "short",
    )
    .width(5)
}

fn scrape() -> Panel {
    by_instance(
        "Time of a scrape",
        "How long Prometheus takes to scrape. When it comes near the scrape timeout, check CPU and network of the exporter.",
        "max by (instance) (scrape_duration_seconds{@exporters})",
        "s",
    )
    .width(5)
}

fn cpu() -> Panel {
    by_instance(
        "CPU",
        "CPU seconds per second that the exporter takes. When it grows, check the number of partitions and how often it is scraped.",
        "max by (instance) (rate(process_cpu_seconds_total{@exporters}[$__rate_interval]))",
        "percentunit",
    )
    .width(5)
}

fn memory() -> Panel {
    by_instance(
        "Memory",
        "Resident memory of the exporter. When it climbs without new partitions, check the version and report it.",
        "max by (instance) (process_resident_memory_bytes{@exporters})",
        "bytes",
    )
    .width(5)
}

fn files() -> Panel {
    Panel::lines(
        "Open files",
        "Open file descriptors and the limit. When they come near it, check who scrapes and connects so often.",
        &Next::Runbook("ServiceFabricBackupExporterDown"),
    )
    .over_time("max by (instance) (process_open_fds{@exporters})", "{{instance}}, open")
    .over_time("min by (instance) (process_max_fds{@exporters})", "{{instance}}, limit")
    .unit("short")
    .set("min", json!(0))
    .empty(NO_EXPORTER)
    .width(4)
}
