//! Backup policies and the state of their storages.
//!
//! Contains no secrets: they are generated when a policy is rendered. A changed policy is a new
//! version, so that a replica can detect that it uses an old one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, Utc, Weekday};

use super::storage_id::StorageId;

/// A backup policy as an operator creates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, the key of everything that refers to it.
    pub name: String,
    /// Whether a partition restores itself after a loss of data.
    pub auto_restore_on_data_loss: bool,
    /// Maximum number of incremental backups after a full one.
    pub max_incremental_backups: u32,
    /// Schedule.
    pub schedule: Schedule,
    /// Storage.
    pub storage: Storage,
    /// Retention; `None` keeps backups for ever.
    pub retention: Option<Retention>,
}

/// Schedule of periodic backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// `FrequencyBased`: this long after the last recovery point. Real clusters allow whole
    /// minutes from 1 on; here seconds are fine.
    Every(Duration),
    /// `TimeBased`, every day at these times.
    Daily(Vec<NaiveTime>),
    /// `TimeBased`, on these days at these times.
    Weekly(Vec<Weekday>, Vec<NaiveTime>),
}

/// Storage of backups. Policies with equal storages share one list of backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// `AzureBlobStore`, with a connection string.
    AzureBlob {
        /// Name for people.
        friendly_name: String,
        /// Container in the account.
        container: String,
    },
    /// `FileShare`, with passwords when it has a user.
    FileShare {
        /// Name for people.
        friendly_name: String,
        /// UNC path.
        path: String,
        /// Primary user; `None` uses the identity of the node.
        user: Option<String>,
    },
    /// `ManagedIdentityAzureBlobStore`.
    ManagedIdentity {
        /// Name for people.
        friendly_name: String,
        /// Address of the account.
        blob_service_uri: String,
        /// Container in the account.
        container: String,
    },
    /// `DsmsAzureBlobStore`.
    Dsms {
        /// Name for people.
        friendly_name: String,
        /// Where the credentials are kept.
        credentials_location: String,
        /// Container in the account.
        container: String,
    },
}

/// Retention (`Basic`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older backups are deleted, whole chains at a time.
    pub duration: Duration,
    /// Minimum number of backups to keep, whatever their age.
    pub minimum: usize,
}

/// One version of a policy.
#[derive(Debug)]
pub(in crate::simulator) struct PolicyVersion {
    pub(in crate::simulator) policy: Policy,
    /// Its internal id: another one after each update (`UpdateBackupPolicyOperation.cs`).
    pub(super) version: u64,
    pub(super) storage_id: StorageId,
}

/// All policies of a cluster.
#[derive(Debug, Default)]
pub(in crate::simulator) struct Policies {
    pub(in crate::simulator) by_name: BTreeMap<Arc<str>, Arc<PolicyVersion>>,
    pub(super) retentions: BTreeMap<Arc<str>, SetRetention>,
    /// Periods in which the storage of a policy rejects uploads.
    pub(super) outages: BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    /// Periods in which listing it fails.
    pub(super) unlisted: BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    /// Periods in which listing it is cancelled.
    pub(super) cancelled: BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    pub(super) accounts: BTreeMap<String, Account>,
}

/// A configured retention.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetRetention {
    pub(super) retention: Retention,
    /// Serial number of its events; 0 if it is not armed.
    pub(super) serial: u64,
}

/// The storage account of a policy.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) encrypted: bool,
}

impl Policies {
    pub(super) fn storage_fails(&self, policy: &PolicyVersion, at: DateTime<Utc>) -> bool {
        contain(&self.outages, &policy.policy.name, at)
    }

    pub(super) fn listing_is_cancelled(&self, policy: &str, at: DateTime<Utc>) -> bool {
        contain(&self.cancelled, policy, at)
    }

    pub(super) fn listing_fails(&self, policy: &str, at: DateTime<Utc>) -> bool {
        contain(&self.unlisted, policy, at)
    }

    /// Identifies a storage.
    pub(super) fn describe(&self, policy: &Policy) -> String {
        match &policy.storage {
            Storage::AzureBlob { container, .. } => {
                let account = self.accounts.get(&policy.name);
                let account = account.map_or("", |it| it.name.as_str());
                format!("blob/{account}/{container}")
            }
            Storage::FileShare { path, .. } => format!("share/{path}"),
            Storage::ManagedIdentity {
                blob_service_uri,
                container,
                ..
            } => format!("{blob_service_uri}/{container}"),
            Storage::Dsms {
                credentials_location,
                container,
                ..
            } => format!("dsms/{credentials_location}/{container}"),
        }
    }

    /// Identifies a storage as 6.4 does: it compares connection strings and share paths only
    /// (`AzureBlobBackupStorageInfo.cs`, `FileShareBackupStorageInfo.cs`).
    pub(super) fn counts_as(&self, policy: &PolicyVersion) -> String {
        match self.accounts.get(&policy.policy.name) {
            Some(Account {
                encrypted: true, ..
            }) => format!("policy/{}", policy.policy.name),
            Some(Account { name, .. }) => format!("account/{name}"),
            None => self.describe(&policy.policy),
        }
    }
}

fn contain(
    windows: &BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    policy: &str,
    at: DateTime<Utc>,
) -> bool {
    let mut windows = windows.get(policy).into_iter().flatten();
    windows.any(|window| window.contains(&at))
}
