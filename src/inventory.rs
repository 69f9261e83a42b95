//! The partitions to watch: those of the cluster that match the selectors and belong to the shard.
//!
//! Pure. A failed call does not remove partitions: it leaves an unread scope, in which the snapshot
//! keeps the known partitions.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;

use crate::model::{Name, Partition, PartitionId};

/// Maximum number of partitions in a cluster: the page of more could not be scraped, and a faulty
/// gateway must not exhaust the memory.
pub const MAX_PARTITIONS: usize = 500_000;

/// The result of one reading of the topology.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// The partitions to watch. A name that could not be read is `None`, and a known name remains.
    pub listed: Vec<Partition>,
    /// The scopes that could not be read; known partitions in them remain.
    pub unread: Vec<TopologyScope>,
}

/// A part of the topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopologyScope {
    /// Everything.
    Cluster,
    /// The services and partitions of one application.
    Application(Name),
    /// The partitions of one service.
    Service(Name),
}

/// The selectors that match nothing in the cluster. Exists only if every name that the selectors
/// apply to was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The patterns and ids that match nothing.
    pub unmatched: BTreeSet<Unmatched>,
    /// Why no service is selected; `None` if one is, or if partitions are configured by id.
    pub empty: Option<EmptySelection>,
}

/// A pattern or id that matches nothing in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unmatched {
    /// A regular expression.
    Pattern {
        /// Its list, such as `applications.include`.
        key: &'static str,
        /// The expression as written.
        pattern: String,
        /// The cause and a pattern that matches, if they are known.
        hint: Option<String>,
    },
    /// The id of a partition that does not exist.
    Partition(PartitionId),
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern { key, pattern, hint } => {
                const LONGEST: usize = 200;
                let shown: String = pattern.chars().take(LONGEST).collect();
                let cut = if shown.len() < pattern.len() {
                    "…"
                } else {
                    ""
                };
                write!(f, "{key} {shown:?}{cut} matches nothing")?;
                hint.iter().try_for_each(|hint| write!(f, ", {hint}"))
            }
            Self::Partition(id) => write!(f, "the cluster has no partition {id}"),
        }
    }
}

/// At most ten of these, and the number of the others.
pub fn listed(unmatched: &[&Unmatched]) -> String {
    const MAX_NAMED: usize = 10;
    let more = unmatched.len().saturating_sub(MAX_NAMED);
    let named = unmatched.iter().take(MAX_NAMED).map(ToString::to_string);
    let more = (more > 0).then(|| format!("and {more} more"));
    named.chain(more).collect::<Vec<_>>().join("; ")
}

/// Why no service is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptySelection {
    /// The cluster has no applications.
    NoApplications,
    /// The selector excludes every application.
    NoApplicationSelected,
    /// The selected applications have no services that can be backed up.
    NoServices,
    /// The selector excludes every service.
    NoServiceSelected,
}

impl EmptySelection {
    /// The reason as a clause.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoApplications => "the cluster has no applications",
            Self::NoApplicationSelected => "none of its applications is selected",
            Self::NoServices => {
                "the selected applications have no stateful services with persisted state"
            }
            Self::NoServiceSelected => {
                "none of the services in the selected applications is selected"
            }
        }
    }
}

/// Unread scopes as sets: a failing gateway may leave thousands of services unread.
pub(crate) struct UnreadScopes<'a> {
    everything: bool,
    applications: BTreeSet<&'a Name>,
    services: BTreeSet<&'a Name>,
}

impl<'a> UnreadScopes<'a> {
    pub(crate) fn of(scopes: &'a [TopologyScope]) -> Self {
        let mut unread = Self {
            everything: false,
            applications: BTreeSet::new(),
            services: BTreeSet::new(),
        };
        for scope in scopes {
            match scope {
                TopologyScope::Cluster => unread.everything = true,
                TopologyScope::Application(name) => drop(unread.applications.insert(name)),
                TopologyScope::Service(name) => drop(unread.services.insert(name)),
            }
        }
        unread
    }

    pub(crate) fn contains(&self, partition: &Partition) -> bool {
        let among = |names: &BTreeSet<&Name>, name: &Option<Name>| {
            name.as_ref().is_some_and(|name| names.contains(name))
        };
        self.everything
            || among(&self.applications, &partition.application)
            || among(&self.services, &partition.service)
    }
}

/// The share of the partitions that this process watches if several exporters share a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    total: NonZeroU32,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            index: 0,
            total: NonZeroU32::MIN,
        }
    }
}

impl Shard {
    /// Shard `index` (from 0) of `total`; `None` unless `index` is less than `total`.
    pub fn new(index: u32, total: u32) -> Option<Self> {
        let total = NonZeroU32::new(total)?;
        (index < total.get()).then_some(Self { index, total })
    }

    /// Number of this shard, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Number of shards.
    pub fn total(self) -> u32 {
        self.total.get()
    }

    /// Whether this shard watches `id`. Every id belongs to exactly one shard, which is the same in
    /// every process and version.
    pub fn owns(self, id: PartitionId) -> bool {
        // FNV-1a, because the bits of GUIDs are not evenly distributed in every cluster.
        let hash = id.0.as_bytes().iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        hash % self.total == self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn every_partition_belongs_to_exactly_one_shard_and_the_shards_are_even() {
        let shards: Vec<Shard> = (0..3).filter_map(|index| Shard::new(index, 3)).collect();
        let mut owned = [0_u32; 3];
        for number in 0..3000_u128 {
            let id = PartitionId(Uuid::from_u128(number << 64 | 7));
            let owners: Vec<_> = shards.iter().filter(|shard| shard.owns(id)).collect();
            assert_eq!(owners.len(), 1, "{id}");
            owned[owners[0].index() as usize] += 1;
        }
        assert!(owned.iter().all(|count| *count > 800), "{owned:?}");
    }

    #[test]
    fn a_shard_outside_the_total_does_not_exist() {
        assert_eq!(Shard::new(2, 2), None);
        assert_eq!(Shard::new(0, 0), None);
    }

    #[test]
    fn an_id_stays_in_its_shard_over_versions() {
        let id = PartitionId(Uuid::from_u128(0x974b_d92a_b395_4631_8a7f_53bd_4ae9_cf22));
        let owner = (0..16).find(|index| Shard::new(*index, 16).is_some_and(|s| s.owns(id)));
        assert_eq!(owner, Some(14));
    }
}
