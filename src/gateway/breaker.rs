//! A circuit breaker: stops calls to a system that does not answer, and probes until it recovers.
//!
//! [`StateMachine`] is pure: time and randomness are arguments. [`CircuitBreaker`] shares one between
//! calls; every call holds a [`BreakerPermit`], so that a cancelled probe does not block later ones.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::gateway::reason::Reason;
use crate::sync::lock;

/// Fewest consecutive failures that open a breaker, whatever the concurrency.
const MIN_FAILURES: usize = 5;
/// Time until the first probe; doubles with each failed probe.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The breaker of all calls to one side of the gateway.
#[derive(Debug)]
pub(super) struct CircuitBreaker(Mutex<StateMachine>);

impl CircuitBreaker {
    /// Opens after as many consecutive failures as calls run at once: those can have one cause.
    pub(super) fn new(concurrency: usize) -> Self {
        Self(Mutex::new(StateMachine::new(concurrency.max(MIN_FAILURES))))
    }

    /// Admits a call, or returns the reason why the breaker is open.
    pub(super) fn enter(&self, now: Instant) -> Result<BreakerPermit<'_>, Reason> {
        let pass = lock(&self.0).admit(now)?;
        Ok(BreakerPermit {
            breaker: self,
            pass: Some(pass),
        })
    }

    /// Admits a call only while the breaker is closed: a slow call as a probe would delay recovery.
    pub(super) fn enter_closed(&self) -> Result<BreakerPermit<'_>, Reason> {
        match self.open_reason() {
            Some(reason) => Err(reason),
            None => Ok(BreakerPermit {
                breaker: self,
                pass: Some(Pass::Normal),
            }),
        }
    }

    /// Closes the breaker and forgets all failures.
    pub(super) fn reset(&self) {
        lock(&self.0).state = State::Closed { failures: 0 };
    }

    /// The reason of the failure that opened the breaker; `None` while it is closed.
    pub(super) fn open_reason(&self) -> Option<Reason> {
        lock(&self.0).open_reason()
    }
}

/// Permission for one call. Dropped without [`Self::settle`], it has no effect.
#[derive(Debug)]
pub(super) struct BreakerPermit<'a> {
    breaker: &'a CircuitBreaker,
    pass: Option<Pass>,
}

impl BreakerPermit<'_> {
    /// Reports the outcome of the call.
    pub(super) fn settle(mut self, failure: Option<Reason>, now: Instant) {
        if let Some(pass) = self.pass.take() {
            lock(&self.breaker.0).record(pass, failure, now, fastrand::f64());
        }
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            lock(&self.breaker.0).abandon(pass);
        }
    }
}

#[derive(Debug)]
struct StateMachine {
    threshold: usize,
    state: State,
    /// Number of the last probe: tells the outcome of the current probe from those of earlier calls.
    probes: u64,
}

#[derive(Debug)]
enum State {
    Closed {
        failures: usize,
    },
    Open {
        because: Reason,
        failed_probes: u32,
        next_probe: Instant,
        probing: Option<u64>,
    },
}

/// The kind of an admitted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Normal,
    Probe(u64),
}

impl StateMachine {
    fn new(threshold: usize) -> Self {
        Self {
            threshold,
            state: State::Closed { failures: 0 },
            probes: 0,
        }
    }

    fn open_reason(&self) -> Option<Reason> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { because, .. } => Some(because),
        }
    }

    fn admit(&mut self, now: Instant) -> Result<Pass, Reason> {
        match &mut self.state {
            State::Closed { .. } => Ok(Pass::Normal),
            State::Open {
                next_probe,
                probing: probing @ None,
                ..
            } if now >= *next_probe => {
                self.probes += 1;
                *probing = Some(self.probes);
                Ok(Pass::Probe(self.probes))
            }
            State::Open { because, .. } => Err(*because),
        }
    }

    /// `jitter` in `0.0..1.0` shortens the wait for the next probe by up to a quarter.
    fn record(&mut self, pass: Pass, failure: Option<Reason>, now: Instant, jitter: f64) {
        let Some(reason) = failure.filter(|reason| counts(*reason)) else {
            self.state = State::Closed { failures: 0 };
            return;
        };
        match &mut self.state {
            State::Closed { failures } => {
                *failures += 1;
                if *failures >= self.threshold {
                    self.state = State::open(reason, 0, now, jitter);
                }
            }
            State::Open {
                failed_probes,
                probing: Some(probe),
                ..
            } if pass == Pass::Probe(*probe) => {
                self.state = State::open(reason, failed_probes.saturating_add(1), now, jitter);
            }
            // Admitted before the breaker opened: no new information.
            State::Open { .. } => {}
        }
    }

    /// The call ended without an outcome.
    fn abandon(&mut self, pass: Pass) {
        if let State::Open { probing, .. } = &mut self.state
            && probing.is_some_and(|probe| pass == Pass::Probe(probe))
        {
            *probing = None;
        }
    }
}

impl State {
    fn open(because: Reason, failed_probes: u32, now: Instant, jitter: f64) -> Self {
        let wait = FIRST_WAIT
            .saturating_mul(2_u32.saturating_pow(failed_probes))
            .min(LONGEST_WAIT);
        Self::Open {
            because,
            failed_probes,
            next_probe: now + wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0),
            probing: None,
        }
    }
}

/// Whether a failure means that the system does not answer. Any other failure is an answer.
fn counts(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Connect
            | Reason::Tls
            | Reason::Timeout
            | Reason::ServiceAbsent
            | Reason::ServiceUnavailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    fn opened(now: Instant) -> StateMachine {
        let mut breaker = StateMachine::new(3);
        for _ in 0..3 {
            let pass = breaker.admit(now).unwrap();
            breaker.record(pass, Some(Reason::Timeout), now, 0.0);
        }
        breaker
    }

    #[test]
    fn only_consecutive_failures_open_the_breaker() {
        let now = Instant::now();
        let mut breaker = StateMachine::new(3);
        let outcomes = [
            Some(Reason::Connect),
            Some(Reason::Timeout),
            None,
            Some(Reason::ServiceAbsent),
            Some(Reason::ServiceUnavailable),
            Some(Reason::Api),
            Some(Reason::Connect),
            Some(Reason::Connect),
        ];
        for outcome in outcomes {
            let pass = breaker.admit(now).unwrap();
            breaker.record(pass, outcome, now, 0.0);
            assert_eq!(breaker.open_reason(), None);
        }
        breaker.record(Pass::Normal, Some(Reason::Timeout), now, 0.0);
        assert_eq!(breaker.open_reason(), Some(Reason::Timeout));
        assert_eq!(breaker.admit(now), Err(Reason::Timeout));
    }

    #[test]
    fn failures_that_are_answers_keep_the_breaker_closed() {
        let now = Instant::now();
        for reason in Reason::ALL.into_iter().filter(|reason| !counts(*reason)) {
            let mut breaker = StateMachine::new(1);
            breaker.record(Pass::Normal, Some(reason), now, 0.0);
            assert_eq!(breaker.open_reason(), None, "{reason:?}");
        }
    }

    #[test]
    fn one_probe_at_a_time_is_sent_with_exponential_backoff_up_to_30_seconds() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for wait in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            assert!(breaker.admit(after(now, wait - 0.001)).is_err());
            now = after(now, wait);
            let probe = breaker.admit(now).unwrap();
            assert!(breaker.admit(now).is_err(), "a second probe");
            breaker.record(probe, Some(Reason::Connect), now, 0.0);
        }
        assert_eq!(breaker.open_reason(), Some(Reason::Connect));
    }

    #[test]
    fn jitter_shortens_the_wait_by_a_quarter_at_most() {
        let now = Instant::now();
        let mut breaker = StateMachine::new(1);
        breaker.record(Pass::Normal, Some(Reason::Timeout), now, 1.0);
        assert!(breaker.admit(after(now, 0.749)).is_err());
        assert!(breaker.admit(after(now, 0.751)).is_ok());
    }

    #[test]
    fn a_successful_probe_closes_the_breaker() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let probe = breaker.admit(after(now, 1.0)).unwrap();
        breaker.record(probe, None, now, 0.0);
        assert_eq!(breaker.admit(now), Ok(Pass::Normal));
    }

    #[test]
    fn late_failures_do_not_move_the_next_probe() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.record(Pass::Normal, Some(Reason::Connect), after(now, 0.9), 0.0);
        let probe = breaker.admit(after(now, 1.0)).unwrap();
        breaker.abandon(probe);
        let second = breaker.admit(after(now, 1.0)).unwrap();
        breaker.record(probe, Some(Reason::Connect), after(now, 1.1), 0.0);
        breaker.abandon(probe);
        assert!(breaker.admit(after(now, 1.2)).is_err(), "{second:?} runs");
        assert_eq!(breaker.open_reason(), Some(Reason::Timeout));
    }

    #[test]
    fn a_slow_call_is_never_the_probe() {
        let now = Instant::now();
        let breaker = CircuitBreaker(Mutex::new(opened(now)));
        assert_eq!(breaker.enter_closed().err(), Some(Reason::Timeout));
        let probe = breaker.enter(after(now, 1.0)).unwrap();
        assert_eq!(breaker.enter_closed().err(), Some(Reason::Timeout));
        probe.settle(None, now);
        assert!(breaker.enter_closed().is_ok());
    }

    #[test]
    fn a_reset_closes_the_breaker_and_a_late_probe_does_not_reopen_it() {
        let now = Instant::now();
        let breaker = CircuitBreaker(Mutex::new(opened(now)));
        let probe = breaker.enter(after(now, 1.0)).unwrap();
        breaker.reset();
        assert!(breaker.enter(now).is_ok());
        probe.settle(Some(Reason::Tls), now);
        assert_eq!(breaker.open_reason(), None);
    }

    #[test]
    fn a_dropped_probe_allows_another_one() {
        let now = Instant::now();
        let breaker = CircuitBreaker(Mutex::new(opened(now)));
        let probe = breaker.enter(after(now, 1.0)).unwrap();
        assert!(breaker.enter(after(now, 1.0)).is_err());
        drop(probe);
        assert!(breaker.enter(after(now, 1.0)).is_ok());
    }
}
