//! Configuration errors and their positions.
//!
//! An error is one line: position, path of the key, and the expected value. It never shows other
//! lines of the file, which may contain secrets.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// All errors in one or more configuration files.
///
/// `Display` prints one error per line, in the order of the files; there is no `source`.
#[derive(Debug)]
pub struct ConfigErrors {
    errors: Vec<(Arc<Path>, ConfigError)>,
}

impl ConfigErrors {
    pub(crate) fn new(file: &Path, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.position);
        let file: Arc<Path> = file.into();
        let errors = errors.into_iter().map(|error| (Arc::clone(&file), error));
        Self {
            errors: errors.collect(),
        }
    }

    /// Appends the errors of another file.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.errors.extend(other.errors);
        self
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (file, error)) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{error}", file.display())?;
        }
        Ok(())
    }
}

/// A position in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Starts at 1.
    pub(crate) line: u64,
    /// In characters, starts at 1.
    pub(crate) column: u64,
}

impl Position {
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    /// The position of the character after `text`.
    pub(crate) fn after(text: &[u8]) -> Self {
        String::from_utf8_lossy(text)
            .chars()
            .fold(Self::START, |at, c| {
                if c == '\n' {
                    Self {
                        line: at.line + 1,
                        column: 1,
                    }
                } else {
                    Self {
                        column: at.column + 1,
                        ..at
                    }
                }
            })
    }
}

/// One error in a configuration file.
#[derive(Debug)]
pub(crate) struct ConfigError {
    /// `None`: the file could not be read.
    position: Option<Position>,
    path: String,
    message: String,
}

impl ConfigError {
    /// An error of the key at `path`, or of the whole file if `path` is empty.
    pub(crate) fn new(
        position: Position,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            position: Some(position),
            path: path.into(),
            message: message.into(),
        }
    }

    /// An error of a file without contents.
    pub(crate) fn unreadable(message: impl Into<String>) -> Self {
        Self {
            position: None,
            path: String::new(),
            message: message.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)
    }
}
