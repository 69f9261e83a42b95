//! Parses single values, or returns an error message: `expected …, found …`.
//!
//! A message never contains a possible secret, such as a URL with more than scheme, host and port.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use url::Url;
use uuid::Uuid;

use crate::model::PartitionId;
use crate::settings::quoted;

/// Units of a duration and their lengths in seconds, in the order in which they must be written.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Limits durations, so that arithmetic with times cannot overflow.
const MAX_DAYS: u64 = 365;

/// A duration such as `1m30s`, in whole days, hours, minutes and seconds, from 1s to 365d.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text).ok_or_else(|| {
        format!(
            "expected a duration such as 30s, 5m or 1m30s, found {}",
            quoted(text)
        )
    })?;
    if (1..=MAX_DAYS * 24 * 3600).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(format!(
        "expected a duration from 1s to {MAX_DAYS}d, found {}",
        quoted(text)
    ))
}

/// Parses numbers with units, the larger unit first. Saturates at `u64::MAX`.
fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    for (unit, length) in UNITS {
        if let Some((number, after)) = rest.split_once(unit) {
            if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let number: u64 = number.parse().unwrap_or(u64::MAX);
            total = total.saturating_add(number.saturating_mul(length));
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

/// Formats a duration as in a configuration file.
pub(super) fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (unit, length) in UNITS {
        if rest >= length {
            text.push_str(&(rest / length).to_string());
            text.push(unit);
            rest %= length;
        }
    }
    text
}

/// An integer within `range`.
pub(super) fn number(text: &str, range: &RangeInclusive<usize>) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| range.contains(n))
        .ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            format!(
                "expected an integer from {from} to {to}, found {}",
                quoted(text)
            )
        })
}

/// One of `words`.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    Err(format!(
        "expected {}, found {}",
        words.join(" or "),
        quoted(text)
    ))
}

/// The path of a file.
pub(super) fn path(text: &str) -> Result<&str, String> {
    // The meanings of `\t`, `\n`, `\N`, `\_`, `\L` and `\P` in double quotes.
    let is_escape = |c: char| c.is_control() || matches!(c, '\u{a0}' | '\u{2028}' | '\u{2029}');
    if text.contains(is_escape) {
        return Err(format!(
            "expected a path, found {} with a control character: in double quotes, a backslash \
             starts an escape sequence (`\\t` is a tab); write the path in single quotes",
            quoted(text)
        ));
    }
    Ok(text)
}

/// The name of a cluster: up to 64 characters without control characters.
pub(super) fn name(text: &str) -> Result<Arc<str>, String> {
    const MAX_LENGTH: usize = 64;
    if text.trim().is_empty() {
        return Err("expected a name such as prod, found empty text".to_owned());
    }
    if text.chars().any(char::is_control) || text.chars().count() > MAX_LENGTH {
        return Err(format!(
            "expected a name of up to {MAX_LENGTH} characters on one line, found {}",
            quoted(text)
        ));
    }
    Ok(text.into())
}

/// The URL of a gateway: scheme, host and port only.
pub(super) fn endpoint(text: &str) -> Result<Url, String> {
    const EXAMPLE: &str = "https://node1:19080";
    // Other parts of the URL may contain a secret.
    let shown = if text.contains(['@', '?', '#']) {
        "another value".to_owned()
    } else {
        quoted(text)
    };
    let not_a_url = || format!("expected an http or https URL such as {EXAMPLE}, found {shown}");
    let url = Url::parse(text).map_err(|_| not_a_url())?;
    let surplus = if !url.username().is_empty() || url.password().is_some() {
        "user name or password"
    } else if url.query().is_some() {
        "query"
    } else if url.fragment().is_some() {
        "fragment"
    } else if !matches!(url.scheme(), "http" | "https") {
        return Err(not_a_url());
    } else if url.path() != "/" {
        "path"
    } else {
        return Ok(url);
    };
    Err(format!(
        "expected a URL without {surplus} such as {EXAMPLE}, found {shown}"
    ))
}

/// A partition id.
pub(super) fn partition(text: &str) -> Result<PartitionId, String> {
    match Uuid::parse_str(text) {
        Ok(id) if !id.is_nil() => Ok(PartitionId(id)),
        _ => Err(format!(
            "expected a partition id such as 1daae3f5-7fd6-42e9-b1ba-8c05f873994d, found {}",
            quoted(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_integers_with_units() {
        for (text, seconds) in [
            ("1s", 1),
            ("90s", 90),
            ("1m30s", 90),
            ("1d2h3m4s", 93_784),
            ("365d", 365 * 86_400),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn other_durations_are_rejected() {
        for text in [
            "", "60", "s", "1", "-1s", "+1s", "1.5m", "500ms", "1s1m", "1s1s", "1m 30s", "1M",
            "1S", " 1s", "1s ", "1m30", "soon", "١s", "1µs",
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains("a duration such as"), "{error}");
        }
        for text in ["0s", "0d0h", "366d", "99999999999999999999999d", "8761h"] {
            let error = duration(text).unwrap_err();
            assert!(error.contains("a duration from 1s to 365d"), "{error}");
        }
    }

    #[test]
    fn formatted_duration_parses_to_itself() {
        for text in ["1s", "1m30s", "2h", "59m59s", "365d", "1d1s"] {
            assert_eq!(format_duration(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn escape_sequences_in_a_path_are_rejected() {
        for text in [
            "C:\temp\new",
            "C:\u{2029}rogram Files",
            "D:\u{2028}ogs",
            "D:\u{a0}work",
            "D:\u{85}ode",
            "/etc/a\0",
        ] {
            let error = path(text).unwrap_err();
            assert!(
                error.ends_with("write the path in single quotes"),
                "{error}"
            );
        }
        for text in ["", r"C:\temp\new", r"\\server\share", "/etc/ä b/c"] {
            assert_eq!(path(text), Ok(text));
        }
    }

    #[test]
    fn endpoints_are_scheme_host_and_port() {
        for text in [
            "http://node1:19080",
            "HTTP://node1",
            "http://[::1]:19080/",
            "http://10.0.0.4:80",
            "https://node1:19080",
        ] {
            assert!(endpoint(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "node1",
            "node1:19080",
            "http://",
            "ftp://node1",
            "http://node1:x",
            "/",
            "http://node1/Nodes",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_hide_possible_secrets() {
        for text in [
            "http://user:hunter2@node1:19080",
            "https://hunter2@node1",
            "htp://user:hunter2@node1",
            "user:hunter2@node1",
            "http://node1/?token=hunter2",
            "http://node1/#hunter2",
            "http://user:hunter2@",
        ] {
            let error = endpoint(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn zero_guid_is_not_a_partition_id() {
        assert!(partition("00000000-0000-0000-0000-000000000000").is_err());
        assert!(partition("1DAAE3F5-7FD6-42E9-B1BA-8C05F873994D").is_ok());
    }
}
