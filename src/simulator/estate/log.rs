//! What really happened in the world, for those who judge what others say of it.
//!
//! Responsible for telling it in order, once, and only while somebody wants to know. It may not
//! change the world, and no answer of the gateway is made from it: nobody outside sees it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Estate;
use super::periodic::Periodic;

/// Something that happened to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When.
    pub at: DateTime<Utc>,
    /// To which partition.
    pub partition: Uuid,
    /// What.
    pub what: Happening,
}

/// What can happen to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Its replica heard of another policy, or of another version of it, and started its timer
    /// anew; or it heard that it shall not back up any more.
    Configured {
        /// Whether it has a policy to act on now.
        active: bool,
    },
    /// A periodic backup is in the store, whole.
    BackedUp {
        /// The moment of its snapshot.
        taken: DateTime<Utc>,
    },
    /// A periodic backup failed.
    Failed,
    /// Somebody requested a backup.
    Requested,
    /// A requested backup is in the store, whole.
    BackedUpOnRequest {
        /// The moment of its snapshot.
        taken: DateTime<Utc>,
    },
    /// A requested backup failed, or ran out of time.
    RequestFailed,
}

impl Estate {
    /// What happened since the last call, in order. The first call only starts to write it down.
    pub fn take_log(&mut self) -> Vec<Happened> {
        self.periodic.log.replace(Vec::new()).unwrap_or_default()
    }
}

impl Periodic {
    pub(super) fn note(&mut self, at: DateTime<Utc>, partition: Uuid, what: Happening) {
        let happened = Happened {
            at,
            partition,
            what,
        };
        if let Some(log) = &mut self.log {
            log.push(happened);
        }
    }
}
