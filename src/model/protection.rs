//! Backup policies and configurations, periodic attempts, listed backups, restores.
//!
//! The model contains no secrets: of a storage only its kind and a fingerprint are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::label_value::LabelValue;
use super::schedule::Schedule;
use super::{Epoch, Name, PartitionId};

/// A backup policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name of the policy, unique in the cluster.
    pub name: Name,
    /// The schedule; `None` for a kind unknown to this version.
    pub schedule: Option<Schedule>,
    /// Kind of the storage (`StorageKind`): `AzureBlobStore`, `FileShare`, …
    pub storage: LabelValue,
    /// Checksum of the visible location of the storage, without key and account. A change means that
    /// backups are stored elsewhere from then on.
    pub storage_fingerprint: u32,
    /// Whether the newest backup is restored automatically after a data loss.
    pub auto_restore: bool,
    /// Maximum number of incremental backups between two full ones.
    pub max_incrementals: Option<u32>,
    /// The retention; `None` if backups are kept forever, or by a rule unknown to this version.
    pub retention: Option<Retention>,
    /// Checksum of all visible members of the policy except secrets, known to this version or not.
    pub checksum: u32,
}

/// Policies by name.
pub type Policies = BTreeMap<Name, Policy>;

/// How long a policy keeps backups (`RetentionPolicyType` `Basic`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older backups may be deleted.
    pub duration: Duration,
    /// Number of backups that are kept at any age; `None` if it is invalid.
    pub minimum_backups: Option<u32>,
}

impl Policy {
    /// Checksum of all fields, which changes with the policy. It is the same in every process and in
    /// every version with the same fields.
    pub fn fingerprint(&self) -> u32 {
        let schedule = match &self.schedule {
            None => String::new(),
            Some(Schedule::Frequency(interval)) => format!("f{}", interval.as_nanos()),
            Some(Schedule::Daily(times)) => format!("d{}", joined(times)),
            Some(Schedule::Weekly(days, times)) => format!("w{} {}", joined(days), joined(times)),
        };
        let retention = self.retention.map(|kept| {
            let minimum = kept.minimum_backups.map(|count| count.to_string());
            format!(
                "{} {}",
                kept.duration.as_nanos(),
                minimum.unwrap_or_default()
            )
        });
        let increments = self.max_incrementals.map(|count| count.to_string());
        let parts = [
            schedule,
            self.storage.as_str().to_owned(),
            self.storage_fingerprint.to_string(),
            self.auto_restore.to_string(),
            increments.unwrap_or_default(),
            retention.unwrap_or_default(),
            self.checksum.to_string(),
        ];
        crc32fast::hash(parts.join("\n").as_bytes())
    }
}

fn joined<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(",")
}

/// The level at which a policy or a suspension was set (`BackupPolicyScope`,
/// `BackupSuspensionScope`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigurationScope {
    /// At the application.
    Application,
    /// At the service.
    Service,
    /// At the partition itself.
    Partition,
}

impl ConfigurationScope {
    /// Every scope, from the widest to the narrowest.
    pub const ALL: [Self; 3] = [Self::Application, Self::Service, Self::Partition];

    /// Decodes the value of the REST API; `None` for `Invalid`, which means that nothing is set, and
    /// for a value unknown to this version.
    pub fn from_wire(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }

    /// The value in the REST API and in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::Service => "Service",
            Self::Partition => "Partition",
        }
    }
}

/// An entity that a policy can be enabled for (`BackupEntity`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackupEntity {
    /// Everything in an application.
    Application(Name),
    /// Everything in a service.
    Service(Name),
    /// One partition.
    Partition(PartitionId),
}

/// The backup configuration of one entity (`BackupConfigurationInfo`), set there or inherited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupConfiguration {
    /// The entity.
    pub entity: BackupEntity,
    /// The policy that applies to the entity.
    pub policy: Option<Name>,
    /// The scope at which that policy was set.
    pub policy_inherited_from: Option<ConfigurationScope>,
    /// The scope at which protection was suspended; `None` if it is not suspended.
    pub suspension_inherited_from: Option<ConfigurationScope>,
}

/// The last attempt of a periodic backup, as the replica reported it to the health store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodicAttempt {
    /// Whether it succeeded.
    pub succeeded: bool,
    /// When it ended (`SourceUtcTimestamp`).
    pub ended: DateTime<Utc>,
}

/// The health events of a partition about backups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupHealth {
    /// The last periodic attempt; `None` without protection, during a suspension, and before the first
    /// attempt.
    pub attempt: Option<PeriodicAttempt>,
    /// Whether there are events about backups from an unknown source or with unknown properties, as
    /// from a newer runtime. Also if there is no attempt, but an event that could not be decoded.
    pub unknown_reporter: bool,
    /// When the replica last reported a restore (`SourceUtcTimestamp`), successful or not.
    pub restored_at: Option<DateTime<Utc>>,
    /// Number of health events that could not be decoded.
    pub skipped: usize,
}

/// A backup in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBackup {
    /// The partition, which may have been deleted.
    pub partition: PartitionId,
    /// Id of the backup.
    pub backup_id: Option<Uuid>,
    /// Id of the full backup at the start of its chain.
    pub chain_id: Option<Uuid>,
    /// Full or incremental.
    pub kind: BackupKind,
    /// Time of the snapshot (`CreationTimeUtc`).
    pub created: Option<DateTime<Utc>>,
    /// Epoch of the last record in the backup.
    pub epoch: Option<Epoch>,
    /// Log sequence number of the last record in the backup; `None` if negative. The key-value store
    /// of actor services has no such numbers and reports -1, also in the epoch; its backups are valid
    /// (`KeyValueStoreReplica.cs`).
    pub lsn: Option<u64>,
    /// Whether the backup can be restored: it has no `FailureError`, and its `ValidationResult` is not
    /// a failure.
    pub restorable: bool,
}

/// Contents of a backup (`BackupType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupKind {
    /// All data.
    Full,
    /// The changes since the previous backup of its chain.
    Incremental,
    /// A value unknown to this version.
    Unknown,
}

impl BackupKind {
    /// Decodes the value of the REST API.
    pub fn from_wire(word: &str) -> Self {
        match word {
            "Full" => Self::Full,
            "Incremental" => Self::Incremental,
            _ => Self::Unknown,
        }
    }
}

/// The record of the last restore: `RestoreProgressInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreProgress {
    /// State of the restore.
    pub state: RestoreState,
    /// `TimeStampUtc`; `None` for the sentinel of year 1.
    pub timestamp: Option<DateTime<Utc>>,
}

/// State of the last restore (`RestoreState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreState {
    /// The default value of the enum, which the service should never return.
    Invalid,
    /// The request is queued.
    Accepted,
    /// The primary replica restores the backup.
    RestoreInProgress,
    /// The primary is restored, its secondaries are being built.
    SecondariesInProgress,
    /// The partition is restored.
    Success,
    /// It failed.
    Failure,
    /// It did not end in time.
    Timeout,
    /// A value unknown to this version.
    Unknown,
}

impl RestoreState {
    /// Every state, in the order of the metric contract.
    pub const ALL: [Self; 8] = [
        Self::Invalid,
        Self::Accepted,
        Self::RestoreInProgress,
        Self::SecondariesInProgress,
        Self::Success,
        Self::Failure,
        Self::Timeout,
        Self::Unknown,
    ];

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
            Self::RestoreInProgress => "RestoreInProgress",
            Self::SecondariesInProgress => "SecondariesInProgress",
            Self::Success => "Success",
            Self::Failure => "Failure",
            Self::Timeout => "Timeout",
            Self::Unknown => "Unknown",
        }
    }
}
