//! When a call is attempted again, on which endpoint, and after which pause.
//!
//! Pure: randomness and the time left are arguments.

use std::time::Duration;

use crate::gateway::endpoints::Endpoints;
use crate::gateway::failure::Failure;

/// Most retries of one call. Moving on from an endpoint that cannot answer is no retry.
pub(super) const MAX_RETRIES: u32 = 2;

/// Longest pause before the first retry; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The pause before retry number `retry` (from zero): full jitter, `jitter` in `0.0..1.0`.
fn pause(retry: u32, jitter: f64) -> Duration {
    (FIRST_PAUSE * 2_u32.saturating_pow(retry)).mul_f64(jitter.clamp(0.0, 1.0))
}

/// The attempts of one call.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Position of the endpoint to try.
    pub(super) position: usize,
    /// The attempts after which the call moved on to another endpoint.
    pub(super) left: Vec<FailedAttempt>,
    retries: u32,
}

#[derive(Debug)]
pub(super) struct FailedAttempt {
    pub(super) position: usize,
    status: Option<u16>,
    pub(super) failure: Failure,
}

/// The next step after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask the next endpoint at once.
    Move,
    /// Try again after a pause.
    Retry { pause: Duration },
}

impl Attempts {
    pub(super) fn starting_at(position: usize) -> Self {
        Self {
            position,
            left: Vec::new(),
            retries: 0,
        }
    }

    /// The step after an attempt ended with `failure`; `None` if the call has failed. Moving on is
    /// free, once per endpoint; anything else is a retry. `left` is the time until the deadline,
    /// `connect` the time that it takes to find an endpoint unreachable.
    pub(super) fn next(
        &self,
        failure: &Failure,
        endpoints: usize,
        left: Duration,
        connect: Duration,
        jitter: f64,
    ) -> Option<Step> {
        let elsewhere = failure.allows_another_endpoint();
        let moves = elsewhere && self.left.len() + 1 < endpoints;
        let pause = if moves {
            Duration::ZERO
        } else {
            pause(self.retries, jitter)
        };
        let connect = if elsewhere { connect } else { Duration::ZERO };
        // An attempt that cannot end in time would replace this failure with a timeout.
        if pause + connect >= left {
            None
        } else if moves {
            Some(Step::Move)
        } else if failure.is_transient() && self.retries < MAX_RETRIES {
            Some(Step::Retry { pause })
        } else {
            None
        }
    }

    /// Moves on to the next endpoint from one that failed.
    pub(super) fn move_on(&mut self, status: Option<u16>, failure: Failure, endpoints: &Endpoints) {
        self.left.push(FailedAttempt {
            position: self.position,
            status,
            failure,
        });
        self.position = self.next_position(endpoints);
    }

    /// Goes on to the endpoint of the next retry.
    pub(super) fn retry(&mut self, endpoints: &Endpoints) {
        self.retries += 1;
        self.position = self.next_position(endpoints);
    }

    /// The next endpoint, without those that answered for themselves instead of the cluster.
    fn next_position(&self, endpoints: &Endpoints) -> usize {
        let from_node = self.left.iter().filter(|left| left.failure.is_from_node());
        let excluded: Vec<_> = from_node.map(|left| left.position).collect();
        endpoints.after_except(self.position, &excluded)
    }

    /// The failure of the call whose last attempt ended with `failure`: the first response of a
    /// node if no endpoint sent an answer of the cluster.
    pub(super) fn into_failure(
        self,
        status: Option<u16>,
        failure: Failure,
    ) -> (Option<u16>, Failure) {
        if !failure.allows_another_endpoint() {
            return (status, failure);
        }
        let mut left = self.left.into_iter();
        let first = left.find(|left| left.failure.is_from_node());
        first.map_or((status, failure), |first| (first.status, first.failure))
    }
}

/// Limits the retries of all calls to a cluster together: each call deposits a tenth of a retry, so
/// that a sick cluster gets a tenth more requests and not three times as many.
#[derive(Debug)]
pub(super) struct RetryBudget {
    tenths: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            tenths: Self::CAPACITY,
        }
    }
}

impl RetryBudget {
    const CAPACITY: u32 = 100;
    const RETRY: u32 = 10;

    /// Counts a call.
    pub(super) fn deposit(&mut self) {
        self.tenths = Self::CAPACITY.min(self.tenths + 1);
    }

    /// Pays for a retry; `false` when the budget is exhausted.
    pub(super) fn withdraw(&mut self) -> bool {
        let rest = self.tenths.checked_sub(Self::RETRY);
        self.tenths = rest.unwrap_or(self.tenths);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::wire::{ReplyError, RouteKind, Subject, classify};

    #[test]
    fn pauses_double_and_are_spread_from_zero() {
        assert_eq!(pause(0, 0.0), Duration::ZERO);
        assert_eq!(pause(0, 1.0), Duration::from_millis(100));
        assert_eq!(pause(1, 1.0), Duration::from_millis(200));
        assert_eq!(pause(1, 0.5), Duration::from_millis(100));
    }

    #[test]
    fn a_full_budget_pays_ten_retries() {
        let mut budget = RetryBudget::default();
        budget.deposit();
        assert_eq!((0..20).filter(|_| budget.withdraw()).count(), 10);
    }

    #[test]
    fn ten_calls_pay_one_retry() {
        let mut budget = RetryBudget { tenths: 0 };
        (0..9).for_each(|_| budget.deposit());
        assert!(!budget.withdraw());
        budget.deposit();
        assert!(budget.withdraw());
        assert!(!budget.withdraw());
    }

    fn rejected(status: u16, body: &str) -> Failure {
        let body = body.as_bytes();
        let reply = classify(RouteKind::Native, &Subject::Cluster, status, body);
        Failure::Reply(ReplyError::Rejected(reply))
    }

    fn node_answer(status: u16) -> Failure {
        rejected(status, "<html>")
    }

    fn unavailable() -> Failure {
        rejected(503, "")
    }

    fn not_found() -> Failure {
        rejected(
            404,
            r#"{"Error":{"Code":"FABRIC_E_SERVICE_DOES_NOT_EXIST"}}"#,
        )
    }

    const LEFT: Duration = Duration::from_secs(10);
    const CONNECT: Duration = Duration::from_secs(1);

    fn ring(endpoints: usize) -> Endpoints {
        let urls = (0..endpoints).map(|number| format!("http://node{number}").parse().unwrap());
        Endpoints::new(urls.collect()).unwrap()
    }

    #[test]
    fn no_attempt_starts_when_too_little_time_is_left_to_connect() {
        let attempts = Attempts::starting_at(0);
        let next = |left| attempts.next(&node_answer(403), 2, left, CONNECT, 0.0);
        assert_eq!(next(CONNECT), None);
        assert_eq!(next(LEFT), Some(Step::Move));
    }

    #[test]
    fn the_failure_is_the_first_response_of_a_node_unless_the_cluster_answers() {
        let first = |last: Failure| {
            let mut attempts = Attempts::starting_at(0);
            attempts.move_on(Some(401), node_answer(401), &ring(3));
            attempts.move_on(Some(302), node_answer(302), &ring(3));
            attempts.into_failure(Some(500), last).0
        };
        assert_eq!(first(node_answer(500)), Some(401));
        assert_eq!(first(not_found()), Some(500));
        assert_eq!(first(unavailable()), Some(500));
    }

    proptest! {
        /// An endpoint that answers for itself is asked once, such answers fail the call only if all
        /// endpoints give them, and retries are limited.
        #[test]
        fn every_call_ends(
            kinds in prop::collection::vec(0..3_u8, 1..6),
            start in 0..6_usize,
        ) {
            let endpoints = ring(kinds.len());
            let mut attempts = Attempts::starting_at(start % kinds.len());
            let mut asked = vec![0; kinds.len()];
            let last = loop {
                asked[attempts.position] += 1;
                let kind = kinds[attempts.position];
                let failure = match kind {
                    0 => node_answer(403),
                    1 => unavailable(),
                    _ => not_found(),
                };
                match attempts.next(&failure, kinds.len(), LEFT, CONNECT, 0.5) {
                    Some(Step::Move) => attempts.move_on(None, failure, &endpoints),
                    Some(Step::Retry { .. }) => attempts.retry(&endpoints),
                    None => break kind,
                }
            };
            for (kind, asked) in kinds.iter().zip(&asked) {
                prop_assert!(*kind != 0 || *asked <= 1);
            }
            prop_assert!(last != 0 || kinds.iter().all(|kind| *kind == 0));
            prop_assert!(last != 0 || asked.iter().all(|asked| *asked == 1));
            let total: usize = asked.iter().sum();
            prop_assert!(total <= kinds.len() + 2);
        }
    }
}
