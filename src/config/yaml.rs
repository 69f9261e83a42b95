//! Reads YAML files and reports every error in them with its position.

mod document;
mod error;
mod reader;
mod unknown_key;

use std::path::Path;

#[cfg(test)]
pub(super) use self::document::Node;
pub(super) use self::document::{Value, parse};
pub use self::error::ConfigErrors;
pub(super) use self::error::{ConfigError, Position};
pub(super) use self::reader::{Reader, Section, read};
use crate::small_file;

/// The text of the file at `path`.
pub(super) fn load(path: &Path) -> Result<String, ConfigError> {
    let bytes = small_file::read(path).map_err(|error| {
        ConfigError::unreadable(format!(
            "cannot read the file: {error}; check the path and the permissions"
        ))
    })?;
    let bytes = bytes.ok_or_else(|| {
        ConfigError::unreadable("the file is larger than 1 MiB; is it a configuration file?")
    })?;
    if bytes.contains(&0) {
        let message = "the file is binary, or UTF-16 without a byte order mark; save it as UTF-8";
        return Err(ConfigError::new(Position::START, "", message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to());
        let message = "invalid UTF-8; save the file as UTF-8";
        ConfigError::new(Position::after(valid.unwrap_or_default()), "", message)
    })
}
