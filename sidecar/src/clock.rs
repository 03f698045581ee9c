//! The one place where the sidecar reads clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kontrol_core::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Now, on the clock that deadlines and the pure rules use; it stands still where a test has paused it.
pub fn now() -> Instant {
    Instant::now()
}

/// Microseconds since the Unix epoch, by the wall clock.
#[allow(clippy::disallowed_methods, reason = "this is the crate's clock module")]
pub fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Since the machine was started, by the clock that nobody sets and that also counts while the machine is suspended, as [`now`] does not.
pub fn since_boot() -> Duration {
    // Never below zero.
    clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
}

/// Somewhere between two lengths of time, drawn anew each time, so that many that failed together do not come back together.
pub fn jitter(least: Duration, most: Duration) -> Duration {
    let drawn = u32::try_from(uuid::Uuid::new_v4().as_u128() & 0xffff_ffff).unwrap_or(u32::MAX);
    least + most.saturating_sub(least).mul_f64(f64::from(drawn) / f64::from(u32::MAX))
}

/// Turns points of the monotonic clock into what the rules of `kontrol-core` compare and subtract.
#[derive(Clone, Copy, Debug)]
pub struct Origin(Instant);

impl Origin {
    /// The fixed point: a day before now, so that windows that look back never meet the beginning of time.
    pub fn new() -> Self {
        let now = now();
        Self(now.checked_sub(Duration::from_hours(24)).unwrap_or(now))
    }

    /// Now.
    pub fn now(self) -> Timestamp {
        Timestamp::from_micros(u64::try_from(now().duration_since(self.0).as_micros()).unwrap_or(u64::MAX))
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::new()
    }
}
