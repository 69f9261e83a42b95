//! Commands and flags, named as in Prometheus.
//!
//! Every flag can be given before or after the command, or as an environment variable.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::inventory::Shard;
use crate::logging::{Format, Level};

/// Prometheus exporter for the Backup and Restore Service of Azure Service Fabric: whether every
/// partition can be restored, and how much data would be lost.
#[derive(Debug, Parser)]
#[command(name = "servicefabric-backup-exporter", version)]
pub struct Arguments {
    /// Command to run; default: run the exporter
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

    /// Address to listen on; can be repeated
    #[arg(
        long = "web.listen-address",
        env = "SFBE_WEB_LISTEN_ADDRESS",
        value_name = "ADDRESS",
        default_value = ":19180",
        value_delimiter = ',',
        global = true
    )]
    pub listen_addresses: Vec<String>,

    /// Web configuration file: TLS, users, headers and rate limit of the listener
    #[arg(
        long = "web.config.file",
        env = "SFBE_WEB_CONFIG_FILE",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true,
        global = true
    )]
    pub web_config_file: String,

    /// Path of the metrics
    #[arg(
        long = "web.telemetry-path",
        env = "SFBE_WEB_TELEMETRY_PATH",
        value_name = "PATH",
        default_value = "/metrics",
        value_parser = parse_path,
        global = true
    )]
    pub telemetry_path: String,

    /// Maximum number of pages that are encoded concurrently
    #[arg(
        long = "web.max-requests",
        env = "SFBE_WEB_MAX_REQUESTS",
        value_name = "COUNT",
        default_value = "40",
        global = true
    )]
    pub max_requests: NonZeroUsize,

    /// Enable reloading with `POST /-/reload`
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

    /// Log format
    #[arg(
        long = "log.format",
        env = "SFBE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "logfmt",
        global = true
    )]
    pub log_format: Format,

    /// Shard of this exporter if several share a cluster, from 0
    #[arg(
        long = "shard",
        env = "SFBE_SHARD",
        value_name = "NUMBER",
        default_value = "0",
        global = true
    )]
    pub shard: u32,

    /// Number of shards
    #[arg(
        long = "total-shards",
        env = "SFBE_TOTAL_SHARDS",
        value_name = "COUNT",
        default_value = "1",
        global = true
    )]
    pub total_shards: u32,
}

/// Commands other than running the exporter.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the exporter with a simulated cluster, in one process
    Demo(Demo),
    /// Run only a simulated gateway, on the listen address
    Simulate(Simulate),
    /// Check the configuration files and print all errors
    CheckConfig,
}

/// Size and seed of the simulated cluster.
#[derive(Clone, Copy, Debug, Args)]
pub struct Simulated {
    /// Seed of the random number generator
    #[arg(long, default_value = "1")]
    pub seed: u64,

    /// Approximate number of partitions
    #[arg(long, value_name = "COUNT", default_value = "240", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub partitions: u32,
}

/// Arguments of `demo`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Demo {
    /// The simulated cluster
    #[command(flatten)]
    pub simulated: Simulated,

    /// Use TLS with generated certificates: the gateway requires a client certificate, the exporter
    /// pins the gateway, and its own page requires a password
    #[arg(long)]
    pub secure: bool,
}

/// Arguments of `simulate`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Simulate {
    /// The simulated cluster
    #[command(flatten)]
    pub simulated: Simulated,

    /// Simulate a secured cluster behind a proxy that authenticates clients and sends their role as
    /// `X-Role: User` or `X-Role: Admin`. Requests without that header are rejected. Only the proxy
    /// must be able to reach the listen address
    #[arg(long)]
    pub behind_proxy: bool,
}

/// An invalid combination of arguments, or an invalid value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl Arguments {
    /// The web configuration file, if configured.
    pub fn web_config_file(&self) -> Option<&Path> {
        let file = &*self.web_config_file;
        (!file.is_empty()).then(|| Path::new(file))
    }

    /// The shard of this exporter.
    ///
    /// # Errors
    ///
    /// If `--shard` is not less than `--total-shards`.
    pub fn shard(&self) -> Result<Shard, UsageError> {
        let (shard, total) = (self.shard, self.total_shards);
        Shard::new(shard, total).ok_or_else(|| {
            UsageError(format!(
                "expected --shard from 0 to {} with --total-shards={total}, found --shard={shard}",
                total.saturating_sub(1)
            ))
        })
    }
}

fn parse_path(path: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let is_reserved = path.starts_with("/-/") || path.starts_with("/api/");
    if path.starts_with('/') && path.bytes().all(plain) && !is_reserved {
        return Ok(path.to_owned());
    }
    Err("expected a path such as `/metrics`, not below `/-/` or `/api/`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_definition_is_valid() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        let command = Arguments::command();
        for flag in command
            .get_arguments()
            .filter(|flag| !["help", "version"].contains(&flag.get_id().as_str()))
        {
            let name = flag.get_long().unwrap();
            let variable = format!("SFBE_{}", name.to_uppercase().replace(['.', '-'], "_"));
            assert_eq!(flag.get_env().unwrap().to_str(), Some(&*variable));
        }
    }

    #[test]
    fn flags_are_accepted_before_and_after_the_command() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap();
        for line in ["x --log.level=warn demo", "x demo --log.level=warn"] {
            assert_eq!(parse(line).log_level, Level::Warn, "{line}");
        }
        let twice = parse("x --web.listen-address=:1 --web.listen-address=[::1]:2");
        assert_eq!(twice.listen_addresses, [":1", "[::1]:2"]);
    }

    #[test]
    fn simulate_has_the_flags_of_the_cluster_and_its_own() {
        let arguments = Arguments::try_parse_from(["x", "simulate", "--seed=3", "--behind-proxy"]);
        let Some(Command::Simulate(simulate)) = arguments.unwrap().command else {
            unreachable!("another command");
        };
        assert!(simulate.behind_proxy);
        assert_eq!(simulate.simulated.seed, 3);
        assert!(Arguments::try_parse_from(["x", "demo", "--behind-proxy"]).is_err());
    }

    #[test]
    fn telemetry_path_is_not_reserved() {
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
