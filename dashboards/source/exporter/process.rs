//! Resources of the exporters: samples, scrape duration, CPU, memory, open files.

use serde_json::json;

use super::super::panel::{FollowUp, Panel};
use super::super::stats::NO_EXPORTER;

/// A time series panel with a line per exporter.
fn by_instance(title: &str, description: &str, query: &str, unit: &str) -> Panel {
    Panel::lines(
        title,
        description,
        &FollowUp::Runbook("ServiceFabricBackupExporterDown"),
    )
    .over_time(query, "{{instance}}")
    .unit(unit)
    .set("min", json!(0))
    .empty(NO_EXPORTER)
}

pub(super) fn samples() -> Panel {
    by_instance(
        "Samples per scrape",
        "Samples of one scrape. The number grows with the partitions; metrics.states: current reduces it. If it jumps, check which partitions were added.",
        "max by (instance) (scrape_samples_scraped{@exporters} @ours)",
        "locale",
    )
    .width(5)
}

pub(super) fn scrape() -> Panel {
    by_instance(
        "Scrape duration",
        "Duration of a scrape. If it approaches the scrape timeout, check CPU and network of the exporter.",
        "max by (instance) (scrape_duration_seconds{@exporters} @ours)",
        "s",
    )
    .width(5)
}

pub(super) fn cpu() -> Panel {
    by_instance(
        "CPU",
        "CPU seconds per second of the exporter. If it grows, check the number of partitions and the scrape interval.",
        "max by (instance) (rate(process_cpu_seconds_total{@exporters}[$__rate_interval]) @ours)",
        "percentunit",
    )
    .width(5)
}

pub(super) fn memory() -> Panel {
    by_instance(
        "Memory",
        "Resident memory of the exporter. If it grows without new partitions, check the version and report it.",
        "max by (instance) (process_resident_memory_bytes{@exporters} @ours)",
        "bytes",
    )
    .width(5)
}

pub(super) fn files() -> Panel {
    Panel::lines(
        "Open files",
        "Open file descriptors and their limit. If they approach the limit, check which clients connect to the exporter.",
        &FollowUp::Runbook("ServiceFabricBackupExporterDown"),
    )
    .over_time("max by (instance) (process_open_fds{@exporters} @ours)", "{{instance}}, open")
    .over_time("min by (instance) (process_max_fds{@exporters} @ours)", "{{instance}}, limit")
    .unit("locale")
    .set("min", json!(0))
    .empty(NO_EXPORTER)
    .width(4)
}
