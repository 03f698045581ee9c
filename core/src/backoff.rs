//! Exponential pauses with jitter: how long to wait before the next attempt.
//!
//! The jitter is an argument, drawn by the caller, so that a pause is a value that tests can name. It takes away from a pause and
//! never adds to it: `max` is the longest wait there is, and many callers that failed together come back spread over the last
//! `jitter_percent` of it.

use std::time::Duration;

use crate::spec::Backoff;

/// The pause before the retry number `retry` (from 0), with `jitter` in 0..=1 saying how much of the random share is taken away.
/// A jitter outside of its bounds counts as the nearest within, one that is no number as 0.
pub fn pause(backoff: &Backoff, retry: u32, jitter: f64) -> Duration {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let max = micros(backoff.max);
    let mut whole = micros(backoff.initial).min(max);
    // A factor of 100 % or less never reaches the cap: there is nothing to multiply out.
    if backoff.factor_percent > 100 && whole > 0 {
        for _ in 0..retry {
            if whole >= max {
                break;
            }
            let grown = u128::from(whole) * u128::from(backoff.factor_percent) / 100;
            whole = u64::try_from(grown).unwrap_or(u64::MAX).min(max);
        }
    }
    let share = u128::from(whole) * u128::from(backoff.jitter_percent.min(100)) / 100;
    let share = Duration::from_micros(u64::try_from(share).unwrap_or(whole));
    let jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
    Duration::from_micros(whole).saturating_sub(share.mul_f64(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(5),
        factor_percent: 200,
        jitter_percent: 20,
    };

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<_> = (0..5).map(|retry| pause(&BACKOFF, retry, 0.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        assert_eq!(pause(&BACKOFF, u32::MAX, 0.0), BACKOFF.max);
    }

    #[test]
    fn jitter_only_takes_away_and_no_more_than_its_share() {
        assert_eq!(pause(&BACKOFF, 0, 1.0), Duration::from_millis(800));
        assert_eq!(pause(&BACKOFF, 0, 0.5), Duration::from_millis(900));
        for strange in [-1.0, f64::NAN] {
            assert_eq!(pause(&BACKOFF, 0, strange), Duration::from_secs(1));
        }
        assert_eq!(pause(&BACKOFF, 0, f64::INFINITY), Duration::from_millis(800));
    }

    #[test]
    fn extreme_policies_neither_overflow_nor_loop() {
        let endless = Backoff {
            initial: Duration::MAX,
            max: Duration::MAX,
            factor_percent: u32::MAX,
            jitter_percent: u32::MAX,
        };
        assert!(pause(&endless, u32::MAX, 0.0) > Duration::from_hours(1));
        let none = Backoff { initial: Duration::ZERO, ..endless };
        assert_eq!(pause(&none, u32::MAX, 1.0), Duration::ZERO);
        let flat = Backoff { factor_percent: 0, ..BACKOFF };
        assert_eq!(pause(&flat, u32::MAX, 0.0), Duration::from_secs(1));
    }
}
