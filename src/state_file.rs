//! The state file keeps successes, progress histories and counters over restarts.
//!
//! Every entry of the file has a checksum, so a damaged entry is not used and does not affect others.
//! A file that cannot be read is renamed, never deleted, and does not prevent the start. The file
//! contains names, ids, times and codes, but no messages and no secrets.

mod format;
mod location;
mod lock;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};

pub use self::format::ReadError;
use self::format::{Contents, MAX_FILE};
use self::location::beside;
pub use self::location::{LocationError, NotARegularFile, check};
pub use self::lock::{LockError, StateFileLock, is_same_lock};
use crate::snapshot::Snapshot;

/// The contents of a state file.
#[derive(Debug, Default)]
pub struct LoadedState {
    /// The clusters by name.
    pub clusters: BTreeMap<Arc<str>, Snapshot>,
    /// Why the file, or a part of it, could not be used, and where it is kept.
    pub damage: Option<(ReadError, Quarantine)>,
}

/// The copy of a damaged state file.
#[derive(Debug)]
pub enum Quarantine {
    /// The file was renamed to this path, or copied if a part of it is used.
    Kept(PathBuf),
    /// The undamaged part is used, but the file could not be copied and will be overwritten.
    NotCopied(io::Error),
}

/// A state file that can be neither read nor renamed. It must not be overwritten.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The path is a directory, a device, or the like.
    #[error(transparent)]
    NotARegularFile(#[from] NotARegularFile),
    /// The file cannot be opened.
    #[error("cannot open it")]
    Open(#[source] io::Error),
    /// The file is damaged and cannot be renamed.
    #[error("cannot rename it to {to} ({damage})", to = to.display())]
    Quarantine {
        /// The new path.
        to: PathBuf,
        /// Why the file cannot be used.
        damage: ReadError,
        /// Why the file cannot be renamed.
        source: io::Error,
    },
}

/// Reads the state file at `path`; it is empty if the file does not exist. A file that cannot be used
/// is renamed to `<path>.damaged-<seconds since 1970>`; one with damaged entries is copied to that
/// name, and its other entries are used.
///
/// # Errors
///
/// If the path is not a regular file, or if the file cannot be opened or renamed.
pub fn load(path: &Path, now: DateTime<Utc>) -> Result<LoadedState, LoadError> {
    let path = &location::resolve(path).map_err(LoadError::Open)?;
    let Some(metadata) = location::regular_file(path)? else {
        return Ok(LoadedState::default());
    };
    let to = beside(path, &format!("damaged-{}", now.timestamp()));
    let damage = match read(path, metadata.len())? {
        Ok((clusters, None)) => {
            let damage = None;
            return Ok(LoadedState { clusters, damage });
        }
        Ok((clusters, Some(damage))) => {
            let set_aside = match copy(path, &to) {
                Ok(()) => Quarantine::Kept(to),
                Err(error) => Quarantine::NotCopied(error),
            };
            let damage = Some((damage, set_aside));
            return Ok(LoadedState { clusters, damage });
        }
        Err(damage) => damage,
    };
    // A mounted file can be copied but not renamed.
    let renamed = fs::rename(path, &to).or_else(|error| match damage {
        ReadError::TooLarge(_) => Err(error),
        _ => copy(path, &to),
    });
    match renamed {
        Ok(()) => Ok(LoadedState {
            clusters: BTreeMap::new(),
            damage: Some((damage, Quarantine::Kept(to))),
        }),
        Err(source) => Err(LoadError::Quarantine { to, damage, source }),
    }
}

fn read(path: &Path, length: u64) -> Result<Result<Contents, ReadError>, LoadError> {
    let file = File::open(path).map_err(LoadError::Open)?;
    if length > MAX_FILE {
        return Ok(Err(ReadError::TooLarge(length)));
    }
    // The file may grow while it is read.
    Ok(format::read(BufReader::new(file.take(MAX_FILE))))
}

/// Copies a file to a path that does not exist.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut copy = create(to)?;
    let copied = io::copy(&mut source, &mut copy);
    if copied.is_err() {
        // Report the error of the copy, not that of the cleanup.
        drop(fs::remove_file(to));
    }
    copied.map(drop)
}

/// Writes the state file when its contents have changed.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// Length and checksum of the contents that were last written.
    written: Option<(u64, u32)>,
    /// Whether an earlier write showed that the file cannot be replaced.
    in_place: bool,
    #[expect(dead_code, reason = "holds the lock until it is dropped")]
    lock: Option<StateFileLock>,
}

impl StateFile {
    /// A state file at `path`. Writes nothing.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: None,
            in_place: false,
            lock: None,
        }
    }

    /// Holds `lock` as long as the file may be written.
    #[must_use]
    pub fn locked(self, lock: StateFileLock) -> Self {
        let lock = Some(lock);
        Self { lock, ..self }
    }

    /// The configured path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `clusters` unless they are unchanged. The file is replaced atomically, so that a crash
    /// leaves either the old or the new one. Owner, group and permissions are preserved, and a
    /// symbolic link remains a link. A file that cannot be replaced (because it is mounted, because
    /// the directory is read-only, or because of its owner) is written in place; its checksums reveal
    /// an interrupted write.
    ///
    /// # Errors
    ///
    /// If the file cannot be written. Unless it is written in place, the old one remains.
    pub fn save(&mut self, clusters: &[Arc<Snapshot>]) -> io::Result<()> {
        // Encoded twice instead of buffered: the contents may have 100 MB.
        let mut digest = Digest::default();
        format::write(clusters, &mut digest)?;
        let (length, checksum) = (digest.length, digest.checksum.finalize());
        if self.written == Some((length, checksum)) {
            return Ok(());
        }
        if length > MAX_FILE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it would have {length} bytes, the limit is {MAX_FILE}"),
            ));
        }
        let path = location::resolve(&self.path)?;
        let existing = location::regular_file(&path).map_err(io::Error::other)?;
        let write = |file: &mut File| format::write(clusters, file);
        self.written = None;
        match (existing, self.in_place) {
            (Some(_), true) => overwrite(&path, length, write)?,
            (Some(existing), false) => match replace(&path, Some(&existing), write) {
                Err(error) if forbids_replacing(&error) => {
                    overwrite(&path, length, write)?;
                    self.in_place = true;
                }
                replaced => replaced?,
            },
            (None, _) => replace(&path, None, write)?,
        }
        self.written = Some((length, checksum));
        Ok(())
    }
}

/// Whether an error means that a file cannot be replaced but may be writable. Renaming over a mount
/// point fails with EBUSY, and setting the owner requires privileges. On Windows such an error is
/// temporary: another program has the file open.
fn forbids_replacing(error: &io::Error) -> bool {
    let kinds = matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::ResourceBusy
            | io::ErrorKind::CrossesDevices
    );
    cfg!(unix) && kinds
}

/// Writes a temporary file next to `path` and renames it. On failure the temporary file is removed.
fn replace(
    path: &Path,
    existing: Option<&fs::Metadata>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = beside(path, "tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create(&temporary)?;
    let replaced = existing
        .map_or(Ok(()), |existing| location::take_over(existing, &file))
        .and_then(|()| write(&mut file))
        .and_then(|()| file.sync_all())
        .and_then(|()| {
            // Windows can rename closed files only.
            drop(file);
            fs::rename(&temporary, path)
        });
    if replaced.is_err() {
        // Report the first error, not that of the cleanup.
        drop(fs::remove_file(&temporary));
    }
    replaced?;
    sync_folder(path)
}

/// Overwrites the file at `path`.
fn overwrite(
    path: &Path,
    length: u64,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    write(&mut file)?;
    file.set_len(length)?;
    file.sync_all()
}

/// Creates a new file that the owner can write and the group can read. Does not follow a symbolic
/// link at that path.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

/// A writer that computes length and checksum.
#[derive(Debug, Default)]
struct Digest {
    length: u64,
    checksum: crc32fast::Hasher,
}

impl Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len() as u64;
        self.checksum.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a rename durable, if the directory can be opened and the file system supports it. Windows
/// cannot open a directory and does not need this.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    let synced = File::open(location::folder(path)).and_then(|folder| folder.sync_all());
    match synced {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(test)]
mod tests;
