//! Reads the files of a web configuration and detects changes of them.
//!
//! The version of a file is recorded before it is read, so that a change in between is detected. It
//! contains a hash of the contents only. Only regular files of limited size are read: reading
//! anything else could block or never end.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};

use super::super::values;
use crate::settings::quoted;
use crate::{file_mode, small_file};

/// Resolution of file times: two changes within this time may have the same times. That of FAT is two
/// seconds.
const TIME_RESOLUTION: Duration = Duration::from_secs(2);

/// The versions of the files at the time when they were read.
#[derive(Debug)]
pub struct FileVersions {
    files: Vec<ReadFile>,
    /// When reading started.
    at: SystemTime,
}

impl FileVersions {
    /// Whether no file has certainly or possibly changed.
    pub fn are_current(&self) -> bool {
        let is_current = |file: &ReadFile| {
            let detects_changes = file
                .version
                .is_none_or(|version| version.is_older_than(self.at));
            detects_changes && version(&file.path) == file.version
        };
        self.files.iter().all(is_current)
    }

    /// Whether the same contents were read.
    pub fn has_same_contents(&self, other: &Self) -> bool {
        let contents = self.files.iter().map(ReadFile::contents);
        contents.eq(other.files.iter().map(ReadFile::contents))
    }
}

/// Reads files relative to the directory of the configuration, and records their versions.
#[derive(Debug)]
pub(super) struct FileReader {
    folder: PathBuf,
    files: Vec<ReadFile>,
}

#[derive(Debug)]
struct ReadFile {
    path: PathBuf,
    /// `None`: the file did not exist.
    version: Option<FileVersion>,
    /// Hash of the contents, or of the error.
    hash: Option<[u8; 32]>,
}

impl FileReader {
    /// For the configuration at `path`.
    pub(super) fn new(path: &Path) -> Self {
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        Self {
            folder: folder.to_owned(),
            files: Vec::new(),
        }
    }

    /// Fails if there is no regular file at `path`.
    pub(super) fn check_regular(&mut self, path: &Path) -> Result<(), String> {
        let metadata = fs::metadata(path);
        let version = metadata.as_ref().ok().map(FileVersion::of);
        self.files.push(ReadFile {
            path: path.to_owned(),
            version,
            hash: None,
        });
        if metadata.map_err(|error| unreadable(&error))?.is_file() {
            return Ok(());
        }
        Err("not a regular file; write the path of a file".to_owned())
    }

    /// The contents of the file that the configuration names; `None` if the name is empty.
    pub(super) fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        if name.is_empty() {
            return Ok(None);
        }
        let path = self.folder.join(values::path(name)?);
        let contents = self.check_regular(&path).and_then(|()| bytes(&path));
        self.record(&contents.as_ref().map_err(Clone::clone));
        contents
            .map(Some)
            .map_err(|message| format!("{}: {message}", quoted(&path.display().to_string())))
    }

    /// Records the contents of the last file, or the error.
    pub(super) fn record(&mut self, contents: &Result<impl AsRef<[u8]>, String>) {
        let bytes = match contents {
            Ok(contents) => contents.as_ref(),
            Err(message) => message.as_bytes(),
        };
        if let Some(last) = self.files.last_mut() {
            last.hash = digest(&SHA256, bytes).as_ref().try_into().ok();
        }
    }

    /// A warning if every local user can read the last file.
    pub(super) fn exposure(&self) -> Option<String> {
        file_mode::exposure(&self.files.last()?.path)
    }

    /// A warning if every local user can read the configuration, which is the first file.
    pub(super) fn own_exposure(&self) -> Option<String> {
        file_mode::exposure(&self.files.first()?.path)
    }

    /// The versions of all files, where reading started at `at`.
    pub(super) fn into_versions(self, at: SystemTime) -> FileVersions {
        let files = self.files;
        FileVersions { files, at }
    }
}

impl ReadFile {
    fn contents(&self) -> (&Path, Option<[u8; 32]>) {
        (&self.path, self.hash)
    }
}

/// Metadata that changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    length: u64,
    modified: Option<SystemTime>,
    /// Last change of contents or metadata, on Unix.
    changed: Option<SystemTime>,
    identity: Identity,
}

impl FileVersion {
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            changed: changed(metadata),
            identity: identity(metadata),
        }
    }

    /// Whether a change after `at` would have other times. Times in the future were set explicitly.
    fn is_older_than(&self, at: SystemTime) -> bool {
        let times = self.modified.into_iter().chain(self.changed);
        times.into_iter().all(|time| {
            let distance = at.duration_since(time);
            distance.unwrap_or_else(|error| error.duration()) >= TIME_RESOLUTION
        })
    }
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt as _;
    let seconds = Duration::from_secs(u64::try_from(metadata.ctime()).ok()?);
    let more = Duration::from_nanos(u64::try_from(metadata.ctime_nsec()).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(seconds + more)
}

#[cfg(not(unix))]
fn changed(_: &Metadata) -> Option<SystemTime> {
    None
}

/// Device and inode.
#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

/// Creation time, which differs for a replaced file.
#[cfg(not(unix))]
type Identity = Option<SystemTime>;

#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> Identity {
    metadata.created().ok()
}

/// `None`: the file does not exist.
fn version(path: &Path) -> Option<FileVersion> {
    fs::metadata(path).ok().as_ref().map(FileVersion::of)
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = small_file::read(path).map_err(|error| unreadable(&error))?;
    bytes.ok_or_else(|| "the file is larger than 1 MiB; write the path of a PEM file".to_owned())
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot read the file: {error}; check the path and the permissions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn recent_versions_are_not_current_and_contents_decide() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let now = SystemTime::from(clock::now());
        let read = |text: &str, at: SystemTime| {
            fs::write(&path, text).unwrap();
            let mut files = FileReader::new(&folder.path().join("web.yml"));
            files.read("a").unwrap();
            files.into_versions(at)
        };
        let first = read("1", now);
        assert!(
            !first.are_current(),
            "the next change may have the same times"
        );
        assert!(read("1", now).has_same_contents(&first));
        assert!(!read("2", now).has_same_contents(&first));
        assert!(
            read("1", now + TIME_RESOLUTION * 10).are_current(),
            "long ago"
        );
        fs::remove_file(&path).unwrap();
        let mut files = FileReader::new(&path);
        assert!(files.read("a").is_err());
        let gone = files.into_versions(now);
        assert!(gone.are_current() && !gone.has_same_contents(&first));
    }

    #[test]
    fn every_kind_of_change_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "1").unwrap();
        let read = || {
            let mut files = FileReader::new(&folder.path().join("web.yml"));
            drop(files.read("a"));
            files.into_versions(SystemTime::from(clock::now()) + TIME_RESOLUTION * 10)
        };
        let versions = read();
        assert!(versions.are_current());
        fs::write(&path, "12").unwrap();
        assert!(!versions.are_current(), "longer");
        let versions = read();
        let other = folder.path().join("b");
        fs::write(&other, "34").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(!versions.are_current(), "replaced");
        let versions = read();
        fs::remove_file(&path).unwrap();
        assert!(!versions.are_current(), "removed");
        let versions = read();
        assert!(versions.are_current());
        fs::write(&path, "34").unwrap();
        assert!(!versions.are_current(), "created");
    }

    #[test]
    fn only_regular_files_are_opened() {
        let error = FileReader::new(Path::new("/x/web.yml"))
            .read("/dev")
            .unwrap_err();
        assert_eq!(error, "\"/dev\": this is no regular file; name a file");
    }
}
