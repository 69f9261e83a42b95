//! Options of a simulated gateway.

use std::time::Duration;

use super::access::Access;
use super::estate::RestorePlan;
use super::record::BackupPlan;
use super::switches::Switches;
use super::tls::ServerIdentity;

/// How a simulated gateway serves its estate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Spellings in which real runtimes differ.
    pub switches: Switches,
    /// Version of the cluster; native routes refuse an `api-version` newer than it.
    pub cluster_version: String,
    /// How long every answer takes.
    pub latency: Latency,
    /// How a backup goes that is requested over HTTP; its `timeout` is replaced by the
    /// `BackupTimeout` of the request.
    pub on_demand: BackupPlan,
    /// How a restore goes that is requested over HTTP.
    pub restore: RestorePlan,
    /// Who is let in at first.
    pub access: Access,
    /// Certificate and key at first; `None`: plain HTTP.
    pub identity: Option<ServerIdentity>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            switches: Switches::default(),
            cluster_version: "10.1.2493.9590".to_owned(),
            latency: Latency::None,
            on_demand: BackupPlan::default(),
            restore: RestorePlan::default(),
            access: Access::default(),
            identity: None,
        }
    }
}

/// How long an answer takes before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// As fast as it can.
    #[default]
    None,
    /// Always the same.
    Fixed(Duration),
    /// Between two bounds, most answers near the lower one, with a long tail; drawn from a seed.
    Spread {
        /// Seed of the draws.
        seed: u64,
        /// Fastest answer.
        low: Duration,
        /// Slowest answer.
        high: Duration,
    },
}
