//! The entities that a backup policy can be enabled for.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

/// An entity that a backup policy can be enabled for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// All partitions of an application, by its full name.
    Application(Arc<str>),
    /// All partitions of a service, by its full name.
    Service(Arc<str>),
    /// One partition.
    Partition(Uuid),
}

impl Entity {
    /// An application by its full name.
    pub fn application(name: &str) -> Self {
        Self::Application(name.into())
    }

    /// A service by its full name.
    pub fn service(name: &str) -> Self {
        Self::Service(name.into())
    }

    /// Level as in `Kind`, `EntityKind` and the inheritance fields.
    pub(in crate::simulator) fn level(&self) -> &'static str {
        match self {
            Self::Application(_) => "Application",
            Self::Service(_) => "Service",
            Self::Partition(_) => "Partition",
        }
    }
}

/// Explicit mappings from entities to policies.
pub(super) type Mappings = BTreeMap<Entity, Arc<str>>;
