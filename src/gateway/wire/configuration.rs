//! Backup routes of what is protected: the configuration of an application, and where a policy is
//! set.
//!
//! Old runtimes look for names that begin alike, so that `fabric:/App1` may also tell of
//! `fabric:/App10`. Such items are kept: each says what it is about, and what it says is true.

use serde::Deserialize;

use super::LIST_LIMIT;
use super::native::{name, partition_id};
use super::policy::policy_name;
use crate::gateway::decode::{Guid, Object};
use crate::gateway::error::{Cause, Misread};
use crate::gateway::query::{Page, PageReply, Query, Route, RouteKind, Subject};
use crate::model::{Configuration, Entity, Level};

// GET /Applications/{id}/$/GetBackupConfigurationInfo,
// samples GetApplicationBackupConfigurationInfo.*

pub(in crate::gateway) struct Configurations<'a> {
    pub(in crate::gateway) application: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct ConfigurationReply {
    kind: String,
    policy_name: Option<String>,
    policy_inherited_from: Option<String>,
    application_name: Option<String>,
    service_name: Option<String>,
    partition_id: Option<Guid>,
    suspension_info: Option<Object<SuspensionReply>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SuspensionReply {
    is_suspended: bool,
    /// `Invalid` where nothing is suspended.
    suspension_inherited_from: Option<String>,
}

impl Query for Configurations<'_> {
    const ROUTE: Route = Route {
        name: "GetApplicationBackupConfigurationInfo",
        kind: RouteKind::Backup,
        api_version: "6.4",
        operation: &["$", "GetBackupConfigurationInfo"],
        parameters: &[],
        body_limit: LIST_LIMIT,
    };
    type Reply = PageReply<ConfigurationReply>;
    type Answer = Page<Configuration>;

    fn subject(&self) -> Subject<'_> {
        Subject::Application(self.application)
    }

    /// "Not protected" is null for a partition; for an application it is a refusal in 6.4, and
    /// here both are understood.
    fn answer(reply: Option<Self::Reply>) -> Result<Page<Configuration>, Cause> {
        match reply {
            None => Ok(Page::empty()),
            reply => Page::of(reply, configuration),
        }
    }

    fn unprotected() -> Option<Page<Configuration>> {
        Some(Page::empty())
    }
}

fn configuration(reply: ConfigurationReply) -> Result<Option<Configuration>, Misread> {
    let Some(level) = Level::from_word(&reply.kind) else {
        return Ok(None);
    };
    let policy = reply.policy_name.filter(|name| !name.is_empty());
    let policy_from = reply.policy_inherited_from;
    let suspension = reply.suspension_info.map(|Object(reply)| reply);
    Ok(Some(Configuration {
        entity: EntityNames {
            application: reply.application_name,
            service: reply.service_name,
            partition: reply.partition_id,
        }
        .entity(level)?,
        policy: policy.map(|name| policy_name(&name)).transpose()?,
        policy_from: policy_from.and_then(|word| Level::from_word(&word)),
        suspended_at: suspension
            .filter(|suspension| suspension.is_suspended)
            .map(|suspension| suspension.level().unwrap_or(level)),
    }))
}

impl SuspensionReply {
    fn level(&self) -> Option<Level> {
        Level::from_word(self.suspension_inherited_from.as_deref()?)
    }
}

// GET /BackupRestore/BackupPolicies/{name}/$/GetBackupEnabledEntities,
// samples GetAllEntitiesBackedUpByPolicy.*

pub(in crate::gateway) struct Entities<'a> {
    pub(in crate::gateway) policy: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway) struct EntityReply {
    entity_kind: String,
    application_name: Option<String>,
    service_name: Option<String>,
    partition_id: Option<Guid>,
}

impl Query for Entities<'_> {
    const ROUTE: Route = Route {
        name: "GetAllEntitiesBackedUpByPolicy",
        kind: RouteKind::Backup,
        api_version: "6.4",
        operation: &["$", "GetBackupEnabledEntities"],
        parameters: &[],
        body_limit: LIST_LIMIT,
    };
    type Reply = PageReply<EntityReply>;
    type Answer = Page<Entity>;

    fn subject(&self) -> Subject<'_> {
        Subject::Policy(self.policy)
    }

    fn answer(reply: Option<Self::Reply>) -> Result<Page<Entity>, Cause> {
        Page::of(reply, |reply| {
            let names = EntityNames {
                application: reply.application_name,
                service: reply.service_name,
                partition: reply.partition_id,
            };
            Level::from_word(&reply.entity_kind)
                .map(|level| names.entity(level))
                .transpose()
        })
    }

    fn unprotected() -> Option<Page<Entity>> {
        Some(Page::empty())
    }
}

/// What an item calls the entity that it is about. A partition comes with its service.
struct EntityNames {
    application: Option<String>,
    service: Option<String>,
    partition: Option<Guid>,
}

impl EntityNames {
    fn entity(self, level: Level) -> Result<Entity, Misread> {
        let named = |text: Option<String>| name(&text.unwrap_or_default());
        Ok(match level {
            Level::Application => Entity::Application(named(self.application)?),
            Level::Service => Entity::Service(named(self.service)?),
            Level::Partition => Entity::Partition(partition_id(self.partition)?),
        })
    }
}
