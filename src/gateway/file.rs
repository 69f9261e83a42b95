//! The files that security lives in: certificates, keys, passwords, tokens.
//!
//! Reads them whole and bounded, and says what is wrong with one by its path. What was read is
//! kept as a secret, whatever it is; no error repeats any of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{SecretSlice, SecretString};

use crate::gateway::tls::Unfit;
use crate::small_file;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {fault}", path = path.display())]
pub struct FileError {
    path: PathBuf,
    fault: Fault,
}

impl FileError {
    /// What was read of the file at `path` is of no use.
    pub(super) fn unfit(path: &Path, unfit: Unfit) -> Self {
        Self {
            path: path.to_owned(),
            fault: Fault::Unfit(unfit),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    // Says itself why, because several of these are told at once.
    #[error("cannot be read: {0}; check the path and that the exporter may read it")]
    Unreadable(io::Error),
    #[error("is not a file that can be read again; write the path of one")]
    NoFile,
    #[error("is empty")]
    Empty,
    #[error("is larger than 1 MiB; is it the right file?")]
    TooLarge,
    #[error("has no text on its first line that could be sent; write the secret there, alone")]
    NoSecret,
    #[error("has no text in UTF-8 on its first line; write the password there, alone")]
    NoPassword,
    #[error(
        "holds JSON; write the access token alone, for example with `az account get-access-token --query accessToken --output tsv`"
    )]
    JsonToken,
    #[error("holds a token in quotes; remove the quotes")]
    QuotedToken,
    #[error("holds the word Bearer before the token; write the token alone")]
    TokenWithScheme,
    #[error("{0}")]
    Unfit(Unfit),
}

/// Everything in the file at `path`, which is something.
pub(super) fn read(path: &Path) -> Result<SecretSlice<u8>, FileError> {
    let told = |fault| FileError {
        path: path.to_owned(),
        fault,
    };
    let unreadable = |error| told(Fault::Unreadable(error));
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(told(Fault::NoFile));
    }
    let contents = small_file::read(path).map_err(unreadable)?;
    let contents = contents.ok_or_else(|| told(Fault::TooLarge))?;
    if contents.is_empty() {
        return Err(told(Fault::Empty));
    }
    Ok(contents.into())
}

/// The secret on the first line of the file at `path`: visible ASCII and no line break, so that it
/// can stand in a header or a form.
pub(super) fn secret(path: &Path) -> Result<SecretString, FileError> {
    first_line_of(path, |_| None)
}

/// The bearer token on the first line of the file at `path`. No bearer token contains quotes
/// or braces (RFC 6750 section 2.1); a password may.
pub(super) fn token(path: &Path) -> Result<SecretString, FileError> {
    first_line_of(path, |line| {
        let scheme = line.split_once(' ').map(|(scheme, _)| scheme);
        if line.starts_with(['{', '[']) {
            Some(Fault::JsonToken)
        } else if line.starts_with(['"', '\'']) {
            Some(Fault::QuotedToken)
        } else if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer")) {
            Some(Fault::TokenWithScheme)
        } else {
            None
        }
    })
}

/// The first line of the file at `path`, trimmed, unless `fault_of` finds a fault in it.
fn first_line_of(
    path: &Path,
    fault_of: impl FnOnce(&str) -> Option<Fault>,
) -> Result<SecretString, FileError> {
    use secrecy::ExposeSecret as _;

    let contents = read(path)?;
    let line = first_line(contents.expose_secret()).unwrap_or_default();
    let line = line.trim();
    let is_visible = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_graphic());
    let fault = fault_of(line).or_else(|| (!is_visible).then_some(Fault::NoSecret));
    match fault {
        None => Ok(SecretString::from(line)),
        Some(fault) => Err(FileError {
            path: path.to_owned(),
            fault,
        }),
    }
}

/// The password on the first line of `contents`, which were read at `path`: everything before the
/// line break.
pub(super) fn password<'a>(path: &Path, contents: &'a [u8]) -> Result<&'a str, FileError> {
    let line = first_line(contents);
    line.map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.is_empty())
        .ok_or_else(|| FileError {
            path: path.to_owned(),
            fault: Fault::NoPassword,
        })
}

fn first_line(contents: &[u8]) -> Option<&str> {
    let line = contents.split(|byte| *byte == b'\n').next();
    line.and_then(|line| str::from_utf8(line).ok())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn written(contents: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, contents).unwrap();
        (folder, path)
    }

    #[test]
    fn a_secret_is_the_first_line_without_the_space_around_it() {
        for text in [
            "hunter2",
            "hunter2\n",
            "hunter2\r\nsecond line\n",
            "  hunter2 \n",
            "hunter2\r\n\r\n\r\n",
            "\u{feff}hunter2\r\n",
        ] {
            let utf16 = ("\u{feff}".to_owned() + text.trim_start_matches('\u{feff}'))
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect();
            for contents in [text.as_bytes().to_vec(), utf16] {
                let (_folder, path) = written(contents);
                for read in [secret, token] {
                    assert_eq!(read(&path).unwrap().expose_secret(), "hunter2", "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_token_in_quotes_in_json_or_after_bearer_is_refused_with_the_fix() {
        for (text, fix) in [
            ("\"hunter2\"\r\n", "remove the quotes"),
            ("'hunter2'", "remove the quotes"),
            (
                "{\"access_token\": \"hunter2\"}",
                "holds JSON; write the access token alone",
            ),
            ("{\r\n  \"accessToken\": \"hunter2\"\r\n}", "holds JSON"),
            ("[\"hunter2\"]", "holds JSON"),
            ("bearer hunter2", "holds the word Bearer"),
        ] {
            let (_folder, path) = written(text);
            let error = token(&path).unwrap_err().to_string();
            assert!(error.contains(fix) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn quotes_and_braces_belong_to_a_secret_that_is_no_token() {
        for text in ["\"hunter2\"", "{hunter2}"] {
            let (_folder, path) = written(text);
            assert_eq!(secret(&path).unwrap().expose_secret(), text);
            let read = password(&path, text.as_bytes());
            assert_eq!(read.unwrap(), text);
        }
    }

    #[test]
    fn a_password_is_the_first_line_as_it_is() {
        for (text, expected) in [
            ("hunter 2", "hunter 2"),
            (" h\u{fc}nter2 \r\nsecond line\n", " h\u{fc}nter2 "),
        ] {
            let read = password(Path::new("password"), text.as_bytes());
            assert_eq!(read.unwrap(), expected);
        }
        for text in ["", "\nhunter2", "\r\nhunter2"] {
            assert!(password(Path::new("password"), text.as_bytes()).is_err());
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_by_its_path_and_without_its_contents() {
        let (folder, path) = written("");
        let missing = folder.path().join("missing");
        assert!(read(&path).unwrap_err().to_string().ends_with("is empty"));
        assert!(
            read(&missing)
                .unwrap_err()
                .to_string()
                .contains("missing: cannot be read")
        );
        let folder = read(folder.path()).unwrap_err().to_string();
        assert!(folder.contains("is not a file"), "{folder}");
        for contents in [
            &b"\nhunter2"[..],
            b"hunter2 hunter2",
            b"hunter2\0",
            b"hunter2\xff",
            b"h\xc3\xbcnter2",
        ] {
            let (_folder, path) = written(contents);
            let error = secret(&path).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        assert!(password(&path, b"hunter2\xff\n").is_err());
        let (_folder, path) = written(vec![b'x'; (1 << 20) + 1]);
        assert!(read(&path).unwrap_err().to_string().contains("larger than"));
    }
}
