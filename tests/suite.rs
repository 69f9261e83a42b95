//! The tests that drive the library and the program from outside, in one binary: linking one for each file would take
//! most of the time of `cargo test`. `cargo test --test suite claims::` runs those of `claims.rs`.

mod accuracy;
#[cfg(unix)]
mod canaries;
mod canned_cluster;
mod claims;
mod cli;
mod config;
mod configuration;
#[cfg(unix)]
mod demo;
mod deployment;
mod documents;
#[cfg(unix)]
mod exporter;
mod gateway;
mod gateway_answers;
mod gateway_connections;
mod gateway_nodes;
mod listener;
mod malformed;
mod poller;
mod protection;
mod reload;
mod schedules;
mod simulator;
mod simulator_periodic;
mod simulator_quirks;
mod simulator_security;
#[cfg(unix)]
mod slow_readers;
#[cfg(unix)]
mod state_file;
mod support;
#[cfg(unix)]
mod tls;
#[cfg(unix)]
mod tls_attacks;
#[cfg(unix)]
mod tls_exporter;
#[cfg(unix)]
mod tls_files;
mod token;
mod web_config;
#[cfg(unix)]
mod web_process;
