//! Prometheus exporter for the backups of Azure Service Fabric partitions.

pub mod clock;
pub mod model;
pub mod simulator;
pub mod telemetry;
