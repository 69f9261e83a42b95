//! The cached token of one cluster, and when the next request for one is due.
//!
//! Pure: the time is an argument. After a failure, tokens are requested at most once per backoff
//! interval or cycle; after a token was rejected by the cluster, at most once a minute.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::access_token::AccessToken;
use super::error::TokenError;
use crate::gateway::bearer::Bearer;
use crate::logging::chain;

/// Backoff after the first failure, which doubles with each further one. Without it, each of the
/// thousands of requests of a cycle would ask for a token.
const MIN_BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Shortest time between two renewals that a rejection by the cluster caused.
const REJECTION_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct TokenCache {
    token: Option<AccessToken>,
    failure: Option<LastFailure>,
    /// The last logged reason for using an old token.
    logged: Option<String>,
    /// When a rejection by the cluster last caused a renewal.
    rejected_at: Option<Instant>,
}

#[derive(Debug)]
struct LastFailure {
    error: Arc<TokenError>,
    /// Consecutive failures before this one.
    earlier: u32,
    next_attempt: Instant,
}

/// How to get a token.
#[derive(Debug)]
pub(super) enum Lookup {
    Cached(Bearer),
    /// Request the next one; the old one, if there is any, is still valid.
    Request(Option<Bearer>),
    /// There is no token, and the next attempt is not due.
    Backoff(Arc<TokenError>),
}

/// The result of a failed request.
#[derive(Debug)]
pub(super) enum Fallback {
    NoToken(Arc<TokenError>),
    OldToken {
        bearer: Bearer,
        expires_at: Option<DateTime<Utc>>,
        /// The error to log, if it was not logged before.
        log: Option<Arc<TokenError>>,
    },
}

impl TokenCache {
    pub(super) fn lookup(&self, now: Instant) -> Lookup {
        let valid = self.valid(now);
        let bearer = valid.map(|token| token.bearer.clone());
        let is_fresh = valid.is_some_and(|token| token.renew_at.is_none_or(|at| now < at));
        let failure = self.failure.as_ref();
        let backoff = failure.filter(|failure| now < failure.next_attempt);
        match (bearer, backoff) {
            (Some(bearer), backoff) if is_fresh || backoff.is_some() => Lookup::Cached(bearer),
            (None, Some(failure)) => Lookup::Backoff(Arc::clone(&failure.error)),
            (bearer, _) => Lookup::Request(bearer),
        }
    }

    /// Stores a new token. Returns whether it ends failures that were logged.
    pub(super) fn store(&mut self, token: AccessToken) -> (Bearer, bool) {
        let bearer = token.bearer.clone();
        self.token = Some(token);
        self.failure = None;
        (bearer, self.logged.take().is_some())
    }

    /// Records a failed request.
    pub(super) fn fail(&mut self, error: TokenError, now: Instant) -> Fallback {
        let error = Arc::new(error);
        let last = self.failure.as_ref();
        let earlier = last.map_or(0, |last| last.earlier.saturating_add(1));
        let backoff = MIN_BACKOFF.saturating_mul(2_u32.saturating_pow(earlier));
        self.failure = Some(LastFailure {
            error: Arc::clone(&error),
            earlier,
            next_attempt: now + backoff.min(MAX_BACKOFF),
        });
        let Some(token) = self.valid(now) else {
            return Fallback::NoToken(error);
        };
        let (bearer, expires_at) = (token.bearer.clone(), token.expires_at);
        let text = chain(&*error);
        let is_new = self.logged.as_ref() != Some(&text);
        self.logged = Some(text);
        Fallback::OldToken {
            bearer,
            expires_at,
            log: is_new.then_some(error),
        }
    }

    /// Records that the cluster rejected `rejected`. Returns whether to look up a token again:
    /// there is a newer one, or a renewal is due.
    pub(super) fn reject(&mut self, rejected: &Bearer, now: Instant) -> bool {
        let current = self.token.as_mut();
        let Some(token) = current.filter(|token| token.bearer == *rejected) else {
            return true;
        };
        let is_recent = |last: Instant| now.duration_since(last) < REJECTION_INTERVAL;
        if self.rejected_at.is_some_and(is_recent) {
            return false;
        }
        token.renew_at = Some(now);
        self.rejected_at = Some(now);
        true
    }

    /// Ends the backoff, but keeps the number of failures: without a token, a cycle has no data.
    pub(super) fn end_backoff(&mut self, now: Instant) {
        if let Some(failure) = &mut self.failure {
            failure.next_attempt = failure.next_attempt.min(now);
        }
    }

    /// Makes a renewal due.
    pub(super) fn renew(&mut self, now: Instant) {
        self.end_backoff(now);
        if let Some(token) = &mut self.token {
            token.renew_at = Some(now);
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.token.as_ref().and_then(|token| token.expires_at)
    }

    fn valid(&self, now: Instant) -> Option<&AccessToken> {
        let is_valid = |token: &&AccessToken| token.expires.is_none_or(|end| now < end);
        self.token.as_ref().filter(is_valid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::access_token::tests::now as clocks;
    use super::*;
    use crate::gateway::bearer::BearerError;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Valid for an hour, to be renewed after 55 minutes.
    fn token(text: &str, now: Instant) -> AccessToken {
        let mut token = AccessToken::from_file(text, "f", clocks()).unwrap();
        token.expires = Some(now + HOUR);
        token.renew_at = Some(now + Duration::from_secs(3300));
        token
    }

    fn cache_with(text: &str, now: Instant) -> (TokenCache, Bearer) {
        let mut cache = TokenCache::default();
        let (bearer, _) = cache.store(token(text, now));
        (cache, bearer)
    }

    fn failure() -> TokenError {
        TokenError::Bearer(BearerError::InvalidCharacter)
    }

    fn is_cached(lookup: &Lookup, bearer: &Bearer) -> bool {
        matches!(lookup, Lookup::Cached(cached) if cached == bearer)
    }

    #[test]
    fn token_is_renewed_before_it_expires() {
        let now = Instant::now();
        let mut cache = TokenCache::default();
        assert!(matches!(cache.lookup(now), Lookup::Request(None)));
        let (bearer, _) = cache.store(token("a", now));
        assert!(is_cached(
            &cache.lookup(now + Duration::from_secs(3299)),
            &bearer
        ));
        let due = cache.lookup(now + Duration::from_secs(3300));
        assert!(matches!(due, Lookup::Request(Some(old)) if old == bearer));
        assert!(matches!(cache.lookup(now + HOUR), Lookup::Request(None)));
    }

    #[test]
    fn backoff_doubles_with_each_failure() {
        let mut now = Instant::now();
        let mut cache = TokenCache::default();
        for backoff in [5, 10, 20, 40, 60, 60] {
            let fallback = cache.fail(failure(), now);
            assert!(matches!(fallback, Fallback::NoToken(_)));
            let backoff = Duration::from_secs(backoff);
            let early = cache.lookup(now + backoff.saturating_sub(Duration::from_millis(1)));
            assert!(matches!(early, Lookup::Backoff(_)));
            now += backoff;
            assert!(matches!(cache.lookup(now), Lookup::Request(None)));
        }
        cache.store(token("a", now));
        cache.fail(failure(), now + HOUR);
        let next = cache.lookup(now + HOUR + MIN_BACKOFF);
        assert!(
            matches!(next, Lookup::Request(None)),
            "the failure count was reset"
        );
    }

    #[test]
    fn old_token_is_used_until_it_expires_and_each_new_reason_is_logged_once() {
        let now = Instant::now();
        let (mut cache, bearer) = cache_with("a", now);
        let due = now + Duration::from_secs(3300);
        let other = TokenError::Bearer(BearerError::TooLong);
        for (after, error, is_new) in [
            (0, failure(), true),
            (5, failure(), false),
            (15, other, true),
            (35, failure(), true),
        ] {
            let at = due + Duration::from_secs(after);
            let fallback = cache.fail(error, at);
            assert!(
                matches!(fallback, Fallback::OldToken { bearer: old, log, .. } if old == bearer && log.is_some() == is_new)
            );
            assert!(is_cached(&cache.lookup(at), &bearer), "during the backoff");
        }
        assert!(matches!(
            cache.fail(failure(), now + HOUR),
            Fallback::NoToken(_)
        ));
        let ended = |cache: &mut TokenCache| cache.store(token("b", now)).1;
        assert!(ended(&mut cache), "the recovery is logged");
        assert!(!ended(&mut cache), "once");
    }

    #[test]
    fn rejected_token_is_renewed_at_most_once_a_minute() {
        let now = Instant::now();
        let (mut cache, first) = cache_with("a", now);
        assert!(cache.reject(&first, now));
        assert!(matches!(cache.lookup(now), Lookup::Request(Some(_))));
        let (second, _) = cache.store(token("b", now));
        assert!(cache.reject(&first, now), "there is a newer token");
        assert!(is_cached(&cache.lookup(now), &second));
        assert!(!cache.reject(&second, now + Duration::from_secs(59)));
        assert!(is_cached(&cache.lookup(now), &second));
        assert!(cache.reject(&second, now + REJECTION_INTERVAL));
    }

    #[test]
    fn cycle_ends_the_backoff_and_keeps_the_failure_count() {
        let now = Instant::now();
        let mut cache = TokenCache::default();
        cache.fail(failure(), now);
        cache.end_backoff(now);
        assert!(matches!(cache.lookup(now), Lookup::Request(None)));
        cache.fail(failure(), now);
        let later = cache.lookup(now + MIN_BACKOFF);
        assert!(
            matches!(later, Lookup::Backoff(_)),
            "the backoff has doubled"
        );
    }

    #[test]
    fn renewal_keeps_the_old_token() {
        let now = Instant::now();
        let (mut cache, bearer) = cache_with("a", now);
        cache.fail(failure(), now);
        cache.renew(now);
        assert!(matches!(cache.lookup(now), Lookup::Request(Some(old)) if old == bearer));
    }
}
