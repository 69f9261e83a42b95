//! The client without its network: the same addresses, the same reading of answers, no socket.
//!
//! Responsible for asking a function instead of a gateway, so that what the client makes of
//! months of answers can be checked in minutes. It may not read an answer otherwise than the
//! client does; what belongs to the network (deadlines, retries, breakers) is not here.

use std::time::Duration;

use url::Url;

use super::decode::DecodeError;
use super::error::{Cause, Error};
use super::failure::Failure;
use super::wire::{self, Page, Query, Subject};
use crate::model::{
    BackupHealth, BackupProgress, Configuration, Entity, Listed, ListedBackup, ListedPartition,
    Name, PartitionId, Policy, RestoreProgress,
};

/// What stands in for the deadline in addresses.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster that is a function from an address to status and body of the answer. The methods
/// are those of [`Gateway`](super::Gateway) and mean the same.
#[derive(Debug)]
pub struct Replay<F> {
    endpoint: Url,
    answer: F,
}

impl<F: FnMut(&Url) -> (u16, Vec<u8>)> Replay<F> {
    /// A client whose addresses begin with `endpoint`.
    pub fn new(endpoint: Url, answer: F) -> Self {
        Self { endpoint, answer }
    }

    /// See [`Gateway::cluster_version`](super::Gateway::cluster_version).
    pub fn cluster_version(&mut self) -> Result<String, Error> {
        self.get(&wire::CLUSTER_VERSION, Subject::Cluster)
    }

    /// See [`Gateway::applications`](super::Gateway::applications).
    pub fn applications(&mut self) -> Result<Listed<Name>, Error> {
        self.get_all(&wire::APPLICATIONS, Subject::Cluster)
    }

    /// See [`Gateway::persisted_services`](super::Gateway::persisted_services).
    pub fn persisted_services(&mut self, application: &str) -> Result<Listed<Name>, Error> {
        self.get_all(&wire::SERVICES, Subject::Application(application))
    }

    /// See [`Gateway::partitions`](super::Gateway::partitions).
    pub fn partitions(&mut self, service: &str) -> Result<Listed<ListedPartition>, Error> {
        self.get_all(&wire::PARTITIONS, Subject::Service(service))
    }

    /// See [`Gateway::service_name`](super::Gateway::service_name).
    pub fn service_name(&mut self, partition: PartitionId) -> Result<Name, Error> {
        self.get(&wire::SERVICE_NAME, Subject::Partition(partition))
    }

    /// See [`Gateway::application_name`](super::Gateway::application_name).
    pub fn application_name(&mut self, service: &str) -> Result<Name, Error> {
        self.get(&wire::APPLICATION_NAME, Subject::Service(service))
    }

    /// See [`Gateway::backup_progress`](super::Gateway::backup_progress).
    pub fn backup_progress(
        &mut self,
        partition: PartitionId,
    ) -> Result<Option<BackupProgress>, Error> {
        self.get(&wire::BACKUP_PROGRESS, Subject::Partition(partition))
    }

    /// See [`Gateway::restore_progress`](super::Gateway::restore_progress).
    pub fn restore_progress(
        &mut self,
        partition: PartitionId,
    ) -> Result<Option<RestoreProgress>, Error> {
        self.get(&wire::RESTORE_PROGRESS, Subject::Partition(partition))
    }

    /// See [`Gateway::backup_health`](super::Gateway::backup_health).
    pub fn backup_health(&mut self, partition: PartitionId) -> Result<BackupHealth, Error> {
        self.get(&wire::PARTITION_HEALTH, Subject::Partition(partition))
    }

    /// See [`Gateway::backup_configuration`](super::Gateway::backup_configuration).
    pub fn backup_configuration(
        &mut self,
        application: &str,
    ) -> Result<Listed<Configuration>, Error> {
        self.get_all(
            &wire::APPLICATION_CONFIGURATIONS,
            Subject::Application(application),
        )
    }

    /// See [`Gateway::partition_backup_configuration`](super::Gateway::partition_backup_configuration).
    pub fn partition_backup_configuration(
        &mut self,
        partition: PartitionId,
    ) -> Result<Option<Configuration>, Error> {
        self.get(
            &wire::PARTITION_CONFIGURATION,
            Subject::Partition(partition),
        )
    }

    /// See [`Gateway::policies`](super::Gateway::policies).
    pub fn policies(&mut self) -> Result<Listed<Policy>, Error> {
        self.get_all(&wire::POLICIES, Subject::Cluster)
    }

    /// See [`Gateway::entities_of_policy`](super::Gateway::entities_of_policy).
    pub fn entities_of_policy(&mut self, policy: &str) -> Result<Listed<Entity>, Error> {
        self.get_all(&wire::ENTITIES_OF_POLICY, Subject::Policy(policy))
    }

    /// See [`Gateway::latest_backups`](super::Gateway::latest_backups).
    pub fn latest_backups(&mut self, application: &str) -> Result<Listed<ListedBackup>, Error> {
        self.get_all(&wire::LATEST_BACKUPS, Subject::Application(application))
    }

    /// See [`Gateway::latest_backups_of`](super::Gateway::latest_backups_of).
    pub fn latest_backups_of(
        &mut self,
        partition: PartitionId,
    ) -> Result<Listed<ListedBackup>, Error> {
        self.get_all(&wire::PARTITION_BACKUPS, Subject::Partition(partition))
    }

    /// See [`Gateway::all_backups`](super::Gateway::all_backups).
    pub fn all_backups(&mut self, application: &str) -> Result<Listed<ListedBackup>, Error> {
        self.get_all(&wire::ALL_BACKUPS, Subject::Application(application))
    }

    fn get<T>(&mut self, query: &Query<T>, subject: Subject<'_>) -> Result<T, Error> {
        self.ask(query, &subject, None)
            .map_err(|cause| Error::new(&query.route, &subject, cause))
    }

    fn get_all<T>(
        &mut self,
        query: &Query<Page<T>>,
        subject: Subject<'_>,
    ) -> Result<Listed<T>, Error> {
        self.pages(query, &subject)
            .map_err(|cause| Error::new(&query.route, &subject, cause))
    }

    fn pages<T>(
        &mut self,
        query: &Query<Page<T>>,
        subject: &Subject<'_>,
    ) -> Result<Listed<T>, Cause> {
        let mut listed = Listed {
            items: Vec::new(),
            skipped: 0,
        };
        let mut token: Option<String> = None;
        loop {
            let page = self.ask(query, subject, token.as_deref())?;
            listed.items.extend(page.items);
            listed.skipped += page.skipped;
            match page.next {
                None => return Ok(listed),
                next if next == token => return Err(Cause::Page(DecodeError::RepeatedToken)),
                next => token = next,
            }
        }
    }

    fn ask<T>(
        &mut self,
        query: &Query<T>,
        subject: &Subject<'_>,
        page: Option<&str>,
    ) -> Result<T, Cause> {
        let url = query.route.url(&self.endpoint, subject, page, TIMEOUT);
        let (status, body) = (self.answer)(&url);
        let answer = query.read(subject, status, &body);
        answer.map_err(|error| Failure::of_reply(error, &self.endpoint).into())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn replay<F: FnMut(&Url) -> (u16, Vec<u8>)>(answer: F) -> Replay<F> {
        Replay::new("http://cluster".parse().unwrap(), answer)
    }

    #[test]
    fn all_pages_are_read_and_a_token_that_repeats_is_an_error() {
        let mut asked = Vec::new();
        let pages = |url: &Url| {
            asked.push(url.to_string());
            let next = if asked.len() == 1 { "b#2" } else { "" };
            let body = format!(
                "{{\"ContinuationToken\":\"{next}\",\"Items\":[{{\"Name\":\"fabric:/{}\"}}]}}",
                asked.len()
            );
            (200, body.into_bytes())
        };
        let names = replay(pages).applications().unwrap();
        assert_eq!(names.items, ["fabric:/1".into(), "fabric:/2".into()]);
        assert!(asked[1].ends_with("&ContinuationToken=b%232"), "{asked:?}");
        let endless = |_: &Url| {
            let page = br#"{"ContinuationToken":"x","Items":[]}"#;
            (200, page.to_vec())
        };
        assert!(replay(endless).policies().is_err());
    }

    #[test]
    fn refusals_are_read_as_the_client_reads_them() {
        let gone = br#"{"Error":{"Code":"FABRIC_E_PARTITION_NOT_FOUND","Message":""}}"#;
        let id = PartitionId(Uuid::from_u128(7));
        let error = replay(|_: &Url| (404, gone.to_vec())).backup_progress(id);
        assert!(error.unwrap_err().is_partition_not_found());
        let away = replay(|_: &Url| (404, Vec::new())).backup_progress(id);
        assert!(!away.unwrap_err().is_partition_not_found());
    }
}
