//! Response formats in which runtime versions differ.

/// Spellings in which runtimes differ, or might; the default is what runtime 6.4 writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Write `LsnOfLastBackupRecord` as a string, as the published specification has it.
    pub lsn_as_string: bool,
    /// Keys of `EpochOfLastBackupRecord`.
    pub epoch_spelling: EpochSpelling,
    /// How the last page of a list says that it is the last.
    pub token_end: TokenEnd,
    /// The answer for a partition no backup was ever requested for.
    pub never: Never,
    /// How an unset `TimeStampUtc` is printed.
    pub sentinel: Sentinel,
    /// Name of the epoch in partitions.
    pub partition_epoch: PartitionEpoch,
    /// Add properties that this contract does not know to every kind of object.
    pub newer_fields: bool,
    /// Whether the backup service understands `~` in application and service ids.
    pub brs_accepts_tilde: bool,
    /// The most items of one page of a list; `None` puts everything on one page.
    pub page_size: Option<usize>,
    /// How policies print their secrets.
    pub secrets: Secrets,
    /// What an application without a policy of its own answers.
    pub unconfigured_application: UnconfiguredApplication,
    /// How applications are told apart in the list of what applies to them.
    pub prefixes: Prefixes,
    /// What `MaxResults` does to lists of backups and of what applies.
    pub pages: Pages,
}

/// How every secret begins that a policy prints.
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
    /// Something that begins with [`CANARY`]: whoever reads policies must not let it out.
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

/// How the names of applications are compared when what applies below them is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefixes {
    /// By how they begin: the answer for `App1` also shows what was configured in `App10`, as 6.4
    /// does (`BackupMappingStore.cs`, `SuspendStore.cs`).
    #[default]
    Clash,
    /// As a whole.
    Apart,
}

/// Pages of lists of backups and of what applies, where the client asks for some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// Those of 6.4. What applies (`GetBackupMappingInfoOperation.cs`): the page after a token
    /// that ends in `S` has lost the suspended entities and is 404. Backups
    /// (`GetRestorePointsOperation.cs`): a storage with nothing to list fails the page, and the
    /// latest backup of a partition is that of each page.
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

/// `GetBackupProgress` of a partition no backup was ever requested for.
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
