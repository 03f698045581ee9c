//! The time of a hub: one that only goes forward, and only while the hub is there.

use std::time::Duration;

use kontrol_core::time::Timestamp;

/// Tells a hub's time. That of an empty log starts with the wall clock; every other one goes on where its log ends, with the time that
/// passes while the hub runs and nothing else. So the wall clock, set or wrong, neither ends nor prolongs leases, delays, dedup windows and
/// retention; and since a time that was behind cannot be told from one in which no hub was there, neither lets what nobody could read or
/// send again grow old: a publish that a crash left without an answer is known after it, however late and however often the hub starts.
///
/// Two clocks of one log never differ, so nothing has to be put right at a start: the times of records of all runs can be compared as they are.
/// What is lost is the time that a hub was idle before a crash; one that is closed notes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    start: Timestamp,
}

impl Clock {
    /// The time of a hub that starts at `wall` with a log whose last record is of `last`; zero: it has none.
    pub fn new(wall: Timestamp, last: Timestamp) -> Self {
        Self { start: if last == Timestamp::ZERO { wall } else { last } }
    }

    /// The time when `elapsed` has passed since the start, by a clock that is never set.
    #[must_use]
    pub fn after(self, elapsed: Duration) -> Timestamp {
        self.start.plus(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_where_the_log_ends_whatever_the_wall_clock_says() {
        let at = |seconds: u64| Timestamp::from_micros(seconds * 1_000_000);
        for (wall, last, start) in [(100, 50, 50), (50, 100, 100), (100, 0, 100), (0, 0, 0)] {
            let clock = Clock::new(at(wall), at(last));
            assert_eq!(clock.after(Duration::ZERO), at(start));
            assert_eq!(clock.after(Duration::from_secs(7)), at(start + 7));
        }
    }
}
