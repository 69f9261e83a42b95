//! The standard process metrics of Prometheus clients.

use crate::exposition::family::Family;
use crate::exposition::samples::{Kind, Value};

pub(super) const FAMILIES: &[Family] = &[
    Family::process(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Total user and system CPU time of the process",
        |process| process.resources.cpu_seconds_total.map(Value::Float),
    ),
    Family::process(
        "process_open_fds",
        Kind::Gauge,
        "Number of open file descriptors",
        |process| process.resources.open_fds.map(Value::from),
    ),
    Family::process(
        "process_max_fds",
        Kind::Gauge,
        "Maximum number of open file descriptors",
        |process| process.resources.max_fds.map(Value::from),
    ),
    Family::process(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "Virtual memory size of the process",
        |process| process.resources.virtual_memory_bytes.map(Value::from),
    ),
    Family::process(
        "process_virtual_memory_max_bytes",
        Kind::Gauge,
        "Maximum virtual memory of the process; absent without a limit",
        |process| {
            let limit = process.resources.virtual_memory_max_bytes;
            limit.filter(|limit| *limit > 0).map(Value::from)
        },
    ),
    Family::process(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory size of the process",
        |process| process.resources.resident_memory_bytes.map(Value::from),
    ),
    Family::process(
        "process_start_time_seconds",
        Kind::Gauge,
        "Start time of the process",
        |process| process.resources.start_time_seconds.map(Value::from),
    ),
    Family::process(
        "process_threads",
        Kind::Gauge,
        "Number of threads of the process",
        |process| process.resources.threads.map(Value::from),
    ),
];
