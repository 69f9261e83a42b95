//! When a call may be tried again, and after which pause.
//!
//! Pure: randomness enters as an argument. The budget belongs to the whole client, so that a sick
//! cluster gets a tenth more requests at most and not three times as many.

use std::time::Duration;

/// Most retries of one call, moving on from dead endpoints not counted.
pub(super) const MAX_RETRIES: u32 = 2;

/// Longest pause before the first retry; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The pause before retry number `retry` (from zero): full jitter, `jitter` in `0.0..1.0`.
pub(super) fn pause(retry: u32, jitter: f64) -> Duration {
    (FIRST_PAUSE * 2_u32.saturating_pow(retry)).mul_f64(jitter.clamp(0.0, 1.0))
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
    use super::*;

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
}
