//! Backup routes of the storage: which backups it holds.
//!
//! The service lists the whole storage for each answer, and there may be backups of partitions that
//! are gone, and of applications whose name begins alike. What does not say whose it is, is an
//! error.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::LIST_LIMIT;
use super::native::partition_id;
use super::progress::EpochReply;
use crate::gateway::decode::{Guid, Integer, Object, Timestamp};
use crate::gateway::error::{Cause, Misread};
use crate::gateway::query::{Pace, Page, PageReply, Query, Route, RouteKind, Subject};
use crate::model::{BackupKind, Epoch, ListedBackup};

// GET /Applications/{id}/$/GetBackups, samples GetApplicationBackupList.*; the lists of services
// and partitions have the same items, samples GetServiceBackupList.* and GetPartitionBackupList.*

/// The newest backup of each partition, or all backups.
pub(in crate::gateway) struct Backups<'a, const LATEST: bool> {
    pub(in crate::gateway) application: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct BackupReply {
    backup_id: Option<Guid>,
    backup_chain_id: Option<Guid>,
    partition_information: Option<Object<PartitionReply>>,
    backup_type: Option<String>,
    epoch_of_last_backup_record: Option<Object<EpochReply>>,
    lsn_of_last_backup_record: Option<Integer>,
    creation_time_utc: Option<Timestamp>,
    /// Why the service could not read what it lists; null where all is well.
    failure_error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PartitionReply {
    id: Guid,
}

impl<const LATEST: bool> Query for Backups<'_, LATEST> {
    const ROUTE: Route = Route {
        name: "GetApplicationBackupList",
        kind: RouteKind::Backup,
        api_version: "6.4",
        operation: &["$", "GetBackups"],
        parameters: if LATEST { &[("Latest", "true")] } else { &[] },
        body_limit: LIST_LIMIT,
    };
    const PACE: Pace = Pace::Storage;
    type Reply = PageReply<BackupReply>;
    type Answer = Page<ListedBackup>;

    fn subject(&self) -> Subject<'_> {
        Subject::Application(self.application)
    }

    fn answer(reply: Option<Self::Reply>) -> Result<Page<ListedBackup>, Cause> {
        Page::of(reply, |reply| backup(reply).map(Some))
    }

    fn unprotected() -> Option<Page<ListedBackup>> {
        Some(Page::empty())
    }
}

fn backup(reply: BackupReply) -> Result<ListedBackup, Misread> {
    let partition = reply.partition_information.map(|Object(reply)| reply.id);
    let kind = reply.backup_type.as_deref().unwrap_or_default();
    let readable = reply.failure_error.is_none();
    let epoch = reply.epoch_of_last_backup_record.filter(|_| readable);
    let lsn = reply.lsn_of_last_backup_record.filter(|_| readable);
    Ok(ListedBackup {
        partition: partition_id(partition)?,
        backup_id: reply.backup_id.and_then(|id| id.0),
        chain_id: reply.backup_chain_id.and_then(|id| id.0),
        kind: BackupKind::from_word(kind),
        created: reply.creation_time_utc.and_then(|time| time.0),
        epoch: epoch.map(|Object(epoch)| Epoch::from(epoch)),
        lsn: lsn.and_then(Integer::known),
    })
}
