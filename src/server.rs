//! The HTTP side of the exporter.

pub mod listener;
