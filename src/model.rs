//! The domain in the words of Service Fabric: partitions, backup records, recovery points.
//!
//! Values only: no I/O, no clock, no serialisation. A value that exists is valid: sentinels of
//! the wire (year 1, zero GUID, negative log sequence numbers) have become `None` before they
//! arrive here.

mod collector;
mod protection;
mod schedule;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
pub use collector::{Collector, CollectorStatus};
pub use protection::{
    BackupConfiguration, BackupEntity, BackupHealth, BackupKind, ConfigurationScope, LabelValue,
    ListedBackup, PeriodicAttempt, Policies, Policy, RestoreProgress, RestoreState, Retention,
};
pub(crate) use schedule::JITTER;
pub use schedule::Schedule;
use uuid::Uuid;

/// Identity of a partition: a GUID, unique over all clusters, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub Uuid);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A Service Fabric name such as `fabric:/Shop/Orders`, shared by every partition below it.
pub type Name = Arc<str>;

/// What a partition is called and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its identity.
    pub id: PartitionId,
    /// Name of its application; `None` while the cluster has not told.
    pub application: Option<Name>,
    /// Name of its service; `None` while the cluster has not told.
    pub service: Option<Name>,
    /// How its service is partitioned; `None` while the cluster has not told.
    pub kind: Option<PartitionKind>,
    /// When it last lost data, or was created; `None` while the cluster has not told, and where
    /// its epoch is no time.
    pub data_loss_time: Option<DateTime<Utc>>,
}

impl Partition {
    /// This partition as `newer` describes it; what `newer` does not know stays.
    #[must_use]
    pub fn updated(&self, newer: Self) -> Self {
        Self {
            id: newer.id,
            application: newer.application.or_else(|| self.application.clone()),
            service: newer.service.or_else(|| self.service.clone()),
            kind: newer.kind.or(self.kind),
            data_loss_time: newer.data_loss_time,
        }
    }
}

/// A partition in the list of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedPartition {
    /// Its identity.
    pub id: PartitionId,
    /// How its service is partitioned.
    pub kind: PartitionKind,
    /// When it last lost data, or was created; `None` where the epoch is no time.
    pub data_loss_time: Option<DateTime<Utc>>,
}

/// How a service is partitioned (`ServicePartitionKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionKind {
    /// A range of 64-bit keys.
    Int64Range,
    /// A named partition.
    Named,
    /// The only partition of its service.
    Singleton,
    /// A word this version does not know.
    Unknown,
}

impl PartitionKind {
    /// Takes the word of the wire; one this version does not know is `Unknown`.
    pub fn from_wire(word: &str) -> Self {
        let known = [Self::Int64Range, Self::Named, Self::Singleton];
        let named = known.into_iter().find(|kind| kind.as_str() == word);
        named.unwrap_or(Self::Unknown)
    }

    /// The word used on the wire and in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int64Range => "Int64Range",
            Self::Named => "Named",
            Self::Singleton => "Singleton",
            Self::Unknown => "Unknown",
        }
    }
}

/// A value and the time at which it was read, by the exporter's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// The value.
    pub value: T,
    /// The time.
    pub at: DateTime<Utc>,
}

/// The items of a list that could be decoded, and how many could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedList<T> {
    /// The decoded items.
    pub items: Vec<T>,
    /// Number of items that could not be decoded. Unless it is 0, the list is not complete.
    pub skipped: usize,
}

/// State of the last *requested* backup (`BackupState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupState {
    /// The zero value of the service; should never be seen.
    Invalid,
    /// The request is queued.
    Accepted,
    /// The primary replica has taken the request on.
    BackupInProgress,
    /// The backup is in the store.
    Success,
    /// The backup failed; the record carries a code.
    Failure,
    /// The backup did not end within the time its requester allowed.
    Timeout,
    /// A word this version does not know.
    Unknown,
}

impl BackupState {
    /// Every state, in the order of the metric contract.
    pub const ALL: [Self; 7] = [
        Self::Invalid,
        Self::Accepted,
        Self::BackupInProgress,
        Self::Success,
        Self::Failure,
        Self::Timeout,
        Self::Unknown,
    ];

    /// Whether the request came to an end and there is no backup.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failure | Self::Timeout)
    }

    /// Takes the word of the wire; one this version does not know is `Unknown`.
    pub fn from_wire(word: &str) -> Self {
        let named = Self::ALL.into_iter().find(|state| state.as_str() == word);
        named.unwrap_or(Self::Unknown)
    }

    /// The word used on the wire and in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::Accepted => "Accepted",
            Self::BackupInProgress => "BackupInProgress",
            Self::Success => "Success",
            Self::Failure => "Failure",
            Self::Timeout => "Timeout",
            Self::Unknown => "Unknown",
        }
    }
}

/// The record of the last requested backup of a partition: `BackupProgressInfo`.
///
/// Periodic backups never touch it, and a new request erases the success before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupProgress {
    /// Where the request stands.
    pub state: BackupState,
    /// `TimeStampUtc`: the moment of the local snapshot; `None` for the year-1 sentinel, which
    /// stands in every state but Success.
    pub timestamp: Option<DateTime<Utc>>,
    /// Id of the backup; `None` for the zero GUID.
    pub backup_id: Option<Uuid>,
    /// Epoch of the last record in the backup.
    pub epoch: Option<Epoch>,
    /// Log sequence number of the last record in the backup; `None` when negative, and in every
    /// state but Success, where it is a sentinel.
    pub lsn: Option<u64>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// Epoch of a partition; negative numbers are `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Changes with every data loss. On production clusters a FILETIME.
    pub data_loss_version: Option<u64>,
    /// Rises with every reconfiguration.
    pub configuration_version: Option<u64>,
}

impl Epoch {
    /// The data loss version as the moment that it stands for: the last data loss, or the creation
    /// of the partition. `None` where it is no plausible FILETIME (100 ns since 1601): test
    /// clusters count 1, 2, 3.
    pub fn data_loss_time(self) -> Option<DateTime<Utc>> {
        const PLAUSIBLE: std::ops::Range<u64> = 120_000_000_000_000_000..220_000_000_000_000_000;
        const SECONDS_FROM_1601_TO_1970: i64 = 11_644_473_600;
        let ticks = self.data_loss_version?;
        let seconds = i64::try_from(ticks / 10_000_000).ok()? - SECONDS_FROM_1601_TO_1970;
        let nanoseconds = u32::try_from(ticks % 10_000_000 * 100).ok()?;
        let time = DateTime::from_timestamp(seconds, nanoseconds);
        time.filter(|_| PLAUSIBLE.contains(&ticks))
    }
}

/// `FailureError`: why a backup failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Bounded in length and alphabet: fit to be a label value.
    pub code: FailureCode,
    /// Free text for people: at most 1,024 characters, without secrets. Never a label.
    pub message: Option<Arc<str>>,
}

/// A failure code fit to be a label value: `FABRIC_E_TIMEOUT`, `0x80131500`, or `other`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureCode(LabelValue);

impl FailureCode {
    /// Takes a symbolic code, bounded as every [`LabelValue`]. A string of digits is a number (see
    /// [`Self::from_number`]).
    pub fn from_text(code: &str) -> Self {
        let digits = code.strip_prefix('-').unwrap_or(code);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return code
                .parse()
                .map_or_else(|_| Self::other(), Self::from_number);
        }
        Self(LabelValue::new(code))
    }

    /// Takes an HRESULT, signed or unsigned, as `0x` and eight capital hexadecimal digits;
    /// what does not fit into 32 bits is `other`.
    pub fn from_number(code: i64) -> Self {
        let unsigned = u32::try_from(code)
            .or_else(|_| i32::try_from(code).map(i32::cast_unsigned))
            .ok();
        unsigned.map_or_else(Self::other, |code| {
            Self(LabelValue::new(&format!("0x{code:08X}")))
        })
    }

    /// The code that stands for all that do not fit.
    pub fn other() -> Self {
        Self(LabelValue::other())
    }

    /// The label value.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_failure_codes_become_eight_hexadecimal_digits() {
        for code in ["2148734208", "-2146233088"] {
            assert_eq!(FailureCode::from_text(code).as_str(), "0x80131500");
        }
        assert_eq!(FailureCode::from_number(5).as_str(), "0x00000005");
        assert_eq!(FailureCode::from_number(1 << 32).as_str(), "other");
        assert_eq!(FailureCode::from_text(&"9".repeat(30)).as_str(), "other");
    }

    #[test]
    fn a_data_loss_version_is_a_time_only_where_it_is_plausible() {
        let time = |version| {
            let epoch = Epoch {
                data_loss_version: Some(version),
                configuration_version: None,
            };
            epoch.data_loss_time().map(|time| time.to_rfc3339())
        };
        let documented = "2018-11-21T19:24:50.815689300+00:00";
        assert_eq!(time(131_873_018_908_156_893).as_deref(), Some(documented));
        for version in [0, 1, 3, u64::MAX, i64::MAX.unsigned_abs()] {
            assert_eq!(time(version), None, "{version}");
        }
    }

    #[test]
    fn codes_unfit_for_a_label_become_other() {
        for code in ["", "two words", "quote\"", &"X".repeat(81), "Übel"] {
            assert_eq!(FailureCode::from_text(code).as_str(), "other", "{code:?}");
        }
        assert_eq!(
            FailureCode::from_text("FABRIC_E_TIMEOUT").as_str(),
            "FABRIC_E_TIMEOUT"
        );
    }
}
