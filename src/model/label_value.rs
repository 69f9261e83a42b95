//! Values from the cluster that become label values, limited in length and characters.

use std::sync::Arc;

/// A value from the cluster that is valid as a label value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelValue(Arc<str>);

impl LabelValue {
    /// Maximum length in bytes; the longest known failure code has 55.
    const MAX_LENGTH: usize = 80;

    /// Converts `text`, or returns `other` unless it consists of up to 80 ASCII letters, digits and
    /// `_`.
    pub fn new(text: &str) -> Self {
        let fits = !text.is_empty()
            && text.len() <= Self::MAX_LENGTH
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if fits {
            Self(Arc::from(text))
        } else {
            Self::other()
        }
    }

    /// The value `other`, which stands for every invalid text.
    pub fn other() -> Self {
        Self(Arc::from("other"))
    }

    /// The label value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
