//! A token, and for how long it is good.
//!
//! A [`Bearer`] that exists fits a header. How long it lives is what its issuer says, or what it
//! says itself without being verified: whether a token is good is decided by the cluster, and the
//! times only tell when to ask for the next.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::error::TokenError;
use crate::gateway::bearer::Bearer;
use crate::gateway::decode::Integer;

/// Bounds of what is believed of the life of a token. One that is dead on arrival is asked for
/// twice a minute at most; one that lives for years is still renewed every day.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long before its end a token is renewed, if it lives long enough.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Of the clock that only goes on: for what is due when.
    pub(super) instant: Instant,
    /// Of the clock on the wall: for what others say and are told.
    pub(super) time: DateTime<Utc>,
}

/// What a token endpoint answers.
#[derive(Deserialize)]
pub(super) struct Reply {
    pub(super) access_token: Option<String>,
    /// Seconds; a string from protocol v1 and from virtual machines.
    expires_in: Option<Integer>,
    /// Seconds since 1970: all that Service Fabric says.
    expires_on: Option<Integer>,
}

/// A token that was had.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) bearer: Bearer,
    /// Until when it is used, within bounds; `None` when it does not say when it ends.
    pub(super) expires: Option<Instant>,
    /// When it ends, as it was said; for people.
    pub(super) expires_at: Option<DateTime<Utc>>,
    /// When to ask for the next; `None` for not by itself.
    pub(super) due: Option<Instant>,
}

impl Issued {
    /// The token in an answer, which has one.
    pub(super) fn granted(token: &str, reply: &Reply, now: Moment) -> Result<Self, TokenError> {
        let said = Said::of(token, reply, now.time);
        let life = said.life.clamp(SHORTEST_LIFE, LONGEST_LIFE);
        let fresh = life.saturating_sub(MARGIN.min(life / 2));
        Ok(Self {
            bearer: Bearer::new(token)?,
            expires: Some(now.instant + life),
            expires_at: said.end,
            due: Some(now.instant + fresh),
        })
    }

    /// The token in the file at `path`: good for as long as it says, if it says so.
    pub(super) fn written(token: &str, path: &str, now: Moment) -> Result<Self, TokenError> {
        let bearer = Bearer::new(token)?;
        let expires_at = expiry(token);
        let life = expires_at.map(|end| (end - now.time).to_std());
        let life = life.transpose().map_err(|_| TokenError::Expired {
            path: path.to_owned(),
            expired_at: expires_at.unwrap_or_default(),
        })?;
        Ok(Self {
            bearer,
            expires: life.and_then(|life| now.instant.checked_add(life)),
            expires_at,
            due: None,
        })
    }
}

/// What is said of the life of a token that was answered.
struct Said {
    /// Nothing when it is over, or where nobody says how long it is.
    life: Duration,
    /// `None` as well for what no calendar has.
    end: Option<DateTime<Utc>>,
}

impl Said {
    fn of(token: &str, reply: &Reply, now: DateTime<Utc>) -> Self {
        if let Some(seconds) = reply.expires_in.and_then(Integer::known) {
            let life = Duration::from_secs(seconds);
            let delta = TimeDelta::from_std(life).ok();
            return Self {
                life,
                end: delta.and_then(|delta| now.checked_add_signed(delta)),
            };
        }
        let absolute = reply.expires_on.and_then(Integer::known);
        let absolute = absolute.and_then(|end| i64::try_from(end).ok());
        let end = absolute.and_then(|end| DateTime::from_timestamp(end, 0));
        let end = end.or_else(|| expiry(token));
        Self {
            life: end
                .and_then(|end| (end - now).to_std().ok())
                .unwrap_or_default(),
            end,
        }
    }
}

/// When a token says that it expires, if it is a JWT (RFC 7519, `exp`). Not verified.
fn expiry(token: &str) -> Option<DateTime<Utc>> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    DateTime::from_timestamp(claims.get("exp")?.as_i64()?, 0)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::bearer::{BearerError, MAX_TOKEN};
    use crate::gateway::decode::document;

    pub(in crate::gateway::token) fn now() -> Moment {
        Moment {
            instant: Instant::now(),
            time: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        }
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn granted(token: &str, times: &str) -> Issued {
        granted_at(now(), token, times)
    }

    fn granted_at(now: Moment, token: &str, times: &str) -> Issued {
        let reply: Reply = document(times.as_bytes()).unwrap().unwrap();
        Issued::granted(token, &reply, now).unwrap()
    }

    #[test]
    fn a_life_is_read_in_every_spelling() {
        let exp = jwt(r#"{"exp":1800003600}"#);
        for (token, times) in [
            ("t", r#"{"expires_in":3600}"#),
            ("t", r#"{"expires_in":"3600","expires_on":"1"}"#),
            ("t", r#"{"expires_on":1800003600}"#),
            ("t", r#"{"expires_on":"1800003600"}"#),
            (&exp, "{}"),
        ] {
            let now = now();
            let issued = granted_at(now, token, times);
            let hour = Duration::from_secs(3600);
            assert_eq!(issued.expires, Some(now.instant + hour), "{times}");
            assert_eq!(issued.expires_at, Some(now.time + hour), "{times}");
        }
    }

    #[test]
    fn a_token_is_renewed_five_minutes_or_half_its_life_before_its_end() {
        for (life, margin) in [(3600, 300), (600, 300), (300, 150), (60, 30), (4, 30)] {
            let issued = granted("t", &format!(r#"{{"expires_in":{life}}}"#));
            let early = issued.expires.unwrap() - issued.due.unwrap();
            assert_eq!(early, Duration::from_secs(margin), "{life}");
        }
    }

    #[test]
    fn the_end_of_a_token_is_told_as_it_was_said() {
        let day = 24 * 60 * 60;
        for (times, end) in [
            (r#"{"expires_in":4}"#, Some(4)),
            (r#"{"expires_on":1799999990}"#, Some(-10)),
            (r#"{"expires_in":864000}"#, Some(10 * day)),
            (r#"{"expires_in":9223372036854775807}"#, None),
            ("{}", None),
        ] {
            let now = now();
            let said = granted_at(now, "t", times).expires_at;
            let end = end.map(|seconds| now.time + TimeDelta::seconds(seconds));
            assert_eq!(said, end, "{times}");
        }
    }

    #[test]
    fn absurd_lives_are_bounded() {
        let past = jwt(r#"{"exp":-99999999999999}"#);
        for (token, times, life) in [
            ("t", "{}", SHORTEST_LIFE),
            ("t", r#"{"expires_in":0}"#, SHORTEST_LIFE),
            ("t", r#"{"expires_in":-5}"#, SHORTEST_LIFE),
            ("t", r#"{"expires_on":1}"#, SHORTEST_LIFE),
            (&past, "{}", SHORTEST_LIFE),
            ("t", r#"{"expires_in":9223372036854775807}"#, LONGEST_LIFE),
            (
                "t",
                r#"{"expires_on":"9223372036854775807"}"#,
                SHORTEST_LIFE,
            ),
        ] {
            let now = now();
            let issued = granted_at(now, token, times);
            assert_eq!(issued.expires, Some(now.instant + life), "{times}");
        }
    }

    #[test]
    fn a_token_from_a_file_lives_as_long_as_it_says() {
        let now = now();
        let issued = Issued::written(&jwt(r#"{"exp":1800000010}"#), "f", now).unwrap();
        let end = now.instant + Duration::from_secs(10);
        assert_eq!((issued.expires, issued.due), (Some(end), None));
        let opaque = Issued::written("opaque", "f", now).unwrap();
        assert_eq!((opaque.expires, opaque.expires_at), (None, None));
        let expired = Issued::written(&jwt(r#"{"exp":1799999999}"#), "f", now).unwrap_err();
        assert!(expired.to_string().contains("the token in f expired at"));
    }

    #[test]
    fn what_does_not_fit_a_header_is_no_token() {
        assert!(Bearer::new(&"x".repeat(MAX_TOKEN)).is_ok());
        for token in ["", "a b", "a\r\nHost: b", "ü", "a\0"] {
            assert!(matches!(
                Bearer::new(token),
                Err(BearerError::InvalidCharacter)
            ));
        }
        let long = Bearer::new(&"x".repeat(MAX_TOKEN + 1));
        assert!(matches!(long, Err(BearerError::TooLong)));
    }

    #[test]
    fn a_bearer_shows_itself_to_nobody() {
        let bearer = Bearer::new("hunter2").unwrap();
        assert_eq!(bearer.header(), "Bearer hunter2");
        assert!(!format!("{bearer:?} {:?}", bearer.header()).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_text_may_be_a_token(text: String, end: i64) {
            let now = now();
            drop(Issued::written(&text, "f", now));
            drop(Issued::written(&jwt(&format!("{{\"exp\":{end}}}")), "f", now));
        }
    }
}
