//! The text of one setting → its value, or a sentence that says what to write instead.
//!
//! Pure functions; a sentence never repeats what may be a secret (an address with anything but
//! scheme, host and port).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use url::Url;
use uuid::Uuid;

use crate::model::PartitionId;
use crate::settings::quoted;

/// Units of a duration and their seconds, in the order in which they are written.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Long enough for any use; far below what arithmetic on moments can take.
const LONGEST_DAYS: u64 = 365;

/// A duration such as `1m30s`: whole days, hours, minutes and seconds, from 1s to 365d.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text).ok_or_else(|| {
        format!(
            "{} is not a duration in whole seconds; write for example 30s, 5m or 1m30s",
            quoted(text)
        )
    })?;
    if (1..=LONGEST_DAYS * 24 * 3600).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(format!(
        "{} is out of range; write at least 1s and at most {LONGEST_DAYS}d",
        quoted(text)
    ))
}

/// Numbers with units, the larger unit first; more than fits is `u64::MAX`.
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

/// How a duration is written in a configuration.
pub(super) fn spelled(duration: Duration) -> String {
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

/// A whole number within `range`.
pub(super) fn number(text: &str, range: &RangeInclusive<usize>) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| range.contains(n))
        .ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            format!("{} is not a whole number from {from} to {to}", quoted(text))
        })
}

/// One of a few words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    Err(format!(
        "{} is not known here; write {}",
        quoted(text),
        words.join(" or ")
    ))
}

/// The path of a file, as written.
pub(super) fn path(text: &str) -> Result<&str, String> {
    // What `\t`, `\n`, `\N`, `\_`, `\L` and `\P` stand for in double quotes.
    let is_escape = |c: char| c.is_control() || matches!(c, '\u{a0}' | '\u{2028}' | '\u{2029}');
    if text.contains(is_escape) {
        return Err(format!(
            "{} contains a character that is not part of a path: in double quotes, a backslash \
             begins an escape sequence (`\\t` is a tab); write the path in single quotes",
            quoted(text)
        ));
    }
    Ok(text)
}

/// The name of a cluster: some text of at most 64 characters without control characters.
pub(super) fn name(text: &str) -> Result<Arc<str>, String> {
    const LONGEST: usize = 64;
    if text.trim().is_empty() {
        return Err("the name is empty; write for example prod".to_owned());
    }
    if text.chars().any(char::is_control) || text.chars().count() > LONGEST {
        return Err(format!(
            "{} is not a name; write at most {LONGEST} characters on one line, for example prod",
            quoted(text)
        ));
    }
    Ok(text.into())
}

/// The address of a gateway: scheme, host and port, nothing else.
pub(super) fn endpoint(text: &str) -> Result<Url, String> {
    const EXAMPLE: &str = "https://node1:19080";
    // Anything else in an address may be a secret.
    let shown = if text.contains(['@', '?', '#']) {
        "this".to_owned()
    } else {
        quoted(text)
    };
    let no_url =
        || format!("{shown} is not a URL with scheme http or https; write for example {EXAMPLE}");
    let url = Url::parse(text).map_err(|_| no_url())?;
    let surplus = if !url.username().is_empty() || url.password().is_some() {
        "a user name or password"
    } else if url.query().is_some() {
        "a query"
    } else if url.fragment().is_some() {
        "a fragment"
    } else if !matches!(url.scheme(), "http" | "https") {
        return Err(no_url());
    } else if url.path() != "/" {
        "a path"
    } else {
        return Ok(url);
    };
    Err(format!(
        "{shown} is a URL with {surplus}; write scheme, host and port only, for example {EXAMPLE}"
    ))
}

/// The id of a partition.
pub(super) fn partition(text: &str) -> Result<PartitionId, String> {
    match Uuid::parse_str(text) {
        Ok(id) if !id.is_nil() => Ok(PartitionId(id)),
        _ => Err(format!(
            "{} is not the id of a partition; write a GUID such as \
             1daae3f5-7fd6-42e9-b1ba-8c05f873994d",
            quoted(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units() {
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
    fn what_is_no_duration_is_refused() {
        for text in [
            "", "60", "s", "1", "-1s", "+1s", "1.5m", "500ms", "1s1m", "1s1s", "1m 30s", "1M",
            "1S", " 1s", "1s ", "1m30", "soon", "١s", "1µs",
        ] {
            let told = duration(text).unwrap_err();
            assert!(told.contains("is not a duration"), "{told}");
        }
        for text in ["0s", "0d0h", "366d", "99999999999999999999999d", "8761h"] {
            let told = duration(text).unwrap_err();
            assert!(told.contains("is out of range"), "{told}");
        }
    }

    #[test]
    fn a_spelled_duration_reads_back() {
        for text in ["1s", "1m30s", "2h", "59m59s", "365d", "1d1s"] {
            assert_eq!(spelled(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn escape_sequences_in_a_path_are_refused_with_the_fix() {
        for text in [
            "C:\temp\new",
            "C:\u{2029}rogram Files",
            "D:\u{2028}ogs",
            "D:\u{a0}work",
            "D:\u{85}ode",
            "/etc/a\0",
        ] {
            let told = path(text).unwrap_err();
            assert!(told.ends_with("write the path in single quotes"), "{told}");
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
    fn no_message_repeats_what_may_be_a_secret() {
        for text in [
            "http://user:hunter2@node1:19080",
            "https://hunter2@node1",
            "htp://user:hunter2@node1",
            "user:hunter2@node1",
            "http://node1/?token=hunter2",
            "http://node1/#hunter2",
            "http://user:hunter2@",
        ] {
            let told = endpoint(text).unwrap_err();
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn the_zero_guid_is_no_partition() {
        assert!(partition("00000000-0000-0000-0000-000000000000").is_err());
        assert!(partition("1DAAE3F5-7FD6-42E9-B1BA-8C05F873994D").is_ok());
    }
}
