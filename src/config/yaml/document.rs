//! Parses YAML into a tree of nodes with positions.
//!
//! The only module that uses the YAML library. Scalars keep their spelling in the file, so
//! `name: 5` and `name: yes` are text and quotes make no difference. Mappings keep their order and
//! duplicate keys, which the reader reports. The limit on alias expansion is stricter than the
//! library's, so that a small file cannot become a large tree. The library's snippets are disabled,
//! because they show other lines of the file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    DefaultMessageFormatter, DuplicateKeyPolicy, Location, MergeKeyPolicy, MessageFormatter,
    NonFiniteFloatPolicy, Options, Spanned,
};

use super::error::{ConfigError, Position};

/// Maximum nesting depth; the keys need 6. With the library's default (64), a debug build overflows a
/// stack of 2 MiB.
const MAX_DEPTH: usize = 16;

/// Maximum number of nodes that aliases may add; far more than any hand-written file needs.
const MAX_ALIASED_NODES: usize = 50_000;

/// A value with its position.
#[derive(Debug)]
pub(crate) struct Node {
    /// For an alias, the position of the alias.
    pub(crate) position: Position,
    pub(crate) value: Value,
}

/// A value in the file.
#[derive(Debug)]
pub(crate) enum Value {
    /// Empty, `null` or `~`.
    Null,
    /// A scalar as spelled in the file.
    Text(String),
    List(Vec<Node>),
    /// In the order of the file, with duplicate keys.
    Mapping(Vec<(Node, Node)>),
}

/// Parses `text`, which must contain exactly one document.
pub(crate) fn parse(text: &str) -> Result<Node, ConfigError> {
    let root: Spanned<RawValue> = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| config_error(&error, text))?;
    Ok(node(root, text))
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIASED_NODES },
        // Keeps duplicate keys in the tree, so that all of them can be reported.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn config_error(error: &serde_saphyr::Error, text: &str) -> ConfigError {
    let error = error.without_snippet();
    let position = error.location().map_or(Position::START, position);
    ConfigError::new(position, "", message(error, text))
}

fn message(error: &serde_saphyr::Error, text: &str) -> String {
    use serde_saphyr::Error as E;
    match error {
        E::MultipleDocuments { .. } => {
            "expected a single YAML document; remove the line `---` and one of the documents"
                .to_owned()
        }
        E::AliasError { error, .. } => message(error, text),
        E::UnsupportedTag { .. } => {
            "tags are not supported; remove it, or quote text that starts with `!`".to_owned()
        }
        E::Budget { .. } => {
            format!("the file is nested deeper than {MAX_DEPTH} levels or too large; simplify it")
        }
        E::AliasReplayLimitExceeded { .. } => format!(
            "aliases expand to more than {MAX_ALIASED_NODES} values; write the values without aliases"
        ),
        E::RecursiveReferencesRequireWeakTypes { .. } => {
            "the alias refers to a value that contains it; write the value without aliases"
                .to_owned()
        }
        _ => {
            let reason = one_line(&DefaultMessageFormatter.format_message(error));
            // `"C:\Users"`, or `"C:\data\"`, whose last quote is part of an escape sequence.
            let is_quoted = reason.contains("quoted scalar") || reason.contains("unclosed quote");
            let hint = if is_quoted && text.contains('\\') {
                " (in double quotes, a backslash starts an escape sequence; write Windows paths \
                 in single quotes)"
            } else {
                ""
            };
            format!("invalid YAML: {reason}{hint}; the rest of the file was not checked")
        }
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn position(location: Location) -> Position {
    Position {
        line: location.line().max(1),
        column: location.column().max(1),
    }
}

fn node(spanned: Spanned<RawValue>, source: &str) -> Node {
    let value = match spanned.value {
        RawValue::Null => Value::Null,
        RawValue::Text(text) => Value::Text(text),
        RawValue::Typed(text) => {
            Value::Text(source_text(&spanned.defined, source).map_or(text, str::to_owned))
        }
        RawValue::List(items) => {
            Value::List(items.into_iter().map(|item| node(item, source)).collect())
        }
        RawValue::Mapping(entries) => Value::Mapping(
            entries
                .into_iter()
                .map(|(key, value)| (node(key, source), node(value, source)))
                .collect(),
        ),
    };
    Node {
        position: position(spanned.referenced),
        value,
    }
}

/// The text of the file at `location`.
fn source_text<'a>(location: &Location, source: &'a str) -> Option<&'a str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    source.get(start..end)
}

/// A value as the library reports it: scalars may have a type.
#[derive(Debug)]
enum RawValue {
    Null,
    Text(String),
    /// A number or boolean, in the spelling of the library.
    Typed(String),
    List(Vec<Spanned<Self>>),
    Mapping(Vec<(Spanned<Self>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawValueVisitor)
    }
}

struct RawValueVisitor;

impl<'de> Visitor<'de> for RawValueVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(RawValue::Mapping(entries))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<RawValue, E> {
        Err(E::custom("binary values are not supported"))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// The tree on one line: `line:column value`.
    fn sketch(node: &Node) -> String {
        let at = format!("{}:{} ", node.position.line, node.position.column);
        at + &match &node.value {
            Value::Null => "null".to_owned(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => {
                format!(
                    "[{}]",
                    items.iter().map(sketch).collect::<Vec<_>>().join(", ")
                )
            }
            Value::Mapping(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| format!("{}: {}", sketch(key), sketch(value)))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }

    fn sketched(text: &str) -> String {
        parse(text).map_or_else(|error| error.to_string(), |node| sketch(&node))
    }

    #[test]
    fn every_node_has_its_position() {
        for (text, tree) in [
            (
                "a:\n  - b: 5\n    c: [x, 'y']\nd:\n",
                r#"1:1 {1:1 "a": 2:3 [2:5 {2:5 "b": 2:8 "5", 3:5 "c": 3:8 [3:9 "x", 3:12 "y"]}], 4:1 "d": 4:2 null}"#,
            ),
            ("", "1:1 null"),
            ("? [a]\n: 1\n", r#"1:1 {1:3 [1:4 "a"]: 2:3 "1"}"#),
            ("a: |\n  x\n  y\n", r#"1:1 {1:1 "a": 2:3 "x\ny\n"}"#),
        ] {
            assert_eq!(sketched(text), tree, "{text:?}");
        }
    }

    #[test]
    fn scalars_keep_their_spelling() {
        assert_eq!(
            sketched("[yes, true, 0x10, 1e3, 007, .inf, 1_2, 1.50, ~, '~', null, 'null']"),
            "1:1 [1:2 \"yes\", 1:7 \"true\", 1:13 \"0x10\", 1:19 \"1e3\", 1:24 \"007\", \
             1:29 \".inf\", 1:35 \"1_2\", 1:40 \"1.50\", 1:46 null, 1:49 \"~\", 1:54 null, \
             1:60 \"null\"]"
        );
        for text in ["ü: 5\nn: ['€', 70]", "\u{feff}abc: 5\nn: ['€', 70]"] {
            assert!(
                sketched(text).ends_with("[2:5 \"€\", 2:10 \"70\"]}"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn duplicate_keys_and_merge_keys_are_kept() {
        assert_eq!(
            sketched("a: 1\na: 2\n<<: {a: 3}\n"),
            r#"1:1 {1:1 "a": 1:4 "1", 2:1 "a": 2:4 "2", 3:1 "<<": 3:5 {3:6 "a": 3:9 "3"}}"#
        );
    }

    #[test]
    fn aliased_value_has_the_position_of_the_alias() {
        assert_eq!(
            sketched("a: &x [0x1]\nb: *x\n"),
            r#"1:1 {1:1 "a": 1:7 [1:8 "0x1"], 2:1 "b": 2:4 [2:4 "0x1"]}"#
        );
    }

    #[test]
    fn depth_and_aliases_are_limited() {
        for (text, expected) in [
            (
                "- ".repeat(500_000),
                "1:33: the file is nested deeper than 16 levels",
            ),
            (
                "? ".repeat(500_000),
                "1:33: the file is nested deeper than 16 levels",
            ),
            (
                "[".repeat(500_000),
                "1:256: invalid YAML: recursion limit exceeded",
            ),
            (
                "a: &a [*a]".to_owned(),
                "1:8: the alias refers to a value that contains it",
            ),
            (bomb(), "5:18: aliases expand to more than 50000 values"),
        ] {
            let error = sketched(&text);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    /// Each line contains the line above ten times.
    fn bomb() -> String {
        let mut text = "x0: &x0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
        for line in 1..8 {
            let above = vec![format!("*x{}", line - 1); 10].join(",");
            writeln!(text, "x{line}: &x{line} [{above}]").unwrap();
        }
        text
    }
}
