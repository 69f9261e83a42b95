//! The reading of files that people write: configurations, certificates, keys, tokens.
//!
//! Reads whole files up to one bound and no further, so that naming the wrong file costs little
//! memory. It may not judge what is in them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Largest file that is read, in bytes: a bundle of all public authorities is a quarter of it.
const MAX_FILE: u64 = 1024 * 1024;

/// Everything in the file at `path`; `None` when that is more than [`MAX_FILE`].
///
/// # Errors
///
/// Those of opening and reading it.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut contents = Vec::new();
    // One byte more proves that it is too large.
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut contents)?;
    let fits = u64::try_from(contents.len()).is_ok_and(|length| length <= MAX_FILE);
    Ok(fits.then_some(contents))
}
