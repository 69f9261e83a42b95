//! What is wrong with a configuration, and where.
//!
//! A fault names a place, the dotted path of a key and what to write instead; it never repeats
//! neighbouring lines. Text from the file is quoted, cut and free of control characters, so that
//! a fault is always one line.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Everything that is wrong with one configuration file, or with several.
///
/// Its text is complete, one fault a line, in the order of the file; there is no `source`.
#[derive(Debug)]
pub struct Error {
    faults: Vec<(Arc<Path>, Fault)>,
}

impl Error {
    pub(super) fn new(origin: &Path, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.position);
        let origin: Arc<Path> = origin.into();
        let faults = faults.into_iter().map(|fault| (Arc::clone(&origin), fault));
        Self {
            faults: faults.collect(),
        }
    }

    /// What is wrong with this file, and with the other.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.faults.extend(other.faults);
        self
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (origin, fault)) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{fault}", origin.display())?;
        }
        Ok(())
    }
}

/// A line and a column (in characters), both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Counted from 1.
    pub(super) line: u64,
    /// In characters, counted from 1.
    pub(super) column: u64,
}

impl Position {
    /// The first character of the file.
    pub(super) const START: Self = Self { line: 1, column: 1 };

    /// The place just after `text`.
    pub(super) fn after(text: &[u8]) -> Self {
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

/// One thing that is wrong.
#[derive(Debug)]
pub(super) struct Fault {
    /// `None` when there was nothing to read.
    position: Option<Position>,
    path: String,
    message: String,
}

impl Fault {
    /// A fault of the key at `path`; an empty path means the whole file.
    pub(super) fn new(
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

    /// A fault of a file that could not be read.
    pub(super) fn unread(message: impl Into<String>) -> Self {
        Self {
            position: None,
            path: String::new(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
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
