//! The files that a web configuration is made of, and by what a change of one is noticed.
//!
//! A stamp is taken before its file is read, so that what is changed in between is read again. It
//! holds no contents. Only regular files of a bounded size are read: anything else could keep
//! the reader waiting or never end.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::fault::quoted;

/// Largest certificate, bundle or key that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Every file that was looked at, as it was then.
#[derive(Debug)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

impl Stamps {
    /// Whether each of the files is as it was.
    pub fn still_hold(&self) -> bool {
        self.0.iter().all(|(path, was)| stamp(path) == *was)
    }
}

/// Looks at files, starting in the folder of the configuration, and remembers each.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

impl Files {
    /// For the configuration at `path`.
    pub(super) fn of(path: &Path) -> Self {
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        Self {
            folder: folder.to_owned(),
            seen: Vec::new(),
        }
    }

    /// A sentence when there is no file at `path` that could be read to its end.
    pub(super) fn regular(&mut self, path: &Path) -> Result<(), String> {
        let metadata = fs::metadata(path);
        let stamp = metadata.as_ref().ok().map(Stamp::of);
        self.seen.push((path.to_owned(), stamp));
        if metadata.map_err(|error| unread(&error))?.is_file() {
            return Ok(());
        }
        Err("this is no regular file; name a file".to_owned())
    }

    /// The file that the configuration calls `name`; `None` when the name is empty.
    pub(super) fn named(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        if name.is_empty() {
            return Ok(None);
        }
        let path = self.folder.join(name);
        let read = self.regular(&path).and_then(|()| bytes(&path));
        read.map(Some)
            .map_err(|message| format!("{}: {message}", quoted(&path.display().to_string())))
    }

    pub(super) fn into_stamps(self) -> Stamps {
        Stamps(self.seen)
    }
}

/// What changes with a file, whether it is written to or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    identity: Identity,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            identity: identity(metadata),
        }
    }
}

/// Device, inode, and the last change of the inode: its seconds and nanoseconds.
#[cfg(unix)]
type Identity = (u64, u64, i64, i64);

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (
        metadata.dev(),
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

/// When the file was created, which is what a replaced file differs in.
#[cfg(not(unix))]
type Identity = Option<SystemTime>;

#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> Identity {
    metadata.created().ok()
}

/// `None` for what is not there.
fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().as_ref().map(Stamp::of)
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| unread(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err("the file is larger than 1 MiB; name a PEM file".to_owned());
    }
    Ok(bytes)
}

fn unread(error: &io::Error) -> String {
    format!("cannot be read: {error}; check the path and that the exporter may read it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "1").unwrap();
        let looked = || {
            let mut files = Files::of(&folder.path().join("web.yml"));
            drop(files.named("a"));
            files.into_stamps()
        };
        let stamps = looked();
        assert!(stamps.still_hold());
        fs::write(&path, "12").unwrap();
        assert!(!stamps.still_hold(), "longer");
        let stamps = looked();
        let other = folder.path().join("b");
        fs::write(&other, "34").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(!stamps.still_hold(), "replaced");
        let stamps = looked();
        fs::remove_file(&path).unwrap();
        assert!(!stamps.still_hold(), "removed");
        let stamps = looked();
        assert!(stamps.still_hold());
        fs::write(&path, "34").unwrap();
        assert!(!stamps.still_hold(), "made");
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let told = Files::of(Path::new("/x/web.yml"))
            .named("/dev")
            .unwrap_err();
        assert_eq!(told, "\"/dev\": this is no regular file; name a file");
    }
}
