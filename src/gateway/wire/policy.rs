//! The backup route of the policies.
//!
//! Their storages come with connection strings and passwords. All that is read of a storage is
//! its kind: what is skipped is never copied out of the body.

use std::sync::Arc;

use serde::Deserialize;

use super::LIST_LIMIT;
use super::native::MAX_NAME;
use super::schedule::{ScheduleReply, day_time_duration};
use crate::gateway::decode::{Integer, Object};
use crate::gateway::error::{Cause, Misread};
use crate::gateway::query::{POLICIES, Page, PageReply, Query, Route, RouteKind, Subject};
use crate::model::{Name, Policy, Word};

/// The name becomes a label value and a segment of a path, where dots would lead elsewhere.
pub(super) fn policy_name(text: &str) -> Result<Name, Misread> {
    let long = text.is_empty() || text.len() > MAX_NAME;
    if long || text.contains(char::is_control) || matches!(text, "." | "..") {
        return Err(Misread::PolicyName);
    }
    Ok(Arc::from(text))
}

// GET /BackupRestore/BackupPolicies, samples GetBackupPolicyList.*; an item is the answer to
// GET /BackupRestore/BackupPolicies/{name}, samples GetBackupPolicyByName.*

pub(in crate::gateway) struct Policies;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct PolicyReply {
    name: String,
    /// The service leaves default values out of what it writes.
    auto_restore_on_data_loss: Option<bool>,
    max_incremental_backups: Option<Integer>,
    schedule: Option<Object<ScheduleReply>>,
    storage: Option<Object<StorageReply>>,
    retention_policy: Option<Object<RetentionReply>>,
}

/// Nothing else may be added here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StorageReply {
    storage_kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RetentionReply {
    retention_policy_type: Option<String>,
    retention_duration: Option<String>,
}

impl Query for Policies {
    const ROUTE: Route = Route {
        name: "GetBackupPolicyList",
        kind: RouteKind::Backup,
        api_version: "6.4",
        operation: POLICIES,
        parameters: &[],
        body_limit: LIST_LIMIT,
    };
    type Reply = PageReply<PolicyReply>;
    type Answer = Page<Policy>;

    fn subject(&self) -> Subject<'_> {
        Subject::Cluster
    }

    fn answer(reply: Option<Self::Reply>) -> Result<Page<Policy>, Cause> {
        Page::of(reply, |reply| policy(reply).map(Some))
    }

    fn unprotected() -> Option<Page<Policy>> {
        Some(Page::empty())
    }
}

fn policy(reply: PolicyReply) -> Result<Policy, Misread> {
    let storage = reply
        .storage
        .and_then(|Object(storage)| storage.storage_kind);
    let incrementals = reply.max_incremental_backups.and_then(Integer::known);
    Ok(Policy {
        name: policy_name(&reply.name)?,
        schedule: reply.schedule.and_then(|Object(reply)| reply.schedule()),
        storage: Word::new(storage.as_deref().unwrap_or_default()),
        auto_restore: reply.auto_restore_on_data_loss.unwrap_or_default(),
        max_incrementals: incrementals.and_then(|number| number.try_into().ok()),
        retention: reply.retention_policy.and_then(|Object(reply)| {
            (reply.retention_policy_type.as_deref() == Some("Basic"))
                .then(|| day_time_duration(reply.retention_duration.as_deref()?))
                .flatten()
        }),
    })
}
