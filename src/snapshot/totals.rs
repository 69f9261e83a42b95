//! Counters per service: requested backups that ended, and refuted claims.
//!
//! The first reading of a partition is the baseline and is not counted. A counter never decreases
//! while its service exists.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::{BackupProgress, BackupState, FailureCode, Name, Partition};

/// The labels of a counter. An unknown name is left out.
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
    /// The backup is in the store.
    Success,
    /// The backup failed.
    Failure,
    /// The backup did not end within its timeout.
    Timeout,
}

impl BackupOutcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Timeout];

    /// The outcome in `state`, if the backup has ended.
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
    /// Requested backups that succeeded.
    pub successes: u64,
    /// Requested backups that failed.
    pub failed: u64,
    /// Requested backups that timed out.
    pub timed_out: u64,
    /// Requested backups that failed or timed out, by failure code if they have one.
    pub failures: BTreeMap<FailureCode, u64>,
    /// Claims of health reports that lists refuted.
    pub refuted_health: u64,
    /// Claims of progress records that lists refuted.
    pub refuted_progress: u64,
}

impl ServiceTotals {
    /// Number of requested backups with `outcome`.
    pub fn completions(&self, outcome: BackupOutcome) -> u64 {
        match outcome {
            BackupOutcome::Success => self.successes,
            BackupOutcome::Failure => self.failed,
            BackupOutcome::Timeout => self.timed_out,
        }
    }

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
/// Prometheus computes an increase between two samples of a series. A counter whose first sample is
/// 1 shows no increase, so a new code is exposed as 0 first. A fixed set of codes is not sufficient:
/// the code of an arbitrary exception is a number (`FabricError.cs`). The 19 known codes alone would
/// add 34 MB to the 76 MB page of 10,000 services with one partition each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewFailureCodes(BTreeMap<ServiceKey, BTreeMap<FailureCode, DateTime<Utc>>>);

impl NewFailureCodes {
    /// How long a counter is exposed as 0: with scrape intervals of up to two minutes, at least one
    /// scrape reads it. Longer intervals are not practical: a series without a sample for five
    /// minutes is stale in Prometheus.
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

    /// Adds the codes in `after` that are not in `before`, and removes those that are no longer new.
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

    /// Removes the codes that were counted before a restart: their series exist already.
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
