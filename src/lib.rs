//! Prometheus exporter for the backups of Azure Service Fabric partitions.
//!
//! The data flow, with the module of each step:
//!
//! ```text
//! exporter.yml ─► config ─► settings                 pure core: values in, values out
//!                              │        ┌───────────────────────────────────────────────────────┐
//!                              ▼        │                                                       │
//! gateway (REST) ───────── poller ─► Observations ─► Snapshot::advance ─► ClusterView ─► EncodedCluster
//!   client, TLS, tokens,                │            snapshot: state of     verdicts,       exposition:
//!   routes and decoding (wire)          │            one cluster,           by protection   compressed
//!                                       │            model, inventory                       segments
//!                                       └───────────────────────────────────────────────────────┘
//!                              ▲                              │                                 │
//! fleet: a poller and a publisher per cluster                 ▼                                 ▼
//! run: start, reload, shutdown              state_file: survives restarts       server: /metrics, API, pages
//! ```
//!
//! [`model`], [`inventory`], [`protection`], [`snapshot`], [`cluster_view`] and [`exposition`] are pure: no clock, no
//! I/O, no `async`. Everything else is shell. Imports point one way, which `tests/structure.rs` checks.
//!
//! Where a change goes:
//!
//! - a metric: a row in `exposition/families/`, and a row in `docs/metrics.md`;
//! - a route of the gateway: a `Query` in `gateway/wire/`, a method of [`gateway::Gateway`] and of
//!   [`poller::ClusterApi`], a call in [`poller`], and a field of [`snapshot::Observations`];
//! - a setting: a field with its default in [`settings`], a key in `config/keys.rs`, and a row in
//!   `deploy/exporter.example.yml` and `docs/configuration.md`;
//! - a setting of the exporter's own listener: a field in [`settings::web`], a key in `config/web/keys.rs`, a row in
//!   `docs/web-configuration.md`, and its effect in `server/guard.rs` or `server/tls.rs`;
//! - a rule of the verdict: [`protection::evaluate`], its evidence in [`protection::evidence`], and
//!   `docs/protection.md`;
//! - an alert: `deploy/prometheus/`, its runbook in `docs/runbooks/`, and its tests in `tests/rules/`;
//! - a page of the web UI: a module beside `server/landing_page.rs` that renders [`exposition::EncodedCluster`]s, and
//!   its path in `server/app.rs`.
//!
//! [`simulator`] replaces a cluster in the demo and in tests. It shares no type with the client, so that a mistake in
//! one is not hidden by the same mistake in the other.

#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod cluster_view;
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
pub mod server;
pub mod settings;
pub mod simulator;
mod small_file;
pub mod snapshot;
pub mod state_file;
mod sync;
pub mod telemetry;
