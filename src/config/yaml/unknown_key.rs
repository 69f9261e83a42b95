//! Hints for unknown keys.
//!
//! In order of preference: a similar key of the same section, the same key in another section
//! (wrong indentation), the keys of the section.

use std::collections::BTreeSet;

use super::error::Position;

/// A key that no setting has.
#[derive(Debug)]
pub(super) struct UnknownKey {
    pub(super) position: Position,
    /// Path of its section.
    pub(super) section: String,
    pub(super) name: String,
    /// Known keys of the section.
    pub(super) siblings: Vec<&'static str>,
}

impl UnknownKey {
    /// A suggestion; `known` are the keys of all sections.
    pub(super) fn hint(&self, known: &BTreeSet<String>) -> String {
        if self.name == "<<" {
            return "merge keys are not part of YAML 1.2; write the keys without them".to_owned();
        }
        let name = self.name.to_ascii_lowercase().replace('-', "_");
        let nearest = self
            .siblings
            .iter()
            .map(|key| (distance(&name, key), key))
            .min();
        if let Some((changes, key)) = nearest
            && changes <= 1 + key.len() / 4
        {
            return format!("did you mean `{key}`?");
        }
        let elsewhere = known
            .iter()
            .find(|path| path.rsplit('.').next() == Some(&name));
        match elsewhere {
            Some(path) => format!("did you mean `{path}`? If so, check the indentation"),
            None => format!("expected one of {}", self.siblings.join(", ")),
        }
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, changes) in [
            ("interval", "interval", 0),
            ("intervall", "interval", 1),
            ("intrval", "interval", 1),
            ("imterval", "interval", 1),
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
        ] {
            assert_eq!(distance(a, b), changes, "{a} {b}");
        }
    }
}
