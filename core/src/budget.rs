//! A retry budget: retries as a share of calls, so that a target in trouble gets at most that much more load.
//!
//! A limit per call (`max_retries`) multiplies load: two layers with three attempts each send nine. A budget cannot: it is a bucket
//! that each call fills by a share of a token and each retry empties by one. A small reserve refills with time, so that a caller
//! with few calls a minute may retry at all. Nothing else refills it: when everything fails, retries stay at the share.

use std::time::Duration;

use crate::time::Timestamp;

/// Tokens are counted in hundredths, so that a percentage adds exactly.
const TOKEN: u64 = 100;

/// The most that can be saved up, as calls that were all paid in within the time a caller remembers: 10 s of them at 100 a second.
const CALLS_SAVED: u64 = 1_000;

/// A bucket of retries.
#[derive(Clone, Debug)]
pub struct Budget {
    percent: u64,
    reserve_per_second: u64,
    tokens: u64,
    refilled: Timestamp,
}

impl Budget {
    /// Retries that are allowed each second whatever the number of calls.
    const RESERVE_PER_SECOND: u64 = 1;

    /// A budget of `percent` retries in a hundred calls, beside the reserve; it starts with one second of reserve.
    /// At 0 percent there are no retries at all, not even the reserve.
    pub fn new(percent: u32, now: Timestamp) -> Self {
        let reserve_per_second = if percent == 0 { 0 } else { Self::RESERVE_PER_SECOND };
        Self {
            percent: u64::from(percent),
            reserve_per_second,
            tokens: reserve_per_second * TOKEN,
            refilled: now,
        }
    }

    /// Pays in for a first attempt.
    pub fn call(&mut self) {
        self.fill(self.percent);
    }

    /// Takes out one retry; false where none is left, and then nothing is taken.
    pub fn retry(&mut self, now: Timestamp) -> bool {
        self.refill(now);
        let granted = self.tokens >= TOKEN;
        if granted {
            self.tokens -= TOKEN;
        }
        granted
    }

    fn fill(&mut self, hundredths: u64) {
        let most = (self.percent * CALLS_SAVED).max(self.reserve_per_second * TOKEN);
        self.tokens = self.tokens.saturating_add(hundredths).min(most);
    }

    fn refill(&mut self, now: Timestamp) {
        let Some(each) = 1_000_000_u64.checked_div(self.reserve_per_second * TOKEN) else { return };
        let passed = u64::try_from(now.since(self.refilled).as_micros()).unwrap_or(u64::MAX);
        // The reserve alone never saves up more than one second of itself.
        let room = (self.reserve_per_second * TOKEN).saturating_sub(self.tokens);
        self.fill((passed / each).min(room));
        self.refilled = self.refilled.max(now.minus(Duration::from_micros(passed % each)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    fn granted(budget: &mut Budget, now: Timestamp) -> usize {
        (0..10_000).take_while(|_| budget.retry(now)).count()
    }

    #[test]
    fn retries_are_a_share_of_calls_beside_the_reserve() {
        let mut budget = Budget::new(20, at(0));
        assert_eq!(granted(&mut budget, at(0)), 1, "the reserve");
        for _ in 0..100 {
            budget.call();
        }
        assert_eq!(granted(&mut budget, at(0)), 20);
    }

    #[test]
    fn the_reserve_comes_back_with_time_and_does_not_add_up() {
        let mut budget = Budget::new(20, at(0));
        assert!(budget.retry(at(0)));
        assert!(!budget.retry(at(500)));
        assert!(budget.retry(at(1_000)));
        assert_eq!(granted(&mut budget, at(60_000)), 1);
    }

    #[test]
    fn asking_often_does_not_slow_the_reserve_down() {
        let mut budget = Budget::new(20, at(0));
        assert!(budget.retry(at(0)));
        let granted = (1..=500).find(|step| budget.retry(at(step * 19)));
        assert_eq!(granted, Some(53), "19 ms apart: the first after a second");
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let mut budget = Budget::new(20, at(0));
        for _ in 0..1_000_000 {
            budget.call();
        }
        assert_eq!(granted(&mut budget, at(0)), 200);
    }

    #[test]
    fn no_percent_means_no_retries() {
        let mut budget = Budget::new(0, at(0));
        budget.call();
        assert!(!budget.retry(at(100_000)));
    }
}
