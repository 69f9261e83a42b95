//! Which policy applies to a partition, and whether it is suspended: the nearest level decides.
//!
//! Pure. A configuration lists only what was set or suspended somewhere; what comes down to a
//! partition is computed here. Names are compared whole: the cluster itself has answered for
//! `fabric:/App1` with what belongs to `fabric:/App10`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Configuration, Entity, Level, Name, Partition};

/// What the configuration says of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Applied {
    /// The policy that applies, and where it was set.
    pub policy: Option<(Name, Level)>,
    /// Where protection is suspended, if it is.
    pub suspended: Option<Level>,
}

impl Applied {
    /// The name of the policy that applies.
    pub fn policy_name(&self) -> Option<&str> {
        self.policy.as_ref().map(|(name, _)| &**name)
    }
}

/// What was set in one application, by entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(BTreeMap<Entity, Configuration>);

impl FromIterator<Configuration> for Settings {
    fn from_iter<I: IntoIterator<Item = Configuration>>(lines: I) -> Self {
        let lines = lines.into_iter();
        Self(lines.map(|line| (line.entity.clone(), line)).collect())
    }
}

impl Settings {
    /// What comes down to `partition`: the policy of the nearest level that has one; suspended if
    /// any level is.
    pub fn applied_to(&self, partition: &Partition) -> Applied {
        let lines = self.lines_above(partition);
        let policy = lines.iter().flatten().find_map(|line| {
            let from = line.policy_from.unwrap_or_else(|| level(&line.entity));
            Some((line.policy.clone()?, from))
        });
        let suspended = lines.iter().flatten().find_map(|line| line.suspended_at);
        Applied { policy, suspended }
    }

    /// The policies that are set somewhere.
    pub fn policies(&self) -> BTreeSet<Name> {
        let policies = self.0.values().filter_map(|line| line.policy.clone());
        policies.collect()
    }

    /// The lines that concern `partition`, nearest first.
    fn lines_above(&self, partition: &Partition) -> [Option<&Configuration>; 3] {
        let of =
            |name: &Option<Name>, entity: fn(Name) -> Entity| self.0.get(&entity(name.clone()?));
        [
            self.0.get(&Entity::Partition(partition.id)),
            of(&partition.service, Entity::Service),
            of(&partition.application, Entity::Application),
        ]
    }
}

fn level(entity: &Entity) -> Level {
    match entity {
        Entity::Application(_) => Level::Application,
        Entity::Service(_) => Level::Service,
        Entity::Partition(_) => Level::Partition,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PartitionId;
    use uuid::Uuid;

    const ID: PartitionId = PartitionId(Uuid::from_u128(7));

    fn partition(application: &str, service: &str) -> Partition {
        Partition {
            id: ID,
            application: Some(application.into()),
            service: Some(service.into()),
            kind: None,
            data_loss: None,
        }
    }

    fn line(entity: Entity, policy: &str, suspended_at: Option<Level>) -> Configuration {
        Configuration {
            policy: Some(policy.into()),
            policy_from: Some(level(&entity)),
            entity,
            suspended_at,
        }
    }

    fn application(policy: &str) -> Configuration {
        line(Entity::Application("fabric:/App1".into()), policy, None)
    }

    fn service(policy: &str) -> Configuration {
        line(Entity::Service("fabric:/App1/Orders".into()), policy, None)
    }

    fn applied(lines: Vec<Configuration>) -> Applied {
        let settings: Settings = lines.into_iter().collect();
        settings.applied_to(&partition("fabric:/App1", "fabric:/App1/Orders"))
    }

    #[test]
    fn nothing_set_is_nothing_applied() {
        assert_eq!(applied(Vec::new()), Applied::default());
    }

    #[test]
    fn the_nearest_level_decides_on_the_policy() {
        let own = line(Entity::Partition(ID), "Own", None);
        let policy = |lines| {
            applied(lines)
                .policy
                .map(|(name, level)| (name.to_string(), level))
        };
        let far = vec![application("Far")];
        assert_eq!(
            policy(far.clone()),
            Some(("Far".to_owned(), Level::Application))
        );
        let near = [far, vec![service("Near")]].concat();
        assert_eq!(
            policy(near.clone()),
            Some(("Near".to_owned(), Level::Service))
        );
        let own = [near, vec![own]].concat();
        assert_eq!(policy(own), Some(("Own".to_owned(), Level::Partition)));
    }

    #[test]
    fn a_suspension_anywhere_above_suspends() {
        let mut suspended = application("Far");
        suspended.suspended_at = Some(Level::Application);
        let override_inside = vec![suspended, service("Near")];
        let applied = applied(override_inside);
        assert_eq!(applied.policy, Some(("Near".into(), Level::Service)));
        assert_eq!(applied.suspended, Some(Level::Application));
    }

    #[test]
    fn a_suspended_descendant_keeps_the_level_its_policy_comes_from() {
        let mut inherited = line(Entity::Partition(ID), "Far", Some(Level::Partition));
        inherited.policy_from = Some(Level::Application);
        let applied = applied(vec![application("Far"), inherited]);
        assert_eq!(applied.policy, Some(("Far".into(), Level::Application)));
        assert_eq!(applied.suspended, Some(Level::Partition));
    }

    #[test]
    fn names_that_begin_alike_are_not_the_same() {
        let other = vec![
            line(Entity::Application("fabric:/App10".into()), "Other", None),
            line(
                Entity::Service("fabric:/App10/Orders".into()),
                "Other",
                None,
            ),
            line(
                Entity::Service("fabric:/App1/Orders2".into()),
                "Other",
                None,
            ),
        ];
        assert_eq!(applied(other), Applied::default());
    }
}
