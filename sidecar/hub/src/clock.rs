//! The time of a hub: one that only goes forward, and as fast as time does.

use std::time::Duration;

use kontrol_core::time::Timestamp;

/// Tells a hub's time. It starts with the wall clock, or where the log ends if that is later, and goes on with the monotonic clock alone: a wall
/// clock that is set while the hub runs neither ends nor prolongs leases, delays, dedup windows and retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    start: Timestamp,
}

impl Clock {
    /// The time of a hub that starts at `wall` with a log whose last record is of `last`.
    pub fn new(wall: Timestamp, last: Timestamp) -> Self {
        Self { start: wall.max(last) }
    }

    /// The time when `elapsed` has passed since the start, by the monotonic clock.
    #[must_use]
    pub fn after(self, elapsed: Duration) -> Timestamp {
        self.start.plus(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_no_earlier_than_the_log_ends_and_goes_on_as_time_does() {
        let at = |seconds: u64| Timestamp::from_micros(seconds * 1_000_000);
        for (wall, last, start) in [(100, 50, 100), (50, 100, 100), (0, 0, 0)] {
            let clock = Clock::new(at(wall), at(last));
            assert_eq!(clock.after(Duration::ZERO), at(start));
            assert_eq!(clock.after(Duration::from_secs(7)), at(start + 7));
        }
    }
}
