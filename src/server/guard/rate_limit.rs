//! A bucket of tokens that fills with time. Pure: the moment comes as an argument.
//!
//! Invariant: within any time at most as many tokens are given as the bucket holds, and one more
//! for each interval that fits into that time.

use tokio::time::Instant;

use crate::settings::web::RateLimit;

/// The tokens that are left.
#[derive(Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    /// In fractions as well, as they come back.
    tokens: f64,
    counted: Instant,
}

impl Bucket {
    pub(super) fn full(limit: RateLimit, now: Instant) -> Self {
        Self {
            limit,
            tokens: f64::from(limit.burst),
            counted: now,
        }
    }

    /// Whether there is a token, which is then gone.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted);
        let come_back = passed.as_secs_f64() / self.limit.interval.as_secs_f64();
        self.tokens = (self.tokens + come_back).min(f64::from(self.limit.burst));
        self.counted = self.counted.max(now);
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bucket(burst: u32) -> (Bucket, Instant) {
        let limit = RateLimit {
            interval: Duration::from_secs(2),
            burst,
        };
        let now = Instant::now();
        (Bucket::full(limit, now), now)
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_one_token_an_interval() {
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
    fn an_empty_bucket_gives_nothing() {
        let (mut bucket, start) = bucket(0);
        assert!(!bucket.take(start));
        assert!(!bucket.take(start + Duration::from_secs(1000)));
    }
}
