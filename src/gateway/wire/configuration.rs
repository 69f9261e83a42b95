//! Backup routes of the configuration: that of an application, and the entities that a policy is
//! enabled for.
//!
//! Old runtimes match names by prefix, so the answer for `fabric:/App1` may include
//! `fabric:/App10`. Such items are kept: each names its entity and is correct for it.
//!
//! The service percent-encodes the names in these answers (6.4 takes them from `Uri.Segments`,
//! `UtilityHelper.cs`); native routes do not. They are decoded here, and nowhere else.

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::native::{name, partition_id};
use super::page::Page;
use super::policy::policy_name;
use super::query::Query;
use super::route::Route;
use crate::gateway::decode::{DecodeError, Field, Guid, Object};
use crate::model::{BackupConfiguration, BackupEntity, ConfigurationScope};

// GET /Applications/{id}/$/GetBackupConfigurationInfo,
// samples GetApplicationBackupConfigurationInfo.*

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigurationReply {
    kind: Field<String>,
    policy_name: Field<String>,
    policy_inherited_from: Field<String>,
    application_name: Field<String>,
    service_name: Field<String>,
    partition_id: Field<Guid>,
    suspension_info: Field<Object<SuspensionReply>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct SuspensionReply {
    is_suspended: Field<bool>,
    /// `Invalid` where nothing is suspended.
    suspension_inherited_from: Field<String>,
}

/// The backup configuration of an application, and of every entity below it with a setting of its own.
pub const APPLICATION_CONFIGURATIONS: Query<Page<BackupConfiguration>> = Query {
    route: Route::backup(
        "GetApplicationBackupConfigurationInfo",
        &["$", "GetBackupConfigurationInfo"],
    )
    .list(),
    answer: |reply| {
        // "Not protected" is null for a partition, and an error for other entities in 6.4. Both
        // are accepted here.
        let page = Page::read_optional(reply, |Object(reply): Object<ConfigurationReply>| {
            configuration(reply)
        })?;
        Ok(page.unwrap_or_else(Page::empty))
    },
    not_enabled: Some(Page::empty),
};

// GET /Partitions/{id}/$/GetBackupConfigurationInfo,
// samples GetPartitionBackupConfigurationInfo.*

/// The backup configuration that applies to a partition.
pub const PARTITION_CONFIGURATION: Query<Option<BackupConfiguration>> = Query {
    route: Route::backup(
        "GetPartitionBackupConfigurationInfo",
        &["$", "GetBackupConfigurationInfo"],
    ),
    answer: |reply| {
        let Some(reply) = reply.optional::<ConfigurationReply>()? else {
            return Ok(None);
        };
        // An entity of unknown kind is an error: it must not pass for "nothing applies".
        Ok(Some(configuration(reply)?.ok_or(DecodeError::Empty)?))
    },
    not_enabled: Some(|| None),
};

fn configuration(reply: ConfigurationReply) -> Result<Option<BackupConfiguration>, DecodeError> {
    let Some(level) = ConfigurationScope::from_wire(&reply.kind.required()?) else {
        return Ok(None);
    };
    // A name that cannot be read must not pass for "no policy".
    let policy = reply.policy_name.readable()?;
    let policy = policy.filter(|name| !name.is_empty());
    let policy_inherited_from = reply.policy_inherited_from.value();
    let suspension = reply.suspension_info.value();
    let suspended_from = suspension.and_then(|Object(reply)| {
        let is_suspended = reply.is_suspended.value().unwrap_or_default();
        is_suspended.then(|| reply.suspension_inherited_from.value())
    });
    Ok(Some(BackupConfiguration {
        entity: EntityNames {
            application: reply.application_name,
            service: reply.service_name,
            partition: reply.partition_id,
        }
        .entity(level)?,
        policy: policy.map(|name| policy_name(&name)).transpose()?,
        policy_inherited_from: policy_inherited_from
            .and_then(|word| ConfigurationScope::from_wire(&word)),
        suspension_inherited_from: suspended_from.map(|word| {
            word.and_then(|word| ConfigurationScope::from_wire(&word))
                .unwrap_or(level)
        }),
    }))
}

// GET /BackupRestore/BackupPolicies/{name}/$/GetBackupEnabledEntities,
// samples GetAllEntitiesBackedUpByPolicy.*

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct EntityReply {
    entity_kind: Field<String>,
    application_name: Field<String>,
    service_name: Field<String>,
    partition_id: Field<Guid>,
}

/// The entities that a policy is assigned to.
pub const ENTITIES_OF_POLICY: Query<Page<BackupEntity>> = Query {
    route: Route::backup(
        "GetAllEntitiesBackedUpByPolicy",
        &["$", "GetBackupEnabledEntities"],
    )
    .list(),
    answer: |reply| {
        Page::read(reply, |Object(reply): Object<EntityReply>| {
            let names = EntityNames {
                application: reply.application_name,
                service: reply.service_name,
                partition: reply.partition_id,
            };
            ConfigurationScope::from_wire(&reply.entity_kind.required()?)
                .map(|level| names.entity(level))
                .transpose()
        })
    },
    not_enabled: Some(Page::empty),
};

/// The entity that an item names. A partition is named with its service.
struct EntityNames {
    application: Field<String>,
    service: Field<String>,
    partition: Field<Guid>,
}

impl EntityNames {
    fn entity(self, level: ConfigurationScope) -> Result<BackupEntity, DecodeError> {
        let named = |text: Field<String>| {
            let text = text.required()?;
            let decoded = percent_decode_str(&text).decode_utf8();
            name(&decoded.map_err(|_| DecodeError::Name)?)
        };
        Ok(match level {
            ConfigurationScope::Application => BackupEntity::Application(named(self.application)?),
            ConfigurationScope::Service => BackupEntity::Service(named(self.service)?),
            ConfigurationScope::Partition => BackupEntity::Partition(partition_id(self.partition)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::decode::tests::{sample, samples};
    use crate::gateway::reason::Reason;
    use crate::gateway::wire::tests::{answer, guid, is_read_or_not_understood, mutated};
    use crate::gateway::wire::{APPLICATIONS, ReplyError, Subject};
    use crate::model::PartitionId;
    use ConfigurationScope::{Application, Partition, Service};

    const APPLICATION: &str = "fabric:/CalcApp";
    const SERVICE: &str = "fabric:/CalcApp/CalcService";
    const FIRST: &str = "1daae3f5-7fd6-42e9-b1ba-8c05f873994d";
    const SECOND: &str = "7216486c-1ee9-4b00-99b2-92b26fcb07f6";

    fn application() -> BackupEntity {
        BackupEntity::Application(APPLICATION.into())
    }

    fn service() -> BackupEntity {
        BackupEntity::Service(SERVICE.into())
    }

    fn partition(id: &str) -> BackupEntity {
        BackupEntity::Partition(PartitionId(guid(id)))
    }

    fn line(
        entity: BackupEntity,
        policy: &str,
        policy_inherited_from: ConfigurationScope,
        suspension_inherited_from: Option<ConfigurationScope>,
    ) -> BackupConfiguration {
        BackupConfiguration {
            entity,
            policy: Some(policy.into()),
            policy_inherited_from: Some(policy_inherited_from),
            suspension_inherited_from,
        }
    }

    fn configurations(body: impl AsRef<[u8]>) -> Result<Page<BackupConfiguration>, ReplyError> {
        answer(&APPLICATION_CONFIGURATIONS, body)
    }

    fn list_of(item: &Value) -> String {
        json!({"ContinuationToken": null, "Items": [item]}).to_string()
    }

    /// The configuration of a service, with some of its keys replaced.
    fn item(changes: &Value) -> String {
        let mut item = json!({
            "Kind": "Service", "PolicyName": "P", "PolicyInheritedFrom": "Application",
            "ServiceName": SERVICE,
            "SuspensionInfo": {"IsSuspended": false, "SuspensionInheritedFrom": "Invalid"},
        });
        for (key, value) in changes.as_object().unwrap() {
            item[key] = value.clone();
        }
        list_of(&item)
    }

    #[test]
    fn every_configuration_sample_is_read() {
        let suspended = line(partition(FIRST), "BackupPolicy2", Service, Some(Partition));
        for (name, items, next) in [
            (
                "Application.page-1",
                vec![
                    line(application(), "BackupPolicy1", Application, None),
                    line(service(), "BackupPolicy2", Service, None),
                ],
                Some(SERVICE.to_owned()),
            ),
            ("Application.page-2", vec![suspended.clone()], None),
            (
                "Service.page-1",
                vec![
                    line(service(), "BackupPolicy1", Application, None),
                    line(partition(FIRST), "BackupPolicy2", Partition, None),
                ],
                Some(format!("{SERVICE}#{FIRST}")),
            ),
            (
                "Service.page-2",
                vec![line(
                    partition(SECOND),
                    "BackupPolicy1",
                    Application,
                    Some(Partition),
                )],
                None,
            ),
        ] {
            let (scope, page) = name.split_once('.').unwrap();
            let file = format!("Get{scope}BackupConfigurationInfo.{page}.json");
            let page = configurations(sample(&file)).unwrap();
            assert_eq!((page.items, page.next), (items, next), "{name}");
        }
        for (name, expected) in [
            (
                "active",
                vec![line(partition(FIRST), "BackupPolicy1", Application, None)],
            ),
            ("suspended", vec![suspended]),
        ] {
            let item = sample(&format!("GetPartitionBackupConfigurationInfo.{name}.json"));
            let body = list_of(&serde_json::from_slice(&item).unwrap());
            assert_eq!(configurations(body).unwrap().items, expected, "{name}");
            let read = answer(&PARTITION_CONFIGURATION, item).unwrap();
            assert_eq!(read.as_ref(), expected.first(), "{name}");
        }
        let files = samples("Get").into_iter();
        assert_eq!(
            files
                .filter(|name| name.contains("BackupConfigurationInfo."))
                .count(),
            7
        );
    }

    #[test]
    fn not_protected_has_three_spellings() {
        let null = sample("GetPartitionBackupConfigurationInfo.not-protected.json");
        for body in [null.as_slice(), b"", b" \r\n"] {
            let page = configurations(body).unwrap();
            assert_eq!((page.items.len(), page.next), (0, None));
            assert_eq!(answer(&PARTITION_CONFIGURATION, body).unwrap(), None);
        }
        let refusal = sample("error.404.backup-not-enabled.json");
        let read = PARTITION_CONFIGURATION.read(&Subject::Cluster, 404, &refusal);
        assert_eq!(read.unwrap(), None);
    }

    #[test]
    fn a_configuration_of_unknown_kind_is_not_the_absence_of_one() {
        for kind in ["Invalid", "Replica", ""] {
            let body = json!({"Kind": kind, "PolicyName": "P"}).to_string();
            let error = answer(&PARTITION_CONFIGURATION, body).unwrap_err();
            assert_eq!(error.reason(), Reason::Decode, "{kind}");
        }
    }

    #[test]
    fn names_are_percent_decoded_once() {
        for (encoded, name) in [
            ("fabric:/A%20b/%C3%9C", "fabric:/A b/\u{dc}"),
            ("fabric:/A b/\u{dc}", "fabric:/A b/\u{dc}"),
            ("fabric:/100%25", "fabric:/100%"),
            ("fabric:/A%2520b", "fabric:/A%20b"),
            ("fabric:/100%", "fabric:/100%"),
        ] {
            let body = item(&json!({"ServiceName": encoded}));
            let expected = BackupEntity::Service(name.into());
            assert_eq!(configurations(body).unwrap().items[0].entity, expected);
            let body = list_of(&json!({"EntityKind": "Application", "ApplicationName": encoded}));
            let expected = BackupEntity::Application(name.into());
            assert_eq!(answer(&ENTITIES_OF_POLICY, body).unwrap().items, [expected]);
        }
        for unfit in ["fabric:/A%FF", "fabric:/A%0A", "fabric:/%2E%2E"] {
            let page = configurations(item(&json!({"ServiceName": unfit}))).unwrap();
            assert_eq!((page.items.len(), page.skipped), (0, 1), "{unfit}");
        }
        let native = json!({"Items": [{"Name": "fabric:/A%20b"}]}).to_string();
        let page = answer(&APPLICATIONS, native).unwrap();
        assert_eq!(page.items, ["fabric:/A%20b".into()]);
    }

    #[test]
    fn a_suspension_that_cannot_be_read_is_absent() {
        for suspension in [
            json!({}),
            json!({"IsSuspended": "true"}),
            json!([true, "Service"]),
            json!("Service"),
        ] {
            let page = configurations(item(&json!({"SuspensionInfo": suspension}))).unwrap();
            let expected = line(service(), "P", Application, None);
            assert_eq!(
                (page.items, page.skipped),
                (vec![expected], 0),
                "{suspension}"
            );
        }
    }

    #[test]
    fn unknown_words_are_ignored() {
        for kind in ["Invalid", "Replica", ""] {
            let page = configurations(item(&json!({"Kind": kind, "ServiceName": 1.to_string()})));
            assert_eq!(page.unwrap().items, [], "{kind}");
        }
        for word in [json!("Invalid"), json!("Cluster"), json!(null)] {
            let page = configurations(item(&json!({
                "PolicyInheritedFrom": word, "PolicyName": null, "SuspensionInfo": null,
            })));
            let items = page.unwrap().items;
            let (policy, policy_inherited_from, suspension_inherited_from) = (None, None, None);
            let bare = BackupConfiguration {
                entity: service(),
                policy,
                policy_inherited_from,
                suspension_inherited_from,
            };
            assert_eq!(items, [bare], "{word}");
        }
    }

    #[test]
    fn a_suspension_of_unknown_origin_is_still_one() {
        for word in [json!("Invalid"), json!("Cluster"), json!(null)] {
            let suspension = json!({"IsSuspended": true, "SuspensionInheritedFrom": word});
            let page = configurations(item(&json!({"SuspensionInfo": suspension}))).unwrap();
            let levels: Vec<_> = page
                .items
                .iter()
                .map(|item| item.suspension_inherited_from)
                .collect();
            assert_eq!(levels, [Some(Service)], "{word}");
        }
    }

    #[test]
    fn malformed_configurations_are_skipped() {
        let zero = "00000000-0000-0000-0000-000000000000";
        for changes in [
            json!({"Kind": null}),
            json!({"Kind": 2}),
            json!({"Kind": "Application"}),
            json!({"Kind": "Partition"}),
            json!({"Kind": "Partition", "PartitionId": zero}),
            json!({"Kind": "Partition", "PartitionId": "1daae3f5"}),
            json!({"ServiceName": null}),
            json!({"ServiceName": 1}),
            json!({"ServiceName": "CalcApp/CalcService"}),
            json!({"ServiceName": format!("fabric:/{}", "x".repeat(1_024))}),
            json!({"PolicyName": "x".repeat(1_025)}),
            json!({"PolicyName": "line\nbreak"}),
            json!({"PolicyName": 1}),
        ] {
            let page = configurations(item(&changes)).unwrap();
            assert_eq!((page.items.len(), page.skipped), (0, 1), "{changes}");
        }
    }

    #[test]
    fn every_sample_of_entities_is_read() {
        let demo = BackupEntity::Application("fabric:/DemoApp".into());
        let voting = BackupEntity::Service("fabric:/VotingApp/VotingActorService".into());
        let expected = [
            ("page-1", vec![application(), demo], Some("fabric:/DemoApp")),
            ("page-2", vec![voting], None),
            ("partition", vec![partition(FIRST)], None),
        ];
        assert_eq!(
            samples("GetAllEntitiesBackedUpByPolicy.").len(),
            expected.len()
        );
        for (name, items, next) in expected {
            let body = sample(&format!("GetAllEntitiesBackedUpByPolicy.{name}.json"));
            let page = answer(&ENTITIES_OF_POLICY, body).unwrap();
            assert_eq!((page.items, page.next.as_deref()), (items, next), "{name}");
        }
    }

    #[test]
    fn of_entities_only_unknown_kinds_are_passed_over() {
        let read = |item| answer(&ENTITIES_OF_POLICY, list_of(&item));
        assert_eq!(read(json!({"EntityKind": "Invalid"})).unwrap().items, []);
        for item in [
            json!({}),
            json!({"EntityKind": "Application", "ServiceName": SERVICE}),
            json!({"EntityKind": "Service", "ApplicationName": APPLICATION}),
            json!({"EntityKind": "Partition", "ServiceName": SERVICE}),
        ] {
            let page = read(item.clone()).unwrap();
            assert_eq!((page.items.len(), page.skipped), (0, 1), "{item}");
        }
        for nothing in ["", "null"] {
            let error = answer(&ENTITIES_OF_POLICY, nothing).unwrap_err();
            assert_eq!(error.reason(), Reason::Decode, "{nothing:?}");
        }
    }

    fn stands_in(entity: &BackupEntity, text: &str) -> bool {
        let text = text.replace("\\/", "/");
        let text = percent_decode_str(&text).decode_utf8_lossy();
        match entity {
            BackupEntity::Application(name) | BackupEntity::Service(name) => {
                text.contains(name.trim_start_matches("fabric:/"))
            }
            // Four digits: a mutation may take hyphens, but leaves the digits side by side.
            BackupEntity::Partition(id) => {
                let digits: String = id.to_string().chars().take(4).collect();
                text.to_lowercase().contains(&digits)
            }
        }
    }

    proptest! {
        #[test]
        fn no_entity_is_made_up(body in mutated()) {
            let text = String::from_utf8_lossy(&body);
            let configurations = configurations(&body);
            if let Ok(page) = &configurations {
                for line in &page.items {
                    prop_assert!(stands_in(&line.entity, &text), "{line:?}");
                    prop_assert!(line.suspension_inherited_from.is_none() || text.contains("true"));
                }
            }
            prop_assert!(is_read_or_not_understood(configurations));
            let entities = answer(&ENTITIES_OF_POLICY, &body);
            if let Ok(page) = &entities {
                prop_assert!(page.items.iter().all(|entity| stands_in(entity, &text)));
            }
            prop_assert!(is_read_or_not_understood(entities));
        }
    }
}
