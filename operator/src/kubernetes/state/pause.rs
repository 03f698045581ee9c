//! The growing pauses of a tree after requests that failed, apart for what it acts with and for what it only says.

use std::time::Duration;

use kontrol_core::time::Timestamp;

/// The first and the longest one.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// One row of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pause {
    until: Option<Timestamp>,
    failures: u32,
}

impl Pause {
    /// A request failed. Those that fail together are one failure.
    pub(super) fn fail(&mut self, now: Timestamp) {
        if self.until(now).is_none() {
            let pause = FIRST.saturating_mul(2_u32.saturating_pow(self.failures.min(10))).min(LONGEST);
            self.failures = self.failures.saturating_add(1);
            self.until = Some(now.plus(pause));
        }
    }

    /// Nothing is asked before this time has passed.
    pub(super) fn wait(&mut self, time: Duration, now: Timestamp) {
        self.until = self.until.max(Some(now.plus(time)));
    }

    /// All went well, unless something did not.
    pub(super) fn succeed(&mut self, now: Timestamp) {
        if self.until(now).is_none() {
            *self = Self::default();
        }
    }

    /// Whether it is over, and nothing failed since all went well last.
    pub(super) fn is_over(&self) -> bool {
        *self == Self::default()
    }

    /// Until when it lasts; none: it is over.
    pub(super) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_each_failure_and_begin_anew_after_a_success() {
        let mut pause = Pause::default();
        let mut now = Timestamp::from_micros(1_000_000);
        let mut lengths = Vec::new();
        for _ in 0..10 {
            pause.fail(now);
            pause.fail(now);
            let until = pause.until(now).unwrap();
            lengths.push(until.since(now).as_millis());
            pause.succeed(now);
            now = until;
        }
        assert_eq!(lengths, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        pause.succeed(now);
        pause.fail(now);
        assert_eq!(pause.until(now).unwrap().since(now), FIRST);
    }
}
