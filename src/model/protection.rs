//! What protects a partition: policies, schedules, where they apply, what they left behind.
//!
//! Values only, as everywhere in the model. Secrets of a storage never get here: of a storage
//! only its kind is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::schedule::Schedule;
use super::{Epoch, Name, PartitionId};

/// A word of the cluster fit to be a label value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelValue(Arc<str>);

impl LabelValue {
    /// Longest word taken as it is, in bytes; the longest failure code known has 55.
    const MAX_LENGTH: usize = 80;

    /// Anything but ASCII letters, digits and `_`, or more than 80 of them, is `other`.
    pub fn new(text: &str) -> Self {
        let fits = !text.is_empty()
            && text.len() <= Self::MAX_LENGTH
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if fits {
            Self(Arc::from(text))
        } else {
            Self::other()
        }
    }

    /// The word that stands for all that do not fit: `other`.
    pub fn other() -> Self {
        Self(Arc::from("other"))
    }

    /// The label value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A backup policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, unique in the cluster.
    pub name: Name,
    /// When backups are taken; `None` for a kind of schedule that this version does not know.
    pub schedule: Option<Schedule>,
    /// Kind of the storage (`StorageKind`): `AzureBlobStore`, `FileShare`, …
    pub storage: LabelValue,
    /// Checksum over where that storage is, as far as the cluster shows it (no key, no account):
    /// another one means that backups go elsewhere from now on.
    pub storage_fingerprint: u32,
    /// Whether the newest backup is restored by itself after a data loss.
    pub auto_restore: bool,
    /// Most incremental backups between two full ones.
    pub max_incrementals: Option<u32>,
    /// How long backups are kept; `None` where they are kept for ever, or by a rule that this
    /// version does not know.
    pub retention: Option<Retention>,
    /// Checksum over all that the cluster shows of it except secrets, also over what this version
    /// does not know.
    pub checksum: u32,
}

/// Policies by name.
pub type Policies = BTreeMap<Name, Policy>;

/// How long a policy keeps backups (`RetentionPolicyType` `Basic`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// What is older may be deleted.
    pub duration: Duration,
    /// So many backups are kept however old they are; `None` for a number that cannot be.
    pub minimum_backups: Option<u32>,
}

impl Policy {
    /// A checksum over all that is known of it and [`Self::checksum`]: another one means that it was
    /// changed. It is the same in every process and version that knows the same of a policy.
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

/// Where a policy or a suspension was set.
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
    /// Every level, from the top down.
    pub const ALL: [Self; 3] = [Self::Application, Self::Service, Self::Partition];

    /// Takes the word of the wire; `None` for `Invalid`, which means that there is none, and for a
    /// word that this version does not know.
    pub fn from_wire(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }

    /// The word used on the wire and in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::Service => "Service",
            Self::Partition => "Partition",
        }
    }
}

/// Something that can be protected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackupEntity {
    /// Everything in an application.
    Application(Name),
    /// Everything in a service.
    Service(Name),
    /// One partition.
    Partition(PartitionId),
}

/// One line of a backup configuration: what was set at an entity, or came down to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupConfiguration {
    /// What it is about.
    pub entity: BackupEntity,
    /// The policy that applies to the entity.
    pub policy: Option<Name>,
    /// Where that policy was set.
    pub policy_inherited_from: Option<ConfigurationScope>,
    /// Where protection was suspended, if it is suspended here.
    pub suspension_inherited_from: Option<ConfigurationScope>,
}

/// The last attempt of a periodic backup, as the replica reported it to the health store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodicAttempt {
    /// Whether it ended well.
    pub succeeded: bool,
    /// When it ended (`SourceUtcTimestamp`).
    pub ended: DateTime<Utc>,
}

/// What the health of a partition says of its backups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupHealth {
    /// The last periodic attempt; `None` without protection, while suspended, and before the
    /// first attempt.
    pub attempt: Option<PeriodicAttempt>,
    /// Whether somebody else reports on backups, or the report of the replica is not understood: a
    /// runtime that this version does not know. Also when there is no attempt, but an event that
    /// could not be decoded and may be one.
    pub unknown_reporter: bool,
    /// When the replica last reported a restore (`SourceUtcTimestamp`), successful or not.
    pub restored_at: Option<DateTime<Utc>>,
    /// Number of health events that could not be decoded.
    pub skipped: usize,
}

/// A backup in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBackup {
    /// Whose it is; that partition may be gone.
    pub partition: PartitionId,
    /// Its id.
    pub backup_id: Option<Uuid>,
    /// Id of the full backup that its chain starts with.
    pub chain_id: Option<Uuid>,
    /// Whether it is one of all data.
    pub kind: BackupKind,
    /// Moment of the snapshot (`CreationTimeUtc`).
    pub created: Option<DateTime<Utc>>,
    /// Epoch of the last record in it; its parts are `None` as [`Self::lsn`] is.
    pub epoch: Option<Epoch>,
    /// Log sequence number of the last record in it; `None` when negative. The key-value store of
    /// actor services has no such numbers and writes -1 for all of them; its backups are valid
    /// (`KeyValueStoreReplica.cs`).
    pub lsn: Option<u64>,
    /// Whether it can be restored: `false` when the service reports a failure for it
    /// (`FailureError`), or that its validation failed (`ValidationResult`).
    pub restorable: bool,
}

/// What a backup holds (`BackupType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupKind {
    /// All data.
    Full,
    /// What changed since the one before it in its chain.
    Incremental,
    /// A word this version does not know.
    Unknown,
}

impl BackupKind {
    /// Takes the word of the wire; one this version does not know is `Unknown`.
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
    /// Where it stands.
    pub state: RestoreState,
    /// `TimeStampUtc`; `None` for the year-1 sentinel.
    pub timestamp: Option<DateTime<Utc>>,
}

/// State of the last restore (`RestoreState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreState {
    /// The zero value of the service; should never be seen.
    Invalid,
    /// The request is queued.
    Accepted,
    /// The primary replica restores.
    RestoreInProgress,
    /// The primary is restored, its secondaries are not yet.
    SecondariesInProgress,
    /// The partition is restored.
    Success,
    /// It failed.
    Failure,
    /// It did not end in time.
    Timeout,
    /// A word this version does not know.
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
            Self::RestoreInProgress => "RestoreInProgress",
            Self::SecondariesInProgress => "SecondariesInProgress",
            Self::Success => "Success",
            Self::Failure => "Failure",
            Self::Timeout => "Timeout",
            Self::Unknown => "Unknown",
        }
    }
}
