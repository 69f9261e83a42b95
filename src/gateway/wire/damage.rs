//! Damaged answers: one value in a sample is replaced by another one, which must not affect the
//! others. The samples are walked as plain JSON, not with the shapes that the client expects.

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde_json::{Value, json};

use super::tests::answer;
use super::*;
use crate::gateway::decode::tests::{sample, samples};
use crate::model::{BackupProgress, ListedBackup};

/// JSON of every kind, as it is sent: some of it cannot be a [`Value`].
const REPLACEMENTS: [&str; 20] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1.5",
    "1e400",
    "9223372036854775808",
    "\"\"",
    "\"x\"",
    "\"-1\"",
    "\"2018-01-01\"",
    "\"0001-01-01T00:00:00Z\"",
    "\"00000000-0000-0000-0000-000000000000\"",
    "\"\\ud800\"",
    "[]",
    "[null]",
    "{}",
    "{\"Code\":[]}",
    "[[{\"a\":1}]]",
];

/// The pointers (RFC 6901) to `value` and to all that is in it.
fn pointers(value: &Value) -> Vec<String> {
    let below = |key: &str, value: &Value| -> Vec<String> {
        let key = key.replace('~', "~0").replace('/', "~1");
        let inner = pointers(value).into_iter();
        inner.map(|pointer| format!("/{key}{pointer}")).collect()
    };
    let mut found = vec![String::new()];
    match value {
        Value::Object(members) => {
            found.extend(members.iter().flat_map(|(key, value)| below(key, value)));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            found.extend(items.flat_map(|(index, value)| below(&index.to_string(), value)));
        }
        _ => {}
    }
    found
}

/// `document` with the value at `pointer` replaced by each of [`REPLACEMENTS`].
fn damaged(document: &Value, pointer: &str) -> impl Iterator<Item = String> {
    let mut document = document.clone();
    *document.pointer_mut(pointer).unwrap() = json!("@replaced@");
    let text = document.to_string();
    REPLACEMENTS
        .map(|with| text.replace("\"@replaced@\"", with))
        .into_iter()
}

fn documents(prefix: &str) -> impl Iterator<Item = (String, Value)> {
    let names = samples(prefix).into_iter();
    names.map(|name| {
        let document = serde_json::from_slice(&sample(&name)).unwrap();
        (name, document)
    })
}

/// Damages every value of every item, one at a time. The answer must be the one without the damaged
/// item, which may be there in addition, changed.
fn neighbours_survive<T: PartialEq + Debug>(query: &Query<Page<T>>, prefix: &str) {
    let mut tried = 0;
    for (name, document) in documents(prefix) {
        let items = document["Items"].as_array().unwrap();
        for (index, item) in items.iter().enumerate() {
            let mut without = document.clone();
            without["Items"].as_array_mut().unwrap().remove(index);
            let expected = answer(query, without.to_string()).unwrap();
            let before = json!({"Items": &items[..index]}).to_string();
            let before = answer(query, before).unwrap().items.len();
            for pointer in pointers(item) {
                for body in damaged(&document, &format!("/Items/{index}{pointer}")) {
                    let mut page = answer(query, &body).unwrap();
                    if page.items.len() > expected.items.len() {
                        page.items.remove(before);
                    }
                    assert_eq!(page.items, expected.items, "{name} {pointer}: {body}");
                    assert_eq!(page.next, expected.next, "{name} {pointer}");
                    assert!(page.skipped <= expected.skipped + 1, "{name} {pointer}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 0, "{prefix}");
}

#[test]
fn a_damaged_list_item_does_not_affect_others() {
    neighbours_survive(&APPLICATIONS, "GetApplicationInfoList.");
    neighbours_survive(&SERVICES, "GetServiceInfoList.");
    neighbours_survive(&PARTITIONS, "GetPartitionInfoList.");
    neighbours_survive(
        &APPLICATION_CONFIGURATIONS,
        "GetApplicationBackupConfigurationInfo.",
    );
    neighbours_survive(
        &APPLICATION_CONFIGURATIONS,
        "GetServiceBackupConfigurationInfo.",
    );
    neighbours_survive(&ENTITIES_OF_POLICY, "GetAllEntitiesBackedUpByPolicy.");
    neighbours_survive(&POLICIES, "GetBackupPolicyList.");
    neighbours_survive(&LATEST_BACKUPS, "GetApplicationBackupList.");
    neighbours_survive(&ALL_BACKUPS, "GetServiceBackupList.");
    neighbours_survive(&PARTITION_BACKUPS, "GetPartitionBackupList.");
}

/// Makes the field that comes from the member `key` the same in both.
fn equalize(key: &str, damaged: &mut ListedBackup, original: &ListedBackup) {
    match key {
        "BackupId" => damaged.backup_id = original.backup_id,
        "BackupChainId" => damaged.chain_id = original.chain_id,
        "BackupType" => damaged.kind = original.kind,
        "EpochOfLastBackupRecord" => damaged.epoch = original.epoch,
        "LsnOfLastBackupRecord" => damaged.lsn = original.lsn,
        "CreationTimeUtc" => damaged.created = original.created,
        "FailureError" | "ValidationResult" => damaged.restorable = original.restorable,
        _ => {}
    }
}

#[test]
fn a_damaged_optional_backup_member_affects_no_other() {
    for (name, document) in documents("GetPartitionBackupList.") {
        let original = answer(&PARTITION_BACKUPS, document.to_string()).unwrap();
        let items = document["Items"].as_array().unwrap();
        for (index, item) in items.iter().enumerate() {
            for pointer in pointers(item).into_iter().skip(1) {
                let key = pointer.split('/').nth(1).unwrap();
                if key == "PartitionInformation" {
                    continue;
                }
                for body in damaged(&document, &format!("/Items/{index}{pointer}")) {
                    let mut page = answer(&PARTITION_BACKUPS, &body).unwrap();
                    assert_eq!((page.items.len(), page.skipped), (items.len(), 0), "{body}");
                    equalize(key, &mut page.items[index], &original.items[index]);
                    assert_eq!(page.items, original.items, "{name} {pointer}: {body}");
                }
            }
        }
    }
}

fn equalize_record(key: &str, damaged: &mut BackupProgress, original: &BackupProgress) {
    match key {
        "TimeStampUtc" => damaged.timestamp = original.timestamp,
        "BackupId" => damaged.backup_id = original.backup_id,
        "EpochOfLastBackupRecord" => damaged.epoch = original.epoch,
        "LsnOfLastBackupRecord" => damaged.lsn = original.lsn,
        "FailureError" => damaged.failure.clone_from(&original.failure),
        _ => {}
    }
}

#[test]
fn a_damaged_optional_record_member_affects_no_other() {
    for (name, document) in documents("GetPartitionBackupProgress.") {
        let original = answer(&BACKUP_PROGRESS, document.to_string()).unwrap();
        for pointer in pointers(&document).into_iter().skip(1) {
            let key = pointer.split('/').nth(1).unwrap();
            for body in damaged(&document, &pointer) {
                let read = answer(&BACKUP_PROGRESS, &body);
                if key == "BackupState" {
                    assert!(read.is_err() || body.contains(":\""), "{body}");
                    continue;
                }
                let mut read = read.unwrap();
                if let (Some(read), Some(original)) = (&mut read, &original) {
                    equalize_record(key, read, original);
                }
                assert_eq!(read, original, "{name} {pointer}: {body}");
            }
        }
    }
}

#[test]
fn a_damaged_optional_restore_or_configuration_member_affects_no_other() {
    for (name, document) in documents("GetPartitionRestoreProgress.") {
        let original = answer(&RESTORE_PROGRESS, document.to_string()).unwrap();
        let others = ["RestoredEpoch", "RestoredLsn", "FailureError"];
        for pointer in pointers(&document).into_iter().skip(1) {
            let key = pointer.split('/').nth(1).unwrap();
            for body in damaged(&document, &pointer) {
                match answer(&RESTORE_PROGRESS, &body) {
                    Ok(read) if others.contains(&key) => {
                        assert_eq!(read, original, "{name}: {body}");
                    }
                    Ok(Some(read)) if key == "TimeStampUtc" => {
                        assert_eq!(read.state, original.unwrap().state, "{name}: {body}");
                    }
                    read => assert_eq!(key, "RestoreState", "{name}: {body} {read:?}"),
                }
            }
        }
    }
    let required = BTreeSet::from(["Kind", "PolicyName", "PartitionId"]);
    for (name, document) in documents("GetPartitionBackupConfigurationInfo.") {
        let original = answer(&PARTITION_CONFIGURATION, document.to_string()).unwrap();
        for pointer in pointers(&document).into_iter().skip(1) {
            let key = pointer.split('/').nth(1).unwrap();
            for body in damaged(&document, &pointer) {
                if required.contains(key) {
                    continue;
                }
                let read = answer(&PARTITION_CONFIGURATION, &body).unwrap().unwrap();
                let original = original.as_ref().unwrap();
                assert_eq!(read.entity, original.entity, "{name} {pointer}: {body}");
                assert_eq!(read.policy, original.policy, "{name} {pointer}: {body}");
            }
        }
    }
}

#[test]
fn a_damaged_health_event_does_not_affect_others() {
    for (name, document) in documents("GetPartitionHealth.") {
        let original = answer(&PARTITION_HEALTH, document.to_string()).unwrap();
        let events = document["HealthEvents"].as_array().unwrap();
        for (index, event) in events.iter().enumerate() {
            let about_backups = event["SourceId"] == "System.BackupRestoreManager";
            for pointer in pointers(event) {
                for body in damaged(&document, &format!("/HealthEvents/{index}{pointer}")) {
                    let read = answer(&PARTITION_HEALTH, &body).unwrap();
                    assert!(read.skipped <= 1, "{name} {pointer}: {body}");
                    if !about_backups {
                        assert_eq!(read.attempt, original.attempt, "{name} {pointer}: {body}");
                    }
                }
            }
        }
    }
}
