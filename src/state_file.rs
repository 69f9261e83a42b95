//! What outlives a restart: the last successes, what was seen of each record, the counters.
//!
//! Reads and writes one file; what is remembered is decided by the snapshot. A file is always
//! whole: it is written beside the old one, flushed, and put in its place by one rename. A file
//! that cannot be understood is set aside, never deleted, and never keeps the exporter from
//! starting. It holds names, ids, times and codes; no message and no secret.

mod format;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::snapshot::Snapshot;

/// What a state file gave.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The clusters it remembers, by name.
    pub clusters: BTreeMap<Arc<str>, Snapshot>,
    /// Where the file was set aside to and why, when it could not be understood.
    pub set_aside: Option<(PathBuf, Damage)>,
}

/// Why a state file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The file is there but cannot be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// It is no JSON of the expected shape: cut short, or not written by this program.
    #[error("it is damaged")]
    Decode(#[source] serde_json::Error),
    /// It was written by a version with another format.
    #[error("it has format version {0}, this program writes version {ours}", ours = format::VERSION)]
    Version(u64),
}

/// A damaged state file that could not be set aside either; it must not be written over.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the state file aside as {to} ({damage})", to = to.display())]
pub struct SetAsideError {
    to: PathBuf,
    damage: Damage,
    source: io::Error,
}

/// Reads `path`. A file that does not exist remembers nothing; one that cannot be understood is
/// renamed to `<path>.damaged-<seconds since 1970>` and remembers nothing.
///
/// # Errors
///
/// Only when a damaged file cannot be renamed, or is none but a folder.
pub fn load(path: &Path, now: DateTime<Utc>) -> Result<Loaded, SetAsideError> {
    let damage = match read(path) {
        Ok(clusters) => {
            let set_aside = None;
            return Ok(Loaded {
                clusters,
                set_aside,
            });
        }
        Err(damage) => damage,
    };
    let to = beside(path, &format!("damaged-{}", now.timestamp()));
    // A folder named by mistake holds something else, which must stay where it is.
    let renamed = if path.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        fs::rename(path, &to)
    };
    match renamed {
        Ok(()) => Ok(Loaded {
            clusters: BTreeMap::new(),
            set_aside: Some((to, damage)),
        }),
        Err(source) => Err(SetAsideError { to, damage, source }),
    }
}

fn read(path: &Path) -> Result<BTreeMap<Arc<str>, Snapshot>, Damage> {
    match fs::read(path) {
        Ok(bytes) => format::decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(Damage::Read(error)),
    }
}

/// Writes the state file when what it should hold has changed.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// Length and checksum of what the file holds.
    written: Option<(usize, u32)>,
}

impl StateFile {
    /// A state file at `path`; nothing is written yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `clusters` unless the file holds exactly that already. Whenever the process or the
    /// machine dies, the file is either the old one or the new one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the old one is then untouched.
    pub fn save(&mut self, clusters: &[Arc<Snapshot>]) -> io::Result<()> {
        // Encoded twice rather than held in memory: it may be 100 MB.
        let mut digest = Digest::default();
        format::write(clusters, &mut digest)?;
        let digest = (digest.length, digest.checksum.finalize());
        if self.written == Some(digest) {
            return Ok(());
        }
        let temporary = beside(&self.path, "tmp");
        let mut file = File::create(&temporary)?;
        format::write(clusters, &mut file)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, &self.path)?;
        sync_folder(&self.path)?;
        self.written = Some(digest);
        Ok(())
    }
}

/// Length and checksum of what is written to it.
#[derive(Debug, Default)]
struct Digest {
    length: usize,
    checksum: crc32fast::Hasher,
}

impl Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len();
        self.checksum.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the rename itself durable. Windows cannot open a folder and needs no such call.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
