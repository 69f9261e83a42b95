//! Client of the Service Fabric HTTP gateway: one [`Gateway`] per cluster.
//!
//! Asks and never changes anything: every request is a GET. Turns the wire into the words of
//! [`crate::model`] or into an [`Error`] with a [`Reason`]; an answer it does not understand is an
//! error, never a guess. Bounds what a sick cluster can cost: requests in flight, time, body
//! sizes, pages, retries, and through three breakers the calls to a side that does not answer.
//! Does no scheduling, and logs only what no call fails of: the rest is the caller's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::Semaphore;
use url::Url;

use crate::file_mode;
use crate::model::{
    BackupHealth, BackupProgress, Configuration, Entity, Listed, ListedBackup, ListedPartition,
    Name, PartitionId, Policy, RestoreProgress,
};
use crate::telemetry::Telemetry;
use breaker::Gate;
use endpoints::Endpoints;
use evidence::Evidence;
use http::Transport;
use look::Look;
use query::Side;
use quota::Quota;
use retry::Budget;
use token::Tokens;

mod bearer;
mod body;
mod breaker;
mod call;
mod classify;
mod connections;
mod deadline;
mod decode;
mod endpoints;
mod error;
mod evidence;
mod file;
mod http;
mod look;
mod peer;
mod port;
mod query;
mod quota;
mod reason;
mod redact;
mod replay;
mod resolver;
mod retry;
mod reuse;
mod rotation;
mod security;
mod standing;
mod tls;
mod token;
mod wire;

pub use error::{BuildError, Error, Reason};
pub use file::FileError;
pub use replay::Replay;
pub use rotation::Rotation;
pub(crate) use security::is_loopback;
pub use security::{
    Auth, ClientCertificate, Entra, EntraProtocol, FabricIdentity, FabricIdentityError, HostName,
    ManagedIdentity, Security, Thumbprint, TlsVersion, TokenSource, Trust,
};

/// How to reach one cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configured name of the cluster: the label of its request counters.
    pub cluster: Arc<str>,
    /// Base URLs of equivalent gateways, `http[s]://host:port` with an optional path in front of
    /// the API. At least one, and all of one scheme.
    pub endpoints: Vec<Url>,
    /// Longest duration of one call, its retries included; of a list, of one page. A list of
    /// backups may take six times as long: the whole storage is read for it. Getting a token is no
    /// part of the call and may take as long once more, with all that belongs to it; a call whose
    /// token is refused begins anew, once.
    pub timeout: Duration,
    /// Most requests in flight at any time; zero counts as one. At most half of them (rounded up)
    /// are for lists of backups.
    pub concurrency: usize,
    /// How we and the gateways know each other; about `https` endpoints only.
    pub security: Security,
    /// The identity that Service Fabric gave this process, if it did; for managed identities only,
    /// so that one which cannot be used is no matter to anybody else.
    pub fabric_identity: Option<Result<FabricIdentity, FabricIdentityError>>,
}

/// The client of one cluster, for as long as its configuration stays the same.
#[derive(Debug)]
pub struct Gateway {
    cluster: Arc<str>,
    telemetry: Arc<Telemetry>,
    transport: Transport,
    tokens: Option<Tokens>,
    endpoints: Endpoints,
    timeout: Duration,
    permits: Semaphore,
    storage_permits: Semaphore,
    budget: Mutex<Budget>,
    native: Gate,
    health: Gate,
    backup: Gate,
    evidence: Mutex<Evidence>,
    skew: Mutex<Option<TimeDelta>>,
    cycle_quota: Mutex<Quota>,
    storage_quota: Mutex<Quota>,
    /// Warnings about secrets that every local user could read at the start.
    exposures: Vec<String>,
}

impl Gateway {
    /// Prepares the client: reads the files that its security names, connects to nothing.
    pub fn new(options: Options, telemetry: Arc<Telemetry>) -> Result<Self, BuildError> {
        let concurrency = options.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        options.security.check(&options.endpoints)?;
        let endpoints = Endpoints::new(options.endpoints)?;
        let secrets = options.security.secret_files().into_iter();
        let exposures = secrets.filter_map(file_mode::exposure).collect();
        let tokens = match &options.security.auth {
            Auth::Token(source) => Some(Tokens::new(
                Arc::clone(&options.cluster),
                source,
                options.fabric_identity,
                options.timeout,
            )?),
            Auth::Nobody | Auth::ClientCertificate(_) => None,
        };
        Ok(Self {
            cluster: options.cluster,
            telemetry,
            transport: Transport::new(
                options.timeout,
                endpoints.all().cloned().collect(),
                options.security,
            )?,
            tokens,
            endpoints,
            timeout: options.timeout,
            permits: Semaphore::new(concurrency),
            storage_permits: Semaphore::new(concurrency.div_ceil(2)),
            budget: Mutex::default(),
            native: Gate::new(concurrency),
            health: Gate::new(concurrency),
            backup: Gate::new(concurrency),
            evidence: Mutex::default(),
            skew: Mutex::default(),
            cycle_quota: Mutex::default(),
            storage_quota: Mutex::default(),
            exposures,
        })
    }

    /// The same off the runtime's threads: files that do not come in time are given up on.
    pub async fn open(options: Options, telemetry: Arc<Telemetry>) -> Result<Self, BuildError> {
        let opening = move || Self::new(options, telemetry);
        let opened = Look::default().within(rotation::PATIENCE, opening).await;
        opened.unwrap_or(Err(BuildError::Late(rotation::PATIENCE)))
    }

    /// The version of the cluster's runtime, such as `6.4.514.9494`.
    pub async fn cluster_version(&self) -> Result<String, Error> {
        self.get(&wire::ClusterVersion).await
    }

    /// Names of all applications; the system application is not among them.
    pub async fn applications(&self) -> Result<Listed<Name>, Error> {
        self.get_all(&wire::Applications).await
    }

    /// Names of the services of `application` that keep state on disk: all that can be backed up.
    pub async fn persisted_services(&self, application: &str) -> Result<Listed<Name>, Error> {
        self.get_all(&wire::Services { application }).await
    }

    /// The partitions of `service`, if it is stateful.
    pub async fn partitions(&self, service: &str) -> Result<Listed<ListedPartition>, Error> {
        self.get_all(&wire::Partitions { service }).await
    }

    /// Name of the service that `partition` belongs to.
    pub async fn service_name(&self, partition: PartitionId) -> Result<Name, Error> {
        self.get(&wire::ServiceName { partition }).await
    }

    /// Name of the application that `service` belongs to.
    pub async fn application_name(&self, service: &str) -> Result<Name, Error> {
        self.get(&wire::ApplicationName { service }).await
    }

    /// The record of the last requested backup of `partition`; `None` when none ever was.
    pub async fn backup_progress(
        &self,
        partition: PartitionId,
    ) -> Result<Option<BackupProgress>, Error> {
        self.get(&wire::Progress { partition }).await
    }

    /// The record of the last restore of `partition`; `None` when none ever was.
    pub async fn restore_progress(
        &self,
        partition: PartitionId,
    ) -> Result<Option<RestoreProgress>, Error> {
        self.get(&wire::Restore { partition }).await
    }

    /// What the health of `partition` says of its periodic backups.
    pub async fn backup_health(&self, partition: PartitionId) -> Result<BackupHealth, Error> {
        self.get(&wire::Health { partition }).await
    }

    /// How `application` and what is below it is protected: the application itself, and only
    /// those of its services and partitions where something else was set. Empty when it is not
    /// protected. Old runtimes add entities of applications whose name begins alike.
    pub async fn backup_configuration(
        &self,
        application: &str,
    ) -> Result<Listed<Configuration>, Error> {
        self.get_all(&wire::Configurations { application }).await
    }

    /// What applies to `partition`, wherever it was set; `None` when nothing does. This route works
    /// where those of the application and the service fail with [`Error::is_null_reference`].
    pub async fn partition_backup_configuration(
        &self,
        partition: PartitionId,
    ) -> Result<Option<Configuration>, Error> {
        self.get(&wire::PartitionConfiguration { partition }).await
    }

    /// All backup policies.
    pub async fn policies(&self) -> Result<Listed<Policy>, Error> {
        self.get_all(&wire::Policies).await
    }

    /// Where `policy` was set; not what it came down to.
    pub async fn entities_of_policy(&self, policy: &str) -> Result<Listed<Entity>, Error> {
        self.get_all(&wire::Entities { policy }).await
    }

    /// The newest backup of every partition of `application` in the storage of the policy that
    /// applies now; of partitions that are gone, too. [`Error::is_backup_not_enabled`] when it is
    /// not protected.
    ///
    /// Costly for the cluster, and slow: see [`Options::timeout`]. A time-out here says nothing of
    /// the backup service, and is not tried again.
    pub async fn latest_backups(&self, application: &str) -> Result<Listed<ListedBackup>, Error> {
        let backups = wire::Backups::<true> { application };
        self.get_all(&backups).await
    }

    /// All backups of [`Self::latest_backups`], and at its price.
    pub async fn all_backups(&self, application: &str) -> Result<Listed<ListedBackup>, Error> {
        let backups = wire::Backups::<false> { application };
        self.get_all(&backups).await
    }

    /// The newest backup of `partition` in the storage of the policy that applies now: at most one
    /// item. As slow and as costly for the cluster as [`Self::latest_backups`], but reads only that
    /// storage.
    pub async fn latest_backups_of(
        &self,
        partition: PartitionId,
    ) -> Result<Listed<ListedBackup>, Error> {
        self.get_all(&wire::PartitionBackups { partition }).await
    }

    /// How far the cluster's clock is ahead of this machine's, to the second, as of the last
    /// answer that carried a date.
    pub fn clock_skew(&self) -> Option<TimeDelta> {
        *locked(&self.skew)
    }

    /// Forgets the evidence behind [`Self::backup_service`] and [`Self::native_access`], has the
    /// file of a token read again, and allows as many items of lists as at the start.
    pub fn begin_cycle(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.begin_cycle();
        }
        *locked(&self.evidence) = Evidence::default();
        locked(&self.cycle_quota).renew();
    }

    /// Allows as many items of the lists of backups as at the start.
    pub fn begin_lists(&self) {
        locked(&self.storage_quota).renew();
    }

    /// Whether the backup service answers, as far as the calls since [`Self::begin_cycle`] tell;
    /// `None` when no gateway was reached or no backup route was called.
    pub fn backup_service(&self) -> Option<bool> {
        let evidence = *locked(&self.evidence);
        match self.backup.open_because() {
            Some(Reason::ServiceAbsent | Reason::ServiceUnavailable | Reason::Timeout) => {
                evidence.gateway_answered().then_some(false)
            }
            _ => evidence.backup_service(),
        }
    }

    /// Whether a gateway let us in on a native route since [`Self::begin_cycle`].
    pub fn native_access(&self) -> bool {
        locked(&self.evidence).native_access()
    }

    fn gate(&self, side: Side) -> &Gate {
        match side {
            Side::Gateway => &self.native,
            Side::HealthStore => &self.health,
            Side::BackupService => &self.backup,
        }
    }
}

/// Nothing here panics while it holds a lock, and every value is whole between two statements.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
