//! Names of storages.

/// A storage; two policies that write to the same container or share have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId(pub(super) usize);
