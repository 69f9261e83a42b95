//! The files that a web configuration is made of, and by what a change of one is noticed.
//!
//! A stamp is taken before its file is read, so that what is changed in between is read again. It
//! holds no contents but their hash. Only regular files of a bounded size are read: anything else
//! could keep the reader waiting or never end.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};

use super::super::values;
use crate::settings::quoted;
use crate::{file_mode, small_file};

/// The time within which two changes of a file can leave the same times on it: file systems count
/// by clock ticks, some by two seconds.
const TICK: Duration = Duration::from_secs(2);

/// Every file that was looked at, as it was then.
#[derive(Debug)]
pub struct Stamps {
    seen: Vec<Seen>,
    /// When the look began.
    at: SystemTime,
}

impl Stamps {
    /// Whether each of the files is as it was, as far as that can be told by now.
    pub fn still_hold(&self) -> bool {
        let holds = |one: &Seen| {
            let changes_show = one.stamp.is_none_or(|stamp| stamp.is_older_than(self.at));
            changes_show && stamp(&one.path) == one.stamp
        };
        self.seen.iter().all(holds)
    }

    /// Whether what was read is the same.
    pub fn is_same_text(&self, other: &Self) -> bool {
        let texts = self.seen.iter().map(Seen::text);
        texts.eq(other.seen.iter().map(Seen::text))
    }
}

/// Looks at files, starting in the folder of the configuration, and remembers each.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    path: PathBuf,
    /// `None` for what was not there.
    stamp: Option<Stamp>,
    /// The hash of what was read, or of why nothing was.
    text: Option<[u8; 32]>,
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
        self.seen.push(Seen {
            path: path.to_owned(),
            stamp,
            text: None,
        });
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
        let path = self.folder.join(values::path(name)?);
        let read = self.regular(&path).and_then(|()| bytes(&path));
        self.remember(&read.as_ref().map_err(Clone::clone));
        read.map(Some)
            .map_err(|message| format!("{}: {message}", quoted(&path.display().to_string())))
    }

    /// What was read of the file that was looked at last.
    pub(super) fn remember(&mut self, read: &Result<impl AsRef<[u8]>, String>) {
        let text = match read {
            Ok(text) => text.as_ref(),
            Err(message) => message.as_bytes(),
        };
        if let Some(last) = self.seen.last_mut() {
            last.text = digest(&SHA256, text).as_ref().try_into().ok();
        }
    }

    /// A warning when every local user may read the file that was looked at last.
    pub(super) fn exposure(&self) -> Option<String> {
        file_mode::exposure(&self.seen.last()?.path)
    }

    /// The same about the configuration itself, which is looked at first.
    pub(super) fn own_exposure(&self) -> Option<String> {
        file_mode::exposure(&self.seen.first()?.path)
    }

    /// For looks that began at `at`.
    pub(super) fn into_stamps(self, at: SystemTime) -> Stamps {
        let seen = self.seen;
        Stamps { seen, at }
    }
}

impl Seen {
    fn text(&self) -> (&Path, Option<[u8; 32]>) {
        (&self.path, self.text)
    }
}

/// What changes with a file, whether it is written to or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Where it is kept, the last change of what is known of the file.
    changed: Option<SystemTime>,
    identity: Identity,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            changed: changed(metadata),
            identity: identity(metadata),
        }
    }

    /// Whether a change from `at` on shows in its times. Those of the future were set by hand.
    fn is_older_than(&self, at: SystemTime) -> bool {
        let times = self.modified.into_iter().chain(self.changed);
        times.into_iter().all(|time| {
            let apart = at.duration_since(time);
            apart.unwrap_or_else(|error| error.duration()) >= TICK
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
    let bytes = small_file::read(path).map_err(|error| unread(&error))?;
    bytes.ok_or_else(|| "the file is larger than 1 MiB; name a PEM file".to_owned())
}

fn unread(error: &io::Error) -> String {
    format!("cannot be read: {error}; check the path and that the exporter may read it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn what_has_just_changed_is_read_again_and_is_the_same_only_with_the_same_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let now = SystemTime::from(clock::now());
        let looked = |text: &str, at: SystemTime| {
            fs::write(&path, text).unwrap();
            let mut files = Files::of(&folder.path().join("web.yml"));
            files.named("a").unwrap();
            files.into_stamps(at)
        };
        let first = looked("1", now);
        assert!(
            !first.still_hold(),
            "the next change may have the same times"
        );
        assert!(looked("1", now).is_same_text(&first));
        assert!(!looked("2", now).is_same_text(&first));
        assert!(looked("1", now + TICK * 10).still_hold(), "long ago");
        fs::remove_file(&path).unwrap();
        let mut files = Files::of(&path);
        assert!(files.named("a").is_err());
        let gone = files.into_stamps(now);
        assert!(gone.still_hold() && !gone.is_same_text(&first));
    }

    #[test]
    fn every_kind_of_change_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "1").unwrap();
        let looked = || {
            let mut files = Files::of(&folder.path().join("web.yml"));
            drop(files.named("a"));
            files.into_stamps(SystemTime::from(clock::now()) + TICK * 10)
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
