//! The client without its network: the same addresses, the same reading of answers, no socket.
//!
//! Responsible for asking a function instead of a gateway, so that what the client makes of
//! months of answers can be checked in minutes. It may not read an answer otherwise than the
//! client does; what belongs to the network (deadlines, retries, breakers) is not here.

use std::time::Duration;

use url::Url;

use super::error::{Cause, Error, Misread};
use super::query::{self, Page, Query};
use super::wire;
use crate::model::{
    BackupConfiguration, BackupEntity, BackupHealth, BackupProgress, DecodedList, ListedBackup,
    ListedPartition, Name, PartitionId, Policy, RestoreProgress,
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
        self.get(&wire::ClusterVersion)
    }

    /// See [`Gateway::applications`](super::Gateway::applications).
    pub fn applications(&mut self) -> Result<DecodedList<Name>, Error> {
        self.get_all(&wire::Applications)
    }

    /// See [`Gateway::persisted_services`](super::Gateway::persisted_services).
    pub fn persisted_services(&mut self, application: &str) -> Result<DecodedList<Name>, Error> {
        self.get_all(&wire::Services { application })
    }

    /// See [`Gateway::partitions`](super::Gateway::partitions).
    pub fn partitions(&mut self, service: &str) -> Result<DecodedList<ListedPartition>, Error> {
        self.get_all(&wire::Partitions { service })
    }

    /// See [`Gateway::service_name`](super::Gateway::service_name).
    pub fn service_name(&mut self, partition: PartitionId) -> Result<Name, Error> {
        self.get(&wire::ServiceName { partition })
    }

    /// See [`Gateway::application_name`](super::Gateway::application_name).
    pub fn application_name(&mut self, service: &str) -> Result<Name, Error> {
        self.get(&wire::ApplicationName { service })
    }

    /// See [`Gateway::backup_progress`](super::Gateway::backup_progress).
    pub fn backup_progress(
        &mut self,
        partition: PartitionId,
    ) -> Result<Option<BackupProgress>, Error> {
        self.get(&wire::Progress { partition })
    }

    /// See [`Gateway::restore_progress`](super::Gateway::restore_progress).
    pub fn restore_progress(
        &mut self,
        partition: PartitionId,
    ) -> Result<Option<RestoreProgress>, Error> {
        self.get(&wire::Restore { partition })
    }

    /// See [`Gateway::backup_health`](super::Gateway::backup_health).
    pub fn backup_health(&mut self, partition: PartitionId) -> Result<BackupHealth, Error> {
        self.get(&wire::Health { partition })
    }

    /// See [`Gateway::backup_configuration`](super::Gateway::backup_configuration).
    pub fn backup_configuration(
        &mut self,
        application: &str,
    ) -> Result<DecodedList<BackupConfiguration>, Error> {
        self.get_all(&wire::Configurations { application })
    }

    /// See [`Gateway::partition_backup_configuration`](super::Gateway::partition_backup_configuration).
    pub fn partition_backup_configuration(
        &mut self,
        partition: PartitionId,
    ) -> Result<Option<BackupConfiguration>, Error> {
        self.get(&wire::PartitionConfiguration { partition })
    }

    /// See [`Gateway::policies`](super::Gateway::policies).
    pub fn policies(&mut self) -> Result<DecodedList<Policy>, Error> {
        self.get_all(&wire::Policies)
    }

    /// See [`Gateway::entities_of_policy`](super::Gateway::entities_of_policy).
    pub fn entities_of_policy(&mut self, policy: &str) -> Result<DecodedList<BackupEntity>, Error> {
        self.get_all(&wire::Entities { policy })
    }

    /// See [`Gateway::latest_backups`](super::Gateway::latest_backups).
    pub fn latest_backups(
        &mut self,
        application: &str,
    ) -> Result<DecodedList<ListedBackup>, Error> {
        self.get_all(&wire::Backups::<true> { application })
    }

    /// See [`Gateway::latest_backups_of`](super::Gateway::latest_backups_of).
    pub fn latest_backups_of(
        &mut self,
        partition: PartitionId,
    ) -> Result<DecodedList<ListedBackup>, Error> {
        self.get_all(&wire::PartitionBackups { partition })
    }

    /// See [`Gateway::all_backups`](super::Gateway::all_backups).
    pub fn all_backups(&mut self, application: &str) -> Result<DecodedList<ListedBackup>, Error> {
        self.get_all(&wire::Backups::<false> { application })
    }

    fn get<Q: Query>(&mut self, query: &Q) -> Result<Q::Answer, Error> {
        self.ask(query, None)
            .map_err(|cause| Error::new(&Q::ROUTE, &query.subject(), cause))
    }

    fn get_all<Q, T>(&mut self, query: &Q) -> Result<DecodedList<T>, Error>
    where
        Q: Query<Answer = Page<T>>,
    {
        self.pages(query)
            .map_err(|cause| Error::new(&Q::ROUTE, &query.subject(), cause))
    }

    fn pages<Q, T>(&mut self, query: &Q) -> Result<DecodedList<T>, Cause>
    where
        Q: Query<Answer = Page<T>>,
    {
        let mut listed = DecodedList {
            items: Vec::new(),
            skipped: 0,
        };
        let mut token: Option<String> = None;
        loop {
            let page = self.ask(query, token.as_deref())?;
            listed.items.extend(page.items);
            listed.skipped += page.skipped;
            match page.next {
                None => return Ok(listed),
                next if next == token => return Err(Misread::RepeatedToken.into()),
                next => token = next,
            }
        }
    }

    fn ask<Q: Query>(&mut self, query: &Q, token: Option<&str>) -> Result<Q::Answer, Cause> {
        let subject = query.subject();
        let url = query::url(&self.endpoint, &Q::ROUTE, &subject, token, TIMEOUT);
        let (status, body) = (self.answer)(&url);
        query::read::<Q>(&subject, status, &body)
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
