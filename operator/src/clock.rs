//! The operator's only clock. Everything else takes time as an argument.

use std::time::{Duration, Instant, SystemTime};

use kontrol_core::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Now, by the wall clock, for decisions and what is written of them.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Now, since the machine was started: a time that never goes back, whatever is done to the wall clock, and that also passes while the
/// machine sleeps, as that of [`instant`] does not: others do not wait for who wakes up.
pub fn steady() -> Timestamp {
    // Never below zero.
    let passed: Duration = clock_gettime(ClockId::Boottime).try_into().unwrap_or_default();
    Timestamp::ZERO.plus(passed)
}

/// Now, for deadlines within this process.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn instant() -> Instant {
    Instant::now()
}

/// A point of the wall clock as the system's type, for certificates.
pub(crate) fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(at.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_counts_since_the_machine_was_started() {
        let up = || Timestamp::ZERO.plus(clock_gettime(ClockId::Boottime).try_into().unwrap());
        let (before, now, after) = (up(), steady(), up());
        assert!(before <= now && now <= after, "{before:?} {now:?} {after:?}");
    }
}
