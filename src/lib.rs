//! Prometheus exporter for the backups of Azure Service Fabric partitions.
//!
//! The way of the data, and the module that each step lives in:
//!
//! ```text
//! exporter.yml ─── config ───────┐
//!                                ▼
//! gateway (REST) ── poller ─► Observations ─► Snapshot::advance(observations, now) ─► Snapshot
//!    ▲ gateway: client,         decoded          snapshot: remembers, counts              │ Arc,
//!    │ TLS, wire, retries,                       state_file: what outlives a restart      │ one per
//!    │ breaker                                                                            ▼ cluster
//! fleet: one poller per cluster                              exposition: families → compressed pieces
//!                                                                                         │
//!                                                                                         ▼
//!                                                    server: /metrics, landing page, API, health, reload
//! ```
//!
//! Left of the observations and right of the pieces is shell: async, clock, sockets, files. In
//! between ([`model`], [`inventory`], [`schedule`], [`protection`], [`snapshot`], [`exposition`])
//! there is none of it: values in, values out, no failure.
//!
//! Where a change goes:
//! - a new metric: a row in [`exposition::families`], and its line in `docs/metrics.md`;
//! - a new endpoint of the gateway: a block in `gateway/wire/`, a method of [`gateway::Gateway`]
//!   and of [`poller::Source`], a call in [`poller`], a field of [`snapshot::Observations`];
//! - a new setting: a field, a default and a line in [`config`], and its line in the example and
//!   in `docs/configuration.md`;
//! - a new key of the web configuration: the same in [`config::web`], its row in
//!   `docs/web-configuration.md`, and its effect in `server/guard.rs` or `server/tls.rs`.
//!
//! [`simulator`] is the stand-in for a cluster and shares no type with the rest.

#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod exposition;
mod file_mode;
pub mod fleet;
pub mod gateway;
pub mod inventory;
pub mod logging;
pub mod model;
pub mod poller;
pub mod protection;
pub mod run;
pub mod schedule;
pub mod server;
pub mod settings;
pub mod simulator;
mod small_file;
pub mod snapshot;
pub mod state_file;
mod sync;
pub mod telemetry;
