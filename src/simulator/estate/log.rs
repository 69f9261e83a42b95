//! What really happened in the world: the ground truth for those who judge what others report.
//!
//! Responsible for reporting it in order, once, and only while somebody reads it. Must not change
//! the world, and no answer of the gateway is made from it. All moments are on the clock of the
//! cluster, whatever the clocks of its nodes show.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Estate;
use super::periodic::Periodic;
use super::place::Place;
use super::store::{Backup, Validation};

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
    /// Its replica received another policy, or another version of it, and restarted its schedule;
    /// or it received that it must not back up any more.
    Configured {
        /// Whether it has a policy to act on now.
        active: bool,
    },
    /// Its timer was armed: for the next run of the schedule, or for a retry.
    Armed {
        /// When the run starts.
        due: DateTime<Utc>,
    },
    /// Its timer stopped, or could not be armed. It takes no more backups until the schedule
    /// restarts or, after the midnight fault, the primary moves.
    TimerStopped,
    /// An upload finished: the backup lies in this storage from now on, whether or not the
    /// replica counted it.
    Stored {
        /// The storage; `None` where the request of an unprotected partition brought its own.
        place: Option<Place>,
        /// Id of the backup.
        backup: Uuid,
        /// Id of the full backup that its chain begins with.
        chain: Uuid,
        /// The moment of its snapshot.
        taken: DateTime<Utc>,
        /// Whether it can be restored, as long as the full backup of its chain lies there too.
        restorable: bool,
    },
    /// Retention or `CleanBackup` deleted a backup.
    Deleted {
        /// The storage.
        place: Place,
        /// Id of the backup.
        backup: Uuid,
    },
    /// A periodic backup was uploaded and counted.
    BackedUp {
        /// The moment of its snapshot.
        taken: DateTime<Utc>,
    },
    /// A periodic attempt failed, was discarded or was cancelled, whatever its health report says.
    Failed,
    /// Somebody requested a backup.
    Requested,
    /// A requested backup was uploaded, and its request had not ended.
    BackedUpOnRequest {
        /// The moment of its snapshot.
        taken: DateTime<Utc>,
    },
    /// A request ended without a backup: its record may be a Failure, a Timeout or, of an actor
    /// service, the Success of a former request.
    RequestFailed,
    /// Another replica became primary.
    PrimaryMoved,
    /// The partition lost its data and has the state of a backup again.
    Restored,
    /// The partition lost its data and waits for a restore without write status.
    AwaitsRestore,
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

    pub(super) fn note_stored(
        &mut self,
        id: Uuid,
        place: Option<Place>,
        backup: &Backup,
        taken: DateTime<Utc>,
        at: DateTime<Utc>,
    ) {
        let stored = Happening::Stored {
            place,
            backup: backup.id,
            chain: backup.chain,
            taken,
            restorable: backup.validation == Validation::None,
        };
        self.note(at, id, stored);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::simulator::record::{Outcome, Plan};
    use crate::simulator::{Scheme, ServiceKind};

    #[test]
    fn the_log_reports_what_happened_once_from_the_first_call_on() {
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
        let later = start + Duration::from_secs(600);
        let taken = later + Duration::from_secs(15);
        let log = request(Outcome::Success, later);
        assert_eq!(log[0], Happening::Requested);
        assert_eq!(log[2], Happening::BackedUpOnRequest { taken });
        let Happening::Stored { place, .. } = log[1] else {
            panic!("{log:?}");
        };
        assert_eq!(place, None, "the partition is not protected");
        let later = start + Duration::from_secs(1200);
        assert_eq!(
            request(Outcome::Timeout, later),
            [Happening::Requested, Happening::RequestFailed]
        );
        assert!(estate.take_log().is_empty());
    }
}
