//! Prometheus exporter for the backups of Azure Service Fabric partitions.

pub mod clock;
pub mod config;
pub mod exposition;
pub mod inventory;
pub mod gateway;
pub mod model;
pub mod server;
pub mod snapshot;
pub mod state_file;
pub mod simulator;
pub mod telemetry;
