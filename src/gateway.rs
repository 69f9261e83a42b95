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
use crate::settings::{Auth, FabricIdentity, FabricIdentityError, Security};
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
mod status;
mod tls;
mod token;
pub mod wire;

pub use build_error::BuildError;
pub use error::Error;
pub use file::FileError;
pub use reason::Reason;
pub use rotation::Rotation;

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
        security.check_endpoints(&options.endpoints)?;
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
            Auth::Anonymous | Auth::ClientCertificate(_) => None,
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

    /// The version of the runtime, such as `6.4.514.9494`.
    pub async fn cluster_version(&self) -> Result<String, Error> {
        self.calls
            .get(&wire::CLUSTER_VERSION, Subject::Cluster)
            .await
    }

    /// The names of all applications, without the system application.
    pub async fn applications(&self) -> Result<Listed<Name>, Error> {
        self.calls
            .get_all(&wire::APPLICATIONS, Subject::Cluster)
            .await
    }

    /// The names of the services of `application` that persist state: only they can be backed up.
    pub async fn persisted_services(&self, application: &str) -> Result<Listed<Name>, Error> {
        let subject = Subject::Application(application);
        self.calls.get_all(&wire::SERVICES, subject).await
    }

    /// The partitions of `service`, if it is stateful.
    pub async fn partitions(&self, service: &str) -> Result<Listed<ListedPartition>, Error> {
        let subject = Subject::Service(service);
        self.calls.get_all(&wire::PARTITIONS, subject).await
    }

    /// The name of the service that `partition` belongs to.
    pub async fn service_name(&self, partition: PartitionId) -> Result<Name, Error> {
        let subject = Subject::Partition(partition);
        self.calls.get(&wire::SERVICE_NAME, subject).await
    }

    /// The name of the application that `service` belongs to.
    pub async fn application_name(&self, service: &str) -> Result<Name, Error> {
        let subject = Subject::Service(service);
        self.calls.get(&wire::APPLICATION_NAME, subject).await
    }

    /// The progress record of the last requested backup of `partition`; `None` if there was none.
    pub async fn backup_progress(
        &self,
        partition: PartitionId,
    ) -> Result<Option<BackupProgress>, Error> {
        let subject = Subject::Partition(partition);
        self.calls.get(&wire::BACKUP_PROGRESS, subject).await
    }

    /// The record of the last restore of `partition`; `None` if there was none.
    pub async fn restore_progress(
        &self,
        partition: PartitionId,
    ) -> Result<Option<RestoreProgress>, Error> {
        let subject = Subject::Partition(partition);
        self.calls.get(&wire::RESTORE_PROGRESS, subject).await
    }

    /// The health reports about periodic backups of `partition`.
    pub async fn backup_health(&self, partition: PartitionId) -> Result<BackupHealth, Error> {
        let subject = Subject::Partition(partition);
        self.calls.get(&wire::PARTITION_HEALTH, subject).await
    }

    /// The backup configuration of `application`, and of those of its services and partitions that
    /// have a setting of their own. Empty if the application is not protected. Old runtimes add
    /// entities of applications whose name has the same prefix.
    pub async fn backup_configuration(
        &self,
        application: &str,
    ) -> Result<Listed<Configuration>, Error> {
        let subject = Subject::Application(application);
        self.calls
            .get_all(&wire::APPLICATION_CONFIGURATIONS, subject)
            .await
    }

    /// The backup configuration that applies to `partition`, at whatever level it is set; `None` if
    /// there is none. Works where the routes of the application and the service fail with
    /// [`Error::is_null_reference`].
    pub async fn partition_backup_configuration(
        &self,
        partition: PartitionId,
    ) -> Result<Option<Configuration>, Error> {
        let subject = Subject::Partition(partition);
        self.calls
            .get(&wire::PARTITION_CONFIGURATION, subject)
            .await
    }

    /// All backup policies.
    pub async fn policies(&self) -> Result<Listed<Policy>, Error> {
        self.calls.get_all(&wire::POLICIES, Subject::Cluster).await
    }

    /// The entities that `policy` is assigned to, without those that inherit it.
    pub async fn entities_of_policy(&self, policy: &str) -> Result<Listed<Entity>, Error> {
        let subject = Subject::Policy(policy);
        self.calls.get_all(&wire::ENTITIES_OF_POLICY, subject).await
    }

    /// The newest backup of every partition of `application`, including deleted ones, in the storage
    /// of the current policy. Fails with [`Error::is_backup_not_enabled`] if the application is not
    /// protected.
    ///
    /// Slow and expensive for the cluster, see [`Options::timeout`]. A timeout is no sign of an
    /// outage of the backup service, and is not retried.
    pub async fn latest_backups(&self, application: &str) -> Result<Listed<ListedBackup>, Error> {
        let subject = Subject::Application(application);
        self.calls.get_all(&wire::LATEST_BACKUPS, subject).await
    }

    /// All backups instead of the newest ones of [`Self::latest_backups`], at the same cost.
    pub async fn all_backups(&self, application: &str) -> Result<Listed<ListedBackup>, Error> {
        let subject = Subject::Application(application);
        self.calls.get_all(&wire::ALL_BACKUPS, subject).await
    }

    /// The newest backup of `partition` in the storage of the current policy: at most one item. As
    /// slow and expensive as [`Self::latest_backups`].
    pub async fn latest_backups_of(
        &self,
        partition: PartitionId,
    ) -> Result<Listed<ListedBackup>, Error> {
        let subject = Subject::Partition(partition);
        self.calls.get_all(&wire::PARTITION_BACKUPS, subject).await
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
    pub(crate) fn begin_lists(&self) {
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
