//! The result of an evaluation.

use chrono::{DateTime, Utc};

/// Whether a partition can be restored and its backups are on time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtectionState {
    /// A fact that the verdict needs is missing or stale.
    Unknown,
    /// A requested backup has been running for too long.
    Stuck,
    /// No policy applies and no interval is configured.
    Unprotected,
    /// The periodic backup is suspended.
    Suspended,
    /// There is no backup, and the first one is overdue.
    NeverBackedUp,
    /// The next backup is overdue.
    Overdue,
    /// The last attempt failed, and the next success is not overdue yet.
    Failing,
    /// There is no backup, and the first one is not overdue yet.
    Pending,
    /// There is a backup, and the next one is not overdue.
    Protected,
}

impl ProtectionState {
    /// Every state, in the order in which [`super::evaluate`] checks them.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Stuck,
        Self::Unprotected,
        Self::Suspended,
        Self::NeverBackedUp,
        Self::Overdue,
        Self::Failing,
        Self::Pending,
        Self::Protected,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Stuck => "Stuck",
            Self::Unprotected => "Unprotected",
            Self::Suspended => "Suspended",
            Self::NeverBackedUp => "NeverBackedUp",
            Self::Overdue => "Overdue",
            Self::Failing => "Failing",
            Self::Pending => "Pending",
            Self::Protected => "Protected",
        }
    }

    /// Severity from 1 (best) to 8: up to 3 the backups are on time, from 6 on a backup is
    /// missing. `None` for [`Self::Unknown`].
    pub const fn severity(self) -> Option<i64> {
        match self {
            Self::Unknown => None,
            Self::Protected => Some(1),
            Self::Pending => Some(2),
            Self::Failing => Some(3),
            Self::Suspended => Some(4),
            Self::Unprotected => Some(5),
            Self::Stuck => Some(6),
            Self::Overdue => Some(7),
            Self::NeverBackedUp => Some(8),
        }
    }
}

/// The protection state of a partition and its due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The protection state.
    pub state: ProtectionState,
    /// When the next success is due, without the allowance, in cluster time.
    pub due: Option<DateTime<Utc>>,
    /// When the same facts may next lead to another verdict.
    pub valid_until: Option<DateTime<Utc>>,
}
