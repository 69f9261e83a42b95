//! Creates, updates and deletes backup policies and makes their storages fail.

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Estate;
use super::agenda::WorkItem;
use super::policy::{Account, Policy, PolicyVersion};

impl Estate {
    /// Creates or replaces a policy: every partition it applies to restarts its schedule, one whole
    /// interval from now, with a full backup.
    pub fn add_policy(&mut self, policy: Policy, now: DateTime<Utc>) {
        self.tick(now);
        self.put_in_force(policy, now);
    }

    fn put_in_force(&mut self, policy: Policy, now: DateTime<Utc>) {
        let name: Arc<str> = policy.name.as_str().into();
        let version = self.backup_service.next_serial();
        let description = self.backup_service.policies.describe(&policy);
        let storage_id = self.backup_service.stores.storage_id(description);
        let policy_version = Arc::new(PolicyVersion {
            policy,
            version,
            storage_id,
        });
        self.backup_service.arm_retention(&policy_version, now);
        let policies = &mut self.backup_service.policies;
        policies.by_name.insert(Arc::clone(&name), policy_version);
        for entity in self.backup_service.enabled_with(&name) {
            self.send(&entity, WorkItem::Enable, now);
        }
    }

    /// Updates a policy; returns false if it does not exist.
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

    /// Changes the certificate that encrypts secrets: every policy gets a new internal id and is
    /// sent to every partition, which no API shows (`BackupRestoreService.cs`,
    /// `UpdateSecretsAsync`).
    pub fn change_certificate(&mut self, now: DateTime<Utc>) {
        self.tick(now);
        let policies: Vec<_> = self
            .backup_service
            .policies
            .by_name
            .values()
            .cloned()
            .collect();
        for policy in policies {
            self.put_in_force(policy.policy.clone(), now);
        }
    }

    /// Deletes a policy and its mappings, also those of deleted entities; returns false if it does
    /// not exist.
    pub fn remove_policy(&mut self, name: &str, now: DateTime<Utc>) -> bool {
        self.tick(now);
        for entity in self.backup_service.enabled_with(name) {
            self.backup_service.mappings.remove(&entity);
            self.send(&entity, WorkItem::Disable, now);
        }
        let policies = &mut self.backup_service.policies;
        policies.retentions.remove(name);
        policies.by_name.remove(name).is_some()
    }

    /// A policy by its name.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        Some(&self.backup_service.policies.by_name.get(name)?.policy)
    }

    /// Sets the storage account of a policy; call it before the policy is added. Policies with the
    /// same account and a plain-text connection string count as one storage, whatever their
    /// containers; with encrypted secrets each counts separately. Without this call every container
    /// has its own account.
    pub fn set_account(&mut self, policy: &str, account: &str, encrypted: bool) {
        let account = Account {
            name: account.to_owned(),
            encrypted,
        };
        let accounts = &mut self.backup_service.policies.accounts;
        accounts.insert(policy.to_owned(), account);
    }

    /// Makes uploads to the storage of a policy fail that end in this window.
    pub fn fail_storage(&mut self, policy: &str, window: Range<DateTime<Utc>>) {
        let outages = &mut self.backup_service.policies.outages;
        outages.entry(policy.to_owned()).or_default().push(window);
    }

    /// Makes listing the storage of a policy fail in this window.
    pub fn fail_listing(&mut self, policy: &str, window: Range<DateTime<Utc>>) {
        let unlisted = &mut self.backup_service.policies.unlisted;
        unlisted.entry(policy.to_owned()).or_default().push(window);
    }

    /// Cancels listing the storage of a policy in this window: backup lists omit it without an
    /// error, because only faulted tasks fail them (`GetRestorePointsOperation.cs`).
    pub fn cancel_listing(&mut self, policy: &str, window: Range<DateTime<Utc>>) {
        let cancelled = &mut self.backup_service.policies.cancelled;
        let windows = cancelled.entry(policy.to_owned()).or_default();
        windows.push(window);
    }
}
