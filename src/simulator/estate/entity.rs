//! The entities that a backup policy can be enabled for.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

/// Something that can be protected.
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
    /// An application.
    pub fn application(name: &str) -> Self {
        Self::Application(name.into())
    }

    /// A service.
    pub fn service(name: &str) -> Self {
        Self::Service(name.into())
    }

    /// `Kind`, `EntityKind` and the word of inheritance.
    pub(in crate::simulator) fn level(&self) -> &'static str {
        match self {
            Self::Application(_) => "Application",
            Self::Service(_) => "Service",
            Self::Partition(_) => "Partition",
        }
    }
}

/// Explicit enablements: which policy each entity was given.
pub(super) type Mappings = BTreeMap<Entity, Arc<str>>;
