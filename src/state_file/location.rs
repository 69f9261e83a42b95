//! Where the state file is: links, kinds of files, and whether it can be written.
//!
//! Looks at the file system; the only thing it leaves changed is the owner of a file that
//! [`take_over`] is given. Never opens what is not a regular file: opening a named pipe waits for
//! a writer.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Symbolic links in a row that are followed, as on Linux.
const MAX_LINKS: usize = 40;

/// The path of the state file is not that of a regular file.
#[derive(Debug, thiserror::Error)]
#[error("it is {kind}, not a regular file")]
pub struct NotARegularFile {
    kind: &'static str,
}

/// Why a state file cannot be read and written, and what to change.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// It is a folder, a device, or the like.
    #[error("{0}: name a file, or leave state_file out")]
    NotARegularFile(#[from] NotARegularFile),
    /// Its folder does not exist.
    #[error("the folder {folder} does not exist: create it, writable for the user of the exporter", folder = folder.display())]
    NoFolder {
        /// The missing folder.
        folder: PathBuf,
    },
    /// It exists and cannot be read.
    #[error("it cannot be read ({reason}): give it to the user of the exporter")]
    Unreadable {
        /// The reason.
        reason: io::Error,
    },
    /// Neither can a file be created in its folder, nor can it be written itself.
    #[error("no file can be created beside it ({reason}): let the user of the exporter write to the folder {folder}", folder = folder.display())]
    Refused {
        /// Its folder.
        folder: PathBuf,
        /// Why no file can be created there.
        reason: io::Error,
    },
}

/// Checks whether a state file at `path` can be read and written, by creating a file beside it
/// that is removed at once. Says nothing about free space.
///
/// # Errors
///
/// When it cannot.
pub fn check(path: &Path) -> Result<(), LocationError> {
    let refused = |reason, path| LocationError::Refused {
        folder: folder(path).to_owned(),
        reason,
    };
    let target = resolve(path).map_err(|reason| refused(reason, path))?;
    let existing = regular_file(&target)?;
    if existing.is_some() {
        File::open(&target).map_err(|reason| LocationError::Unreadable { reason })?;
    }
    let folder = folder(&target);
    let replaceable = tempfile::tempfile_in(folder).and_then(|probe| match &existing {
        Some(existing) => take_over(existing, &probe),
        None => Ok(()),
    });
    let Err(reason) = replaceable else {
        return Ok(());
    };
    if existing.is_some() && OpenOptions::new().write(true).open(&target).is_ok() {
        return Ok(());
    }
    if reason.kind() == io::ErrorKind::NotFound {
        let folder = folder.to_owned();
        return Err(LocationError::NoFolder { folder });
    }
    Err(refused(reason, &target))
}

/// The file that `path` stands for: the end of a chain of symbolic links, whether it exists or not.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                path = folder(&path).join(fs::read_link(&path)?);
            }
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// The metadata of the file at `path`; `None` if there is nothing.
pub(super) fn regular_file(path: &Path) -> Result<Option<Metadata>, NotARegularFile> {
    // An error other than its absence shows when the file is opened.
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(None);
    };
    if metadata.is_file() {
        return Ok(Some(metadata));
    }
    let kind = kind(metadata.file_type());
    Err(NotARegularFile { kind })
}

fn kind(file_type: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if file_type.is_fifo() {
            return "a named pipe";
        }
        if file_type.is_socket() {
            return "a socket";
        }
        if file_type.is_char_device() || file_type.is_block_device() {
            return "a device";
        }
    }
    if file_type.is_dir() {
        "a folder"
    } else {
        "something else"
    }
}

/// The path of a file beside the one at `path`, with its name and a suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// The folder of the file at `path`.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Gives `file` the owner, group and permissions of an existing one.
pub(super) fn take_over(existing: &Metadata, file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (existing.uid(), existing.gid()) {
            fchown(file, Some(existing.uid()), Some(existing.gid()))?;
        }
    }
    file.set_permissions(existing.permissions())
}
