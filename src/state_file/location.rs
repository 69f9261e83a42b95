//! The location of the state file: symbolic links, file types, and whether it can be written.
//!
//! Only regular files are opened: opening a named pipe would wait for a writer.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Maximum length of a chain of symbolic links, as on Linux.
const MAX_LINKS: usize = 40;

/// The path of the state file is not a regular file.
#[derive(Debug, thiserror::Error)]
#[error("it is {kind}, not a regular file")]
pub struct NotARegularFile {
    kind: &'static str,
}

/// Why a state file cannot be read and written, with advice.
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

/// Checks whether a state file at `path` can be read and written, by creating a temporary file next
/// to it. Does not check the free space.
///
/// # Errors
///
/// If it cannot.
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

/// The target of `path` after following symbolic links, whether it exists or not.
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

/// The metadata of the file at `path`; `None` if it does not exist.
pub(super) fn regular_file(path: &Path) -> Result<Option<Metadata>, NotARegularFile> {
    // Other errors are reported when the file is opened.
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

/// `path` with a suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory of the file at `path`.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Sets owner, group and permissions of `file` to those of an existing file.
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
