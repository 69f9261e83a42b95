//! Reasons for which the cluster rejects a request.

/// Reason for which the cluster rejected a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The previous request has not ended.
    InProgress,
    /// A restore has not ended.
    RestoreInProgress,
    /// No such partition.
    NotFound,
    /// No such service.
    NoSuchService,
    /// No such application.
    NoSuchApplication,
    /// No such policy.
    NoSuchPolicy,
    /// No such backup in the storage that applies, or its chain is incomplete.
    NoSuchBackup,
    /// No policy applies.
    NotEnabled,
    /// The partition has no state to back up.
    Stateless,
    /// A storage could not be listed: "Unable to get recovery point details.".
    StorageUnreachable,
    /// A list failed before its first item because a container or folder does not exist: "Index was
    /// out of range" (`GetRestorePointsOperation.cs`).
    NothingToIndex,
    /// A list failed after items of another storage: code 2148734208.
    StorageFailed,
}
