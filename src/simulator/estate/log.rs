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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::simulator::record::{Outcome, Plan};
    use crate::simulator::{Scheme, ServiceKind};

    #[test]
    fn what_happens_is_told_once_from_the_first_call_on() {
        let start = DateTime::from_timestamp(1_750_000_000, 0).unwrap();
        let mut estate = Estate::empty(1, start);
        let kind = ServiceKind::Persisted;
        let id = estate.add_service("fabric:/A", "fabric:/A/B", kind, Scheme::Singleton, start)[0];
        let mut request = |outcome, at| {
            let plan = Plan {
                outcome,
                ..Plan::default()
            };
            estate.request_backup(id, plan, at).unwrap();
            estate.tick(at + Duration::from_secs(60));
            let log = estate.take_log().into_iter();
            log.map(|it| it.what).collect::<Vec<_>>()
        };
        assert_eq!(request(Outcome::Success, start), [], "nobody had asked");
        let taken = start + Duration::from_secs(15);
        assert_eq!(
            request(Outcome::Success, start),
            [Happening::Requested, Happening::BackedUpOnRequest { taken }]
        );
        assert_eq!(
            request(Outcome::Timeout, start),
            [Happening::Requested, Happening::RequestFailed]
        );
        assert!(estate.take_log().is_empty());
    }
}
