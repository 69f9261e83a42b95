//! What the exporters take: series, time, processor, memory, files.

use serde_json::json;

use super::super::panel::{Next, Panel};
use super::NO_EXPORTER;

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

pub(super) fn samples() -> Panel {
    by_instance(
        "Series scraped",
        "Samples of one scrape. It grows with partitions; metrics.states: current makes it much smaller. When it jumps, check which partitions were added.",
        "max by (instance) (scrape_samples_scraped{@exporters} @ours)",
        "locale",
    )
    .width(5)
}

pub(super) fn scrape() -> Panel {
    by_instance(
        "Time of a scrape",
        "How long Prometheus takes to scrape. When it comes near the scrape timeout, check CPU and network of the exporter.",
        "max by (instance) (scrape_duration_seconds{@exporters} @ours)",
        "s",
    )
    .width(5)
}

pub(super) fn cpu() -> Panel {
    by_instance(
        "CPU",
        "CPU seconds per second that the exporter takes. When it grows, check the number of partitions and how often it is scraped.",
        "max by (instance) (rate(process_cpu_seconds_total{@exporters}[$__rate_interval]) @ours)",
        "percentunit",
    )
    .width(5)
}

pub(super) fn memory() -> Panel {
    by_instance(
        "Memory",
        "Resident memory of the exporter. When it climbs without new partitions, check the version and report it.",
        "max by (instance) (process_resident_memory_bytes{@exporters} @ours)",
        "bytes",
    )
    .width(5)
}

pub(super) fn files() -> Panel {
    Panel::lines(
        "Open files",
        "Open file descriptors and the limit. When they come near it, check who scrapes and connects so often.",
        &Next::Runbook("ServiceFabricBackupExporterDown"),
    )
    .over_time("max by (instance) (process_open_fds{@exporters} @ours)", "{{instance}}, open")
    .over_time("min by (instance) (process_max_fds{@exporters} @ours)", "{{instance}}, limit")
    .unit("locale")
    .set("min", json!(0))
    .empty(NO_EXPORTER)
    .width(4)
}
