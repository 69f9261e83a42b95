//! Reads settings from the tree of a document and collects all errors.
//!
//! A [`Section`] is one mapping. Keys that are never read are unknown keys. An invalid value is
//! recorded as an error and replaced by its default, so that the rest is still checked; the result
//! must not be used if there are errors.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;

use super::document::{Node, Value};
use super::error::{ConfigError, Position};
use super::unknown_key::UnknownKey;
use crate::settings::quoted;

/// Expected where a section is read.
const A_MAPPING: &str = "a mapping (`key: value`)";

/// Reads a whole document. `T` is valid only if the reader has no errors.
pub(crate) fn read<T>(root: &Node, section: impl FnOnce(&mut Section<'_>) -> T) -> (T, Reader) {
    let mut reader = Reader::default();
    let value = Section::open(root, String::new(), &mut reader, section);
    reader.report_unknown_keys();
    (value, reader)
}

/// Results besides the settings.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) errors: Vec<ConfigError>,
    /// Every key that was read, such as `clusters[].name`.
    pub(crate) known: BTreeSet<String>,
    unknown: Vec<UnknownKey>,
}

impl Reader {
    fn error(&mut self, position: Position, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push(ConfigError::new(position, path, message));
    }

    /// Runs last, because a hint can name any key that was read.
    fn report_unknown_keys(&mut self) {
        for key in std::mem::take(&mut self.unknown) {
            let message = format!("unknown key; {}", key.hint(&self.known));
            self.error(key.position, join(&key.section, &key.name), message);
        }
    }
}

/// A mapping of the document, possibly missing.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    position: Position,
    path: String,
    entries: &'a [(Node, Node)],
    read_keys: Vec<&'static str>,
    reader: &'a mut Reader,
}

impl Section<'_> {
    /// Reads the setting `key` with `parse`; `default` if it is missing.
    pub(crate) fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let path = self.path_of(key);
        self.take(key)
            .and_then(|node| self.scalar(node, path, parse))
            .unwrap_or(default)
    }

    /// Reads the list `key`, each item with `parse`; `None` if it is missing. Duplicate items are
    /// errors.
    pub(crate) fn list<T: Clone + Eq + Hash>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let node = self.take(key)?;
        let mut seen = HashSet::new();
        let mut values = Vec::new();
        for (path, item) in self.items(key, node) {
            let Some(value) = self.scalar(item, path.clone(), &parse) else {
                continue;
            };
            if seen.insert(value.clone()) {
                values.push(value);
            } else {
                let message = "duplicate entry; remove it";
                self.reader.error(item.position, path, message);
            }
        }
        Some(values)
    }

    /// Reads the section `key`; if it is missing, all its keys are.
    pub(crate) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let absent = Node {
            position: self.position,
            value: Value::Null,
        };
        let node = self.take(key).unwrap_or(&absent);
        Section::open(node, self.path_of(key), self.reader, read)
    }

    /// Reads the list of sections `key`; empty if it is missing.
    pub(crate) fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_>) -> T,
    ) -> Vec<T> {
        let Some(node) = self.take(key) else {
            return Vec::new();
        };
        self.items(key, node)
            .into_iter()
            .map(|(path, item)| Section::open(item, path, self.reader, &mut read))
            .collect()
    }

    /// Reads the section `key`, which has arbitrary keys, each with `parse` from key and text. A key
    /// without a value is an error.
    pub(crate) fn entries<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str, &str) -> Result<T, String>,
    ) -> Vec<(String, T)> {
        let Some(node) = self.take(key) else {
            return Vec::new();
        };
        let path = self.path_of(key);
        let Value::Mapping(entries) = &node.value else {
            let message = wrong_kind(&node.value, A_MAPPING);
            self.reader.error(node.position, path, message);
            return Vec::new();
        };
        let mut section = Section {
            position: node.position,
            path,
            entries,
            read_keys: Vec::new(),
            reader: self.reader,
        };
        let values = entries.iter().filter_map(|(key, value)| {
            let Value::Text(name) = &key.value else {
                return None; // Reported by `report_keys`.
            };
            let path = section.path_of(name);
            let value = section.scalar(value, path, |text| parse(name, text))?;
            Some((name.clone(), value))
        });
        let values = values.collect();
        section.report_keys(|_| true);
        values
    }

    /// Records an error if `key` is missing or an empty list.
    pub(crate) fn require(&mut self, key: &'static str, advice: &str) {
        if self.find(key).is_none() {
            self.error(key, format!("missing; {advice}"));
        }
        self.reject_empty(key, advice);
    }

    /// Records an error if `key` is an empty list.
    pub(crate) fn reject_empty(&mut self, key: &'static str, advice: &str) {
        if matches!(self.find(key), Some(Node { value: Value::List(items), .. }) if items.is_empty())
        {
            self.error(key, format!("empty list; {advice}"));
        }
    }

    /// Records an error of `key`, at its value or, if it is missing, at the section.
    pub(crate) fn error(&mut self, key: &'static str, message: impl Into<String>) {
        let position = self.find(key).map_or(self.position, |node| node.position);
        let error = ConfigError::new(position, self.path_of(key), message);
        self.reader.errors.push(error);
    }

    /// Records an error of the section.
    pub(crate) fn error_here(&mut self, message: impl Into<String>) {
        let error = ConfigError::new(self.position, self.path.clone(), message);
        self.reader.errors.push(error);
    }

    /// Whether `key` is in the file.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Number of errors so far; compared, it shows whether some were added.
    pub(crate) fn error_count(&self) -> usize {
        self.reader.errors.len()
    }
}

impl<'a> Section<'a> {
    fn open<T>(
        node: &'a Node,
        path: String,
        reader: &'a mut Reader,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let (entries, misplaced): (&[_], _) = match &node.value {
            Value::Mapping(entries) => (entries, false),
            Value::Null => (&[], false),
            Value::Text(_) | Value::List(_) => (&[], true),
        };
        let errors_before = reader.errors.len();
        let mut section = Section {
            position: node.position,
            path,
            entries,
            read_keys: Vec::new(),
            reader,
        };
        let value = read(&mut section);
        if misplaced {
            // Missing keys of the section are a consequence of this error.
            section.reader.errors.truncate(errors_before);
            let message = wrong_kind(&node.value, A_MAPPING);
            section.reader.error(node.position, &*section.path, message);
        }
        let read_keys = section.read_keys.clone();
        section.report_keys(|name| read_keys.contains(&name));
        value
    }

    /// Reports keys that are duplicate, unknown or not scalars.
    fn report_keys(self, known: impl Fn(&str) -> bool) {
        let mut seen = HashSet::new();
        for (key, _) in self.entries {
            let Value::Text(name) = &key.value else {
                let message = wrong_kind(&key.value, "a key");
                self.reader.error(key.position, &*self.path, message);
                continue;
            };
            if !seen.insert(name) {
                let message = "duplicate key; remove it";
                let path = join(&self.path, name);
                self.reader.error(key.position, path, message);
            } else if !known(name) {
                self.reader.unknown.push(UnknownKey {
                    position: key.position,
                    section: self.path.clone(),
                    name: name.clone(),
                    siblings: self.read_keys.clone(),
                });
            }
        }
    }

    /// The value of `key`, which is a known key from now on.
    fn take(&mut self, key: &'static str) -> Option<&'a Node> {
        self.read_keys.push(key);
        self.reader
            .known
            .insert(without_indices(&self.path_of(key)));
        self.find(key)
    }

    /// The value of `key`; `null` counts as missing.
    fn find(&self, key: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find(|(name, _)| matches!(&name.value, Value::Text(name) if name == key))
            .map(|(_, value)| value)
            .filter(|value| !matches!(value.value, Value::Null))
    }

    fn items(&mut self, key: &'static str, node: &'a Node) -> Vec<(String, &'a Node)> {
        let path = self.path_of(key);
        if let Value::List(items) = &node.value {
            let numbered = items.iter().enumerate();
            return numbered
                .map(|(index, item)| (format!("{path}[{index}]"), item))
                .collect();
        }
        let message = wrong_kind(
            &node.value,
            "a list (`[a, b]`, or one line `- a` per entry)",
        );
        self.reader.error(node.position, path, message);
        Vec::new()
    }

    fn scalar<T>(
        &mut self,
        node: &Node,
        path: String,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = match &node.value {
            Value::Text(text) => parse(text),
            other => Err(wrong_kind(other, "a single value")),
        };
        parsed
            .map_err(|message| {
                self.reader.error(node.position, path, message);
            })
            .ok()
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

fn wrong_kind(found: &Value, expected: &str) -> String {
    let found = match found {
        Value::Null => "nothing",
        Value::Text(_) => "a single value",
        Value::List(_) => "a list",
        Value::Mapping(_) => "a mapping",
    };
    format!("expected {expected}, found {found}")
}

fn join(section: &str, key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = if !key.is_empty() && key.len() <= 60 && key.chars().all(plain) {
        key.to_owned()
    } else {
        quoted(key)
    };
    if section.is_empty() {
        key
    } else {
        format!("{section}.{key}")
    }
}

/// `clusters[3].name` as `clusters[].name`.
fn without_indices(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|&c| {
            inside = (inside || c == '[') && c != ']';
            !inside || c == '['
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_removed_from_a_path() {
        assert_eq!(without_indices("a[12].b[0].c"), "a[].b[].c");
    }
}
