//! Selection of names by regular expressions.
//!
//! A pattern must match the whole name: `fabric:/Shop` does not select `fabric:/Shop2`. Each pattern
//! is first compiled alone, so that errors name the invalid one, and so that a pattern such as
//! `a)|(b` cannot leave the group around it.

mod diagnosis;

use regex::{Regex, RegexBuilder, RegexSet};

use super::quoted;

/// Keys of the lists of a selector, in messages: `include` and `exclude`.
pub(crate) type Keys = [&'static str; 2];

/// The default pattern of inclusions.
pub(crate) const MATCH_ALL: &str = ".*";

/// Keys of the selector of applications.
pub(crate) const APPLICATIONS: Keys = ["applications.include", "applications.exclude"];

/// Keys of the selector of services.
pub(crate) const SERVICES: Keys = ["services.include", "services.exclude"];

/// Maximum size of one compiled pattern, in bytes.
const MAX_COMPILED_SIZE: usize = 1024 * 1024;

/// Selects the `fabric:/` names that an `include` pattern matches and no `exclude` pattern does.
#[derive(Clone, Debug)]
pub struct Selector {
    include: Patterns,
    exclude: Patterns,
}

#[derive(Clone, Debug)]
struct Patterns {
    /// As configured.
    texts: Vec<String>,
    /// In the same order, anchored.
    set: RegexSet,
}

impl Patterns {
    fn new(texts: Vec<String>) -> Result<Self, regex::Error> {
        let set = RegexSet::new(texts.iter().map(|text| anchored(text)))?;
        Ok(Self { texts, set })
    }
}

impl Selector {
    /// Fails if the patterns, each accepted by [`pattern`], are too large together.
    pub(crate) fn new(include: Vec<String>, exclude: Vec<String>) -> Result<Self, String> {
        let patterns = |texts| {
            Patterns::new(texts).map_err(|error| {
                format!(
                    "cannot compile all patterns together: {}; write fewer patterns",
                    reason(&error)
                )
            })
        };
        Ok(Self {
            include: patterns(include)?,
            exclude: patterns(exclude)?,
        })
    }

    /// Whether `name` is selected.
    pub fn selects(&self, name: &str) -> bool {
        self.include.set.is_match(name) && !self.exclude.set.is_match(name)
    }
}

/// Compares the patterns as configured.
impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.include.texts == other.include.texts && self.exclude.texts == other.exclude.texts
    }
}

impl Eq for Selector {}

impl Default for Selector {
    fn default() -> Self {
        Self::new(vec![MATCH_ALL.to_owned()], Vec::new()).expect("the default pattern is valid")
    }
}

/// Accepts a regular expression that compiles alone and anchored.
pub(crate) fn pattern(text: &str) -> Result<String, String> {
    compiled(text)
        .and_then(|_| compiled(&anchored(text)))
        .map(|_| text.to_owned())
        .map_err(|error| {
            format!(
                "invalid regular expression {}: {}; expected for example fabric:/Shop/.*",
                quoted(text),
                reason(&error)
            )
        })
}

fn compiled(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .size_limit(MAX_COMPILED_SIZE)
        .build()
}

fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

/// The reason without the pattern, which the library shows over several lines.
fn reason(error: &regex::Error) -> String {
    if matches!(error, regex::Error::CompiledTooBig(_)) {
        return "it is too large".to_owned();
    }
    let message = error.to_string();
    let reason = message.lines().last().unwrap_or_default();
    reason.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(include: &[&str], exclude: &[&str]) -> Selector {
        let owned = |list: &[&str]| {
            list.iter()
                .map(|text| pattern(text).unwrap())
                .collect::<Vec<_>>()
        };
        Selector::new(owned(include), owned(exclude)).unwrap()
    }

    #[test]
    fn pattern_must_match_the_whole_name() {
        let selector = selector(&["fabric:/Shop", "a|b"], &[]);
        assert!(selector.selects("fabric:/Shop"));
        assert!(selector.selects("b"));
        for name in ["fabric:/Shop2", "xfabric:/Shop", "ab", "fabric:/Shop\n", ""] {
            assert!(!selector.selects(name), "{name:?}");
        }
    }

    #[test]
    fn an_exclusion_wins_over_an_inclusion() {
        let selector = selector(&["fabric:/.*"], &["fabric:/Test.*"]);
        assert!(selector.selects("fabric:/Shop"));
        assert!(!selector.selects("fabric:/Test/Orders"));
        assert!(!selector.selects("Shop"));
    }

    #[test]
    fn case_insensitive_patterns_match() {
        assert!(selector(&["(?i)fabric:/shop"], &[]).selects("fabric:/Shop"));
    }

    #[test]
    fn error_of_an_invalid_pattern_is_one_line() {
        for text in [
            "(",
            "a)|(b",
            "[z-a]",
            "\\p{Nope}",
            "(?x)a # b",
            "\\w{1000}{1000}",
            "*",
            "(?<n>a)(?<n>b)",
        ] {
            let error = pattern(text).unwrap_err();
            assert!(
                !error.contains('\n') && error.contains("invalid regular expression "),
                "{error}"
            );
        }
    }
}
