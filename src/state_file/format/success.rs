//! The successes of one partition in the state file, and their conversion from and to a snapshot.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::snapshot::{Claim, ClaimStatus, RecoveryPoint, SuccessSource, Successes};

/// A recovery point. The field that holds it determines its source.
#[derive(Serialize, Deserialize)]
pub(super) struct SuccessEntry {
    at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    backup_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    lsn: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    data_loss_version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    storage: Option<u32>,
}

/// A claim. Of an earlier one that no list could judge yet, only the time is written: a restart is
/// rare, and the next claim follows this one.
#[derive(Serialize, Deserialize)]
pub(super) struct ClaimEntry {
    #[serde(flatten)]
    point: SuccessEntry,
    seen_at: DateTime<Utc>,
    /// If that is not `seen_at`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    open_since: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    after: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    is_next: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    standing: Option<ClaimStatusEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClaimStatusEntry {
    Confirmed,
    Doubted,
    Refuted(DateTime<Utc>),
    Deleted(DateTime<Utc>),
}

impl SuccessEntry {
    pub(super) fn of(point: &RecoveryPoint) -> Self {
        Self {
            at: point.at,
            backup_id: point.backup_id,
            lsn: point.lsn,
            data_loss_version: point.data_loss_version,
            storage: point.storage,
        }
    }

    pub(super) fn restore(self, source: SuccessSource) -> RecoveryPoint {
        RecoveryPoint {
            source,
            at: self.at,
            backup_id: self.backup_id,
            lsn: self.lsn,
            data_loss_version: self.data_loss_version,
            storage: self.storage,
        }
    }

    /// The successes of a file of version 1 or 2, which did not record the source of a success: one
    /// that no list has confirmed, known since `seen_at`. Only records and lists had ids.
    pub(super) fn restore_unconfirmed(self, seen_at: DateTime<Utc>) -> Successes {
        let source = match self.backup_id {
            Some(_) => SuccessSource::Requested,
            None => SuccessSource::Periodic,
        };
        let claim = Some(Arc::new(Claim::new(self.restore(source), seen_at)));
        match source {
            SuccessSource::Requested | SuccessSource::List => Successes {
                requested: claim,
                ..Successes::default()
            },
            SuccessSource::Periodic => Successes {
                periodic: claim,
                ..Successes::default()
            },
        }
    }
}

impl ClaimEntry {
    pub(super) fn of(claim: &Claim) -> Self {
        let status = match claim.status {
            ClaimStatus::Open => None,
            ClaimStatus::Confirmed => Some(ClaimStatusEntry::Confirmed),
            ClaimStatus::Doubted => Some(ClaimStatusEntry::Doubted),
            ClaimStatus::Refuted(at) => Some(ClaimStatusEntry::Refuted(at)),
            ClaimStatus::Deleted(at) => Some(ClaimStatusEntry::Deleted(at)),
        };
        Self {
            point: SuccessEntry::of(&claim.point),
            seen_at: claim.seen_at,
            open_since: Some(claim.open_since).filter(|since| *since != claim.seen_at),
            after: claim.after,
            is_next: claim.is_next,
            standing: status,
        }
    }

    pub(super) fn restore(self, source: SuccessSource) -> Claim {
        let status = match self.standing {
            None => ClaimStatus::Open,
            Some(ClaimStatusEntry::Confirmed) => ClaimStatus::Confirmed,
            Some(ClaimStatusEntry::Doubted) => ClaimStatus::Doubted,
            Some(ClaimStatusEntry::Refuted(at)) => ClaimStatus::Refuted(at),
            Some(ClaimStatusEntry::Deleted(at)) => ClaimStatus::Deleted(at),
        };
        Claim {
            open_since: self.open_since.unwrap_or(self.seen_at),
            after: self.after,
            is_next: self.is_next,
            status,
            ..Claim::new(self.point.restore(source), self.seen_at)
        }
    }
}
