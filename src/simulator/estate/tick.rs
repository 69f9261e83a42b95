//! Progress of time: processes scheduled events in order.
//!
//! `propagation` configures replicas, `upload` takes periodic backups, `on_demand` and `execution`
//! requested ones, `primary` moves primaries, `restore` restores, `retention` deletes. Every
//! partition has its own random seed, so many small steps and one large step give the same state.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Estate;
use super::agenda::{ScheduledEvent, Step};
use super::behaviour::Behaviour;
use super::log::EstateEvent;
use super::replica::Tempo;

impl Estate {
    /// Sets the durations, from now on.
    pub fn set_tempo(&mut self, tempo: Tempo) {
        self.backup_service.tempo = tempo;
    }

    /// Sets the behaviour of the backup service, from now on.
    pub fn set_behaviour(&mut self, behaviour: Behaviour) {
        self.backup_service.behaviour = behaviour;
    }

    /// Processes all events that are due at `now`, in order of time.
    pub fn tick(&mut self, now: DateTime<Utc>) {
        self.backup_service.time = self.backup_service.time.max(now);
        while let Some((at, event)) = self.backup_service.agenda.next(now) {
            match event {
                ScheduledEvent::Request(id, serial, step) => {
                    self.advance_request(id, serial, step, at);
                }
                ScheduledEvent::Replica(id, step) => self.take(id, step, at),
                ScheduledEvent::Retention(policy, serial, tries) => {
                    self.run_retention(&policy, serial, tries, at);
                }
                ScheduledEvent::CleanUp(serial) => self.clean_up(serial, at),
            }
        }
    }

    /// Number of periodic backups started.
    pub fn attempts(&self) -> u64 {
        self.backup_service.attempts
    }

    /// Time at which the timer of a partition fires; `None` without an armed timer.
    pub fn next_backup(&self, id: Uuid) -> Option<DateTime<Utc>> {
        let (at, step) = self.backup_service.replicas.get(&id)?.timer?;
        (step == Step::Start).then_some(at)
    }

    /// Stops the timers of these partitions without a trace, as an upgrade once did (release notes
    /// of 8.2 CU6, 9.0 CU3 and 9.1): only the age of the last event shows it, and only a restart of
    /// the schedule ends it.
    pub fn stop_silently(&mut self, ids: impl IntoIterator<Item = Uuid>, at: DateTime<Utc>) {
        for id in ids {
            let event = ScheduledEvent::Replica(id, Step::Silence);
            self.backup_service.agenda.insert(at, event);
        }
    }

    fn take(&mut self, id: Uuid, step: Step, at: DateTime<Utc>) {
        match step {
            Step::Deliver(item, failures) => self.deliver(id, item, failures, at),
            Step::Ask => self.ask_for_policy(id, at),
            Step::Silence => self.backup_service.silence(id, at),
            Step::Start => self.start_backup(id, at),
            Step::End => self.end_backup(id, at),
            Step::Restore => self.advance_restore(id, at),
        }
    }

    /// Returns the events since the last call, in order. The first call starts the recording.
    pub fn take_log(&mut self) -> Vec<EstateEvent> {
        self.backup_service
            .log
            .replace(Vec::new())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::simulator::estate::EstateEventKind;
    use crate::simulator::record::{BackupPlan, Outcome};
    use crate::simulator::{Scheme, ServiceKind};

    #[test]
    fn the_log_reports_what_happened_once_from_the_first_call_on() {
        let start = DateTime::from_timestamp(1_750_000_000, 0).unwrap();
        let mut estate = Estate::empty(1, start);
        let kind = ServiceKind::Persisted;
        let id = estate.add_service("fabric:/A", "fabric:/A/B", kind, Scheme::Singleton, start)[0];
        let mut request = |outcome, at| {
            let plan = BackupPlan {
                outcome,
                ..BackupPlan::default()
            };
            estate.request_backup(id, plan, at).unwrap();
            estate.tick(at + Duration::from_secs(60));
            let log = estate.take_log().into_iter();
            log.map(|it| it.what).collect::<Vec<_>>()
        };
        assert_eq!(
            request(Outcome::Success, start),
            [],
            "recording starts with the first call"
        );
        let later = start + Duration::from_secs(600);
        let taken = later + Duration::from_secs(15);
        let log = request(Outcome::Success, later);
        assert_eq!(log[0], EstateEventKind::Requested);
        assert_eq!(log[2], EstateEventKind::BackedUpOnRequest { taken });
        let EstateEventKind::Stored { storage_id, .. } = log[1] else {
            panic!("{log:?}");
        };
        assert_eq!(storage_id, None, "the partition is not protected");
        let later = start + Duration::from_secs(1200);
        assert_eq!(
            request(Outcome::Timeout, later),
            [EstateEventKind::Requested, EstateEventKind::RequestFailed]
        );
        assert!(estate.take_log().is_empty());
    }
}
