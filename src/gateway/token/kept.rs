//! The token that is kept, and when the next one is to be asked for.
//!
//! Pure: the moments enter as arguments. Whatever happens, a source of tokens is asked at most
//! once per pause or cycle after a failure, and at most once a minute because the cluster refuses
//! tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::error::TokenError;
use super::issued::Issued;
use crate::gateway::bearer::Bearer;
use crate::logging::chain;

/// Pause after the first failure; doubles with each. Thousands of requests may wait for a token.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A cluster that refuses every token costs one renewal in this time.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);

/// What is known about the token of one cluster.
#[derive(Debug, Default)]
pub(super) struct Kept {
    issued: Option<Issued>,
    failure: Option<Failure>,
    /// Why an old token is used because there is no new one, as it was last told.
    told: Option<String>,
    /// When a token was last renewed because the cluster had refused it.
    refused: Option<Instant>,
}

#[derive(Debug)]
struct Failure {
    error: Arc<TokenError>,
    /// In a row, before this one.
    earlier: u32,
    next_attempt: Instant,
}

/// What to do for whoever needs a token.
#[derive(Debug)]
pub(super) enum Step {
    /// Take this one.
    Use(Bearer),
    /// Ask for the next one; if there is an old one, it is still good.
    Ask(Option<Bearer>),
    /// There is none, and the next attempt is not due.
    Wait(Arc<TokenError>),
}

/// What becomes of a failed attempt.
#[derive(Debug)]
pub(super) enum Fallback {
    /// Nothing: no token is left.
    Nothing(Arc<TokenError>),
    /// The old token is good until then; whether this is news, and why it was to be renewed.
    Old {
        bearer: Bearer,
        until: Option<DateTime<Utc>>,
        news: Option<Arc<TokenError>>,
    },
}

impl Kept {
    pub(super) fn step(&self, now: Instant) -> Step {
        let valid = self.valid(now);
        let due = |issued: &Issued| issued.due.is_some_and(|due| due <= now);
        let bearer = valid.map(|issued| issued.bearer.clone());
        let pause = self
            .failure
            .as_ref()
            .filter(|failure| now < failure.next_attempt);
        match (bearer, pause) {
            (Some(bearer), _) if !valid.is_some_and(due) => Step::Use(bearer),
            (Some(bearer), Some(_)) => Step::Use(bearer),
            (None, Some(failure)) => Step::Wait(Arc::clone(&failure.error)),
            (bearer, None) => Step::Ask(bearer),
        }
    }

    /// Takes in what was asked for, and says whether it was told that there is none.
    pub(super) fn succeed(&mut self, issued: Issued) -> (Bearer, bool) {
        let bearer = issued.bearer.clone();
        self.issued = Some(issued);
        self.failure = None;
        (bearer, self.told.take().is_some())
    }

    /// Takes in that it was asked for in vain.
    pub(super) fn fail(&mut self, error: TokenError, now: Instant) -> Fallback {
        let error = Arc::new(error);
        let earlier = self
            .failure
            .as_ref()
            .map_or(0, |last| last.earlier.saturating_add(1));
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(earlier));
        self.failure = Some(Failure {
            error: Arc::clone(&error),
            earlier,
            next_attempt: now + pause.min(LONGEST_PAUSE),
        });
        let Some(issued) = self.valid(now) else {
            return Fallback::Nothing(error);
        };
        let (bearer, until) = (issued.bearer.clone(), issued.expires_at);
        let text = chain(&*error);
        let known = self.told.as_ref() == Some(&text);
        self.told = Some(text);
        let news = (!known).then_some(error);
        Fallback::Old {
            bearer,
            until,
            news,
        }
    }

    /// Takes in that the cluster refused `refused`. Whether to try another: there is a newer one
    /// already, or it is time to ask for one.
    pub(super) fn refuse(&mut self, refused: &Bearer, now: Instant) -> bool {
        let current = self.issued.as_mut();
        let Some(issued) = current.filter(|issued| issued.bearer == *refused) else {
            return true;
        };
        let lately = |last: Instant| now.duration_since(last) < REFUSAL_PAUSE;
        if self.refused.is_some_and(lately) {
            return false;
        }
        issued.due = Some(now);
        self.refused = Some(now);
        true
    }

    /// Makes the next step an attempt where the last one failed, whatever pause is left: a cycle
    /// that begins without a token has little to tell.
    pub(super) fn end_pause(&mut self, now: Instant) {
        if let Some(failure) = &mut self.failure {
            failure.next_attempt = failure.next_attempt.min(now);
        }
    }

    /// Makes the next step an attempt, whatever is known.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.end_pause(now);
        if let Some(issued) = &mut self.issued {
            issued.due = Some(now);
        }
    }

    /// Whether the last attempt failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// When the token that was last had ends, if that is known.
    pub(super) fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.issued.as_ref().and_then(|issued| issued.expires_at)
    }

    fn valid(&self, now: Instant) -> Option<&Issued> {
        let good = |issued: &&Issued| issued.expires.is_none_or(|end| now < end);
        self.issued.as_ref().filter(good)
    }
}

#[cfg(test)]
mod tests {
    use super::super::issued::tests::now as moment;
    use super::*;
    use crate::gateway::bearer::BearerError;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Good for an hour from `now` on, due after 55 minutes.
    fn issued(token: &str, now: Instant) -> Issued {
        let mut issued = Issued::written(token, "f", moment()).unwrap();
        issued.expires = Some(now + HOUR);
        issued.due = Some(now + Duration::from_secs(3300));
        issued
    }

    fn holding(token: &str, now: Instant) -> (Kept, Bearer) {
        let mut kept = Kept::default();
        let (bearer, _) = kept.succeed(issued(token, now));
        (kept, bearer)
    }

    fn used(step: &Step, bearer: &Bearer) -> bool {
        matches!(step, Step::Use(used) if used == bearer)
    }

    #[test]
    fn a_token_is_used_until_it_is_due_and_asked_for_before_it_ends() {
        let now = Instant::now();
        let mut kept = Kept::default();
        assert!(matches!(kept.step(now), Step::Ask(None)));
        let (bearer, _) = kept.succeed(issued("a", now));
        assert!(used(&kept.step(now + Duration::from_secs(3299)), &bearer));
        let due = kept.step(now + Duration::from_secs(3300));
        assert!(matches!(due, Step::Ask(Some(old)) if old == bearer));
        assert!(matches!(kept.step(now + HOUR), Step::Ask(None)));
    }

    #[test]
    fn failures_are_remembered_for_longer_and_longer() {
        let mut now = Instant::now();
        let mut kept = Kept::default();
        for pause in [5, 10, 20, 40, 60, 60] {
            let fallback = kept.fail(BearerError::InvalidCharacter.into(), now);
            assert!(matches!(fallback, Fallback::Nothing(_)));
            let pause = Duration::from_secs(pause);
            let early = kept.step(now + pause.saturating_sub(Duration::from_millis(1)));
            assert!(matches!(early, Step::Wait(_)));
            now += pause;
            assert!(matches!(kept.step(now), Step::Ask(None)));
        }
        kept.succeed(issued("a", now));
        kept.fail(BearerError::InvalidCharacter.into(), now + HOUR);
        let next = kept.step(now + HOUR + FIRST_PAUSE);
        assert!(matches!(next, Step::Ask(None)), "the row has ended");
    }

    #[test]
    fn an_old_token_serves_while_it_is_good_and_why_is_news_when_it_changes() {
        let now = Instant::now();
        let (mut kept, bearer) = holding("a", now);
        let due = now + Duration::from_secs(3300);
        let other = BearerError::TooLong.into();
        for (after, error, is_news) in [
            (0, BearerError::InvalidCharacter.into(), true),
            (5, BearerError::InvalidCharacter.into(), false),
            (15, other, true),
            (35, BearerError::InvalidCharacter.into(), true),
        ] {
            let at = due + Duration::from_secs(after);
            let fallback = kept.fail(error, at);
            assert!(
                matches!(fallback, Fallback::Old { bearer: old, news, .. } if old == bearer && news.is_some() == is_news)
            );
            assert!(used(&kept.step(at), &bearer), "in the pause");
        }
        assert!(matches!(
            kept.fail(BearerError::InvalidCharacter.into(), now + HOUR),
            Fallback::Nothing(_)
        ));
        let ended = |kept: &mut Kept| kept.succeed(issued("b", now)).1;
        assert!(ended(&mut kept), "the end is news");
        assert!(!ended(&mut kept), "once");
    }

    #[test]
    fn a_refused_token_is_renewed_once_a_minute() {
        let now = Instant::now();
        let (mut kept, first) = holding("a", now);
        assert!(kept.refuse(&first, now));
        assert!(matches!(kept.step(now), Step::Ask(Some(_))));
        let (second, _) = kept.succeed(issued("b", now));
        assert!(kept.refuse(&first, now), "there is a newer one");
        assert!(used(&kept.step(now), &second));
        assert!(!kept.refuse(&second, now + Duration::from_secs(59)));
        assert!(used(&kept.step(now), &second));
        assert!(kept.refuse(&second, now + REFUSAL_PAUSE));
    }

    #[test]
    fn a_cycle_ends_the_pause_and_not_the_row_of_failures() {
        let now = Instant::now();
        let mut kept = Kept::default();
        kept.fail(BearerError::InvalidCharacter.into(), now);
        kept.end_pause(now);
        assert!(matches!(kept.step(now), Step::Ask(None)));
        kept.fail(BearerError::InvalidCharacter.into(), now);
        let later = kept.step(now + FIRST_PAUSE);
        assert!(matches!(later, Step::Wait(_)), "the pause has doubled");
    }

    #[test]
    fn looking_again_keeps_the_token() {
        let now = Instant::now();
        let (mut kept, bearer) = holding("a", now);
        kept.fail(BearerError::InvalidCharacter.into(), now);
        kept.look_again(now);
        assert!(matches!(kept.step(now), Step::Ask(Some(old)) if old == bearer));
    }
}
