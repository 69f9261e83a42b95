//! Ids of storages.

/// Id of a storage; policies with the same container or share have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId(pub(super) usize);
