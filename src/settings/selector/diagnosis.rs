//! Finds patterns that match nothing, and suggests corrections.
//!
//! A pattern is reported as impossible only if it cannot match any name. Suggested patterns are valid
//! and can match names that the configured pattern does not.

use std::collections::BTreeSet;

use regex_syntax::ast::{Ast, parse::Parser};
use regex_syntax::hir::literal::{Extractor, Literal};

use super::{Keys, MATCH_ALL, Selector, anchored, compiled, pattern};
use crate::inventory::Unmatched;
use crate::model::Name;
use crate::settings::quoted;

/// Prefix of every application and service name.
const SCHEME: &str = "fabric:/";

/// Maximum number of names that a suggestion is compared with.
const MAX_NAMES: usize = 10_000;

/// Effect of an `include` pattern, in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    MatchesNothing,
    MatchesExcludedNames,
    Selects,
}

impl Selector {
    /// The patterns that match none of `names`, which must be complete. An `exclude` pattern counts
    /// only if a corrected spelling would match, because it may be meant for names that do not exist
    /// yet. [`MATCH_ALL`] never counts.
    pub(crate) fn unmatched(
        &self,
        [include, exclude]: Keys,
        names: &[Name],
    ) -> BTreeSet<Unmatched> {
        let mut inclusions = vec![Effect::MatchesNothing; self.include.texts.len()];
        let mut exclusions = vec![false; self.exclude.texts.len()];
        for name in names {
            let excluded_by = self.exclude.set.matches(name);
            let effect = if excluded_by.matched_any() {
                Effect::MatchesExcludedNames
            } else {
                Effect::Selects
            };
            let included_by = self.include.set.matches(name);
            for (index, known) in inclusions.iter_mut().enumerate() {
                if included_by.matched(index) {
                    *known = effect.max(*known);
                }
            }
            for (index, matched) in exclusions.iter_mut().enumerate() {
                *matched |= excluded_by.matched(index);
            }
        }
        let unmatched = |key, text: &String, hint| Unmatched::Pattern {
            key,
            pattern: text.clone(),
            hint,
        };
        let inclusions = std::iter::zip(&self.include.texts, inclusions);
        let inclusions = inclusions.filter(|(text, _)| *text != MATCH_ALL);
        let inclusions = inclusions.filter_map(|(text, effect)| match effect {
            Effect::Selects => None,
            Effect::MatchesExcludedNames => {
                let hint = format!("because {exclude} excludes every name that it matches");
                Some(unmatched(include, text, Some(hint)))
            }
            Effect::MatchesNothing => Some(unmatched(include, text, suggestion(text, names))),
        });
        let exclusions = std::iter::zip(&self.exclude.texts, exclusions);
        let exclusions = exclusions.filter(|(_, matched)| !matched);
        let exclusions = exclusions.filter_map(|(text, _)| {
            suggestion(text, names).map(|hint| unmatched(exclude, text, Some(hint)))
        });
        inclusions.chain(exclusions).collect()
    }

    /// A sentence for each pattern that cannot match any name.
    pub(crate) fn impossible(&self, keys: Keys) -> Vec<String> {
        let lists = std::iter::zip(keys, [&self.include, &self.exclude]);
        let patterns = lists.flat_map(|(key, list)| list.texts.iter().map(move |text| (key, text)));
        patterns
            .filter_map(|(key, text)| {
                let impossible = impossible_part(text)?;
                let subject = if impossible == text {
                    quoted(text)
                } else {
                    format!(
                        "{}, an alternative in {},",
                        quoted(impossible),
                        quoted(text)
                    )
                };
                let fix = corrected(impossible)
                    .map(|fix| format!("; write {}", quoted(&fix)))
                    .unwrap_or_default();
                Some(format!(
                    "{key}: {subject} never matches, because every name starts with {SCHEME}{fix}."
                ))
            })
            .collect()
    }
}

/// A corrected spelling that matches one of `names`, as a question.
fn suggestion(text: &str, names: &[Name]) -> Option<String> {
    let matches = |spelling: &String| {
        let regex = compiled(&anchored(spelling));
        let regex = regex.ok().filter(|_| pattern(spelling).is_ok());
        let mut tried = names.iter().take(MAX_NAMES);
        regex.is_some_and(|regex| tried.any(|name| regex.is_match(name)))
    };
    let spelling = spellings(text).into_iter().find(matches)?;
    Some(format!("did you mean {}?", quoted(&spelling)))
}

/// Corrections of common mistakes: missing scheme, wrong case, shell wildcards, and the name of an
/// application instead of those of its services.
fn spellings(text: &str) -> [String; 6] {
    let bare = bare(text);
    let wildcards = with_wildcards(text);
    [
        format!("{SCHEME}{bare}"),
        format!("(?i){text}"),
        format!("(?i){SCHEME}{bare}"),
        format!("{SCHEME}{}", with_wildcards(&bare)),
        wildcards,
        format!("{SCHEME}{bare}/.*"),
    ]
}

/// The pattern without anchor and scheme, in a group if it has alternatives.
fn bare(text: &str) -> String {
    let text = text.trim_start_matches('^');
    let scheme = SCHEME.trim_end_matches('/');
    let begins_with_scheme = text
        .get(..scheme.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let rest = if begins_with_scheme {
        text.get(scheme.len()..).unwrap_or_default()
    } else {
        text
    };
    let rest = rest.trim_start_matches('/');
    if rest.contains('|') {
        format!("(?:{rest})")
    } else {
        rest.to_owned()
    }
}

/// Replaces each `*` after a letter, digit or slash, probably a shell wildcard, by `.*`.
fn with_wildcards(text: &str) -> String {
    let mut previous = '.';
    let characters = text.chars().flat_map(|character| {
        let is_wildcard = character == '*' && (previous.is_alphanumeric() || previous == '/');
        previous = character;
        is_wildcard.then_some('.').into_iter().chain([character])
    });
    characters.collect()
}

/// The pattern, or its first alternative, that cannot match a name.
fn impossible_part(text: &str) -> Option<&str> {
    if !can_match(text) {
        return Some(text);
    }
    // A flag also applies to the alternatives after it.
    if text.contains("(?") {
        return None;
    }
    let parsed = Parser::new().parse(text).ok()?;
    let Ast::Alternation(alternation) = &parsed else {
        return None;
    };
    let spans = alternation.asts.iter().map(Ast::span);
    let alternatives = spans.filter_map(|span| text.get(span.start.offset..span.end.offset));
    alternatives.into_iter().find(|one| !can_match(one))
}

/// Returns `false` only if the pattern matches no text that starts with the scheme.
fn can_match(text: &str) -> bool {
    let Ok(expression) = regex_syntax::parse(text) else {
        return true;
    };
    let prefixes = Extractor::new().extract(&expression);
    let scheme = SCHEME.as_bytes();
    let fits = |prefix: &Literal| {
        let goes_on = !prefix.is_exact() && scheme.starts_with(prefix.as_bytes());
        goes_on || prefix.as_bytes().starts_with(scheme)
    };
    prefixes
        .literals()
        .is_none_or(|prefixes| prefixes.iter().any(fits))
}

/// The pattern with the scheme as a prefix, if that can match.
fn corrected(text: &str) -> Option<String> {
    let corrected = format!("{SCHEME}{}", bare(text));
    let is_good = pattern(&corrected).is_ok() && impossible_part(&corrected).is_none();
    let repeats_scheme = corrected.to_ascii_lowercase().matches(SCHEME).count() > 1;
    (is_good && !repeats_scheme).then_some(corrected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: Keys = ["applications.include", "applications.exclude"];

    fn selector(include: &[&str], exclude: &[&str]) -> Selector {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Selector::new(owned(include), owned(exclude)).unwrap()
    }

    fn unmatched(include: &[&str], exclude: &[&str], names: &[&str]) -> Vec<String> {
        let names: Vec<Name> = names.iter().map(|name| (*name).into()).collect();
        let unmatched = selector(include, exclude).unmatched(KEYS, &names);
        unmatched.iter().map(ToString::to_string).collect()
    }

    const NAMES: [&str; 3] = ["fabric:/Shop", "fabric:/Shop2", "fabric:/Billing"];

    #[test]
    fn patterns_that_match_are_not_reported() {
        assert!(unmatched(&["fabric:/Shop.*", "(?i)fabric:/billing"], &[], &NAMES).is_empty());
        assert!(unmatched(&[".*"], &["fabric:/Shop"], &NAMES).is_empty());
        assert!(
            unmatched(&[".*"], &[], &[]).is_empty(),
            "the default on nothing"
        );
        assert!(unmatched(&[".*"], &["fabric:/.*"], &NAMES).is_empty());
    }

    #[test]
    fn unmatched_inclusion_is_reported_with_a_suggestion() {
        for (written, meant) in [
            ("Shop", Some("fabric:/Shop")),
            ("/Shop", Some("fabric:/Shop")),
            ("^Shop$", Some("fabric:/Shop$")),
            ("Fabric:/Shop", Some("fabric:/Shop")),
            ("Shop|Billing", Some("fabric:/(?:Shop|Billing)")),
            ("fabric:/shop", Some("(?i)fabric:/shop")),
            ("shop", Some("(?i)shop")),
            ("billing", Some("(?i)fabric:/billing")),
            ("fabric:/Bill*", Some("fabric:/Bill.*")),
            ("Bill*", Some("fabric:/Bill.*")),
            ("fabric:/Absent", None),
        ] {
            let hint = meant.map(|meant| format!(", did you mean {meant:?}?"));
            let hint = hint.unwrap_or_default();
            let expected = format!("applications.include {written:?} matches nothing{hint}");
            // `(?i)shop` does not match a whole name either.
            let expected = expected.replace("(?i)shop\"?", "(?i)fabric:/shop\"?");
            assert_eq!(unmatched(&[written, ".*"], &[], &NAMES), [expected]);
        }
    }

    #[test]
    fn application_name_in_services_suggests_its_services() {
        let warnings = unmatched(&["fabric:/Shop"], &[], &["fabric:/Shop/Orders"]);
        assert!(
            warnings[0].ends_with("did you mean \"fabric:/Shop/.*\"?"),
            "{warnings:?}"
        );
    }

    #[test]
    fn inclusion_whose_matches_are_all_excluded_is_reported() {
        let warnings = unmatched(&["fabric:/Shop", "fabric:/Billing"], &[".*/Shop"], &NAMES);
        assert_eq!(
            warnings,
            [
                "applications.include \"fabric:/Shop\" matches nothing, because \
                 applications.exclude excludes every name that it matches"
            ]
        );
    }

    #[test]
    fn unmatched_exclusion_is_reported_only_if_misspelled() {
        assert!(unmatched(&[".*"], &["fabric:/Test.*"], &NAMES).is_empty());
        let warnings = unmatched(&[".*"], &["fabric:/shop.*"], &NAMES);
        assert_eq!(
            warnings,
            [
                "applications.exclude \"fabric:/shop.*\" matches nothing, did you mean \
                 \"(?i)fabric:/shop.*\"?"
            ]
        );
    }

    #[test]
    fn impossible_patterns_are_reported_with_a_correction() {
        for (text, fix) in [
            ("Shop", "; write \"fabric:/Shop\""),
            ("Shop.*", "; write \"fabric:/Shop.*\""),
            ("^Shop", "; write \"fabric:/Shop\""),
            ("/Shop", "; write \"fabric:/Shop\""),
            ("fabric:Shop", "; write \"fabric:/Shop\""),
            ("Fabric:/Shop", "; write \"fabric:/Shop\""),
            ("(?i)shop", "; write \"fabric:/(?i)shop\""),
            ("Shop|Billing", "; write \"fabric:/(?:Shop|Billing)\""),
            ("Fabric:/Shop|Fabric:/Billing", ""),
            ("fabric", "; write \"fabric:/fabric\""),
        ] {
            let warnings = selector(&[text], &[]).impossible(KEYS);
            let expected = format!(
                "applications.include: {text:?} never matches, because every name starts with \
                 fabric:/{fix}."
            );
            assert_eq!(warnings, [expected]);
            assert_eq!(
                selector(&[".*"], &[text]).impossible(KEYS).len(),
                1,
                "{text}"
            );
        }
        let warnings = selector(&["fabric:/Shop|Billing"], &[]).impossible(KEYS);
        assert_eq!(
            warnings,
            [
                "applications.include: \"Billing\", an alternative in \"fabric:/Shop|Billing\", \
                 never matches, because every name starts with fabric:/; write \
                 \"fabric:/Billing\"."
            ]
        );
    }

    #[test]
    fn possible_patterns_are_not_reported() {
        for text in [
            ".*",
            ".+/Orders",
            "[^/]+/Shop",
            "fabric:/Shop",
            "^fabric:/Shop$",
            "(?i)FABRIC:/shop",
            "(fabric:/)?Shop",
            "(?i)fabric:/a|FABRIC:/b",
            "fabric:/(Shop|Billing)",
            "fabric:/Shop|fabric:/Billing",
            "f.*",
            "\\w+:/Shop",
        ] {
            assert!(
                selector(&[text], &[text]).impossible(KEYS).is_empty(),
                "{text}"
            );
        }
    }

    /// Random pattern, built from parts of patterns and names.
    fn random_pattern() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "fabric:/", "fabric", ":", "/", "Shop", "S", "(?i)", "FABRIC:/", ".", ".*", "|", "(",
            ")", "[a-z]+", "^", "$", "?", "\\w", "x*",
        ]);
        prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn matching_pattern_is_never_impossible(
            text in random_pattern(), rest in "[A-Za-z/]{0,6}"
        ) {
            let name = format!("fabric:/{rest}");
            if let Ok(text) = pattern(&text)
                && compiled(&anchored(&text)).unwrap().is_match(&name)
            {
                prop_assert!(can_match(&text), "{text} {name}");
            }
        }

        #[test]
        fn corrections_are_valid_patterns(text in random_pattern()) {
            if let Some(text) = corrected(&text) {
                prop_assert!(pattern(&text).is_ok());
            }
        }
    }
}
