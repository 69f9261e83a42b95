//! Behaviours of the backup service that differ between runtimes, or might.
//!
//! The default is runtime 6.4, the last one with published source; every field names the source
//! file. Unless stated otherwise, no release note mentions a change, so a monitor must be correct
//! with each field on and off.

/// Behaviour of the backup service; the default is runtime 6.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each behaviour is independent of the others"
)]
pub struct Behaviour {
    /// A timer mixes the days of the last recovery point and of now when the former lies in the
    /// future: a run that ends just before midnight UTC stops the timer, doubles the run or takes
    /// the next one a day early (`BackupTimer.cs`, `ArmTimer`).
    pub midnight_stop: bool,
    /// The first backup after a restart of the schedule comes one whole interval, or at the next
    /// run time, later (`BackupRestoreManager.cs`, `ArmTimer(false)`); otherwise at once.
    pub waits_after_restart: bool,
    /// The store of an actor service drops errors that follow the snapshot, so a failed upload
    /// ends as a success (`ReplicatedStore.BackupAsyncOperation.cpp`).
    pub actors_drop_upload_errors: bool,
    /// A backup that is cancelled while its snapshot is taken reports Ok, because only faulted
    /// tasks are failures (`BackupRestoreManager.cs`, `PostBackupContinuationTask`).
    pub cancelled_reports_ok: bool,
    /// A new partition asks for its policy on a path that knows suspensions of partitions only
    /// (`BackupRestoreServiceImpl.cs`).
    pub newcomers_ignore_suspension: bool,
    /// A partition with a record of a restore restores that backup again at every loss of data
    /// (`BackupRestoreServiceImpl.cs`; fixed in 9.1 CU6 and 10.0).
    pub repeats_old_restores: bool,
    /// After a failover of the backup service no retention runs until a policy sets it anew
    /// (`RetentionManager.cs`).
    pub retention_stops_after_failover: bool,
    /// `CleanBackup` of an entity that inherits another policy compares storages the wrong way
    /// round (`RetentionManager.cs`).
    pub inverted_clean_up: bool,
    /// Policies with the same connection string in plain text count as one storage, whatever
    /// their containers (`AzureBlobBackupStorageInfo.cs`).
    pub compares_storages_by_account: bool,
    /// A list fails where the container, or the folder in a share, does not exist yet
    /// (`AzureBlobStoreHelper.cs`, `FileShareRecoveryPointManager.cs`); otherwise it is empty.
    pub missing_container_fails_lists: bool,
    /// A policy does not reach below an application or service whose name needs percent-encoding
    /// the way it should (`UtilityHelper.cs`).
    pub mangles_encoded_names: bool,
    /// The configuration of an application or service is an error while something below it is
    /// suspended that has no policy (`GetBackupMappingInfoOperation.cs`).
    pub null_reference: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            midnight_stop: true,
            waits_after_restart: true,
            actors_drop_upload_errors: true,
            cancelled_reports_ok: true,
            newcomers_ignore_suspension: true,
            repeats_old_restores: true,
            retention_stops_after_failover: true,
            inverted_clean_up: true,
            compares_storages_by_account: true,
            missing_container_fails_lists: true,
            mangles_encoded_names: true,
            null_reference: true,
        }
    }
}

impl Behaviour {
    /// A runtime without any of the faults of 6.4. Schedules still wait after a restart.
    pub fn without_faults() -> Self {
        Self {
            midnight_stop: false,
            waits_after_restart: true,
            actors_drop_upload_errors: false,
            cancelled_reports_ok: false,
            newcomers_ignore_suspension: false,
            repeats_old_restores: false,
            retention_stops_after_failover: false,
            inverted_clean_up: false,
            compares_storages_by_account: false,
            missing_container_fails_lists: false,
            mangles_encoded_names: false,
            null_reference: false,
        }
    }
}
