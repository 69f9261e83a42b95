//! Commands and flags, named as Prometheus users know them.
//!
//! What was typed, parsed and bounded; nothing is done here. Every flag may stand before or after
//! the command and has a twin in the environment.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::inventory::Shard;
use crate::logging::{Format, Level};

/// Tells Prometheus whether every partition of an Azure Service Fabric cluster can be restored,
/// and how much would be lost.
#[derive(Debug, Parser)]
#[command(name = "servicefabric-backup-exporter", version)]
pub struct Arguments {
    /// What to do; without a command: run the exporter
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Configuration file
    #[arg(
        long = "config.file",
        env = "SFBE_CONFIG_FILE",
        value_name = "FILE",
        default_value = "exporter.yml",
        global = true
    )]
    pub config_file: PathBuf,

    /// Address to serve on; may be given more than once
    #[arg(
        long = "web.listen-address",
        env = "SFBE_WEB_LISTEN_ADDRESS",
        value_name = "ADDRESS",
        default_value = ":19180",
        value_delimiter = ',',
        global = true
    )]
    pub listen_addresses: Vec<String>,

    /// File with TLS, users, headers and a rate limit for the exporter's own pages; empty: none
    #[arg(
        long = "web.config.file",
        env = "SFBE_WEB_CONFIG_FILE",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true,
        global = true
    )]
    pub web_config_file: String,

    /// Path to serve metrics on
    #[arg(
        long = "web.telemetry-path",
        env = "SFBE_WEB_TELEMETRY_PATH",
        value_name = "PATH",
        default_value = "/metrics",
        value_parser = parse_path,
        global = true
    )]
    pub telemetry_path: String,

    /// Maximum number of pages encoded at a time
    #[arg(
        long = "web.max-requests",
        env = "SFBE_WEB_MAX_REQUESTS",
        value_name = "COUNT",
        default_value = "40",
        global = true
    )]
    pub max_requests: NonZeroUsize,

    /// Let `POST /-/reload` read the configuration again
    #[arg(
        long = "web.enable-lifecycle",
        env = "SFBE_WEB_ENABLE_LIFECYCLE",
        action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new(),
        global = true
    )]
    pub enable_lifecycle: bool,

    /// Minimum severity to log
    #[arg(
        long = "log.level",
        env = "SFBE_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        global = true
    )]
    pub log_level: Level,

    /// Format of the log
    #[arg(
        long = "log.format",
        env = "SFBE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "logfmt",
        global = true
    )]
    pub log_format: Format,

    /// Part of the partitions to watch when several exporters share a cluster, from 0
    #[arg(
        long = "shard",
        env = "SFBE_SHARD",
        value_name = "NUMBER",
        default_value = "0",
        global = true
    )]
    pub shard: u32,

    /// Exporters that share a cluster
    #[arg(
        long = "total-shards",
        env = "SFBE_TOTAL_SHARDS",
        value_name = "COUNT",
        default_value = "1",
        global = true
    )]
    pub total_shards: u32,
}

/// What to do instead of running the exporter.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a simulated cluster and the exporter in one process: nothing else is needed
    Demo(Demo),
    /// Run a simulated gateway alone, on the listen address
    Simulate(Simulate),
    /// Check the configuration files and name every fault in them
    CheckConfig,
}

/// The simulated cluster.
#[derive(Clone, Copy, Debug, Args)]
pub struct Simulated {
    /// Seed of all that is random
    #[arg(long, default_value = "1")]
    pub seed: u64,

    /// Partitions that can be backed up, roughly
    #[arg(long, value_name = "COUNT", default_value = "240", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub partitions: u32,
}

/// The simulated cluster and the exporter.
#[derive(Clone, Copy, Debug, Args)]
pub struct Demo {
    /// The cluster that is watched
    #[command(flatten)]
    pub simulated: Simulated,

    /// Show it all in TLS, with certificates made at the start: a gateway that asks for a
    /// certificate, an exporter that pins the gateway, and a page that asks for a password
    #[arg(long)]
    pub secure: bool,
}

/// The simulated gateway alone.
#[derive(Clone, Copy, Debug, Args)]
pub struct Simulate {
    /// The cluster that it is the gateway of
    #[command(flatten)]
    pub simulated: Simulated,

    /// Be the gateway of a secured cluster behind a proxy that checks its clients and sends the
    /// role of each as `X-Role: User` or `X-Role: Admin`; without that header nobody is let in.
    /// Only the proxy may be able to reach the listen address
    #[arg(long)]
    pub behind_proxy: bool,
}

/// Arguments that are well formed but make no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl Arguments {
    /// The web configuration file, if there is one.
    pub fn web_config_file(&self) -> Option<&Path> {
        let file = &*self.web_config_file;
        (!file.is_empty()).then(|| Path::new(file))
    }

    /// The part of the partitions to watch.
    ///
    /// # Errors
    ///
    /// When there is no such part.
    pub fn shard(&self) -> Result<Shard, UsageError> {
        let (shard, total) = (self.shard, self.total_shards);
        Shard::new(shard, total).ok_or_else(|| {
            UsageError(format!(
                "--shard={shard} does not exist with --total-shards={total}: write a number from \
                 0 to {}",
                total.saturating_sub(1)
            ))
        })
    }
}

fn parse_path(path: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let taken = path.starts_with("/-/") || path.starts_with("/api/");
    if path.starts_with('/') && path.bytes().all(plain) && !taken {
        return Ok(path.to_owned());
    }
    Err("write a path like `/metrics`, outside of `/-/` and `/api/`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_twin_in_the_environment() {
        let command = Arguments::command();
        for flag in command
            .get_arguments()
            .filter(|flag| !["help", "version"].contains(&flag.get_id().as_str()))
        {
            let name = flag.get_long().unwrap();
            let twin = format!("SFBE_{}", name.to_uppercase().replace(['.', '-'], "_"));
            assert_eq!(flag.get_env().unwrap().to_str(), Some(&*twin));
        }
    }

    #[test]
    fn flags_may_stand_before_and_after_the_command() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap();
        for line in ["x --log.level=warn demo", "x demo --log.level=warn"] {
            assert_eq!(parse(line).log_level, Level::Warn, "{line}");
        }
        let twice = parse("x --web.listen-address=:1 --web.listen-address=[::1]:2");
        assert_eq!(twice.listen_addresses, [":1", "[::1]:2"]);
    }

    #[test]
    fn the_gateway_alone_takes_the_flags_of_the_cluster_and_its_own() {
        let arguments = Arguments::try_parse_from(["x", "simulate", "--seed=3", "--behind-proxy"]);
        let Some(Command::Simulate(simulate)) = arguments.unwrap().command else {
            unreachable!("another command");
        };
        assert!(simulate.behind_proxy);
        assert_eq!(simulate.simulated.seed, 3);
        assert!(Arguments::try_parse_from(["x", "demo", "--behind-proxy"]).is_err());
    }

    #[test]
    fn the_telemetry_path_is_a_path_that_is_free() {
        for path in ["/metrics", "/", "/a/b-c.d"] {
            assert!(parse_path(path).is_ok(), "{path}");
        }
        for path in [
            "",
            "metrics",
            "/{id}",
            "/-/healthy",
            "/api/v1",
            "/a b",
            "/a?b",
        ] {
            assert!(parse_path(path).is_err(), "{path}");
        }
    }
}
