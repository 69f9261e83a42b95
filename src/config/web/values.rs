//! The text of one setting of the web configuration → its value, or what to write instead.
//!
//! Pure functions that take what the toolkit takes: truth values as YAML 1.1 spells them, lengths
//! of time as Go does. No sentence repeats a hash.

use std::str::FromStr as _;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use bcrypt::HashParts;

use super::super::values::word;
use super::{DEMAND, Demand, Hash};
use crate::settings::quoted;

/// Headers that may be configured, and the values that some of them are limited to.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// The longest time in which one token may come back.
const LONGEST_INTERVAL: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) fn demand(text: &str) -> Result<Demand, String> {
    let words = [
        ("NoClientCert", Demand::Nothing),
        ("RequestClientCert", Demand::Request),
        ("RequireAnyClientCert", Demand::RequireAny),
        ("RequireClientCert", Demand::RequireAny),
        ("VerifyClientCertIfGiven", Demand::VerifyIfGiven),
        ("RequireAndVerifyClientCert", Demand::RequireAndVerify),
    ];
    if text.is_empty() {
        return Ok(DEMAND);
    }
    word(text, &words)
}

/// A truth value as YAML 1.1, which the toolkit reads, spells it.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    const TRUE: [&str; 11] = [
        "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y",
    ];
    const FALSE: [&str; 11] = [
        "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N",
    ];
    if TRUE.contains(&text) {
        return Ok(true);
    }
    if FALSE.contains(&text) {
        return Ok(false);
    }
    Err(format!(
        "{} is not known here; write true or false",
        quoted(text)
    ))
}

pub(super) fn header(name: &str, text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        let known = HEADERS.map(|(name, _)| name).join(", ");
        return Err(format!(
            "this header cannot be configured; the headers here are {known}"
        ));
    };
    if !allowed.is_empty() && !allowed.contains(&text) {
        let allowed = allowed.join(" or ");
        return Err(format!(
            "{} is not known here; write {allowed}",
            quoted(text)
        ));
    }
    let no_text = || {
        format!(
            "{} cannot be sent; write it in ASCII on one line",
            quoted(text)
        )
    };
    let value = HeaderValue::from_str(text).map_err(|_| no_text())?;
    let name = HeaderName::from_str(name).expect("the names above are names of headers");
    Ok((name, value))
}

/// A bcrypt hash as Go can compare with it.
pub(super) fn hash(text: &str) -> Result<Hash, String> {
    const ADVICE: &str = "write what `htpasswd -nBC 10 NAME` prints after the colon";
    let known = ["$2a$", "$2b$", "$2y$"]
        .iter()
        .any(|version| text.starts_with(version));
    let parts = HashParts::from_str(text).ok().filter(|_| known);
    let parts = parts.ok_or_else(|| format!("this is no bcrypt hash; {ADVICE}"))?;
    if !(4..=31).contains(&parts.get_cost()) {
        return Err(format!(
            "the cost of this hash is not from 4 to 31; {ADVICE}"
        ));
    }
    Ok(Hash(text.into()))
}

/// A length of time as Go spells it; without a unit only `0` has a meaning that is meant.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = if text == "0" {
        Some(Duration::ZERO)
    } else {
        go_duration(text)
    };
    let interval = interval.filter(|interval| *interval <= LONGEST_INTERVAL);
    interval.ok_or_else(|| {
        format!(
            "{} is not a length of time of at most a year; write for example 1s or 100ms, or 0 \
             for no limit",
            quoted(text)
        )
    })
}

/// Numbers with units, such as `1h2m` or `1.5s`.
fn go_duration(text: &str) -> Option<Duration> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_spelled_as_in_go() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("1s", 1000),
            ("1h2m3s", 3_723_000),
            ("1.5s", 1500),
            (".5m", 30_000),
            ("250ms", 250),
            ("2000us", 2),
            ("2000µs1000000ns", 3),
        ] {
            assert_eq!(
                interval(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "", "1", "s", ".s", "-1s", "1d", "1 s", "1.2.3s", "1s1", "9000h", "1e9h", "inf",
        ] {
            let told = interval(text).unwrap_err();
            assert!(told.contains("is not a length of time"), "{told}");
        }
    }

    #[test]
    fn hashes_are_those_that_can_be_compared_with() {
        let rest = "$10$n2J.wTO33UWWPJ2GqfTg7epE7TV8R5o2udQCBjSwhO44W1lqAwvsu";
        for version in ["$2a", "$2b", "$2y"] {
            assert!(hash(&format!("{version}{rest}")).is_ok(), "{version}");
        }
        let whole = format!("$2y{rest}");
        for text in [
            "",
            "doe",
            "$2y$",
            &format!("$2x{rest}"),
            &format!("$1y{rest}"),
            &format!("{whole}x"),
            &whole.replace("$10$", "$03$"),
            &whole.replace("$10$", "$32$"),
            &whole.replace("$10$", "$1x$"),
            &whole.replacen("$n", "$*", 1),
        ] {
            let told = hash(text).unwrap_err();
            assert!(told.contains("htpasswd -nBC 10"), "{text}: {told}");
        }
    }
}
