//! What applies to an entity: `GetBackupConfigurationInfo`, and the verbs that change it.
//!
//! Responsible for the shape of one item, for what a list shows (the entity itself, and below it
//! only what has a policy or a suspension of its own), and for what "nothing applies" looks like:
//! `null` for a partition, 404 for everything else. It may not know how backups are taken.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::policies::{key, names, page};
use super::{Terms, brs_invalid_argument, refusal};
use crate::simulator::answer::Answer;
use crate::simulator::estate::{Entity, Estate, Refusal};
use crate::simulator::request::{Operation, Request};
use crate::simulator::{Prefixes, UnconfiguredApplication};

pub(super) fn read(
    estate: &Estate,
    request: &Request,
    entity: &Entity,
    terms: &Terms<'_>,
) -> Answer {
    match entity {
        Entity::Partition(id) if !estate.partitions.contains_key(id) => refusal(Refusal::NotFound),
        Entity::Partition(_) => Answer::json(item(estate, entity).unwrap_or_default()),
        Entity::Service(name) if !estate.services.contains_key(name) => {
            refusal(Refusal::NoSuchService)
        }
        Entity::Application(name) if !estate.applications.contains_key(name) => {
            refusal(Refusal::NoSuchApplication)
        }
        _ => list(estate, request, entity, terms),
    }
}

/// Enables, disables, suspends or resumes.
pub(super) fn change(
    estate: &mut Estate,
    request: &Request,
    entity: &Entity,
    now: DateTime<Utc>,
) -> Answer {
    use Operation as Op;
    let changed = match request.operation {
        Op::EnableApplicationBackup | Op::EnableServiceBackup | Op::EnablePartitionBackup => {
            let Some(policy) = request.property("BackupPolicyName") else {
                return brs_invalid_argument(NO_POLICY_NAMED);
            };
            estate.enable(entity, &policy, now)
        }
        Op::DisableApplicationBackup | Op::DisableServiceBackup | Op::DisablePartitionBackup => {
            if request.is_set("CleanBackup") {
                estate.disable_and_clean(entity, now)
            } else {
                estate.disable(entity, now)
            }
        }
        Op::SuspendApplicationBackup | Op::SuspendServiceBackup | Op::SuspendPartitionBackup => {
            estate.suspend(entity, now)
        }
        _ => estate.resume(entity, now),
    };
    super::accepted(changed)
}

/// The message of this refusal is a document of its own.
const NO_POLICY_NAMED: &str = concat!(
    r#"{"Message":"The request is invalid.","ModelState":"#,
    r#"{"backupMapping.BackupPolicyName":["The BackupPolicyName field is required."]}}"#,
);

fn list(estate: &Estate, request: &Request, entity: &Entity, terms: &Terms<'_>) -> Answer {
    let own = item(estate, entity);
    let hidden = own.is_none()
        && terms.switches.unconfigured_application == UnconfiguredApplication::NotFound
        && matches!(entity, Entity::Application(_));
    let mapped = estate.periodic.mapped();
    let configured: BTreeSet<_> = mapped.chain(estate.periodic.suspended()).collect();
    let below = configured
        .into_iter()
        .filter(|it| *it != entity && is_listed(estate, it, entity, terms));
    let items: Vec<_> = own
        .map(|own| (key(entity), own))
        .into_iter()
        .chain(below.filter_map(|it| Some((key(it), item(estate, it)?))))
        .collect();
    if items.is_empty() || hidden {
        return refusal(Refusal::NotEnabled);
    }
    let Some(page) = page(&request.id, &request.query, terms) else {
        return brs_invalid_argument("Invalid Arguments.");
    };
    page.answer(page.rest(items.into_iter()).into_iter(), |(key, item)| {
        (key.clone(), item.clone())
    })
}

/// Whether something belongs into the list of an application or service; a service that compares
/// only how names begin lists what belongs to another application as well.
fn is_listed(estate: &Estate, it: &Entity, of: &Entity, terms: &Terms<'_>) -> bool {
    let service = match it {
        Entity::Application(_) => None,
        Entity::Service(name) => Some(name.to_string()),
        Entity::Partition(id) => estate.service_of(*id).map(|it| it.to_string()),
    };
    match (of, service) {
        (Entity::Application(name), Some(service))
            if terms.switches.prefixes == Prefixes::Clash =>
        {
            service.starts_with(&**name)
        }
        _ => estate.is_within(it, of),
    }
}

/// As in the samples `Get*BackupConfigurationInfo.*.json`; `None` where nothing applies.
fn item(estate: &Estate, entity: &Entity) -> Option<Value> {
    let protection = estate.protection(entity)?;
    let mut item = names(estate, entity);
    item["Kind"] = json!(entity.level());
    item["PolicyName"] = json!(&*protection.policy);
    item["PolicyInheritedFrom"] = json!(protection.from);
    item["SuspensionInfo"] = json!({
        "IsSuspended": protection.suspended_from.is_some(),
        "SuspensionInheritedFrom": protection.suspended_from.unwrap_or("Invalid"),
    });
    Some(item)
}
