//! Lists of backups: `GetBackups` of partitions, services and applications.
//!
//! Responsible for filters, order and shape of the items, as in the samples `Get*BackupList.*`;
//! the LSN is a string here, unlike everywhere else. It may not know where backups come from.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Value, json};

use super::lists::partition_information;
use super::page::Query;
use super::policies::page;
use super::{Terms, brs_invalid_argument, refusal};
use crate::simulator::answer::Answer;
use crate::simulator::estate::{Entity, Estate, Listed};
use crate::simulator::record::{Epoch, location};
use crate::simulator::request::Request;

pub(super) fn list(
    estate: &Estate,
    request: &Request,
    entity: &Entity,
    terms: &Terms<'_>,
    now: DateTime<Utc>,
) -> Answer {
    let wish = Wish::of(&request.query);
    let listed = match &wish {
        Some(wish) if wish.is_only_for_latest() => estate.newest_listed(entity, now),
        _ => estate.listed(entity, now),
    };
    let listed = match listed {
        Ok(listed) => listed,
        Err(why) => return refusal(why),
    };
    let (Some(wish), Some(page)) = (wish, page(&request.id, &request.query, terms)) else {
        return brs_invalid_argument("Invalid Arguments.");
    };
    let wished = wish.select(listed).into_iter();
    page.answer(page.rest(wished).into_iter(), |(key, listed)| {
        (key.clone(), item(listed, terms))
    })
}

/// What a client wants to see of a list.
struct Wish {
    latest: bool,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

impl Wish {
    fn of(query: &Query) -> Option<Self> {
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

    /// Whether all but the newest backup of each folder can be passed over.
    fn is_only_for_latest(&self) -> bool {
        self.latest && self.from.is_none() && self.until.is_none()
    }

    /// What is wished for, under keys that order it: partition by partition, oldest first.
    fn select(&self, listed: Vec<Listed>) -> BTreeMap<String, Listed> {
        let mut selected = BTreeMap::new();
        for it in listed {
            let taken = it.backup.taken;
            if self.from.is_some_and(|from| taken < from) || self.until.is_some_and(|it| taken > it)
            {
                continue;
            }
            let folder = format!("{}!{}", it.folder.service, it.folder.partition);
            // Backups of a folder come oldest first, so the newest one stays.
            let key = if self.latest {
                folder
            } else {
                format!("{folder}!{:020}!{}", taken.timestamp(), it.backup.id)
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

fn item(listed: &Listed, terms: &Terms<'_>) -> Value {
    let (folder, backup) = (&listed.folder, &listed.backup);
    let lsn = backup
        .lsn
        .map_or_else(|| "-1".to_owned(), |lsn| lsn.to_string());
    let epoch = match backup.lsn {
        Some(_) => backup.epoch.to_json(terms.switches.epoch_spelling),
        None => Epoch::unknown(terms.switches.epoch_spelling),
    };
    let names = (&*folder.application, &*folder.service);
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
        "CreationTimeUtc": backup.taken.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "FailureError": null,
    });
    if terms.switches.newer_fields {
        item["ValidationTimeUtc"] = Value::Null;
        item["ValidationResult"] = json!(backup.validation.word());
    }
    item
}
