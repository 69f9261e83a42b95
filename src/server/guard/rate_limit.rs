//! A token bucket. The time is an argument.
//!
//! Invariant: in any period, at most as many tokens are taken as the bucket holds, plus one for
//! each interval in that period.

use tokio::time::Instant;

use crate::settings::web::RateLimit;

#[derive(Debug)]
pub(super) struct TokenBucket {
    limit: RateLimit,
    /// Includes the fraction of the token that is being refilled.
    tokens: f64,
    refilled: Instant,
}

impl TokenBucket {
    pub(super) fn full(limit: RateLimit, now: Instant) -> Self {
        Self {
            limit,
            tokens: f64::from(limit.burst),
            refilled: now,
        }
    }

    /// Takes a token; false if there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled);
        let refill = elapsed.as_secs_f64() / self.limit.interval.as_secs_f64();
        self.tokens = (self.tokens + refill).min(f64::from(self.limit.burst));
        self.refilled = self.refilled.max(now);
        let has_token = self.tokens >= 1.0;
        if has_token {
            self.tokens -= 1.0;
        }
        has_token
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bucket(burst: u32) -> (TokenBucket, Instant) {
        let limit = RateLimit {
            interval: Duration::from_secs(2),
            burst,
        };
        let now = Instant::now();
        (TokenBucket::full(limit, now), now)
    }

    #[test]
    fn bucket_holds_the_burst_and_refills_one_token_per_interval() {
        let (mut bucket, start) = bucket(3);
        let mut take = |seconds| bucket.take(start + Duration::from_secs(seconds));
        assert_eq!(
            [take(0), take(0), take(0), take(0)],
            [true, true, true, false]
        );
        assert_eq!([take(1), take(2), take(2)], [false, true, false]);
        assert_eq!(
            [take(1), take(3), take(4)],
            [false, false, true],
            "back in time"
        );
        assert_eq!(
            [take(100), take(100), take(100), take(100)],
            [true, true, true, false]
        );
    }

    #[test]
    fn bucket_without_burst_never_has_a_token() {
        let (mut bucket, start) = bucket(0);
        assert!(!bucket.take(start));
        assert!(!bucket.take(start + Duration::from_secs(1000)));
    }
}
