//! The domain in the terms of Service Fabric: partitions, policies, backups, restores.
//!
//! Values only: no I/O, no clock, no serialization. Every value is valid: the sentinels of the REST
//! API (year 1, zero GUID, negative log sequence numbers) are decoded to `None`.

mod collector;
mod label_value;
mod protection;
mod schedule;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
pub use collector::{Collector, CollectorStatus};
pub use label_value::LabelValue;
pub use protection::{
    BackupConfiguration, BackupEntity, BackupHealth, BackupKind, ConfigurationScope, ListedBackup,
    PeriodicAttempt, Policies, Policy, RestoreProgress, RestoreState, Retention,
};
pub(crate) use schedule::JITTER;
pub use schedule::Schedule;
use uuid::Uuid;

/// Id of a partition: a GUID, unique across clusters and never reused.
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

/// A Service Fabric name such as `fabric:/Shop/Orders`, shared by all partitions below it.
pub type Name = Arc<str>;

/// A partition with the names of its application and service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Id of the partition.
    pub id: PartitionId,
    /// Name of its application; `None` while unknown.
    pub application: Option<Name>,
    /// Name of its service; `None` while unknown.
    pub service: Option<Name>,
    /// Partitioning of its service; `None` while unknown.
    pub kind: Option<PartitionKind>,
    /// When the partition last lost data, or was created; `None` while unknown, or if its epoch is
    /// not a time.
    pub data_loss_time: Option<DateTime<Utc>>,
}

impl Partition {
    /// This partition with the values of `newer`, if those are known.
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

/// An entry of the partition list of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedPartition {
    /// Id of the partition.
    pub id: PartitionId,
    /// Partitioning of the service.
    pub kind: PartitionKind,
    /// When the partition last lost data, or was created; `None` if its epoch is not a time.
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
    /// A value unknown to this version.
    Unknown,
}

impl PartitionKind {
    /// Decodes the value of the REST API.
    pub fn from_wire(word: &str) -> Self {
        let known = [Self::Int64Range, Self::Named, Self::Singleton];
        let named = known.into_iter().find(|kind| kind.as_str() == word);
        named.unwrap_or(Self::Unknown)
    }

    /// The value in the REST API and in labels.
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

/// The items of a list that could be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedList<T> {
    /// The decoded items.
    pub items: Vec<T>,
    /// Number of items that could not be decoded. The list is complete only if it is 0.
    pub skipped: usize,
}

/// State of the last requested backup (`BackupState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupState {
    /// The default value of the enum, which the service should never return.
    Invalid,
    /// The request is queued.
    Accepted,
    /// The primary replica creates the backup.
    BackupInProgress,
    /// The backup is in the store.
    Success,
    /// The backup failed; the record contains a code.
    Failure,
    /// The backup did not end within the timeout of its request.
    Timeout,
    /// A value unknown to this version.
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

    /// Whether the request ended without a backup.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failure | Self::Timeout)
    }

    /// Decodes the value of the REST API.
    pub fn from_wire(word: &str) -> Self {
        let named = Self::ALL.into_iter().find(|state| state.as_str() == word);
        named.unwrap_or(Self::Unknown)
    }

    /// The value in the REST API and in labels.
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

/// The progress record (`BackupProgressInfo`) of the last requested backup of a partition.
///
/// Periodic backups do not change it. A new request replaces the record of the previous success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupProgress {
    /// State of the request.
    pub state: BackupState,
    /// `TimeStampUtc`: time of the local snapshot; `None` for the sentinel of year 1, which the record
    /// has in every state except Success.
    pub timestamp: Option<DateTime<Utc>>,
    /// Id of the backup; `None` for the zero GUID.
    pub backup_id: Option<Uuid>,
    /// Epoch of the last record in the backup.
    pub epoch: Option<Epoch>,
    /// Log sequence number of the last record in the backup; `None` if it is negative, and in every
    /// state except Success, where it is a sentinel.
    pub lsn: Option<u64>,
    /// The failure, if the backup failed.
    pub failure: Option<Failure>,
}

/// Epoch of a partition; negative numbers are `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Changes with every data loss. A FILETIME on production clusters.
    pub data_loss_version: Option<u64>,
    /// Rises with every reconfiguration.
    pub configuration_version: Option<u64>,
}

impl Epoch {
    /// The time of the last data loss, or of the creation of the partition, from the data loss
    /// version. `None` if that is not a plausible FILETIME (100 ns since 1601): test clusters count
    /// 1, 2, 3.
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
    /// A valid label value.
    pub code: FailureCode,
    /// Message of at most 1,024 characters, without secrets. Must not become a label.
    pub message: Option<Arc<str>>,
}

/// A failure code as a label value: `FABRIC_E_TIMEOUT`, `0x80131500`, or `other`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureCode(LabelValue);

impl FailureCode {
    /// Converts a symbolic code or, from a string of digits, a number.
    pub fn from_text(code: &str) -> Self {
        let digits = code.strip_prefix('-').unwrap_or(code);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return code
                .parse()
                .map_or_else(|_| Self::other(), Self::from_number);
        }
        Self(LabelValue::new(code))
    }

    /// Converts an HRESULT, signed or unsigned, to `0x` and eight hexadecimal digits; a number of
    /// more than 32 bits is `other`.
    pub fn from_number(code: i64) -> Self {
        let unsigned = u32::try_from(code)
            .or_else(|_| i32::try_from(code).map(i32::cast_unsigned))
            .ok();
        unsigned.map_or_else(Self::other, |code| {
            Self(LabelValue::new(&format!("0x{code:08X}")))
        })
    }

    /// The code `other`, which stands for every invalid code.
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
