//! Which names are selected: regular expressions that include, others that exclude.
//!
//! An expression describes the whole name: `fabric:/Shop` does not select `fabric:/Shop2`. Each
//! is compiled alone first, so that a message is about the one that is wrong, and so that none
//! can break out of the anchors put around it.

mod diagnosis;

use regex::{Regex, RegexBuilder, RegexSet};

pub use self::diagnosis::Keys;
use super::fault::quoted;

/// The lists of the selector of applications, as messages call them.
pub const APPLICATIONS: Keys = ["applications.include", "applications.exclude"];

/// The lists of the selector of services.
pub const SERVICES: Keys = ["services.include", "services.exclude"];

/// Bytes that one compiled expression may take.
const MAX_COMPILED: usize = 1024 * 1024;

/// Selects `fabric:/` names: those that an inclusion matches and no exclusion does.
#[derive(Clone, Debug)]
pub struct Selector {
    include: Patterns,
    exclude: Patterns,
}

#[derive(Clone, Debug)]
struct Patterns {
    /// As written.
    texts: Vec<String>,
    /// The same in the same order, anchored.
    set: RegexSet,
}

impl Patterns {
    fn new(texts: Vec<String>) -> Result<Self, regex::Error> {
        let set = RegexSet::new(texts.iter().map(|text| anchored(text)))?;
        Ok(Self { texts, set })
    }
}

impl Selector {
    /// Takes expressions that [`pattern`] has let through.
    pub(super) fn new(include: Vec<String>, exclude: Vec<String>) -> Result<Self, String> {
        let patterns = |texts| {
            Patterns::new(texts).map_err(|error| {
                format!(
                    "all expressions together cannot be used: {}; write fewer",
                    condensed(&error)
                )
            })
        };
        Ok(Self {
            include: patterns(include)?,
            exclude: patterns(exclude)?,
        })
    }

    /// Whether the partitions under this name are to be watched.
    pub fn selects(&self, name: &str) -> bool {
        self.include.set.is_match(name) && !self.exclude.set.is_match(name)
    }
}

/// Two selectors are equal when they are written alike.
impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.include.texts == other.include.texts && self.exclude.texts == other.exclude.texts
    }
}

impl Eq for Selector {}

/// Lets a regular expression through when it can be compiled, alone and between anchors.
pub(super) fn pattern(text: &str) -> Result<String, String> {
    compiled(text)
        .and_then(|_| compiled(&anchored(text)))
        .map(|_| text.to_owned())
        .map_err(|error| {
            format!(
                "{} is not a usable regular expression: {}; write for example fabric:/Shop/.*",
                quoted(text),
                condensed(&error)
            )
        })
}

fn compiled(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(MAX_COMPILED).build()
}

fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

/// The reason alone: the library's message repeats the expression over several lines.
fn condensed(error: &regex::Error) -> String {
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
    fn the_whole_name_must_match() {
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
    fn letters_of_either_case_can_be_asked_for() {
        assert!(selector(&["(?i)fabric:/shop"], &[]).selects("fabric:/Shop"));
    }

    #[test]
    fn a_bad_expression_is_told_in_one_line() {
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
            let told = pattern(text).unwrap_err();
            assert!(
                !told.contains('\n') && told.contains("is not a usable regular expression: "),
                "{told}"
            );
        }
    }
}
