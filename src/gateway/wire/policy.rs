//! The backup route of the policies.
//!
//! Their storages come with connection strings and passwords. Of a storage only its kind is kept,
//! and a checksum over its place, which shows when it moves. A second checksum over the whole
//! policy, without secrets, shows when any part of it changes.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::Value;
use serde_json::value::RawValue;

use super::native::{MAX_NAME, is_unfit};
use super::page::Page;
use super::query::Query;
use super::route::{POLICIES_PATH, Route};
use super::schedule::{ScheduleReply, day_time_duration};
use crate::gateway::decode::{DecodeError, Field, Integer, Object, ScalarText};
use crate::model::{LabelValue, Name, Policy, Retention};

/// The name becomes a label value and a segment of a path, where dots would lead elsewhere.
pub(super) fn policy_name(text: &str) -> Result<Name, DecodeError> {
    let long = text.is_empty() || text.len() > MAX_NAME;
    if long || text.contains(is_unfit) || matches!(text, "." | "..") {
        return Err(DecodeError::PolicyName);
    }
    Ok(Arc::from(text))
}

// GET /BackupRestore/BackupPolicies, samples GetBackupPolicyList.*; an item is the answer to
// GET /BackupRestore/BackupPolicies/{name}, samples GetBackupPolicyByName.*

struct PolicyReply {
    members: Members,
    checksum: u32,
}

impl<'de> Deserialize<'de> for PolicyReply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let item = <&RawValue>::deserialize(deserializer)?.get();
        // The cause may quote a secret.
        let odd = |_| D::Error::custom("not a policy");
        let Object(members) = serde_json::from_str(item).map_err(odd)?;
        let checksum = checksum(serde_json::from_str(item).map_err(odd)?);
        Ok(Self { members, checksum })
    }
}

/// CRC-32 over all members of a policy, known or not, in the order of their keys; without null
/// members, which are the same as missing ones, and without secrets.
fn checksum(item: Value) -> u32 {
    crc32fast::hash(canonical(item).to_string().as_bytes())
}

/// `value` without null members and secrets. `serde_json` sorts the members of an object.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(key, value)| !value.is_null() && !is_secret(key))
            .map(|(key, value)| (key, canonical(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        scalar => scalar,
    }
}

/// Whether the value of a member is a secret, judged by its key.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = ["password", "secret", "connectionstring", "token"];
    key.ends_with("key") || words.into_iter().any(|word| key.contains(word))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members {
    name: String,
    /// The service omits default values.
    #[serde(default)]
    auto_restore_on_data_loss: Field<bool>,
    #[serde(default)]
    max_incremental_backups: Field<Integer>,
    #[serde(default)]
    schedule: Field<Object<ScheduleReply>>,
    #[serde(default)]
    storage: Field<Object<StorageReply>>,
    #[serde(default)]
    retention_policy: Field<Object<RetentionReply>>,
}

/// No key, password or connection string may be added here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StorageReply {
    #[serde(default)]
    storage_kind: Field<String>,
    // Where it is, in all kinds. Only compared, so whatever stands there is good enough.
    #[serde(default)]
    friendly_name: ScalarText,
    #[serde(default)]
    container_name: ScalarText,
    #[serde(default)]
    blob_service_uri: ScalarText,
    #[serde(default)]
    storage_credentials_source_location: ScalarText,
    #[serde(default)]
    path: ScalarText,
}

impl StorageReply {
    fn place(&self) -> u32 {
        let parts = [
            &self.friendly_name,
            &self.container_name,
            &self.blob_service_uri,
            &self.storage_credentials_source_location,
            &self.path,
        ];
        let parts = parts.map(|part| part.0.as_str());
        crc32fast::hash(parts.join("\n").as_bytes())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RetentionReply {
    retention_policy_type: Option<String>,
    retention_duration: Option<String>,
    #[serde(default)]
    minimum_number_of_backups: Field<Integer>,
}

impl RetentionReply {
    fn retention(&self) -> Option<Retention> {
        (self.retention_policy_type.as_deref() == Some("Basic")).then_some(())?;
        let minimum = match &self.minimum_number_of_backups {
            Field::Absent => Some(0),
            Field::Unreadable => None,
            Field::Value(number) => number.known().and_then(|number| number.try_into().ok()),
        };
        Some(Retention {
            duration: day_time_duration(self.retention_duration.as_deref()?)?,
            minimum_backups: minimum,
        })
    }
}

/// All backup policies.
pub const POLICIES: Query<Page<Policy>> = Query {
    route: Route::backup("GetBackupPolicyList", POLICIES_PATH).list(),
    answer: |reply| {
        Page::read(reply, |PolicyReply { members, checksum }| {
            policy(members, checksum).map(Some)
        })
    },
    not_enabled: Some(Page::empty),
};

fn policy(members: Members, checksum: u32) -> Result<Policy, DecodeError> {
    let storage = members.storage.value().map(|Object(storage)| storage);
    let storage_fingerprint = storage.as_ref().map_or(0, StorageReply::place);
    let kind = storage.and_then(|storage| storage.storage_kind.value());
    let incrementals = members.max_incremental_backups.value();
    let incrementals = incrementals.and_then(Integer::known);
    // A schedule of unknown kind is absent, one that cannot be read makes the policy malformed.
    let schedule = members.schedule.readable()?;
    let retention = members.retention_policy.value();
    Ok(Policy {
        name: policy_name(&members.name)?,
        schedule: schedule.and_then(|Object(reply)| reply.schedule()),
        storage: LabelValue::new(&kind.unwrap_or_default()),
        storage_fingerprint,
        auto_restore: members
            .auto_restore_on_data_loss
            .value()
            .unwrap_or_default(),
        max_incrementals: incrementals.and_then(|number| number.try_into().ok()),
        retention: retention.and_then(|Object(reply)| reply.retention()),
        checksum,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{NaiveTime, Weekday};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::decode::tests::{sample, samples};
    use crate::gateway::error::Error;
    use crate::gateway::failure::Failure;
    use crate::gateway::reason::Reason;
    use crate::gateway::wire::Subject;
    use crate::gateway::wire::tests::{answer, is_read_or_not_understood, mutated};
    use crate::model::Schedule;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn minutes(minutes: u64) -> Schedule {
        Schedule::Frequency(Duration::from_secs(minutes * 60))
    }

    fn at(hour: u32) -> NaiveTime {
        NaiveTime::from_hms_opt(hour, 0, 0).unwrap()
    }

    fn a_policy(
        name: &str,
        schedule: Schedule,
        storage: &str,
        incrementals: u32,
        kept: Option<(u32, u32)>,
    ) -> Policy {
        Policy {
            name: name.into(),
            schedule: Some(schedule),
            storage: LabelValue::new(storage),
            storage_fingerprint: 0,
            auto_restore: false,
            max_incrementals: Some(incrementals),
            retention: kept.map(|(days, minimum)| Retention {
                duration: DAY * days,
                minimum_backups: Some(minimum),
            }),
            checksum: 0,
        }
    }

    /// What else is read of it; the checksums have tests of their own.
    fn without_place(policy: Policy) -> Policy {
        Policy {
            storage_fingerprint: 0,
            checksum: 0,
            ..policy
        }
    }

    #[test]
    fn a_policy_that_moves_to_another_place_is_another_one() {
        let mark = |storage: Value| beside_a_plain_one(&json!({"Storage": storage})).fingerprint();
        for (key, kind) in [
            ("FriendlyName", "AzureBlobStore"),
            ("ContainerName", "AzureBlobStore"),
            ("BlobServiceUri", "ManagedIdentityAzureBlobStore"),
            ("StorageCredentialsSourceLocation", "DsmsAzureBlobStore"),
            ("Path", "FileShare"),
        ] {
            let here = mark(json!({"StorageKind": kind, key: "here"}));
            assert_eq!(
                here,
                mark(json!({"StorageKind": kind, key: "here"})),
                "{key}"
            );
            for there in [json!("there"), json!(["here"]), Value::Null] {
                assert_ne!(
                    here,
                    mark(json!({"StorageKind": kind, key: there})),
                    "{key}"
                );
            }
        }
        let key = |key: &str| {
            mark(
                json!({"StorageKind": "AzureBlobStore", "ConnectionString": key,
                "PrimaryPassword": key, "SecondaryPassword": key}),
            )
        };
        assert_eq!(key("old"), key("new"), "keys are not even looked at");
    }

    /// The mark of a policy with `changes`.
    fn mark(changes: &Value) -> u32 {
        beside_a_plain_one(changes).fingerprint()
    }

    #[test]
    fn a_policy_with_any_other_member_is_another_one() {
        let plain = mark(&json!({}));
        let storage = |key: &str, value: Value| {
            let mut storage = json!({"StorageKind": "FileShare"});
            storage[key] = value;
            json!({"Storage": storage})
        };
        let mut marks = vec![plain];
        for changes in [
            json!({"CompressionType": "ZIP"}),
            json!({"CompressionType": "ZSTANDARD"}),
            json!({"QuickRecovery": "FromPrimary"}),
            json!({"Validation": "Enabled"}),
            json!({"SomethingNew": [{"a": 1}]}),
            json!({"SomethingNew": [{"a": 2}]}),
            json!({"Schedule": {"ScheduleKind": "Continuous", "Lag": 5}}),
            json!({"Schedule": {"ScheduleKind": "Continuous", "Lag": 6}}),
            json!({"RetentionPolicy": {"RetentionPolicyType": "Count", "Count": 5}}),
            storage("FriendlyName", json!("here")),
            storage("PrimaryUserName", json!("user")),
            storage("ManagedIdentityClientId", json!("id")),
        ] {
            let mark = mark(&changes);
            assert!(!marks.contains(&mark), "{changes}");
            marks.push(mark);
        }
        for changes in [
            json!({"CompressionType": null}),
            storage("ConnectionString", json!("secret")),
            storage("PrimaryPassword", json!("****")),
            storage("SasToken", json!("secret")),
            storage("AccountKey", json!("secret")),
        ] {
            assert_eq!(mark(&changes), plain, "{changes}");
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let one =
            r#"{"Name":"P","Schedule":{"ScheduleKind":"FrequencyBased","Interval":"PT1H"},"X":1}"#;
        let other = r#"{"X":1,"Schedule":{"Interval":"PT1H", "ScheduleKind":"FrequencyBased"},"Y":null,"Name":"P"}"#;
        let marks = [one, other].map(|item| {
            let page = answer(&POLICIES, format!("{{\"Items\":[{item}]}}")).unwrap();
            page.items[0].fingerprint()
        });
        assert_eq!(marks[0], marks[1]);
        // Of every version of this program, so that an update is not taken for a change.
        assert_eq!(marks[0], 4_169_907_194);
    }

    #[test]
    fn a_malformed_policy_does_not_affect_others() {
        let body = sample("GetBackupPolicyList.one-malformed.json");
        let page = answer(&POLICIES, body).unwrap();
        let names: Vec<_> = page.items.iter().map(|policy| &*policy.name).collect();
        assert_eq!((names, page.skipped), (vec!["Good"], 1));
    }

    fn list_of(item: &Value) -> String {
        json!({"ContinuationToken": null, "Items": [item]}).to_string()
    }

    #[test]
    fn every_list_of_policies_is_read() {
        let daily = Schedule::Daily(vec![at(9), at(17)]);
        let expected = [
            ("empty", vec![], None),
            (
                "frequency-based.sfx",
                vec![a_policy(
                    "MyBackupPolicy",
                    minutes(15),
                    "AzureBlobStore",
                    20,
                    Some((10, 0)),
                )],
                None,
            ),
            (
                "page-1",
                vec![
                    a_policy(
                        "DailyAzureBackupPolicy",
                        daily,
                        "AzureBlobStore",
                        3,
                        Some((29, 30)),
                    ),
                    a_policy(
                        "FileShare10MinBackupPolicy",
                        minutes(10),
                        "FileShare",
                        3,
                        Some((20, 20)),
                    ),
                ],
                Some("FileShare10MinBackupPolicy"),
            ),
            (
                "page-2",
                vec![a_policy(
                    "SampleBackupPolicy",
                    minutes(4 * 60 + 5),
                    "FileShare",
                    5,
                    Some((20, 0)),
                )],
                None,
            ),
        ];
        let malformed = 1;
        assert_eq!(
            samples("GetBackupPolicyList.").len(),
            expected.len() + malformed
        );
        for (name, items, next) in expected {
            let page = answer(
                &POLICIES,
                sample(&format!("GetBackupPolicyList.{name}.json")),
            );
            let page = page.unwrap();
            let read = page.items.into_iter().map(without_place).collect();
            assert_eq!((read, page.next.as_deref()), (items, next), "{name}");
        }
    }

    #[test]
    fn single_policies_are_items_of_a_list() {
        use Weekday::{Fri, Mon, Thu, Tue, Wed};
        let workdays = vec![Mon, Tue, Wed, Thu, Fri];
        let weekly = Schedule::Weekly(workdays, vec![at(9), at(18)]);
        let daily = Schedule::Daily(vec![at(9), at(17)]);
        let expected = [
            (
                "no-retention",
                a_policy(
                    "IntegratedAuthNoRetention",
                    minutes(24 * 60),
                    "FileShare",
                    5,
                    None,
                ),
            ),
            (
                "time-based-daily",
                a_policy(
                    "DailyAzureBackupPolicy",
                    daily,
                    "AzureBlobStore",
                    3,
                    Some((20, 20)),
                ),
            ),
            (
                "time-based-weekly-managed-identity",
                a_policy(
                    "WeeklyMIBackupPolicy",
                    weekly,
                    "ManagedIdentityAzureBlobStore",
                    3,
                    Some((10, 20)),
                ),
            ),
        ];
        assert_eq!(samples("GetBackupPolicyByName.").len(), expected.len());
        for (name, policy) in expected {
            let item = sample(&format!("GetBackupPolicyByName.{name}.json"));
            let body = list_of(&serde_json::from_slice(&item).unwrap());
            let read = answer(&POLICIES, body).unwrap().items;
            let read: Vec<_> = read.into_iter().map(without_place).collect();
            assert_eq!(read, [policy], "{name}");
        }
    }

    /// A policy with some of its keys replaced.
    fn item(changes: &Value) -> Value {
        let mut item = json!({
            "Name": "P", "AutoRestoreOnDataLoss": true, "MaxIncrementalBackups": 3,
            "Schedule": {"ScheduleKind": "FrequencyBased", "Interval": "PT10M"},
            "Storage": {"StorageKind": "FileShare"},
            "RetentionPolicy": {"RetentionPolicyType": "Basic", "RetentionDuration": "P1D"},
        });
        for (key, value) in changes.as_object().unwrap() {
            item[key] = value.clone();
        }
        item
    }

    fn plain() -> Policy {
        Policy {
            auto_restore: true,
            ..a_policy("P", minutes(10), "FileShare", 3, Some((1, 0)))
        }
    }

    /// Reads a policy with `changes` beside a plain one, which must not be affected.
    fn beside_a_plain_one(changes: &Value) -> Policy {
        let body = json!({"Items": [item(changes), item(&json!({}))]}).to_string();
        let mut items = answer(&POLICIES, body).unwrap().items;
        assert_eq!(items.pop().map(without_place), Some(plain()), "{changes}");
        items.pop().unwrap()
    }

    #[test]
    fn a_malformed_schedule_or_storage_does_not_affect_others() {
        for schedule in [
            json!({"ScheduleKind": "Continuous", "Lag": 5}),
            json!({"ScheduleKind": "FrequencyBased", "Interval": "P1M"}),
            json!({}),
            json!(null),
        ] {
            let read = without_place(beside_a_plain_one(&json!({"Schedule": schedule})));
            let expected = Policy {
                schedule: None,
                ..plain()
            };
            assert_eq!(read, expected, "{schedule}");
        }
        for (storage, word) in [
            (json!({"StorageKind": "Vault2", "Key": "k"}), "Vault2"),
            (json!({"StorageKind": "two words"}), "other"),
            (json!({"StorageKind": null}), "other"),
            (json!(null), "other"),
            (json!(["FileShare"]), "other"),
            (json!({"StorageKind": 1}), "other"),
        ] {
            let read = without_place(beside_a_plain_one(&json!({"Storage": storage})));
            let expected = Policy {
                storage: LabelValue::new(word),
                ..plain()
            };
            assert_eq!(read, expected, "{storage}");
        }
    }

    #[test]
    fn a_minimum_of_backups_that_is_left_out_is_none_and_one_that_cannot_be_is_not_known() {
        for (minimum, expected) in [
            (json!(null), Some(0)),
            (json!(7), Some(7)),
            (json!("7"), Some(7)),
            (json!(-1), None),
            (json!(1_u64 << 32), None),
            (json!(true), None),
        ] {
            let retention = json!({
                "RetentionPolicyType": "Basic", "RetentionDuration": "P1D",
                "MinimumNumberOfBackups": minimum,
            });
            let read = beside_a_plain_one(&json!({"RetentionPolicy": retention}));
            let kept = read.retention.unwrap();
            assert_eq!(kept.minimum_backups, expected, "{minimum}");
        }
    }

    #[test]
    fn missing_members_of_a_policy_are_absent() {
        for retention in [
            json!({"RetentionPolicyType": "Count", "RetentionDuration": "P1D"}),
            json!({"RetentionPolicyType": "Basic", "RetentionDuration": "P1M"}),
            json!({"RetentionPolicyType": "Basic"}),
            json!({"RetentionPolicyType": 1, "RetentionDuration": "P1D"}),
            json!("P1D"),
            json!(null),
        ] {
            let read = without_place(beside_a_plain_one(&json!({"RetentionPolicy": retention})));
            let expected = Policy {
                retention: None,
                ..plain()
            };
            assert_eq!(read, expected, "{retention}");
        }
        for (number, max_incrementals) in [
            (json!("255"), Some(255)),
            (json!(0), Some(0)),
            (json!(-1), None),
            (json!(1_u64 << 32), None),
            (json!(null), None),
            (json!(2.5), None),
        ] {
            let read = without_place(beside_a_plain_one(
                &json!({"MaxIncrementalBackups": number}),
            ));
            let expected = Policy {
                max_incrementals,
                ..plain()
            };
            assert_eq!(read, expected, "{number}");
        }
        let read = without_place(beside_a_plain_one(&json!({"AutoRestoreOnDataLoss": null})));
        assert!(!read.auto_restore);
    }

    #[test]
    fn malformed_policies_are_skipped() {
        let changes = [
            json!({"Name": null}),
            json!({"Name": ""}),
            json!({"Name": ".."}),
            json!({"Name": "tab\there"}),
            json!({"Name": "x".repeat(1_025)}),
            json!({"Schedule": "daily"}),
            json!({"Schedule": {"ScheduleKind": "FrequencyBased", "Interval": 600}}),
        ];
        for changes in changes {
            let page = answer(&POLICIES, list_of(&item(&changes))).unwrap();
            assert_eq!((page.items.len(), page.skipped), (0, 1), "{changes}");
        }
        for body in ["", "null", "{}"] {
            let error = answer(&POLICIES, body).unwrap_err();
            assert_eq!(error.reason(), Reason::Decode, "{body}");
        }
    }

    /// Every text that can be printed from an answer.
    fn shown(status: u16, body: &[u8]) -> String {
        let subject = Subject::Cluster;
        match POLICIES.read(&subject, status, body) {
            Ok(page) => format!("{page:?}"),
            Err(error) => {
                let endpoint = "http://cluster".parse().unwrap();
                let failure = Failure::of_reply(error, &endpoint);
                let error = Error::new(&POLICIES.route, &subject, failure.into());
                let text = format!("{error:?} {error}");
                format!("{text} {:#} {:?}", anyhow::Error::new(error), status)
            }
        }
    }

    fn with_canaries() -> Vec<u8> {
        let storage = json!({
            "FriendlyName": "canary-1", "StorageKind": "AzureBlobStore",
            "ConnectionString": "AccountName=canary-2;AccountKey=canary-3==",
            "ContainerName": "canary-4", "Path": "\\\\canary-5\\share",
            "PrimaryUserName": "canary-6", "PrimaryPassword": "can\u{e4}ry canary-7",
            "SecondaryPassword": {"Nested": ["canary-8"]},
            "BlobServiceUri": "https://canary-9?sig=canary-10",
        });
        list_of(&item(&json!({"Storage": storage}))).into_bytes()
    }

    #[test]
    fn no_secret_of_a_storage_is_ever_shown() {
        let body = with_canaries();
        let text = shown(200, &body);
        assert!(text.contains("AzureBlobStore"), "{text}");
        assert!(!text.contains("canary"), "{text}");
        let text = String::from_utf8(body).unwrap();
        let broken = [
            text.replace("\"Path\"", "Path"),
            text.replace("\"P\"", "[\"P\"]"),
            text.replace("\"AzureBlobStore\"", "7"),
            text.replace("\"Items\"", "\"Error\""),
            format!("{{\"Error\":{{\"Code\":\"E_FAIL\",\"Message\":{text:?}}}}}"),
            format!("{{\"Error\":{{\"Code\":{text:?}}}}}"),
        ];
        for body in broken {
            for status in [200, 404, 500] {
                let text = shown(status, body.as_bytes());
                assert!(!text.contains("canary"), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_damage_to_a_body_brings_a_secret_out(
            place: prop::sample::Index,
            byte: u8,
            edit in 0..3,
            status in prop::sample::select(vec![200_u16, 400, 500]),
        ) {
            let mut body = with_canaries();
            let place = place.index(body.len());
            match edit {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                _ => body.truncate(place),
            }
            let text = shown(status, &body);
            prop_assert!(!text.contains("canary"), "{}", text);
        }

        #[test]
        fn no_policy_is_made_up(body in mutated()) {
            let text = String::from_utf8_lossy(&body);
            let read = answer(&POLICIES, &body);
            if let Ok(page) = &read {
                for policy in &page.items {
                    let number = policy.max_incrementals.map(|number| number.to_string());
                    prop_assert!(number.is_none_or(|number| text.contains(&number)), "{policy:?}");
                    prop_assert!(policy.schedule.is_none() || text.contains("Based"), "{policy:?}");
                }
            }
            prop_assert!(is_read_or_not_understood(read));
        }
    }
}
