//! Counters of the requested backups that were seen to end, and of claims that were refuted, per
//! service.
//!
//! They count what happened while somebody watched: the first reading of a partition is the
//! baseline and counts nothing. They never go down while their service exists.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::{BackupProgress, BackupState, FailureCode, Name, Partition};

/// The labels under which completions are counted; a name that is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Name of the application.
    pub application: Option<Name>,
    /// Name of the service.
    pub service: Option<Name>,
}

impl ServiceKey {
    pub(crate) fn of(partition: &Partition) -> Self {
        Self {
            application: partition.application.clone(),
            service: partition.service.clone(),
        }
    }
}

/// How a requested backup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackupOutcome {
    /// It is in the store.
    Success,
    /// It failed.
    Failure,
    /// It did not end in time.
    Timeout,
}

impl BackupOutcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Timeout];

    /// The outcome that `state` stands for, if it stands for the end of a backup.
    pub(crate) fn of(state: BackupState) -> Option<Self> {
        match state {
            BackupState::Success => Some(Self::Success),
            BackupState::Failure => Some(Self::Failure),
            BackupState::Timeout => Some(Self::Timeout),
            BackupState::Invalid
            | BackupState::Accepted
            | BackupState::BackupInProgress
            | BackupState::Unknown => None,
        }
    }

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Timeout => "timeout",
        }
    }
}

/// Completions and refuted claims of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTotals {
    /// Requested backups that ended well.
    pub successes: u64,
    /// Requested backups that failed.
    pub failed: u64,
    /// Requested backups that did not end in time.
    pub timed_out: u64,
    /// Those that failed or did not end in time and said why, by code.
    pub failures: BTreeMap<FailureCode, u64>,
    /// Successes that health reported and no list held.
    pub refuted_health: u64,
    /// Successes of requested backups that no list held.
    pub refuted_progress: u64,
}

impl ServiceTotals {
    /// Completions with `outcome`.
    pub fn completions(&self, outcome: BackupOutcome) -> u64 {
        match outcome {
            BackupOutcome::Success => self.successes,
            BackupOutcome::Failure => self.failed,
            BackupOutcome::Timeout => self.timed_out,
        }
    }

    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: &Self) {
        self.successes = self.successes.saturating_add(other.successes);
        self.failed = self.failed.saturating_add(other.failed);
        self.timed_out = self.timed_out.saturating_add(other.timed_out);
        self.refuted_health = self.refuted_health.saturating_add(other.refuted_health);
        self.refuted_progress = self.refuted_progress.saturating_add(other.refuted_progress);
        for (code, count) in &other.failures {
            let known = self.failures.entry(code.clone()).or_default();
            *known = known.saturating_add(*count);
        }
    }

    pub(crate) fn count(&mut self, outcome: BackupOutcome, record: Option<&BackupProgress>) {
        let count = match outcome {
            BackupOutcome::Success => &mut self.successes,
            BackupOutcome::Failure => &mut self.failed,
            BackupOutcome::Timeout => &mut self.timed_out,
        };
        *count = count.saturating_add(1);
        let failure = record.and_then(|record| record.failure.as_ref());
        if let (BackupOutcome::Failure | BackupOutcome::Timeout, Some(failure)) = (outcome, failure)
        {
            let count = self.failures.entry(failure.code.clone()).or_default();
            *count = count.saturating_add(1);
        }
    }
}

/// The failure codes that a service had for the first time a short while ago.
///
/// Prometheus computes an increase between two samples of a series. A counter whose first sample
/// is 1 has none, so the exposition shows a new code at 0 first. A fixed set of codes at 0 would not
/// cover all: the code of an arbitrary exception is a number (`FabricError.cs`). And the 19 known
/// ones would add 34 MB to the page of 10,000 services with one partition each, which has 76 MB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewFailureCodes(BTreeMap<ServiceKey, BTreeMap<FailureCode, DateTime<Utc>>>);

impl NewFailureCodes {
    /// How long a code is new. With scrape intervals of up to two minutes, at least one scrape finds
    /// the counter at 0. Longer ones are not practical: after five minutes without a sample,
    /// Prometheus takes a series for gone.
    const NEW_FOR: TimeDelta = TimeDelta::minutes(2);

    /// Until when the counter of `code` stays at 0.
    pub(crate) fn until(&self, service: &ServiceKey, code: &FailureCode) -> Option<DateTime<Utc>> {
        let seen = *self.0.get(service)?.get(code)?;
        Some(seen + Self::NEW_FOR)
    }

    /// When the codes cease to be new.
    pub(crate) fn ends(&self) -> impl Iterator<Item = DateTime<Utc>> {
        let codes = self.0.values().flat_map(BTreeMap::values);
        codes.map(|seen| *seen + Self::NEW_FOR)
    }

    /// Adds the codes that `after` counts and `before` does not, and drops those that are no longer
    /// new at `now`.
    pub(super) fn note(
        &mut self,
        before: &BTreeMap<ServiceKey, ServiceTotals>,
        after: &BTreeMap<ServiceKey, ServiceTotals>,
        now: DateTime<Utc>,
    ) {
        self.retain(|_, _, seen| (TimeDelta::zero()..Self::NEW_FOR).contains(&(now - *seen)));
        for (service, totals) in after.iter().filter(|(_, it)| !it.failures.is_empty()) {
            let known = before.get(service).map(|totals| &totals.failures);
            let codes = totals.failures.keys();
            for code in codes.filter(|code| !known.is_some_and(|it| it.contains_key(*code))) {
                let codes = self.0.entry(service.clone()).or_default();
                codes.insert(code.clone(), now);
            }
        }
    }

    /// Drops the codes that `remembered` counts: their counters exist already.
    pub(super) fn forget_counted(&mut self, remembered: &BTreeMap<ServiceKey, ServiceTotals>) {
        let is_counted = |service: &ServiceKey, code: &FailureCode| {
            let totals = remembered.get(service);
            totals.is_some_and(|totals| totals.failures.contains_key(code))
        };
        self.retain(|service, code, _| !is_counted(service, code));
    }

    fn retain(&mut self, stays: impl Fn(&ServiceKey, &FailureCode, &DateTime<Utc>) -> bool) {
        self.0.retain(|service, codes| {
            codes.retain(|code, seen| stays(service, code, seen));
            !codes.is_empty()
        });
    }
}
