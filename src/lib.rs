//! Prometheus exporter for the backups of Azure Service Fabric partitions.

pub mod clock;
pub mod gateway;
pub mod model;
pub mod telemetry;
