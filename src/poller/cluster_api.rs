//! The calls of the poller to a cluster.
//!
//! [`Gateway`] answers over the network; the accuracy bench answers from a simulated cluster, in
//! simulated time. Each method means what the method of the same name of [`Gateway`] means.

use std::future::Future;
use std::sync::Arc;

use chrono::TimeDelta;

use crate::gateway::{Error, Gateway, Rotation};
use crate::model::{
    BackupConfiguration, BackupEntity, BackupHealth, BackupProgress, DecodedList, ListedBackup,
    ListedPartition, Name, PartitionId, Policy, RestoreProgress,
};
use crate::snapshot::SecurityStatus;

/// The result of a request.
type Answer<T> = Result<T, Error>;

/// A cluster that a [`Poller`](super::Poller) reads.
pub trait ClusterApi: Send + Sync + 'static {
    /// See [`Gateway::refresh`].
    fn refresh(&self) -> impl Future<Output = Option<Rotation>> + Send;

    /// See [`Gateway::begin_cycle`].
    fn begin_cycle(&self);

    /// Starts a list round, with a new quota.
    fn begin_lists(&self);

    /// See [`Gateway::native_access`].
    fn native_access(&self) -> bool;

    /// See [`Gateway::backup_service`].
    fn backup_service(&self) -> Option<bool>;

    /// See [`Gateway::clock_skew`].
    fn clock_skew(&self) -> Option<TimeDelta>;

    /// The state of certificates and tokens.
    fn security(&self) -> impl Future<Output = SecurityStatus> + Send;

    /// See [`Gateway::cluster_version`].
    fn cluster_version(&self) -> impl Future<Output = Answer<String>> + Send;

    /// See [`Gateway::applications`].
    fn applications(&self) -> impl Future<Output = Answer<DecodedList<Name>>> + Send;

    /// See [`Gateway::persisted_services`].
    fn persisted_services(
        &self,
        application: &str,
    ) -> impl Future<Output = Answer<DecodedList<Name>>> + Send;

    /// See [`Gateway::partitions`].
    fn partitions(
        &self,
        service: &str,
    ) -> impl Future<Output = Answer<DecodedList<ListedPartition>>> + Send;

    /// See [`Gateway::service_name`].
    fn service_name(&self, partition: PartitionId) -> impl Future<Output = Answer<Name>> + Send;

    /// See [`Gateway::application_name`].
    fn application_name(&self, service: &str) -> impl Future<Output = Answer<Name>> + Send;

    /// See [`Gateway::backup_progress`].
    fn backup_progress(
        &self,
        partition: PartitionId,
    ) -> impl Future<Output = Answer<Option<BackupProgress>>> + Send;

    /// See [`Gateway::restore_progress`].
    fn restore_progress(
        &self,
        partition: PartitionId,
    ) -> impl Future<Output = Answer<Option<RestoreProgress>>> + Send;

    /// See [`Gateway::backup_health`].
    fn backup_health(
        &self,
        partition: PartitionId,
    ) -> impl Future<Output = Answer<BackupHealth>> + Send;

    /// See [`Gateway::backup_configuration`].
    fn backup_configuration(
        &self,
        application: &str,
    ) -> impl Future<Output = Answer<DecodedList<BackupConfiguration>>> + Send;

    /// See [`Gateway::partition_backup_configuration`].
    fn partition_backup_configuration(
        &self,
        partition: PartitionId,
    ) -> impl Future<Output = Answer<Option<BackupConfiguration>>> + Send;

    /// See [`Gateway::policies`].
    fn policies(&self) -> impl Future<Output = Answer<DecodedList<Policy>>> + Send;

    /// See [`Gateway::entities_of_policy`].
    fn entities_of_policy(
        &self,
        policy: &str,
    ) -> impl Future<Output = Answer<DecodedList<BackupEntity>>> + Send;

    /// See [`Gateway::latest_backups`].
    fn latest_backups(
        &self,
        application: &str,
    ) -> impl Future<Output = Answer<DecodedList<ListedBackup>>> + Send;

    /// See [`Gateway::latest_backups_of`].
    fn latest_backups_of(
        &self,
        partition: PartitionId,
    ) -> impl Future<Output = Answer<DecodedList<ListedBackup>>> + Send;

    /// See [`Gateway::all_backups`].
    fn all_backups(
        &self,
        application: &str,
    ) -> impl Future<Output = Answer<DecodedList<ListedBackup>>> + Send;
}

/// The calls of `ask` for each of `items`, as futures that have not started. They own what they
/// need, so that the stream of their answers is `Send`.
pub(super) fn ask_each<S, I, F>(
    gateway: &Arc<S>,
    items: Vec<I>,
    ask: impl Fn(Arc<S>, I) -> F,
) -> impl Iterator<Item = impl Future<Output = (I, F::Output)>>
where
    I: Clone,
    F: Future,
{
    items.into_iter().map(move |item| {
        let answer = ask(Arc::clone(gateway), item.clone());
        async move { (item, answer.await) }
    })
}

impl ClusterApi for Gateway {
    async fn refresh(&self) -> Option<Rotation> {
        Self::refresh(self).await
    }

    fn begin_cycle(&self) {
        Self::begin_cycle(self);
    }

    fn begin_lists(&self) {
        Self::begin_lists(self);
    }

    fn native_access(&self) -> bool {
        Self::native_access(self)
    }

    fn backup_service(&self) -> Option<bool> {
        Self::backup_service(self)
    }

    fn clock_skew(&self) -> Option<TimeDelta> {
        Self::clock_skew(self)
    }

    async fn security(&self) -> SecurityStatus {
        SecurityStatus {
            insecure: self.is_insecure(),
            client_certificate_expiry: self.client_certificate_expiry(),
            gateway_certificate_expiry: self.gateway_certificate_expiry(),
            token_expiry: self.token_expiry(),
            good_credentials: self.has_good_credentials().await,
        }
    }

    async fn cluster_version(&self) -> Answer<String> {
        Self::cluster_version(self).await
    }

    async fn applications(&self) -> Answer<DecodedList<Name>> {
        Self::applications(self).await
    }

    async fn persisted_services(&self, application: &str) -> Answer<DecodedList<Name>> {
        Self::persisted_services(self, application).await
    }

    async fn partitions(&self, service: &str) -> Answer<DecodedList<ListedPartition>> {
        Self::partitions(self, service).await
    }

    async fn service_name(&self, partition: PartitionId) -> Answer<Name> {
        Self::service_name(self, partition).await
    }

    async fn application_name(&self, service: &str) -> Answer<Name> {
        Self::application_name(self, service).await
    }

    async fn backup_progress(&self, partition: PartitionId) -> Answer<Option<BackupProgress>> {
        Self::backup_progress(self, partition).await
    }

    async fn restore_progress(&self, partition: PartitionId) -> Answer<Option<RestoreProgress>> {
        Self::restore_progress(self, partition).await
    }

    async fn backup_health(&self, partition: PartitionId) -> Answer<BackupHealth> {
        Self::backup_health(self, partition).await
    }

    async fn backup_configuration(
        &self,
        application: &str,
    ) -> Answer<DecodedList<BackupConfiguration>> {
        Self::backup_configuration(self, application).await
    }

    async fn partition_backup_configuration(
        &self,
        partition: PartitionId,
    ) -> Answer<Option<BackupConfiguration>> {
        Self::partition_backup_configuration(self, partition).await
    }

    async fn policies(&self) -> Answer<DecodedList<Policy>> {
        Self::policies(self).await
    }

    async fn entities_of_policy(&self, policy: &str) -> Answer<DecodedList<BackupEntity>> {
        Self::entities_of_policy(self, policy).await
    }

    async fn latest_backups(&self, application: &str) -> Answer<DecodedList<ListedBackup>> {
        Self::latest_backups(self, application).await
    }

    async fn latest_backups_of(&self, partition: PartitionId) -> Answer<DecodedList<ListedBackup>> {
        Self::latest_backups_of(self, partition).await
    }

    async fn all_backups(&self, application: &str) -> Answer<DecodedList<ListedBackup>> {
        Self::all_backups(self, application).await
    }
}
