//! An access token and its lifetime.
//!
//! The lifetime is that of the response, or of the unverified claim `exp` in the token. It only
//! determines when to request the next token: whether a token is accepted is up to the cluster.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::error::TokenError;
use super::now::Now;
use crate::gateway::bearer::Bearer;
use crate::gateway::decode::Integer;

/// Bounds of the lifetime. A token that is already expired is requested at most twice a minute,
/// and a token that is valid for years is renewed every day.
const MIN_LIFETIME: Duration = Duration::from_secs(60);
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How long before its expiry a token is renewed, unless its lifetime is shorter than twice that.
const RENEWAL_MARGIN: Duration = Duration::from_secs(5 * 60);

/// The response of a token endpoint (RFC 6749, section 5.1).
#[derive(Deserialize)]
pub(super) struct TokenResponse {
    pub(super) access_token: Option<String>,
    /// Seconds; a string in version 1 of the protocol and from virtual machines.
    expires_in: Option<Integer>,
    /// Seconds since 1970; the only expiry in the responses of Service Fabric.
    expires_on: Option<Integer>,
}

#[derive(Clone, Debug)]
pub(super) struct AccessToken {
    pub(super) bearer: Bearer,
    /// When to stop using it; `None` if its expiry is unknown.
    pub(super) expires: Option<Instant>,
    /// The reported expiry, without bounds; for people.
    pub(super) expires_at: Option<DateTime<Utc>>,
    /// When to request the next token; `None` for a token from a file, which each cycle reads again.
    pub(super) renew_at: Option<Instant>,
}

impl AccessToken {
    /// `token` from `response`.
    pub(super) fn from_response(
        token: &str,
        response: &TokenResponse,
        now: Now,
    ) -> Result<Self, TokenError> {
        let bearer = Bearer::new(token)?;
        let lifetime = TokenLifetime::of(token, response, now.time);
        let remaining = lifetime.remaining.clamp(MIN_LIFETIME, MAX_LIFETIME);
        let fresh = remaining.saturating_sub(RENEWAL_MARGIN.min(remaining / 2));
        Ok(Self {
            bearer,
            expires: Some(now.instant + remaining),
            expires_at: lifetime.expires_at,
            renew_at: Some(now.instant + fresh),
        })
    }

    /// `token` from the file at `path`. An expired JWT is an error.
    pub(super) fn from_file(token: &str, path: &str, now: Now) -> Result<Self, TokenError> {
        let bearer = Bearer::new(token)?;
        let expires_at = jwt_expiry(token);
        let remaining = expires_at.map(|expires_at| (expires_at - now.time).to_std());
        let remaining = remaining.transpose().map_err(|_| TokenError::Expired {
            path: path.to_owned(),
            expired_at: expires_at.unwrap_or_default(),
        })?;
        Ok(Self {
            bearer,
            expires: remaining.and_then(|remaining| now.instant.checked_add(remaining)),
            expires_at,
            renew_at: None,
        })
    }
}

/// The reported lifetime of a token.
struct TokenLifetime {
    /// Zero if it has expired or its lifetime is unknown.
    remaining: Duration,
    /// `None` also beyond the range of the calendar.
    expires_at: Option<DateTime<Utc>>,
}

impl TokenLifetime {
    fn of(token: &str, response: &TokenResponse, now: DateTime<Utc>) -> Self {
        if let Some(seconds) = response.expires_in.and_then(Integer::known) {
            let remaining = Duration::from_secs(seconds);
            let delta = TimeDelta::from_std(remaining).ok();
            return Self {
                remaining,
                expires_at: delta.and_then(|delta| now.checked_add_signed(delta)),
            };
        }
        let seconds = response.expires_on.and_then(Integer::known);
        let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
        let expires_at = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        let expires_at = expires_at.or_else(|| jwt_expiry(token));
        Self {
            remaining: expires_at
                .and_then(|expires_at| (expires_at - now).to_std().ok())
                .unwrap_or_default(),
            expires_at,
        }
    }
}

/// The claim `exp` of a JWT (RFC 7519, section 4.1.4), not verified; `None` for other tokens.
fn jwt_expiry(token: &str) -> Option<DateTime<Utc>> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    DateTime::from_timestamp(claims.get("exp")?.as_i64()?, 0)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::decode::document;

    pub(in crate::gateway::token) fn now() -> Now {
        Now {
            instant: Instant::now(),
            time: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        }
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn response(token: &str, times: &str) -> AccessToken {
        response_at(now(), token, times)
    }

    fn response_at(now: Now, token: &str, times: &str) -> AccessToken {
        let response: TokenResponse = document(times.as_bytes()).unwrap().unwrap();
        AccessToken::from_response(token, &response, now).unwrap()
    }

    #[test]
    fn lifetime_is_read_in_every_format() {
        let exp = jwt(r#"{"exp":1800003600}"#);
        for (token, times) in [
            ("t", r#"{"expires_in":3600}"#),
            ("t", r#"{"expires_in":"3600","expires_on":"1"}"#),
            ("t", r#"{"expires_on":1800003600}"#),
            ("t", r#"{"expires_on":"1800003600"}"#),
            (&exp, "{}"),
        ] {
            let now = now();
            let token = response_at(now, token, times);
            let hour = Duration::from_secs(3600);
            assert_eq!(token.expires, Some(now.instant + hour), "{times}");
            assert_eq!(token.expires_at, Some(now.time + hour), "{times}");
        }
    }

    #[test]
    fn token_is_renewed_five_minutes_or_half_its_lifetime_before_expiry() {
        for (lifetime, margin) in [(3600, 300), (600, 300), (300, 150), (60, 30), (4, 30)] {
            let token = response("t", &format!(r#"{{"expires_in":{lifetime}}}"#));
            let early = token.expires.unwrap() - token.renew_at.unwrap();
            assert_eq!(early, Duration::from_secs(margin), "{lifetime}");
        }
    }

    #[test]
    fn reported_expiry_has_no_bounds() {
        let day = 24 * 60 * 60;
        for (times, end) in [
            (r#"{"expires_in":4}"#, Some(4)),
            (r#"{"expires_on":1799999990}"#, Some(-10)),
            (r#"{"expires_in":864000}"#, Some(10 * day)),
            (r#"{"expires_in":9223372036854775807}"#, None),
            ("{}", None),
        ] {
            let now = now();
            let reported = response_at(now, "t", times).expires_at;
            let end = end.map(|seconds| now.time + TimeDelta::seconds(seconds));
            assert_eq!(reported, end, "{times}");
        }
    }

    #[test]
    fn lifetime_is_bounded() {
        let past = jwt(r#"{"exp":-99999999999999}"#);
        for (token, times, lifetime) in [
            ("t", "{}", MIN_LIFETIME),
            ("t", r#"{"expires_in":0}"#, MIN_LIFETIME),
            ("t", r#"{"expires_in":-5}"#, MIN_LIFETIME),
            ("t", r#"{"expires_on":1}"#, MIN_LIFETIME),
            (&past, "{}", MIN_LIFETIME),
            ("t", r#"{"expires_in":9223372036854775807}"#, MAX_LIFETIME),
            ("t", r#"{"expires_on":"9223372036854775807"}"#, MIN_LIFETIME),
        ] {
            let now = now();
            let token = response_at(now, token, times);
            assert_eq!(token.expires, Some(now.instant + lifetime), "{times}");
        }
    }

    #[test]
    fn token_from_a_file_is_valid_until_its_own_expiry() {
        let now = now();
        let token = AccessToken::from_file(&jwt(r#"{"exp":1800000010}"#), "f", now).unwrap();
        let end = now.instant + Duration::from_secs(10);
        assert_eq!((token.expires, token.renew_at), (Some(end), None));
        let opaque = AccessToken::from_file("opaque", "f", now).unwrap();
        assert_eq!((opaque.expires, opaque.expires_at), (None, None));
        let expired = AccessToken::from_file(&jwt(r#"{"exp":1799999999}"#), "f", now).unwrap_err();
        assert!(expired.to_string().contains("the token in f expired at"));
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_or_rejected(text: String, end: i64) {
            let now = now();
            drop(AccessToken::from_file(&text, "f", now));
            drop(AccessToken::from_file(&jwt(&format!("{{\"exp\":{end}}}")), "f", now));
        }
    }
}
