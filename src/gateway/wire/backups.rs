//! Backup routes of the storage: which backups it holds.
//!
//! The service lists the whole storage for each answer, which may include backups of deleted
//! partitions and of applications with the same name prefix. Items without a partition id are
//! skipped.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::native::partition_id;
use super::page::Page;
use super::progress::EpochReply;
use super::query::Query;
use super::route::{CallClass, Route};
use crate::gateway::decode::{DecodeError, Field, Guid, Integer, Object, Timestamp};
use crate::model::{BackupKind, Epoch, ListedBackup};

// GET /Applications/{id}/$/GetBackups, samples GetApplicationBackupList.*; the lists of services
// and partitions have the same items, samples GetServiceBackupList.* and GetPartitionBackupList.*

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct BackupReply {
    backup_id: Field<Guid>,
    backup_chain_id: Field<Guid>,
    partition_information: Field<Object<PartitionReply>>,
    backup_type: Field<String>,
    epoch_of_last_backup_record: Field<Object<EpochReply>>,
    lsn_of_last_backup_record: Field<Integer>,
    creation_time_utc: Field<Timestamp>,
    /// Why the service could not read what it lists; null without a failure. Anything else is one,
    /// whether it can be read or not.
    failure_error: Option<IgnoredAny>,
    /// `None`, `Success`, `ChecksumMismatchFailure` or `BackupChainMissingFailure`; from runtimes
    /// since 2026 (`service-fabric-dotnet`, pull request 551).
    validation_result: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct PartitionReply {
    id: Field<Guid>,
}

/// All backups of an application.
pub const ALL_BACKUPS: Query<Page<ListedBackup>> = Query {
    route: Route {
        class: CallClass::StorageScan,
        ..Route::backup("GetApplicationBackupList", &["$", "GetBackups"]).list()
    },
    answer: |reply| {
        Page::read(reply, |Object(reply): Object<BackupReply>| {
            backup(reply).map(Some)
        })
    },
    not_enabled: None,
};

/// The newest backup of each partition of an application.
pub const LATEST_BACKUPS: Query<Page<ListedBackup>> = Query {
    route: Route {
        parameters: &[("Latest", "true")],
        ..ALL_BACKUPS.route
    },
    ..ALL_BACKUPS
};

// GET /Partitions/{id}/$/GetBackups, samples GetPartitionBackupList.*

/// The newest backup of a partition.
pub const PARTITION_BACKUPS: Query<Page<ListedBackup>> = Query {
    route: Route {
        name: "GetPartitionBackupList",
        ..LATEST_BACKUPS.route
    },
    answer: ALL_BACKUPS.answer,
    not_enabled: None,
};

fn backup(reply: BackupReply) -> Result<ListedBackup, DecodeError> {
    let partition = reply.partition_information.value();
    let partition = partition.ok_or(DecodeError::PartitionId)?.0.id;
    let kind = reply.backup_type.value().unwrap_or_default();
    let epoch = reply.epoch_of_last_backup_record.value();
    let lsn = reply.lsn_of_last_backup_record.value();
    let validation = reply.validation_result.value().unwrap_or_default();
    Ok(ListedBackup {
        partition: partition_id(partition)?,
        backup_id: reply.backup_id.value().and_then(|id| id.0),
        chain_id: reply.backup_chain_id.value().and_then(|id| id.0),
        kind: BackupKind::from_wire(&kind),
        created: reply.creation_time_utc.value().and_then(|time| time.0),
        epoch: epoch.map(|Object(epoch)| Epoch::from(epoch)),
        lsn: lsn.and_then(Integer::known),
        restorable: reply.failure_error.is_none() && !is_failed_validation(&validation),
    })
}

/// Whether a word of `ValidationResult` names a failure. Other unknown words, such as a validation
/// that is still running, count as not validated.
fn is_failed_validation(word: &str) -> bool {
    word.to_ascii_lowercase().ends_with("failure")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::decode::Items;
    use crate::gateway::decode::tests::{sample, samples};
    use crate::gateway::reason::Reason;
    use crate::gateway::wire::ReplyError;
    use crate::gateway::wire::tests::{answer, guid, is_read_or_not_understood, mutated};
    use crate::model::PartitionId;

    const PARTITION: &str = "1daae3f5-7fd6-42e9-b1ba-8c05f873994d";
    const CHAIN: &str = "3a056ac9-7206-43c3-8424-6f6103003eba";

    fn backups(body: impl AsRef<[u8]>) -> Result<Page<ListedBackup>, ReplyError> {
        answer(&LATEST_BACKUPS, body)
    }

    fn full() -> ListedBackup {
        ListedBackup {
            partition: PartitionId(guid(PARTITION)),
            backup_id: Some(guid(CHAIN)),
            chain_id: Some(guid(CHAIN)),
            kind: BackupKind::Full,
            created: Some("2018-01-01T09:00:55Z".parse().unwrap()),
            epoch: Some(Epoch {
                data_loss_version: Some(131_462_452_931_584_510),
                configuration_version: Some(8_589_934_592),
            }),
            lsn: Some(261),
            restorable: true,
        }
    }

    fn incremental() -> ListedBackup {
        ListedBackup {
            backup_id: Some(guid("7903dc2a-228d-44b0-b7c8-a13a6c9b46bd")),
            kind: BackupKind::Incremental,
            created: Some("2018-01-01T17:01:02Z".parse().unwrap()),
            lsn: Some(446),
            ..full()
        }
    }

    fn next_full() -> ListedBackup {
        let id = Some(guid("be06a49c-be67-4eb1-a602-b983605be862"));
        ListedBackup {
            backup_id: id,
            chain_id: id,
            created: Some("2018-01-02T08:59:53Z".parse().unwrap()),
            lsn: Some(639),
            ..full()
        }
    }

    fn of_another_partition() -> [ListedBackup; 2] {
        let id = guid("0ff4fdbe-131c-4dfb-8249-7b4029ddc014");
        let first = ListedBackup {
            partition: PartitionId(guid("81645ec7-d260-4c59-9533-8f129bde8e83")),
            backup_id: Some(id),
            chain_id: Some(id),
            created: Some("2018-01-01T09:01:02Z".parse().unwrap()),
            lsn: Some(161),
            ..full()
        };
        let second = ListedBackup {
            backup_id: Some(guid("d55a2d98-258b-4a34-8fe5-2063e81af9dc")),
            kind: BackupKind::Incremental,
            created: Some("2018-01-01T17:00:34Z".parse().unwrap()),
            lsn: Some(246),
            ..first.clone()
        };
        [first, second]
    }

    fn of_an_actor() -> ListedBackup {
        let minus_one = guid("b9577400-1131-4f88-b309-2bb1e943322c");
        ListedBackup {
            backup_id: Some(minus_one),
            chain_id: Some(minus_one),
            created: Some("2019-06-13T10:42:42Z".parse().unwrap()),
            epoch: Some(Epoch {
                data_loss_version: None,
                configuration_version: None,
            }),
            lsn: None,
            ..full()
        }
    }

    fn with_failed_validation() -> ListedBackup {
        let mismatch = guid("b9577400-1131-4f88-b309-2bb1e943322c");
        ListedBackup {
            backup_id: Some(mismatch),
            chain_id: Some(mismatch),
            created: Some("2026-11-30T09:00:42Z".parse().unwrap()),
            epoch: Some(Epoch {
                data_loss_version: Some(133_117_243_740_808_225),
                configuration_version: Some(8_589_934_592),
            }),
            restorable: false,
            ..full()
        }
    }

    #[test]
    fn every_list_of_backups_is_read() {
        let [first, second] = of_another_partition();
        let token = "fabric:/CalcApp/CalcService#1daae3f5-7fd6-42e9-b1ba-8c05f873994d\
                     #7903dc2a-228d-44b0-b7c8-a13a6c9b46bd";
        let expected = [
            (
                "GetApplicationBackupList.latest",
                vec![incremental(), second.clone()],
                None,
            ),
            (
                "GetPartitionBackupList.checksum-mismatch",
                vec![with_failed_validation()],
                None,
            ),
            ("GetPartitionBackupList.empty", vec![], None),
            (
                "GetPartitionBackupList.item-minus-one",
                vec![of_an_actor()],
                None,
            ),
            (
                "GetPartitionBackupList.item-with-validation",
                vec![full()],
                None,
            ),
            ("GetPartitionBackupList.latest", vec![next_full()], None),
            (
                "GetPartitionBackupList.page-1",
                vec![full(), incremental()],
                Some(token),
            ),
            ("GetPartitionBackupList.page-2", vec![next_full()], None),
            (
                "GetPartitionBackupList.range",
                vec![full(), incremental()],
                None,
            ),
            (
                "GetServiceBackupList.range",
                vec![full(), incremental(), first, second],
                None,
            ),
        ];
        let files = samples("Get").into_iter();
        assert_eq!(
            files.filter(|name| name.contains("BackupList.")).count(),
            expected.len()
        );
        for (name, items, next) in expected {
            let page = backups(sample(&format!("{name}.json"))).unwrap();
            assert_eq!((page.items, page.next.as_deref()), (items, next), "{name}");
            assert_eq!(page.skipped, 0, "{name}");
        }
    }

    /// The item of [`full`], with some of its keys replaced.
    fn item(changes: &Value) -> String {
        let mut item = json!({
            "BackupId": CHAIN, "BackupChainId": CHAIN, "BackupType": "Full",
            "PartitionInformation": {"ServicePartitionKind": "Singleton", "Id": PARTITION},
            "EpochOfLastBackupRecord": {
                "DataLossVersion": "131462452931584510", "ConfigurationVersion": "8589934592",
            },
            "LsnOfLastBackupRecord": "261", "CreationTimeUtc": "2018-01-01T09:00:55Z",
            "FailureError": null,
        });
        for (key, value) in changes.as_object().unwrap() {
            item[key] = value.clone();
        }
        json!({"Items": [item]}).to_string()
    }

    #[test]
    fn missing_members_of_an_item_are_absent() {
        let failure = json!({"Code": "E_FAIL", "Message": "x"});
        let zero = "00000000-0000-0000-0000-000000000000";
        for (changes, expected) in [
            (json!({"LsnOfLastBackupRecord": 261}), full()),
            (
                json!({"BackupType": "Differential"}),
                ListedBackup {
                    kind: BackupKind::Unknown,
                    ..full()
                },
            ),
            (
                json!({"BackupType": null}),
                ListedBackup {
                    kind: BackupKind::Unknown,
                    ..full()
                },
            ),
            (
                json!({"LsnOfLastBackupRecord": "-1"}),
                ListedBackup {
                    lsn: None,
                    ..full()
                },
            ),
            (
                json!({"EpochOfLastBackupRecord": null}),
                ListedBackup {
                    epoch: None,
                    ..full()
                },
            ),
            (
                json!({"CreationTimeUtc": "0001-01-01T00:00:00Z"}),
                ListedBackup {
                    created: None,
                    ..full()
                },
            ),
            (
                json!({"BackupId": zero}),
                ListedBackup {
                    backup_id: None,
                    ..full()
                },
            ),
            (
                json!({"FailureError": failure}),
                ListedBackup {
                    restorable: false,
                    ..full()
                },
            ),
        ] {
            let page = backups(item(&changes)).unwrap();
            assert_eq!(page.items, [expected], "{changes}");
        }
    }

    #[test]
    fn malformed_members_of_an_item_are_absent() {
        for (changes, expected) in [
            (
                json!({"CreationTimeUtc": ""}),
                ListedBackup {
                    created: None,
                    ..full()
                },
            ),
            (
                json!({"LsnOfLastBackupRecord": u64::MAX}),
                ListedBackup {
                    lsn: None,
                    ..full()
                },
            ),
            (
                json!({"EpochOfLastBackupRecord": [1, 2], "BackupType": 0}),
                ListedBackup {
                    epoch: None,
                    kind: BackupKind::Unknown,
                    ..full()
                },
            ),
            (
                json!({"BackupId": "none", "BackupChainId": 7}),
                ListedBackup {
                    backup_id: None,
                    chain_id: None,
                    ..full()
                },
            ),
        ] {
            let page = backups(item(&changes)).unwrap();
            assert_eq!((page.items, page.skipped), (vec![expected], 0), "{changes}");
        }
    }

    #[test]
    fn backups_without_partition_are_skipped_and_a_missing_list_is_an_error() {
        let changes = [
            json!({"PartitionInformation": null}),
            json!({"PartitionInformation": {"Id": "00000000-0000-0000-0000-000000000000"}}),
            json!({"PartitionInformation": {"Id": 1}}),
        ];
        let bodies = ["{\"Items\":[{}]}", "{\"Items\":[null]}"].map(str::to_owned);
        for body in changes.iter().map(item).chain(bodies) {
            let page = backups(&body).unwrap();
            assert_eq!((page.items.len(), page.skipped), (0, 1), "{body}");
        }
        for body in ["", "null", "{}", "{\"Items\":[{}"] {
            let error = backups(body).unwrap_err();
            assert_eq!(error.reason(), Reason::Decode, "{body}");
        }
    }

    #[test]
    fn a_failed_validation_leaves_nothing_to_restore() {
        for (word, restorable) in [
            (json!(null), true),
            (json!("None"), true),
            (json!("Success"), true),
            (json!("InProgress"), true),
            (json!("FailureUnlikely"), true),
            (json!(""), true),
            (json!(2), true),
            (json!("ChecksumMismatchFailure"), false),
            (json!("BackupChainMissingFailure"), false),
            (json!("SomethingNewFAILURE"), false),
            (json!("failure"), false),
        ] {
            let page = backups(item(&json!({"ValidationResult": word}))).unwrap();
            let expected = ListedBackup {
                restorable,
                ..full()
            };
            assert_eq!(page.items, [expected], "{word}");
        }
        for failure in [json!({}), json!({"Code": 5}), json!("E_FAIL"), json!(0)] {
            let page = backups(item(&json!({"FailureError": failure}))).unwrap();
            assert!(!page.items[0].restorable, "{failure}");
        }
    }

    /// The limit on the memory of a page leaves room for the largest lists.
    #[test]
    fn a_hundred_thousand_backups_fit_in_a_page() {
        const { assert!(Items::<Object<BackupReply>>::LIMIT >= 100_000) };
        let list: Value = serde_json::from_str(&item(&json!({}))).unwrap();
        let items = vec![list["Items"][0].to_string(); 20_000].join(",");
        let page = backups(format!("{{\"Items\":[{items},null]}}")).unwrap();
        assert_eq!((page.items.len(), page.skipped), (20_000, 1));
    }

    proptest! {
        #[test]
        fn no_backup_is_made_up(body in mutated()) {
            let text = String::from_utf8_lossy(&body);
            let read = backups(&body);
            if let Ok(page) = &read {
                for backup in &page.items {
                    let stands = |number: u64| text.contains(&number.to_string());
                    let moment = backup.created.map(|time| time.format("%M:%S").to_string());
                    prop_assert!(backup.lsn.is_none_or(stands), "{backup:?}");
                    prop_assert!(moment.is_none_or(|moment| text.contains(&moment)), "{backup:?}");
                }
            }
            prop_assert!(is_read_or_not_understood(read));
        }
    }
}
