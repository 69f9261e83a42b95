//! The entries of the state file for a partition and for a service.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::success::{ClaimEntry, SuccessEntry};
use crate::model::{
    BackupState, ConfigurationScope, FailureCode, Partition, PartitionId, PartitionKind,
};
use crate::protection::effective::EffectiveConfiguration;
use crate::snapshot::{
    PartitionSnapshot, ProgressHistory, ProgressKey, ServiceKey, ServiceTotals, SuccessSource,
    Successes,
};

#[derive(Serialize, Deserialize)]
pub(super) struct PartitionEntry<'a> {
    id: Uuid,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    application: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    service: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    seen: Option<ProgressHistoryEntry<'a>>,
    /// Of versions 1 and 2; never written.
    #[serde(skip_serializing, default)]
    last_success: Option<SuccessEntry>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    listed: Option<SuccessEntry>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    periodic: Option<ClaimEntry>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    requested: Option<ClaimEntry>,
    /// Left out where it is the listed one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    numbered: Option<SuccessEntry>,
    #[serde(skip_serializing_if = "is_zero", default)]
    lsn_advance: u64,
    known_since: DateTime<Utc>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    applied: Option<AppliedEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    protected_since: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    changed_at: Option<DateTime<Utc>>,
}

#[derive(Serialize, Deserialize)]
struct AppliedEntry<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    policy: Option<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    suspended: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct ProgressHistoryEntry<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    record: Option<RecordEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    newest_success: Option<(DateTime<Utc>, Option<Uuid>)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    running_since: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    is_baseline: bool,
}

#[derive(Serialize, Deserialize)]
struct RecordEntry<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
    since: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    backup_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    timestamp: Option<DateTime<Utc>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    code: Option<Cow<'a, str>>,
}

impl<'a> PartitionEntry<'a> {
    pub(super) fn of(known: &'a PartitionSnapshot) -> Self {
        let successes = &known.successes;
        let listed = successes.listed.as_deref();
        let numbered = known.newest_with_lsn.as_deref();
        let numbered = numbered.filter(|point| Some(*point) != listed);
        Self {
            id: known.partition.id.0,
            application: known.partition.application.as_deref().map(Cow::from),
            service: known.partition.service.as_deref().map(Cow::from),
            kind: known.partition.kind.map(|kind| kind.as_str().into()),
            seen: known
                .progress_history
                .as_deref()
                .map(ProgressHistoryEntry::of),
            last_success: None,
            listed: successes.listed.as_deref().map(SuccessEntry::of),
            periodic: successes.periodic.as_deref().map(ClaimEntry::of),
            requested: successes.requested.as_deref().map(ClaimEntry::of),
            numbered: numbered.map(SuccessEntry::of),
            lsn_advance: known.lsn_advance,
            known_since: known.known_since,
            applied: known.configuration.as_deref().map(AppliedEntry::of),
            protected_since: known.protected_since,
            changed_at: known.changed_at,
        }
    }

    pub(super) fn restore(self) -> PartitionSnapshot {
        let partition = Partition {
            id: PartitionId(self.id),
            application: self.application.map(Into::into),
            service: self.service.map(Into::into),
            kind: self.kind.map(|word| PartitionKind::from_wire(&word)),
            data_loss_time: None,
        };
        let successes = match self.last_success {
            Some(entry) => entry.restore_unconfirmed(self.known_since),
            None => Successes {
                listed: self
                    .listed
                    .map(|it| Arc::new(it.restore(SuccessSource::List))),
                periodic: self
                    .periodic
                    .map(|it| Arc::new(it.restore(SuccessSource::Periodic))),
                requested: self
                    .requested
                    .map(|it| Arc::new(it.restore(SuccessSource::Requested))),
            },
        };
        let numbered = self
            .numbered
            .map(|it| Arc::new(it.restore(SuccessSource::Requested)));
        let listed = successes.listed.clone();
        let numbered = numbered.or_else(|| listed.filter(|point| point.lsn.is_some()));
        PartitionSnapshot {
            progress_history: self.seen.map(|entry| Arc::new(entry.restore())),
            newest_with_lsn: numbered,
            lsn_advance: self.lsn_advance,
            configuration: self.applied.map(|entry| Arc::new(entry.restore())),
            protected_since: self.protected_since,
            changed_at: self.changed_at,
            ..PartitionSnapshot::restored(partition, self.known_since, successes)
        }
    }
}

impl<'a> ProgressHistoryEntry<'a> {
    fn of(seen: &'a ProgressHistory) -> Self {
        let record = seen.record.as_ref().map(|(identity, since)| RecordEntry {
            state: identity.state.as_str().into(),
            since: *since,
            backup_id: identity.backup_id,
            timestamp: identity.timestamp,
            code: identity.code.as_ref().map(|code| code.as_str().into()),
        });
        Self {
            record,
            newest_success: seen.newest_success,
            running_since: seen.running_since,
            is_baseline: seen.is_baseline,
        }
    }

    fn restore(self) -> ProgressHistory {
        let record = self.record.map(|entry| {
            let identity = ProgressKey {
                state: BackupState::from_wire(&entry.state),
                backup_id: entry.backup_id,
                timestamp: entry.timestamp,
                code: entry.code.map(|code| FailureCode::from_text(&code)),
            };
            (identity, entry.since)
        });
        ProgressHistory {
            record,
            newest_success: self.newest_success,
            running_since: self.running_since,
            is_baseline: self.is_baseline,
        }
    }
}

impl<'a> AppliedEntry<'a> {
    fn of(applied: &'a EffectiveConfiguration) -> Self {
        let policy = applied.policy.as_ref();
        Self {
            policy: policy.map(|(name, level)| ((&**name).into(), level.as_str().into())),
            suspended: applied.suspended.map(|level| level.as_str().into()),
        }
    }

    /// A level of a later version counts as the nearest one: it is only shown.
    fn restore(self) -> EffectiveConfiguration {
        let level = |word: &str| {
            ConfigurationScope::from_wire(word).unwrap_or(ConfigurationScope::Partition)
        };
        EffectiveConfiguration {
            policy: self.policy.map(|(name, word)| (name.into(), level(&word))),
            suspended: self.suspended.map(|word| level(&word)),
        }
    }
}

/// The counters of a service.
#[derive(Serialize, Deserialize)]
pub(super) struct ServiceEntry<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    application: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    service: Option<Cow<'a, str>>,
    successes: u64,
    failed: u64,
    timed_out: u64,
    #[serde(borrow, skip_serializing_if = "BTreeMap::is_empty", default)]
    failures: BTreeMap<Cow<'a, str>, u64>,
    #[serde(skip_serializing_if = "is_zero", default)]
    refuted_health: u64,
    #[serde(skip_serializing_if = "is_zero", default)]
    refuted_progress: u64,
}

impl<'a> ServiceEntry<'a> {
    pub(super) fn of(key: &'a ServiceKey, totals: &'a ServiceTotals) -> Self {
        let failures = totals.failures.iter();
        Self {
            application: key.application.as_deref().map(Cow::from),
            service: key.service.as_deref().map(Cow::from),
            successes: totals.successes,
            failed: totals.failed,
            timed_out: totals.timed_out,
            failures: failures
                .map(|(code, count)| (code.as_str().into(), *count))
                .collect(),
            refuted_health: totals.refuted_health,
            refuted_progress: totals.refuted_progress,
        }
    }

    pub(super) fn restore(self) -> (ServiceKey, ServiceTotals) {
        let key = ServiceKey {
            application: self.application.map(Into::into),
            service: self.service.map(Into::into),
        };
        let failures = self.failures.into_iter();
        let totals = ServiceTotals {
            successes: self.successes,
            failed: self.failed,
            timed_out: self.timed_out,
            failures: failures
                .map(|(code, count)| (FailureCode::from_text(&code), count))
                .collect(),
            refuted_health: self.refuted_health,
            refuted_progress: self.refuted_progress,
        };
        (key, totals)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
