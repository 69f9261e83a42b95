//! Options of a simulated gateway.

use std::time::Duration;

use super::access::Access;
use super::estate::RestorePlan;
use super::record::BackupPlan;
use super::switches::Switches;
use super::tls::ServerIdentity;

/// Options of a simulated gateway.
#[derive(Clone, Debug)]
pub struct Options {
    /// Response formats in which runtime versions differ.
    pub switches: Switches,
    /// Cluster version; native routes reject a newer `api-version`.
    pub cluster_version: String,
    /// Latency of every response.
    pub latency: Latency,
    /// Course of a backup that is requested over HTTP; `timeout` is replaced by the `BackupTimeout`
    /// of the request.
    pub on_demand: BackupPlan,
    /// Course of a restore that is requested over HTTP.
    pub restore: RestorePlan,
    /// Initial authorization.
    pub access: Access,
    /// Initial certificate and key; `None` disables TLS.
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

/// Time until a response starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// No added latency.
    #[default]
    None,
    /// Constant.
    Fixed(Duration),
    /// Random between two bounds, mostly near the lower one, with a long tail.
    Spread {
        /// Seed of the random numbers.
        seed: u64,
        /// Lower bound.
        low: Duration,
        /// Upper bound.
        high: Duration,
    },
}
