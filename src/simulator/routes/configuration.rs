//! Backup configuration: `GetBackupConfigurationInfo`, enable, disable, suspend and resume.
//!
//! Implements `GetBackupMappingInfoOperation.cs` of 6.4, defects included: the entity itself, and
//! below it only entities with a policy or a suspension of their own. The response is `null` for a
//! partition without a policy and 404 for any other entity without one. Mappings and suspensions
//! are found by text keys, as in the service.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hyper::StatusCode;
use serde_json::Value;

use super::errors::{accepted, brs_error, brs_invalid_argument, rejection};
use super::names::{Names, NullReference};
use super::page::whole;
use super::policies::{key, page};
use super::settings::ResponseSettings;
use crate::simulator::estate::{Entity, Estate, Rejection};
use crate::simulator::request::{Operation, Request};
use crate::simulator::response::{GatewayResponse, RouteKind};
use crate::simulator::switches::{Prefixes, UnconfiguredApplication};

/// Separator in continuation tokens: between the last URI of a page and the letter of its list (BRS
/// `Constants.cs`).
const SEPARATOR: char = '+';

/// Enables, disables, suspends or resumes.
pub(super) fn change(
    estate: &mut Estate,
    request: &Request,
    entity: &Entity,
    now: DateTime<Utc>,
) -> GatewayResponse {
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
    accepted(changed)
}

/// The message of this error is a JSON document.
const NO_POLICY_NAMED: &str = concat!(
    r#"{"Message":"The request is invalid.","ModelState":"#,
    r#"{"backupMapping.BackupPolicyName":["The BackupPolicyName field is required."]}}"#,
);

pub(super) fn read(
    estate: &Estate,
    request: &Request,
    entity: &Entity,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    let names = Names::of(estate);
    match entity {
        Entity::Partition(id) if !estate.partitions.contains_key(id) => {
            rejection(Rejection::NotFound)
        }
        Entity::Partition(_) => {
            GatewayResponse::json(of_partition(&names, entity).unwrap_or_default())
        }
        // Applications, and services whose name has two levels, are not looked up.
        Entity::Service(name)
            if !estate.services.contains_key(name) && name.matches('/').count() != 2 =>
        {
            rejection(Rejection::NoSuchService)
        }
        _ => list(&names, request, entity, settings),
    }
}

/// The nearest policy and the nearest suspension; null where no policy applies.
fn of_partition(names: &Names<'_>, entity: &Entity) -> Option<Value> {
    let found = names.estate.protection(entity)?;
    Some(names.line(entity, &found.policy, found.from, found.suspended_from))
}

fn list(
    names: &Names<'_>,
    request: &Request,
    entity: &Entity,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    let query = &request.query;
    let wish: Option<usize> = match query.get("MaxResults").map(|it| it.parse()) {
        None => Some(0),
        Some(wish) => wish.ok(),
    };
    let token = query.get("ContinuationToken").filter(|it| !it.is_empty());
    let as_in_64 = settings.pages_as_in_64();
    let mut listing = Listing::of(names, entity, settings);
    let Some(wish) = wish else {
        return brs_invalid_argument("Invalid Arguments.");
    };
    let gathered = if as_in_64 {
        listing.gather(wish, token.map(String::as_str))
    } else {
        listing.gather(0, None)
    };
    if gathered.is_err() {
        return brs_error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "E_UNEXPECTED",
            "Object reference not set to an instance of an object.",
        );
    }
    let hidden = !listing.has_own_line
        && settings.switches.unconfigured_application == UnconfiguredApplication::NotFound
        && matches!(entity, Entity::Application(_));
    if listing.lines.is_empty() || hidden {
        return rejection(Rejection::NotEnabled);
    }
    let lines = listing.lines.into_iter();
    if as_in_64 {
        let items = lines.map(|(_, line)| line).collect();
        return whole(items, listing.token, RouteKind::Backup, settings);
    }
    let Some(page) = page(&request.id, query, settings) else {
        return brs_invalid_argument("Invalid Arguments.");
    };
    page.answer(page.rest(lines).into_iter(), |(key, line)| {
        (key.clone(), line.clone())
    })
}

/// A list under construction, in the order of the service.
struct Listing<'a> {
    names: &'a Names<'a>,
    entity: &'a Entity,
    /// The requested URI after parsing.
    asked: String,
    /// Level of the suspension of the requested entity.
    suspended: Option<&'static str>,
    own_line: Option<Value>,
    has_own_line: bool,
    mappings: BTreeMap<String, &'a Entity>,
    suspensions: BTreeMap<String, &'a Entity>,
    /// Items under the keys that order them on complete pages.
    lines: Vec<(String, Value)>,
    /// Items on this page besides that of the entity itself.
    shown: usize,
    token: Option<String>,
}

impl<'a> Listing<'a> {
    fn of(names: &'a Names<'a>, entity: &'a Entity, settings: &ResponseSettings<'_>) -> Self {
        let backup_service = &names.estate.backup_service;
        let asked = names.uri(entity);
        let clash = settings.switches.prefixes == Prefixes::Clash;
        let is_listed = |key: &str| {
            let rest = key.strip_prefix(&*asked);
            rest.is_some_and(|rest| clash || rest.is_empty() || rest.starts_with('/'))
        };
        let keyed = |it: &'a Entity| (names.key(it), it);
        let within = |keyed: (String, &'a Entity)| is_listed(&keyed.0).then_some(keyed);
        let line: Vec<Entity> = names.estate.line(entity);
        let mut suspending = line.iter().filter(|it| names.is_found(it));
        let suspended = suspending.find(|it| backup_service.is_suspended(it));
        // The entity itself is looked up under the requested name.
        let mut protecting = line.iter().filter(|it| *it == entity || names.is_found(it));
        let policy = protecting.find_map(|it| Some((it.level(), backup_service.own_policy(it)?)));
        let suspended = suspended.map(Entity::level);
        let own_line = policy.map(|(from, policy)| names.line(entity, policy, from, suspended));
        Self {
            names,
            entity,
            suspended,
            has_own_line: own_line.is_some(),
            own_line,
            mappings: backup_service
                .mapped()
                .map(keyed)
                .filter_map(within)
                .collect(),
            suspensions: backup_service
                .suspended()
                .map(keyed)
                .filter_map(within)
                .collect(),
            asked,
            lines: Vec::new(),
            shown: 0,
            token: None,
        }
    }

    /// Collects the items of one page: at most this many, 0 meaning all.
    fn gather(&mut self, wish: usize, token: Option<&str>) -> Result<(), NullReference> {
        let is_first = token.is_none();
        if is_first && let Some(line) = self.own_line.take() {
            self.lines.push((key(self.entity), line));
            if wish == 1 {
                let itself = usize::from(self.suspended == Some(self.entity.level()));
                if self.mappings.len() > 1 || self.suspensions.len() > itself {
                    self.token = Some(format!("{}{SEPARATOR}O", self.asked));
                }
                return Ok(());
            }
        }
        let (after, list) = match token.and_then(|it| it.split_once(SEPARATOR)) {
            Some((after, list)) => (after.to_owned(), list),
            None => (token.unwrap_or_default().to_owned(), "O"),
        };
        self.mappings.retain(|key, _| **key > *after);
        if list == "S" && *self.asked <= *after {
            // The requested URI is compared with the token instead of the suspended one: the page
            // after this token lacks the suspended entities (BRS `SuspendStore.cs`).
            self.suspensions.clear();
        }
        // Every page reserves one item for the entity itself.
        let most = match wish.saturating_sub(1) {
            0 => usize::MAX,
            most => most,
        };
        if self.overrides(list == "S", most) {
            return Ok(());
        }
        self.suspended_ones(most)
    }

    /// Adds items of entities with a policy of their own; returns true when the page is full.
    fn overrides(&mut self, only_suspended: bool, most: usize) -> bool {
        let mappings = std::mem::take(&mut self.mappings);
        let count = mappings.len();
        for (uri, entity) in mappings {
            if uri == self.asked {
                continue;
            }
            let own = self.suspensions.remove(&uri).map(Entity::level);
            let Some(policy) = self.names.estate.backup_service.own_policy(entity) else {
                continue;
            };
            if only_suspended {
                continue;
            }
            let suspended = own.or(self.suspended);
            let line = self.names.line(entity, policy, entity.level(), suspended);
            self.lines.push((key(entity), line));
            self.shown += 1;
            if self.shown == most {
                if self.shown < count || !self.suspensions.is_empty() {
                    self.token = Some(format!("{uri}{SEPARATOR}O"));
                }
                return true;
            }
        }
        false
    }

    /// Adds items of suspended entities without a policy of their own. The named policy is that of
    /// the application, which overwrote the one of the service.
    fn suspended_ones(&mut self, most: usize) -> Result<(), NullReference> {
        let mut left = std::mem::take(&mut self.suspensions);
        left.remove(&self.asked);
        let count = left.len();
        for (uri, entity) in left {
            let Some((from, policy)) = self.names.policy_of_suspended(entity)? else {
                continue;
            };
            let line = self.names.line(entity, policy, from, Some(entity.level()));
            self.lines.push((key(entity), line));
            self.shown += 1;
            if self.shown == most {
                if self.shown < count {
                    self.token = Some(format!("{uri}{SEPARATOR}S"));
                }
                break;
            }
        }
        Ok(())
    }
}
