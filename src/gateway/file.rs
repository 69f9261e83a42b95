//! Files with credentials: certificates, keys, passwords and tokens.
//!
//! Reads each file completely, up to 1 MiB. The contents stay secret, and an error names the path
//! but never quotes the contents.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use crate::small_file;

/// A file with credentials that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {kind}", path = path.display())]
pub struct FileError {
    path: PathBuf,
    kind: FileErrorKind,
}

impl FileError {
    pub(super) fn new(path: &Path, kind: FileErrorKind) -> Self {
        Self {
            path: path.to_owned(),
            kind,
        }
    }
}

#[cfg_attr(
    any(target_os = "windows", target_vendor = "apple"),
    expect(
        dead_code,
        reason = "the system reports only that a PFX cannot be opened"
    )
)]
#[derive(Debug, thiserror::Error)]
pub(super) enum FileErrorKind {
    // In the text and not a source, because several of these are printed in one line.
    #[error("cannot be read: {0}; check the path and the permissions")]
    Unreadable(io::Error),
    #[error("is not a file; write the path of a regular file")]
    NotRegularFile,
    #[error("is empty")]
    Empty,
    #[error("is larger than 1 MiB; check the path")]
    TooLarge,
    #[error("has no visible ASCII text on its first line; write the secret there, alone")]
    NoSecret,
    #[error("has no UTF-8 text on its first line; write the password there, alone")]
    NoPassword,
    #[error(
        "holds JSON; write the access token alone, for example with `az account get-access-token --query accessToken --output tsv`"
    )]
    JsonToken,
    #[error("holds a token in quotes; remove the quotes")]
    QuotedToken,
    #[error("holds the word Bearer before the token; write the token alone")]
    TokenWithScheme,
    #[error(
        "holds no certificate in PEM; convert a DER file with `openssl x509 -inform der -in old.cer -out new.pem`"
    )]
    NoCertificate,
    #[error("holds a certificate that cannot be read")]
    MalformedCertificate,
    #[error(
        "holds no private key in PEM; write the key of the certificate there, or set key_file to its path"
    )]
    NoKey,
    #[error("holds a private key that cannot be read")]
    MalformedKey,
    #[error(
        "holds a key in the format {0}; convert it with `openssl pkcs8 -topk8 -nodes -in old.key -out new.key`"
    )]
    KeyFormat(&'static str),
    #[error(
        "holds an encrypted key; decrypt it with `openssl pkcs8 -topk8 -nodes -in old.key -out new.key`, and restrict access to the exporter"
    )]
    EncryptedKey,
    #[error(
        "holds the key of another certificate; the first certificate of cert_file must be the one of the key"
    )]
    KeyMismatch,
    #[error("is not a PFX (PKCS#12) file; use cert_file and key_file for PEM")]
    NotPfx,
    #[error("cannot be opened with {0}; write the right one on the first line of password_file")]
    WrongPassword(&'static str),
    #[error(
        "is encrypted with RC2 or another unsupported cipher; convert it to PEM with `openssl pkcs12 -legacy -in old.pfx -nodes -out new.pem`, and set cert_file to that file"
    )]
    UnsupportedCipher,
    #[error("holds no private key together with its certificate; export it again with the key")]
    IncompletePfx,
    #[error("cannot be opened as PFX (PKCS#12); check that it is complete and the password right")]
    MalformedPfx,
    #[error("holds a certificate that is not valid now, unlike the one in use")]
    NotValidNow,
    #[error(
        "is not accepted by the TLS library together with its key; check that they belong together, and that an RSA key has at least 2048 bits"
    )]
    RejectedByTls,
}

/// The contents of the file at `path`; an empty file is an error.
pub(super) fn read(path: &Path) -> Result<SecretSlice<u8>, FileError> {
    let error = |kind| FileError::new(path, kind);
    let unreadable = |source| error(FileErrorKind::Unreadable(source));
    // Opening a named pipe would block until something writes to it.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(error(FileErrorKind::NotRegularFile));
    }
    let contents = small_file::read(path).map_err(unreadable)?;
    let contents = contents.ok_or_else(|| error(FileErrorKind::TooLarge))?;
    if contents.is_empty() {
        return Err(error(FileErrorKind::Empty));
    }
    Ok(contents.into())
}

/// The secret on the first line of the file at `path`, trimmed: visible ASCII characters, which are
/// valid in a header and in a form.
pub(super) fn secret(path: &Path) -> Result<SecretString, FileError> {
    first_line_of(path, |_| None)
}

/// The bearer token on the first line of the file at `path`. Quotes and braces cannot be part of a
/// bearer token (RFC 6750, section 2.1), but of a password.
pub(super) fn token(path: &Path) -> Result<SecretString, FileError> {
    first_line_of(path, |line| {
        let scheme = line.split_once(' ').map(|(scheme, _)| scheme);
        if line.starts_with(['{', '[']) {
            Some(FileErrorKind::JsonToken)
        } else if line.starts_with(['"', '\'']) {
            Some(FileErrorKind::QuotedToken)
        } else if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer")) {
            Some(FileErrorKind::TokenWithScheme)
        } else {
            None
        }
    })
}

/// The first line of the file at `path`, trimmed, if `check` returns no error for it.
fn first_line_of(
    path: &Path,
    check: impl FnOnce(&str) -> Option<FileErrorKind>,
) -> Result<SecretString, FileError> {
    let contents = read(path)?;
    let line = first_line(contents.expose_secret()).unwrap_or_default();
    let line = line.trim();
    let is_visible = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_graphic());
    match check(line).or_else(|| (!is_visible).then_some(FileErrorKind::NoSecret)) {
        None => Ok(SecretString::from(line)),
        Some(kind) => Err(FileError::new(path, kind)),
    }
}

/// The password on the first line of `contents`, the contents of the file at `path`; not trimmed.
pub(super) fn password<'a>(path: &Path, contents: &'a [u8]) -> Result<&'a str, FileError> {
    first_line(contents)
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.is_empty())
        .ok_or_else(|| FileError::new(path, FileErrorKind::NoPassword))
}

fn first_line(contents: &[u8]) -> Option<&str> {
    let line = contents.split(|byte| *byte == b'\n').next();
    line.and_then(|line| str::from_utf8(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(contents: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, contents).unwrap();
        (folder, path)
    }

    #[test]
    fn secret_is_the_trimmed_first_line() {
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
    fn quoted_json_and_prefixed_tokens_are_rejected_with_a_fix() {
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
    fn quotes_and_braces_are_kept_in_secrets_and_passwords() {
        for text in ["\"hunter2\"", "{hunter2}"] {
            let (_folder, path) = written(text);
            assert_eq!(secret(&path).unwrap().expose_secret(), text);
            let read = password(&path, text.as_bytes());
            assert_eq!(read.unwrap(), text);
        }
    }

    #[test]
    fn password_is_the_untrimmed_first_line() {
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
    fn errors_name_the_path_and_hide_the_contents() {
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
