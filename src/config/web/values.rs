//! Parses single values of the web configuration, in the formats of the exporter toolkit: booleans of
//! YAML 1.1, durations of Go. Errors never show a hash.

use std::str::FromStr as _;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use bcrypt::HashParts;

use super::super::values::word;
use crate::settings::quoted;
use crate::settings::web::{ClientAuth, PasswordHash};

/// The supported headers, and their allowed values if these are restricted.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// Maximum time in which a token is added.
const MAX_INTERVAL: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) fn client_auth(text: &str) -> Result<ClientAuth, String> {
    let words = [
        ("NoClientCert", ClientAuth::None),
        ("RequestClientCert", ClientAuth::Request),
        ("RequireAnyClientCert", ClientAuth::RequireAny),
        ("RequireClientCert", ClientAuth::RequireAny),
        ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
        ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
    ];
    if text.is_empty() {
        return Ok(ClientAuth::None);
    }
    word(text, &words)
}

/// A boolean of YAML 1.1, which the exporter toolkit reads.
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
    Err(format!("expected true or false, found {}", quoted(text)))
}

pub(super) fn header(name: &str, text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        let known = HEADERS.map(|(name, _)| name).join(", ");
        return Err(format!("unsupported header; expected one of {known}"));
    };
    if !allowed.is_empty() && !allowed.contains(&text) {
        let allowed = allowed.join(" or ");
        return Err(format!("expected {allowed}, found {}", quoted(text)));
    }
    let invalid = || format!("expected ASCII text on one line, found {}", quoted(text));
    let value = HeaderValue::from_str(text).map_err(|_| invalid())?;
    let name = HeaderName::from_str(name).expect("the names in HEADERS are valid");
    Ok((name, value))
}

/// A bcrypt hash that Go supports.
pub(super) fn hash(text: &str) -> Result<PasswordHash, String> {
    const ADVICE: &str = "write the output of `htpasswd -nBC 10 NAME` after the colon";
    let known = ["$2a$", "$2b$", "$2y$"]
        .iter()
        .any(|version| text.starts_with(version));
    let parts = HashParts::from_str(text).ok().filter(|_| known);
    let parts = parts.ok_or_else(|| format!("expected a bcrypt hash; {ADVICE}"))?;
    if !(4..=31).contains(&parts.get_cost()) {
        return Err(format!(
            "expected a bcrypt hash with a cost from 4 to 31; {ADVICE}"
        ));
    }
    Ok(PasswordHash::new(text))
}

/// A duration of Go. Only `0` may have no unit.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = if text == "0" {
        Some(Duration::ZERO)
    } else {
        go_duration(text)
    };
    let interval = interval.filter(|interval| *interval <= MAX_INTERVAL);
    interval.ok_or_else(|| {
        format!(
            "expected a duration of at most a year such as 1s or 100ms, or 0 for no limit, found {}",
            quoted(text)
        )
    })
}

/// Parses numbers with units, such as `1h2m` or `1.5s`.
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
    fn durations_have_the_format_of_go() {
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
            let error = interval(text).unwrap_err();
            assert!(error.contains("expected a duration"), "{error}");
        }
    }

    #[test]
    fn only_valid_bcrypt_hashes_are_accepted() {
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
            let error = hash(text).unwrap_err();
            assert!(error.contains("htpasswd -nBC 10"), "{text}: {error}");
        }
    }
}
