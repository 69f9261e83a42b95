//! Warns about files with secrets that every local user can read.
//!
//! Checks the mode of the file only, not of its directories.

use std::path::Path;

/// A warning, without the final period, if every local user can read the file at `path`. `None` if its
/// metadata cannot be read, because reading the file will fail.
#[cfg(unix)]
pub(crate) fn exposure(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;

    const READ_BY_OTHERS: u32 = 0o004;

    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let path = path.display();
    (mode & READ_BY_OTHERS != 0).then(|| {
        format!(
            "{path} contains a secret, and every local user can read it (mode {mode:03o}): run `chmod \
             640 {path}`, and `chown` it to the user or group that the exporter runs as"
        )
    })
}

/// Windows has access control lists instead.
#[cfg(not(unix))]
pub(crate) fn exposure(_: &Path) -> Option<String> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn warning_names_the_mode_and_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("key"), folder.path().join("link"));
        fs::write(&path, "").unwrap();
        symlink(&path, &link).unwrap();
        for mode in 0..=0o777 {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            for path in [&path, &link] {
                let warning = exposure(path);
                assert_eq!(warning.is_some(), mode % 8 >= 4, "{mode:o}");
                if let Some(warning) = warning {
                    let fix = format!("(mode {mode:03o}): run `chmod 640 {}`", path.display());
                    assert!(warning.contains(&fix), "{warning}");
                }
            }
        }
        assert_eq!(exposure(&folder.path().join("missing")), None);
    }
}
