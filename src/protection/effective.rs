//! Which policy applies to a partition, and whether it is suspended.
//!
//! Pure. A configuration lists only what was set or suspended somewhere; what a partition inherits is
//! computed here. Names are compared whole: Service Fabric 6.4 answers for `fabric:/App1` with the
//! lines of `fabric:/App10` as well (`BackupMappingStore.cs` and `SuspendStore.cs` of its backup
//! service compare prefixes).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{BackupConfiguration, BackupEntity, ConfigurationScope, Name, Partition};

/// What the configuration says of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectiveConfiguration {
    /// The policy that applies, and where it was set.
    pub policy: Option<(Name, ConfigurationScope)>,
    /// Where protection is suspended, if it is.
    pub suspended: Option<ConfigurationScope>,
}

impl EffectiveConfiguration {
    /// The name of the policy that applies.
    pub fn policy_name(&self) -> Option<&str> {
        self.policy.as_ref().map(|(name, _)| &**name)
    }
}

impl From<BackupConfiguration> for EffectiveConfiguration {
    /// The answer for a single partition, which is complete.
    fn from(line: BackupConfiguration) -> Self {
        let level = set_at(&line);
        Self {
            policy: line.policy.map(|name| (name, level)),
            suspended: line.suspension_inherited_from,
        }
    }
}

/// What was set in one application, by entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigurationSet(BTreeMap<BackupEntity, BackupConfiguration>);

impl FromIterator<BackupConfiguration> for ConfigurationSet {
    fn from_iter<I: IntoIterator<Item = BackupConfiguration>>(lines: I) -> Self {
        let lines = lines.into_iter();
        Self(lines.map(|line| (line.entity.clone(), line)).collect())
    }
}

impl ConfigurationSet {
    /// What applies to `partition`: the policy that was set at the nearest level; suspended if any
    /// level is. `None` where only the partition's own answer determines it: see
    /// [`inherits_by_name`].
    pub fn applied_to(&self, partition: &Partition) -> Option<EffectiveConfiguration> {
        inherits_by_name(partition).then(|| Self::combined(&self.lines_above(partition)))
    }

    /// The policies that are set somewhere.
    pub fn policies(&self) -> BTreeSet<Name> {
        let policies = self.0.values().filter_map(|line| line.policy.clone());
        policies.collect()
    }

    /// What reaches a `partition` although its own answer is that it is not protected: a policy
    /// set at a service is sent to its partitions, whatever the name of the service.
    pub fn set_at_service(&self, partition: &Partition) -> EffectiveConfiguration {
        let [_, service, _] = self.lines_above(partition);
        Self::combined(&[service.filter(|line| set_at(line) == ConfigurationScope::Service)])
    }

    /// A suspended partition without a policy of its own is listed with the policy of its
    /// application even where its service has another one (`GetBackupMappingInfoOperation.cs` of
    /// 6.4), and the line of an override does not show that its service is suspended. So each line
    /// counts at the level that it names.
    fn combined(lines: &[Option<&BackupConfiguration>]) -> EffectiveConfiguration {
        let lines = lines.iter().flatten();
        let policies = lines
            .clone()
            .filter_map(|line| Some((line.policy.clone()?, set_at(line))));
        EffectiveConfiguration {
            policy: policies.max_by_key(|(_, level)| *level),
            suspended: lines
                .filter_map(|line| line.suspension_inherited_from)
                .max(),
        }
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines that concern `partition`, farthest first.
    fn lines_above(&self, partition: &Partition) -> [Option<&BackupConfiguration>; 3] {
        let of = |name: &Option<Name>, entity: fn(Name) -> BackupEntity| {
            self.0.get(&entity(name.clone()?))
        };
        [
            of(&partition.application, BackupEntity::Application),
            of(&partition.service, BackupEntity::Service),
            self.0.get(&BackupEntity::Partition(partition.id)),
        ]
    }
}

/// Whether `partition` inherits what is set above it. Service Fabric 6.4 takes names apart with
/// `Uri.Segments`, which percent-encodes them, and looks them up in a store where they are not
/// encoded (`UtilityHelper.cs` of its backup service): such partitions do not inherit, and lists
/// leave them out. It also replaces `$` by `/` in answers. Only names without any character that
/// could be altered are relied on.
pub fn inherits_by_name(partition: &Partition) -> bool {
    let mut names = [&partition.application, &partition.service]
        .into_iter()
        .flatten();
    names.all(|name| is_unaltered(name))
}

/// Whether the backup service answers with `name` as it is.
pub fn is_unaltered(name: &str) -> bool {
    let path = name.strip_prefix("fabric:").unwrap_or(name);
    path.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte))
}

/// Where the policy of `line` was set.
fn set_at(line: &BackupConfiguration) -> ConfigurationScope {
    line.policy_inherited_from.unwrap_or(match &line.entity {
        BackupEntity::Application(_) => ConfigurationScope::Application,
        BackupEntity::Service(_) => ConfigurationScope::Service,
        BackupEntity::Partition(_) => ConfigurationScope::Partition,
    })
}

#[cfg(test)]
mod tests;
