//! Client of the Service Fabric HTTP gateway: one [`Gateway`] per cluster.
//!
//! Reads and never changes anything: every request is a GET. Translates answers into
//! [`crate::model`], or fails with an [`Error`] that has a [`Reason`]; an answer that cannot be
//! decoded is an error. Limits the cost of a sick cluster: requests in flight, time, body sizes,
//! pages, retries, and through three circuit breakers the calls to a side that does not answer.
//! Schedules nothing, and logs only events that are no failure of a call.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use url::Url;

use crate::file_mode;
use crate::model::{
    BackupHealth, BackupProgress, Configuration, Entity, Listed, ListedBackup, ListedPartition,
    Name, PartitionId, Policy, RestoreProgress,
};
use crate::telemetry::Telemetry;
use blocking_read::BlockingRead;
use call::Caller;
use client::Client;
use endpoints::Endpoints;
use http::Transport;
use token::Tokens;
use wire::Subject;

mod bearer;
mod blocking_read;
mod body;
mod breaker;
mod build_error;
mod call;
mod client;
mod connections;
mod deadline;
mod decode;
mod endpoints;
mod error;
mod failure;
mod file;
mod http;
mod offline;
mod peer;
mod port;
mod quota;
mod reachability;
mod reason;
mod redact;
mod resolver;
mod retry;
mod reuse;
mod rotation;
mod security;
mod status;
mod tls;
mod token;
pub mod wire;

pub use build_error::BuildError;
pub use error::Error;
pub use file::FileError;
pub use reason::Reason;
pub use rotation::Rotation;
pub(crate) use security::is_loopback;
pub use security::{
    Auth, ClientCertificate, Entra, EntraProtocol, FabricIdentity, FabricIdentityError, HostName,
    ManagedIdentity, Security, Thumbprint, TlsVersion, TokenSource, Trust,
};

/// How to reach one cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configured name of the cluster: a label of the request metrics.
    pub cluster: Arc<str>,
    /// Base URLs of equivalent gateways, `http[s]://host:port` with an optional path in front of
    /// the API. At least one, and all with the same scheme.
    pub endpoints: Vec<Url>,
    /// Longest duration of a call with its retries; of a list, per page. A backup list may take six
    /// times as long, because the whole storage is listed for it. Obtaining a token does not count
    /// and may take as long again; after a rejected token, a call starts over once.
    pub timeout: Duration,
    /// Most requests in flight; zero counts as one. At most half of them (rounded up) are for
    /// backup lists.
    pub concurrency: usize,
    /// Trust and credentials; only used for `https` endpoints.
    pub security: Security,
    /// The identity that Service Fabric provides to this process. Only used for managed identities,
    /// so that an invalid one does not affect other credentials.
    pub fabric_identity: Option<Result<FabricIdentity, FabricIdentityError>>,
}

/// The client of one cluster, for as long as its configuration stays the same.
#[derive(Debug)]
pub struct Gateway {
    calls: Caller,
    /// Warnings about secret files that every local user could read at the start.
    exposures: Vec<String>,
}

impl Gateway {
    /// Creates the client: reads the credential files, opens no connection.
    pub fn new(options: Options, telemetry: Arc<Telemetry>) -> Result<Self, BuildError> {
        let (security, timeout) = (options.security, options.timeout);
        security.check(&options.endpoints)?;
        let endpoints = Endpoints::new(options.endpoints)?;
        let secrets = security.secret_files().into_iter();
        let exposures = secrets.filter_map(file_mode::exposure).collect();
        let tokens = match &security.auth {
            Auth::Token(source) => Some(Tokens::new(
                Arc::clone(&options.cluster),
                source,
                options.fabric_identity,
                timeout,
            )?),
            Auth::Nobody | Auth::ClientCertificate(_) => None,
        };
        let transport = Transport::new(timeout, endpoints.all().cloned().collect(), security)?;
        let client = Client::new(options.cluster, telemetry, transport, endpoints, timeout);
        Ok(Self {
            calls: Caller::new(client, tokens, options.concurrency),
            exposures,
        })
    }

    /// Like [`Self::new`], outside of the runtime's threads and with a timeout for the files.
    pub async fn open(options: Options, telemetry: Arc<Telemetry>) -> Result<Self, BuildError> {
        let limit = rotation::READ_TIMEOUT;
        let open = move || Self::new(options, telemetry);
        let opened = BlockingRead::default().within(limit, open).await;
        opened.unwrap_or(Err(BuildError::ReadTimeout(limit)))
    }

    /// The version of the cluster's runtime, such as `6.4.514.9494`.
    pub async fn cluster_version(&self) -> Result<String, Error> {
        self.calls
            .get(&wire::CLUSTER_VERSION, Subject::Cluster)
            .await
    }

    /// Names of all applications; the system application is not among them.
    pub async fn applications(&self) -> Result<Listed<Name>, Error> {
        self.calls
            .get_all(&wire::APPLICATIONS, Subject::Cluster)
            .await
    }

    /// Names of the services of `application` that keep state on disk: all that can be backed up.
    pub async fn persisted_services(&self, application: &str) -> Result<Listed<Name>, Error> {
        self.calls
            .get_all(&wire::SERVICES, Subject::Application(application))
            .await
    }

    /// The partitions of `service`, if it is stateful.
    pub async fn partitions(&self, service: &str) -> Result<Listed<ListedPartition>, Error> {
        self.calls
            .get_all(&wire::PARTITIONS, Subject::Service(service))
            .await
    }

    /// Name of the service that `partition` belongs to.
    pub async fn service_name(&self, partition: PartitionId) -> Result<Name, Error> {
        self.calls
            .get(&wire::SERVICE_NAME, Subject::Partition(partition))
            .await
    }

    /// Name of the application that `service` belongs to.
    pub async fn application_name(&self, service: &str) -> Result<Name, Error> {
        self.calls
            .get(&wire::APPLICATION_NAME, Subject::Service(service))
            .await
    }

    /// The record of the last requested backup of `partition`; `None` when none ever was.
    pub async fn backup_progress(
        &self,
        partition: PartitionId,
    ) -> Result<Option<BackupProgress>, Error> {
        self.calls
            .get(&wire::BACKUP_PROGRESS, Subject::Partition(partition))
            .await
    }

    /// The record of the last restore of `partition`; `None` when none ever was.
    pub async fn restore_progress(
        &self,
        partition: PartitionId,
    ) -> Result<Option<RestoreProgress>, Error> {
        self.calls
            .get(&wire::RESTORE_PROGRESS, Subject::Partition(partition))
            .await
    }

    /// What the health of `partition` says of its periodic backups.
    pub async fn backup_health(&self, partition: PartitionId) -> Result<BackupHealth, Error> {
        self.calls
            .get(&wire::PARTITION_HEALTH, Subject::Partition(partition))
            .await
    }

    /// How `application` and what is below it is protected: the application itself, and only
    /// those of its services and partitions where something else was set. Empty when it is not
    /// protected. Old runtimes add entities of applications whose name begins alike.
    pub async fn backup_configuration(
        &self,
        application: &str,
    ) -> Result<Listed<Configuration>, Error> {
        self.calls
            .get_all(
                &wire::APPLICATION_CONFIGURATIONS,
                Subject::Application(application),
            )
            .await
    }

    /// What applies to `partition`, wherever it was set; `None` when nothing does. This route works
    /// where those of the application and the service fail with [`Error::is_null_reference`].
    pub async fn partition_backup_configuration(
        &self,
        partition: PartitionId,
    ) -> Result<Option<Configuration>, Error> {
        self.calls
            .get(
                &wire::PARTITION_CONFIGURATION,
                Subject::Partition(partition),
            )
            .await
    }

    /// All backup policies.
    pub async fn policies(&self) -> Result<Listed<Policy>, Error> {
        self.calls.get_all(&wire::POLICIES, Subject::Cluster).await
    }

    /// Where `policy` was set; not what it came down to.
    pub async fn entities_of_policy(&self, policy: &str) -> Result<Listed<Entity>, Error> {
        self.calls
            .get_all(&wire::ENTITIES_OF_POLICY, Subject::Policy(policy))
            .await
    }

    /// The newest backup of every partition of `application` in the storage of the policy that
    /// applies now; of partitions that are gone, too. [`Error::is_backup_not_enabled`] when it is
    /// not protected.
    ///
    /// Costly for the cluster, and slow: see [`Options::timeout`]. A time-out here says nothing of
    /// the backup service, and is not tried again.
    pub async fn latest_backups(&self, application: &str) -> Result<Listed<ListedBackup>, Error> {
        let subject = Subject::Application(application);
        self.calls.get_all(&wire::LATEST_BACKUPS, subject).await
    }

    /// All backups of [`Self::latest_backups`], and at its price.
    pub async fn all_backups(&self, application: &str) -> Result<Listed<ListedBackup>, Error> {
        let subject = Subject::Application(application);
        self.calls.get_all(&wire::ALL_BACKUPS, subject).await
    }

    /// The newest backup of `partition` in the storage of the policy that applies now: at most one
    /// item. As slow and as costly for the cluster as [`Self::latest_backups`], but reads only that
    /// storage.
    pub async fn latest_backups_of(
        &self,
        partition: PartitionId,
    ) -> Result<Listed<ListedBackup>, Error> {
        self.calls
            .get_all(&wire::PARTITION_BACKUPS, Subject::Partition(partition))
            .await
    }

    /// How far the cluster's clock is ahead of the local one, to the second, according to the last
    /// answer with a date.
    pub fn clock_skew(&self) -> Option<TimeDelta> {
        self.calls.client.clock_skew()
    }

    /// Resets [`Self::backup_service`], [`Self::native_access`] and the item quota of lists, and has
    /// a token file read again.
    pub fn begin_cycle(&self) {
        self.calls.begin_cycle();
    }

    /// Resets the item quota of backup lists.
    pub fn begin_lists(&self) {
        self.calls.begin_list_round();
    }

    /// Whether the backup service answers, according to the calls since [`Self::begin_cycle`];
    /// `None` when no gateway was reached or no backup route was called.
    pub fn backup_service(&self) -> Option<bool> {
        self.calls.backup_service()
    }

    /// Whether a native route that requires authorization succeeded since [`Self::begin_cycle`].
    pub fn native_access(&self) -> bool {
        self.calls.client.reachability().native_access()
    }
}
