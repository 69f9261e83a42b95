//! A limit on the memory for lists of one cluster.
//!
//! Pages and bodies have limits of their own, but a cluster decides how many lists there are. One
//! quota covers all lists of a cycle, another one all backup lists of a round.

use chrono::{NaiveTime, Weekday};

use crate::model::{
    BackupConfiguration, BackupEntity, ListedBackup, ListedPartition, Name, Policy, Schedule,
};

/// Most items. The largest inventory, 500,000 partitions of as many services, has a quarter of it.
const MAX_ITEMS: usize = 4_000_000;

/// Most memory, in bytes: half a kilobyte for each partition of the largest inventory.
const MAX_BYTES: usize = 256 << 20;

/// Bytes that the allocator and a reference count add to a string.
const OVERHEAD: usize = 32;

/// A cycle with too many or too large lists.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum QuotaError {
    #[error(
        "the lists of this cycle have more than {items} items, or are larger than {bytes} bytes"
    )]
    Exceeded { items: usize, bytes: usize },
    #[error("earlier lists of this cycle were too large to read this one")]
    Exhausted,
}

/// Items and bytes that may still be read.
#[derive(Debug)]
pub(super) struct Quota {
    full: Amount,
    left: Option<Amount>,
}

#[derive(Clone, Copy, Debug)]
struct Amount {
    items: usize,
    bytes: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(MAX_ITEMS, MAX_BYTES)
    }
}

impl Quota {
    pub(super) fn new(items: usize, bytes: usize) -> Self {
        let full = Amount { items, bytes };
        Self {
            full,
            left: Some(full),
        }
    }

    /// Restores the full quota.
    pub(super) fn renew(&mut self) {
        self.left = Some(self.full);
    }

    /// Fails once the quota was exceeded, so that nothing more is requested.
    pub(super) fn check(&self) -> Result<(), QuotaError> {
        self.left.map(drop).ok_or(QuotaError::Exhausted)
    }

    /// Deducts `items`, or fails from now on.
    pub(super) fn charge<T: Footprint>(&mut self, items: &[T]) -> Result<(), QuotaError> {
        let bytes = items.iter().map(|item| size_of::<T>() + item.heap()).sum();
        self.left = self.left.and_then(|left| {
            Some(Amount {
                items: left.items.checked_sub(items.len())?,
                bytes: left.bytes.checked_sub(bytes)?,
            })
        });
        let Amount { items, bytes } = self.full;
        self.left
            .map(drop)
            .ok_or(QuotaError::Exceeded { items, bytes })
    }
}

/// An item of a list.
pub(super) trait Footprint {
    /// Size of the heap memory that the item owns, in bytes.
    fn heap(&self) -> usize;
}

impl Footprint for Name {
    fn heap(&self) -> usize {
        OVERHEAD + self.len()
    }
}

impl Footprint for ListedPartition {
    fn heap(&self) -> usize {
        0
    }
}

impl Footprint for ListedBackup {
    fn heap(&self) -> usize {
        0
    }
}

impl Footprint for BackupEntity {
    fn heap(&self) -> usize {
        match self {
            Self::Application(name) | Self::Service(name) => name.heap(),
            Self::Partition(_) => 0,
        }
    }
}

impl Footprint for BackupConfiguration {
    fn heap(&self) -> usize {
        self.entity.heap() + self.policy.as_ref().map_or(0, Footprint::heap)
    }
}

impl Footprint for Policy {
    fn heap(&self) -> usize {
        let times = |times: &Vec<NaiveTime>| OVERHEAD + size_of_val(times.as_slice());
        let days = |days: &Vec<Weekday>| OVERHEAD + size_of_val(days.as_slice());
        let schedule = match &self.schedule {
            None | Some(Schedule::Frequency(_)) => 0,
            Some(Schedule::Daily(at)) => times(at),
            Some(Schedule::Weekly(on, at)) => days(on) + times(at),
        };
        self.name.heap() + schedule
    }
}

#[cfg(test)]
mod tests;
