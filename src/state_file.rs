//! The state file: last successes, the records seen, and the counters, kept over restarts.
//!
//! Reads and writes one file; the snapshot decides what is remembered. Every entry of the file has
//! a checksum, so a damaged entry is never used and costs no other. A file that cannot be read as
//! a whole is set aside, never deleted, and never keeps the exporter from starting. The file holds
//! names, ids, times and codes; no message and no secret.

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
    /// The remembered clusters, by name.
    pub clusters: BTreeMap<Arc<str>, Snapshot>,
    /// Why the file, or a part of it, could not be used, and what became of it.
    pub damage: Option<(ReadError, Quarantine)>,
}

/// What became of a damaged state file.
#[derive(Debug)]
pub enum Quarantine {
    /// It was renamed to this, or, where a part of it was used, copied.
    Kept(PathBuf),
    /// The undamaged part was used, but the file could not be copied; it will be overwritten.
    NotCopied(io::Error),
}

/// A state file that can be neither read nor set aside; it must not be overwritten.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is a folder, a device, or the like.
    #[error(transparent)]
    NotARegularFile(#[from] NotARegularFile),
    /// It cannot be opened.
    #[error("cannot open it")]
    Open(#[source] io::Error),
    /// It is damaged and cannot be renamed.
    #[error("cannot rename it to {to} ({damage})", to = to.display())]
    Quarantine {
        /// The name that it should get.
        to: PathBuf,
        /// Why it cannot be used.
        damage: ReadError,
        /// Why it cannot be renamed.
        source: io::Error,
    },
}

/// Reads `path`. Without a file, nothing is remembered. A file that cannot be used is renamed to
/// `<path>.damaged-<seconds since 1970>`; one with damaged entries is copied to that name, and its
/// other entries are used.
///
/// # Errors
///
/// When the path is not a regular file, cannot be opened, or cannot be set aside.
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
    // A mounted file cannot be renamed.
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
    // It may grow while it is read.
    Ok(format::read(BufReader::new(file.take(MAX_FILE))))
}

/// Copies a file to a name that is not taken.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut copy = create(to)?;
    let copied = io::copy(&mut source, &mut copy);
    if copied.is_err() {
        // The error of the copy is the one that counts.
        drop(fs::remove_file(to));
    }
    copied.map(drop)
}

/// Writes the state file when its contents have changed.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// Length and checksum of the file's contents.
    written: Option<(u64, u32)>,
    /// Whether it turned out that the file cannot be replaced.
    in_place: bool,
    #[expect(dead_code, reason = "locks as long as it lives")]
    lock: Option<StateFileLock>,
}

impl StateFile {
    /// A state file at `path`; nothing is written yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: None,
            in_place: false,
            lock: None,
        }
    }

    /// The same, locked for as long as it may be written.
    #[must_use]
    pub fn locked(self, lock: StateFileLock) -> Self {
        let lock = Some(lock);
        Self { lock, ..self }
    }

    /// The configured path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `clusters` unless the file holds exactly that already. The file is replaced as a
    /// whole, so that it is either the old one or the new one whenever the process or the machine
    /// dies. Owner, group and permissions stay as they are, and a symbolic link stays a link. A
    /// file that cannot be replaced (a mounted one, a folder without write permission, a foreign
    /// owner) is written in place; then its checksums show an interrupted write.
    ///
    /// # Errors
    ///
    /// When the file cannot be written. Unless it is written in place, the old one is untouched.
    pub fn save(&mut self, clusters: &[Arc<Snapshot>]) -> io::Result<()> {
        // Encoded twice rather than held in memory: it may be 100 MB.
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

/// Whether an error means that this file cannot be replaced but may be writable. The rename over
/// a mount point fails with EBUSY; a foreign owner cannot be set without privileges. On Windows
/// such an error passes: another program has the file open.
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

/// Writes a file beside `path` and puts it in its place by one rename. A failure leaves nothing
/// behind.
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
            // Windows renames closed files only.
            drop(file);
            fs::rename(&temporary, path)
        });
    if replaced.is_err() {
        // The first error is the one that counts.
        drop(fs::remove_file(&temporary));
    }
    replaced?;
    sync_folder(path)
}

/// Writes over the contents of `path`.
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

/// Creates a file that does not exist, for the owner and its group. A symbolic link that somebody
/// put there is not followed.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

/// Length and checksum of everything written to it.
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

/// Makes the rename itself durable, where the folder can be opened and the file system supports
/// it. Windows cannot open a folder and needs no such call.
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
