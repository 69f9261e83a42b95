//! What was probably meant by a key that does not exist.
//!
//! A near miss of a key of the same section comes first, then the same key in another section
//! (wrong indentation), then the keys that the section has.

use std::collections::BTreeSet;

use super::fault::Position;

/// A key that nobody asked for.
#[derive(Debug)]
pub(super) struct UnknownKey {
    /// Where it stands.
    pub(super) position: Position,
    /// The path of the section around it.
    pub(super) section: String,
    /// The key itself, as written.
    pub(super) name: String,
    /// The keys of that section.
    pub(super) neighbours: Vec<&'static str>,
}

impl UnknownKey {
    /// What was probably meant; `known` are the keys of all sections.
    pub(super) fn hint(&self, known: &BTreeSet<String>) -> String {
        if self.name == "<<" {
            return "merging is not part of YAML 1.2, write the keys out".to_owned();
        }
        let name = self.name.to_ascii_lowercase().replace('-', "_");
        let nearest = self
            .neighbours
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
            Some(path) => format!("did you mean `{path}`? Then check the indentation"),
            None => format!("the keys here are {}", self.neighbours.join(", ")),
        }
    }
}

/// How many letters must be added, removed or replaced to make one word of the other.
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
    fn distance_counts_changes_of_letters() {
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
