//! Backup lists: `GetBackups` of partitions, services and applications.
//!
//! Implements filters, order, pages and the format of items, as in the samples `Get*BackupList.*`,
//! and the errors of unreadable storages. The LSN is a string here, unlike in other responses.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::errors::{brs_error, brs_invalid_argument, index_out_of_range, rejection};
use super::lists::partition_information;
use super::names::Names;
use super::page::{ListPage, QueryParameters, whole};
use super::policies::page;
use super::settings::ResponseSettings;
use crate::simulator::estate::{Entity, Estate, ListedBackup, Rejection, Validation};
use crate::simulator::record::{Epoch, location};
use crate::simulator::request::Request;
use crate::simulator::response::{GatewayResponse, RouteKind};

/// Time from the snapshot of a backup to its validation.
const CHECKED_AFTER: TimeDelta = TimeDelta::minutes(5);

/// Separator in sort keys: between storage, folder and backup.
const MARK: char = '!';

pub(super) fn list(
    estate: &Estate,
    request: &Request,
    entity: &Entity,
    settings: &ResponseSettings<'_>,
    now: DateTime<Utc>,
) -> GatewayResponse {
    let query = &request.query;
    let (Some(wish), Some(page)) = (Wish::of(query), page(&request.id, query, settings)) else {
        return brs_invalid_argument("Invalid Arguments.");
    };
    let most = query.get("MaxResults").and_then(|it| it.parse().ok());
    let most = most.filter(|most: &usize| *most > 0);
    let as_in_64 = most.filter(|_| settings.pages_as_in_64());
    let only_newest = wish.is_only_for_latest() && as_in_64.is_none();
    let storages = match estate.listed_by_storage(entity, now, only_newest) {
        Ok(storages) => storages,
        Err(Rejection::NothingToIndex | Rejection::StorageUnreachable)
            if estate.behaviour().missing_container_fails_lists =>
        {
            return index_out_of_range(as_in_64.is_some());
        }
        Err(why) => return rejection(why),
    };
    let names = Names::of(estate);
    if let Some(most) = as_in_64 {
        return page_of_64(&storages, &wish, &page, most, &names, settings);
    }
    let wished = wish.select(&storages).into_iter();
    page.answer(page.rest(wished).into_iter(), |(key, listed)| {
        (key.clone(), item(listed, &names, settings))
    })
}

/// A page requested with `MaxResults`: an empty storage fails it, and `Latest` is determined per
/// page (BRS `GetRestorePointsOperation.cs`).
fn page_of_64(
    storages: &[Vec<ListedBackup>],
    wish: &Wish,
    page: &ListPage<'_>,
    most: usize,
    names: &Names<'_>,
    settings: &ResponseSettings<'_>,
) -> GatewayResponse {
    let every = Wish {
        latest: false,
        ..*wish
    };
    let wished = every.select(storages);
    let is_empty = |index: usize| {
        let prefix = storage_key(index);
        !wished.keys().any(|key| key.starts_with(&prefix))
    };
    match (0..storages.len()).find(|index| is_empty(*index)) {
        Some(0) => return index_out_of_range(true),
        Some(_) => {
            let message = "Value cannot be null.\r\nParameter name: collection";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return brs_error(status, "E_POINTER", message);
        }
        None => {}
    }
    let rest = page.rest(wished.into_iter());
    let more = rest.len() > most;
    let mut shown: Vec<_> = rest.into_iter().take(most).collect();
    let last = shown.last().filter(|_| more);
    let token = last.map(|(key, _)| page.token_after(key));
    if wish.latest {
        let folder = |key: &str| key.rsplitn(3, MARK).nth(2).map(str::to_owned);
        let next = shown.iter().skip(1).map(|(key, _)| folder(key));
        let next: Vec<_> = next.chain([None]).collect();
        let newest = shown.into_iter().zip(next);
        let newest = newest.filter(|((key, _), next)| folder(key) != *next);
        shown = newest.map(|(shown, _)| shown).collect();
    }
    let items = shown.iter().map(|(_, it)| item(it, names, settings));
    whole(items.collect(), token, RouteKind::Backup, settings)
}

fn storage_key(index: usize) -> String {
    format!("{index:03}{MARK}")
}

/// Filter of a request.
struct Wish {
    latest: bool,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

impl Wish {
    fn of(query: &QueryParameters) -> Option<Self> {
        let time = |key: &str| {
            query
                .get(key)
                .map(|it| moment(it))
                .map_or(Ok(None), |it| it.map(Some).ok_or(()))
        };
        Some(Self {
            latest: query
                .get("Latest")
                .is_some_and(|it| it.eq_ignore_ascii_case("true")),
            from: time("StartDateTimeFilter").ok()?,
            until: time("EndDateTimeFilter").ok()?,
        })
    }

    /// Whether only the newest backup of each folder is needed.
    fn is_only_for_latest(&self) -> bool {
        self.latest && self.from.is_none() && self.until.is_none()
    }

    /// The selected backups under keys that sort them by storage, partition and time.
    fn select<'a>(&self, storages: &'a [Vec<ListedBackup>]) -> BTreeMap<String, &'a ListedBackup> {
        let mut selected = BTreeMap::new();
        let numbered = storages.iter().enumerate();
        let listed = numbered.flat_map(|(index, it)| it.iter().map(move |it| (index, it)));
        for (index, it) in listed {
            let taken = it.backup.taken;
            if self.from.is_some_and(|from| taken < from) || self.until.is_some_and(|it| taken > it)
            {
                continue;
            }
            let storage = storage_key(index);
            let folder = format!(
                "{storage}{}{MARK}{}",
                it.folder.service, it.folder.partition
            );
            // Backups of a folder come oldest first, so the newest one stays.
            let key = if self.latest {
                folder
            } else {
                let taken = taken.timestamp();
                format!("{folder}{MARK}{taken:020}{MARK}{}", it.backup.id)
            };
            selected.insert(key, it);
        }
        selected
    }
}

/// A time with or without its Z.
fn moment(text: &str) -> Option<DateTime<Utc>> {
    let exact = text.parse::<DateTime<Utc>>().ok();
    exact.or_else(|| Some(text.parse::<NaiveDateTime>().ok()?.and_utc()))
}

fn item(listed: &ListedBackup, names: &Names<'_>, settings: &ResponseSettings<'_>) -> Value {
    let (folder, backup) = (&listed.folder, &listed.backup);
    let lsn = backup
        .lsn
        .map_or_else(|| "-1".to_owned(), |lsn| lsn.to_string());
    let epoch = match backup.lsn {
        Some(_) => backup.epoch.to_json(settings.switches.epoch_spelling),
        None => Epoch::unknown(settings.switches.epoch_spelling),
    };
    let names = (
        &*names.spelled(&folder.application),
        &*names.spelled(&folder.service),
    );
    let mut item = json!({
        "BackupId": backup.id,
        "BackupChainId": backup.chain,
        "ApplicationName": names.0,
        "ServiceName": names.1,
        "ServiceManifestVersion": "1.0.0",
        "PartitionInformation": partition_information(folder.partition, &listed.keys),
        "BackupLocation": location(names, folder.partition, backup.taken),
        "BackupType": if backup.full { "Full" } else { "Incremental" },
        "EpochOfLastBackupRecord": epoch,
        "LsnOfLastBackupRecord": lsn,
        "CreationTimeUtc": second(backup.taken),
        "FailureError": null,
    });
    // Only a runtime that validates backups reports a damaged one.
    let checked = backup.validation != Validation::None;
    if settings.switches.newer_fields || checked {
        let at = backup.taken + CHECKED_AFTER;
        item["ValidationTimeUtc"] = json!(checked.then(|| second(at)));
        item["ValidationResult"] = json!(backup.validation.word());
    }
    item
}

fn second(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
