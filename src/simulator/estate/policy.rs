//! Backup policies: when, where to, how many increments, how long kept.
//!
//! Responsible for the policies of a cluster and for the state of their storages. It holds no
//! secrets: those are made up where a policy is printed. A changed policy is a new version of it,
//! so a replica can tell that it acts on an old one.

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
    /// Most incremental backups that follow a full one.
    pub max_incremental_backups: u32,
    /// When backups are taken.
    pub schedule: Schedule,
    /// Where they go.
    pub storage: Storage,
    /// How long they are kept; `None` keeps them for ever.
    pub retention: Option<Retention>,
}

/// When periodic backups are taken.
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

/// Where backups go. Two policies with equal places share one list of backups.
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

/// How long backups are kept (`Basic`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older backups are deleted, whole chains at a time.
    pub duration: Duration,
    /// So many backups are kept however old they are.
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
    /// When the storage of a policy refuses uploads.
    pub(super) outages: BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    /// When it refuses to be listed.
    pub(super) unlisted: BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    /// When reading it for a list is cancelled.
    pub(super) cancelled: BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    pub(super) accounts: BTreeMap<String, Account>,
}

/// A retention that was set.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetRetention {
    pub(super) retention: Retention,
    /// The number of its events; 0 where it is not armed.
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

    /// What makes two storages the same one.
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

    /// What the backup service of 6.4 takes for one storage: it compares connection strings and
    /// share paths only (`AzureBlobBackupStorageInfo.cs`, `FileShareBackupStorageInfo.cs`).
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
