//! The standard families of a process.

use crate::exposition::family::{Family, Kind};
use crate::exposition::samples::Value;

/// In the order of the page.
pub(super) const FAMILIES: &[Family] = &[
    Family::process(
        "process_cpu_seconds_total",
        Kind::Counter,
        "User and system CPU time of the process",
        |process| process.resources.cpu_seconds_total.map(Value::Float),
    ),
    Family::process(
        "process_open_fds",
        Kind::Gauge,
        "Open file descriptors",
        |process| process.resources.open_fds.map(Value::from),
    ),
    Family::process(
        "process_max_fds",
        Kind::Gauge,
        "Most file descriptors that may be open",
        |process| process.resources.max_fds.map(Value::from),
    ),
    Family::process(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "Virtual memory of the process",
        |process| process.resources.virtual_memory_bytes.map(Value::from),
    ),
    Family::process(
        "process_virtual_memory_max_bytes",
        Kind::Gauge,
        "Most virtual memory that the process may have, if there is a limit",
        |process| {
            let limit = process.resources.virtual_memory_max_bytes;
            limit.filter(|limit| *limit > 0).map(Value::from)
        },
    ),
    Family::process(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory of the process",
        |process| process.resources.resident_memory_bytes.map(Value::from),
    ),
    Family::process(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started",
        |process| process.resources.start_time_seconds.map(Value::from),
    ),
    Family::process(
        "process_threads",
        Kind::Gauge,
        "Threads of the process",
        |process| process.resources.threads.map(Value::from),
    ),
];
