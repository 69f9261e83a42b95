//! What applies, from lists as Service Fabric 6.4 builds them.
//!
//! The oracle keeps the two stores of the backup service, explicit mappings and suspensions by
//! `fabric:/` key, and follows `GetBackupMappingInfoOperation.cs`, `BackupMappingStore.cs` and
//! `SuspendStore.cs` of the published source, defects included. It shares nothing with the code it
//! judges but the model of an answer.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::model::PartitionId;

/// The stores of the backup service.
#[derive(Clone, Debug, Default)]
struct Stores {
    /// Policy by key.
    mappings: BTreeMap<String, String>,
    suspensions: BTreeSet<String>,
}

/// "Object reference not set to an instance of an object."
#[derive(Debug, PartialEq)]
struct NullReference;

/// The kind of a key by the number of its segments.
fn level_of(key: &str) -> ConfigurationScope {
    match key.split('/').count() {
        2 => ConfigurationScope::Application,
        3 => ConfigurationScope::Service,
        _ => ConfigurationScope::Partition,
    }
}

/// The first `levels` names of a key.
fn prefix(key: &str, levels: usize) -> String {
    let segments: Vec<&str> = key.split('/').take(levels + 1).collect();
    segments.join("/")
}

fn entity_of(key: &str) -> BackupEntity {
    match level_of(key) {
        ConfigurationScope::Application => BackupEntity::Application(key.into()),
        ConfigurationScope::Service => BackupEntity::Service(key.into()),
        ConfigurationScope::Partition => {
            let id = key.split('/').next_back().unwrap();
            BackupEntity::Partition(PartitionId(id.parse().unwrap()))
        }
    }
}

fn line(
    key: &str,
    policy: &str,
    from: ConfigurationScope,
    suspension_inherited_from: Option<ConfigurationScope>,
) -> BackupConfiguration {
    BackupConfiguration {
        entity: entity_of(key),
        policy: Some(policy.into()),
        policy_inherited_from: Some(from),
        suspension_inherited_from,
    }
}

impl Stores {
    /// A key with its service and application, nearest first.
    fn line_of(key: &str) -> Vec<String> {
        let levels = key.split('/').count() - 1;
        (1..=levels)
            .rev()
            .map(|levels| prefix(key, levels))
            .collect()
    }

    fn suspension_inherited_from(&self, key: &str) -> Option<ConfigurationScope> {
        let mut above = Self::line_of(key).into_iter();
        let nearest = above.find(|key| self.suspensions.contains(key));
        nearest.map(|key| level_of(&key))
    }

    /// What the replicas act on: the policy of the nearest level; suspended if any level is.
    fn effective(&self, key: &str) -> EffectiveConfiguration {
        let mut above = Self::line_of(key).into_iter();
        let policy = above.find_map(|key| Some((&**self.mappings.get(&key)?, level_of(&key))));
        match policy {
            None => EffectiveConfiguration::default(),
            Some((name, level)) => EffectiveConfiguration {
                policy: Some((name.into(), level)),
                suspended: self.suspension_inherited_from(key),
            },
        }
    }

    /// The answer at partition scope.
    fn of_partition(&self, key: &str) -> Option<BackupConfiguration> {
        let applied = self.effective(key);
        let (name, from) = applied.policy?;
        Some(line(key, &name, from, applied.suspended))
    }

    /// The answer at application or service scope; empty for 404.
    fn list(&self, asked: &str) -> Result<Vec<BackupConfiguration>, NullReference> {
        let of_asked = self.suspension_inherited_from(asked);
        let own = Self::line_of(asked).into_iter();
        let mut own = own.filter_map(|key| Some((self.mappings.get(&key)?, level_of(&key))));
        let own = own
            .next()
            .map(|(name, from)| line(asked, name, from, of_asked));
        let mut lines: Vec<BackupConfiguration> = own.into_iter().collect();
        let below = |key: &String| key.starts_with(asked) && key != asked;
        let mut suspended: BTreeSet<&String> =
            self.suspensions.iter().filter(|key| below(key)).collect();
        for (key, name) in self.mappings.iter().filter(|(key, _)| below(key)) {
            let own = suspended.remove(key).then(|| level_of(key));
            lines.push(line(key, name, level_of(key), own.or(of_asked)));
        }
        for key in suspended {
            // The mapping of the service is looked up, and overwritten by the application's.
            let name = self.mappings.get(&prefix(key, 1)).ok_or(NullReference)?;
            lines.push(line(
                key,
                name,
                ConfigurationScope::Application,
                Some(level_of(key)),
            ));
        }
        Ok(lines)
    }
}

fn partition_of(key: &str) -> Partition {
    let BackupEntity::Partition(id) = entity_of(key) else {
        panic!("{key} is no partition");
    };
    Partition {
        id,
        application: Some(prefix(key, 1).into()),
        service: Some(prefix(key, 2).into()),
        kind: None,
        data_loss_time: None,
    }
}

/// Two applications whose names begin alike, services whose names begin alike, up to three
/// partitions in each.
fn partition_keys() -> Vec<String> {
    let services = ["App1/Orders", "App1/Orders2", "App1/Carts", "App10/Orders"];
    let services = (1_u128..).zip(services);
    let keys = services.flat_map(|(number, service)| {
        (0..number.min(3)).map(move |index| {
            let id = Uuid::from_u128(number << 64 | index);
            format!("fabric:/{service}/{id}")
        })
    });
    keys.collect()
}

/// Every key that can be set, with some that do not exist any more.
fn all_keys() -> Vec<String> {
    let gone = format!("fabric:/App1/Gone/{}", Uuid::from_u128(99));
    let live = partition_keys().into_iter().chain([gone]);
    let keys: BTreeSet<String> = live.flat_map(|key| Stores::line_of(&key)).collect();
    keys.into_iter().collect()
}

fn stores() -> impl Strategy<Value = Stores> {
    let keys = all_keys();
    let policy = prop::option::weighted(0.35, 0..3_usize);
    let settings = prop::collection::vec((policy, prop::bool::weighted(0.2)), keys.len());
    settings.prop_map(move |settings| {
        let mut stores = Stores::default();
        for (key, (policy, suspended)) in keys.iter().zip(settings) {
            if let Some(number) = policy {
                stores
                    .mappings
                    .insert(key.clone(), format!("Policy{number}"));
            }
            if suspended {
                stores.suspensions.insert(key.clone());
            }
        }
        stores
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_list_of_an_application_determines_what_its_partitions_run_with(
        stores in stores(),
        order in any::<prop::sample::Index>(),
    ) {
        for key in partition_keys() {
            let (partition, effective) = (partition_of(&key), stores.effective(&key));
            if let Ok(mut lines) = stores.list(&prefix(&key, 1)) {
                let count = lines.len();
                lines.rotate_left(order.index(count.max(1)).min(count));
                let settings: ConfigurationSet = lines.into_iter().collect();
                prop_assert_eq!(settings.effective_for(&partition), Some(effective.clone()), "{}", key);
            }
            let own = stores.of_partition(&key).map(EffectiveConfiguration::from);
            prop_assert_eq!(own.unwrap_or_default(), effective, "{}", key);
        }
    }
}

fn stores_with(mappings: &[(&str, &str)], suspensions: &[&str]) -> Stores {
    Stores {
        mappings: mappings
            .iter()
            .map(|(key, policy)| ((*key).to_owned(), (*policy).to_owned()))
            .collect(),
        suspensions: suspensions.iter().map(|key| (*key).to_owned()).collect(),
    }
}

const APP: &str = "fabric:/App1";
const SERVICE: &str = "fabric:/App1/Orders";
const PARTITION: &str = "fabric:/App1/Orders/00000000-0000-0001-0000-000000000000";

#[test]
fn a_suspended_partition_runs_with_the_policy_of_its_service_whatever_its_line_names() {
    let stores = stores_with(&[(APP, "Far"), (SERVICE, "Near")], &[PARTITION]);
    let lines = stores.list(APP).unwrap();
    let listed = lines.last().unwrap();
    assert_eq!(listed.policy.as_deref(), Some("Far"), "the defect of 6.4");
    let settings: ConfigurationSet = lines.into_iter().collect();
    let applied = settings.effective_for(&partition_of(PARTITION)).unwrap();
    assert_eq!(
        applied.policy,
        Some(("Near".into(), ConfigurationScope::Service))
    );
    assert_eq!(applied.suspended, Some(ConfigurationScope::Partition));
}

#[test]
fn a_suspension_without_a_policy_of_its_own_breaks_the_list_of_its_application() {
    for (mappings, suspended) in [
        (&[(SERVICE, "Near")][..], PARTITION),
        (&[], SERVICE),
        (&[], PARTITION),
        // The other application is in the same list.
        (&[(APP, "Far")], "fabric:/App10"),
    ] {
        let stores = stores_with(mappings, &[suspended]);
        assert_eq!(stores.list(APP), Err(NullReference), "{suspended}");
    }
}

#[test]
fn the_suspension_of_one_application_does_not_reach_another_whose_name_begins_alike() {
    let other = "fabric:/App10/Orders/00000000-0000-0004-0000-000000000000";
    let stores = stores_with(&[(APP, "P"), ("fabric:/App10", "Q")], &[APP]);
    let lines = stores.list(APP).unwrap();
    let leaked = lines
        .iter()
        .find(|line| line.entity == entity_of("fabric:/App10"));
    assert_eq!(
        leaked.unwrap().suspension_inherited_from,
        Some(ConfigurationScope::Application)
    );
    let of_app1: ConfigurationSet = lines.into_iter().collect();
    let of_app10: ConfigurationSet = stores.list("fabric:/App10").unwrap().into_iter().collect();
    let applied =
        |settings: &ConfigurationSet, key| settings.effective_for(&partition_of(key)).unwrap();
    assert_eq!(
        applied(&of_app1, PARTITION).suspended,
        Some(ConfigurationScope::Application)
    );
    assert_eq!(applied(&of_app10, other).suspended, None);
}

#[test]
fn names_that_the_service_alters_are_left_to_the_answer_of_the_partition() {
    let named = |application: &str, service: &str| Partition {
        application: Some(application.into()),
        service: Some(service.into()),
        ..partition_of(PARTITION)
    };
    for (partition, inherits) in [
        (named(APP, SERVICE), true),
        (named("fabric:/A.b-c_d~e", "fabric:/A.b-c_d~e/1/x"), true),
        (named("fabric:/My App", "fabric:/My App/Orders"), false),
        (named(APP, "fabric:/App1/Bestellungen-Köln"), false),
        (named("fabric:/A%20B", "fabric:/A%20B/C"), false),
        (named("fabric:/A$B", "fabric:/A$B/C"), false),
    ] {
        let application = partition.application.as_deref().unwrap();
        let policy = line(APP, "P", ConfigurationScope::Application, None);
        let settings: ConfigurationSet = [BackupConfiguration {
            entity: BackupEntity::Application(application.into()),
            ..policy
        }]
        .into_iter()
        .collect();
        let applied = settings.effective_for(&partition);
        assert_eq!(applied.is_some(), inherits, "{partition:?}");
        assert_eq!(
            settings.set_at_service(&partition),
            EffectiveConfiguration::default()
        );
    }
}

#[test]
fn a_policy_set_at_a_service_reaches_its_partitions_and_an_inherited_one_does_not() {
    let partition = partition_of(PARTITION);
    for (from, reaches) in [
        (ConfigurationScope::Service, true),
        (ConfigurationScope::Application, false),
    ] {
        let settings: ConfigurationSet = [
            line(APP, "Far", ConfigurationScope::Application, None),
            line(SERVICE, "Near", from, Some(ConfigurationScope::Service)),
        ]
        .into_iter()
        .collect();
        let applied = settings.set_at_service(&partition);
        assert_eq!(applied.policy_name(), reaches.then_some("Near"));
        assert_eq!(
            applied.suspended,
            reaches.then_some(ConfigurationScope::Service)
        );
    }
}
