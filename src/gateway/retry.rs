//! When a call may be tried again, where, and after which pause.
//!
//! Pure: randomness and the time left enter as arguments. The budget belongs to the whole client, so
//! that a sick cluster gets a tenth more requests at most and not three times as many.

use std::time::Duration;

use crate::gateway::endpoints::Endpoints;
use crate::gateway::error::Cause;

/// Most retries of one call, moving on from dead endpoints not counted.
pub(super) const MAX_RETRIES: u32 = 2;

/// Longest pause before the first retry; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The pause before retry number `retry` (from zero): full jitter, `jitter` in `0.0..1.0`.
pub(super) fn pause(retry: u32, jitter: f64) -> Duration {
    (FIRST_PAUSE * 2_u32.saturating_pow(retry)).mul_f64(jitter.clamp(0.0, 1.0))
}

/// How far a call has got.
#[derive(Debug)]
pub(super) struct Course {
    /// Of the endpoint to try.
    pub(super) position: usize,
    /// Positions of the endpoints whose answer came from the node and not from the cluster.
    pub(super) bad: Vec<usize>,
    moves: usize,
    retries: u32,
    /// Status and meaning of the first such answer.
    node_answer: Option<(Option<u16>, Cause)>,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask the next endpoint at once.
    Move,
    /// Try again after a pause.
    Retry { pause: Duration },
}

/// The time that another attempt has and takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    /// Until the deadline of the call.
    pub(super) left: Duration,
    /// To find out that an endpoint is dead.
    pub(super) connect: Duration,
}

impl Course {
    pub(super) fn starting_at(position: usize) -> Self {
        Self {
            position,
            bad: Vec::new(),
            moves: 0,
            retries: 0,
            node_answer: None,
        }
    }

    /// What to do after an attempt failed because of `cause`: `None` if the call has failed. Goes on
    /// to the endpoint to try then.
    ///
    /// Moving on from an endpoint that is dead or answers for itself is free, once per endpoint;
    /// anything else is a retry.
    pub(super) fn step(
        &mut self,
        cause: &Cause,
        endpoints: &Endpoints,
        time: Time,
        jitter: f64,
        budget: &mut Budget,
    ) -> Option<Step> {
        if cause.is_of_the_node() {
            self.bad.push(self.position);
        }
        let elsewhere = cause.may_work_elsewhere();
        let connect = if elsewhere {
            time.connect
        } else {
            Duration::ZERO
        };
        let moves = elsewhere && self.moves + 1 < endpoints.len();
        let pause = if moves {
            Duration::ZERO
        } else {
            pause(self.retries, jitter)
        };
        // Another attempt that cannot end in time would hide this cause behind a time-out.
        if pause + connect >= time.left {
            return None;
        }
        let step = if moves {
            self.moves += 1;
            Step::Move
        } else if cause.is_transient() && self.retries < MAX_RETRIES && budget.pay() {
            self.retries += 1;
            Step::Retry { pause }
        } else {
            return None;
        };
        self.position = endpoints.after_except(self.position, &self.bad);
        Some(step)
    }

    /// Keeps the answer of a node in case no other endpoint answers for the cluster.
    pub(super) fn keep(&mut self, status: Option<u16>, cause: Cause) {
        if cause.is_of_the_node() {
            self.node_answer.get_or_insert((status, cause));
        }
    }

    /// The failure of the call whose last attempt failed because of `cause`: if no endpoint answered
    /// for the cluster, the first answer of a node.
    pub(super) fn failure(self, status: Option<u16>, cause: Cause) -> (Option<u16>, Cause) {
        match self.node_answer {
            Some(first) if cause.may_work_elsewhere() => first,
            _ => (status, cause),
        }
    }
}

/// Whether the cluster may have done the work that was asked for, though the answer is of no use.
pub(super) fn is_after_the_work(cause: &Cause) -> bool {
    match cause {
        Cause::Decode { .. } => true,
        Cause::Refusal(refusal) => refusal.status >= 500,
        _ => false,
    }
}

/// What all calls together may spend on retries: each call earns a tenth of one.
#[derive(Debug)]
pub(super) struct Budget {
    tenths: u32,
}

impl Budget {
    const CAPACITY: u32 = 100;
    const PRICE: u32 = 10;

    /// Counts a call.
    pub(super) fn earn(&mut self) {
        self.tenths = Self::CAPACITY.min(self.tenths + 1);
    }

    /// Pays for a retry; `false` when the budget is spent.
    pub(super) fn pay(&mut self) -> bool {
        let rest = self.tenths.checked_sub(Self::PRICE);
        self.tenths = rest.unwrap_or(self.tenths);
        rest.is_some()
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tenths: Self::CAPACITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::classify::classify;
    use crate::gateway::query::{RouteKind, Subject};

    #[test]
    fn pauses_double_and_are_spread_from_zero() {
        assert_eq!(pause(0, 0.0), Duration::ZERO);
        assert_eq!(pause(0, 1.0), Duration::from_millis(100));
        assert_eq!(pause(1, 1.0), Duration::from_millis(200));
        assert_eq!(pause(1, 0.5), Duration::from_millis(100));
    }

    #[test]
    fn a_full_budget_pays_ten_retries() {
        let mut budget = Budget::default();
        budget.earn();
        assert_eq!((0..20).filter(|_| budget.pay()).count(), 10);
    }

    #[test]
    fn ten_calls_earn_one_retry() {
        let mut budget = Budget { tenths: 0 };
        (0..9).for_each(|_| budget.earn());
        assert!(!budget.pay());
        budget.earn();
        assert!(budget.pay());
        assert!(!budget.pay());
    }

    fn refusal(status: u16, body: &str) -> Cause {
        let body = body.as_bytes();
        Cause::Refusal(classify(RouteKind::Native, &Subject::Cluster, status, body))
    }

    fn node_answer(status: u16) -> Cause {
        refusal(status, "<html>")
    }

    fn unavailable() -> Cause {
        refusal(503, "")
    }

    fn not_found() -> Cause {
        refusal(
            404,
            r#"{"Error":{"Code":"FABRIC_E_SERVICE_DOES_NOT_EXIST"}}"#,
        )
    }

    const TIME: Time = Time {
        left: Duration::from_secs(10),
        connect: Duration::from_secs(1),
    };

    fn ring(endpoints: usize) -> Endpoints {
        let urls = (0..endpoints).map(|number| format!("http://node{number}").parse().unwrap());
        Endpoints::new(urls.collect()).unwrap()
    }

    #[test]
    fn no_endpoint_is_asked_when_too_little_time_is_left_to_reach_it() {
        let mut course = Course::starting_at(0);
        let time = Time {
            left: TIME.connect,
            ..TIME
        };
        let step = course.step(
            &node_answer(403),
            &ring(2),
            time,
            0.0,
            &mut Budget::default(),
        );
        assert_eq!(step, None);
    }

    #[test]
    fn the_failure_is_the_first_answer_of_a_node_unless_the_cluster_answers() {
        let first = |last: Cause| {
            let mut course = Course::starting_at(0);
            course.keep(Some(401), node_answer(401));
            course.keep(Some(302), node_answer(302));
            course.failure(Some(500), last).0
        };
        assert_eq!(first(node_answer(500)), Some(401));
        assert_eq!(first(not_found()), Some(500));
        assert_eq!(first(unavailable()), Some(500));
    }

    proptest! {
        /// An endpoint that answers for itself is asked once, such answers fail the call only if all
        /// endpoints give them, and retries are limited.
        #[test]
        fn every_course_ends(
            manners in prop::collection::vec(0..3_u8, 1..6),
            start in 0..6_usize,
            tenths in 0..=Budget::CAPACITY,
        ) {
            let endpoints = ring(manners.len());
            let mut budget = Budget { tenths };
            let mut course = Course::starting_at(start % manners.len());
            let mut asked = vec![0; manners.len()];
            let last = loop {
                asked[course.position] += 1;
                let manner = manners[course.position];
                let cause = match manner {
                    0 => node_answer(403),
                    1 => unavailable(),
                    _ => not_found(),
                };
                if course.step(&cause, &endpoints, TIME, 0.5, &mut budget).is_none() {
                    break manner;
                }
            };
            for (manner, asked) in manners.iter().zip(&asked) {
                prop_assert!(*manner != 0 || *asked <= 1);
            }
            prop_assert!(last != 0 || manners.iter().all(|manner| *manner == 0));
            prop_assert!(last != 0 || asked.iter().all(|asked| *asked == 1));
            let asked_in_all: usize = asked.iter().sum();
            prop_assert!(asked_in_all <= manners.len() + 2);
        }
    }
}
