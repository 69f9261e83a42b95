//! The lock that prevents two exporters from writing the same state file.
//!
//! The state file itself is replaced on every write, so a separate file is locked. The lock file
//! remains when the exporter exits: the operating system releases the lock, also after a crash, and
//! if the file were removed, a third exporter could lock a new one of the same name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::location::{self, beside};

/// A locked state file; unlocked when dropped.
#[derive(Debug)]
pub struct StateFileLock {
    _file: File,
}

/// Why a state file could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has locked it.
    #[error(
        "the state file {path} is in use by another exporter (it holds the lock on {lock}): give each exporter a state_file of its own",
        path = path.display(),
        lock = lock.display()
    )]
    InUse {
        /// The state file.
        path: PathBuf,
        /// The locked file.
        lock: PathBuf,
    },
    /// The file system has no locks, or the lock file cannot be opened.
    #[error("cannot lock {lock}", lock = lock.display())]
    Unsupported {
        /// The lock file.
        lock: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl StateFileLock {
    /// Locks the state file at `path`.
    ///
    /// # Errors
    ///
    /// When another process has locked it, or when it cannot be locked.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let lock = lock_path(path);
        let locked = open(&lock).map_err(TryLockError::Error);
        let locked = locked.and_then(|file| file.try_lock().map(|()| file));
        match locked {
            Ok(file) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                let path = path.to_owned();
                Err(LockError::InUse { path, lock })
            }
            Err(TryLockError::Error(source)) => Err(LockError::Unsupported { lock, source }),
        }
    }
}

/// Whether two paths lead to the same lock file, which must exist.
pub fn is_same_lock(a: &Path, b: &Path) -> bool {
    let lock = |path| fs::canonicalize(lock_path(path)).ok();
    lock(a).is_some_and(|lock_of_a| lock(b) == Some(lock_of_a))
}

fn lock_path(path: &Path) -> PathBuf {
    let target = location::resolve(path).unwrap_or_else(|_| path.to_owned());
    beside(&target, "lock")
}

/// Opens the lock file. A lock file of another user is opened read-only.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}
