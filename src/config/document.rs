//! YAML text as a tree in which every node knows its line and column.
//!
//! The only place that knows the YAML library. Scalars are kept as the text that stands in the
//! file, so `name: 5` and `name: yes` mean what they say and quotes make no difference. Keys are
//! kept in order with their repetitions: judging them is the reader's business. The library's
//! limits on depth and nodes stay in force and the one on alias expansion is tightened, so a
//! small file cannot grow into a large tree. Its excerpts of neighbouring lines are switched off.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    DefaultMessageFormatter, DuplicateKeyPolicy, Location, MergeKeyPolicy, MessageFormatter,
    NonFiniteFloatPolicy, Options, Spanned,
};

use super::fault::{Fault, Position};

/// How deep values may nest; the keys need 6. The library's own limit (64) lets a debug build
/// overflow a stack of 2 MiB.
const MAX_DEPTH: usize = 16;

/// How many nodes aliases may add; a file written by hand stays far below.
const MAX_ALIASED_NODES: usize = 50_000;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it is written; for an alias, where the alias stands.
    pub(super) position: Position,
    /// What is written there.
    pub(super) value: Value,
}

/// What stands in the file.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// A scalar, as written.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// Keys and values in the order of the file, repetitions included.
    Mapping(Vec<(Node, Node)>),
}

/// Parses the only document in `text`.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let root: Spanned<Shape> = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| fault(&error, text))?;
    Ok(node(root, text))
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIASED_NODES },
        // The tree keeps repeated keys, so that all of them can be reported.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn fault(error: &serde_saphyr::Error, text: &str) -> Fault {
    let error = error.without_snippet();
    let position = error.location().map_or(Position::START, position);
    Fault::new(position, "", message(error, text))
}

fn message(error: &serde_saphyr::Error, text: &str) -> String {
    use serde_saphyr::Error as E;
    match error {
        E::MultipleDocuments { .. } => {
            "a second YAML document begins here; keep one and remove the line `---`".to_owned()
        }
        E::AliasError { error, .. } => message(error, text),
        E::UnsupportedTag { .. } => {
            "tags are of no use here; leave it out, or quote text that begins with `!`".to_owned()
        }
        E::Budget { .. } => format!(
            "the file nests deeper than {MAX_DEPTH} levels or is larger than any configuration; \
             write it plainly"
        ),
        E::AliasReplayLimitExceeded { .. } => format!(
            "aliases grow to more than {MAX_ALIASED_NODES} values here; write the values out"
        ),
        E::RecursiveReferencesRequireWeakTypes { .. } => {
            "an alias refers to the value that it stands in; write the value out".to_owned()
        }
        _ => {
            let reason = one_line(&DefaultMessageFormatter.format_message(error));
            // `"C:\Users"`, or `"C:\data\"`, whose last quote is part of an escape sequence.
            let is_quoted = reason.contains("quoted scalar") || reason.contains("unclosed quote");
            let hint = if is_quoted && text.contains('\\') {
                " (in double quotes, a backslash begins an escape sequence; write Windows paths \
                 in single quotes)"
            } else {
                ""
            };
            format!(
                "not usable YAML: {reason}{hint}; correct this first, the rest has not been read"
            )
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

fn node(spanned: Spanned<Shape>, source: &str) -> Node {
    let value = match spanned.value {
        Shape::Null => Value::Null,
        Shape::Text(text) => Value::Text(text),
        Shape::Typed(text) => {
            Value::Text(written(&spanned.defined, source).map_or(text, str::to_owned))
        }
        Shape::List(items) => {
            Value::List(items.into_iter().map(|item| node(item, source)).collect())
        }
        Shape::Mapping(entries) => Value::Mapping(
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

/// What the file says at `location`.
fn written<'a>(location: &Location, source: &'a str) -> Option<&'a str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    source.get(start..end)
}

/// A value as the library tells it, before scalars become text again.
#[derive(Debug)]
enum Shape {
    Null,
    Text(String),
    /// The library took it for a number or a truth value; this is its own spelling of that.
    Typed(String),
    List(Vec<Spanned<Self>>),
    Mapping(Vec<(Spanned<Self>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Typed(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Shape::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Mapping(entries))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Shape, E> {
        Err(E::custom("binary values have no use here"))
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
        parse(text).map_or_else(|fault| fault.to_string(), |node| sketch(&node))
    }

    #[test]
    fn every_node_knows_its_place() {
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
    fn repeated_keys_and_merge_keys_stay_in_the_tree() {
        assert_eq!(
            sketched("a: 1\na: 2\n<<: {a: 3}\n"),
            r#"1:1 {1:1 "a": 1:4 "1", 2:1 "a": 2:4 "2", 3:1 "<<": 3:5 {3:6 "a": 3:9 "3"}}"#
        );
    }

    #[test]
    fn the_value_of_an_alias_stands_where_the_alias_stands() {
        assert_eq!(
            sketched("a: &x [0x1]\nb: *x\n"),
            r#"1:1 {1:1 "a": 1:7 [1:8 "0x1"], 2:1 "b": 2:4 [2:4 "0x1"]}"#
        );
    }

    #[test]
    fn depth_and_aliases_are_limited() {
        for (text, told) in [
            (
                "- ".repeat(500_000),
                "1:33: the file nests deeper than 16 levels",
            ),
            (
                "? ".repeat(500_000),
                "1:33: the file nests deeper than 16 levels",
            ),
            (
                "[".repeat(500_000),
                "1:256: not usable YAML: recursion limit exceeded",
            ),
            (
                "a: &a [*a]".to_owned(),
                "1:8: an alias refers to the value that it stands in",
            ),
            (bomb(), "5:18: aliases grow to more than 50000 values here"),
        ] {
            let fault = sketched(&text);
            assert!(fault.starts_with(told), "{fault}");
        }
    }

    /// Each line holds the line above ten times over.
    fn bomb() -> String {
        let mut text = "x0: &x0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
        for line in 1..8 {
            let above = vec![format!("*x{}", line - 1); 10].join(",");
            writeln!(text, "x{line}: &x{line} [{above}]").unwrap();
        }
        text
    }
}
