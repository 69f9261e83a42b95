//! Walks the tree of a document, takes out settings and collects every fault on the way.
//!
//! A [`Section`] is one mapping: each setting is asked for by its key, and what nobody asked for
//! is an unknown key. Whatever is wrong becomes a fault and the default takes its place, so that
//! reading goes on to the next setting; a result may be used only if there are no faults.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;

use super::document::{Node, Value};
use super::fault::{Fault, Position};
use super::unknown_key::UnknownKey;
use crate::settings::quoted;

/// What to write where a section stands.
const KEYS: &str = "keys with values (`key: value`)";

/// Reads a whole document; `T` is fit for use only when no fault comes with it.
pub(super) fn read<T>(root: &Node, section: impl FnOnce(&mut Section<'_>) -> T) -> (T, Reader) {
    let mut reader = Reader::default();
    let value = Section::open(root, String::new(), &mut reader, section);
    reader.report_unknown_keys();
    (value, reader)
}

/// What has been found so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What is wrong.
    pub(super) faults: Vec<Fault>,
    /// Every key that was asked for, such as `clusters[].name`.
    pub(super) known: BTreeSet<String>,
    unknown: Vec<UnknownKey>,
}

impl Reader {
    fn fault(&mut self, position: Position, path: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault::new(position, path, message));
    }

    /// Last, because a hint may name any key that was asked for.
    fn report_unknown_keys(&mut self) {
        for key in std::mem::take(&mut self.unknown) {
            let message = format!("unknown key; {}", key.hint(&self.known));
            self.fault(key.position, join(&key.section, &key.name), message);
        }
    }
}

/// One mapping of the document, or the absence of one.
#[derive(Debug)]
pub(super) struct Section<'a> {
    position: Position,
    path: String,
    entries: &'a [(Node, Node)],
    asked: Vec<&'static str>,
    reader: &'a mut Reader,
}

impl Section<'_> {
    /// The setting `key` as `parse` makes it from its text; `default` when it is left out.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let path = self.path_of(key);
        self.ask(key)
            .and_then(|node| self.scalar(node, path, parse))
            .unwrap_or(default)
    }

    /// The list `key`, each item as `parse` makes it; `None` when it is left out.
    /// An item that is listed twice is a fault.
    pub(super) fn list<T: Clone + Eq + Hash>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let node = self.ask(key)?;
        let mut seen = HashSet::new();
        let mut values = Vec::new();
        for (path, item) in self.items(key, node) {
            let Some(value) = self.scalar(item, path.clone(), &parse) else {
                continue;
            };
            if seen.insert(value.clone()) {
                values.push(value);
            } else {
                let message = "stands in this list twice; remove one of them";
                self.reader.fault(item.position, path, message);
            }
        }
        Some(values)
    }

    /// The section `key`; when it is left out, `read` finds each of its keys left out.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let absent = Node {
            position: self.position,
            value: Value::Null,
        };
        let node = self.ask(key).unwrap_or(&absent);
        Section::open(node, self.path_of(key), self.reader, read)
    }

    /// The list of sections `key`; empty when it is left out.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_>) -> T,
    ) -> Vec<T> {
        let Some(node) = self.ask(key) else {
            return Vec::new();
        };
        self.items(key, node)
            .into_iter()
            .map(|(path, item)| Section::open(item, path, self.reader, &mut read))
            .collect()
    }

    /// The section `key`, whose keys the file chooses: each with its value as `parse` makes it
    /// from key and text. A key without a value is a fault.
    pub(super) fn entries<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str, &str) -> Result<T, String>,
    ) -> Vec<(String, T)> {
        let Some(node) = self.ask(key) else {
            return Vec::new();
        };
        let path = self.path_of(key);
        let Value::Mapping(entries) = &node.value else {
            let message = wrong_kind(&node.value, KEYS);
            self.reader.fault(node.position, path, message);
            return Vec::new();
        };
        let mut chosen = Section {
            position: node.position,
            path,
            entries,
            asked: Vec::new(),
            reader: self.reader,
        };
        let values = entries.iter().filter_map(|(key, value)| {
            let Value::Text(name) = &key.value else {
                return None; // Told with the repeated keys.
            };
            let path = chosen.path_of(name);
            let value = chosen.scalar(value, path, |text| parse(name, text))?;
            Some((name.clone(), value))
        });
        let values = values.collect();
        chosen.report_keys(|_| true);
        values
    }

    /// A fault when `key` is left out, or an empty list.
    pub(super) fn require(&mut self, key: &'static str, advice: &str) {
        if self.find(key).is_none() {
            self.fault(key, format!("is missing; {advice}"));
        }
        self.refuse_empty(key, advice);
    }

    /// A fault when `key` is an empty list.
    pub(super) fn refuse_empty(&mut self, key: &'static str, advice: &str) {
        if matches!(self.find(key), Some(Node { value: Value::List(items), .. }) if items.is_empty())
        {
            self.fault(key, format!("is an empty list; {advice}"));
        }
    }

    /// A fault of `key`, at its value or, when it is left out, at the section.
    pub(super) fn fault(&mut self, key: &'static str, message: impl Into<String>) {
        let position = self.find(key).map_or(self.position, |node| node.position);
        let fault = Fault::new(position, self.path_of(key), message);
        self.reader.faults.push(fault);
    }

    /// A fault of the section as a whole.
    pub(super) fn fault_here(&mut self, message: impl Into<String>) {
        let fault = Fault::new(self.position, self.path.clone(), message);
        self.reader.faults.push(fault);
    }

    /// Whether `key` is in the file.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// How many faults there are by now, to see whether some were added.
    pub(super) fn fault_count(&self) -> usize {
        self.reader.faults.len()
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
        let told = reader.faults.len();
        let mut section = Section {
            position: node.position,
            path,
            entries,
            asked: Vec::new(),
            reader,
        };
        let value = read(&mut section);
        if misplaced {
            // What is missing inside follows from this and is not worth a line.
            section.reader.faults.truncate(told);
            let message = wrong_kind(&node.value, KEYS);
            section.reader.fault(node.position, &*section.path, message);
        }
        let asked = section.asked.clone();
        section.report_keys(|name| asked.contains(&name));
        value
    }

    /// Looks for keys that are repeated, unknown or no text.
    fn report_keys(self, known: impl Fn(&str) -> bool) {
        let mut seen = HashSet::new();
        for (key, _) in self.entries {
            let Value::Text(name) = &key.value else {
                let message = wrong_kind(&key.value, "the name of a key");
                self.reader.fault(key.position, &*self.path, message);
                continue;
            };
            if !seen.insert(name) {
                let message = "this key stands here twice; remove one of them";
                let path = join(&self.path, name);
                self.reader.fault(key.position, path, message);
            } else if !known(name) {
                self.reader.unknown.push(UnknownKey {
                    position: key.position,
                    section: self.path.clone(),
                    name: name.clone(),
                    neighbours: self.asked.clone(),
                });
            }
        }
    }

    /// What stands at `key`, which is a known key from now on.
    fn ask(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        self.reader
            .known
            .insert(without_indices(&self.path_of(key)));
        self.find(key)
    }

    /// What stands at `key`; `null` counts as left out.
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
        let message = wrong_kind(&node.value, "a list (`[a, b]`, or a line `- a` for each)");
        self.reader.fault(node.position, path, message);
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
                self.reader.fault(node.position, path, message);
            })
            .ok()
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

fn wrong_kind(found: &Value, wanted: &str) -> String {
    let found = match found {
        Value::Null => "nothing",
        Value::Text(_) => "a single value",
        Value::List(_) => "a list",
        Value::Mapping(_) => "a mapping",
    };
    format!("here stands {found}, write {wanted} instead")
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
    fn the_pattern_of_a_path_has_no_indices() {
        assert_eq!(without_indices("a[12].b[0].c"), "a[].b[].c");
    }
}
