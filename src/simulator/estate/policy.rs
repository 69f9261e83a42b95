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

use super::Estate;
use super::agenda::WorkItem;
use super::place::Place;

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
pub(in crate::simulator) struct InForce {
    pub(in crate::simulator) policy: Policy,
    /// Its internal id: another one after each update (`UpdateBackupPolicyOperation.cs`).
    pub(super) version: u64,
    pub(super) place: Place,
}

/// All policies of a cluster.
#[derive(Debug, Default)]
pub(in crate::simulator) struct Policies {
    pub(in crate::simulator) by_name: BTreeMap<Arc<str>, Arc<InForce>>,
    pub(super) retentions: BTreeMap<Arc<str>, SetRetention>,
    /// When the storage of a policy refuses uploads.
    outages: BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    /// When it refuses to be listed.
    unlisted: BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    /// When reading it for a list is cancelled.
    cancelled: BTreeMap<String, Vec<Range<DateTime<Utc>>>>,
    accounts: BTreeMap<String, Account>,
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
struct Account {
    name: String,
    encrypted: bool,
}

impl Estate {
    /// Adds a policy, or replaces the one of this name: every partition it applies to restarts
    /// its schedule, one whole interval from now, with a full backup.
    pub fn add_policy(&mut self, policy: Policy, now: DateTime<Utc>) {
        self.tick(now);
        self.put_in_force(policy, now);
    }

    fn put_in_force(&mut self, policy: Policy, now: DateTime<Utc>) {
        let name: Arc<str> = policy.name.as_str().into();
        let version = self.periodic.next_serial();
        let description = self.periodic.policies.describe(&policy);
        let place = self.periodic.stores.place(description);
        let in_force = Arc::new(InForce {
            policy,
            version,
            place,
        });
        self.periodic.arm_retention(&in_force, now);
        let policies = &mut self.periodic.policies;
        policies.by_name.insert(Arc::clone(&name), in_force);
        for entity in self.periodic.enabled_with(&name) {
            self.send(&entity, WorkItem::Enable, now);
        }
    }

    /// Changes a policy in place; false when there is none of this name.
    pub fn update_policy(
        &mut self,
        name: &str,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut Policy),
    ) -> bool {
        let Some(mut policy) = self.policy(name).cloned() else {
            return false;
        };
        change(&mut policy);
        name.clone_into(&mut policy.name);
        self.add_policy(policy, now);
        true
    }

    /// Changes the certificate that secrets are encrypted with: every policy gets another internal
    /// id and is sent to every partition, which no API shows (`BackupRestoreService.cs`,
    /// `UpdateSecretsAsync`).
    pub fn change_certificate(&mut self, now: DateTime<Utc>) {
        self.tick(now);
        let policies: Vec<_> = self.periodic.policies.by_name.values().cloned().collect();
        for policy in policies {
            self.put_in_force(policy.policy.clone(), now);
        }
    }

    /// Removes a policy and protection by it, also of what is gone; false when there is none of
    /// this name.
    pub fn remove_policy(&mut self, name: &str, now: DateTime<Utc>) -> bool {
        self.tick(now);
        for entity in self.periodic.enabled_with(name) {
            self.periodic.mappings.remove(&entity);
            self.send(&entity, WorkItem::Disable, now);
        }
        let policies = &mut self.periodic.policies;
        policies.retentions.remove(name);
        policies.by_name.remove(name).is_some()
    }

    /// A policy by its name.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        Some(&self.periodic.policies.by_name.get(name)?.policy)
    }

    /// Puts the Azure storage of a policy into an account: call it before the policy is added.
    /// Policies that share an account by its connection string in plain text count as one
    /// storage, whatever their containers; with encrypted secrets each counts for itself. Without
    /// this call every container has an account of its own.
    pub fn set_account(&mut self, policy: &str, account: &str, encrypted: bool) {
        let account = Account {
            name: account.to_owned(),
            encrypted,
        };
        let accounts = &mut self.periodic.policies.accounts;
        accounts.insert(policy.to_owned(), account);
    }

    /// Makes the storage of a policy refuse every upload that ends in this window.
    pub fn fail_storage(&mut self, policy: &str, window: Range<DateTime<Utc>>) {
        let outages = &mut self.periodic.policies.outages;
        outages.entry(policy.to_owned()).or_default().push(window);
    }

    /// Makes the storage of a policy refuse to be listed in this window.
    pub fn fail_listing(&mut self, policy: &str, window: Range<DateTime<Utc>>) {
        let unlisted = &mut self.periodic.policies.unlisted;
        unlisted.entry(policy.to_owned()).or_default().push(window);
    }

    /// Cancels the reading of the storage of a policy in this window: lists leave it out without a
    /// word, because only faulted tasks fail them (`GetRestorePointsOperation.cs`).
    pub fn cancel_listing(&mut self, policy: &str, window: Range<DateTime<Utc>>) {
        let cancelled = &mut self.periodic.policies.cancelled;
        let windows = cancelled.entry(policy.to_owned()).or_default();
        windows.push(window);
    }
}

impl Policies {
    pub(super) fn storage_fails(&self, policy: &InForce, at: DateTime<Utc>) -> bool {
        contain(&self.outages, &policy.policy.name, at)
    }

    pub(super) fn listing_is_cancelled(&self, policy: &str, at: DateTime<Utc>) -> bool {
        contain(&self.cancelled, policy, at)
    }

    pub(super) fn listing_fails(&self, policy: &str, at: DateTime<Utc>) -> bool {
        contain(&self.unlisted, policy, at)
    }

    /// What makes two storages the same one.
    fn describe(&self, policy: &Policy) -> String {
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
    pub(super) fn counts_as(&self, policy: &InForce) -> String {
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
