//! Response formats in which runtime versions differ.

/// Response formats in which runtime versions differ, or might; the default is runtime 6.4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Write `LsnOfLastBackupRecord` as a string, as the published specification has it.
    pub lsn_as_string: bool,
    /// Keys of `EpochOfLastBackupRecord`.
    pub epoch_spelling: EpochSpelling,
    /// Continuation token of the last page of a list.
    pub token_end: TokenEnd,
    /// Response for a partition for which no backup was ever requested.
    pub never: Never,
    /// Format of an unset `TimeStampUtc`.
    pub sentinel: Sentinel,
    /// Property name of the epoch in partitions.
    pub partition_epoch: PartitionEpoch,
    /// Adds unknown properties to every kind of object.
    pub newer_fields: bool,
    /// Whether the backup service understands `~` in application and service ids.
    pub brs_accepts_tilde: bool,
    /// Maximum number of items per page; `None` returns every list on one page.
    pub page_size: Option<usize>,
    /// Format of secrets in policies.
    pub secrets: Secrets,
    /// Response for an application without a policy of its own.
    pub unconfigured_application: UnconfiguredApplication,
    /// How application names are compared in lists of backup configurations.
    pub prefixes: Prefixes,
    /// Effect of `MaxResults` on backup lists and lists of backup configurations.
    pub pages: Pages,
}

/// Prefix of every secret in policies.
pub const CANARY: &str = "canary-secret-that-must-not-sing";

/// Keys of the epoch in a backup record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EpochSpelling {
    /// `DataLossVersion`, `ConfigurationVersion`: since 6.4.
    #[default]
    Version,
    /// `DataLossNumber`, `ConfigurationNumber`: 6.2, 6.3, and the documentation.
    Number,
}

/// Connection strings and passwords in a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secrets {
    /// `****`.
    #[default]
    Stars,
    /// A text that begins with [`CANARY`]; clients must not disclose it.
    Canaries,
}

/// `GetBackupConfigurationInfo` of an application that has no policy of its own while services
/// of it have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnconfiguredApplication {
    /// The list of those services, as 6.4 answers (`GetBackupMappingInfoOperation.cs`).
    #[default]
    Overrides,
    /// 404. No source shows it.
    NotFound,
}

/// Comparison of application names when the configurations below an application are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefixes {
    /// By prefix: the response for `App1` includes configurations of `App10`, as in 6.4
    /// (`BackupMappingStore.cs`, `SuspendStore.cs`).
    #[default]
    Clash,
    /// By the complete name.
    Apart,
}

/// Paging of backup lists and lists of backup configurations with `MaxResults`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// As in 6.4. Configurations (`GetBackupMappingInfoOperation.cs`): the page after a token that
    /// ends in `S` lacks the suspended entities and is 404. Backups
    /// (`GetRestorePointsOperation.cs`): an empty storage fails the page, and the latest backup of
    /// a partition is determined per page.
    #[default]
    AsIn64,
    /// Every item once.
    Complete,
}

/// `ContinuationToken` of the last page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenEnd {
    /// The empty string on native routes, `null` from the backup service.
    #[default]
    ByRoute,
    /// The empty string everywhere.
    Empty,
    /// `null` everywhere.
    Null,
    /// No such key.
    Absent,
}

/// `GetBackupProgress` of a partition for which no backup was ever requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Never {
    /// 200 with the four characters `null`.
    #[default]
    Null,
    /// 200 without a body.
    EmptyBody,
    /// 204.
    NoContent,
}

/// Time zone of the node that prints an unset time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sentinel {
    /// `0001-01-01T00:00:00Z`.
    #[default]
    Utc,
    /// `0001-01-01T08:00:00Z`: a node eight hours west of UTC.
    WestOfUtc,
}

/// Name of the epoch of a partition in `GetPartitions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartitionEpoch {
    /// `PrimaryEpoch` from api-version 6.4 on, `CurrentConfigurationEpoch` below.
    #[default]
    ByVersion,
    /// Always `PrimaryEpoch`.
    Primary,
    /// Always `CurrentConfigurationEpoch`.
    CurrentConfiguration,
}
