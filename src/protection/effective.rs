//! The effective backup configuration of a partition: its policy, and whether it is suspended.
//!
//! Pure. The backup service lists only the entities at which a policy or a suspension was set; the
//! inheritance is computed here. Names are compared as a whole: for `fabric:/App1`, Service Fabric
//! 6.4 also returns the entries of `fabric:/App10` (`BackupMappingStore.cs` and `SuspendStore.cs` of
//! its backup service compare prefixes).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{BackupConfiguration, BackupEntity, ConfigurationScope, Name, Partition};

/// The policy and the suspension that apply to a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectiveConfiguration {
    /// The policy, and the scope at which it was set.
    pub policy: Option<(Name, ConfigurationScope)>,
    /// The scope at which protection is suspended.
    pub suspended: Option<ConfigurationScope>,
}

impl EffectiveConfiguration {
    pub(crate) fn policy_name(&self) -> Option<&str> {
        self.policy.as_ref().map(|(name, _)| &**name)
    }
}

impl From<BackupConfiguration> for EffectiveConfiguration {
    /// Converts the configuration of a single partition, which includes all that is inherited.
    fn from(line: BackupConfiguration) -> Self {
        let level = set_at(&line);
        Self {
            policy: line.policy.map(|name| (name, level)),
            suspended: line.suspension_inherited_from,
        }
    }
}

/// Backup configurations by entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigurationSet(BTreeMap<BackupEntity, BackupConfiguration>);

impl FromIterator<BackupConfiguration> for ConfigurationSet {
    fn from_iter<I: IntoIterator<Item = BackupConfiguration>>(lines: I) -> Self {
        let lines = lines.into_iter();
        Self(lines.map(|line| (line.entity.clone(), line)).collect())
    }
}

impl ConfigurationSet {
    /// The configuration of `partition`: the policy of the narrowest scope, and the narrowest
    /// suspension. `None` if it must be read for the partition itself: see `inherits_by_name`.
    pub fn effective_for(&self, partition: &Partition) -> Option<EffectiveConfiguration> {
        inherits_by_name(partition).then(|| Self::combined(&self.lines_above(partition)))
    }

    /// The names of all policies.
    pub(crate) fn policies(&self) -> BTreeSet<Name> {
        let policies = self.0.values().filter_map(|line| line.policy.clone());
        policies.collect()
    }

    /// The configuration of a `partition` whose own answer is that it is not protected: a policy set
    /// at a service is sent to its partitions, whatever the name of the service.
    pub(crate) fn set_at_service(&self, partition: &Partition) -> EffectiveConfiguration {
        let [_, service, _] = self.lines_above(partition);
        Self::combined(&[service.filter(|line| set_at(line) == ConfigurationScope::Service)])
    }

    /// A suspended partition without a policy of its own is listed with the policy of its
    /// application even if its service has another one (`GetBackupMappingInfoOperation.cs` of 6.4),
    /// and the entry of an override does not show that its service is suspended. So each entry counts
    /// at the scope that it names.
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

    /// Whether there are no configurations.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries for `partition`, the widest scope first.
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

/// Whether `partition` inherits configurations. Service Fabric 6.4 splits names with `Uri.Segments`,
/// which percent-encodes them, and looks them up in a store where they are not encoded
/// (`UtilityHelper.cs` of its backup service): partitions with such names do not inherit, and lists
/// do not contain them. It also replaces `$` by `/` in answers.
pub(crate) fn inherits_by_name(partition: &Partition) -> bool {
    let mut names = [&partition.application, &partition.service]
        .into_iter()
        .flatten();
    names.all(|name| is_unaltered(name))
}

/// Whether the backup service returns `name` unaltered.
pub(crate) fn is_unaltered(name: &str) -> bool {
    let path = name.strip_prefix("fabric:").unwrap_or(name);
    path.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte))
}

/// The scope at which the policy of `line` was set.
fn set_at(line: &BackupConfiguration) -> ConfigurationScope {
    line.policy_inherited_from.unwrap_or(match &line.entity {
        BackupEntity::Application(_) => ConfigurationScope::Application,
        BackupEntity::Service(_) => ConfigurationScope::Service,
        BackupEntity::Partition(_) => ConfigurationScope::Partition,
    })
}

#[cfg(test)]
mod tests;
